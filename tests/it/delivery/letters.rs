//! Dead letters, and what can be done about what is not settled.

use super::*;
use crate::support::receiver::{Call, Reply};
use crate::support::{assert_refused, eventually};
use cim_gateway::pb::delivery_service_client::DeliveryServiceClient;
use cim_gateway::pb::{
    Delivery, DeliveryState, DiscardDeliveriesRequest, DiscardDeliveryRequest, DiscardableState, GetDeliveryRequest,
    ListDeliveriesRequest, RedriveDeliveriesRequest, RedriveDeliveryRequest,
};
use cim_gateway::pb::{DeliveryStatus, GetMessageRequest, SendMessageResponse};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use tokio::sync::oneshot;
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
    eventually("the outcome is that of the redriving", async || {
        let mut calls = gateway.client().await.calls;
        let found = calls.get_message(GetMessageRequest { message_id: "m-1".into() }).await.expect("is found").into_inner();
        found.outcome.filter(|outcome| outcome.status() == DeliveryStatus::Delivered)
    })
    .await;
    assert!(listed(&mut desk, DeliveryState::Dead).await.is_empty());
    let again = desk.redrive_delivery(request).await.expect_err("it is one no more");
    assert_eq!(again.code(), Code::NotFound);
}

#[tokio::test]
async fn whoever_repeats_what_is_redriven_waits_for_what_comes_of_that() {
    let (decide, decided) = oneshot::channel();
    let (mut decided, mut is_first) = (Some(decided), true);
    let rule = move |call: &Call| match call.said().as_str() {
        "hi" if std::mem::take(&mut is_first) => Reply::Status(400),
        "hi" => decided.take().map_or(Reply::Status(200), Reply::Later),
        _ => Reply::Status(200),
    };
    let mut connector = Receiver::answering(rule).await;
    let gateway = gateway().start().await;
    register(gateway.grpc, channel("shop", &connector)).await;
    let message = answers("shop", "ada", "hi").with_id("m-1").at(1_700_000_000);
    let outcome = |sent: SendMessageResponse| sent.outcome.map(|outcome| outcome.status());
    assert_eq!(outcome(gateway.client().await.send(message.clone()).await), Some(DeliveryStatus::Failed));
    connector.take(2).await;
    let mut desk = desk(&gateway).await;
    let letter = dead(&mut desk, 1).await.remove(0);
    desk.redrive_delivery(RedriveDeliveryRequest { id: letter.id }).await.expect("is redriven");
    connector.call().await;
    let client = gateway.client().await;
    let repeat = tokio::spawn(async move { client.send(message).await });
    decide.send(200).expect("the attempt is under way");
    assert_eq!(outcome(repeat.await.expect("is answered")), Some(DeliveryStatus::Delivered));
}

