//! What is due goes on where it was.

use super::*;
use crate::support::receiver::{Call, Reply};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

#[tokio::test]
async fn what_a_gateway_left_open_the_next_one_delivers_in_order_with_the_same_ids() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let up = Arc::new(AtomicBool::new(false));
    let is_up = up.clone();
    let rule = move |_: &Call| Reply::Status(if is_up.load(Ordering::Acquire) { 200 } else { 503 });
    let mut connector = Receiver::answering(rule).await;
    let settings = gateway().set("delivery.sync_wait", "0s").set("store.embedded.data_dir", folder.path().display());
    let first = settings.clone().start().await;
    register(first.grpc, channel("shop", &connector)).await;
    let client = first.client().await;
    for number in 0..20 {
        client.send(answers("shop", "ada", &number.to_string())).await;
    }
    let before = connector.call().await;
    drop(client);
    first.stop().down().await;
    connector.pending();
    up.store(true, Ordering::Release);
    let second = settings.start().await;
    let calls = connector.take(21).await;
    assert_eq!(calls[0].id, before.id);
    let expected: Vec<_> =
        ["CHANNEL_SESSION_STARTED".to_owned()].into_iter().chain((0..20).map(|number| number.to_string())).collect();
    assert_eq!(calls.iter().map(Call::said).collect::<Vec<_>>(), expected);
    second.stop().down().await;
}

/// An attempt that outlives the grace period is cut off with the gateway: its message is open, and the next one attempts it.
#[tokio::test]
async fn what_is_under_way_when_the_grace_period_is_over_ends_with_the_gateway() {
    let (mut decide, decided) = tokio::sync::oneshot::channel();
    let mut decided = Some(decided);
    let mut connector = Receiver::answering(move |_| decided.take().map_or(Reply::Status(200), Reply::Later)).await;
    let settings = gateway().set("delivery.sync_wait", "0s").set("webhook.timeout", "5m").set("shutdown.grace", "0s");
    let gateway = settings.start().await;
    register(gateway.grpc, channel("shop", &connector)).await;
    gateway.client().await.send(answers("shop", "ada", "hi")).await;
    connector.call().await;
    gateway.stop().down().await;
    soon("the connection to be closed", decide.closed()).await;
}
