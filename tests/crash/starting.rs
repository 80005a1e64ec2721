//! A gateway that starts, seen from outside: while the index is made again it says so, and asks everybody to come again.

use crate::chance::variable;
use crate::gateway::Start;
use crate::moods::{Mood, Moods};
use crate::support::assert_refused;
use crate::support::messages::{Differs as _, earliest, hello, says};
use futures::{StreamExt as _, stream};
use std::time::Instant;
use tonic::Code;

/// Senders at a time.
const SENDERS: usize = 256;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_makes_its_index_again_says_how_far_it_is() {
    let messages = variable("CRASH_MESSAGES", 20_000) as usize;
    let folder = tempfile::tempdir().expect("a folder can be made");
    let moods = Moods::new();
    let start = moods.between(Start::on(folder.path()).set("store.embedded.segment", "16 MiB"));
    let mut gateway = start.ready().await;
    let client = gateway.client().await;
    let id = |number: usize| format!("message-{number}");
    let sent = stream::iter(0..messages).map(|number| {
        let customer = format!("customer-{}", number % 1000);
        client.send(says("shop", &customer, &"text ".repeat(80)).with_id(&id(number)).at(1_700_000_000))
    });
    let acknowledged = sent.buffer_unordered(SENDERS).count().await;
    assert_eq!(acknowledged, messages);
    gateway.signal("TERM");
    assert!(gateway.ended().await.success());

    for name in ["index.db", "index.db-wal", "index.db-shm"] {
        let removed = std::fs::remove_file(folder.path().join(name));
        assert!(removed.is_ok() || name != "index.db", "{removed:?}");
    }
    moods.set(Mood::Slow);
    let begun = Instant::now();
    let mut gateway = start.now().await;
    gateway.is("rebuilding").await;
    let (status, readyz) = gateway.readyz().await.expect("it answers");
    assert_eq!((status, readyz["status"].as_str()), (503, Some("rebuilding")), "{readyz}");
    let (done, of) = (readyz["progress"]["done"].as_u64(), readyz["progress"]["of"].as_u64());
    // Every session began with a word of its own.
    assert!(done.is_some_and(|done| done > 0 && Some(done) < of) && of >= Some(messages as u64), "{readyz}");
    for (service, serves) in [("", false), ("cim.v1.MessageService", false), ("startup", false), ("liveness", true)] {
        assert_eq!(gateway.serves(service).await, serves, "{service:?}");
    }
    let client = gateway.client().await;
    assert_refused(&client.refused(hello("early")).await, Code::Unavailable, "STARTING");
    assert_refused(&client.message(&id(0)).await.expect_err("it starts"), Code::Unavailable, "STARTING");
    assert_refused(&client.try_subscribe(earliest()).await.expect_err("it starts"), Code::Unavailable, "STARTING");
    let (status, problem) = gateway.post("{}").await;
    assert_eq!(status, 503, "{problem}");
    assert!(problem.to_string().contains("STARTING"), "{problem}");
    let (_, readyz) = gateway.readyz().await.expect("it answers");
    assert_eq!(readyz["status"], "rebuilding", "all of this was asked while it was: {readyz}");

    gateway.is("ready").await;
    println!("an index of {messages} messages, on a slow disk, was made again after {:?}", begun.elapsed());
    for service in ["", "cim.v1.MessageService", "startup", "liveness"] {
        assert!(gateway.serves(service).await, "{service:?}");
    }
    moods.unset(Mood::Slow);
    let client = gateway.client().await;
    for number in (0..messages).step_by(messages / 100) {
        client.message(&id(number)).await.expect("what was acknowledged is found");
    }
    let repeat = says("shop", "customer-0", &"text ".repeat(80)).with_id(&id(0)).at(1_700_000_000);
    assert!(client.send(repeat).await.duplicate);
}
