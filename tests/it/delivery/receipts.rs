//! Receipts: what connectors tell of messages, in whatever order and by whatever id, and what became of a message by all of them.

use super::*;
use crate::support::eventually;
use crate::support::messages::latest;
use crate::support::receiver::Reply;
use cim_gateway::pb::body::Kind;
use cim_gateway::pb::message_event::Event;
use cim_gateway::pb::{
    DeliveryNotificationBody, DeliveryState, DeliveryStatus, GetMessageRequest, GetMessageResponse, SendMessageRequest,
    SendMessageResponse,
};
use serde_json::json;
use std::time::Duration;

use DeliveryStatus::{Connected, Delivered, Failed, Read};

/// What the connector of a channel tells of a message that it calls by an id.
fn receipt(channel: &str, id: &str, status: DeliveryStatus) -> CimMessage {
    let body = DeliveryNotificationBody { message_id: Some(id.into()), status: status.into(), reason_code: Some("200".into()) };
    says(channel, "ada", "").with_body(Kind::DeliveryNotification(body))
}

/// The same, with the id that the provider has for it.
fn provided(mut message: CimMessage, id: &str) -> CimMessage {
    message.header_mut().provider_message_id = Some(id.into());
    message
}

async fn followed(gateway: &Gateway, id: &str) -> GetMessageResponse {
    let mut calls = gateway.client().await.calls;
    let request = GetMessageRequest { message_id: id.into() };
    soon("an answer to GetMessage", calls.get_message(request)).await.expect("is found").into_inner()
}

/// The receipts of a message, each with whether it counts.
fn receipts(message: &GetMessageResponse) -> Vec<(DeliveryStatus, bool)> {
    let receipt = |event: &Option<Event>| match event {
        Some(Event::Receipt(receipt)) => Some((receipt.outcome.as_ref()?.status(), receipt.counts)),
        _ => None,
    };
    message.timeline.iter().filter_map(|event| receipt(&event.event)).collect()
}

/// The steps of its deliveries: the state after each, the attempts that counted, and the status of the answer.
fn steps(message: &GetMessageResponse) -> Vec<(DeliveryState, u32, Option<u32>)> {
    let step = |event: &Option<Event>| match event {
        Some(Event::Delivery(step)) => Some((step.state(), step.attempts, step.attempt.as_ref().map(|attempt| attempt.status))),
        _ => None,
    };
    message.timeline.iter().filter_map(|event| step(&event.event)).collect()
}

fn outcome(message: &GetMessageResponse) -> Option<DeliveryStatus> {
    message.outcome.as_ref().map(cim_gateway::pb::DeliveryOutcome::status)
}

/// A message to a customer on a channel that nobody is registered for: it is for whoever reads the stream.
async fn sent(gateway: &Gateway, id: &str) -> SendMessageResponse {
    gateway.client().await.send(answers("shop", "ada", "hi").with_id(id)).await
}

#[tokio::test]
async fn a_message_goes_forward_only_however_late_and_often_its_receipts_come() {
    let gateway = gateway().start().await;
    sent(&gateway, "m-1").await;
    assert_eq!(outcome(&followed(&gateway, "m-1").await), None);
    let client = gateway.client().await;
    for status in [Delivered, Read, Delivered, Read, Failed, Connected] {
        client.send(receipt("shop", "m-1", status)).await;
    }
    let message = followed(&gateway, "m-1").await;
    assert_eq!(outcome(&message), Some(Read));
    let expected = [(Delivered, true), (Read, true), (Delivered, false), (Read, false), (Failed, false), (Connected, false)];
    assert_eq!(receipts(&message), expected);
}

#[tokio::test]
async fn a_call_that_was_delivered_may_fail_and_one_that_failed_may_be_connected_after_all() {
    let gateway = gateway().start().await;
    sent(&gateway, "m-1").await;
    let client = gateway.client().await;
    for status in [Delivered, Failed, Delivered, Connected] {
        client.send(receipt("shop", "m-1", status)).await;
    }
    let message = followed(&gateway, "m-1").await;
    assert_eq!(receipts(&message), [(Delivered, true), (Failed, true), (Delivered, false), (Connected, true)]);
    assert_eq!(outcome(&message), Some(Connected));
}

