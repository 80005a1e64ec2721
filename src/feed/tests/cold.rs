//! Cold looks take turns, and nobody else waits for them.

use super::search::COLD;
use super::*;
use crate::store::double::Double;
use crate::store::{self, Scan};
use async_trait::async_trait;
use futures::future::join_all;
use parking_lot::Mutex;
use tokio::time::Instant;

/// A store on which every look with a filter waits for a permit.
#[derive(Debug)]
struct Slow {
    memory: Memory,
    permits: Semaphore,
    looks: Mutex<Looks>,
}

#[derive(Debug, Default)]
struct Looks {
    now: usize,
    most: usize,
    /// Which channels were looked for, in order.
    begun: Vec<String>,
}

/// Counts a look while it lasts, however it ends.
struct Counted<'s>(&'s Slow);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.looks.lock().now -= 1;
    }
}

#[async_trait]
impl Double for Slow {
    fn memory(&self) -> &Memory {
        &self.memory
    }

    async fn scan(&self, after: Position, page: Page, filter: &Filter) -> Result<Scan, store::Error> {
        if !filter.wants_everything() {
            let _counted = {
                let mut looks = self.looks.lock();
                looks.now += 1;
                looks.most = looks.most.max(looks.now);
                looks.begun.extend(filter.service_identifiers.iter().cloned());
                Counted(self)
            };
            self.permits.acquire().await.expect("it is not closed").forget();
        }
        self.memory.scan(after, page, filter).await
    }
}

/// A gateway with a log of so many entries.
async fn slow(entries: u64) -> (Gateway, Arc<Slow>) {
    let memory = Memory::new(256 << 20);
    let slow = Arc::new(Slow { memory: memory.clone(), permits: Semaphore::new(0), looks: Mutex::default() });
    let gateway = through(Settings { max_streams: 100, heartbeat_skipped: u64::MAX, ..SETTINGS }, memory, slow.clone());
    gateway.append_many(entries).await;
    gateway.matched().await;
    (gateway, slow)
}

impl Slow {
    fn now(&self) -> usize {
        self.looks.lock().now
    }
}

/// Readers of the channels `0`, `1` ... from the beginning, each with a look under way or in line.
async fn cold(gateway: &Gateway, readers: usize) -> Vec<Subscription> {
    let mut cold = Vec::new();
    for number in 0..readers {
        let mut reader = gateway.listen(on(&number.to_string()).1, Start::Earliest).await;
        reader.heartbeat().await;
        assert!(reader.next().now_or_never().is_none());
        cold.push(reader);
    }
    // The looks begin.
    tokio::task::yield_now().await;
    cold
}

#[tokio::test(start_paused = true)]
async fn cold_looks_are_limited_and_who_waits_has_heartbeats_on_time() {
    const READERS: usize = 5;
    const ROUNDS: usize = 6;
    // The engine in memory looks at so many entries at once: all looks of all rounds are cold.
    let end = COLD + 1024 * ROUNDS as u64 + 1;
    let (gateway, store) = slow(end).await;
    let mut cold = cold(&gateway, READERS).await;
    assert_eq!(store.now(), 2);
    let began = Instant::now();
    for round in 1..=4 {
        assert_eq!(join_all(cold.iter_mut().map(Subscription::heartbeat)).await, [0; READERS]);
        assert_eq!(began.elapsed(), SETTINGS.heartbeat * round);
    }
    assert_eq!(store.looks.lock().most, 2);
    // First come, first served; and who goes on lines up again.
    store.permits.add_permits(1_000_000);
    let readers = cold.into_iter().map(|mut reader| tokio::spawn(async move { while reader.heartbeat().await < end {} }));
    join_all(readers).await.into_iter().for_each(|ended| ended.expect("all is read"));
    // Who has gone through the last round waits for no cold turn.
    for round in store.looks.lock().begun.chunks(READERS).take(ROUNDS - 1) {
        assert_eq!(round, ["0", "1", "2", "3", "4"]);
    }
}

