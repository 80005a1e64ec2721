//! What the engine's threads and its callers share, and the steps that each of them takes.

use super::options::Options;
use super::pace::Pace;
use super::shelf::Shelf;
use crate::metrics;
use crate::store::claims::Claims;
use crate::store::control::{Control, ControlError};
use crate::store::hash::HashKey;
use crate::store::index::{Index, IndexError, Merge};
use crate::store::log::{self, BatchHeader, LogError, Place, Segments, Spare, WriteError, Writer};
use crate::store::tail::{Batch, InOrder, Layers, Tail};
use crate::store::{AppendError, Claim, Error, Health, Position, Stage, Staged, Stored};
use parking_lot::{Condvar, Mutex};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, Semaphore, watch};

/// Longest that a caller waits for room.
const PATIENCE: Duration = Duration::from_secs(1);

/// Most callers that wait for room at a time.
const WAITING: usize = 10_000;

/// See the module.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) options: Options,
    pub(super) key: HashKey,
    pub(super) epoch: u64,
    pub(super) control: Control,
    pub(super) index: Index,
    pub(super) segments: Arc<Segments>,
    pub(super) spare: Arc<Spare>,
    pub(super) tail: Mutex<Tail>,
    pub(super) shelf: Shelf,
    writer: Mutex<Writer>,
    pub(super) claims: Claims,
    /// The durable position, for those who wait for more.
    pub(super) durable: watch::Sender<Position>,
    pub(super) health: watch::Sender<Health>,
    /// Callers wait here for room in the tail.
    room: Notify,
    places: Semaphore,
    /// The threads wait here for work.
    pub(super) to_write: Condvar,
    pub(super) to_index: Condvar,
    /// Who waits for the index to catch up waits here.
    pub(super) flushed: Condvar,
    pub(super) stopping: AtomicBool,
    /// True while the index lacks the room for what it was last given.
    index_is_full: AtomicBool,
    merge: Mutex<Option<Merge>>,
    /// What the keeper has seen last.
    pub(super) seen: Mutex<Seen>,
    /// When the log last refused for want of room what was staged.
    pub(super) rejected: Mutex<Option<Instant>>,
    /// Who counts the writes, if somebody does.
    pub(super) metrics: OnceLock<Arc<metrics::Log>>,
}

/// What only the disk can tell.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Seen {
    pub(super) index_bytes: Option<u64>,
    pub(super) free_bytes: Option<u64>,
}

/// The parts of an engine that was opened.
pub(super) struct Parts {
    pub(super) options: Options,
    pub(super) control: Control,
    pub(super) index: Index,
    pub(super) log: log::Opened,
    pub(super) tail: Tail,
}

impl Core {
    pub(super) fn new(parts: Parts) -> Self {
        let Parts { options, control, index, log, tail } = parts;
        Self {
            options,
            key: control.key,
            epoch: control.epochs.current(),
            control,
            index,
            segments: log.segments,
            spare: log.writer.spare().clone(),
            durable: watch::Sender::new(tail.durable),
            tail: Mutex::new(tail),
            shelf: Shelf::default(),
            writer: Mutex::new(log.writer),
            claims: Claims::default(),
            health: watch::Sender::new(Health::Serving),
            room: Notify::new(),
            places: Semaphore::new(WAITING),
            to_write: Condvar::new(),
            to_index: Condvar::new(),
            flushed: Condvar::new(),
            stopping: AtomicBool::new(false),
            index_is_full: AtomicBool::new(false),
            merge: Mutex::new(None),
            seen: Mutex::default(),
            rejected: Mutex::default(),
            metrics: OnceLock::new(),
        }
    }

    /// Fails if nothing can be accepted at the moment.
    pub(super) fn check_accepting(&self) -> Result<(), Error> {
        self.health.borrow().accepting()
    }

    /// Fails if nothing can be told any more.
    pub(super) fn check_working(&self) -> Result<(), Error> {
        match &*self.health.borrow() {
            Health::Failed { cause } => Err(Error::Unavailable { cause: cause.clone() }),
            Health::Serving | Health::Full { .. } => Ok(()),
        }
    }

    /// Changes control data. It has a file of its own, so it can be changed although the log has no room.
    pub(super) fn changing(&self, change: impl FnOnce(&Control) -> Result<(), ControlError>) -> Result<(), Error> {
        self.check_working()?;
        Ok(change(&self.control)?)
    }

