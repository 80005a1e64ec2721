//! What has gone wrong in products like this one, and must not here: docs/pitfalls.md has the list.

use super::*;
use crate::support::eventually;
use crate::support::messages::{Wants as _, earliest, said};
use crate::support::process::Process;
use crate::support::receiver::{Call, Reply};
use cim_gateway::pb::body::Kind;
use cim_gateway::pb::delivery_service_client::DeliveryServiceClient;
use cim_gateway::pb::{Delivery, DeliveryStatus, GetDeliveryRequest, ListDeliveriesRequest, SendMessageRequest};
use serde_json::json;
use std::time::{Duration, SystemTime};
use tokio::sync::oneshot;

/// The deliveries that are open.
async fn open(gateway: &Gateway) -> Vec<Delivery> {
    let mut desk = DeliveryServiceClient::connect(format!("http://{}", gateway.grpc)).await.expect("can be connected to");
    let listed = soon("a page", desk.list_deliveries(ListDeliveriesRequest::default())).await;
    listed.expect("can be listed").into_inner().deliveries
}

/// One webhook that takes every call and answers none has as many calls as it may have, and no more of the gateway than that: nothing
/// is answered to anybody else later for it.
#[tokio::test]
async fn a_connector_that_never_answers_delays_no_other() {
    let (_never, mut silence) = (0..64).map(|_| oneshot::channel()).unzip::<_, _, Vec<_>, Vec<_>>();
    let mut silent = Receiver::answering(move |_| silence.pop().map_or(Reply::Status(200), Reply::Later)).await;
    let mut alive = Receiver::willing().await;
    let gateway = gateway().set("delivery.in_flight", 8).set("delivery.sync_wait", "0s").start().await;
    register(gateway.grpc, channel("silent", &silent)).await;
    register(gateway.grpc, channel("alive", &alive)).await;
    let client = gateway.client().await;
    for number in 0..32 {
        client.send(answers("silent", &number.to_string(), "lost for now")).await;
    }
    silent.take(8).await;
    client.send(answers("alive", "ada", "hi")).await;
    assert_eq!(alive.take(2).await[1].said(), "hi");
    assert!(silent.pending().is_empty(), "it has no more calls than it may have");
}

