//! What a name promises, each with the tests that try to break it.

use super::*;
use crate::feed::{self, Event};
use crate::pb::store::Entry;
use crate::store::Position;
use crate::store::bookmarks::Changes;
use crate::store::memory::Memory;
use async_trait::async_trait;
use futures::FutureExt as _;
use std::collections::VecDeque;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const SETTINGS: Settings = Settings { max: 3, write_interval: Duration::ZERO };

/// Bookmarks that note what is written, and fail when they are told to.
#[derive(Debug, Default)]
struct Notebook {
    kept: Mutex<BTreeMap<String, Bookmark>>,
    writes: Mutex<Vec<Changes>>,
    failures: Mutex<VecDeque<store::Error>>,
}

#[async_trait]
impl Bookmarks for Notebook {
    async fn bookmarks(&self) -> Result<BTreeMap<String, Bookmark>, store::Error> {
        Ok(self.kept.lock().clone())
    }

    async fn write_bookmarks(&self, changes: &Changes) -> Result<(), store::Error> {
        self.writes.lock().push(changes.clone());
        if let Some(failure) = self.failures.lock().pop_front() {
            return Err(failure);
        }
        let mut kept = self.kept.lock();
        for (name, change) in changes {
            match change {
                Some(bookmark) => drop(kept.insert(name.clone(), *bookmark)),
                None => drop(kept.remove(name)),
            }
        }
        Ok(())
    }
}

/// A gateway's subscriptions, whose store and notebook outlive it.
struct World {
    memory: Memory,
    notebook: Arc<Notebook>,
    subscriptions: Subscriptions,
    writer: JoinHandle<()>,
    matcher: JoinHandle<()>,
}

impl World {
    async fn new() -> Self {
        Self::with(SETTINGS).await
    }

    async fn with(settings: Settings) -> Self {
        Self::on(Memory::new(64 << 20), Arc::default(), settings).await
    }

    async fn on(memory: Memory, notebook: Arc<Notebook>, settings: Settings) -> Self {
        let store = Arc::new(memory.clone());
        let feed =
            feed::Settings { heartbeat: Duration::from_secs(15), heartbeat_skipped: 10_000, max_streams: 8, cold_scans: 1 };
        let (feed, matcher) = Feed::new(store.clone(), feed, CancellationToken::new());
        let (subscriptions, writer) = Subscriptions::open(feed, store, notebook.clone(), settings).await.expect("can be read");
        Self { memory, notebook, subscriptions, writer: tokio::spawn(writer.run()), matcher: tokio::spawn(matcher.run()) }
    }

    /// The same store after a restart.
    async fn restarted(self) -> Self {
        self.matcher.abort();
        Self::on(self.memory, self.notebook, SETTINGS).await
    }

    async fn append(&self, count: u64) {
        for _ in 0..count {
            let entry = Entry { message: Some(Box::default()), ..Entry::default() };
            self.memory.append(None, Box::new(|_| Ok(vec![entry]))).await.expect("can be appended");
        }
    }

    fn cursor(&self, position: u64) -> Cursor {
        self.memory.span().cursor(Position(position))
    }

    async fn acknowledge(&self, generation: u64, position: u64) -> Result<u64, Error> {
        let acknowledged = self.subscriptions.acknowledge("a", generation, self.cursor(position)).await;
        acknowledged.map(|cursor| cursor.position.0)
    }

    async fn attach(&self) -> Attached {
        Attached::new(self.subscriptions.subscribe(named("a")).await.expect("can be attached")).await
    }

    /// The one that is called a.
    fn listed(&self) -> Listed {
        self.subscriptions.list(None, 1).subscriptions.remove(0)
    }
}

/// A reader that stands.
struct Attached {
    reader: Reader,
    generation: u64,
    start: u64,
}

impl Attached {
    async fn new(mut reader: Reader) -> Self {
        let Ok(Event::Heartbeat(start)) = reader.next().await else { panic!("a heartbeat comes first") };
        let generation = reader.generation().expect("has a name");
        Self { reader, generation, start: start.position.0 }
    }

    async fn next(&mut self) -> Result<u64, Error> {
        loop {
            if let Event::Notification(stored, _) = self.reader.next().await? {
                return Ok(stored.position.0);
            }
        }
    }
}

fn named(name: &str) -> Request {
    let name = Some(name.parse().expect("is a name"));
    Request { name, filter: Filter::default(), start: None, reset: false, heartbeat: None }
}

