//! A disk that is full: nothing new is accepted, all that is there can be read, and when there is room again it goes on by itself.

use crate::chance::seed;
use crate::disks::Mounted;
use crate::expected::{check, everything};
use crate::gateway::{Gateway, Start};
use crate::life::Load;
use crate::support::assert_refused;
use crate::support::messages::{Differs as _, hello};
use std::time::Duration;
use tonic::Code;

const MESSAGE: &str = r#"{"id": "one-more", "header": {"sender": {"id": "c", "type": "CONNECTOR", "senderName": "WEB"},
    "channelData": {"channelCustomerIdentifier": "ada", "serviceIdentifier": "shop", "requestPriority": 0},
    "timestamp": 1677151053951}, "body": {"type": "PLAIN", "markdownText": "One more"}}"#;

/// Checks that a gateway without room refuses, says so, and lets read everything; `load` knows what that is.
async fn check_full(gateway: &Gateway, load: &Load) {
    assert!(gateway.serves("").await && gateway.serves("liveness").await, "readers are served");
    assert!(!gateway.serves("cim.v1.MessageService").await, "messages are not accepted");
    let (status, readyz) = gateway.readyz().await.expect("it answers");
    assert_eq!((status, readyz["status"].as_str()), (200, Some("read-only")));
    let client = gateway.client().await;
    assert_refused(&client.refused(hello("one more").with_id("refused")).await, Code::Unavailable, "STORE_FULL");
    let (status, body) = gateway.post(MESSAGE).await;
    assert_eq!((status, body["reason"].as_str()), (503, Some("STORE_FULL")), "{body}");

    let receipts = load.receipts();
    let (last, _) = receipts.iter().max_by_key(|(_, receipt)| receipt.position).expect("something was acknowledged");
    check(
        &everything(&client, last).await,
        &load.book,
        &receipts.iter().filter(|(id, _)| id == last).cloned().collect::<Vec<_>>(),
    );
    for (id, _) in receipts.iter().rev().step_by(receipts.len() / 100 + 1) {
        client.message(id).await.expect("what was acknowledged is found");
    }
    for writer in &load.writers {
        writer.check_repeats(&client).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "mounts file systems, for which it has to be root; .ci/crash runs it"]
async fn a_full_disk_refuses_what_is_new_lets_read_and_goes_on_when_there_is_room() {
    let seed = seed("full disk");
    let disk = Mounted::ext4(256);
    let start = Start::on(&disk.data()).set("store.embedded.min_free", "8 MiB");
    let mut load = Load::new(32, seed);
    let ballast = disk.fill(disk.free() - (13 << 20));
    load.live(start.ready().await, async |mut gateway: Gateway| {
        gateway.is("read-only").await;
        let status = gateway.client().await.refused(hello("late").with_id("late")).await;
        assert_refused(&status, Code::Unavailable, "STORE_FULL");
        gateway.kill().await;
    })
    .await;
    assert!(disk.free() > 2 << 20, "what is kept free is mostly still there: {}", disk.free());

    // Full from the start.
    let mut gateway = start.now().await;
    gateway.is("read-only").await;
    check_full(&gateway, &load).await;
    drop(ballast);
    gateway.is("ready").await;
    assert!(gateway.serves("cim.v1.MessageService").await);
    assert_eq!(gateway.post(MESSAGE).await.0, 202);
    load.live(gateway, async |gateway: Gateway| {
        tokio::time::sleep(Duration::from_millis(300)).await;
        gateway.kill().await;
    })
    .await;
    load.check(&start.ready().await).await;
}

/// Somebody else takes the last byte of the disk in an instant, so that what the gateway keeps free does not help.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "mounts file systems, for which it has to be root; .ci/crash runs it"]
async fn a_disk_without_a_byte_loses_nothing_that_was_acknowledged() {
    let seed = seed("no byte left");
    let disk = Mounted::ext4(256);
    let start = Start::on(&disk.data()).set("store.embedded.min_free", "0 B");
    let mut load = Load::new(32, seed);
    for life in 0..3 {
        load.live(start.ready().await, async |mut gateway: Gateway| {
            tokio::time::sleep(Duration::from_millis(300)).await;
            let ballast = disk.fill_up();
            gateway.is("read-only").await;
            // It goes on without being started again, and is full once more.
            drop(ballast);
            gateway.is("ready").await;
            let _ballast = disk.fill_up();
            gateway.is("read-only").await;
            if life % 2 == 0 {
                gateway.kill().await;
            } else {
                gateway.signal("TERM");
                gateway.ended().await;
            }
        })
        .await;
        // Full to the last byte, and started.
        let ballast = disk.fill_up();
        let mut gateway = start.now().await;
        gateway.is("read-only").await;
        check_full(&gateway, &load).await;
        drop(ballast);
        gateway.is("ready").await;
        load.check(&gateway).await;
        gateway.kill().await;
    }
}
