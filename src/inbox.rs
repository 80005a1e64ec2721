//! Accepts messages: checks them, finds where they belong and stores each once, durably before the answer. Reads them back.

use crate::error::Error;
use crate::message::{self, FILL_SLACK, Limits};
use crate::pb;
use crate::pb::body::Kind;
use crate::pb::store::Submission;
use crate::sessions;
use crate::store::{AppendError, Position, Store, Stored};
use crate::violation::{Reason, Violations};
use crate::wire;
use prost::Message as _;
use prost_types::Timestamp;
use sha2::{Digest as _, Sha256};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// What becomes of a message whose id is taken by other content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reuse {
    /// It is a new message under a fresh id. Real clients send one id with every message.
    Renew,
    /// It is refused.
    Reject,
}

/// A message that is accepted.
#[derive(Debug, Clone)]
pub struct Accepted {
    /// The message as stored, with all that the gateway filled in.
    pub stored: Stored,
    /// True if it had been accepted before.
    pub duplicate: bool,
}

/// Most bytes of the messages on one page of history, as protobuf: gRPC clients take 4 MiB at once unless they are told otherwise.
/// One message is given even if it is larger.
const HISTORY_PAGE_BYTES: usize = 2 * 1024 * 1024;

/// One page of a conversation's history.
#[derive(Debug, Clone)]
pub struct HistoryPage {
    /// The messages, newest first.
    pub messages: Vec<Stored>,
    /// The message after which the next page goes on; none on the last page.
    pub next: Option<Position>,
}

/// Takes messages in. Cheap to clone; every clone shares one store.
#[derive(Debug, Clone)]
pub struct Inbox {
    store: Arc<dyn Store>,
    limits: Limits,
    repeat_window: Duration,
}

impl Inbox {
    /// An inbox before `store`. A message without a timestamp counts as a repeat of an equal one for `repeat_window`.
    pub fn new(store: Arc<dyn Store>, limits: Limits, repeat_window: Duration) -> Self {
        Self { store, limits, repeat_window }
    }

    /// The bounds of a message.
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The store behind the inbox.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Accepts a message, durably. `unreadable` is what could not be read of it; anything there refuses it, together with every
    /// rule that the rest breaks.
    ///
    /// A repeat (same id, same content as the client sent it) returns what was accepted first. The same id with other content is
    /// decided by `reuse`. Nothing is stored when this fails, except after [`Error::Store`], when it is unknown: repeat.
    pub async fn accept(&self, mut message: pb::CimMessage, unreadable: Violations, reuse: Reuse) -> Result<Accepted, Error> {
        let mut violations = unreadable;
        violations.follow_up(message::check(&mut message, &self.limits));
        if !violations.is_empty() {
            return Err(Error::InvalidMessage { violations });
        }
        let sent_id = message.id.take();
        let mut submission = Submission { fingerprint: fingerprint(&message), ..Submission::default() };
        let received_at = to_the_millisecond(SystemTime::now());
        fill_times(&mut message, &mut submission, received_at);
        // Typing is not looked up by id later: there is nothing to claim.
        let claim = match &sent_id {
            Some(id) if !message::is_typing(&message) => Some(self.store.claim(id).await?),
            _ => None,
        };
        let earlier = claim.as_ref().map_or(&[][..], |claim| &claim.earlier);
        if let Some(first) = self.repeated(earlier, &submission, received_at) {
            return Ok(Accepted { stored: first.clone(), duplicate: true });
        }
        message.id = Some(match (&sent_id, earlier, reuse) {
            (None, ..) | (Some(_), [_, ..], Reuse::Renew) => message::fresh_id(),
            (Some(id), [], _) => id.clone(),
            (Some(id), [_, ..], Reuse::Reject) => return Err(Error::ReusedId { id: id.clone() }),
        });
        submission.id = sent_id.unwrap_or_default();

        let own_id = message.id.clone();
        let most = self.limits.message_bytes + FILL_SLACK;
        let stage = Box::new(move |facts: &dyn crate::store::Facts| {
            let frame = sessions::route(facts, message, submission, received_at)?;
            let filled = frame.iter().filter_map(|entry| entry.message.as_ref()).map(pb::CimMessage::encoded_len);
            match filled.max() {
                Some(bytes) if bytes > most => Err(outgrown(bytes, most)),
                _ => Ok(frame),
            }
        });
        let frame = self.store.append(claim, stage).await.map_err(|error| match error {
            AppendError::Refused(violations) => Error::InvalidMessage { violations },
            AppendError::Store(error) => Error::Store(error),
        })?;
        let own = frame.into_iter().find(|stored| Some(stored.id()) == own_id.as_deref());
        let stored = own.ok_or_else(|| crate::store::Error::Unavailable { cause: "the frame lacks its message".into() })?;
        Ok(Accepted { stored, duplicate: false })
    }

