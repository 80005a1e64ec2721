//! The feed's promises, each with the tests that try to break it.

mod cold;
mod filters;
mod live;
mod promises;
mod races;

use super::*;
use crate::pb::body::Kind;
use crate::pb::store::{Entry, Session};
use crate::pb::{self, Audience, SenderType};
use crate::store::memory::Memory;
use futures::FutureExt as _;
use tokio::task::JoinHandle;

const SETTINGS: Settings =
    Settings { heartbeat: Duration::from_secs(15), heartbeat_skipped: 10_000, max_streams: 3, cold_scans: 2 };

/// A feed, the log that it reads, and the matcher at work.
struct Gateway {
    store: Memory,
    feed: Feed,
    shutdown: CancellationToken,
    matcher: JoinHandle<()>,
}

fn gateway() -> Gateway {
    with(SETTINGS, Memory::new(64 << 20))
}

fn with(settings: Settings, store: Memory) -> Gateway {
    through(settings, store.clone(), Arc::new(store))
}

/// A feed that reads `store` through `reads`.
fn through(settings: Settings, store: Memory, reads: Arc<dyn Store>) -> Gateway {
    let shutdown = CancellationToken::new();
    let (feed, matcher) = Feed::new(reads, settings, shutdown.clone());
    Gateway { store, feed, shutdown, matcher: tokio::spawn(matcher.run()) }
}

impl Gateway {
    async fn append(&self, entry: Entry) -> Position {
        let stored = self.store.append(None, Box::new(|_| Ok(vec![entry]))).await.expect("can be appended");
        stored[0].position
    }

    async fn append_many(&self, count: u64) {
        for _ in 0..count {
            self.append(says("a")).await;
        }
    }

    /// All that is kept, from the first entry on.
    async fn log(&self) -> Vec<Stored> {
        let all = Page { entries: usize::MAX, bytes: usize::MAX };
        let mut log: Vec<Stored> = Vec::new();
        loop {
            let after = log.last().map_or(Position(0), |stored| stored.position);
            let mut more = self.store.read(after, all).await.expect("all is kept");
            if more.is_empty() {
                return log;
            }
            log.append(&mut more);
        }
    }

    /// Returns when the matcher is at the end.
    async fn matched(&self) {
        while self.feed.roster.matched() < self.store.span().end {
            tokio::task::yield_now().await;
        }
    }

    async fn subscribe(&self, start: Start) -> Subscription {
        self.listen(Filter::default(), start).await
    }

    async fn listen(&self, filter: Filter, start: Start) -> Subscription {
        self.feed.subscribe(filter, start, None).await.expect("there is room")
    }

    /// A subscription that is live.
    async fn live(&self, filter: Filter) -> Subscription {
        let mut reader = self.listen(filter, Start::Latest).await;
        reader.heartbeat().await;
        assert!(reader.next().now_or_never().is_none());
        reader
    }

    fn cursor(&self, position: u64) -> Cursor {
        self.store.span().cursor(Position(position))
    }
}

impl Subscription {
    async fn heartbeat(&mut self) -> u64 {
        match self.next().await.expect("goes on") {
            Event::Heartbeat(cursor) => cursor.position.0,
            Event::Notification(stored, _) => panic!("a heartbeat, found {}", stored.position),
        }
    }

    async fn notification(&mut self) -> (u64, Cursor) {
        match self.next().await.expect("goes on") {
            Event::Notification(stored, cursor) => (stored.position.0, cursor),
            Event::Heartbeat(cursor) => panic!("a notification, found a heartbeat at {}", cursor.position),
        }
    }

    /// Positions of the notifications up to the next heartbeat, and the heartbeat's.
    async fn until_heartbeat(&mut self) -> (Vec<u64>, u64) {
        let mut seen = Vec::new();
        loop {
            match self.next().await.expect("goes on") {
                Event::Notification(stored, _) => seen.push(stored.position.0),
                Event::Heartbeat(cursor) => return (seen, cursor.position.0),
            }
        }
    }
}

fn says(text: &str) -> Entry {
    let kind = Some(Kind::Plain(pb::PlainBody {}));
    let body = pb::Body { markdown_text: Some(text.to_owned()), kind, ..pb::Body::default() };
    let message = pb::CimMessage { body: Some(body), ..pb::CimMessage::default() };
    Entry { message: Some(message.into()), ..Entry::default() }
}

/// An entry of a channel, and a filter that wants that channel.
fn on(channel: &str) -> (Entry, Filter) {
    let channel_data = pb::ChannelData { service_identifier: Some(channel.to_owned()), ..pb::ChannelData::default() };
    let mut entry = says("a");
    let header = pb::Header { channel_data: Some(channel_data), ..pb::Header::default() };
    entry.message.as_mut().expect("it has one").header = Some(header);
    (entry, Filter { service_identifiers: [channel.to_owned()].into(), ..Filter::default() })
}

/// What filters look at, each as a small number; 0 for none.
type Traits = [u8; 6];

const KINDS: [fn() -> Option<Kind>; 4] = [
    || None,
    || Some(Kind::Plain(pb::PlainBody {})),
    || Some(Kind::StructuredMessage(pb::StructuredMessageBody::default())),
    || Some(Kind::Generic(pb::GenericBody { r#type: "plain".into() })),
];
const TYPES: [&str; 4] = ["", "PLAIN", "StructuredMessage", "plain"];
const SENDERS: [SenderType; 4] = [SenderType::Unspecified, SenderType::Agent, SenderType::Bot, SenderType::Other];

fn entry([service, conversation, session, kind, sender, audiences]: Traits) -> Entry {
    let text = |number: u8| (number > 0).then(|| number.to_string());
    let sender = pb::Sender { r#type: SENDERS[usize::from(sender)].into(), ..pb::Sender::default() };
    let header = pb::Header {
        sender: Some(sender),
        channel_data: Some(pb::ChannelData { service_identifier: text(service), ..pb::ChannelData::default() }),
        conversation_id: text(conversation),
        channel_session_id: text(session),
        ..pb::Header::default()
    };
    let body = pb::Body { kind: KINDS[usize::from(kind)](), ..pb::Body::default() };
    let message = pb::CimMessage { header: Some(header), body: Some(body), ..pb::CimMessage::default() };
    // As a set of bits: customer, platform.
    let of = |bit: u8, audience: Audience| (audiences & bit != 0).then(|| audience.into());
    let audiences = [of(1, Audience::Customer), of(2, Audience::Platform)].into_iter().flatten().collect();
    Entry { message: Some(message.into()), audiences, session: Some(Session::default()), ..Entry::default() }
}

/// A filter that wants these numbers.
fn filter(wanted: &[Vec<u8>; 6]) -> Filter {
    let texts = |wanted: &[u8]| wanted.iter().map(u8::to_string).collect();
    let [services, conversations, sessions, kinds, senders, audiences] = wanted;
    Filter {
        service_identifiers: texts(services),
        conversation_ids: texts(conversations),
        channel_session_ids: texts(sessions),
        body_types: kinds.iter().map(|kind| TYPES[usize::from(*kind)].to_owned()).collect(),
        sender_types: senders.iter().map(|sender| SENDERS[usize::from(*sender)]).collect(),
        audiences: audiences.iter().map(|bit| if *bit == 1 { Audience::Customer } else { Audience::Platform }).collect(),
        ..Filter::default()
    }
}
