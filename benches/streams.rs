//! What streams that are quiet cost those who send: appending with none, one and ten thousand of them open.
//!
//! `cargo bench --bench streams` appends the typical message to the memory engine, in groups as a group commit makes them, while so
//! many narrow streams wait for messages of channels of their own. Everything runs on one thread, so that the time of an append
//! holds all that it causes: the matcher's work, and that of every stream that is woken. The last row is the peer: as many tasks
//! that each wait for the durable position themselves. In turns; the medians count.

use cim_gateway::feed::{Event, Feed, Settings, Start};
use cim_gateway::pb::store::Entry;
use cim_gateway::store::memory::Memory;
use cim_gateway::store::{Filter, Position, Store};
use cim_gateway::wire;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

// As the program does.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Appends that become durable together.
const GROUP: usize = 40;

const STREAMS: usize = 10_000;

/// Appends of one measurement, and of one where every group wakes everybody.
const APPENDS: usize = 40_000;
const APPENDS_WOKEN: usize = 4_000;

/// Rounds of which the median counts.
const ROUNDS: usize = 7;

fn main() {
    // `cargo bench -- --quick`, for a check that it still runs.
    let most = if std::env::args().any(|argument| argument == "--quick") { 1 } else { ROUNDS };
    // First, before there is memory to be used again.
    let bytes = bytes_each();
    let mut rounds = Vec::new();
    for _ in 0..=most {
        rounds.push([0, 1, STREAMS].map(subscribed).into_iter().chain([woken(STREAMS)]).collect::<Vec<_>>());
    }
    // The first round warms up.
    rounds.remove(0);
    let median = |figure: &dyn Fn(&Vec<f64>) -> f64| {
        let mut figures: Vec<_> = rounds.iter().map(figure).collect();
        figures.sort_by(f64::total_cmp);
        figures[figures.len() / 2]
    };
    println!("Appending beside quiet streams, memory engine, one thread, {GROUP} appends in a group");
    println!("  {:<40} {:>9} {:>9}", "", "ns", "x none");
    let names = ["no stream", "1 stream", "10000 streams", "10000 tasks, each woken by each group"];
    for (index, name) in names.into_iter().enumerate() {
        println!("  {name:<40} {:>9.0} {:>9.2}", median(&|round| round[index]), median(&|round| round[index] / round[0]));
    }
    if let Some(bytes) = bytes {
        println!("  memory of a quiet stream: {bytes} bytes");
    }
}

/// Runs on one thread.
fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime needs nothing").block_on(work)
}

/// Nanoseconds of an append beside so many quiet streams.
fn subscribed(streams: usize) -> f64 {
    run(async {
        let store = Arc::new(Memory::new(1 << 30));
        let (feed, matcher) = feed(store.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(matcher.run());
        open(&feed, streams, &mut tasks).await;
        append(&store, APPENDS, settle).await
    })
}

/// Nanoseconds of an append beside so many tasks that are all woken by every group.
fn woken(streams: usize) -> f64 {
    run(async {
        let store = Arc::new(Memory::new(1 << 30));
        let mut tasks = JoinSet::new();
        let woken = Arc::new(AtomicUsize::new(0));
        for _ in 0..streams {
            let (mut durable, woken) = (store.durable(), woken.clone());
            tasks.spawn(async move {
                while durable.changed().await.is_ok() {
                    woken.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        settle().await;
        append(&store, APPENDS_WOKEN, async || {
            let all = woken.load(Ordering::Relaxed) + streams;
            while woken.load(Ordering::Relaxed) < all {
                tokio::task::yield_now().await;
            }
        })
        .await
    })
}

fn feed(store: Arc<Memory>) -> (Feed, cim_gateway::feed::Matcher) {
    let settings =
        Settings { heartbeat: Duration::from_secs(15), heartbeat_skipped: 10_000, max_streams: STREAMS, cold_scans: 2 };
    Feed::new(store, settings, CancellationToken::new())
}

/// Opens streams, each of a channel of its own and with somebody who waits for its events.
async fn open(feed: &Feed, streams: usize, tasks: &mut JoinSet<()>) {
    for number in 0..streams {
        let filter = Filter { service_identifiers: [format!("channel-{number}")].into(), ..Filter::default() };
        let mut reader = feed.subscribe(filter, Start::Latest, None).await.expect("there is room");
        tasks.spawn(async move {
            while let Ok(event) = reader.next().await {
                assert!(matches!(event, Event::Heartbeat(_)), "nothing is for it");
            }
        });
    }
    settle().await;
}

/// Lets the matcher, and whom it wakes, have their turns.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

/// Appends, and returns the nanoseconds of each with all that it causes.
async fn append(store: &Arc<Memory>, appends: usize, mut settled: impl AsyncFnMut()) -> f64 {
    let json = include_bytes!("plain.json");
    let message = wire::decode(json, 64).expect("the sample is JSON").message;
    let entry = Entry { message: Some(message.into()), ..Entry::default() };
    let started = Instant::now();
    for _ in 0..appends / GROUP {
        for _ in 0..GROUP {
            let entry = entry.clone();
            store.append(None, Box::new(|_| Ok(vec![entry]))).await.expect("can be appended");
        }
        settled().await;
    }
    assert_eq!(store.span().end, Position(appends as u64));
    started.elapsed().as_nanos() as f64 / appends as f64
}

/// Bytes of memory of a quiet stream and of the task that waits for its events; none where the system does not tell.
fn bytes_each() -> Option<usize> {
    run(async {
        let (feed, matcher) = feed(Arc::new(Memory::new(1 << 20)));
        let mut tasks = JoinSet::new();
        tasks.spawn(matcher.run());
        open(&feed, STREAMS / 10, &mut tasks).await;
        let before = resident()?;
        open(&feed, STREAMS * 9 / 10, &mut tasks).await;
        Some(resident()?.saturating_sub(before) / (STREAMS * 9 / 10))
    })
}

fn resident() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().trim_end_matches("kB").trim().parse::<usize>().ok().map(|kib| kib * 1024)
}