    /// The entry that a message repeats.
    fn repeated<'e>(&self, earlier: &'e [Stored], submission: &Submission, received_at: Timestamp) -> Option<&'e Stored> {
        earlier.iter().rev().find(|stored| {
            let same = stored.entry.submission.as_ref().is_some_and(|first| first.fingerprint == submission.fingerprint);
            let age = wire::to_millis(&received_at).saturating_sub(stored.entry.accepted_at.as_ref().map_or(0, wire::to_millis));
            // Equal texts without a time may well be two messages, once some time has passed between them.
            same && (!submission.timestamp_filled || u128::try_from(age).unwrap_or(0) <= self.repeat_window.as_millis())
        })
    }

    /// The message that has this id now.
    pub async fn message(&self, id: &str) -> Result<Stored, Error> {
        let found = self.store.message(id).await?;
        found.ok_or_else(|| Error::MessageNotFound { id: id.to_owned() })
    }

    /// A page of at most `size` messages of a conversation, newest first, from the message after `after` on. Of large messages it
    /// holds fewer.
    pub async fn history(&self, conversation: &str, after: Option<Position>, size: usize) -> Result<HistoryPage, Error> {
        let found = self.store.history(conversation, after, size + 1).await?;
        let mut messages = found.ok_or_else(|| Error::ConversationNotFound { id: conversation.to_owned() })?;
        let found = messages.len();
        messages.truncate(size.min(fitting(&messages)));
        let more = messages.len() < found;
        let next = messages.last().filter(|_| more).map(|stored| stored.position);
        Ok(HistoryPage { messages, next })
    }
}

/// How many messages fit on one page of history.
fn fitting(messages: &[Stored]) -> usize {
    let mut bytes = 0;
    let fit = messages.iter().take_while(|stored| {
        bytes += stored.entry.message.as_ref().map_or(0, pb::CimMessage::encoded_len);
        bytes <= HISTORY_PAGE_BYTES
    });
    fit.count().max(1)
}

/// Number of the algorithm: SHA-256 of the canonical JSON without the id, its first 16 bytes.
const FINGERPRINT: u8 = 1;

/// Tells contents apart: the whole normalised message as the client sent it, without its id.
fn fingerprint(content: &pb::CimMessage) -> Vec<u8> {
    let digest = Sha256::digest(wire::encode(content));
    let mut fingerprint = vec![FINGERPRINT];
    fingerprint.extend_from_slice(&digest[..16]);
    fingerprint
}

/// The time as the documented JSON can say it.
fn to_the_millisecond(time: SystemTime) -> Timestamp {
    wire::from_millis(wire::to_millis(&Timestamp::from(time)))
}

/// Times that the client left out are the time of receipt.
fn fill_times(message: &mut pb::CimMessage, submission: &mut Submission, received_at: Timestamp) {
    let header = message.header.get_or_insert_default();
    submission.timestamp_filled = header.timestamp.is_none();
    header.timestamp.get_or_insert(received_at);
    if let Some(pb::Body { kind: Some(Kind::DeletedNotification(deleted)), .. }) = &mut message.body {
        submission.deletion_time_filled = deleted.timestamp.is_none();
        deleted.timestamp.get_or_insert(received_at);
    }
}

fn outgrown(bytes: usize, most: usize) -> Violations {
    let mut violations = Violations::default();
    let message = format!("the message with all that is known of its customer needs at most {most} bytes, found {bytes}");
    violations.add("header.customer", Reason::TooLarge, message);
    violations
}
