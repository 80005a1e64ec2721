//! The promise of the store, kept on a disk.

use super::*;
use crate::store::bookmarks::conformance;
use crate::store::conformance::{append, conforms, said};
use crate::store::registry::conformance::{channel, registers};
use crate::store::{Claim, Filter, SessionFacts, SessionFilter, SessionPage};
use std::time::Duration;
use tempfile::TempDir;

/// An engine in a folder of its own.
#[derive(Debug)]
struct InFolder {
    engine: Embedded,
    /// Lets go of what is old before each answer, so that there is no need to wait for it.
    keeps_house: bool,
    _folder: TempDir,
}

/// Room for everything that a rule appends.
fn roomy() -> InFolder {
    let options = Options { window_bytes: 2_000, generation_entries: 16, segment_bytes: 16 << 10, ..small() };
    InFolder::new(options, false)
}

/// Keeps some 30 small entries.
fn cramped() -> InFolder {
    let options = Options { segment_bytes: 4 << 10, max_bytes: 16 << 10, generation_entries: 4, ..small() };
    InFolder::new(options, true)
}

fn small() -> Options {
    Options { min_age: Duration::ZERO, min_free: 0, ..Options::default() }
}

impl InFolder {
    fn new(options: Options, keeps_house: bool) -> Self {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let engine = open(folder.path(), options, &|_| {}).expect("can be opened");
        Self { engine, keeps_house, _folder: folder }
    }
}

#[async_trait]
impl Store for InFolder {
    async fn claim(&self, id: &str, fingerprint: &[u8]) -> Result<Claim, Error> {
        self.engine.claim(id, fingerprint).await
    }

    async fn stage(&self, claim: Option<Claim>, stage: Stage<'_>) -> Result<Staged, AppendError> {
        let staged = self.engine.stage(claim, stage).await?;
        if !self.keeps_house {
            return Ok(staged);
        }
        let stored = staged.durable().await?;
        let core = self.engine.core.clone();
        let last = stored.last().expect("a frame is not empty").position;
        let kept = tokio::task::spawn_blocking(move || {
            core.wait_until_indexed(last)?;
            core.keep_house();
            Ok::<_, Error>(())
        });
        kept.await.expect("does not panic")?;
        Ok(Staged::new(std::future::ready(Ok(stored))))
    }

    async fn scan(&self, after: Position, page: Page, filter: &Filter) -> Result<Scan, Error> {
        self.engine.scan(after, page, filter).await
    }

    async fn entry(&self, position: Position) -> Result<Option<Stored>, Error> {
        self.engine.entry(position).await
    }

    async fn deliveries(&self, after: DeliveryId, wanted: Wanted, limit: usize) -> Result<Deliveries, Error> {
        self.engine.deliveries(after, wanted, limit).await
    }

    async fn sequel(&self, position: Position, limit: usize) -> Result<Vec<Position>, Error> {
        self.engine.sequel(position, limit).await
    }

    fn number(&self) -> u64 {
        self.engine.number()
    }

    async fn message(&self, id: &str) -> Result<Option<Stored>, Error> {
        self.engine.message(id).await
    }

    async fn history(&self, conversation: &str, before: Option<Position>, limit: usize) -> Result<Option<Vec<Stored>>, Error> {
        self.engine.history(conversation, before, limit).await
    }

    async fn session(&self, id: &str) -> Result<Option<SessionFacts>, Error> {
        self.engine.session(id).await
    }

    async fn sessions(&self, filter: &SessionFilter, before: Option<&str>, limit: usize) -> Result<SessionPage, Error> {
        self.engine.sessions(filter, before, limit).await
    }

    async fn before(&self, time: Timestamp) -> Result<Position, Error> {
        self.engine.before(time).await
    }

    fn span(&self) -> Span {
        self.engine.span()
    }

    fn durable(&self) -> watch::Receiver<Position> {
        self.engine.durable()
    }
}

#[async_trait]
impl Registry for InFolder {
    async fn channels(&self) -> Result<Vec<pb::Channel>, Error> {
        self.engine.channels().await
    }

    async fn put_channel(&self, channel: &pb::Channel) -> Result<(), Error> {
        self.engine.put_channel(channel).await
    }

    async fn remove_channel(&self, id: &str) -> Result<(), Error> {
        self.engine.remove_channel(id).await
    }
}

conforms!(roomy: roomy(), cramped: cramped());