#[tokio::test]
async fn a_receipt_by_the_providers_id_is_about_the_message_even_if_it_came_before_anybody_knew_that_id() {
    let gateway = gateway().start().await;
    sent(&gateway, "m-1").await;
    let client = gateway.client().await;
    let waiting = client.send(provided(receipt("shop", "wamid.1", Delivered), "wamid.1")).await;
    client.send(receipt("shop", "wamid.1", Delivered)).await;
    assert!(receipts(&followed(&gateway, "m-1").await).is_empty());
    assert!(!waiting.message_id.is_empty());
    client.send(provided(receipt("shop", "m-1", Delivered), "wamid.1")).await;
    let message = followed(&gateway, "m-1").await;
    assert_eq!(receipts(&message), [(Delivered, true), (Delivered, false), (Delivered, false)]);
    client.send(provided(receipt("shop", "who knows", Read), "wamid.1")).await;
    client.send(receipt("shop", "wamid.1", Failed)).await;
    let message = followed(&gateway, "m-1").await;
    assert_eq!(receipts(&message)[3..], [(Read, true), (Failed, false)]);
    assert_eq!(outcome(&message), Some(Read));
}

#[tokio::test]
async fn a_receipt_by_the_id_that_the_client_had_sent_is_about_the_latest_message_under_it() {
    let gateway = gateway().set("inbox.reused_id.grpc", "renew").start().await;
    sent(&gateway, "call").await;
    let renewed = gateway.client().await.send(answers("shop", "ada", "again").with_id("call")).await;
    gateway.client().await.send(receipt("shop", "call", Delivered)).await;
    assert_eq!(receipts(&followed(&gateway, &renewed.message_id).await), [(Delivered, true)]);
    assert!(receipts(&followed(&gateway, "call").await).is_empty());
}

#[tokio::test]
async fn a_receipt_from_the_wrong_side_or_another_channel_changes_nothing() {
    let gateway = gateway().start().await;
    sent(&gateway, "m-1").await;
    let client = gateway.client().await;
    client.send(says("other", "ada", "hello")).await;
    client.send(receipt("shop", "m-1", Read).by(SenderType::Agent)).await;
    client.send(receipt("other", "m-1", Read)).await;
    client.send(receipt("shop", "m-1", Delivered)).await;
    let message = followed(&gateway, "m-1").await;
    assert_eq!(receipts(&message), [(Read, false), (Read, false), (Delivered, true)]);
    assert_eq!(outcome(&message), Some(Delivered));
    // Of what a customer says agents tell.
    let said = client.send(says("shop", "ada", "hello")).await;
    client.send(receipt("shop", &said.message_id, Delivered)).await;
    client.send(receipt("shop", &said.message_id, Read).by(SenderType::Agent)).await;
    assert_eq!(receipts(&followed(&gateway, &said.message_id).await), [(Delivered, false), (Read, true)]);
}

#[tokio::test]
async fn a_receipt_about_a_message_that_nobody_knows_is_accepted_and_streamed() {
    let gateway = gateway().start().await;
    let client = gateway.client().await;
    let mut events = client.subscribe(latest()).await;
    let told = client.send(receipt("shop", "who", Read)).await;
    let streamed = events.message().await.message.expect("is one");
    assert_eq!(streamed.id, Some(told.message_id));
    assert!(client.message("who").await.is_err());
}

#[tokio::test]
async fn who_asked_to_wait_is_answered_by_the_receipt_of_a_webhook_that_took_the_message_for_now() {
    let mut connector = Receiver::answering(|_| Reply::Status(202)).await;
    let gateway = gateway().start().await;
    register(gateway.grpc, channel("shop", &connector)).await;
    let waiting = waiting(&gateway, "m-1").await;
    connector.take(2).await;
    eventually("the webhook's answer in the log", async || {
        (steps(&followed(&gateway, "m-1").await) == [(DeliveryState::Accepted, 1, Some(202))]).then_some(())
    })
    .await;
    gateway.client().await.send(receipt("shop", "m-1", Failed)).await;
    assert_eq!(told(waiting).await, Some(Failed));
    assert_eq!(outcome(&followed(&gateway, "m-1").await), Some(Failed));
}

