//! `kill -9`, again and again: under load, while the store is being opened, and while it is being closed.

use crate::chance::{Chance, seed, variable};
use crate::gateway::{Gateway, Start};
use crate::life::Load;
use std::time::Instant;

/// How often everything is checked, on the way through all rounds; what clients hear is checked all the time.
const CHECKS: u64 = 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_or_doubled_by_kill_9_at_any_moment() {
    let rounds = variable("CRASH_ROUNDS", 10);
    let seed = seed("kill");
    let mut chance = Chance::of(seed, 0);
    let folder = tempfile::tempdir().expect("a folder can be made");
    let begun = Instant::now();
    let mut load = Load::new(32, seed);
    for round in 1..=rounds {
        let segment = chance.one_of(&["1 MiB", "1 MiB", "2 MiB", "4 MiB"]);
        let window = chance.one_of(&["1 MiB", "8 MiB"]);
        let start = Start::on(folder.path()).set("store.embedded.segment", segment).set("store.embedded.window", window);
        // Before it is open, or soon after; several times in a row, because what opening leaves behind is what is opened next.
        for _ in 0..chance.below(4) {
            let gateway = start.now().await;
            let within = chance.one_of(&[5, 20, 80]);
            tokio::time::sleep(chance.millis(within)).await;
            gateway.kill().await;
        }
        let gateway = start.ready().await;
        let in_order = chance.once_in(5);
        let (working, closing) = (chance.millis(400), chance.millis(150));
        load.live(gateway, async |gateway: Gateway| {
            tokio::time::sleep(working).await;
            if in_order {
                gateway.signal("TERM");
                tokio::time::sleep(closing).await;
            }
            gateway.kill().await;
        })
        .await;
        if round.is_multiple_of(rounds.div_ceil(CHECKS)) || round == rounds {
            load.check(&start.ready().await).await;
            let (repeats, settled) = load.writers.iter().fold((0, 0), |(r, s), writer| (r + writer.repeats, s + writer.settled));
            let (acknowledged, stored) = (load.receipts().len(), load.book.len());
            println!(
                "{round} rounds in {:?}: {acknowledged} acknowledged, {stored} stored, {repeats} repeats told, {settled} settled",
                begun.elapsed()
            );
        }
    }
}