registers!(roomy());

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_room_for_the_index_nothing_new_is_accepted_and_all_is_found_until_there_is_some() {
    let options = Options { generation_entries: 16, ..small() };
    let store = InFolder::new(options, false);
    let core = store.engine.core.clone();
    core.index.bound(Some(1));
    let mut stored = Vec::new();
    let error = loop {
        assert!(stored.len() < 10_000, "the index has no bound");
        let frame = vec![said(&stored.len().to_string())];
        match store.engine.append(None, Box::new(|_| Ok(frame))).await {
            Ok(mut frame) => stored.append(&mut frame),
            // Until the index has found out, callers are asked to wait.
            Err(AppendError::Store(Error::Busy)) => {}
            Err(AppendError::Store(error)) => break error,
            Err(AppendError::Refused(violations)) => panic!("nobody refused: {violations:?}"),
        }
    };
    assert!(matches!(error, Error::Full { .. }), "{error:?}");
    for entry in &stored {
        let found = store.message(entry.id()).await.expect("can be read").expect("is kept");
        assert_eq!(found.position, entry.position);
        assert!(store.claim(entry.id(), &[]).await.expect("a full store knows what it has").taken);
    }

    core.index.bound(None);
    let mut health = store.engine.health();
    health.wait_for(|health| *health == Health::Serving).await.expect("the engine lives");
    append(&store, vec![said("later")]).await;
    core.wait_until_indexed(stored.last().expect("some are stored").position).expect("there is room");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_without_room_for_its_index_can_be_closed() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let engine = open(folder.path(), small(), &|_| {}).expect("can be opened");
    let stored = append(&engine, (0..1_000).map(|number| said(&number.to_string())).collect()).await;
    engine.core.index.bound(Some(1));
    engine.close();
    drop(engine);
    let engine = open(folder.path(), small(), &|_| {}).expect("can be opened");
    for entry in &stored {
        assert!(engine.message(entry.id()).await.expect("can be read").is_some());
    }
}

/// What is staged when the writer has ended would never be written, and what waits for it would never end.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_store_can_be_closed_while_it_is_written_to() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let engine = open(folder.path(), small(), &|_| {}).expect("can be opened");
    let (first, mut begun) = tokio::sync::mpsc::unbounded_channel();
    let writers: Vec<_> = (0..4)
        .map(|_| {
            let (engine, first) = (engine.clone(), first.clone());
            tokio::spawn(async move {
                let mut last = None;
                loop {
                    match engine.append(None, Box::new(|_| Ok(vec![said("on and on")]))).await {
                        Ok(frame) => last = frame.last().map(|stored| stored.position),
                        Err(error) => return (last, error),
                    }
                    let _heard = first.send(());
                }
            })
        })
        .collect();
    begun.recv().await.expect("something is written");
    tokio::task::block_in_place(|| engine.close());
    let mut last = None;
    for writer in writers {
        let (written, error) = writer.await.expect("a writer does not panic");
        assert!(matches!(error, AppendError::Store(Error::Unavailable { .. })), "{error:?}");
        last = last.max(written);
    }
    drop(engine);
    let engine = open(folder.path(), small(), &|_| {}).expect("can be opened");
    assert!(last.is_some_and(|last| last < engine.span().end.next()), "{last:?}");
}

#[tokio::test]
async fn bookmarks_are_kept_over_a_restart() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let engine = open(folder.path(), small(), &|_| {}).expect("can be opened");
    conformance::what_is_written_is_there_whole_and_replaces_what_was(&engine).await;
    let written = engine.bookmarks().await.expect("can be read");
    assert_eq!(written.len(), 2);
    engine.close();
    let refused = engine.write_bookmarks(&Changes::new()).await;
    assert!(matches!(refused, Err(Error::Unavailable { .. })), "{refused:?}");
    drop(engine);
    let engine = open(folder.path(), small(), &|_| {}).expect("can be opened again");
    assert_eq!(engine.bookmarks().await, Ok(written));
}

#[tokio::test]
async fn what_is_registered_is_there_when_the_store_is_opened_again() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let engine = open(folder.path(), small(), &|_| {}).expect("can be made");
    for (id, service_identifier) in [("1", "shop"), ("2", "help")] {
        engine.put_channel(&channel(id, service_identifier)).await.expect("can be put");
    }
    engine.remove_channel("2").await.expect("can be removed");
    engine.close();
    drop(engine);
    let again = open(folder.path(), small(), &|_| {}).expect("can be opened");
    assert_eq!(again.channels().await.expect("can be read"), [channel("1", "shop")]);
}

#[tokio::test]
async fn a_thread_that_panics_fails_the_store_and_nobody_waits_for_it() {
    let store = roomy();
    threads::guard(&store.engine.core, "log-tester", |_| panic!("as it should"));
    let cause = "the thread log-tester has panicked".to_owned();
    assert_eq!(*store.engine.health().borrow(), Health::Failed { cause: cause.clone() });
    let refused = store.append(None, Box::new(|_| Ok(vec![crate::pb::store::Entry::default()]))).await;
    assert!(matches!(refused, Err(AppendError::Store(Error::Unavailable { cause: told })) if told == cause));
}