#[tokio::test]
async fn who_asked_to_wait_is_answered_by_the_receipt_of_a_connector_that_reads_the_stream() {
    let gateway = gateway().start().await;
    let client = gateway.client().await;
    let mut events = client.subscribe(latest()).await;
    let waiting = waiting(&gateway, "m-1").await;
    events.until("hi").await;
    client.send(receipt("shop", "m-1", Delivered)).await;
    assert_eq!(told(waiting).await, Some(Delivered));
}

/// A sender that waits for as long as it may.
async fn waiting(gateway: &Gateway, id: &str) -> tokio::task::JoinHandle<SendMessageResponse> {
    let mut calls = gateway.client().await.calls;
    let request = SendMessageRequest {
        message: Some(answers("shop", "ada", "hi").with_id(id)),
        delivery_wait: Some(Duration::from_secs(30).try_into().expect("is one")),
    };
    tokio::spawn(async move { calls.send_message(request).await.expect("is accepted").into_inner() })
}

async fn told(waiting: tokio::task::JoinHandle<SendMessageResponse>) -> Option<DeliveryStatus> {
    let response = soon("an answer to who waits", waiting).await.expect("does not panic");
    response.outcome.map(|outcome| outcome.status())
}

#[tokio::test]
async fn a_repeat_of_a_settled_message_is_answered_with_its_outcome() {
    let connector = Receiver::answering(|call| Reply::Status(if call.said() == "bad" { 400 } else { 200 })).await;
    let gateway = gateway().start().await;
    register(gateway.grpc, channel("shop", &connector)).await;
    let client = gateway.client().await;
    for (id, text, expected) in [("m-1", "good", Delivered), ("m-2", "bad", Failed)] {
        for duplicate in [false, true] {
            let sent = client.send(answers("shop", "ada", text).with_id(id).at(1_700_000_000)).await;
            assert_eq!((sent.duplicate, sent.outcome.map(|outcome| outcome.status())), (duplicate, Some(expected)));
        }
    }
    client.send(receipt("shop", "m-1", Read)).await;
    let sent = client.send(answers("shop", "ada", "good").with_id("m-1").at(1_700_000_000)).await;
    assert_eq!(sent.outcome.map(|outcome| outcome.status()), Some(Read));
}

#[tokio::test]
async fn a_timeline_has_every_attempt_and_the_gateways_own_notification() {
    let mut answers_left = vec![200, 500, 500];
    let connector =
        Receiver::answering(move |call| Reply::Status(if call.said() == "hi" { answers_left.pop().unwrap_or(200) } else { 200 }))
            .await;
    let gateway = gateway().start().await;
    register(gateway.grpc, channel("shop", &connector)).await;
    sent(&gateway, "m-1").await;
    let message = eventually("the outcome", async || {
        let message = followed(&gateway, "m-1").await;
        message.outcome.is_some().then_some(message)
    })
    .await;
    let (pending, delivered) = (DeliveryState::Pending, DeliveryState::Delivered);
    assert_eq!(steps(&message), [(pending, 1, Some(500)), (pending, 2, Some(500)), (delivered, 3, Some(200))]);
    assert_eq!(receipts(&message), [(Delivered, true)]);
    assert!(message.timeline.iter().all(|event| event.time.is_some()));
}

/// A connector whose answer tells what its provider calls the message.
async fn naming_the_providers_id(status: u16) -> Receiver {
    let notification = json!({
        "id": "n", "header": { "providerMessageId": "wamid.9" },
        "body": { "type": "DELIVERYNOTIFICATION", "status": "DELIVERED", "reasonCode": "200" },
    });
    Receiver::answering(move |_| Reply::With(status, notification.clone())).await
}

