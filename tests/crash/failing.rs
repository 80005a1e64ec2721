//! A disk that fails: nobody knows what is on it, so the gateway says so and ends.

use crate::chance::seed;
use crate::gateway::{Gateway, Start};
use crate::life::Load;
use crate::moods::{Mood, Moods};
use crate::writers::reason;
use std::time::{Duration, Instant};

/// Longest that a gateway whose disk has failed is there. This is the promise itself.
const ENDS_WITHIN: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_whose_disk_fails_says_that_the_outcome_is_unknown_and_ends() {
    let seed = seed("failing disk");
    let folder = tempfile::tempdir().expect("a folder can be made");
    let moods = Moods::new();
    let start = moods.between(Start::on(folder.path()));
    let mut load = Load::new(16, seed);
    let why = load
        .live(start.ready().await, async |mut gateway: Gateway| {
            tokio::time::sleep(Duration::from_millis(500)).await;
            moods.set(Mood::Broken);
            let broken = Instant::now();
            let status = gateway.ended().await;
            assert!(!status.success(), "{status}");
            assert!(broken.elapsed() < ENDS_WITHIN, "it ended after {:?}", broken.elapsed());
            let log = gateway.log().join("\n");
            assert!(log.contains("the store has failed") && log.contains("Input/output error"), "{log}");
        })
        .await;
    let told: Vec<_> = why.iter().filter(|status| reason(status).as_deref() == Some("STORE_UNAVAILABLE")).collect();
    assert!(!told.is_empty(), "whose message was on its way is told: {why:?}");
    for status in told {
        assert!(status.message().contains("unknown") && status.message().contains("same id"), "{status:?}");
    }
    // Whatever became of what was on its way: sending it again settles it.
    moods.unset(Mood::Broken);
    load.live(start.ready().await, async |gateway: Gateway| {
        tokio::time::sleep(Duration::from_millis(300)).await;
        gateway.kill().await;
    })
    .await;
    load.check(&start.ready().await).await;
}

#[tokio::test]
async fn a_store_whose_disk_fails_is_not_opened() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let moods = Moods::new();
    moods.set(Mood::Broken);
    let mut gateway = moods.between(Start::on(folder.path())).now().await;
    assert!(!gateway.ended().await.success());
    assert!(gateway.log().join("\n").contains("the store cannot be opened"), "{:?}", gateway.log());
}