/// A count that stays, or a next attempt that lies in the past, hides that something is tried for ever or not any more.
#[tokio::test]
async fn attempts_that_fail_are_counted_and_the_next_one_is_to_come() {
    let rule = |call: &Call| Reply::Status(if call.said() == "hi" { 500 } else { 200 });
    let mut connector = Receiver::answering(rule).await;
    let gateway = gateway().set("delivery.retries", r#"["20ms", "20ms", "1h"]"#).set("delivery.sync_wait", "0s").start().await;
    register(gateway.grpc, channel("shop", &connector)).await;
    gateway.client().await.send(answers("shop", "ada", "hi")).await;
    let calls = connector.take(4).await;
    // What an attempt has come to is written down when it is over.
    let delivery = eventually("three attempts", async || {
        let delivery = open(&gateway).await.into_iter().find(|delivery| delivery.id == calls[3].id)?;
        assert!(delivery.attempts <= 3, "{delivery:?}");
        (delivery.attempts == 3).then_some(delivery)
    })
    .await;
    let due = SystemTime::try_from(delivery.due_time.expect("another attempt is due")).expect("is a time");
    let wait = due.duration_since(SystemTime::now()).expect("it lies in the future");
    assert!(wait > Duration::from_secs(40 * 60) && wait < Duration::from_secs(75 * 60), "{wait:?}");
}

/// An attempt that was given up may still be answered. The answer is about that attempt, and nobody listens to it any more.
#[tokio::test]
async fn a_late_answer_to_an_attempt_that_was_given_up_settles_nothing() {
    let (mut connector, late) = Receiver::undecided("hi").await;
    let gateway = gateway().set("webhook.timeout", "200ms").set("webhook.connect_timeout", "200ms").start().await;
    register(gateway.grpc, channel("shop", &connector)).await;
    let client = gateway.client().await;
    let request = SendMessageRequest { message: Some(answers("shop", "ada", "hi").with_id("m-1")), delivery_wait: None };
    soon("an answer", client.calls.clone().send_message(request)).await.expect("is accepted");
    let calls = connector.take(3).await;
    assert_eq!(calls[1].id, calls[2].id);
    // Where nobody reads the answer any more, the receiver has noticed that by now.
    let _unheard = late.send(400);
    eventually("all to be settled", async || open(&gateway).await.is_empty().then_some(())).await;
    client.send(answers("shop", "ada", "fence")).await;
    let mut told = Vec::new();
    let mut events = client.subscribe(earliest()).await;
    loop {
        let accepted = events.message().await;
        if said(&accepted) == "fence" {
            break;
        }
        if let Some(Kind::DeliveryNotification(it)) = accepted.message.and_then(|message| message.body?.kind)
            && it.message_id.as_deref() == Some("m-1")
        {
            told.push(it.status());
        }
    }
    assert_eq!(told, [DeliveryStatus::Delivered]);
}

/// What comes of a notification is no news: or else each would make another, on and on.
#[tokio::test]
async fn nothing_is_notified_about_notifications_and_typing() {
    let mut connector = Receiver::willing().await;
    let mut bot = Receiver::willing().await;
    let gateway = gateway().set("delivery.sync_wait", "0s").start().await;
    let bots = Bot { endpoint: Some(endpoint(bot.uri())), format: BotFormat::Cim.into(), id: "bot-1".into(), name: "Bo".into() };
    register(gateway.grpc, Channel { bot: Some(bots), ..channel("shop", &connector) }).await;
    let client = gateway.client().await;
    client.send(answers("shop", "ada", "hi").with_id("m-1")).await;
    client.send(crate::support::messages::typing().by(SenderType::Agent)).await;
    // Both sides have got all that there is about it, each by a delivery of its own.
    loop {
        let call = bot.call().await;
        if call.body["body"]["type"] == "DELIVERYNOTIFICATION" {
            assert_eq!(call.body["body"]["messageId"], "m-1");
            break;
        }
    }
    eventually("all to be settled", async || open(&gateway).await.is_empty().then_some(())).await;
    client.send(answers("shop", "ada", "fence").with_id("m-2")).await;
    eventually("the fence to be settled", async || open(&gateway).await.is_empty().then_some(())).await;
    client.send(answers("elsewhere", "ada", "end")).await;
    let mut events = client.subscribe(earliest()).await;
    let mut about = Vec::new();
    loop {
        let accepted = events.message().await;
        if said(&accepted) == "end" {
            break;
        }
        if let Some(Kind::DeliveryNotification(it)) = accepted.message.and_then(|message| message.body?.kind) {
            about.push(it.message_id.unwrap_or_default());
        }
    }
    assert_eq!(about, ["m-1", "m-2"]);
    connector.take(3).await;
}

/// A status says all: no receiver has to know which words the gateway would like to hear.
#[tokio::test]
async fn a_receiver_may_answer_200_with_any_body() {
    let bodies = [json!("ACK"), json!("error"), json!({ "ok": false }), json!([1, [2]]), json!(null), json!({ "type": "PLAIN" })];
    for body in bodies {
        let answer = body.clone();
        let connector = Receiver::answering(move |_| Reply::With(200, answer.clone())).await;
        let gateway = gateway().start().await;
        register(gateway.grpc, channel("shop", &connector)).await;
        let sent = gateway.client().await.send(answers("shop", "ada", "hi")).await;
        assert_eq!(sent.outcome.map(|outcome| outcome.status()), Some(DeliveryStatus::Delivered), "{body}");
    }
}

/// What waits for a connector when a chat ends comes before what the next chat begins with.
#[tokio::test]
async fn a_session_that_ends_with_a_backlog_is_told_before_the_next_one() {
    let rule = {
        let mut calls = 0;
        move |_: &Call| {
            calls += 1;
            Reply::Status(if calls <= 4 { 503 } else { 200 })
        }
    };
    let mut connector = Receiver::answering(rule).await;
    let gateway = gateway().set("delivery.sync_wait", "0s").start().await;
    register(gateway.grpc, channel("shop", &connector)).await;
    let client = gateway.client().await;
    let first = client.send(answers("shop", "ada", "one")).await;
    client.send(answers("shop", "ada", "two")).await;
    client.send(says("shop", "ada", "bye").with_intent("END_CHAT")).await;
    let second = client.send(answers("shop", "ada", "three")).await;
    assert_ne!(first.channel_session_id, second.channel_session_id);
    let mut calls = connector.take(10).await;
    calls.drain(..4);
    let heard: Vec<_> =
        calls.iter().map(|call| (call.said(), call.body["header"]["channelSessionId"].as_str().unwrap_or_default())).collect();
    let (first, second) = (first.channel_session_id.as_str(), second.channel_session_id.as_str());
    let expected = [
        ("CHANNEL_SESSION_STARTED", first),
        ("one", first),
        ("two", first),
        ("CHANNEL_SESSION_ENDED", first),
        ("CHANNEL_SESSION_STARTED", second),
        ("three", second),
    ];
    assert_eq!(heard, expected.map(|(said, session)| (said.to_owned(), session)));
}

/// A bot that has heard a message when the gateway is killed is asked again under the same id, and what it says is one message.
#[tokio::test]
async fn a_bot_that_is_asked_again_after_a_crash_is_heard_once() {
    let (_never, undecided) = oneshot::channel();
    let mut undecided = Some(undecided);
    let rule = move |call: &Call| match (call.body["type"].as_str(), undecided.take()) {
        (Some("message"), Some(undecided)) => Reply::Later(undecided),
        (Some("message"), None) => Reply::With(200, json!({ "body": { "type": "PLAIN", "markdownText": "hello" } })),
        (_, kept) => {
            undecided = kept;
            Reply::Status(200)
        }
    };
    let mut bot = Receiver::answering(rule).await;
    let folder = tempfile::tempdir().expect("a folder can be made");
    let data_dir = folder.path().join("data");
    let data_dir = data_dir.display();
    let settings: [(&str, &dyn std::fmt::Display); 3] =
        [("store.embedded.data_dir", &data_dir), ("webhook.allow", &r#"["127.0.0.0/8"]"#), ("delivery.sync_wait", &"0s")];
    let first = Process::start(&settings).await;
    let bots = Bot { endpoint: Some(endpoint(bot.uri())), format: BotFormat::Bot.into(), id: "bot-1".into(), name: "Bo".into() };
    let shop = Channel { service_identifier: "shop".into(), channel_type: "WEB".into(), bot: Some(bots), ..Channel::default() };
    register(first.grpc, shop).await;
    first.client().await.send(says("shop", "ada", "hi").with_id("m-1")).await;
    let before = bot.take(2).await.remove(1);
    first.signal("KILL");
    first.ended().await;

    let second = Process::start(&settings).await;
    let again = loop {
        let call = bot.call().await;
        if call.body["type"] == "message" {
            break call;
        }
    };
    assert_eq!((&again.id, &again.body), (&before.id, &before.body));
    let client = second.client().await;
    let mut events = client.subscribe(earliest().on("shop")).await;
    events.until("hello").await;
    // Asked about something else, it says something else.
    client.send(says("shop", "ada", "thanks").with_id("m-2")).await;
    assert_eq!(events.until("hello").await.iter().filter(|said| *said == "thanks").count(), 1);
}

/// Whoever repeats a message because no answer came wants to know what became of it, as the first one did.
#[tokio::test]
async fn a_repeat_waits_for_the_outcome_as_the_first_one_does() {
    let (mut connector, decide) = Receiver::undecided("hi").await;
    let gateway = gateway().start().await;
    register(gateway.grpc, channel("shop", &connector)).await;
    let message = answers("shop", "ada", "hi").with_id("m-1").at(1_700_000_000);
    let send = |client: crate::support::client::Client| {
        let message = message.clone();
        tokio::spawn(async move { client.send(message).await })
    };
    let first = send(gateway.client().await);
    connector.take(2).await;
    let repeat = send(gateway.client().await);
    // Whether the repeat waits already or not: it learns what is decided. That both may wait is shown where they do.
    decide.send(200).expect("the attempt is under way");
    let (first, repeat) = (first.await.expect("is answered"), repeat.await.expect("is answered"));
    assert_eq!((first.duplicate, repeat.duplicate), (false, true));
    for sent in [first, repeat] {
        assert_eq!(sent.outcome.map(|outcome| outcome.status()), Some(DeliveryStatus::Delivered));
    }
}

/// Each delivery is found under the id that its receiver saw, for as long as it is not settled.
#[tokio::test]
async fn the_oldest_that_waits_is_listed_first_with_its_age() {
    let connector = Receiver::answering(|_| Reply::Status(503)).await;
    let gateway = gateway().set("delivery.sync_wait", "0s").start().await;
    register(gateway.grpc, channel("shop", &connector)).await;
    let client = gateway.client().await;
    for number in 0..5 {
        client.send(answers("shop", &format!("customer-{number}"), "hi")).await;
    }
    let waiting = open(&gateway).await;
    assert_eq!(waiting.len(), 10);
    let ages: Vec<_> = waiting.iter().map(|delivery| delivery.accepted_at.expect("says since when")).collect();
    assert!(ages.is_sorted_by_key(|at| (at.seconds, at.nanos)), "{ages:?}");
    let mut desk = DeliveryServiceClient::connect(format!("http://{}", gateway.grpc)).await.expect("can be connected to");
    let oldest = soon("it", desk.get_delivery(GetDeliveryRequest { id: waiting[0].id.clone() })).await.expect("is open");
    assert_eq!(oldest.into_inner().delivery.map(|delivery| delivery.id), Some(waiting[0].id.clone()));
}