#[tokio::test]
async fn the_providers_id_in_a_connectors_answer_is_learned() {
    let connector = naming_the_providers_id(200).await;
    let gateway = gateway().start().await;
    register(gateway.grpc, channel("shop", &connector)).await;
    let sent = sent(&gateway, "m-1").await;
    assert_eq!(sent.outcome.map(|outcome| outcome.status()), Some(Delivered));
    gateway.client().await.send(receipt("shop", "wamid.9", Read)).await;
    assert_eq!(outcome(&followed(&gateway, "m-1").await), Some(Read));
}

#[tokio::test]
async fn a_receipt_that_is_faster_than_the_connectors_answer_with_the_providers_id_counts() {
    let connector = naming_the_providers_id(200).await;
    let gateway = gateway().start().await;
    register(gateway.grpc, channel("shop", &connector)).await;
    gateway.client().await.send(receipt("shop", "wamid.9", Read)).await;
    sent(&gateway, "m-1").await;
    assert_eq!(outcome(&followed(&gateway, "m-1").await), Some(Read));
}

#[tokio::test]
async fn a_receipt_is_about_the_message_of_its_own_channel_whatever_ids_others_choose() {
    let gateway = gateway().start().await;
    sent(&gateway, "1").await;
    let client = gateway.client().await;
    client.send(answers("other", "ada", "hi").with_id("wamid.1")).await;
    client.send(provided(receipt("shop", "1", Delivered), "wamid.1")).await;
    client.send(receipt("shop", "wamid.1", Read)).await;
    assert_eq!(outcome(&followed(&gateway, "1").await), Some(Read));
}

#[tokio::test]
async fn the_providers_id_in_the_answer_of_a_connector_that_is_yet_to_tell_the_outcome_is_learned() {
    let connector = naming_the_providers_id(202).await;
    let gateway = gateway().start().await;
    register(gateway.grpc, channel("shop", &connector)).await;
    assert_eq!(sent(&gateway, "m-1").await.outcome, None);
    assert_eq!(outcome(&followed(&gateway, "m-1").await), None);
    gateway.client().await.send(receipt("shop", "wamid.9", Delivered)).await;
    gateway.client().await.send(provided(receipt("shop", "who knows", Read), "wamid.9")).await;
    let message = followed(&gateway, "m-1").await;
    assert_eq!(receipts(&message), [(Delivered, true), (Read, true)]);
    assert_eq!(steps(&message), [(DeliveryState::Accepted, 1, Some(202))]);
}

#[tokio::test]
async fn a_receipt_that_is_faster_than_the_answer_of_a_connector_that_is_yet_to_tell_the_outcome_counts() {
    let connector = naming_the_providers_id(202).await;
    let gateway = gateway().start().await;
    register(gateway.grpc, channel("shop", &connector)).await;
    let client = gateway.client().await;
    for status in [Delivered, Read] {
        client.send(receipt("shop", "wamid.9", status)).await;
    }
    // Who waits for what the connector is yet to tell need not wait: it has told.
    assert_eq!(told(waiting(&gateway, "m-1").await).await, Some(Read));
    let message = followed(&gateway, "m-1").await;
    assert_eq!(receipts(&message), [(Delivered, true), (Read, true)]);
}

#[tokio::test]
async fn a_receipt_is_about_the_message_of_its_own_channel_also_where_a_client_sent_the_same_id_on_another_one_later() {
    let gateway = gateway().set("inbox.reused_id.grpc", "renew").start().await;
    sent(&gateway, "1").await;
    let client = gateway.client().await;
    let other = client.send(answers("other", "ada", "hi").with_id("1")).await;
    assert_ne!(other.message_id, "1");
    client.send(receipt("shop", "1", Delivered)).await;
    client.send(receipt("other", "1", Read)).await;
    assert_eq!(receipts(&followed(&gateway, "1").await), [(Delivered, true)]);
    assert_eq!(receipts(&followed(&gateway, &other.message_id).await), [(Read, true)]);
    // Where its own channel has none of the id, a receipt is about what there is, and does not count.
    client.send(receipt("third", "1", Failed)).await;
    assert_eq!(receipts(&followed(&gateway, &other.message_id).await), [(Read, true), (Failed, false)]);
}
