//! A store that was restored from a backup: what was open in it may have been delivered since.

use super::*;
use crate::support::receiver::{Call, Reply};
use cim_gateway::pb::delivery_service_client::DeliveryServiceClient;
use cim_gateway::pb::{Delivery, DiscardDeliveryRequest, ListDeliveriesRequest, ReleaseDeliveriesRequest};
use cim_gateway::store::care::{OpenDeliveries, back_up, restore};
use cim_gateway::store::embedded::Options;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tonic::transport;

type Desk = DeliveryServiceClient<transport::Channel>;

async fn open(desk: &mut Desk) -> Vec<Delivery> {
    let listed = soon("a page", desk.list_deliveries(ListDeliveriesRequest::default())).await.expect("can be listed");
    listed.into_inner().deliveries
}

fn said(calls: &[Call]) -> Vec<String> {
    calls.iter().map(Call::said).collect()
}

#[tokio::test]
async fn what_was_open_in_a_backup_is_held_until_somebody_discards_or_releases_it() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let [data, backup, restored] = ["data", "backup", "restored"].map(|name| folder.path().join(name));
    let up = Arc::new(AtomicBool::new(false));
    let is_up = up.clone();
    let rule = move |_: &Call| Reply::Status(if is_up.load(Ordering::Acquire) { 200 } else { 503 });
    let mut connector = Receiver::answering(rule).await;
    let settings = gateway().set("delivery.sync_wait", "0s");
    let first = settings.clone().set("store.embedded.data_dir", data.display()).start().await;
    register(first.grpc, channel("shop", &connector)).await;
    let client = first.client().await;
    for text in ["1", "2", "3"] {
        client.send(answers("shop", "ada", text)).await;
    }
    let before = connector.call().await;
    back_up(&data, &backup, &|_, _| {}).expect("works while it is in use");
    drop(client);
    first.stop().down().await;
    connector.pending();
    up.store(true, Ordering::Release);
    let options = Options { segment_bytes: 1 << 20, ..Options::default() };
    let told = restore(&backup, &restored, options, OpenDeliveries::AreHeld, &|_| {}).expect("can be restored");
    assert!(told.held);

    let settings = settings.set("store.embedded.data_dir", restored.display());
    let second = settings.clone().start().await;
    let client = second.client().await;
    client.send(answers("shop", "ada", "4")).await;
    client.send(answers("shop", "bob", "hi")).await;
    assert_eq!(said(&connector.take(2).await), ["CHANNEL_SESSION_STARTED", "hi"], "another customer is not held up");
    let mut desk = Desk::connect(format!("http://{}", second.grpc)).await.expect("can be connected to");
    let mut held = open(&mut desk).await;
    let fresh = held.split_off(4);
    assert!(held.iter().all(|delivery| delivery.held) && fresh.iter().all(|delivery| !delivery.held), "{held:?} {fresh:?}");
    let went_out = DiscardDeliveryRequest { id: held[1].id.clone() };
    soon("an answer to DiscardDelivery", desk.discard_delivery(went_out)).await.expect("is discarded");
    drop((client, desk));
    second.stop().down().await;
    assert!(connector.pending().is_empty(), "the rest is held");

    let third = settings.clone().start().await;
    let mut desk = Desk::connect(format!("http://{}", third.grpc)).await.expect("can be connected to");
    assert_eq!(open(&mut desk).await.iter().filter(|delivery| delivery.held).count(), 3, "over a restart, too");
    soon("an answer to ReleaseDeliveries", desk.release_deliveries(ReleaseDeliveriesRequest {})).await.expect("is released");
    let calls = connector.take(4).await;
    assert_eq!(said(&calls), ["CHANNEL_SESSION_STARTED", "2", "3", "4"]);
    assert_eq!(calls[0].id, before.id, "with the id it had");
    assert!(open(&mut desk).await.iter().all(|delivery| !delivery.held));
}
