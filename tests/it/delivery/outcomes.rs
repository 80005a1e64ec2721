//! What senders learn of their messages.

use super::*;
use crate::sessions::session;
use crate::support::messages::earliest;
use crate::support::receiver::{Call, Reply};
use cim_gateway::pb::body::Kind;
use cim_gateway::pb::{AcceptedMessage, DeliveryStatus, SendMessageRequest, SendMessageResponse};
use serde_json::json;
use std::time::Duration;

/// The delivery notifications about a message, as (status, reason code).
async fn notified(gateway: &Gateway, id: &str, count: usize) -> Vec<(DeliveryStatus, String)> {
    let mut events = gateway.client().await.subscribe(earliest()).await;
    let mut found = Vec::new();
    while found.len() < count {
        let AcceptedMessage { message, .. } = events.message().await;
        let body = message.and_then(|message| message.body).expect("has a body");
        if let Some(Kind::DeliveryNotification(notification)) = body.kind
            && notification.message_id.as_deref() == Some(id)
        {
            found.push((notification.status(), notification.reason_code.unwrap_or_default()));
        }
    }
    found
}

fn outcome(response: &SendMessageResponse) -> Option<(DeliveryStatus, &str)> {
    response.outcome.as_ref().map(|outcome| (outcome.status(), outcome.reason_code.as_str()))
}

#[tokio::test]
async fn a_message_that_the_connector_takes_is_delivered_and_both_sides_learn_it() {
    let mut connector = Receiver::willing().await;
    let gateway = gateway().start().await;
    register(gateway.grpc, channel("shop", &connector)).await;
    let sent = gateway.client().await.send(answers("shop", "ada", "hi").with_id("m-1")).await;
    assert_eq!(outcome(&sent), Some((DeliveryStatus::Delivered, "200")));
    // What opened the session is told first.
    let calls = connector.take(2).await;
    assert_eq!(calls.iter().map(Call::said).collect::<Vec<_>>(), ["CHANNEL_SESSION_STARTED", "hi"]);
    assert_eq!((calls[1].path.as_str(), &calls[1].body["id"]), ("/message/receive", &json!("m-1")));
    assert_eq!(calls[1].body["header"]["channelSessionId"], json!(sent.channel_session_id));
    assert_eq!(calls[1].body["header"]["channelData"]["channelCustomerIdentifier"], "ada");
    assert_eq!(notified(&gateway, "m-1", 1).await, [(DeliveryStatus::Delivered, "200".into())]);
}

#[tokio::test]
async fn a_session_that_ends_while_its_message_is_on_its_way_stays_ended() {
    let (mut connector, decide) = Receiver::undecided("answer").await;
    let gateway = gateway().set("delivery.sync_wait", "0s").start().await;
    register(gateway.grpc, channel("shop", &connector)).await;
    let client = gateway.client().await;
    let sent = client.send(says("shop", "ada", "hi")).await;
    client.send(answers("shop", "ada", "answer").with_id("m-1")).await;
    connector.take(2).await;
    client.send(says("shop", "ada", "bye").with_intent("END_CHAT")).await;
    let before = session(&client, &sent.channel_session_id).await.expect("is kept");
    assert!(before.ended_at.is_some());
    decide.send(200).expect("the attempt is under way");
    notified(&gateway, "m-1", 1).await;
    assert_eq!(session(&client, &sent.channel_session_id).await.expect("is kept"), before);
}

#[tokio::test]
async fn an_outcome_is_no_activity_of_the_customer() {
    let connector = Receiver::willing().await;
    let gateway = gateway().start().await;
    register(gateway.grpc, channel("shop", &connector)).await;
    let client = gateway.client().await;
    let sent = client.send(says("shop", "ada", "hi")).await;
    let before = session(&client, &sent.channel_session_id).await.expect("is kept");
    client.send(answers("shop", "ada", "answer").with_id("m-1")).await;
    notified(&gateway, "m-1", 1).await;
    assert_eq!(session(&client, &sent.channel_session_id).await.expect("is kept"), before);
}

