//! Accepts messages: checks them, finds where they belong and stores each once, durably before the answer. Reads them back.

use crate::channels::Channels;
use crate::error::Error;
use crate::message::{self, FILL_SLACK, Limits};
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
use std::time::Duration;

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
    New { frame: Staged, id: String, inbox: Inbox },
}

impl Pending {
    /// The message as accepted, once it is durable.
    pub async fn durable(self) -> Result<Accepted, Error> {
        match self.0 {
            Fate::Repeat(stored) => Ok(Accepted { stored, duplicate: true }),
            Fate::New { frame, id, inbox } => {
                let own = frame.durable().await?.into_iter().find(|stored| stored.id() == id);
                let stored = own.ok_or_else(|| store::Error::Unavailable { cause: "the frame lacks its message".into() })?;
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
}

impl Inbox {
    /// An inbox before `store`, for messages of these channels, of which nothing is delivered. A message without a timestamp counts as a
    /// repeat of an equal one for `repeat_window`.
    pub fn new(store: Arc<dyn Store>, channels: Channels, limits: Limits, repeat_window: Duration) -> Self {
        Self { store, channels, waiters: None, limits, repeat_window }
    }

    /// The same, with deliveries planned for every message. Who waits for an outcome waits among `waiters`.
    pub fn delivering(self, waiters: Waiters) -> Self {
        Self { waiters: Some(waiters), ..self }
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
    pub async fn stage(&self, mut message: pb::CimMessage, unreadable: Violations, reuse: Reuse) -> Result<Pending, Error> {
        let mut violations = unreadable;
        violations.follow_up(message::check(&mut message, &self.limits));
        if !violations.is_empty() {
            return Err(Error::InvalidMessage { violations });
        }
        let sent_id = message.id.take();
        let mut submission = Submission { fingerprint: fingerprint(&message), ..Submission::default() };
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
            return Ok(Pending(Fate::Repeat(first.clone())));
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
        let (channels, delivers) = (&self.channels, self.waiters.is_some());
        let stage = Box::new(move |facts: &dyn store::Facts| {
            // As they are when the stage runs: a change that was answered counts for what is staged after it.
            let channels = channels.snapshot();
            let mut frame = sessions::route(facts, &channels, message, submission, received_at)?;
            if delivers {
                planning::plan_all(&mut frame, &channels);
            }
            let filled = frame.iter().filter_map(|entry| entry.message.as_ref()).map(pb::CimMessage::encoded_len);
            match filled.max() {
                Some(bytes) if bytes > most => Err(outgrown(bytes, most)),
                _ => Ok(frame),
            }
        });
        let frame = self.store.stage(claim, stage).await.map_err(|error| match error {
            AppendError::Refused(violations) => Error::InvalidMessage { violations },
            AppendError::Store(error) => Error::Store(error),
        })?;
        Ok(Pending(Fate::New { frame, id, inbox: self.clone() }))
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
        let Some(outcome) = receipt.entry.message.as_ref().and_then(Outcome::of) else { return };
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
pub(crate) fn fingerprint(content: &pb::CimMessage) -> Vec<u8> {
    let digest = Sha256::digest(wire::encode(content));
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

fn outgrown(bytes: usize, most: usize) -> Violations {
    let mut violations = Violations::default();
    let message = format!("the message with all that is known of its customer needs at most {most} bytes, found {bytes}");
    violations.add("header.customer", Reason::TooLarge, message);
    violations
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::store::Entry;
    use crate::samples::{self, LIMITS};
    use crate::store::memory::Memory;
    use crate::store::{Page, SessionKey};
    use crate::wire::Exact;
    use futures::FutureExt as _;
    use futures::future::join_all;
    use proptest::prelude::*;
    use serde_json::{Value as Json, json};
    use std::collections::HashSet;
    use uuid::Uuid;

    const WINDOW: Duration = Duration::from_secs(60);

    fn inbox() -> Inbox {
        Inbox::new(Arc::new(Memory::new(64 << 20)), samples::channels(false), LIMITS, WINDOW)
    }

    impl Inbox {
        /// Accepts the sample message after a patch. Nothing else goes on, so that nothing waits.
        fn take(&self, patch: Json, reuse: Reuse) -> Result<Accepted, Error> {
            let message = samples::decoded(&samples::json(patch));
            self.accept(message, Violations::default(), reuse).now_or_never().expect("nothing waits")
        }

        fn accepted(&self, patch: Json) -> Accepted {
            self.take(patch.clone(), Reuse::Renew).unwrap_or_else(|error| panic!("{patch}: {error:?}"))
        }

        fn log(&self) -> Vec<Stored> {
            let page = Page { entries: usize::MAX, bytes: usize::MAX };
            self.store.read(Position(0), page).now_or_never().expect("nothing waits").expect("all is kept")
        }
    }

    fn message(stored: &Stored) -> &pb::CimMessage {
        stored.entry.message.as_ref().expect("is a message")
    }

    fn says(id: &str, text: &str) -> Json {
        json!({ "id": id, "body": { "markdownText": text } })
    }

    fn untimed(patch: Json) -> Json {
        let mut untimed = json!({ "header": { "timestamp": null } });
        patch.as_object().into_iter().flatten().for_each(|(key, value)| untimed[key] = value.clone());
        untimed
    }

    fn paths(error: &Error) -> Vec<(&str, Reason)> {
        error.violations().iter().map(|violation| (violation.path.as_str(), violation.reason)).collect()
    }

    /// What the client sent, without the id, told from what is stored.
    fn content_of(entry: &Entry) -> pb::CimMessage {
        let submission = entry.submission.clone().unwrap_or_default();
        let mut content = pb::CimMessage { id: None, ..entry.message.clone().unwrap_or_default() };
        let header = content.header.get_or_insert_default();
        if submission.timestamp_filled {
            header.timestamp = None;
        }
        if submission.rerouted {
            header.channel_session_id = submission.channel_session_id;
            header.conversation_id = submission.conversation_id;
            header.channel_data = submission.channel_data;
            header.customer = submission.customer;
            let of_customer: Exact = crate::store::customer_numbers(&content.exact_numbers);
            content.exact_numbers.retain(|pointer, _| !of_customer.contains_key(pointer));
            content.exact_numbers.extend(submission.customer_exact_numbers);
        }
        if submission.deletion_time_filled
            && let Some(pb::Body { kind: Some(Kind::DeletedNotification(deleted)), .. }) = &mut content.body
        {
            deleted.timestamp = None;
        }
        content
    }

    #[test]
    fn a_message_without_an_id_gets_a_fresh_one() {
        let inbox = inbox();
        let accepted = inbox.accepted(json!({}));
        assert!(Uuid::parse_str(accepted.stored.id()).is_ok_and(|id| id.get_version_num() == 7));
        assert_eq!(accepted.stored.entry.submission.as_ref().map(|submission| submission.id.as_str()), Some(""));
        assert_eq!(accepted.stored.claimed_id(), accepted.stored.id());
        let again = inbox.accepted(json!({}));
        assert!(!again.duplicate);
        assert_ne!(again.stored.id(), accepted.stored.id());
    }

    /// Returns when the clock shows another millisecond: times of a message are no finer.
    fn a_millisecond_later() {
        let millis = || wire::to_millis(&wire::now());
        let now = millis();
        while millis() <= now {
            std::hint::spin_loop();
        }
    }

    #[test]
    fn an_id_that_is_free_is_kept() {
        for id in ["m1", " ", "0", "ä/\u{1f600}", &"x".repeat(256)] {
            let accepted = inbox().accepted(json!({ "id": id }));
            assert_eq!((accepted.stored.id(), accepted.stored.claimed_id(), accepted.duplicate), (id, id, false));
        }
    }

    #[test]
    fn a_repeat_with_a_timestamp_is_one_for_the_life_of_the_log() {
        let inbox = Inbox { repeat_window: Duration::ZERO, ..inbox() };
        let first = inbox.accepted(says("m1", "a"));
        a_millisecond_later();
        for reuse in [Reuse::Renew, Reuse::Reject] {
            let again = inbox.take(says("m1", "a"), reuse).expect("is a repeat");
            assert!(again.duplicate);
            assert_eq!((again.stored.position, &again.stored.entry), (first.stored.position, &first.stored.entry));
        }
        assert_eq!(inbox.log().len(), 2);
    }

    #[test]
    fn a_repeat_without_a_timestamp_is_one_within_the_window() {
        let patient = inbox();
        patient.accepted(untimed(says("m1", "a")));
        assert!(patient.accepted(untimed(says("m1", "a"))).duplicate);
        assert!(!patient.accepted(says("m1", "a")).duplicate, "with a time it is another message");

        let hasty = Inbox { repeat_window: Duration::ZERO, ..inbox() };
        let first = hasty.accepted(untimed(says("m1", "a")));
        a_millisecond_later();
        let second = hasty.accepted(untimed(says("m1", "a")));
        assert!(!second.duplicate);
        assert_ne!(second.stored.id(), first.stored.id());
        a_millisecond_later();
        let third = hasty.take(untimed(says("m1", "a")), Reuse::Reject);
        assert_eq!(third.map(|accepted| accepted.duplicate), Err(Error::ReusedId { id: "m1".into() }));
    }

    #[test]
    fn a_repeat_is_known_however_it_is_written() {
        let inbox = inbox();
        inbox.accepted(json!({ "id": "m1", "header": { "stamps": [] }, "body": { "markdownText": "a" } }));
        let other = json!({
            "id": "m1", "header": { "timestamp": "2023-11-14T22:13:20Z", "sender": { "type": "connector" } },
            "body": { "markdownText": "a" },
        });
        assert!(inbox.accepted(other).duplicate);
    }

    #[test]
    fn a_repeat_is_known_although_its_session_has_ended_or_its_customer_has_changed() {
        let inbox = inbox();
        let first = inbox.accepted(says("m1", "a"));
        inbox.accepted(json!({ "header": { "customer": { "firstName": "Ada" } } }));
        inbox.accepted(json!({ "header": { "intent": "END_CHAT" }, "body": null }));
        let again = inbox.accepted(says("m1", "a"));
        assert!(again.duplicate);
        assert_eq!(again.stored.position, first.stored.position);
    }

    #[test]
    fn a_taken_id_is_renewed_or_rejected() {
        let inbox = inbox();
        let first = inbox.accepted(says("call", "one"));
        let before = inbox.log().len();
        let rejected = inbox.take(says("call", "two"), Reuse::Reject);
        assert_eq!(rejected.map(|accepted| accepted.duplicate), Err(Error::ReusedId { id: "call".into() }));
        assert_eq!(inbox.log().len(), before);
        let second = inbox.accepted(says("call", "two"));
        let third = inbox.accepted(says("call", "three"));
        let ids = HashSet::from([first.stored.id(), second.stored.id(), third.stored.id()]);
        assert_eq!(ids.len(), 3);
        for renewed in [&second, &third] {
            assert!(!renewed.duplicate);
            assert_eq!(renewed.stored.claimed_id(), "call");
            assert!(Uuid::parse_str(renewed.stored.id()).is_ok());
        }
        for (text, accepted) in [("one", &first), ("two", &second), ("three", &third)] {
            for reuse in [Reuse::Renew, Reuse::Reject] {
                let again = inbox.take(says("call", text), reuse).expect("is a repeat");
                assert!(again.duplicate);
                assert_eq!(again.stored.id(), accepted.stored.id(), "{text}");
            }
        }
    }

    #[test]
    fn an_id_that_the_gateway_gave_is_taken_too() {
        let inbox = inbox();
        let given = inbox.accepted(json!({ "body": { "markdownText": "a" } }));
        assert!(inbox.take(says(given.stored.id(), "a"), Reuse::Reject).is_ok_and(|again| again.duplicate));
        assert!(matches!(inbox.take(says(given.stored.id(), "b"), Reuse::Reject), Err(Error::ReusedId { .. })));
        let notice = &inbox.log()[0];
        assert!(matches!(inbox.take(says(notice.id(), "a"), Reuse::Reject), Err(Error::ReusedId { .. })));
    }

    #[test]
    fn a_receipt_that_names_a_renewed_id_belongs_to_its_latest_message() {
        let inbox = inbox();
        inbox.accepted(says("call", "one"));
        let elsewhere = json!({ "channelData": { "channelCustomerIdentifier": "+49 2", "serviceIdentifier": "support" } });
        let second = inbox.accepted(json!({ "id": "call", "header": elsewhere }));
        let receipt = json!({
            "header": { "channelData": null, "conversationId": second.stored.entry.session.as_ref().map(|s| &s.conversation_id) },
            "body": { "type": "DELIVERYNOTIFICATION", "messageId": "call", "status": "READ" },
        });
        assert_eq!(inbox.accepted(receipt).stored.entry.session, second.stored.entry.session);
    }

    #[test]
    fn times_that_are_left_out_are_the_time_of_receipt() {
        let inbox = inbox();
        let began = wire::to_millis(&wire::now());
        let deletion =
            |time: Json| json!({ "type": "DELETEDNOTIFICATION", "messageId": "m", "timestamp": time, "markdownText": null });
        let filled = inbox.accepted(json!({ "header": { "timestamp": null }, "body": deletion(Json::Null) }));
        let sent = inbox.accepted(json!({ "body": deletion(json!(7)) }));
        let times = |accepted: &Accepted| {
            let message = message(&accepted.stored);
            let Some(Kind::DeletedNotification(deleted)) = message::kind(message) else { panic!("is a deletion") };
            let timestamp = message.header.as_ref().and_then(|header| header.timestamp);
            (timestamp.expect("is filled"), deleted.timestamp.expect("is filled"))
        };
        let (timestamp, deleted_at) = times(&filled);
        assert_eq!(timestamp, deleted_at);
        assert!(wire::to_millis(&timestamp) >= began);
        assert_eq!(timestamp.nanos % 1_000_000, 0);
        let accepted_at = filled.stored.entry.accepted_at.expect("is filled");
        assert!((accepted_at.seconds, accepted_at.nanos) >= (timestamp.seconds, timestamp.nanos));
        let submission = filled.stored.entry.submission.as_ref().expect("a client sent it");
        assert!(submission.timestamp_filled && submission.deletion_time_filled);
        assert_eq!(times(&sent), (wire::from_millis(1_700_000_000_000), wire::from_millis(7)));
        let submission = sent.stored.entry.submission.as_ref().expect("a client sent it");
        assert!(!submission.timestamp_filled && !submission.deletion_time_filled);
    }

    #[test]
    fn what_could_not_be_read_and_what_breaks_rules_refuse_a_message_together() {
        let inbox = inbox();
        let mut unreadable = Violations::default();
        unreadable.add("header.sender", Reason::WrongType, "needs an object, found a number");
        let message = samples::decoded(&samples::json(json!({ "id": "", "header": { "sender": null } })));
        let refused = inbox.accept(message, unreadable, Reuse::Renew).now_or_never().expect("nothing waits");
        assert_eq!(paths(&refused.expect_err("is refused")), [("header.sender", Reason::WrongType), ("id", Reason::Required)]);
        assert!(inbox.log().is_empty());
    }

    #[test]
    fn a_refused_route_stores_nothing_and_frees_the_id() {
        let inbox = inbox();
        let lost = json!({ "id": "m1", "header": { "channelData": null, "conversationId": "lost" } });
        let refused = inbox.take(lost, Reuse::Reject).expect_err("is refused");
        assert_eq!(paths(&refused), [("header.conversationId", Reason::UnknownRoute)]);
        assert!(inbox.log().is_empty());
        assert!(!inbox.accepted(says("m1", "a")).duplicate);
    }

    #[test]
    fn a_message_has_some_slack_for_what_is_filled_in() {
        let limits = Limits { message_bytes: 100 << 10, ..LIMITS };
        let inbox = Inbox { limits, ..inbox() };
        let text = |kilobytes: usize| "x".repeat(kilobytes << 10);
        inbox.accepted(json!({ "header": { "customer": { "notes": text(90) } } }));
        let stored = inbox.accepted(says("m1", &text(70)));
        assert!(message(&stored.stored).encoded_len() > limits.message_bytes);
        let refused = inbox.take(says("m2", &text(90)), Reuse::Renew).expect_err("has outgrown the slack");
        assert_eq!(paths(&refused), [("header.customer", Reason::TooLarge)]);
        assert!(!inbox.accepted(says("m2", "a")).duplicate);
        let refused = inbox.take(says("m3", &text(100)), Reuse::Renew).expect_err("is too large as it comes");
        assert_eq!(paths(&refused), [("", Reason::TooLarge)]);
    }

    #[test]
    fn typing_is_never_a_repeat_and_is_not_kept() {
        let inbox = inbox();
        inbox.accepted(says("m1", "a"));
        let typing = json!({ "id": "m1", "body": { "type": "NOTIFICATION", "notificationType": "TYPING_STARTED" } });
        for _ in 0..2 {
            let accepted = inbox.take(typing.clone(), Reuse::Reject).expect("claims no id");
            assert!(!accepted.duplicate && accepted.stored.entry.ephemeral);
        }
        let found = inbox.message("m1").now_or_never().expect("nothing waits").expect("is kept");
        assert!(!found.entry.ephemeral);
    }

    #[test]
    fn a_history_has_pages() {
        let inbox = inbox();
        for i in 0..5 {
            inbox.accepted(says(&i.to_string(), "a"));
        }
        let conversation = inbox.log()[0].entry.session.as_ref().expect("is routed").conversation_id.clone();
        let page =
            |after, size| inbox.history(&conversation, after, size).now_or_never().expect("nothing waits").expect("is known");
        let ids = |page: &HistoryPage| page.messages.iter().map(|stored| stored.id().to_owned()).collect::<Vec<_>>();
        let first = page(None, 2);
        assert_eq!((ids(&first), first.next), (vec!["4".into(), "3".into()], Some(Position(5))));
        inbox.accepted(says("5", "a"));
        let second = page(first.next, 3);
        assert_eq!((ids(&second), second.next), (vec!["2".into(), "1".into(), "0".into()], Some(Position(2))));
        let third = page(second.next, 3);
        assert_eq!((third.messages.len(), third.next), (1, None), "the notice that opened the session");
        let unknown = inbox.history("lost", None, 2).now_or_never().expect("nothing waits");
        assert!(matches!(unknown, Err(Error::ConversationNotFound { id }) if id == "lost"));
        let unknown = inbox.message("lost").now_or_never().expect("nothing waits");
        assert!(matches!(unknown, Err(Error::MessageNotFound { id }) if id == "lost"));
    }

    /// Accepts 64 messages at once.
    async fn at_once(inbox: &Inbox, reuse: Reuse, patch: impl Fn(usize) -> Json) -> Vec<Result<Accepted, Error>> {
        let callers = (0..64).map(|i| {
            let inbox = inbox.clone();
            let message = samples::decoded(&samples::json(patch(i)));
            tokio::spawn(async move { inbox.accept(message, Violations::default(), reuse).await })
        });
        join_all(callers).await.into_iter().map(|done| done.expect("the caller is done")).collect()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn the_first_messages_of_a_session_open_one_however_many_come_at_once() {
        let inbox = inbox();
        let accepted = at_once(&inbox, Reuse::Reject, |i| says(&i.to_string(), "a")).await;
        let sessions: HashSet<_> = accepted
            .iter()
            .map(|accepted| accepted.as_ref().expect("is accepted").stored.entry.session.as_ref().expect("is routed").id.clone())
            .collect();
        assert_eq!(sessions.len(), 1);
        assert_eq!(inbox.log().len(), 65, "one notice and all messages");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn one_id_is_accepted_once_however_many_come_at_once() {
        for reuse in [Reuse::Renew, Reuse::Reject] {
            for patch in [says("m1", "a"), untimed(says("m1", "a"))] {
                let inbox = inbox();
                let accepted = at_once(&inbox, reuse, |_| patch.clone()).await;
                let accepted: Vec<_> = accepted.into_iter().map(|accepted| accepted.expect("is accepted")).collect();
                assert!(accepted.iter().all(|one| one.stored.id() == "m1" && one.stored.position == Position(2)));
                assert_eq!(accepted.iter().filter(|accepted| !accepted.duplicate).count(), 1);
                assert_eq!(inbox.log().len(), 2);
            }
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn of_many_contents_under_one_id_each_is_accepted_once_or_the_first_alone() {
        let renewing = inbox();
        let accepted = at_once(&renewing, Reuse::Renew, |i| says("m1", &(i % 8).to_string())).await;
        let ids: HashSet<_> = accepted.iter().map(|one| one.as_ref().expect("is accepted").stored.id().to_owned()).collect();
        assert_eq!((ids.len(), renewing.log().len()), (8, 9));
        let rejecting = inbox();
        let accepted = at_once(&rejecting, Reuse::Reject, |i| says("m1", &i.to_string())).await;
        assert_eq!(accepted.iter().filter(|accepted| accepted.is_ok()).count(), 1);
        assert_eq!(rejecting.log().len(), 2);
    }

    /// Patches of the sample message that touch all that the gateway fills in. `"known"` stands for an id of an accepted message.
    fn patches() -> impl Strategy<Value = Json> {
        let number = prop_oneof![
            Just(json!(7)),
            Just(json!(9_007_199_254_740_992_u64)),
            Just(json!(9_007_199_254_740_993_u64)),
            Just(json!(-0.0)),
        ];
        let value = prop_oneof![
            number.clone(),
            Just(Json::Null),
            Just(json!("x")),
            number.prop_map(|number| json!({ "deep/er": [number, null] })),
        ];
        let text = |texts: &'static [Option<&'static str>]| proptest::sample::select(texts).prop_map(|text| json!(text));
        let key = proptest::sample::select(vec!["score", "a/b", "a~b", "web", "additionalDetail"]);
        let extras = proptest::collection::btree_map(key, value.clone(), 0..3).prop_map(|mut extras| {
            extras.entry("additionalDetail").and_modify(|detail| *detail = json!({ "x": detail }));
            json!(extras)
        });
        let customer = (text(&[None, Some("c1"), Some("c2"), Some("")]), text(&[None, Some("Ada"), Some("")]), extras, 0..4)
            .prop_map(|(id, name, extras, version)| {
                let mut customer =
                    json!({ "_id": id, "firstName": name, "__v": version, "phoneNumber": (1..version).collect::<Vec<_>>() });
                extras.as_object().into_iter().flatten().for_each(|(key, value)| customer[key] = value.clone());
                customer
            });
        let body = prop_oneof![
            3 => text(&[None, Some(""), Some("a"), Some("b")]).prop_map(|text| json!({ "type": "PLAIN", "markdownText": text })),
            1 => value.prop_map(|value| json!({ "type": "CUSTOM", "jsonNode": value, "extra": value })),
            1 => Just(json!({ "type": "DELIVERYNOTIFICATION", "messageId": "a", "status": "READ" })),
            1 => Just(json!({ "type": "DELETEDNOTIFICATION", "messageId": "a" })),
            1 => Just(json!({ "type": "DELETEDNOTIFICATION", "messageId": "a", "timestamp": 5 })),
            1 => Just(json!({ "type": "NOTIFICATION", "notificationType": "TYPING_STARTED" })),
        ];
        let channel = prop_oneof![
            4 => text(&[Some("+49 1"), Some("+49 2")]).prop_map(|address| {
                json!({ "channelCustomerIdentifier": address, "serviceIdentifier": "support", "customerFirstName": "Bob" })
            }),
            1 => Just(json!({ "serviceIdentifier": "support", "score": 9_007_199_254_740_993_u64 })),
            1 => Just(Json::Null),
        ];
        let route = text(&[None, None, Some(""), Some("lost"), Some("known")]);
        (
            text(&[None, Some("a"), Some("b")]),
            text(&[None, None, Some("END_CHAT")]),
            proptest::option::of(1..3_i64),
            (route.clone(), route),
            channel,
            proptest::option::of(customer),
            body,
        )
            .prop_map(|(id, intent, timestamp, (session, conversation), channel, customer, body)| {
                json!({
                    "id": id,
                    "header": {
                        "sender": { "id": "s", "type": "CUSTOMER", "senderName": "S" }, "intent": intent, "timestamp": timestamp,
                        "channelSessionId": session, "conversationId": conversation, "channelData": channel, "customer": customer,
                        "language": { "n": 9_007_199_254_740_993_u64 },
                    },
                    "body": body,
                })
            })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn content_can_be_told_again_from_what_is_stored(patches in proptest::collection::vec(patches(), 1..24)) {
            let inbox = inbox();
            let mut known = None;
            for mut json in patches {
                let header = &mut json["header"];
                for (key, id) in [("channelSessionId", "id"), ("conversationId", "conversation_id")] {
                    if header[key] == "known" {
                        header[key] = match (&known, id) {
                            (None, _) => Json::Null,
                            (Some((session, _)), "id") => json!(session),
                            (Some((_, conversation)), _) => json!(conversation),
                        };
                    }
                }
                let sent = samples::decoded(&json);
                let accepted = inbox.accept(sent.clone(), Violations::default(), Reuse::Renew).now_or_never().expect("nothing waits");
                let Ok(Accepted { stored, duplicate }) = accepted else { continue };
                let mut content = sent;
                content.id = None;
                prop_assert!(message::check(&mut content, &LIMITS).is_empty());
                prop_assert_eq!(&content_of(&stored.entry), &content);
                let submission = stored.entry.submission.as_ref().expect("a client sent it");
                prop_assert_eq!(&fingerprint(&content_of(&stored.entry)), &submission.fingerprint);
                if let Some(session) = stored.entry.session.as_ref().filter(|_| !duplicate) {
                    known = Some((session.id.clone(), session.conversation_id.clone()));
                }
            }
            let mut active = HashSet::new();
            let mut ids = HashSet::new();
            for stored in inbox.log() {
                let message = message(&stored);
                let mut normalised = message.clone();
                prop_assert!(wire::normalise(&mut normalised, &LIMITS.bounds).is_empty());
                prop_assert_eq!(&normalised, message);
                prop_assert_eq!(&wire::decode(&wire::encode(message), 100).expect("is JSON").message, message);
                prop_assert!(stored.entry.ephemeral || ids.insert(stored.id().to_owned()), "two messages have one id");
                // At most one session of a key is active at a time.
                if let Some(session) = &stored.entry.session {
                    active.retain(|(key, id)| *id != session.id || *key != SessionKey::of(session));
                    if session.ended_at.is_none() {
                        prop_assert!(active.iter().all(|(key, _)| *key != SessionKey::of(session)));
                        active.insert((SessionKey::of(session), session.id.clone()));
                    }
                }
            }
        }
    }
}
