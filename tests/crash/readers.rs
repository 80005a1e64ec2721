//! Clients that follow, and resume after every restart with the last cursor that they have.

use crate::chance::Chance;
use crate::expected::{Book, id_of, position};
use crate::support::client::Client;
use crate::support::messages::{Wants as _, after, earliest};
use crate::writers::lost;
use cim_gateway::pb::subscribe_notifications_response::Event;
use cim_gateway::pb::{AcceptedMessage, SubscribeNotificationsRequest};
use tonic::Status;

/// A client that follows.
#[derive(Debug)]
pub struct Reader {
    /// The channel that it wants; all of them if none.
    channel: Option<&'static str>,
    /// Goes away by itself once in so many messages, and comes back.
    flighty: Option<usize>,
    chance: Chance,
    book: Book,
    cursor: Option<String>,
    last: u64,
    /// The positions of what it heard.
    heard: Vec<u64>,
}

impl Reader {
    pub fn new(number: usize, channel: Option<&'static str>, seed: u64, book: &Book) -> Self {
        let flighty = (number % 2 == 1).then_some(200);
        let chance = Chance::of(seed, 2000 + number as u64);
        Self { channel, flighty, chance, book: book.clone(), cursor: None, last: 0, heard: Vec::new() }
    }

    /// Follows until the gateway is gone.
    pub async fn read(&mut self, client: &Client) -> Status {
        loop {
            if let Err(status) = self.follow(client).await {
                return lost(status);
            }
        }
    }

    /// Follows until it has come to `end`, then checks that it heard all that was its own of what is `stored`, in its whole life.
    pub async fn check(&mut self, client: &Client, stored: &[AcceptedMessage], end: u64) {
        while self.last < end {
            let request = self.request();
            let mut events = client.subscribe(request).await;
            while self.last < end {
                self.hear(events.next().await.expect("the gateway serves"));
            }
        }
        let on = |message: &&AcceptedMessage| {
            let header = message.message.as_ref().and_then(|message| message.header.as_ref());
            let channel = header.and_then(|header| header.channel_data.as_ref()?.service_identifier.as_deref());
            self.channel.is_none_or(|wanted| channel == Some(wanted))
        };
        let theirs = stored.iter().filter(on).map(|message| position(&message.cursor));
        assert!(
            theirs.eq(self.heard.iter().copied()),
            "the reader of {:?} heard what is its own, once and in order",
            self.channel
        );
    }

    /// Follows until it goes away by itself.
    async fn follow(&mut self, client: &Client) -> Result<(), Status> {
        let mut events = client.try_subscribe(self.request()).await?;
        loop {
            self.hear(events.next().await?);
            if self.flighty.is_some_and(|times| self.chance.once_in(times)) {
                return Ok(());
            }
        }
    }

    fn request(&self) -> SubscribeNotificationsRequest {
        let mut request = self.cursor.as_deref().map_or_else(earliest, after);
        // A quiet channel tells by this how far it is.
        request.heartbeat_interval = Some(prost_types::Duration { seconds: 1, nanos: 0 });
        match self.channel {
            Some(channel) => request.on(channel),
            None => request,
        }
    }

    fn hear(&mut self, event: Event) {
        match event {
            Event::Notification(message) => {
                let position = position(&message.cursor);
                match self.channel {
                    None => assert_eq!(position, self.last + 1, "no gap and no repetition"),
                    Some(_) => assert!(position > self.last, "no repetition: {position} after {}", self.last),
                }
                self.book.note(position, id_of(&message));
                self.last = position;
                self.cursor = Some(message.cursor);
                self.heard.push(position);
            }
            Event::Heartbeat(heartbeat) => {
                let position = position(&heartbeat.cursor);
                assert!(position >= self.last && (self.channel.is_some() || position == self.last), "{position}");
                self.last = position;
                self.cursor = Some(heartbeat.cursor);
            }
        }
    }
}
