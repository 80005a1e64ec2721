//! Live readers: woken for what they want and for nothing else, and never out of step with the log.

use super::*;
use crate::store::double::Double;
use crate::store::{self, Scan};
use async_trait::async_trait;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use tokio::task::coop::unconstrained;
use tokio::time::Instant;

/// Counts how often whoever waits is woken.
#[derive(Debug, Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Wakes {
    fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// A stream whose consumer waits for the next event.
type Waiting = Pin<Box<dyn Future<Output = Result<Event, Error>>>>;

/// Readers of filters that nothing matches but what is on `idle-{number}`, each waiting; `wakes` counts for all of them.
async fn idle(gateway: &Gateway, readers: usize, wakes: &Arc<Wakes>) -> Vec<Waiting> {
    let mut idle = Vec::new();
    for number in 0..readers {
        let value = [format!("idle-{number}")];
        let filter = match number % 3 {
            0 => Filter { service_identifiers: value.into(), ..Filter::default() },
            1 => Filter { conversation_ids: value.into(), ..Filter::default() },
            _ => Filter { channel_session_ids: value.into(), ..Filter::default() },
        };
        let mut reader = gateway.listen(filter, Start::Latest).await;
        reader.heartbeat().await;
        // Without the bound on how much a task does at once: it would wake by itself.
        let mut waiting: Waiting = Box::pin(unconstrained(async move { reader.next().await }));
        assert!(poll(&mut waiting, wakes).is_pending());
        idle.push(waiting);
    }
    idle
}

fn poll(waiting: &mut Waiting, wakes: &Arc<Wakes>) -> Poll<Result<Event, Error>> {
    waiting.as_mut().poll(&mut Context::from_waker(&Waker::from(wakes.clone())))
}

const MANY: Settings = Settings { max_streams: 20_000, ..SETTINGS };

#[tokio::test(start_paused = true)]
async fn ten_thousand_idle_streams_are_not_woken() {
    let gateway = with(Settings { heartbeat_skipped: 1_000_000, ..MANY }, Memory::new(256 << 20));
    let wakes = Arc::new(Wakes::default());
    let mut idle = idle(&gateway, 10_000, &wakes).await;
    let mut busy = gateway.live(Filter::default()).await;
    let (elsewhere, _) = on("elsewhere");
    for expected in 1..=5_000 {
        gateway.append(elsewhere.clone()).await;
        assert_eq!(busy.notification().await.0, expected);
    }
    assert_eq!(wakes.count(), 0);
    // Each would have been woken: one of them is, by its own.
    gateway.append(on("idle-4710").0).await;
    assert_eq!(busy.notification().await.0, 5_001);
    assert_eq!(wakes.count(), 1);
    let Poll::Ready(Ok(Event::Notification(stored, _))) = poll(&mut idle[4710], &wakes) else { panic!("it was woken for this") };
    assert_eq!(stored.position, Position(5_001));
}

#[tokio::test(start_paused = true)]
async fn a_flood_reminds_live_readers_of_what_they_passed_over_once_in_a_round() {
    let gateway = with(Settings { heartbeat_skipped: 10, heartbeat: Duration::from_secs(3600), ..MANY }, Memory::new(64 << 20));
    let (elsewhere, _) = on("elsewhere");
    let (_, filter) = on("quiet");
    let mut reader = gateway.live(filter).await;
    let wakes = Arc::new(Wakes::default());
    let _idle = idle(&gateway, 100, &wakes).await;
    let mut busy = gateway.live(Filter::default()).await;
    let began = Instant::now();
    let append = async |count: u64, busy: &mut Subscription| {
        for _ in 0..count {
            gateway.append(elsewhere.clone()).await;
            busy.notification().await;
        }
    };
    append(9, &mut busy).await;
    tokio::task::yield_now().await;
    assert_eq!(wakes.count(), 0, "nobody has passed over enough");
    append(1, &mut busy).await;
    assert_eq!((reader.heartbeat().await, began.elapsed()), (10, Duration::ZERO));
    assert_eq!(wakes.count(), 100);
    append(500, &mut busy).await;
    assert_eq!(wakes.count(), 100, "not again in the same round");
    assert_eq!((reader.heartbeat().await, began.elapsed()), (510, roster::ROUND));
    append(9, &mut busy).await;
    assert_eq!(reader.heartbeat().await, 519);
    assert_eq!(began.elapsed(), roster::ROUND + Duration::from_secs(3600), "it is the interval that brings this one");
}

/// A store that counts how often it is looked through, and that fails when it is told to.
#[derive(Debug)]
struct Watched {
    memory: Memory,
    looks: AtomicUsize,
    fails: AtomicBool,
}

#[async_trait]
impl Double for Watched {
    fn memory(&self) -> &Memory {
        &self.memory
    }

    async fn scan(&self, after: Position, page: Page, filter: &Filter) -> Result<Scan, store::Error> {
        self.looks.fetch_add(1, Ordering::Relaxed);
        if self.fails.load(Ordering::Relaxed) {
            return Err(broken());
        }
        self.memory.scan(after, page, filter).await
    }
}

fn broken() -> store::Error {
    store::Error::Unavailable { cause: "the disk is on fire".into() }
}

fn watched() -> (Gateway, Arc<Watched>) {
    let memory = Memory::new(64 << 20);
    let watched = Arc::new(Watched { memory: memory.clone(), looks: AtomicUsize::new(0), fails: AtomicBool::new(false) });
    (through(MANY, memory, watched.clone()), watched)
}

