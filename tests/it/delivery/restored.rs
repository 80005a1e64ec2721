//! A store that was restored from a backup: what was open in it may have been delivered since.

use super::*;
use crate::support::receiver::{Call, Reply};
use cim_gateway::pb::delivery_service_client::DeliveryServiceClient;
use cim_gateway::pb::{
    Delivery, DiscardDeliveriesRequest, DiscardDeliveryRequest, DiscardableState, ListDeliveriesRequest, ReleaseDeliveriesRequest,
};
use cim_gateway::store::care::{OpenDeliveries, back_up, restore};
use cim_gateway::store::embedded::Options;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tempfile::TempDir;
use tonic::transport;

type Desk = DeliveryServiceClient<transport::Channel>;

async fn open(desk: &mut Desk) -> Vec<Delivery> {
    let listed = soon("a page", desk.list_deliveries(ListDeliveriesRequest::default())).await.expect("can be listed");
    listed.into_inner().deliveries
}

fn said(calls: &[Call]) -> Vec<String> {
    calls.iter().map(Call::said).collect()
}

/// A store that was restored from a backup, in which four deliveries to `ada` were open: the notice of the session, 1, 2 and 3.
struct Restored {
    connector: Receiver,
    /// Those of a gateway that has the store.
    settings: Settings,
    /// What was attempted before the backup, and failed.
    before: Call,
    _folder: TempDir,
}

async fn restored() -> Restored {
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
    Restored { connector, settings, before, _folder: folder }
}

async fn desk(gateway: &Gateway) -> Desk {
    Desk::connect(format!("http://{}", gateway.grpc)).await.expect("can be connected to")
}

#[tokio::test]
async fn what_was_open_in_a_backup_is_held_until_somebody_discards_or_releases_it() {
    let Restored { mut connector, settings, before, _folder } = restored().await;
    let second = settings.clone().start().await;
    let client = second.client().await;
    client.send(answers("shop", "ada", "4")).await;
    client.send(answers("shop", "bob", "hi")).await;
    assert_eq!(said(&connector.take(2).await), ["CHANNEL_SESSION_STARTED", "hi"], "another customer is not held up");
    let mut at = desk(&second).await;
    let mut held = open(&mut at).await;
    let fresh = held.split_off(4);
    assert!(held.iter().all(|delivery| delivery.held) && fresh.iter().all(|delivery| !delivery.held), "{held:?} {fresh:?}");
    let went_out = DiscardDeliveryRequest { id: held[1].id.clone() };
    soon("an answer to DiscardDelivery", at.discard_delivery(went_out)).await.expect("is discarded");
    drop((client, at));
    second.stop().down().await;
    assert!(connector.pending().is_empty(), "the rest is held");

    let third = settings.start().await;
    let mut at = desk(&third).await;
    assert_eq!(open(&mut at).await.iter().filter(|delivery| delivery.held).count(), 3, "over a restart, too");
    soon("an answer to ReleaseDeliveries", at.release_deliveries(ReleaseDeliveriesRequest {})).await.expect("is released");
    let calls = connector.take(4).await;
    assert_eq!(said(&calls), ["CHANNEL_SESSION_STARTED", "2", "3", "4"]);
    assert_eq!(calls[0].id, before.id, "with the id it had");
    assert!(open(&mut at).await.iter().all(|delivery| !delivery.held));
}

#[tokio::test]
async fn what_is_held_is_discarded_together_up_to_a_time_and_what_came_since_is_not() {
    let Restored { mut connector, settings, before: _, _folder } = restored().await;
    let second = settings.clone().start().await;
    let client = second.client().await;
    client.send(answers("shop", "ada", "4")).await;
    let mut at = desk(&second).await;
    let held = open(&mut at).await;
    let all = DiscardDeliveriesRequest { states: vec![DiscardableState::Held.into()], ..DiscardDeliveriesRequest::default() };
    let some = DiscardDeliveriesRequest { accepted_before: held[2].accepted_at, ..all.clone() };
    let done = soon("an answer to DiscardDeliveries", at.discard_deliveries(some)).await.expect("is done").into_inner();
    assert_eq!((done.discarded, done.more), (2, false), "the notice and 1");
    drop((client, at));
    second.stop().down().await;

    let third = settings.start().await;
    let mut at = desk(&third).await;
    let left = open(&mut at).await;
    assert_eq!(left.iter().map(|delivery| delivery.held).collect::<Vec<_>>(), [true, true, false], "{left:?}");
    assert!(connector.pending().is_empty(), "they hold up what came since");
    let done = soon("an answer to DiscardDeliveries", at.discard_deliveries(all)).await.expect("is done").into_inner();
    assert_eq!((done.discarded, done.more), (2, false));
    assert_eq!(connector.call().await.said(), "4", "without a release");
    assert!(connector.pending().is_empty());
}