    // Acceptance

    /// See [`Store::stage`](crate::store::Store::stage).
    pub(super) async fn stage(&self, claim: Option<Claim>, stage: Stage<'_>) -> Result<Staged, AppendError> {
        self.check_accepting()?;
        let (stored, durable) = match self.stage_if_room(claim, stage)? {
            Ok(staged) => staged,
            Err((claim, stage)) => self.stage_with_patience(claim, stage).await?,
        };
        Ok(Staged::new(async move {
            match durable.await {
                Ok(written) => written.map(|()| stored),
                Err(_) => Err(Error::Unavailable { cause: "the store was closed".into() }),
            }
        }))
    }

    /// Stages a frame once there is room for it. Others get theirs meanwhile.
    async fn stage_with_patience<'s>(&self, mut claim: Option<Claim>, mut stage: Stage<'s>) -> Result<InOrder, AppendError> {
        let _place = self.places.try_acquire().map_err(|_| Error::Busy)?;
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let notified = self.room.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            match self.stage_if_room(claim, stage)? {
                Ok(staged) => return Ok(staged),
                Err(again) => (claim, stage) = again,
            }
            tokio::time::timeout_at(deadline, notified).await.map_err(|_| Error::Busy)?;
        }
    }

    /// Stages a frame, or gives it back if there is no room.
    fn stage_if_room<'s>(
        &self,
        claim: Option<Claim>,
        stage: Stage<'s>,
    ) -> Result<Result<InOrder, (Option<Claim>, Stage<'s>)>, AppendError> {
        let mut tail = self.tail.lock();
        let is_young_full = tail.young_is_full();
        if !tail.has_room() {
            drop(tail);
            self.to_index.notify_one();
            return Ok(Err((claim, stage)));
        }
        if is_young_full {
            // It has just become the old one.
            self.to_index.notify_one();
        }
        self.check_staging(&tail)?;
        // Once more under the lock: what was staged before may just have been taken back, and this came after it.
        self.check_accepting()?;
        let facts = Layers::new(&tail, &self.index);
        let frame = stage(&facts);
        if let Some(error) = facts.into_failure() {
            return Err(AppendError::Store(unavailable(error)));
        }
        let frame = frame.map_err(AppendError::Refused)?;
        tail.check_messages(&frame)?;
        let staged = tail.stage(frame, claim, &self.index).map_err(unavailable)?;
        let gone = tail.trim_window();
        drop(tail);
        self.to_write.notify_one();
        drop(gone);
        Ok(Ok(staged))
    }

    /// Fails if what is staged now would not be written any more. Under the lock of the tail: a writer that fails takes everything back
    /// under it, too, and one that ends looks under it for what is left.
    pub(super) fn check_staging(&self, _tail: &Tail) -> Result<(), Error> {
        self.check_working()?;
        if self.stopping.load(Ordering::Acquire) {
            return Err(Error::Unavailable { cause: "the store is closed".into() });
        }
        Ok(())
    }

    /// What `look` finds in the facts that a stage would see now.
    #[cfg(test)]
    pub(super) fn look<T>(&self, look: impl FnOnce(&dyn crate::store::Facts) -> T) -> T {
        let tail = self.tail.lock();
        let facts = Layers::new(&tail, &self.index);
        let found = look(&facts);
        assert!(facts.into_failure().is_none(), "the index cannot be read");
        found
    }

    // The writer's step

    /// Writes the next batch and tells those who wait for it. False if there is none.
    pub(super) fn write_next(&self) -> bool {
        let next = self.tail.lock().next_batch();
        let Some(mut batch) = next else { return false };
        let count = u32::try_from(batch.hints.len()).expect("a batch is bounded far below 4 billion entries");
        let begun = Instant::now();
        let written = self.writer.lock().write(&mut batch.bytes, batch.first, count);
        match written {
            Ok((place, size)) => {
                if let Some(metrics) = self.metrics.get() {
                    metrics.wrote(count, size, begun.elapsed());
                }
                self.publish(batch, place, size);
            }
            Err(WriteError::Full(error)) => self.reject(batch, &error),
            Err(WriteError::Failed(error)) => self.fail(format!("the log cannot be written: {error}"), Some(batch)),
        }
        true
    }

    fn publish(&self, batch: Batch, place: Place, size: u64) {
        let mut tail = self.tail.lock();
        tail.written(place, size, batch.first, &batch.hints);
        tail.recycle(batch.bytes);
        let durable = tail.durable;
        // Under the lock, so that the durable position never falls, nor is seen before the tail shows it.
        self.durable.send_replace(durable);
        let indexable = tail.old.is_some();
        drop(tail);
        for waiting in batch.waiting {
            // The claim is settled before the answer, so that a repeat after the answer need not wait.
            drop(waiting.claim);
            let _gone = waiting.told.send(Ok(()));
        }
        if indexable {
            self.to_index.notify_one();
        }
        self.room.notify_waiters();
    }

    /// Writes a seal if the last batch has none. False if nothing was to be done.
    pub(super) fn seal(&self) -> bool {
        let next = {
            let tail = self.tail.lock();
            if !tail.batches.is_empty() {
                return false;
            }
            tail.durable.next()
        };
        let mut writer = self.writer.lock();
        if !writer.unsealed() {
            return false;
        }
        match writer.seal(next) {
            // Without room it stays unsealed, which loses nothing.
            Ok(()) | Err(WriteError::Full(_)) => true,
            Err(WriteError::Failed(error)) => {
                drop(writer);
                self.fail(format!("the log cannot be written: {error}"), None);
                true
            }
        }
    }

    /// The disk is full: nothing of `batch` is in the log, nor will be what was staged after it.
    fn reject(&self, batch: Batch, error: &std::io::Error) {
        let what = format!("the log cannot grow: {error}");
        tracing::error!(%error, "the disk is full; new messages are refused until there is room");
        *self.rejected.lock() = Some(Instant::now());
        self.set_full(Some(what.clone()));
        let mut tail = self.tail.lock();
        let (rejected, kept) = tail.take_back();
        let durable = tail.durable;
        // It is what it was: whoever waits for more learns that what was staged is not to come.
        self.durable.send_replace(durable);
        let replayed = self.replay_into(&mut tail, kept, durable).map(|()| rejected);
        drop(tail);
        match replayed {
            Ok(rejected) => {
                for waiting in std::iter::once(batch).chain(rejected).flat_map(|batch| batch.waiting) {
                    drop(waiting.claim);
                    let _gone = waiting.told.send(Err(Error::Full { what: what.clone() }));
                }
                self.room.notify_waiters();
            }
            Err(error) => self.fail(error.to_string(), Some(batch)),
        }
    }

    /// The entries after `after` up to `end` go to the tail once more.
    fn replay_into(&self, tail: &mut Tail, after: Position, end: Position) -> Result<(), LogError> {
        if after >= end {
            return Ok(());
        }
        let known = tail.blocks_from(after.next(), 1).pop();
        let indexed = || self.index.lookup().and_then(|lookup| lookup.block_of(after.next())).ok().flatten();
        let first = || self.segments.firsts().first().map(|segment| (Place::start_of(*segment), *segment));
        let Some(from) = known.or_else(indexed).map(|block| (block.place, block.first)).or_else(first) else {
            return Ok(());
        };
        log::replay(&self.segments, from, end.next(), |place, header, bytes| {
            each_entry(place, header, bytes, after, |stored, hints, size| {
                tail.replay(stored, &hints, size);
                Ok(())
            })
        })
    }

    /// Nobody knows what is on the disk: nothing is accepted or answered any more. The process has to end.
    pub(super) fn fail(&self, cause: String, batch: Option<Batch>) {
        tracing::error!(cause, "the store has failed; restart the gateway");
        let batches = {
            let mut tail = self.tail.lock();
            self.health.send_replace(Health::Failed { cause: cause.clone() });
            let rest = tail.batches.drain(..).collect::<Vec<_>>();
            batch.into_iter().chain(rest)
        };
        for waiting in batches.flat_map(|batch| batch.waiting) {
            let _gone = waiting.told.send(Err(Error::Unavailable { cause: cause.clone() }));
        }
        self.room.notify_waiters();
        self.to_index.notify_all();
    }

    /// Says that there is no room, or that there is.
    pub(super) fn set_full(&self, full: Option<String>) {
        self.health.send_if_modified(|health| {
            let next = match (&*health, full) {
                (Health::Failed { .. }, _) => return false,
                (_, Some(what)) => Health::Full { what },
                (_, None) => Health::Serving,
            };
            let changed = *health != next;
            *health = next;
            changed
        });
    }

    // The indexer's steps

    /// True while what is in the tail is to go to the index although it is little: because somebody waits for it, or because the store is
    /// being closed, which stands for all of it.
    pub(super) fn is_to_flush(&self, tail: &Tail) -> bool {
        self.stopping.load(Ordering::Acquire) || tail.is_to_flush()
    }

    /// Takes the old generation into the index, once it is durable. False if there is none that is.
    pub(super) fn index_next(&self) -> bool {
        let (generation, blocks) = {
            let mut tail = self.tail.lock();
            if self.is_to_flush(&tail) || tail.young_is_full() {
                tail.freeze();
            }
            let Some(old) = tail.old.clone().filter(|old| old.last <= tail.durable) else { return false };
            let count = tail.blocks_up_to(old.last);
            let blocks: Vec<_> = tail.blocks.range(..count).cloned().collect();
            (old, blocks)
        };
        let mut pace = Pace::begin();
        let positions = (generation.first, generation.last);
        if let Err(error) = self.index.write(&generation.state, &blocks, positions, &mut || self.rest(&mut pace)) {
            self.index_failed(&error);
            return false;
        }
        self.index_is_full.store(false, Ordering::Release);
        // Only now: whoever looked into the tail and found nothing must find it in the index.
        let gone = self.tail.lock().indexed(blocks.len());
        self.room.notify_waiters();
        self.flushed.notify_all();
        drop(generation);
        // Nobody else has it, but for who looks into the tail just now.
        if let Some(gone) = gone.and_then(Arc::into_inner) {
            gone.state.drop_slowly(&mut || self.rest(&mut pace));
        }
        true
    }

    /// Without room the index waits for some: the log and the tail have all that it lacks. Anything else is the end.
    fn index_failed(&self, error: &IndexError) {
        if !error.is_full() {
            return self.fail(format!("the index cannot be written: {error}"), None);
        }
        if !self.index_is_full.swap(true, Ordering::AcqRel) {
            tracing::error!(%error, "the disk is full; new messages are refused until there is room");
        }
        self.set_full(Some(format!("the index cannot grow: {error}")));
    }

    /// True while the index lacks the room for what it was last given.
    pub(super) fn index_is_full(&self) -> bool {
        self.index_is_full.load(Ordering::Acquire)
    }

    /// Merges runs of ids, a step at a time. False if there is nothing to merge, or if it cannot be.
    pub(super) fn merge_next(&self) -> bool {
        match self.index.note_damage() {
            Ok(false) => {}
            Err(error) if !error.is_full() => {
                self.index_failed(&error);
                return false;
            }
            // Without room it is noted later.
            Ok(true) | Err(_) => return false,
        }
        let mut merge = self.merge.lock();
        let next = match merge.take() {
            Some(under_way) => self.index.step_merge(under_way),
            None => match self.index.begin_merge() {
                Ok(Some(begun)) => Ok(Some(begun)),
                Ok(None) => return false,
                Err(error) => Err(error),
            },
        };
        match next {
            Ok(next) => {
                *merge = next;
                true
            }
            // Runs that are not merged are found as well; they are merged when there is room, or made again at the next start.
            Err(error) if error.is_full() || error.is_damage() => false,
            Err(error) => {
                self.index_failed(&error);
                false
            }
        }
    }
}

/// What an index that cannot be read means to a caller.
pub(super) fn unavailable(error: IndexError) -> Error {
    Error::Unavailable { cause: error.to_string() }
}

/// Decodes the entries of a batch that lie after `after`.
pub(super) fn each_entry(
    place: Place,
    header: &BatchHeader,
    bytes: &[u8],
    after: Position,
    mut visit: impl FnMut(Stored, log::Hints, usize) -> Result<(), LogError>,
) -> Result<(), LogError> {
    for record in log::records(header, bytes) {
        let record = record.map_err(|malformed| damaged(place, malformed))?;
        if record.position > after {
            let entry = Arc::new(record.entry().map_err(|malformed| damaged(place, malformed))?);
            visit(Stored { position: record.position, entry }, record.hints, record.len())?;
        }
    }
    Ok(())
}

pub(super) fn damaged(place: Place, malformed: log::Malformed) -> LogError {
    LogError::malformed(log::name_of(place.segment), place.offset, malformed)
}