fn from(start: Start) -> Request {
    Request { start: Some(start), ..named("a") }
}

fn taken_over() -> Error {
    Error::TakenOver { name: "a".into() }
}

fn not_found() -> Error {
    Error::SubscriptionNotFound { name: "a".into() }
}

#[tokio::test(start_paused = true)]
async fn a_new_name_begins_at_the_latest_and_then_after_what_is_acknowledged() {
    let world = World::new().await;
    world.append(3).await;
    let mut first = world.attach().await;
    assert_eq!(first.start, 3);
    world.append(4).await;
    assert_eq!([first.next().await, first.next().await], [Ok(4), Ok(5)]);
    assert_eq!(world.acknowledge(first.generation, 4).await, Ok(4));
    drop(first);
    let mut second = world.attach().await;
    assert_eq!(second.start, 4);
    assert_eq!(second.next().await, Ok(5), "it was given out, but not acknowledged");
}

#[tokio::test(start_paused = true)]
async fn where_nothing_is_acknowledged_a_name_goes_on_where_it_began() {
    let world = World::new().await;
    world.append(2).await;
    drop(world.attach().await);
    world.append(2).await;
    assert_eq!(world.attach().await.start, 2);
}

#[tokio::test(start_paused = true)]
async fn names_cursors_and_generations_outlive_the_process() {
    let world = World::new().await;
    world.append(9).await;
    let former = world.attach().await;
    world.acknowledge(former.generation, 9).await.expect("is the reader");
    let world = world.restarted().await;
    // It may say so late, as long as nobody else has attached the name.
    world.append(2).await;
    assert_eq!(world.acknowledge(former.generation, 10).await, Ok(10));
    let latter = world.attach().await;
    assert_eq!(latter.start, 10);
    assert!(latter.generation > former.generation);
    assert_eq!(world.acknowledge(former.generation, 11).await, Err(taken_over()));
}

#[tokio::test(start_paused = true)]
async fn acknowledgements_are_cumulative_and_never_fall() {
    let world = World::new().await;
    let reader = world.attach().await;
    world.append(9).await;
    for (sent, now) in [(5, 5), (3, 5), (5, 5), (0, 5), (9, 9), (8, 9)] {
        assert_eq!(world.acknowledge(reader.generation, sent).await, Ok(now), "{sent}");
        assert_eq!(world.listed().bookmark.cursor, world.cursor(now));
    }
    let beyond = world.acknowledge(reader.generation, 10).await;
    assert_eq!(beyond, Err(Error::CursorUnknown { oldest: world.cursor(0) }));
    let of_another_history = Cursor { epoch: 1, position: Position(9) };
    let unknown = world.subscriptions.acknowledge("a", reader.generation, of_another_history).await;
    assert_eq!(unknown, Err(Error::CursorUnknown { oldest: world.cursor(0) }));
    assert_eq!(world.listed().bookmark.cursor, world.cursor(9));
}