#[tokio::test]
async fn what_is_redriven_and_then_discarded_has_failed_after_all() {
    let (mut connector, mood) = moody().await;
    let gateway = gateway().start().await;
    register(gateway.grpc, channel("shop", &connector)).await;
    gateway.client().await.send(answers("shop", "ada", "hi").with_id("m-1")).await;
    connector.take(2).await;
    let mut desk = desk(&gateway).await;
    let letter = dead(&mut desk, 1).await.remove(0);
    mood.store(500, Ordering::Release);
    let redriven = desk.redrive_delivery(RedriveDeliveryRequest { id: letter.id }).await.expect("is redriven").into_inner();
    let known = async || {
        let mut calls = gateway.client().await.calls;
        let found = calls.get_message(GetMessageRequest { message_id: "m-1".into() }).await.expect("is found").into_inner();
        found.outcome.map(|outcome| outcome.status())
    };
    assert_eq!(known().await, None);
    let id = redriven.delivery.expect("is there").id;
    desk.discard_delivery(DiscardDeliveryRequest { id }).await.expect("is discarded");
    assert_eq!(known().await, Some(DeliveryStatus::Failed));
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
async fn many_dead_letters_are_discarded_together_and_are_gone_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let settings = gateway().set("store.embedded.data_dir", folder.path().display());
    let (mut connector, _mood) = moody().await;
    let first = settings.clone().start().await;
    let registered = register(first.grpc, channel("shop", &connector)).await;
    let client = first.client().await;
    for number in 0..5 {
        client.send(answers("shop", "ada", &number.to_string())).await;
    }
    connector.take(6).await;
    let mut at = desk(&first).await;
    let letters = dead(&mut at, 5).await;
    let dead_ones =
        DiscardDeliveriesRequest { states: vec![DiscardableState::Dead.into()], ..DiscardDeliveriesRequest::default() };
    let other = DiscardDeliveriesRequest { channel_id: "another".into(), ..dead_ones.clone() };
    assert_eq!(at.discard_deliveries(other).await.expect("is done").into_inner().discarded, 0);
    let time = letters[2].accepted_at;
    let of_shop = DiscardDeliveriesRequest { channel_id: registered.id, accepted_before: time, ..dead_ones.clone() };
    let done = at.discard_deliveries(of_shop).await.expect("is done").into_inner();
    assert_eq!((done.discarded, done.more), (2, false));
    assert_eq!(dead(&mut at, 3).await, letters[2..]);
    drop((client, at));
    first.stop().down().await;

    let second = settings.start().await;
    let mut at = desk(&second).await;
    assert_eq!(dead(&mut at, 3).await.len(), 3, "it is durable");
    let done = at.discard_deliveries(dead_ones).await.expect("is done").into_inner();
    assert_eq!((done.discarded, done.more), (3, false));
    assert!(listed(&mut at, DeliveryState::Dead).await.is_empty());
    assert!(connector.pending().is_empty(), "nobody is called with them");
}

#[tokio::test]
async fn what_is_open_is_discarded_together_and_what_comes_then_goes_out() {
    let (mut connector, mood) = moody().await;
    mood.store(500, Ordering::Release);
    let gateway =
        gateway().set("delivery.sync_wait", "0s").set("delivery.retries", r#"["10m"]"#).set("delivery.hold", "1h").start().await;
    register(gateway.grpc, channel("shop", &connector)).await;
    let client = gateway.client().await;
    for text in ["stuck", "behind it", "behind it, too"] {
        client.send(answers("shop", "ada", text)).await;
    }
    connector.take(2).await;
    let mut desk = desk(&gateway).await;
    eventually("the failure to be known, and nothing else to be open", async || {
        let open = listed(&mut desk, DeliveryState::Unspecified).await;
        (open.len() == 3 && open[0].attempts == 1).then_some(())
    })
    .await;
    mood.store(200, Ordering::Release);
    let open = DiscardDeliveriesRequest { states: vec![DiscardableState::Open.into()], ..DiscardDeliveriesRequest::default() };
    let done = soon("an answer to DiscardDeliveries", desk.discard_deliveries(open)).await.expect("is done").into_inner();
    assert_eq!((done.discarded, done.more), (3, false));
    client.send(answers("shop", "ada", "fresh")).await;
    assert_eq!(connector.call().await.said(), "fresh", "nothing holds it up");
    assert!(connector.pending().is_empty());
}

#[tokio::test]
async fn what_is_to_be_discarded_together_has_to_be_said() {
    let gateway = gateway().start().await;
    let mut desk = desk(&gateway).await;
    for states in [vec![], vec![0], vec![DiscardableState::Dead.into(), 7]] {
        let request = DiscardDeliveriesRequest { states, ..DiscardDeliveriesRequest::default() };
        let refused = desk.discard_deliveries(request).await.expect_err("it is not said");
        assert_refused(&refused, Code::InvalidArgument, "INVALID_REQUEST");
        assert!(refused.message().starts_with("states "), "{refused:?}");
    }
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
