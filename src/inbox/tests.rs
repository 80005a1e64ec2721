use super::*;
use crate::pb::store::{Entry, Routing};
use crate::samples::{self, LIMITS};
use crate::store::memory::Memory;
use crate::store::{Page, SessionKey};
use crate::wire::Exact;
use futures::FutureExt as _;
use futures::future::join_all;
use proptest::prelude::*;
use prost::Message as _;
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
    let mut content = pb::CimMessage { id: None, ..*entry.message.clone().unwrap_or_default() };
    let header = content.header.get_or_insert_default();
    if submission.timestamp_filled {
        header.timestamp = None;
    }
    if let Some(routing) = submission.routing {
        let routing = Routing::decode(&*routing).expect("is a routing");
        header.channel_session_id = routing.channel_session_id;
        header.conversation_id = routing.conversation_id;
        header.channel_data = routing.channel_data;
        header.customer = routing.customer;
        let of_customer: Exact = crate::store::customer_numbers(&content.exact_numbers);
        content.exact_numbers.retain(|pointer, _| !of_customer.contains_key(pointer));
        content.exact_numbers.extend(routing.customer_exact_numbers);
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
fn a_message_has_a_bound_as_it_is_written_too() {
    let inbox = Inbox { limits: Limits { message_bytes: 16 << 10, ..LIMITS }, ..inbox() };
    let numbers = |count: usize| json!({ "id": "m1", "header": { "entities": { "n": vec![1e308; count] } } });
    let refused = inbox.take(numbers(1000), Reuse::Reject).expect_err("it is 309 digits a thousand times");
    assert_eq!(paths(&refused), [("", Reason::TooLarge)]);
    assert!(inbox.log().is_empty());
    assert!(!inbox.accepted(numbers(100)).duplicate);
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
    let page = |after, size| inbox.history(&conversation, after, size).now_or_never().expect("nothing waits").expect("is known");
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
