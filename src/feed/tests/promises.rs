//! What a reader is promised, whatever goes on beside it.

use super::*;
use crate::store::double::Double;
use crate::store::{self, Scan};
use async_trait::async_trait;
use std::time::SystemTime;
use tokio::time::Instant;

#[tokio::test(start_paused = true)]
async fn the_first_event_is_a_heartbeat_at_the_start() {
    let gateway = gateway();
    for (entries, earliest, latest) in [(0, 0, 0), (3, 0, 3)] {
        gateway.append_many(entries).await;
        let began = Instant::now();
        assert_eq!(gateway.subscribe(Start::Earliest).await.heartbeat().await, earliest);
        assert_eq!(gateway.subscribe(Start::Latest).await.heartbeat().await, latest);
        assert_eq!(gateway.subscribe(Start::After(gateway.cursor(latest))).await.heartbeat().await, latest);
        assert_eq!(began.elapsed(), Duration::ZERO);
    }
}

#[tokio::test(start_paused = true)]
async fn from_any_cursor_a_reader_gets_the_rest_in_order() {
    let gateway = gateway();
    // More than one page.
    gateway.append_many(600).await;
    let mut reader = gateway.subscribe(Start::Earliest).await;
    reader.heartbeat().await;
    let mut cursors = Vec::new();
    for expected in 1..=600 {
        let (position, cursor) = reader.notification().await;
        assert_eq!(position, expected);
        cursors.push(cursor);
    }
    assert_eq!(reader.heartbeat().await, 600);
    for (cursor, seen) in cursors.into_iter().zip(1..).step_by(7) {
        // As a client holds it.
        let cursor: Cursor = cursor.to_string().parse().expect("the feed gave it");
        let mut resumed = gateway.subscribe(Start::After(cursor)).await;
        assert_eq!(resumed.heartbeat().await, seen);
        assert_eq!(resumed.until_heartbeat().await, ((seen + 1..=600).collect(), 600));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_live_reader_sees_what_many_append_in_order_and_once() {
    let gateway = Arc::new(gateway());
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let gateway = gateway.clone();
            tokio::spawn(async move {
                let mut reader = gateway.subscribe(Start::Earliest).await;
                reader.heartbeat().await;
                for expected in 1..=400 {
                    assert_eq!(reader.notification().await.0, expected);
                }
            })
        })
        .collect();
    let writers: Vec<_> = (0..4)
        .map(|_| {
            let gateway = gateway.clone();
            tokio::spawn(async move { gateway.append_many(100).await })
        })
        .collect();
    for task in writers.into_iter().chain(readers) {
        tokio::time::timeout(Duration::from_secs(10), task).await.expect("in time").expect("is content");
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_stops_waiting_loses_nothing() {
    let gateway = gateway();
    let mut reader = gateway.subscribe(Start::Latest).await;
    reader.heartbeat().await;
    for expected in 1..=20 {
        assert!(reader.next().now_or_never().is_none());
        gateway.append_many(1).await;
        assert_eq!(reader.notification().await.0, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_quiet_stream_beats_at_its_interval() {
    let gateway = gateway();
    for (asked, interval) in [(None, SETTINGS.heartbeat), (Some(Duration::from_secs(2)), Duration::from_secs(2))] {
        let mut reader = gateway.feed.subscribe(Filter::default(), Start::Latest, asked).await.expect("there is room");
        reader.heartbeat().await;
        for _ in 0..3 {
            let began = Instant::now();
            reader.heartbeat().await;
            assert_eq!(began.elapsed(), interval);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn every_event_puts_the_next_heartbeat_off() {
    let gateway = gateway();
    let mut reader = gateway.subscribe(Start::Latest).await;
    reader.heartbeat().await;
    tokio::time::advance(Duration::from_secs(10)).await;
    gateway.append_many(1).await;
    reader.notification().await;
    let began = Instant::now();
    assert_eq!(reader.heartbeat().await, 1);
    assert_eq!(began.elapsed(), SETTINGS.heartbeat);
}

#[tokio::test(start_paused = true)]
async fn a_filter_that_passes_over_many_beats_on_the_way() {
    let gateway = with(Settings { heartbeat_skipped: 5, ..SETTINGS }, Memory::new(64 << 20));
    gateway.append_many(5004).await;
    gateway.matched().await;
    let (_, filter) = on("quiet");
    let began = Instant::now();
    let mut reader = gateway.listen(filter, Start::Earliest).await;
    let mut beats = vec![reader.heartbeat().await];
    while beats.last().is_some_and(|last| last + 5 <= 5004) {
        beats.push(reader.heartbeat().await);
    }
    assert_eq!(began.elapsed(), Duration::ZERO, "all of them come while it looks");
    assert_eq!(beats[0], 0);
    assert!(beats.windows(2).all(|pair| pair[1] - pair[0] >= 5), "not before so many were passed over: {beats:?}");
    assert!(beats.len() > 3, "on the way, not at its end: {beats:?}");
    assert_eq!(reader.heartbeat().await, 5004);
    assert_eq!(began.elapsed(), SETTINGS.heartbeat);
}

#[tokio::test(start_paused = true)]
async fn a_time_starts_at_the_first_message_at_or_after_it() {
    let gateway = gateway();
    gateway.append_many(2).await;
    let time = Timestamp::from(SystemTime::now());
    gateway.append_many(2).await;
    for (time, position) in [(Timestamp::default(), 0), (time, 2), (Timestamp { seconds: i64::MAX, nanos: 0 }, 4)] {
        assert_eq!(gateway.subscribe(Start::Since(time)).await.heartbeat().await, position);
    }
}

#[tokio::test(start_paused = true)]
async fn a_cursor_that_cannot_be_read_from_tells_the_oldest_that_can() {
    let gateway = with(SETTINGS, Memory::new(20 << 10));
    gateway.append_many(100).await;
    let span = gateway.store.span();
    let oldest = span.cursor(span.oldest.previous());
    assert!(oldest.position > Position(0));
    let subscribe = async |cursor: Cursor| gateway.feed.subscribe(Filter::default(), Start::After(cursor), None).await.err();
    let expired = Some(Error::CursorExpired { oldest });
    let unknown = Some(Error::CursorUnknown { oldest });
    assert_eq!(subscribe(gateway.cursor(0)).await, expired);
    assert_eq!(subscribe(span.cursor(oldest.position.previous())).await, expired);
    assert_eq!(subscribe(gateway.cursor(101)).await, unknown);
    assert_eq!(subscribe(gateway.cursor(u64::MAX)).await, unknown);
    assert_eq!(subscribe(Cursor { epoch: span.epoch + 1, position: span.end }).await, unknown);
    assert_eq!(subscribe(Cursor { epoch: 0, position: Position(0) }).await, unknown);
    let mut reader = gateway.subscribe(Start::After(oldest)).await;
    assert_eq!(reader.until_heartbeat().await, (vec![], oldest.position.0));
    assert_eq!(reader.until_heartbeat().await, ((span.oldest.0..=100).collect(), 100));
    gateway.feed.subscribe(Filter::default(), Start::Latest, None).await.expect("what was refused took no place");
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_retention_overtakes_is_told_where_to_go_on() {
    let gateway = with(SETTINGS, Memory::new(20 << 10));
    gateway.append_many(1).await;
    let mut reader = gateway.subscribe(Start::Earliest).await;
    reader.heartbeat().await;
    assert_eq!(reader.notification().await.0, 1);
    gateway.append_many(100).await;
    let Err(Error::CursorExpired { oldest }) = reader.next().await else { panic!("there is no silent gap") };
    let mut resumed = gateway.subscribe(Start::After(oldest)).await;
    resumed.heartbeat().await;
    assert_eq!(resumed.notification().await.0, gateway.store.span().oldest.0);
}

#[tokio::test(start_paused = true)]
async fn the_shutdown_ends_every_stream() {
    let gateway = gateway();
    gateway.append_many(3).await;
    let mut busy = gateway.subscribe(Start::Earliest).await;
    busy.heartbeat().await;
    busy.notification().await;
    let mut waiting = gateway.subscribe(Start::Latest).await;
    waiting.heartbeat().await;
    let waiting = tokio::spawn(async move { waiting.next().await.err() });
    tokio::task::yield_now().await;
    let began = Instant::now();
    gateway.shutdown.cancel();
    assert_eq!(busy.next().await.err(), Some(Error::ShuttingDown));
    assert_eq!(waiting.await.expect("ends"), Some(Error::ShuttingDown));
    assert_eq!(began.elapsed(), Duration::ZERO);
    let late = gateway.feed.subscribe(Filter::default(), Start::Latest, None).await;
    assert_eq!(late.err(), Some(Error::ShuttingDown));
}

#[tokio::test(start_paused = true)]
async fn no_more_streams_are_open_than_the_most_and_a_dropped_one_makes_room() {
    let gateway = gateway();
    let mut open = Vec::new();
    for _ in 0..SETTINGS.max_streams {
        open.push(gateway.subscribe(Start::Latest).await);
    }
    let refused = gateway.feed.clone().subscribe(Filter::default(), Start::Latest, None).await;
    assert_eq!(refused.err(), Some(Error::TooManyStreams { most: SETTINGS.max_streams }));
    open.pop();
    open.push(gateway.subscribe(Start::Latest).await);
}

/// A store whose entries were accepted some time ago.
#[derive(Debug)]
struct Aged {
    memory: Memory,
    age: Duration,
}

#[async_trait]
impl Double for Aged {
    fn memory(&self) -> &Memory {
        &self.memory
    }

    async fn scan(&self, after: Position, page: Page, filter: &Filter) -> Result<Scan, store::Error> {
        let accepted_at = Some(Timestamp::from(SystemTime::now() - self.age));
        let age = |stored: Stored| Stored { entry: Arc::new(Entry { accepted_at, ..Entry::clone(&stored.entry) }), ..stored };
        let scan = self.memory.scan(after, page, filter).await?;
        Ok(Scan { entries: scan.entries.into_iter().map(age).collect(), ..scan })
    }
}

#[tokio::test(start_paused = true)]
async fn typing_is_streamed_while_it_is_fresh() {
    for (age, streamed) in [(0, vec![1, 2, 3]), (4, vec![1, 2, 3]), (6, vec![1, 3]), (1_000_000, vec![1, 3])] {
        let memory = Memory::new(64 << 20);
        let aged = Aged { memory: memory.clone(), age: Duration::from_secs(age) };
        let gateway = through(SETTINGS, memory, Arc::new(aged));
        let mut live = gateway.live(Filter::default()).await;
        for ephemeral in [false, true, false] {
            gateway.append(Entry { ephemeral, ..says("a") }).await;
        }
        assert_eq!(live.until_heartbeat().await, (streamed.clone(), 3), "after {age} s");
        let mut behind = gateway.subscribe(Start::Earliest).await;
        behind.heartbeat().await;
        assert_eq!(behind.until_heartbeat().await, (streamed, 3), "after {age} s");
    }
}
