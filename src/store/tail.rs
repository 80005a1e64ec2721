//! The tail: the part of the log that is on its way, in memory.
//!
//! ```text
//!            indexed              durable            end
//! ... ──────────┼───── old ──────┼─── young ───┼──────┤        facts, until the index has them
//!                     ├─── window: decoded entries ───┤
//!                                              ├──────┤        batches that wait to be written
//! ```
//!
//! Facts that the index has not taken yet are kept in two generations. Acceptance adds to the young one; when that is full it becomes
//! the old one, which no longer changes, is written to the index as a whole, and is dropped once it can be found there. So whatever
//! is looked up is in the young generation, in the old one or in the index, and in this order the first answer is the latest.

use super::deliveries::{self, Deliveries, Delivery, DeliveryId, Stack, Wanted};
use super::facts::{Name, Named, State};
use super::hash::HashKey;
use super::index::{Index, IndexError, Lookup};
use super::log::{BATCH_HEADER, Block, BlockBuilder, Hints, Record};
use super::{Claim, Common, CustomerFacts, Error, Facts, Frame, Position, Rank, SessionFacts, Stored, clock, is_active};
use crate::pb::store::{Entry, Session};
use std::cell::{OnceCell, RefCell};
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::oneshot;

/// The facts of a stretch of the log.
#[derive(Debug)]
pub(super) struct Generation {
    pub(super) state: State,
    /// Position of its first entry.
    pub(super) first: Position,
    /// Position of its last entry; the one before [`Self::first`] while it has none.
    pub(super) last: Position,
    /// Bytes of its entries.
    bytes: u64,
}

impl Generation {
    fn after(position: Position, key: HashKey) -> Self {
        Self { state: State::new(key), first: position.next(), last: position, bytes: 0 }
    }

    /// How many entries it has.
    pub(super) const fn len(&self) -> u64 {
        self.last.0 + 1 - self.first.0
    }
}

/// How much the tail may hold.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Entries of one generation.
    pub(super) generation_entries: u64,
    /// Bytes of the entries of one generation: a start after a crash reads them again.
    pub(super) generation_bytes: u64,
    /// Bytes of the decoded entries that readers share, as protobuf.
    pub(super) window_bytes: usize,
    /// Bytes of a batch, unless one frame is larger.
    pub(super) batch_bytes: usize,
    /// Bytes of the batches that wait.
    pub(super) staged_bytes: usize,
}

/// A frame that has its place, and what tells once it is durable.
pub(super) type InOrder = (Vec<Stored>, oneshot::Receiver<Result<(), Error>>);

/// Frames that are written at once.
#[derive(Debug)]
pub(super) struct Batch {
    /// Its records, after room for a header.
    pub(super) bytes: Vec<u8>,
    /// Position of its first entry.
    pub(super) first: Position,
    /// What is told of each entry.
    pub(super) hints: Vec<Hints>,
    /// Those who wait for it.
    pub(super) waiting: Vec<Waiting>,
}

/// Who waits for a frame. The claim is settled with it.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) told: oneshot::Sender<Result<(), Error>>,
    pub(super) claim: Option<Claim>,
}

/// Entries that readers share, the newest of the log.
#[derive(Debug, Default)]
struct Window {
    entries: VecDeque<(Stored, usize)>,
    bytes: usize,
}

impl Window {
    fn push(&mut self, stored: Stored, bytes: usize) {
        self.bytes += bytes;
        self.entries.push_back((stored, bytes));
    }

