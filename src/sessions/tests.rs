use super::*;
use crate::channels::Channels;
use crate::samples;
use crate::store::memory::Memory;
use crate::store::{AppendError, Common, Delivery, DeliveryId, Name, Named, Position, SessionFacts, Store as _, Stored};
use crate::wire::{Bounds, normalise};
use futures::FutureExt as _;
use serde_json::{Value as Json, json};
use std::cell::RefCell;

const AT: Timestamp = Timestamp { seconds: 1_700_000_000, nanos: 123_000_000 };

/// Facts of nothing, and what they were asked for.
#[derive(Default)]
struct Nothing(RefCell<Vec<&'static str>>);

impl Nothing {
    fn asked<T>(&self, what: &'static str) -> Option<T> {
        self.0.borrow_mut().push(what);
        None
    }
}

impl Facts for Nothing {
    fn session_and_position(&self, _: &str) -> Option<(Position, SessionFacts)> {
        self.asked("session")
    }

    fn session_with(&self, common: Common<'_>, _: &dyn Fn(&str) -> bool) -> Option<Arc<Session>> {
        self.asked(match common {
            Common::Key(_) => "latest session",
            Common::Address { .. } => "customer at an address",
            Common::Customer(_) => "active conversation",
            Common::Conversation(_) => "session of a conversation",
        })
    }

    fn customer(&self, _: &str) -> Option<Arc<CustomerFacts>> {
        self.asked("customer")
    }

    fn named(&self, _: Name<'_>) -> Option<Named> {
        self.asked("what goes by a name")
    }

    fn delivery(&self, _: DeliveryId) -> Option<Delivery> {
        self.asked("delivery")
    }
}

#[test]
fn what_was_only_just_made_up_is_not_looked_up() {
    let asked = |patch: Json| {
        let facts = Nothing::default();
        let channels = samples::channels(false).snapshot();
        route(&facts, &channels, samples::message(patch), Submission::default(), AT).expect("is accepted");
        facts.0.into_inner()
    };
    assert_eq!(asked(json!({})), ["latest session", "customer at an address"]);
    let named = json!({ "header": { "customer": { "id": "c7" } } });
    assert_eq!(asked(named), ["latest session", "active conversation", "customer"]);
}

/// A gateway that routes and remembers.
struct World {
    memory: Memory,
    channels: Channels,
}

impl World {
    fn new() -> Self {
        Self::of(samples::channels(false))
    }

    fn of(channels: Channels) -> Self {
        Self { memory: Memory::new(64 << 20), channels }
    }

    fn try_send(&self, patch: Json) -> Result<Vec<Stored>, Violations> {
        let mut message = samples::message(patch);
        message.id.get_or_insert_with(message::fresh_id);
        let channels = self.channels.snapshot();
        let stage = Box::new(|facts: &dyn Facts| route(facts, &channels, message, Submission::default(), AT));
        match self.memory.append(None, stage).now_or_never().expect("memory never waits") {
            Ok(frame) => Ok(frame),
            Err(AppendError::Refused(violations)) => Err(violations),
            Err(AppendError::Store(error)) => panic!("{error}"),
        }
    }

    /// The frame of a message that is accepted.
    fn frame(&self, patch: Json) -> Vec<Stored> {
        self.try_send(patch.clone()).unwrap_or_else(|violations| panic!("{patch}: {violations:?}"))
    }

    /// The message itself, which opens no session.
    fn send(&self, patch: Json) -> Stored {
        let frame = self.frame(patch);
        assert_eq!(names(&frame), ["PLAIN"]);
        frame.into_iter().next().expect("is the only one")
    }

    /// The message itself, which opens a session.
    fn open(&self, patch: Json) -> Stored {
        let frame = self.frame(patch);
        assert_eq!(names(&frame), ["CHANNEL_SESSION_STARTED", "PLAIN"]);
        frame.into_iter().next_back().expect("there are two")
    }

    /// The frame of what the gateway says by itself about an earlier message.
    fn say_about(&self, earlier: &Stored) -> Vec<Stored> {
        let mut said = gist(earlier.entry.message.as_deref().expect("is a message"));
        by_gateway(&mut said, pb::Body::default(), AT);
        let mut late = Entry { message: Some(said.into()), session: earlier.entry.session.clone(), ..Entry::default() };
        let stage = Box::new(|facts: &dyn Facts| {
            bring_up_to_date(&mut late, facts);
            Ok(vec![late])
        });
        self.memory.append(None, stage).now_or_never().expect("memory never waits").expect("is stored")
    }

    fn refused(&self, patch: Json) -> Vec<(String, Reason)> {
        let end = self.memory.span().end;
        let violations = self.try_send(patch.clone()).expect_err(&patch.to_string());
        assert_eq!(self.memory.span().end, end);
        violations.into_vec().into_iter().map(|violation| (violation.path, violation.reason)).collect()
    }
}

/// Types of the bodies of a frame, and of notifications what they notify of.
fn names(frame: &[Stored]) -> Vec<String> {
    let name = |stored: &Stored| match message::kind(stored.entry.message.as_ref()?)? {
        Kind::Notification(notification) => notification.notification_type.clone(),
        _ => wire::type_name(stored.entry.message.as_ref()?.body.as_ref()?).map(str::to_owned),
    };
    frame.iter().map(|stored| name(stored).unwrap_or_default()).collect()
}

fn session(stored: &Stored) -> &Session {
    stored.entry.session.as_ref().expect("has a session")
}

fn header(stored: &Stored) -> &pb::Header {
    stored.entry.message.as_ref().and_then(|message| message.header.as_ref()).expect("has a header")
}

fn customer(stored: &Stored) -> &pb::Customer {
    header(stored).customer.as_ref().expect("has a customer")
}

fn from(address: &str) -> Json {
    on("support", address)
}

fn on(channel: &str, address: &str) -> Json {
    json!({ "header": { "channelData": { "channelCustomerIdentifier": address, "serviceIdentifier": channel } } })
}

fn nowhere() -> Json {
    json!({ "header": { "channelData": null } })
}

fn and(mut base: Json, patch: Json) -> Json {
    merge(&mut base, patch);
    base
}

/// As a merge patch, but null stays: these are patches themselves.
fn merge(target: &mut Json, patch: Json) {
    match (target, patch) {
        (Json::Object(target), Json::Object(members)) => {
            members.into_iter().for_each(|(key, value)| merge(target.entry(key).or_insert(Json::Null), value));
        }
        (target, patch) => *target = patch,
    }
}

fn in_session(id: &str) -> Json {
    json!({ "header": { "channelSessionId": id } })
}

fn in_conversation(id: &str) -> Json {
    json!({ "header": { "conversationId": id } })
}

fn of_customer(id: &str) -> Json {
    json!({ "header": { "customer": { "_id": id } } })
}

fn end_chat() -> Json {
    json!({ "header": { "intent": "END_CHAT" }, "body": null })
}

fn receipt(id: &str) -> Json {
    json!({ "body": { "type": "DELIVERYNOTIFICATION", "messageId": id, "status": "READ", "markdownText": null } })
}

fn deletion(id: &str) -> Json {
    json!({ "body": { "type": "DELETEDNOTIFICATION", "messageId": id, "markdownText": null } })
}

fn news() -> Json {
    json!({ "body": { "type": "NOTIFICATION", "notificationType": "INFO", "markdownText": null } })
}

#[test]
fn the_first_message_of_a_key_opens_session_conversation_and_customer_and_says_so_before() {
    let world = World::new();
    let frame = world.frame(json!({}));
    assert_eq!(names(&frame), ["CHANNEL_SESSION_STARTED", "PLAIN"]);
    let [notice, message] = frame.as_slice() else { panic!("there are two") };
    assert_eq!(session(notice), session(message));
    let session = session(message);
    assert_eq!((session.opened_at, session.ended_at, session.end_reason.as_str()), (Some(AT), None, ""));
    assert_eq!((session.service_identifier.as_str(), session.channel_customer_identifier.as_str()), ("support", "+49 1"));
    for stored in &frame {
        let header = header(stored);
        assert_eq!(header.channel_session_id.as_ref(), Some(&session.id));
        assert_eq!(header.conversation_id.as_ref(), Some(&session.conversation_id));
        assert_eq!(customer(stored).id.as_ref(), Some(&session.customer_id));
        assert_eq!(customer(stored).first_name.as_deref(), Some("+49 1"));
        assert!(customer(stored).is_anonymous);
    }
    let unique = std::collections::HashSet::from([&session.id, &session.conversation_id, &session.customer_id]);
    assert_eq!(unique.len(), 3);
}

#[test]
fn a_notice_is_the_gateways_own_and_for_both_sides() {
    let world = World::new();
    let frame = world.frame(json!({ "header": { "roomId": "r1" } }));
    let notice = &frame[0];
    let sender = header(notice).sender.as_ref().expect("has a sender");
    assert_eq!(
        (sender.id.as_deref(), sender.r#type(), sender.sender_name.as_deref()),
        (Some(GATEWAY), SenderType::System, Some(GATEWAY))
    );
    assert_eq!(header(notice).timestamp, Some(AT));
    assert_eq!(header(notice).room_id.as_deref(), Some("r1"));
    assert_eq!(header(notice).channel_data, header(&frame[1]).channel_data);
    assert!(notice.entry.submission.is_none());
    assert_eq!(notice.entry.audiences().collect::<Vec<_>>(), [Audience::Customer, Audience::Platform]);
}

#[test]
fn the_same_key_continues_its_session() {
    let world = World::new();
    let first = world.open(json!({}));
    let second = world.send(json!({}));
    assert_eq!(session(&second), session(&first));
    let other = world.open(from("+49 2"));
    assert_ne!(session(&other).id, session(&first).id);
    assert_ne!(session(&other).conversation_id, session(&first).conversation_id);
    assert_ne!(session(&other).customer_id, session(&first).customer_id);
    let elsewhere = world.open(on("sales", "+49 1"));
    assert_ne!(session(&elsewhere).customer_id, session(&first).customer_id, "an unregistered channel is a type of its own");
}

#[test]
fn an_address_is_one_customer_on_all_channels_of_a_type() {
    let world = World::new();
    for channel in ["support", "sales"] {
        samples::register(&world.channels, channel, "WHATSAPP");
    }
    samples::register(&world.channels, "news", "SMS");
    let support = world.open(json!({}));
    let sales = world.open(on("sales", "+49 1"));
    assert_eq!(session(&sales).customer_id, session(&support).customer_id);
    assert_eq!(session(&sales).conversation_id, session(&support).conversation_id);
    assert_ne!(session(&sales).id, session(&support).id);
    assert_eq!(session(&sales).channel_type, "WHATSAPP");
    for channel in ["news", "unregistered"] {
        let elsewhere = world.open(on(channel, "+49 1"));
        assert_ne!(session(&elsewhere).customer_id, session(&support).customer_id, "{channel}");
    }
}

#[test]
fn whoever_was_met_before_the_channel_was_registered_stays_the_same_customer() {
    let world = World::new();
    let before = world.open(json!({}));
    samples::register(&world.channels, "support", "WHATSAPP");
    assert_eq!(session(&world.send(json!({}))), session(&before), "a session goes on");
    world.frame(end_chat());
    let after = world.open(json!({}));
    assert_eq!(session(&after).customer_id, session(&before).customer_id);
    assert_eq!(session(&after).channel_type, "WHATSAPP");
}

#[test]
fn where_channels_have_to_be_registered_nothing_of_another_is_accepted() {
    let world = World::of(samples::channels(true));
    let unknown = [("header.channelData.serviceIdentifier".to_owned(), Reason::UnknownChannel)];
    for patch in [json!({}), end_chat(), receipt("m1"), news()] {
        assert_eq!(world.refused(patch), unknown);
    }
    let channel = samples::register(&world.channels, "support", "WHATSAPP");
    let first = world.open(json!({}));
    assert_eq!(world.refused(on("Support", "+49 1")), unknown);
    world.channels.delete(&channel.id, None).now_or_never().expect("memory never waits").expect("is there");
    let in_it = and(nowhere(), in_session(&session(&first).id));
    assert_eq!(world.refused(in_it), unknown, "not even in a session that was opened before");
}

#[test]
fn the_end_of_a_chat_ends_the_session_and_says_so_after() {
    let world = World::new();
    let first = world.open(json!({}));
    let frame = world.frame(end_chat());
    assert_eq!(names(&frame), ["", "CHANNEL_SESSION_ENDED"]);
    for stored in &frame {
        assert_eq!(session(stored).id, session(&first).id);
        assert_eq!((session(stored).ended_at, session(stored).end_reason.as_str()), (Some(AT), "CUSTOMER"));
    }
    let notice = frame[1].entry.message.as_ref().expect("is a message");
    let json: Json = serde_json::from_slice(&wire::encode(notice)).expect("is JSON");
    assert_eq!(json["body"]["notificationData"], json!({ "reasonCode": "CUSTOMER" }));
}

#[test]
fn an_agent_that_ends_a_chat_is_the_reason() {
    let world = World::new();
    world.open(json!({}));
    let agent = json!({ "header": { "sender": { "id": "a1", "type": "AGENT", "senderName": "Agent" } } });
    let frame = world.frame(and(end_chat(), agent));
    assert_eq!(session(&frame[0]).end_reason, "AGENT");
}

#[test]
fn a_lost_connection_is_the_reason_and_opens_nothing() {
    let world = World::new();
    let lost = || json!({ "header": { "intent": "NETWORK_DISCONNECT" }, "body": null });
    assert!(world.frame(lost())[0].entry.session.is_none());
    world.open(json!({}));
    let frame = world.frame(lost());
    assert_eq!(frame.len(), 2);
    assert_eq!(session(&frame[1]).end_reason, "NETWORK");
    assert_eq!(names(&frame[1..]), ["CHANNEL_SESSION_ENDED"]);
}

#[test]
fn what_the_customer_does_is_noted_in_every_entry_of_the_session() {
    let world = World::new();
    let at = |seconds: i64| Timestamp { seconds: AT.seconds + seconds, nanos: 0 };
    let entries = |seconds: i64, patch: Json| {
        let mut message = samples::message(patch);
        message.id.get_or_insert_with(message::fresh_id);
        let stage =
            Box::new(move |facts: &dyn Facts| route(facts, &Snapshot::default(), message, Submission::default(), at(seconds)));
        let frame = world.memory.append(None, stage).now_or_never().expect("memory never waits").expect("is accepted");
        frame.iter().map(|stored| stored.entry.last_activity).collect::<Vec<_>>()
    };
    let by = |sender: &str| json!({ "header": { "sender": { "id": "s", "type": sender, "senderName": "S" } } });
    assert_eq!(entries(1, by("AGENT")), [Some(at(1)); 2], "its opening counts, whoever opens it");
    assert_eq!(entries(2, by("CUSTOMER")), [Some(at(2))]);
    assert_eq!(entries(3, by("AGENT")), [Some(at(2))]);
    assert_eq!(entries(4, and(by("CONNECTOR"), receipt("m1"))), [Some(at(2))]);
    assert_eq!(entries(5, and(by("AGENT"), end_chat())), [Some(at(2)); 2]);
}

#[test]
fn a_message_after_the_end_opens_a_new_session_of_the_same_customer() {
    let world = World::new();
    let first = world.open(json!({}));
    world.frame(end_chat());
    let second = world.open(json!({}));
    assert_ne!(session(&second).id, session(&first).id);
    assert_ne!(session(&second).conversation_id, session(&first).conversation_id);
    assert_eq!(session(&second).customer_id, session(&first).customer_id);
    assert_eq!(session(&world.send(json!({}))), session(&second));
}

#[test]
fn the_end_of_a_chat_without_a_session_opens_nothing() {
    let world = World::new();
    let frame = world.frame(end_chat());
    assert_eq!(names(&frame), [""]);
    assert!(frame[0].entry.session.is_none());
    assert_eq!(header(&frame[0]).customer, None);
}

#[test]
fn the_end_of_a_chat_that_has_ended_ends_nothing_more() {
    let world = World::new();
    let first = world.open(json!({}));
    world.frame(end_chat());
    let again = world.frame(end_chat());
    assert_eq!(names(&again), [""]);
    assert_eq!(session(&again[0]).id, session(&first).id);
    let second = world.open(json!({}));
    let late = world.frame(and(end_chat(), in_session(&session(&first).id)));
    assert_eq!((names(&late).len(), &session(&late[0]).id), (1, &session(&first).id));
    assert_eq!(session(&world.send(json!({}))), session(&second), "the session that followed goes on");
}

#[test]
fn a_known_session_or_conversation_is_enough() {
    let world = World::new();
    let first = world.open(json!({}));
    world.open(from("+49 2"));
    for route in [in_session(&session(&first).id), in_conversation(&session(&first).conversation_id)] {
        let stored = world.send(and(nowhere(), route));
        assert_eq!(session(&stored), session(&first));
        let channel = header(&stored).channel_data.as_ref().expect("is filled in");
        assert_eq!(channel.channel_customer_identifier.as_deref(), Some("+49 1"));
        assert_eq!(channel.service_identifier.as_deref(), Some("support"));
    }
}

#[test]
fn a_session_goes_before_a_conversation_and_a_conversation_before_the_channel() {
    let world = World::new();
    let first = world.open(and(from("+49 1"), of_customer("c")));
    let second = world.open(and(on("sales", "+49 2"), of_customer("c")));
    let conversation = in_conversation(&session(&first).conversation_id);
    assert_eq!(session(&second).conversation_id, session(&first).conversation_id);
    let stored = world.send(and(and(nowhere(), conversation.clone()), in_session(&session(&first).id)));
    assert_eq!(session(&stored).id, session(&first).id);
    world.send(on("sales", "+49 2"));
    let stored = world.send(and(nowhere(), conversation.clone()));
    assert_eq!(session(&stored).id, session(&second).id, "the conversation's latest active session");
    let stored = world.send(and(from("+49 1"), conversation.clone()));
    assert_eq!(session(&stored).id, session(&first).id, "the channel tells two sessions of a conversation apart");
    world.frame(and(end_chat(), on("sales", "+49 2")));
    let stored = world.send(and(nowhere(), conversation));
    assert_eq!(session(&stored).id, session(&first).id, "an active session goes before one that has ended");
}

#[test]
fn unknown_ids_beside_complete_channel_data_are_replaced() {
    let world = World::new();
    let lost = and(in_session("lost"), in_conversation("lost too"));
    let first = world.open(lost.clone());
    assert_eq!(header(&first).channel_session_id.as_ref(), Some(&session(&first).id));
    assert_eq!(header(&first).conversation_id.as_ref(), Some(&session(&first).conversation_id));
    assert_ne!((session(&first).id.as_str(), session(&first).conversation_id.as_str()), ("lost", "lost too"));
    assert_eq!(session(&world.send(lost)), session(&first));
    let half = world.send(and(in_session("lost"), in_conversation(&session(&first).conversation_id)));
    assert_eq!(session(&half), session(&first));
}

#[test]
fn unknown_ids_alone_are_violations() {
    let world = World::new();
    let first = world.open(json!({}));
    let partial = json!({ "header": { "channelData": { "serviceIdentifier": null } } });
    let blank = json!({ "header": { "channelData": { "serviceIdentifier": " " } } });
    for channel in [nowhere(), partial, blank] {
        for (route, paths) in [
            (in_session("lost"), &["header.channelSessionId"][..]),
            (in_conversation("lost"), &["header.conversationId"]),
            (and(in_session("lost"), in_conversation("lost")), &["header.channelSessionId", "header.conversationId"]),
        ] {
            let expected: Vec<_> = paths.iter().map(|path| ((*path).to_owned(), Reason::UnknownRoute)).collect();
            assert_eq!(world.refused(and(channel.clone(), route)), expected);
        }
    }
    let known = and(in_session("lost"), in_conversation(&session(&first).conversation_id));
    assert_eq!(session(&world.send(and(nowhere(), known))), session(&first));
}

#[test]
fn contradictions_are_violations() {
    let world = World::new();
    let first = world.open(and(from("+49 1"), of_customer("c1")));
    let second = world.open(and(on("sales", "+49 2"), of_customer("c2")));
    let (first, second) = (session(&first), session(&second));
    const ADDRESS: &str = "header.channelData.channelCustomerIdentifier";
    const SERVICE: &str = "header.channelData.serviceIdentifier";
    const CONVERSATION: &str = "header.conversationId";
    for (claim, patch, paths) in [
        ("a session on another channel", and(on("sales", "+49 1"), in_session(&first.id)), &[SERVICE][..]),
        ("a session at another address", and(from("+49 2"), in_session(&first.id)), &[ADDRESS]),
        ("a session of another key", and(on("sales", "+49 2"), in_session(&first.id)), &[ADDRESS, SERVICE]),
        (
            "a session in another conversation",
            and(and(nowhere(), in_session(&first.id)), in_conversation(&second.conversation_id)),
            &[CONVERSATION],
        ),
        (
            "all of it",
            and(and(on("sales", "+49 2"), in_session(&first.id)), in_conversation(&second.conversation_id)),
            &[CONVERSATION, ADDRESS, SERVICE],
        ),
        (
            "a conversation on a channel that it is not on",
            and(
                json!({ "header": { "channelData": { "channelCustomerIdentifier": null, "serviceIdentifier": "sales" } } }),
                in_conversation(&first.conversation_id),
            ),
            &[SERVICE],
        ),
        (
            "a conversation and the session of another",
            and(on("sales", "+49 2"), in_conversation(&first.conversation_id)),
            &[CONVERSATION],
        ),
        (
            "a conversation and another customer on a new channel",
            and(and(on("mail", "x"), of_customer("c2")), in_conversation(&first.conversation_id)),
            &[CONVERSATION],
        ),
    ] {
        let expected: Vec<_> = paths.iter().map(|path| ((*path).to_owned(), Reason::ConflictingRoute)).collect();
        assert_eq!(world.refused(patch), expected, "{claim}");
    }
    world.frame(and(end_chat(), on("sales", "+49 2")));
    let known_elsewhere = and(on("sales", "+49 2"), in_conversation(&first.conversation_id));
    assert_eq!(world.refused(known_elsewhere), [(CONVERSATION.to_owned(), Reason::ConflictingRoute)], "its customer is another");
}

#[test]
fn an_empty_customer_id_names_nobody() {
    let world = World::new();
    let first = world.open(of_customer("c1"));
    let joined = world.open(and(and(on("mail", "x"), of_customer("")), in_conversation(&session(&first).conversation_id)));
    assert_eq!(session(&joined).customer_id, "c1");
    assert_eq!(session(&world.send(of_customer(""))).customer_id, "c1");
}

#[test]
fn an_unknown_address_that_names_a_conversation_joins_it() {
    let world = World::new();
    let first = world.open(json!({}));
    let joined = world.open(and(on("mail", "x"), in_conversation(&session(&first).conversation_id)));
    assert_ne!(session(&joined).id, session(&first).id);
    assert_eq!(session(&joined).conversation_id, session(&first).conversation_id);
    assert_eq!(session(&joined).customer_id, session(&first).customer_id);
}

#[test]
fn the_id_of_an_ended_session_leads_to_a_new_session_of_its_key() {
    let world = World::new();
    let first = world.open(json!({}));
    world.frame(end_chat());
    let again = and(nowhere(), in_session(&session(&first).id));
    let second = world.open(again.clone());
    assert_eq!(SessionKey::of(session(&second)), SessionKey::of(session(&first)));
    assert_eq!(session(&second).customer_id, session(&first).customer_id);
    assert_eq!(session(&world.send(again)), session(&second), "there is one already");
}

#[test]
fn a_conversation_that_has_ended_leads_to_a_new_session_of_its_last_key() {
    let world = World::new();
    let first = world.open(json!({}));
    world.frame(end_chat());
    let again = in_conversation(&session(&first).conversation_id);
    let second = world.open(and(nowhere(), again.clone()));
    assert_eq!(SessionKey::of(session(&second)), SessionKey::of(session(&first)));
    assert_ne!(session(&second).conversation_id, session(&first).conversation_id);
    assert_eq!(session(&world.send(again)), session(&second));
}

#[test]
fn notifications_open_nothing_and_are_stored_unrouted_where_nothing_is() {
    for notification in [receipt("m1"), deletion("m1"), news()] {
        let world = World::new();
        let frame = world.frame(and(notification, and(in_session("lost"), in_conversation("lost"))));
        let [stored] = frame.as_slice() else { panic!("there is one") };
        assert!(stored.entry.session.is_none());
        assert_eq!(header(stored).channel_session_id.as_deref(), Some("lost"), "it is as the client sent it");
        assert_eq!(header(stored).customer, None);
    }
}

#[test]
fn a_notification_belongs_to_the_session_of_its_message() {
    let world = World::new();
    let first = world.open(json!({ "id": "m1" }));
    world.frame(end_chat());
    let second = world.open(json!({ "id": "m2" }));
    for notification in [receipt("m1"), deletion("m1")] {
        for route in [json!({}), in_session(&session(&first).id), in_conversation(&session(&first).conversation_id)] {
            let frame = world.frame(and(notification.clone(), route));
            assert_eq!((frame.len(), &session(&frame[0]).id), (1, &session(&first).id));
        }
    }
    let frame = world.frame(receipt("m2"));
    assert_eq!(session(&frame[0]).id, session(&second).id);
}

#[test]
fn a_report_tells_nothing_new_of_the_customer_whatever_header_it_comes_with() {
    let world = World::new();
    let ada = |name: &str, score: u64| json!({ "header": { "customer": { "_id": "c1", "firstName": name, "score": score } } });
    let was = ada("+49 1", 9_007_199_254_740_993);
    world.open(and(json!({ "id": "m1" }), was.clone()));
    let known = world.send(ada("Ada", 9_007_199_254_740_995));
    for report in [receipt("m1"), deletion("m1")] {
        let report = world.frame(and(report, was.clone())).remove(0);
        assert_eq!(customer(&report), customer(&known));
        let numbers = |stored: &Stored| stored.entry.message.as_ref().expect("is a message").exact_numbers.clone();
        assert_eq!(numbers(&report), numbers(&known));
    }
    assert_eq!(customer(&world.send(json!({}))), customer(&known));
    world.send(of_customer("c2"));
    world.frame(and(receipt("m1"), was));
    assert_eq!(session(&world.send(json!({}))).customer_id, "c2");
}

#[test]
fn a_notification_of_an_unknown_message_belongs_to_the_last_session_of_its_key() {
    let world = World::new();
    let first = world.open(json!({}));
    for notification in [receipt("unknown"), deletion("unknown"), news()] {
        let frame = world.frame(notification);
        assert_eq!((frame.len(), &session(&frame[0]).id), (1, &session(&first).id));
    }
    world.frame(end_chat());
    for notification in [receipt("unknown"), deletion("unknown"), news()] {
        let frame = world.frame(notification.clone());
        assert_eq!((frame.len(), &session(&frame[0]).id), (1, &session(&first).id), "also where it has ended");
        let by_id = world.frame(and(and(nowhere(), notification), in_session(&session(&first).id)));
        assert_eq!((by_id.len(), &session(&by_id[0]).id), (1, &session(&first).id));
    }
}

#[test]
fn a_customer_with_an_active_conversation_joins_it_on_a_second_channel() {
    let world = World::new();
    let first = world.open(of_customer("c1"));
    let second = world.open(and(on("web", "visitor"), of_customer("c1")));
    assert_ne!(session(&second).id, session(&first).id);
    assert_eq!(session(&second).conversation_id, session(&first).conversation_id);
    world.frame(end_chat());
    let third = world.open(and(on("mail", "x"), of_customer("c1")));
    assert_eq!(session(&third).conversation_id, session(&first).conversation_id, "one session of it is still active");
    world.frame(and(end_chat(), on("web", "visitor")));
    world.frame(and(end_chat(), on("mail", "x")));
    let fourth = world.open(and(on("web", "visitor"), of_customer("c1")));
    assert_ne!(session(&fourth).conversation_id, session(&first).conversation_id);
}

#[test]
fn a_client_that_names_another_customer_moves_the_session_to_it() {
    let world = World::new();
    let first = world.open(of_customer("c1"));
    let moved = world.send(of_customer("c2"));
    assert_eq!((&session(&moved).id, session(&moved).customer_id.as_str()), (&session(&first).id, "c2"));
    assert_eq!(session(&moved).conversation_id, session(&first).conversation_id);
    assert_eq!(session(&world.send(json!({}))).customer_id, "c2");
    let c1 = world.open(and(on("web", "visitor"), of_customer("c1")));
    assert_ne!(session(&c1).conversation_id, session(&first).conversation_id, "c1 is no longer in it");
    let c2 = world.open(and(on("mail", "x"), of_customer("c2")));
    assert_eq!(session(&c2).conversation_id, session(&first).conversation_id);
}

#[test]
fn what_is_known_of_a_customer_comes_back_in_every_later_message() {
    let world = World::new();
    let exact = 9_007_199_254_740_993_u64;
    world.open(json!({ "header": { "customer": { "_id": "c1", "firstName": "Ada", "score": exact } } }));
    for stored in [world.send(json!({})), world.open(and(on("web", "visitor"), of_customer("c1")))] {
        assert_eq!(customer(&stored).first_name.as_deref(), Some("Ada"));
        let message = stored.entry.message.as_deref().expect("is a message");
        let expected = wire::Exact::from([("/header/customer/score".to_owned(), exact.to_string())]);
        assert_eq!(message.exact_numbers, expected);
    }
}

#[test]
fn what_the_gateway_says_about_an_earlier_message_changes_nothing_of_what_is_known_since() {
    let world = World::new();
    let ada = |score: u64| json!({ "header": { "customer": { "_id": "c1", "firstName": "Ada", "score": score } } });
    let opened = world.open(ada(9_007_199_254_740_993));
    let mut said = gist(opened.entry.message.as_deref().expect("is a message"));
    by_gateway(&mut said, pb::Body::default(), AT);
    let late = Entry { message: Some(said.into()), session: opened.entry.session.clone(), ..Entry::default() };
    for change in [ada(9_007_199_254_740_995), of_customer("c2"), end_chat()] {
        world.frame(change);
        let known = |facts: &dyn Facts| {
            let known = facts.session_facts(&session(&opened).id).expect("is kept");
            (facts.customer(&known.session.customer_id), facts.customer("c1"), known)
        };
        let (mut before, mut late) = (None, late.clone());
        let stage = Box::new(|facts: &dyn Facts| {
            before = Some(known(facts));
            bring_up_to_date(&mut late, facts);
            Ok(vec![late])
        });
        world.memory.append(None, stage).now_or_never().expect("memory never waits").expect("is stored");
        let mut after = None;
        let look = Box::new(|facts: &dyn Facts| {
            after = Some(known(facts));
            Err(Violations::default())
        });
        world.memory.append(None, look).now_or_never().expect("memory never waits").expect_err("only looks");
        assert_eq!(after, before);
    }
}

#[test]
fn an_agent_reaches_the_channel_that_the_customer_went_on_to_whatever_is_reported_of_the_one_before() {
    let by_agent = || json!({ "header": { "sender": { "id": "a1", "type": "AGENT", "senderName": "Agent" } } });
    for report in ["a receipt", "a deletion", "an outcome"] {
        let world = World::new();
        let left = world.open(and(json!({ "id": "m1" }), of_customer("c1")));
        let went_on = world.open(and(on("web", "visitor"), of_customer("c1")));
        assert_eq!(session(&went_on).conversation_id, session(&left).conversation_id);
        let reported = || match report {
            "a receipt" => world.frame(receipt("m1")),
            "a deletion" => world.frame(deletion("m1")),
            _ => world.say_about(&left),
        };
        for _ in 0..2 {
            assert_eq!(session(&reported()[0]).id, session(&left).id);
            let frame = world.frame(and(and(by_agent(), nowhere()), in_conversation(&session(&left).conversation_id)));
            assert_eq!(session(&frame[0]).id, session(&went_on).id, "after {report}");
        }
        // Who is back on the former channel is there again.
        world.send(json!({}));
        let frame = world.frame(and(and(by_agent(), nowhere()), in_conversation(&session(&left).conversation_id)));
        assert_eq!(session(&frame[0]).id, session(&left).id, "after {report}");
    }
}

#[test]
fn of_two_sessions_that_ended_at_once_the_later_one_is_meant_whatever_is_reported_of_the_other() {
    let world = World::new();
    let left = world.open(and(json!({ "id": "m1" }), of_customer("c1")));
    let went_on = world.open(and(on("web", "visitor"), of_customer("c1")));
    world.frame(end_chat());
    world.frame(and(end_chat(), on("web", "visitor")));
    world.frame(receipt("m1"));
    world.say_about(&left);
    let frame = world.frame(and(nowhere(), in_conversation(&session(&left).conversation_id)));
    assert_eq!(SessionKey::of(session(&frame[0])), SessionKey::of(session(&went_on)));
}

#[test]
fn what_the_gateway_says_about_a_message_whose_session_is_forgotten_belongs_to_none() {
    let mut late = Entry { session: Some(Session { id: "forgotten".into(), ..Session::default() }), ..Entry::default() };
    bring_up_to_date(&mut late, &Nothing::default());
    assert_eq!(late.session, None);
}

#[test]
fn what_the_gateway_changed_is_noted_as_it_was_sent() {
    let world = World::new();
    let patch = json!({ "header": {
        "channelSessionId": "lost", "conversationId": null, "customer": { "firstName": "Ada", "score": 9_007_199_254_740_993_u64 },
    } });
    let sent = samples::message(patch.clone()).header.expect("has a header");
    let opened = world.open(patch);
    let noted = opened.entry.submission.as_ref().expect("a client sent it");
    let noted = Routing::decode(noted.routing.as_deref().expect("it was rerouted")).expect("is a routing");
    assert_eq!((noted.channel_session_id.as_deref(), noted.conversation_id.as_deref()), (Some("lost"), None));
    assert_eq!((&noted.channel_data, &noted.customer), (&sent.channel_data, &sent.customer));
    assert_eq!(noted.customer_exact_numbers.len(), 1);
    let whole = json!({ "header": {
        "channelSessionId": session(&opened).id, "conversationId": session(&opened).conversation_id,
        "customer": { "_id": session(&opened).customer_id, "firstName": "Ada", "score": 9_007_199_254_740_993_u64 },
    } });
    let complete = world.send(whole);
    assert_eq!(complete.entry.submission.as_deref(), Some(&Submission::default()), "there was nothing to change");
}

#[test]
fn typing_is_ephemeral_and_opens_nothing() {
    let world = World::new();
    let typing = json!({ "body": { "type": "NOTIFICATION", "notificationType": "TYPING_STARTED", "markdownText": null } });
    assert!(world.frame(typing.clone())[0].entry.session.is_none());
    let first = world.open(json!({}));
    let frame = world.frame(typing);
    assert!(frame[0].entry.ephemeral);
    assert_eq!(session(&frame[0]).id, session(&first).id);
    assert_eq!(frame[0].entry.previous_in_conversation, first.position.0);
}

#[test]
fn entries_are_for_the_audience_of_their_message() {
    let world = World::new();
    let agent = json!({ "header": { "sender": { "id": "a1", "type": "AGENT", "senderName": "Agent" } } });
    assert_eq!(world.open(json!({})).entry.audiences().collect::<Vec<_>>(), [Audience::Platform]);
    assert_eq!(world.send(agent.clone()).entry.audiences().collect::<Vec<_>>(), [Audience::Customer]);
    let whisper = and(agent, json!({ "body": { "isWhisper": true } }));
    assert_eq!(world.send(whisper).entry.audiences().collect::<Vec<_>>(), [Audience::Platform]);
}

#[test]
fn every_message_that_is_stored_is_normalised() {
    let world = World::new();
    world.open(json!({ "header": { "customer": { "score": 9_007_199_254_740_993_u64, "x": null } } }));
    world.send(json!({}));
    world.frame(receipt("m1"));
    world.frame(end_chat());
    let page = crate::store::Page { entries: 99, bytes: usize::MAX };
    let log = world.memory.read(Position(0), page).now_or_never().expect("memory never waits").expect("all is kept");
    assert_eq!(log.len(), 6);
    for stored in log {
        let message = stored.entry.message.as_deref().expect("is a message");
        let mut normalised = message.clone();
        let violations = normalise(&mut normalised, &Bounds { free_form_depth: 24, list_length: 1000 });
        assert!(violations.is_empty(), "{violations:?}");
        assert_eq!(normalised, *message);
        let decoded = wire::decode(&wire::encode(message), 100).expect("is JSON");
        assert_eq!(decoded.message, *message);
    }
}
