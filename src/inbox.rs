//! Accepts messages: checks them, finds where they belong and stores each once, durably before the answer. Reads them back.

#[cfg(test)]
mod tests;

use crate::auth::Caller;
use crate::channels::Channels;
use crate::error::Error;
use crate::message::{self, FILL_SLACK, Limits};
use crate::metrics;
use crate::outcomes::{Outcome, Patience, Waiters};
use crate::pb;
use crate::pb::body::Kind;
use crate::pb::store::Submission;
use crate::planning;
use crate::receipts;
use crate::sessions;
use crate::store::{self, AppendError, Position, Staged, Store, Stored};
use crate::timeline::{self, Timeline, timeline};
use crate::violation::{Reason, Violations};
use crate::wire;
use prost::Message as _;
use prost_types::Timestamp;
use sha2::{Digest as _, Sha256};
use std::sync::Arc;
use std::time::{Duration, Instant};

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

/// A message that has its place in the order of acceptance, and is accepted once it is durable.
#[derive(Debug)]
pub struct Pending(Fate);

#[derive(Debug)]
enum Fate {
    /// It repeats this one.
    Repeat(Stored),
    /// It is the one of this id in a frame of its own.
    New { frame: Staged, id: String, inbox: Inbox, received: Instant },
}

impl Pending {
    /// The message as accepted, once it is durable.
    pub async fn durable(self) -> Result<Accepted, Error> {
        match self.0 {
            Fate::Repeat(stored) => Ok(Accepted { stored, duplicate: true }),
            Fate::New { frame, id, inbox, received } => {
                let frame = frame.durable().await.map_err(Error::from);
                let frame = frame.inspect_err(|error| inbox.refused(error.reason_name()))?;
                let own = frame.into_iter().find(|stored| stored.id() == id);
                let stored = own.ok_or_else(|| store::Error::Unavailable { cause: "the frame lacks its message".into() })?;
                inbox.metrics.accepted(received.elapsed());
                inbox.tell_waiting(&stored).await;
                Ok(Accepted { stored, duplicate: false })
            }
        }
    }
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
    channels: Channels,
    /// None where nothing is delivered.
    waiters: Option<Waiters>,
    limits: Limits,
    repeat_window: Duration,
    metrics: Arc<metrics::Inbox>,
    caller: Caller,
}

impl Inbox {
    /// An inbox before `store`, for messages of these channels, of which nothing is delivered. A message without a timestamp counts as a
    /// repeat of an equal one for `repeat_window`.
    pub fn new(store: Arc<dyn Store>, channels: Channels, limits: Limits, repeat_window: Duration) -> Self {
        let caller = Caller::anybody();
        Self { store, channels, waiters: None, limits, repeat_window, metrics: Arc::default(), caller }
    }

    /// The same, with deliveries planned for every message. Who waits for an outcome waits among `waiters`.
    pub fn delivering(self, waiters: Waiters) -> Self {
        Self { waiters: Some(waiters), ..self }
    }

    /// The same, counting by `metrics`.
    pub fn counting(self, metrics: Arc<metrics::Inbox>) -> Self {
        Self { metrics, ..self }
    }

    /// The same for messages of a caller: what it may not know of is unknown to them.
    pub fn of(&self, caller: &Caller) -> Self {
        Self { caller: caller.clone(), ..self.clone() }
    }