#[tokio::test(start_paused = true)]
async fn who_attaches_a_name_takes_it_over_and_the_reader_before_can_do_nothing_more() {
    let world = World::new().await;
    let mut first = world.attach().await;
    let mut second = world.attach().await;
    world.append(1).await;
    assert_eq!(first.next().await, Err(taken_over()));
    assert_eq!(world.acknowledge(first.generation, 1).await, Err(taken_over()));
    assert_eq!(second.next().await, Ok(1));
    assert_eq!(world.listed().bookmark.cursor, world.cursor(0));
    // That it goes late does not detach who is there.
    drop(first);
    assert!(world.listed().attached);
    assert_eq!(world.acknowledge(second.generation, 1).await, Ok(1));
    drop(second);
    assert!(!world.listed().attached);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_waits_is_displaced_at_once() {
    let world = World::new().await;
    let mut first = world.attach().await;
    let waiting = tokio::spawn(async move { first.next().await });
    tokio::task::yield_now().await;
    let _second = world.attach().await;
    assert_eq!(waiting.await.expect("does not panic"), Err(taken_over()));
}

#[tokio::test(start_paused = true)]
async fn of_many_who_attach_a_name_at_once_one_is_left() {
    let world = World::with(Settings { max: 1, ..SETTINGS }).await;
    let attaching = (0..8).map(|_| world.subscriptions.subscribe(named("a")));
    let mut readers: Vec<_> =
        futures::future::join_all(attaching).await.into_iter().map(|reader| reader.expect("can be attached")).collect();
    let generations: std::collections::BTreeSet<_> = readers.iter().map(Reader::generation).collect();
    assert_eq!(generations.len(), 8);
    let latest = generations.last().copied().flatten();
    for reader in &mut readers {
        let event = reader.next().await;
        assert_eq!(event.is_ok(), reader.generation() == latest, "{event:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_start_is_for_a_name_that_has_acknowledged_nothing_or_is_reset() {
    let world = World::new().await;
    world.append(5).await;
    let start = async |request| Attached::new(world.subscriptions.subscribe(request).await.expect("can be attached")).await;
    assert_eq!(start(from(Start::Earliest)).await.start, 0);
    // The first attachment is repeated, because its answer was lost.
    let reader = start(from(Start::After(world.cursor(2)))).await;
    assert_eq!(reader.start, 2);
    // What it was given at first is acknowledged, too, by the cursor that it begins at.
    world.acknowledge(reader.generation, 2).await.expect("is the reader");
    for request in [from(Start::Earliest), from(Start::Latest), from(Start::After(world.cursor(2)))] {
        let refused = world.subscriptions.subscribe(request).await.map(drop);
        assert!(matches!(refused, Err(Error::InvalidRequest { field: "start", .. })), "{refused:?}");
    }
    assert!(world.listed().attached, "who is refused takes nothing over");
    let back = start(Request { reset: true, ..from(Start::After(world.cursor(1))) }).await;
    assert_eq!((back.start, world.listed().bookmark.cursor), (1, world.cursor(1)));
    assert_eq!(world.acknowledge(reader.generation, 4).await, Err(taken_over()));
    let refused = world.subscriptions.subscribe(Request { reset: true, ..named("a") }).await.map(drop);
    assert!(matches!(refused, Err(Error::InvalidRequest { field: "reset", .. })), "{refused:?}");
    let nameless = Request { name: None, reset: true, ..from(Start::Latest) };
    let refused = world.subscriptions.subscribe(nameless).await.map(drop);
    assert!(matches!(refused, Err(Error::InvalidRequest { field: "reset", .. })), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn a_name_that_lags_holds_nothing_up_and_can_be_reset() {
    let world = World::on(Memory::new(200_000), Arc::default(), SETTINGS).await;
    drop(world.attach().await);
    world.append(100).await;
    let oldest = world.memory.span().oldest.previous();
    assert!(oldest > Position(0), "retention went on");
    let listed = world.listed();
    assert_eq!((listed.behind, listed.expired, listed.attached), (100, true, false));
    let figures = Figures { names: 1, attached: 0, expired: 1, behind: 0 };
    assert_eq!(world.subscriptions.figures(), figures);
    let expired = world.subscriptions.subscribe(named("a")).await.map(drop);
    assert_eq!(expired, Err(Error::CursorExpired { oldest: world.cursor(oldest.0) }));
    let reset = Request { reset: true, ..from(Start::Earliest) };
    let reader = Attached::new(world.subscriptions.subscribe(reset).await.expect("can be reset")).await;
    assert_eq!(reader.start, oldest.0);
    let listed = world.listed();
    assert_eq!((listed.behind, listed.expired, listed.attached), (100 - oldest.0, false, true));
    let figures = Figures { names: 1, attached: 1, expired: 0, behind: 100 - oldest.0 };
    assert_eq!(world.subscriptions.figures(), figures);
}

#[tokio::test(start_paused = true)]
async fn a_name_of_a_history_that_is_gone_goes_on_by_a_later_acknowledgement_or_a_reset() {
    let former = World::new().await;
    former.append(9).await;
    let reader = former.attach().await;
    former.acknowledge(reader.generation, 9).await.expect("is the reader");
    let world = World::on(Memory::new(64 << 20), former.notebook.clone(), SETTINGS).await;
    world.append(2).await;
    assert!(world.listed().expired);
    let unknown = world.subscriptions.subscribe(named("a")).await.map(drop);
    assert!(matches!(unknown, Err(Error::CursorUnknown { .. })), "{unknown:?}");
    assert_eq!(world.acknowledge(reader.generation, 1).await, Ok(1));
    assert_eq!(world.attach().await.start, 1);
}

#[tokio::test(start_paused = true)]
async fn no_more_names_than_may_be_and_a_name_that_is_refused_is_not_kept() {
    let world = World::new().await;
    for name in ["c", "b", "a"] {
        world.subscriptions.subscribe(named(name)).await.expect("there is room");
    }
    let refused = world.subscriptions.subscribe(named("d")).await.map(drop);
    assert_eq!(refused, Err(Error::TooManySubscriptions { most: 3 }));
    world.attach().await;
    world.subscriptions.delete("b").await.expect("is there");
    world.subscriptions.subscribe(named("d")).await.expect("there is room again");
    let names = |page: &ListPage| page.subscriptions.iter().map(|listed| listed.name.clone()).collect::<Vec<_>>();
    let first = world.subscriptions.list(None, 2);
    assert_eq!((names(&first), first.next.as_deref()), (vec!["a".into(), "c".into()], Some("c")));
    let second = world.subscriptions.list(Some("c"), 2);
    assert_eq!((names(&second), second.next), (vec!["d".into()], None));
    let written: Vec<_> = world.notebook.kept.lock().keys().cloned().collect();
    assert_eq!(written, ["a", "c", "d"]);
}

#[tokio::test(start_paused = true)]
async fn a_name_that_is_deleted_ends_its_reader_and_is_forgotten_for_good() {
    let world = World::new().await;
    world.append(3).await;
    let mut reader = world.attach().await;
    world.subscriptions.delete("a").await.expect("is there");
    assert_eq!(reader.next().await, Err(not_found()));
    assert_eq!(world.acknowledge(reader.generation, 1).await, Err(not_found()));
    assert_eq!(world.subscriptions.delete("a").await, Err(not_found()));
    // A namesake is another subscription.
    let namesake = world.attach().await;
    assert!(namesake.generation > reader.generation);
    assert_eq!((namesake.start, world.acknowledge(reader.generation, 1).await), (3, Err(taken_over())));
    drop(reader);
    assert!(world.listed().attached);
    world.subscriptions.delete("a").await.expect("is there");
    let world = world.restarted().await;
    assert_eq!(world.acknowledge(namesake.generation, 3).await, Err(not_found()));
}

#[tokio::test(start_paused = true)]
async fn what_comes_within_the_interval_is_written_together_each_name_once() {
    let interval = Duration::from_secs(2);
    let world = World::with(Settings { write_interval: interval, ..SETTINGS }).await;
    let reader = world.attach().await;
    world.append(9).await;
    let began = tokio::time::Instant::now();
    let acknowledging = (1..=9).map(|position| world.acknowledge(reader.generation, position));
    let outcomes = futures::future::join_all(acknowledging).await;
    assert_eq!(outcomes, (1..=9).map(Ok).collect::<Vec<_>>());
    assert_eq!(began.elapsed(), interval);
    let writes = world.notebook.writes.lock().clone();
    let written: Vec<_> = writes.iter().map(|changes| changes["a"].map(|bookmark| bookmark.cursor.position.0)).collect();
    assert_eq!(written, [Some(0), Some(9)]);
    // After a quiet time the next is written at once.
    tokio::time::sleep(interval).await;
    let acknowledged = world.acknowledge(reader.generation, 9);
    let began = tokio::time::Instant::now();
    assert_eq!(acknowledged.await, Ok(9));
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_answered_before_it_is_written_and_a_failure_is_told() {
    let world = World::new().await;
    let reader = world.attach().await;
    world.append(3).await;
    let failure = store::Error::Unavailable { cause: "the disk".into() };
    world.notebook.failures.lock().push_back(failure.clone());
    assert_eq!(world.acknowledge(reader.generation, 2).await, Err(Error::Store(failure)));
    assert_eq!(world.notebook.kept.lock()["a"].cursor, world.cursor(0));
    // What was not written is written with the next.
    world.subscriptions.subscribe(named("b")).await.expect("can be attached");
    assert_eq!(world.notebook.kept.lock()["a"].cursor, world.cursor(2));
}

#[tokio::test(start_paused = true)]
async fn who_stops_waiting_for_a_name_leaves_it_without_a_reader() {
    let world = World::with(Settings { write_interval: Duration::from_secs(2), ..SETTINGS }).await;
    drop(world.attach().await);
    let mut attaching = Box::pin(world.subscriptions.subscribe(named("a")));
    assert!(attaching.as_mut().now_or_never().is_none(), "it is not written yet");
    assert!(world.listed().attached);
    drop(attaching);
    assert!(!world.listed().attached);
}

#[tokio::test(start_paused = true)]
async fn the_writer_ends_with_the_last_who_could_change_anything() {
    let World { subscriptions, writer, matcher, .. } = World::new().await;
    matcher.abort();
    drop(subscriptions);
    writer.await.expect("does not panic");
}
