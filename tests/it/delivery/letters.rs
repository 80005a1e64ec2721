//! Dead letters, and what can be done about what is not settled.

use super::*;
use crate::support::eventually;
use crate::support::receiver::{Call, Reply};
use cim_gateway::pb::delivery_service_client::DeliveryServiceClient;
use cim_gateway::pb::{
    Delivery, DeliveryState, DiscardDeliveryRequest, GetDeliveryRequest, ListDeliveriesRequest, RedriveDeliveriesRequest,
    RedriveDeliveryRequest,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use tonic::Code;
use tonic::transport;

type Desk = DeliveryServiceClient<transport::Channel>;

async fn desk(gateway: &Gateway) -> Desk {
    Desk::connect(format!("http://{}", gateway.grpc)).await.expect("can be connected to")
}

async fn listed(desk: &mut Desk, state: DeliveryState) -> Vec<Delivery> {
    let (mut found, mut token) = (Vec::new(), String::new());
    loop {
        let request = ListDeliveriesRequest { state: state.into(), page_size: 2, page_token: token, ..Default::default() };
        let page = soon("a page", desk.list_deliveries(request)).await.expect("can be listed").into_inner();
        found.extend(page.deliveries);
        token = page.next_page_token;
        if token.is_empty() {
            return found;
        }
    }
}

/// Waits until there are so many dead letters.
async fn dead(desk: &mut Desk, count: usize) -> Vec<Delivery> {
    eventually("dead letters", async || {
        let found = listed(desk, DeliveryState::Dead).await;
        (found.len() == count).then_some(found)
    })
    .await
}

/// A connector whose answer to all but notifications can be changed.
async fn moody() -> (Receiver, Arc<AtomicU16>) {
    let mood = Arc::new(AtomicU16::new(400));
    let answer = mood.clone();
    let rule = move |call: &Call| {
        Reply::Status(if call.body["body"]["type"] == "NOTIFICATION" { 200 } else { answer.load(Ordering::Acquire) })
    };
    (Receiver::answering(rule).await, mood)
}

#[tokio::test]
async fn what_is_given_up_is_a_dead_letter_that_can_be_redriven_as_a_new_delivery() {
    let (mut connector, mood) = moody().await;
    let gateway = gateway().start().await;
    let registered = register(gateway.grpc, channel("shop", &connector)).await;
    gateway.client().await.send(answers("shop", "ada", "hi").with_id("m-1")).await;
    let refused = connector.take(2).await.remove(1);
    let mut desk = desk(&gateway).await;
    let letters = dead(&mut desk, 1).await;
    assert_eq!((letters[0].message_id.as_str(), &letters[0].channel_id), ("m-1", &registered.id));
    assert_eq!((letters[0].id.as_str(), letters[0].attempts), (refused.id.as_str(), 1));
    mood.store(200, Ordering::Release);
    let request = RedriveDeliveryRequest { id: letters[0].id.clone() };
    let redriven = desk.redrive_delivery(request.clone()).await.expect("is redriven").into_inner().delivery.expect("is there");
    let call = connector.call().await;
    assert_eq!((call.said().as_str(), &call.id, call.body["id"].as_str()), ("hi", &redriven.id, Some("m-1")));
    assert_ne!(call.id, refused.id);
    assert!(listed(&mut desk, DeliveryState::Dead).await.is_empty());
    let again = desk.redrive_delivery(request).await.expect_err("it is one no more");
    assert_eq!(again.code(), Code::NotFound);
}

#[tokio::test]
async fn many_dead_letters_are_redriven_at_once() {
    let (mut connector, mood) = moody().await;
    let gateway = gateway().start().await;
    let registered = register(gateway.grpc, channel("shop", &connector)).await;
    let client = gateway.client().await;
    for number in 0..5 {
        client.send(answers("shop", "ada", &number.to_string())).await;
    }
    connector.take(6).await;
    let mut desk = desk(&gateway).await;
    dead(&mut desk, 5).await;
    mood.store(200, Ordering::Release);
    let other = RedriveDeliveriesRequest { channel_id: "another".into(), ..RedriveDeliveriesRequest::default() };
    assert_eq!(desk.redrive_deliveries(other).await.expect("is done").into_inner().redriven, 0);
    let all = RedriveDeliveriesRequest { channel_id: registered.id, ..RedriveDeliveriesRequest::default() };
    let done = desk.redrive_deliveries(all).await.expect("is done").into_inner();
    assert_eq!((done.redriven, done.more), (5, false));
    let said: Vec<_> = connector.take(5).await.iter().map(Call::said).collect();
    assert_eq!(said, ["0", "1", "2", "3", "4"]);
}

#[tokio::test]
async fn what_is_discarded_is_not_delivered_and_what_follows_goes_on() {
    let (mut connector, mood) = moody().await;
    mood.store(500, Ordering::Release);
    let gateway = gateway()
        .set("delivery.sync_wait", "0s")
        .set("delivery.retries", r#"["20ms", "10m"]"#)
        .set("delivery.hold", "1h")
        .start()
        .await;
    register(gateway.grpc, channel("shop", &connector)).await;
    let client = gateway.client().await;
    client.send(answers("shop", "ada", "stuck").with_id("m-1")).await;
    client.send(answers("shop", "ada", "next")).await;
    connector.take(3).await;
    let mut desk = desk(&gateway).await;
    let stuck = eventually("the failure to be known", async || {
        let open = listed(&mut desk, DeliveryState::Unspecified).await;
        open.into_iter().find(|delivery| delivery.message_id == "m-1" && delivery.attempts == 2)
    })
    .await;
    mood.store(200, Ordering::Release);
    let redrive = RedriveDeliveryRequest { id: stuck.id.clone() };
    assert_eq!(desk.redrive_delivery(redrive).await.expect_err("it is open").code(), Code::FailedPrecondition);
    desk.discard_delivery(DiscardDeliveryRequest { id: stuck.id.clone() }).await.expect("is discarded");
    assert_eq!(connector.call().await.said(), "next");
    let gone = desk.get_delivery(GetDeliveryRequest { id: stuck.id }).await.expect_err("it is settled");
    assert_eq!(gone.code(), Code::NotFound);
}

#[tokio::test]
async fn what_is_too_old_is_given_up() {
    let (connector, mood) = moody().await;
    mood.store(500, Ordering::Release);
    let gateway = gateway().set("delivery.max_age", "1s").start().await;
    register(gateway.grpc, channel("shop", &connector)).await;
    gateway.client().await.send(answers("shop", "ada", "hi").with_id("m-1")).await;
    let letters = dead(&mut desk(&gateway).await, 1).await;
    assert_eq!(letters[0].message_id, "m-1");
}

#[tokio::test]
async fn another_id_names_no_delivery() {
    let gateway = gateway().start().await;
    let mut desk = desk(&gateway).await;
    for id in ["", "x", "AQAAAAAAAAAAAAAAAAAAAAEB"] {
        let refused = desk.get_delivery(GetDeliveryRequest { id: id.into() }).await.expect_err("there is none");
        assert_eq!(refused.code(), Code::NotFound, "{id}");
    }
}