#[tokio::test]
async fn a_call_is_signed_and_carries_the_id_of_its_delivery() {
    let mut connector = Receiver::willing().await;
    let gateway = gateway().start().await;
    let mut channel = channel("shop", &connector);
    channel.connector = Some(endpoint(format!("{}/cim", connector.uri())));
    let secrets = vec!["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned()];
    channel.connector.get_or_insert_default().signing_secrets = Some(SigningSecrets { secrets });
    register(gateway.grpc, channel).await;
    gateway.client().await.send(answers("shop", "ada", "hi")).await;
    for call in connector.take(2).await {
        assert!(call.headers["webhook-signature"].to_str().expect("is text").starts_with("v1,"));
        assert!(!call.id.is_empty());
        assert_eq!(call.path, "/cim");
        assert!(call.headers.contains_key("webhook-timestamp") && call.headers.contains_key("traceparent"));
    }
}

#[tokio::test]
async fn a_message_that_the_connector_refuses_has_failed_and_is_not_sent_again() {
    let mut connector = Receiver::answering(|call| Reply::Status(if call.said() == "bad" { 400 } else { 200 })).await;
    let gateway = gateway().start().await;
    register(gateway.grpc, channel("shop", &connector)).await;
    let client = gateway.client().await;
    let sent = client.send(answers("shop", "ada", "bad").with_id("m-1")).await;
    assert_eq!(outcome(&sent), Some((DeliveryStatus::Failed, "400")));
    client.send(answers("shop", "ada", "good")).await;
    let said: Vec<_> = connector.take(3).await.iter().map(Call::said).collect();
    assert_eq!(said, ["CHANNEL_SESSION_STARTED", "bad", "good"]);
    assert_eq!(notified(&gateway, "m-1", 1).await, [(DeliveryStatus::Failed, "400".into())]);
}

#[tokio::test]
async fn a_receiver_says_why_in_a_delivery_notification_of_its_own() {
    let notification =
        json!({ "type": "DELIVERYNOTIFICATION", "status": "FAILED", "reasonCode": "NO_ANSWER", "markdownText": "rang out" });
    let connector = Receiver::answering(move |_| Reply::With(200, notification.clone())).await;
    let gateway = gateway().start().await;
    register(gateway.grpc, channel("shop", &connector)).await;
    let sent = gateway.client().await.send(answers("shop", "ada", "call")).await;
    let told = sent.outcome.expect("it is known");
    assert_eq!((told.status(), told.reason_code.as_str(), told.text.as_str()), (DeliveryStatus::Failed, "NO_ANSWER", "rang out"));
}

#[tokio::test]
async fn who_says_202_tells_the_outcome_later_and_nobody_waits_for_it() {
    let connector = Receiver::answering(|_| Reply::Status(202)).await;
    let gateway = gateway().start().await;
    register(gateway.grpc, channel("shop", &connector)).await;
    let sent = gateway.client().await.send(answers("shop", "ada", "hi")).await;
    assert_eq!(outcome(&sent), None);
}

#[tokio::test]
async fn who_does_not_want_to_wait_is_answered_at_once() {
    let (_decide, decided) = tokio::sync::oneshot::channel();
    let mut decided = Some(decided);
    let connector = Receiver::answering(move |_| decided.take().map_or(Reply::Status(200), Reply::Later)).await;
    let gateway = gateway().start().await;
    register(gateway.grpc, channel("shop", &connector)).await;
    let request = SendMessageRequest {
        message: Some(answers("shop", "ada", "hi")),
        delivery_wait: Some(Duration::ZERO.try_into().expect("is one")),
    };
    let sent = soon("an answer", gateway.client().await.calls.send_message(request)).await.expect("is accepted").into_inner();
    assert_eq!(outcome(&sent), None);
}

#[tokio::test]
async fn who_waits_is_answered_as_soon_as_no_outcome_can_come_in_time() {
    let connector = Receiver::answering(|_| Reply::Status(500)).await;
    // Waiting for the outcome would take longer than this test may.
    let gateway = gateway().set("delivery.sync_wait", "30s").set("delivery.retries", r#"["10m"]"#).start().await;
    register(gateway.grpc, channel("shop", &connector)).await;
    let begun = std::time::Instant::now();
    let sent = gateway.client().await.send(answers("shop", "ada", "hi")).await;
    assert_eq!(outcome(&sent), None);
    assert!(begun.elapsed() < Duration::from_secs(25), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_channel_without_webhooks_is_streamed_only() {
    let gateway = gateway().start().await;
    let channel = Channel { service_identifier: "shop".into(), channel_type: "WEB".into(), ..Channel::default() };
    register(gateway.grpc, channel).await;
    let client = gateway.client().await;
    let sent = client.send(answers("shop", "ada", "hi")).await;
    assert_eq!(outcome(&sent), None);
    assert_eq!(client.subscribe(earliest()).await.until("hi").await, ["CHANNEL_SESSION_STARTED"]);
}