    /// The bounds of a message.
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The registry of channels.
    pub fn channels(&self) -> &Channels {
        &self.channels
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
    pub async fn accept(&self, message: pb::CimMessage, unreadable: Violations, reuse: Reuse) -> Result<Accepted, Error> {
        self.stage(message, unreadable, reuse).await?.durable().await
    }

    /// The first half of [`Self::accept`]: decides what becomes of the message and gives it its place. Whoever stages the next one
    /// after that has them accepted in this order, and both may become durable at once.
    ///
    /// It waits while a message under the same id is on its way to becoming durable.
    pub async fn stage(&self, message: pb::CimMessage, unreadable: Violations, reuse: Reuse) -> Result<Pending, Error> {
        let fate = self.decide(message, unreadable, reuse).await;
        let fate = fate.inspect_err(|error| self.refused(error.reason_name()))?;
        if matches!(fate, Fate::Repeat(_)) {
            self.metrics.repeated();
        }
        Ok(Pending(fate))
    }

    /// Counts a message that is refused. Whoever refuses one that has not come here yet calls it.
    pub fn refused(&self, reason: &'static str) {
        self.metrics.refused(reason);
    }

    async fn decide(&self, mut message: pb::CimMessage, unreadable: Violations, reuse: Reuse) -> Result<Fate, Error> {
        let received = Instant::now();
        let mut violations = unreadable;
        violations.follow_up(message::check(&mut message, &self.limits));
        if !violations.is_empty() {
            return Err(Error::InvalidMessage { violations });
        }
        let sent_id = message.id.take();
        let content = wire::encode(&message);
        let most = self.limits.message_bytes.saturating_mul(WRITTEN);
        if content.len() > most {
            return Err(Error::InvalidMessage { violations: too_long_as_written(content.len(), most) });
        }
        let mut submission = Submission { fingerprint: fingerprint_of(&content), ..Submission::default() };
        // To the millisecond, as every time of a message.
        let received_at = wire::now();
        fill_times(&mut message, &mut submission, received_at);
        // Typing is not looked up by id later: there is nothing to claim.
        let claim = match &sent_id {
            Some(id) if !message::is_typing(&message) => Some(self.store.claim(id, &submission.fingerprint).await?),
            _ => None,
        };
        if let Some(first) = claim.as_ref().and_then(|claim| claim.same_content.as_ref())
            && self.is_repeat(first, &submission, received_at)
        {
            return Ok(Fate::Repeat(first.clone()));
        }
        let taken = claim.as_ref().is_some_and(|claim| claim.taken);
        let id = match (&sent_id, taken, reuse) {
            (None, ..) | (Some(_), true, Reuse::Renew) => message::fresh_id(),
            (Some(id), false, _) => id.clone(),
            (Some(id), true, Reuse::Reject) => return Err(Error::ReusedId { id: id.clone() }),
        };
        message.id = Some(id.clone());
        submission.id = sent_id.unwrap_or_default();

        let most = self.limits.message_bytes + FILL_SLACK;
        let (channels, caller, delivers) = (&self.channels, &self.caller, self.waiters.is_some());
        let stage = Box::new(move |facts: &dyn store::Facts| {
            // As they are when the stage runs: a change that was answered counts for what is staged after it.
            let channels = channels.snapshot();
            let mut frame = sessions::route(&caller.facts(facts), &channels, message, submission, received_at)?;
            if delivers {
                planning::plan_all(&mut frame, &channels);
            }
            let filled = frame.iter().filter_map(|entry| entry.message.as_deref()).map(pb::CimMessage::encoded_len);
            match filled.max() {
                Some(bytes) if bytes > most => Err(outgrown(bytes, most)),
                _ => Ok(frame),
            }
        });
        let frame = self.store.stage(claim, stage).await.map_err(|error| match error {
            AppendError::Refused(violations) => Error::InvalidMessage { violations },
            AppendError::Store(error) => Error::Store(error),
        })?;
        Ok(Fate::New { frame, id, inbox: self.clone(), received })
    }

    /// What became of a message: at once if it is a repeat of one of which that is known, else if it becomes known in time.
    pub async fn outcome(&self, accepted: &Accepted, patience: Patience) -> Result<Option<Outcome>, Error> {
        if accepted.duplicate
            && let Some(outcome) = self.timeline(&accepted.stored).await?.outcome
        {
            return Ok(Some(outcome));
        }
        Ok(match &self.waiters {
            Some(waiters) => waiters.outcome(&accepted.stored, patience).await,
            None => None,
        })
    }

    /// What became of a message.
    pub async fn timeline(&self, stored: &Stored) -> Result<Timeline, Error> {
        Ok(timeline(&*self.store, stored).await?)
    }

    /// Tells whoever waits for it what a delivery notification says.
    async fn tell_waiting(&self, receipt: &Stored) {
        let Some(waiters) = self.waiters.as_ref().filter(|waiters| waiters.are_there()) else { return };
        let Some(outcome) = receipt.entry.message.as_deref().and_then(Outcome::of) else { return };
        match timeline::message_of_receipt(&*self.store, receipt).await {
            Ok(Some(about)) if receipts::may_report(&receipt.entry, &about) => waiters.known(about.position, outcome),
            Ok(_) => {}
            Err(error) => {
                tracing::debug!(error = &error as &dyn std::error::Error, "whoever waits for an outcome is not told at once");
            }
        }
    }

    /// True if a message of the same id and content as `first` repeats it. Equal texts without a time may well be two messages, once
    /// some time has passed between them.
    fn is_repeat(&self, first: &Stored, submission: &Submission, received_at: Timestamp) -> bool {
        let age = wire::to_millis(&received_at).saturating_sub(first.entry.accepted_at.as_ref().map_or(0, wire::to_millis));
        !submission.timestamp_filled || u128::try_from(age).unwrap_or(0) <= self.repeat_window.as_millis()
    }

    /// The message that has this id now.
    pub async fn message(&self, id: &str) -> Result<Stored, Error> {
        let found = self.store.message(id).await?;
        found.ok_or_else(|| Error::MessageNotFound { id: id.to_owned() })
    }

    /// The same, if the caller may know of it; for any other there is none.
    pub async fn seen(&self, caller: &Caller, id: &str) -> Result<Stored, Error> {
        let stored = self.message(id).await?;
        let service_identifier = stored.entry.message.as_deref().and_then(message::service_identifier).unwrap_or_default();
        let unseen = || Error::MessageNotFound { id: id.to_owned() };
        caller.must_see(service_identifier, unseen)?;
        if caller.stands_outside() && store::is_internal(&stored.entry) { Err(unseen()) } else { Ok(stored) }
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
        bytes += stored.entry.message.as_deref().map_or(0, pb::CimMessage::encoded_len);
        bytes <= HISTORY_PAGE_BYTES
    });
    fit.count().max(1)
}

/// Number of the algorithm: SHA-256 of the canonical JSON without the id, its first 16 bytes.
const FINGERPRINT: u8 = 1;

/// Tells contents apart: the whole normalised message as the client sent it, without its id.
pub(crate) fn fingerprint(content: &pb::CimMessage) -> Vec<u8> {
    fingerprint_of(&wire::encode(content))
}

/// The same of the message as it is written.
fn fingerprint_of(content: &[u8]) -> Vec<u8> {
    let digest = Sha256::digest(content);
    let mut fingerprint = vec![FINGERPRINT];
    fingerprint.extend_from_slice(&digest[..16]);
    fingerprint
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

/// Most times the bytes of a message that it may have as it is written: a number of five characters may be one of 309 digits, and every
/// webhook and every reader gets them.
const WRITTEN: usize = 8;

fn too_long_as_written(bytes: usize, most: usize) -> Violations {
    let mut violations = Violations::default();
    violations.add(
        "",
        Reason::TooLarge,
        format!("needs at most {most} bytes as JSON with every digit of its numbers, found {bytes}"),
    );
    violations
}

fn outgrown(bytes: usize, most: usize) -> Violations {
    let mut violations = Violations::default();
    let message = format!("the message with all that is known of its customer needs at most {most} bytes, found {bytes}");
    violations.add("header.customer", Reason::TooLarge, message);
    violations
}
