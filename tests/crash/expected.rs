//! What has to be true of the store, by what clients were told. Every check happens as soon as anybody hears something.

use crate::support::client::Client;
use crate::support::messages::earliest;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use cim_gateway::pb::{AcceptedMessage, SendMessageResponse};
use parking_lot::Mutex;
use prost_types::Timestamp;
use std::collections::HashMap;
use std::sync::Arc;

/// The position in a cursor. Clients must not look into cursors; whoever looks for gaps has to.
pub fn position(cursor: &str) -> u64 {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(cursor).expect("a cursor is base64");
    u64::from_be_bytes(bytes[9..].try_into().expect("a cursor has 17 bytes"))
}

/// The id of a message that was heard.
pub fn id_of(heard: &AcceptedMessage) -> &str {
    heard.message.as_ref().and_then(|message| message.id.as_deref()).expect("a message has an id")
}

/// What was acknowledged of a message: the same for every repeat of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Receipt {
    pub position: u64,
    conversation: String,
    session: String,
    accepted_at: Option<Timestamp>,
}

impl Receipt {
    pub fn of(response: &SendMessageResponse) -> Self {
        Self {
            position: position(&response.cursor),
            conversation: response.conversation_id.clone(),
            session: response.channel_session_id.clone(),
            accepted_at: response.accepted_at,
        }
    }

    /// What a message that was heard would be acknowledged with.
    fn heard(heard: &AcceptedMessage) -> Self {
        let header = heard.message.as_ref().and_then(|message| message.header.clone()).unwrap_or_default();
        Self {
            position: position(&heard.cursor),
            conversation: header.conversation_id.unwrap_or_default(),
            session: header.channel_session_id.unwrap_or_default(),
            accepted_at: heard.accepted_at,
        }
    }
}

/// Which message stands where, as told by anybody: acknowledgements and readers, in all lives of the store.
#[derive(Debug, Clone, Default)]
pub struct Book(Arc<Mutex<Pages>>);

#[derive(Debug, Default)]
struct Pages {
    by_position: HashMap<u64, String>,
    by_id: HashMap<String, u64>,
}

impl Book {
    /// Notes that `id` stands at `position`. Fails if something else was seen there, or if it was seen elsewhere.
    pub fn note(&self, position: u64, id: &str) {
        let mut pages = self.0.lock();
        match (pages.by_position.get(&position), pages.by_id.get(id)) {
            (None, None) => {
                pages.by_position.insert(position, id.to_owned());
                pages.by_id.insert(id.to_owned(), position);
            }
            (Some(there), Some(at)) if there == id && *at == position => {}
            (there, at) => panic!("{id} at {position}: there stood {there:?}, and it stood at {at:?}"),
        }
    }

    /// How many messages were seen.
    pub fn len(&self) -> usize {
        self.0.lock().by_position.len()
    }
}

/// Everything that is kept, from the earliest to the message that has the id `last`.
pub async fn everything(client: &Client, last: &str) -> Vec<AcceptedMessage> {
    let mut events = client.subscribe(earliest()).await;
    let mut heard = Vec::new();
    loop {
        let message = events.message().await;
        let is_last = id_of(&message) == last;
        heard.push(message);
        if is_last {
            return heard;
        }
    }
}

/// Checks that `heard` is what `book` knows, without a gap, and that every receipt is true of it.
pub fn check(heard: &[AcceptedMessage], book: &Book, receipts: &[(String, Receipt)]) {
    for (at, message) in (1..).zip(heard) {
        assert_eq!(position(&message.cursor), at, "positions rise by one");
        book.note(at, id_of(message));
    }
    let by_id: HashMap<_, _> = heard.iter().map(|message| (id_of(message), message)).collect();
    assert_eq!(by_id.len(), heard.len(), "nothing is there twice");
    for (id, receipt) in receipts {
        let message = by_id.get(id.as_str()).unwrap_or_else(|| panic!("{id} was acknowledged, {receipt:?}, and is lost"));
        assert_eq!(*receipt, Receipt::heard(message), "{id}");
    }
}
