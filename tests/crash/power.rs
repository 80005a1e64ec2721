//! Power loss: the file system under the gateway stops in an instant, and what was not synced by then is gone.
//!
//! What is simulated is the loss of all that the kernel had not written, at any moment of the gateway, of the file system's journal
//! and of its writing back. The device itself keeps what it was given; a device that loses that, too, is simulated under the log in
//! the tests of the store.

use crate::chance::{Chance, seed, variable};
use crate::disks::Mounted;
use crate::gateway::{Gateway, Start};
use crate::life::Load;
use crate::moods::{Mood, Moods};
use std::time::Duration;

/// Cuts the power of the disk and of the gateway. The gateway stands still first: what it would still say when its disk is gone no
/// client would hear, and a sync that is under way ends in some way that it is not there to see.
async fn cut_power(disk: &Mounted, gateway: Gateway) {
    gateway.signal("STOP");
    disk.cut_power();
    gateway.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "mounts file systems, for which it has to be root; .ci/crash runs it"]
async fn nothing_acknowledged_is_lost_or_doubled_by_power_loss() {
    let rounds = variable("CRASH_POWER_ROUNDS", 5);
    let seed = seed("power");
    let mut chance = Chance::of(seed, 0);
    let mut disk = Mounted::ext4(1024);
    let mut load = Load::new(32, seed);
    let start = Start::on(&disk.data());
    for round in 1..=rounds {
        // Before it is open, or soon after: while it makes the store durable again.
        for _ in 0..chance.below(3) {
            let gateway = start.now().await;
            let within = chance.one_of(&[5, 20, 80]);
            tokio::time::sleep(chance.millis(within)).await;
            cut_power(&disk, gateway).await;
            disk.restart();
        }
        let in_order = chance.once_in(5);
        let (working, closing) = (chance.millis(600), chance.millis(100));
        load.live(start.ready().await, async |gateway: Gateway| {
            tokio::time::sleep(working).await;
            if in_order {
                gateway.signal("TERM");
                tokio::time::sleep(closing).await;
            }
            cut_power(&disk, gateway).await;
        })
        .await;
        disk.with_options(chance.one_of(&["loop", "loop,data=writeback"]));
        disk.restart();
        if round % 5 == 0 || round == rounds {
            load.check(&start.ready().await).await;
            println!("{round} power cuts: {} acknowledged, {} stored", load.receipts().len(), load.book.len());
        }
    }
}

/// The same on a disk that says that it has synced, and has not. If this finds nothing lost, the test above proves nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "mounts file systems, for which it has to be root; .ci/crash runs it"]
async fn the_test_of_power_loss_can_fail() {
    let seed = seed("power without syncing");
    let disk = Mounted::ext4(256);
    let moods = Moods::new();
    let start = Start::on(&disk.data()).set("store.embedded.min_free", "0 B");
    let mut load = Load::new(8, seed);
    load.live(moods.between(start.clone()).ready().await, async |gateway: Gateway| {
        tokio::time::sleep(Duration::from_millis(300)).await;
        moods.set(Mood::Forgetful);
        tokio::time::sleep(Duration::from_millis(300)).await;
        cut_power(&disk, gateway).await;
    })
    .await;
    disk.restart();
    let client_of = start.ready().await;
    let client = client_of.client().await;
    let (mut kept, mut lost) = (0, 0);
    for (id, _) in load.receipts() {
        match client.message(&id).await {
            Ok(_) => kept += 1,
            Err(_) => lost += 1,
        }
    }
    println!("without syncing for a while: {kept} kept, {lost} lost");
    assert!(kept > 0, "what was synced is kept");
    assert!(lost > 0, "what was not synced is lost");
}