#[tokio::test(start_paused = true)]
async fn an_entry_is_read_once_for_all_who_are_live() {
    let (gateway, store) = watched();
    let mut readers = Vec::new();
    for _ in 0..50 {
        readers.push(gateway.live(Filter::default()).await);
    }
    for expected in 1..=20 {
        gateway.append_many(1).await;
        for reader in &mut readers {
            assert_eq!(reader.notification().await.0, expected);
        }
    }
    assert_eq!(store.looks.load(Ordering::Relaxed), 20);
}

#[tokio::test(start_paused = true)]
async fn without_a_live_reader_nothing_is_read() {
    let (gateway, store) = watched();
    for _ in 0..20 {
        gateway.append_many(10).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(store.looks.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_falls_behind_reads_the_log_and_is_live_again() {
    let (gateway, store) = watched();
    let mut reader = gateway.live(Filter::default()).await;
    let mut expected = 0;
    for burst in [PAGE.entries as u64, PAGE.entries as u64 + 1, 1000] {
        gateway.append_many(burst).await;
        // The matcher goes through all of it before the reader takes any.
        gateway.matched().await;
        let looks = store.looks.load(Ordering::Relaxed);
        for _ in 0..burst {
            expected += 1;
            assert_eq!(reader.notification().await.0, expected);
        }
        assert!(reader.next().now_or_never().is_none());
        let looked = store.looks.load(Ordering::Relaxed) - looks;
        assert_eq!(looked > 0, burst > PAGE.entries as u64, "{burst}: {looked} looks at the log");
        // Live again: the matcher's look is the only one.
        let looks = store.looks.load(Ordering::Relaxed);
        gateway.append_many(1).await;
        expected += 1;
        assert_eq!(reader.notification().await.0, expected);
        assert_eq!(store.looks.load(Ordering::Relaxed), looks + 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_has_stopped_holds_no_more_than_a_page() {
    for (text, most) in [("a".to_owned(), PAGE.entries), ("x".repeat(20 << 10), 3), ("x".repeat(PAGE.bytes + 1), 1)] {
        let gateway = with(SETTINGS, Memory::new(256 << 20));
        let stopped = gateway.live(Filter::default()).await;
        for _ in 0..400 {
            gateway.append(says(&text)).await;
        }
        gateway.matched().await;
        let kept = gateway.log().await;
        // The log has one, we have one.
        let held = kept.iter().filter(|stored| Arc::strong_count(&stored.entry) > 2).count();
        assert_eq!(held, most);
        drop(stopped);
        let held = kept.iter().filter(|stored| Arc::strong_count(&stored.entry) > 2).count();
        assert_eq!(held, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_gone_is_not_on_the_roster() {
    let gateway = gateway();
    let live = gateway.live(on("a").1).await;
    let never_polled = gateway.listen(on("b").1, Start::Latest).await;
    assert!(!gateway.feed.roster.pass_alone(Position(0)));
    drop((live, never_polled));
    assert!(gateway.feed.roster.pass_alone(Position(0)));
    // Who has fallen behind is not on it either.
    let _stopped = gateway.live(Filter::default()).await;
    gateway.append_many(300).await;
    gateway.matched().await;
    assert!(gateway.feed.roster.pass_alone(Position(0)));
}

#[tokio::test(start_paused = true)]
async fn a_live_reader_that_retention_overtakes_is_told_where_to_go_on() {
    let gateway = with(SETTINGS, Memory::new(20 << 10));
    let mut readers = [gateway.live(Filter::default()).await, gateway.live(on("quiet").1).await];
    // At once: the matcher does not get to it before most of it is gone.
    gateway.append_many(100).await;
    for reader in &mut readers {
        let oldest = gateway.cursor(gateway.store.span().oldest.previous().0);
        assert_eq!(reader.next().await.err(), Some(Error::CursorExpired { oldest }), "there is no silent gap");
    }
    // The matcher goes on.
    let mut next = gateway.live(Filter::default()).await;
    gateway.append_many(1).await;
    assert_eq!(next.notification().await.0, 101);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_ends_the_streams_and_lets_new_ones_try() {
    let (gateway, store) = watched();
    let mut live = gateway.live(Filter::default()).await;
    store.fails.store(true, Ordering::Relaxed);
    gateway.append_many(1).await;
    assert_eq!(live.next().await.err(), Some(Error::Store(broken())));
    let mut behind = gateway.subscribe(Start::Earliest).await;
    behind.heartbeat().await;
    assert_eq!(behind.next().await.err(), Some(Error::Store(broken())));
    store.fails.store(false, Ordering::Relaxed);
    let mut resumed = gateway.subscribe(Start::Earliest).await;
    assert_eq!(resumed.heartbeat().await, 0);
    assert_eq!(resumed.notification().await.0, 1);
    assert!(resumed.next().now_or_never().is_none());
    gateway.append_many(1).await;
    assert_eq!(resumed.notification().await.0, 2);
}

#[tokio::test(start_paused = true)]
async fn the_matcher_ends_with_the_shutdown() {
    let gateway = gateway();
    let mut live = gateway.live(Filter::default()).await;
    gateway.shutdown.cancel();
    gateway.matcher.await.expect("it does not panic");
    assert_eq!(live.next().await.err(), Some(Error::ShuttingDown));
}

#[tokio::test(start_paused = true)]
async fn without_a_matcher_no_stream_waits_for_it() {
    let gateway = gateway();
    let mut live = gateway.live(Filter::default()).await;
    gateway.matcher.abort();
    let Err(Error::Store(store::Error::Unavailable { .. })) = live.next().await else { panic!("nothing would ever come") };
    let mut late = gateway.subscribe(Start::Latest).await;
    late.heartbeat().await;
    let Err(Error::Store(store::Error::Unavailable { .. })) = late.next().await else { panic!("nothing would ever come") };
}