    /// Takes what is too much, oldest first, into `gone`.
    fn trim(&mut self, most: usize, gone: &mut Vec<Stored>) {
        while self.bytes > most && self.entries.len() > 1 {
            if let Some((stored, bytes)) = self.entries.pop_front() {
                self.bytes -= bytes;
                gone.push(stored);
            }
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Tail {
    key: HashKey,
    bounds: Bounds,
    pub(super) young: Generation,
    pub(super) old: Option<Arc<Generation>>,
    window: Window,
    /// The last entry that is staged.
    pub(super) end: Position,
    /// The last entry that is durable.
    pub(super) durable: Position,
    /// The oldest entry that is kept.
    pub(super) oldest: Position,
    /// What stands below it has gone, or is about to go: nothing is planned of a message there.
    pub(super) goes_below: Position,
    /// When the last entry was accepted, in nanoseconds since 1970.
    accepted_at: i64,
    pub(super) batches: VecDeque<Batch>,
    staged_bytes: usize,
    /// How often something that was staged was taken back.
    pub(super) taken_back: u64,
    /// The last entry that somebody waits to see in the index.
    flush_to: Position,
    /// Blocks that are complete and that the index does not have yet.
    pub(super) blocks: VecDeque<Block>,
    builder: BlockBuilder,
    /// A buffer to use again.
    recycled: Vec<Vec<u8>>,
}

impl Tail {
    /// The tail of a log that is indexed up to `indexed`, and where what is kept begins with `oldest`.
    pub(super) fn new(key: HashKey, bounds: Bounds, indexed: Position, oldest: Position) -> Self {
        Self {
            key,
            bounds,
            young: Generation::after(indexed, key),
            old: None,
            window: Window::default(),
            end: indexed,
            durable: indexed,
            oldest,
            goes_below: oldest,
            accepted_at: 0,
            batches: VecDeque::new(),
            staged_bytes: 0,
            taken_back: 0,
            flush_to: Position::default(),
            blocks: VecDeque::new(),
            builder: BlockBuilder::default(),
            recycled: Vec::new(),
        }
    }

    /// True if another frame can be staged. If the young generation is full it becomes the old one, if there is none.
    pub(super) fn has_room(&mut self) -> bool {
        if self.young_is_full() && self.old.is_none() {
            self.freeze();
        }
        !self.young_is_full() && self.staged_bytes < self.bounds.staged_bytes
    }

    /// True if the young generation has one of so many parts of all it may have.
    fn young_has(&self, parts: u64) -> bool {
        let Bounds { generation_entries, generation_bytes, .. } = self.bounds;
        self.young.len() >= generation_entries / parts || self.young.bytes >= generation_bytes / parts
    }

    /// Begins a new young generation, if the present one has entries and there is no old one.
    pub(super) fn freeze(&mut self) {
        if self.old.is_none() && self.young.len() > 0 {
            let next = Generation::after(self.young.last, self.key);
            self.old = Some(Arc::new(std::mem::replace(&mut self.young, next)));
        }
    }

    /// From now on nothing is planned of messages below `oldest`, which are about to go. Returns what was, as far as it is in the
    /// generations, each with the entry that has its message.
    pub(super) fn go_below(&mut self, oldest: Position) -> Vec<(DeliveryId, Position)> {
        self.goes_below = self.goes_below.max(oldest);
        self.generations().flat_map(|state| state.deliveries().redriven_below(oldest)).collect()
    }

    /// Fails if a frame plans to deliver a message that has gone, or is about to go.
    pub(super) fn check_messages(&self, frame: &[Entry]) -> Result<(), Error> {
        deliveries::check_messages(frame, self.goes_below)
    }

    /// Gives a frame its place at the end.
    pub(super) fn stage(&mut self, frame: Frame, claim: Option<Claim>, index: &Index) -> Result<InOrder, IndexError> {
        self.accepted_at = clock::now_after(self.accepted_at);
        let accepted_at = Some(clock::from_nanos(self.accepted_at));
        // Looked up before anything changes, so that a failure leaves nothing behind.
        let mut threads = Vec::with_capacity(frame.len());
        for entry in &frame {
            threads.push(match &entry.session {
                Some(session) => self.newest_of(&session.conversation_id, index)?.unwrap_or_default(),
                None => Position::default(),
            });
        }
        if self.batches.back().is_none_or(|batch| batch.bytes.len() >= self.bounds.batch_bytes) {
            let mut bytes = self.recycled.pop().unwrap_or_default();
            bytes.clear();
            bytes.resize(BATCH_HEADER, 0);
            let first = self.end.next();
            self.batches.push_back(Batch { bytes, first, hints: Vec::new(), waiting: Vec::new() });
        }
        let batch = self.batches.back_mut().expect("there is one, made above if need be");
        let before = batch.bytes.len();
        let last = frame.len() - 1;
        let mut stored_frame = Vec::with_capacity(frame.len());
        for (i, (mut entry, thread)) in frame.into_iter().zip(threads).enumerate() {
            entry.accepted_at = accepted_at;
            if let Some(session) = &entry.session {
                let here = self.young.state.newest_of(&session.conversation_id).unwrap_or_default();
                entry.previous_in_conversation = here.max(thread).0;
            }
            deliveries::fill_lanes(&mut entry, self.key);
            self.end = self.end.next();
            let start = batch.bytes.len();
            batch.hints.push(Record::encode(&entry, i == last, self.key, &mut batch.bytes));
            let bytes = batch.bytes.len() - start;
            let stored = Stored { position: self.end, entry: Arc::new(entry) };
            self.young.state.apply(&stored);
            self.young.last = self.end;
            self.young.bytes += bytes as u64;
            self.window.push(stored.clone(), bytes);
            stored_frame.push(stored);
        }
        self.staged_bytes += batch.bytes.len() - before;
        let (told, receiver) = oneshot::channel();
        batch.waiting.push(Waiting { told, claim });
        Ok((stored_frame, receiver))
    }

    /// Takes in an entry that is in the log already: at the start, and after a batch was taken back.
    pub(super) fn replay(&mut self, stored: Stored, hints: &Hints, bytes: usize) {
        self.end = stored.position;
        self.durable = stored.position;
        self.accepted_at = self.accepted_at.max(hints.accepted_at);
        self.young.state.apply(&stored);
        self.young.last = stored.position;
        self.young.bytes += bytes as u64;
        self.window.push(stored, bytes);
        self.window.trim(self.bounds.window_bytes, &mut Vec::new());
    }

    /// What the window has too much. To drop it takes a while, which is better spent without the lock.
    pub(super) fn trim_window(&mut self) -> Vec<Stored> {
        let mut gone = Vec::new();
        self.window.trim(self.bounds.window_bytes, &mut gone);
        gone
    }

    /// True if the young generation has all it may have.
    pub(super) fn young_is_full(&self) -> bool {
        self.young_has(1)
    }

    /// True if the young generation has half of all it may have.
    pub(super) fn young_is_half_full(&self) -> bool {
        self.young_has(2)
    }

    /// The batch that is to be written next.
    pub(super) fn next_batch(&mut self) -> Option<Batch> {
        let batch = self.batches.pop_front()?;
        self.staged_bytes -= batch.bytes.len() - BATCH_HEADER;
        Some(batch)
    }

    /// Notes that a batch is durable, at `place`.
    pub(super) fn written(&mut self, place: super::log::Place, size: u64, first: Position, hints: &[Hints]) {
        self.blocks.extend(self.builder.add(place, size, first, hints));
        self.durable = self.durable.max(Position(first.0 + hints.len() as u64).previous());
    }

    /// A buffer that is no longer needed.
    pub(super) fn recycle(&mut self, bytes: Vec<u8>) {
        // One is being filled while another is being written.
        if self.recycled.len() < 2 {
            self.recycled.push(bytes);
        }
    }

    /// Drops everything that is staged and not durable, with the facts that follow from it. Returns what was to be written, and the
    /// last entry whose facts are still there: those of the durable ones after it have to be replayed.
    pub(super) fn take_back(&mut self) -> (Vec<Batch>, Position) {
        // As far as the tail knows: whoever writes the index has it to himself for long, and needs the tail meanwhile.
        let indexed = self.indexed_up_to();
        self.taken_back += 1;
        let rejected = self.batches.drain(..).collect();
        self.staged_bytes = 0;
        self.old.take_if(|old| old.last > self.durable);
        let kept = self.old.as_ref().map_or(indexed, |old| old.last);
        self.young = Generation::after(kept, self.key);
        while self.window.entries.back().is_some_and(|(stored, _)| stored.position > kept) {
            if let Some((_, bytes)) = self.window.entries.pop_back() {
                self.window.bytes -= bytes;
            }
        }
        self.end = self.durable;
        (rejected, kept)
    }

    /// The old generation is in the index: drops it, and the blocks that are there as well.
    pub(super) fn indexed(&mut self, blocks: usize) -> Option<Arc<Generation>> {
        self.blocks.drain(..blocks);
        self.old.take()
    }

    /// The last entry that the index has.
    pub(super) fn indexed_up_to(&self) -> Position {
        self.old.as_ref().map_or(self.young.first, |old| old.first).previous()
    }

    /// What is there up to `position` is to go to the index although it is little.
    pub(super) fn flush_to(&mut self, position: Position) {
        self.flush_to = self.flush_to.max(position);
    }

    /// True while the index lacks what somebody waits for. That ends by itself, however much is staged meanwhile: else every generation
    /// from then on would be a little one, with a run of its own to be synced and merged.
    pub(super) fn is_to_flush(&self) -> bool {
        self.indexed_up_to() < self.flush_to
    }

    /// How many blocks there are whose last entry is not beyond `last`.
    pub(super) fn blocks_up_to(&self, last: Position) -> usize {
        self.blocks.partition_point(|block| block.end <= last.next())
    }

    /// Blocks from the one that holds `position` on, at most so many; none if it is not known here.
    pub(super) fn blocks_from(&self, position: Position, most: usize) -> Vec<Block> {
        let from = self.blocks.partition_point(|block| block.end <= position);
        let mut found: Vec<_> = self.blocks.range(from..).take(most).cloned().collect();
        if found.len() < most {
            found.extend(self.open_block().filter(|block| block.end > position));
        }
        // They follow each other: only the first of all may be too late for it.
        if found.first().is_some_and(|block| block.first <= position) { found } else { Vec::new() }
    }

    /// The block that is not complete yet.
    pub(super) fn open_block(&self) -> Option<Block> {
        self.builder.open()
    }

    /// An entry that readers share.
    pub(super) fn get(&self, position: Position) -> Option<&Stored> {
        let (first, _) = self.window.entries.front()?;
        let index = usize::try_from(position.0.checked_sub(first.position.0)?).ok()?;
        self.window.entries.get(index).map(|(stored, _)| stored)
    }

    /// The entries from `position` on that readers share, with their sizes; none if they begin later.
    pub(super) fn from(&self, position: Position) -> Option<impl Iterator<Item = &(Stored, usize)>> {
        let (first, _) = self.window.entries.front()?;
        let skipped = usize::try_from(position.0.checked_sub(first.position.0)?).ok()?;
        Some(self.window.entries.range(skipped.min(self.window.entries.len())..))
    }

    /// The entry before the first that readers share and that was accepted at or after `time`; none if that may be an older one.
    pub(super) fn before(&self, time: i64) -> Option<Position> {
        let at = |stored: &Stored| stored.entry.accepted_at.as_ref().map_or(0, clock::to_nanos);
        let (first, _) = self.window.entries.front()?;
        if at(first) >= time && first.position > self.oldest {
            return None;
        }
        let earlier = self.window.entries.partition_point(|(stored, _)| at(stored) < time);
        Some(Position(first.position.0 + earlier as u64).previous())
    }

    /// The generations, the latest first.
    pub(super) fn generations(&self) -> impl Iterator<Item = &State> {
        std::iter::once(&self.young.state).chain(self.old.as_ref().map(|old| &old.state))
    }

    /// As [`Self::deliveries`], if the index has none of them: who keeps up need not ask it.
    pub(super) fn recent_deliveries(&self, after: DeliveryId, wanted: Wanted, limit: usize) -> Option<Deliveries> {
        (after.planned_at > self.indexed_up_to()).then(|| {
            let above: Vec<_> = self.generations().map(State::deliveries).collect();
            let Ok(found) = Stack { above: &above, below: &() }.deliveries(after, wanted, limit, self.durable);
            found
        })
    }

    /// See [`Store::deliveries`](super::Store::deliveries).
    pub(super) fn deliveries(
        &self,
        after: DeliveryId,
        wanted: Wanted,
        limit: usize,
        index: &Index,
    ) -> Result<Deliveries, IndexError> {
        if let Some(found) = self.recent_deliveries(after, wanted, limit) {
            return Ok(found);
        }
        let above: Vec<_> = self.generations().map(State::deliveries).collect();
        Stack { above: &above, below: &index.lookup()? }.deliveries(after, wanted, limit, self.durable)
    }

    /// The newest message of a conversation's history, 0 if it has none; none for an unknown conversation.
    pub(super) fn newest_of(&self, conversation: &str, index: &Index) -> Result<Option<Position>, IndexError> {
        let mut known = None;
        for state in self.generations() {
            match state.newest_of(conversation) {
                Some(newest) if newest > Position::default() => return Ok(Some(newest)),
                other => known = known.or(other),
            }
        }
        let indexed = index.lookup()?.newest_of(conversation)?;
        let kept = indexed.map(|newest| if newest < self.oldest { Position::default() } else { newest });
        Ok(kept.or(known))
    }
}

/// The facts as a stage sees them: of the tail, and of the index below it.
pub(super) struct Layers<'t> {
    tail: &'t Tail,
    index: &'t Index,
    lookup: OnceCell<Lookup<'t>>,
    /// Why the index could not be read: then what it would have told is missing, and the stage must not count.
    failure: RefCell<Option<IndexError>>,
}

impl<'t> Layers<'t> {
    pub(super) const fn new(tail: &'t Tail, index: &'t Index) -> Self {
        Self { tail, index, lookup: OnceCell::new(), failure: RefCell::new(None) }
    }

    /// What went wrong meanwhile.
    pub(super) fn into_failure(self) -> Option<IndexError> {
        self.failure.into_inner()
    }

    fn look_up<T>(&self, find: impl FnOnce(&Lookup<'t>) -> Result<Option<T>, IndexError>) -> Option<T> {
        let lookup = match self.lookup.get() {
            Some(lookup) => Ok(lookup),
            None => self.index.lookup().map(|lookup| self.lookup.get_or_init(|| lookup)),
        };
        lookup.and_then(find).unwrap_or_else(|error| {
            self.failure.borrow_mut().get_or_insert(error);
            None
        })
    }

    fn meant(&self, common: Common<'_>, passed_over: &dyn Fn(&str) -> bool) -> Option<Arc<Session>> {
        let mut best: Option<(Rank, Arc<Session>)> = None;
        let mut above: Vec<&State> = Vec::with_capacity(2);
        for Generation { state, first, .. } in std::iter::once(&self.tail.young).chain(self.tail.old.as_deref()) {
            // What a later generation tells of a session is what counts.
            let found = state.meant(common, &|id| passed_over(id) || above.iter().any(|above| above.sessions().contains_key(id)));
            best = best.into_iter().chain(found).max_by_key(|(rank, _)| *rank);
            // Nothing older goes before an active session with a later message. One that was carried forward, or only reported on, has an
            // older one.
            if let Some((_, session)) = best.take_if(|(rank, session)| is_active(session) && rank.position() >= *first) {
                return Some(session);
            }
            above.push(state);
        }
        let passed_over = |id: &str| passed_over(id) || above.iter().any(|above| above.sessions().contains_key(id));
        let found = self.look_up(|lookup| lookup.meant(common, &passed_over));
        best.into_iter().chain(found).max_by_key(|(rank, _)| *rank).map(|(_, session)| session)
    }
}

impl Facts for Layers<'_> {
    fn session_and_position(&self, id: &str) -> Option<(Position, SessionFacts)> {
        let told = self.tail.generations().find_map(|state| state.session_and_position(id));
        told.or_else(|| self.look_up(|lookup| lookup.session_and_position(id)))
    }

    fn session_with(&self, common: Common<'_>, passed_over: &dyn Fn(&str) -> bool) -> Option<Arc<Session>> {
        self.meant(common, passed_over)
    }

    fn customer(&self, id: &str) -> Option<Arc<CustomerFacts>> {
        let told = self.tail.generations().find_map(|state| state.customer(id));
        told.or_else(|| self.look_up(|lookup| lookup.customer(id)))
    }

    fn named(&self, name: Name<'_>) -> Option<Named> {
        let in_tail = self.tail.generations().find_map(|state| state.latest(name));
        let named = in_tail.or_else(|| self.look_up(|lookup| lookup.latest(name, self.tail.oldest)))?;
        let session = named.session.and_then(|session| self.session(&session.id));
        Some(Named { session, ..named })
    }

    fn delivery(&self, id: DeliveryId) -> Option<Delivery> {
        let above: Vec<_> = self.tail.generations().map(State::deliveries).collect();
        let told = Stack { above: &above, below: &() }.delivery(id);
        let Ok(in_tail) = told;
        let settled = above.iter().find_map(|told| told.get(id).1).is_some_and(|progress| !progress.is_kept());
        if in_tail.is_some() || settled {
            return in_tail;
        }
        self.look_up(|lookup| Stack { above: &above, below: lookup }.delivery(id))
    }

    fn is_open(&self, id: DeliveryId) -> bool {
        let mut is_planned_here = false;
        for (plan, progress) in self.tail.generations().map(|state| state.deliveries().get(id)) {
            is_planned_here |= plan.is_some();
            if let Some(progress) = progress {
                if !progress.is_open() {
                    return false;
                }
                // What was told before does not count.
                break;
            }
        }
        // Mostly the tail knows.
        is_planned_here || self.delivery(id).is_some_and(|delivery| delivery.progress.is_open())
    }
}