/// They would hold up accepting messages together.
#[tokio::test(start_paused = true)]
async fn looks_near_the_end_are_limited_too_and_wait_for_no_cold_one() {
    let (gateway, store) = slow(COLD + 1).await;
    let _cold = cold(&gateway, 2).await;
    assert_eq!(store.now(), 2);
    // Now as far behind as a reader may be that is not cold.
    let near = |number: usize| on(&format!("near {number}")).1;
    let mut readers = Vec::new();
    for number in 0..5 {
        let mut reader = gateway.listen(near(number), Start::After(gateway.cursor(1))).await;
        reader.heartbeat().await;
        assert!(reader.next().now_or_never().is_none());
        readers.push(reader);
    }
    tokio::task::yield_now().await;
    assert_eq!(store.now(), 4, "two of either kind look");
    store.permits.add_permits(1_000_000);
    for mut reader in readers {
        while reader.heartbeat().await < COLD + 1 {}
    }
}

/// Between two looks of one turn lies as much time as the first of them took, though the reader has its page at once.
#[tokio::test(start_paused = true)]
async fn a_turn_rests_for_as_long_as_its_look_took() {
    let (gateway, store) = slow(COLD + 1).await;
    let mut cold = cold(&gateway, 3).await;
    let took = SETTINGS.heartbeat / 4;
    let mut after = async |time| {
        tokio::time::advance(time).await;
        for _ in 0..10 {
            cold.iter_mut().for_each(|reader| drop(reader.next().now_or_never()));
            tokio::task::yield_now().await;
        }
        store.looks.lock().begun.clone()
    };
    assert_eq!(after(took).await, ["0", "1"]);
    store.permits.add_permits(1_000_000);
    let begun = after(Duration::ZERO).await;
    assert!(begun.len() > 4, "the readers do not go on: {begun:?}");
    let has_begun = |begun: Vec<String>| begun.contains(&"2".to_owned());
    assert!(!has_begun(after(took - Duration::from_millis(1)).await), "the turns do not rest");
    assert!(has_begun(after(Duration::from_millis(2)).await), "the turns rest too long");
}

#[tokio::test(start_paused = true)]
async fn who_wants_everything_or_is_nearly_there_waits_for_no_turn() {
    let (gateway, store) = slow(COLD + 1).await;
    let _cold = cold(&gateway, 5).await;
    let mut wide = gateway.subscribe(Start::Earliest).await;
    wide.heartbeat().await;
    for expected in 1..=COLD + 1 {
        assert_eq!(wide.notification().await.0, expected);
    }
    let mut near = gateway.listen(on("near").1, Start::After(gateway.cursor(1))).await;
    near.heartbeat().await;
    assert!(near.next().now_or_never().is_none());
    tokio::task::yield_now().await;
    assert_eq!(store.now(), 3);
    let mut live = gateway.live(on("a").1).await;
    gateway.append(on("a").0).await;
    assert_eq!(live.notification().await.0, COLD + 2);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_has_stopped_reading_holds_no_turn() {
    let (gateway, store) = slow(COLD + 1).await;
    let mut cold = cold(&gateway, 3).await;
    store.permits.add_permits(1_000_000);
    // Nobody asks the first two for their events.
    assert_eq!(cold[2].heartbeat().await, COLD + 1);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_gone_holds_no_turn() {
    let (gateway, store) = slow(COLD + 1).await;
    let mut cold = cold(&gateway, 5).await;
    assert_eq!(store.looks.lock().begun, ["0", "1"]);
    // One that has its turn, and one that is in line.
    cold.remove(2);
    cold.remove(0);
    while store.looks.lock().begun.len() < 3 {
        tokio::task::yield_now().await;
    }
    assert_eq!(store.looks.lock().begun, ["0", "1", "3"]);
    assert_eq!(store.now(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_look_goes_on_though_its_reader_stops_waiting() {
    let (gateway, store) = slow(COLD + 1).await;
    let mut cold = cold(&gateway, 1).await;
    for _ in 0..5 {
        assert!(cold[0].next().now_or_never().is_none());
        tokio::task::yield_now().await;
    }
    assert_eq!(store.looks.lock().begun.len(), 1, "it is not begun anew");
    gateway.shutdown.cancel();
    assert_eq!(cold[0].next().await.err(), Some(Error::ShuttingDown));
}
