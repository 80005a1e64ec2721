//! The load on a gateway, and one life of it after another.

use crate::expected::{Book, Receipt, check, everything};
use crate::gateway::Gateway;
use crate::readers::Reader;
use crate::support::client::Client;
use crate::support::messages::{Differs as _, hello};
use crate::support::soon;
use crate::writers::{By, CHANNELS, Writer, by_writer};
use cim_gateway::pb::AcceptedMessage;
use futures::future::join_all;
use std::collections::HashMap;
use tokio::task::JoinHandle;
use tonic::{Code, Status};

/// Clients that send and clients that follow, which go on from life to life.
#[derive(Debug)]
pub struct Load {
    seed: u64,
    pub book: Book,
    pub writers: Vec<Writer>,
    readers: Vec<Reader>,
    checks: usize,
}

/// How many clients share a connection.
const PER_CONNECTION: usize = 8;

impl Load {
    /// So many clients that send; a quarter of them by streams.
    pub fn new(writers: usize, seed: u64) -> Self {
        let book = Book::default();
        let by = |number: usize| if number % 4 == 3 { By::Stream } else { By::Calls };
        let writers = (0..writers).map(|number| Writer::new(number, by(number), seed, &book)).collect();
        let wanted = [None, None, Some(CHANNELS[0]), Some(CHANNELS[1])];
        let readers = wanted.iter().enumerate().map(|(number, wanted)| Reader::new(number, *wanted, seed, &book)).collect();
        Self { seed, book, writers, readers, checks: 0 }
    }

    /// Lets all of them work until `attack` is over; then, or soon after, the gateway must be gone for each of them, or refuse.
    /// Returns why the writers ended.
    pub async fn live(&mut self, gateway: Gateway, attack: impl AsyncFnOnce(Gateway)) -> Vec<Status> {
        let clients = join_all((0..=self.writers.len() / PER_CONNECTION).map(|_| gateway.client())).await;
        let client = |number: usize| clients[number % clients.len()].clone();
        let writing: Vec<JoinHandle<_>> = (self.writers.drain(..).enumerate())
            .map(|(number, mut writer)| {
                let client = client(number);
                tokio::spawn(async move {
                    let why = writer.write(client).await;
                    (writer, why)
                })
            })
            .collect();
        let reading: Vec<JoinHandle<_>> = (self.readers.drain(..).enumerate())
            .map(|(number, mut reader)| {
                let client = client(number);
                tokio::spawn(async move {
                    let _why = reader.read(&client).await;
                    reader
                })
            })
            .collect();
        attack(gateway).await;
        let why;
        (self.writers, why) = soon("the writers to end", join_all(writing)).await.into_iter().map(joined).unzip();
        self.readers = soon("the readers to end", join_all(reading)).await.into_iter().map(joined).collect();
        why
    }

    /// All that was acknowledged.
    pub fn receipts(&self) -> Vec<(String, Receipt)> {
        self.writers.iter().flat_map(Writer::receipts).collect()
    }

    /// Checks all that is stored against all that was ever told.
    pub async fn check(&mut self, gateway: &Gateway) {
        let client = gateway.client().await;
        self.checks += 1;
        let last = format!("check-{}-{:x}", self.checks, self.seed);
        let end = client.send(hello(&last).with_id(&last)).await;
        let end = crate::expected::position(&end.cursor);
        let stored = everything(&client, &last).await;
        check(&stored, &self.book, &self.receipts());
        let by_writer = by_writer(&stored);
        for writer in &self.writers {
            writer.check(by_writer.get(writer.name()).map_or(&[], Vec::as_slice));
        }
        check_sessions(&stored);
        for reader in &mut self.readers {
            reader.check(&client, &stored, end).await;
        }
        check_look_ups(&client, &stored).await;
    }
}

fn joined<T>(ended: Result<T, tokio::task::JoinError>) -> T {
    ended.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

fn header(message: &AcceptedMessage) -> (&str, &str) {
    let header = message.message.as_ref().and_then(|message| message.header.as_ref()).expect("a message has a header");
    (header.channel_session_id.as_deref().unwrap_or_default(), header.conversation_id.as_deref().unwrap_or_default())
}

/// Checks that frames are whole: the message that opens a session stands right after the word that it began.
fn check_sessions(stored: &[AcceptedMessage]) {
    let mut begun = HashMap::new();
    for (at, message) in stored.iter().enumerate() {
        let (session, _) = header(message);
        if crate::support::messages::said(message) == "CHANNEL_SESSION_STARTED" {
            assert!(begun.insert(session, at).is_none(), "session {session} began twice");
            assert_eq!(stored.get(at + 1).map(|next| header(next).0), Some(session), "the message that opened it follows");
        } else {
            assert!(begun.contains_key(session), "session {session} began before its first message");
        }
    }
}

/// Checks that messages can be found by their ids, and by their conversations: some of them, the newest among them.
async fn check_look_ups(client: &Client, stored: &[AcceptedMessage]) {
    let step = (stored.len() / 200).max(1);
    for message in stored.iter().rev().take(200).chain(stored.iter().step_by(step)) {
        let found = client.message(crate::expected::id_of(message)).await.expect("what is stored is found");
        assert_eq!(found, *message);
    }
    let mut conversations: HashMap<_, Vec<_>> = HashMap::new();
    for message in stored {
        conversations.entry(header(message).1).or_default().push(message);
    }
    for (conversation, mut expected) in conversations.into_iter().take(20) {
        expected.reverse();
        let mut history = Vec::new();
        let mut token = String::new();
        loop {
            let page = client.page(conversation, 100, &token).await;
            history.extend(page.messages);
            token = page.next_page_token;
            if token.is_empty() {
                break;
            }
        }
        assert!(history.iter().eq(expected), "the history of {conversation}");
    }
    let nothing = client.message("never-sent").await.expect_err("is not there");
    assert_eq!(nothing.code(), Code::NotFound);
}
