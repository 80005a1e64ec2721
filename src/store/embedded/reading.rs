//! Reading: from the window where it reaches, else from the log itself.

use super::core::{Core, damaged, unavailable};
use super::shelf::WholeBlock;
use crate::store::facts::State;
use crate::store::index::{IndexError, Lookup};
use crate::store::log::{self, Block, LogError, Sieve};
use crate::store::{Claim, Error, Filter, Page, Position, Scan, Stored, clock};
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

/// Bytes of the log that one scan looks through at most: others get their turn.
const LOOKED_THROUGH: u64 = 4 << 20;

/// Entries of the window that one scan looks at most: the tail is locked meanwhile.
const LOOKED_AT: usize = 512;

/// Blocks that are looked up at once.
const BLOCKS: usize = 64;

/// A page that is being filled.
struct Filling<'p> {
    page: Page,
    filter: &'p Filter,
    bytes: usize,
    scan: Scan,
}

impl Filling<'_> {
    /// Takes an entry if it is wanted; breaks if it is and the page has no room for it.
    fn take(&mut self, stored: Stored, bytes: usize) -> ControlFlow<()> {
        if self.filter.matches(&stored.entry) && stored.entry.message.is_some() {
            self.bytes += bytes;
            let full = self.bytes > self.page.bytes && !self.scan.entries.is_empty();
            if full || self.scan.entries.len() >= self.page.entries {
                return ControlFlow::Break(());
            }
            self.scan.reached = stored.position;
            self.scan.entries.push(stored);
        } else {
            self.scan.reached = stored.position;
        }
        ControlFlow::Continue(())
    }
}

fn message_bytes(stored: &Stored) -> usize {
    stored.entry.message.as_ref().map_or(0, prost::Message::encoded_len)
}

impl Core {
    /// Fails if `position` is no longer kept.
    fn check_kept(&self, asked: Position) -> Result<(), Error> {
        let oldest = self.tail.lock().oldest;
        if asked < oldest { Err(Error::Expired { asked, oldest }) } else { Ok(()) }
    }

    /// Looks through the window. None if it begins after what is asked for.
    pub(super) fn scan_window(&self, after: Position, page: Page, filter: &Filter) -> Result<Option<Scan>, Error> {
        self.check_kept(after.next())?;
        let tail = self.tail.lock();
        let mut filling = Filling { page, filter, bytes: 0, scan: Scan { entries: Vec::new(), reached: after } };
        if after >= tail.durable {
            return Ok(Some(filling.scan));
        }
        let Some(entries) = tail.from(after.next()) else { return Ok(None) };
        let durable = entries.take_while(|(stored, _)| stored.position <= tail.durable);
        for (stored, _) in durable.take(LOOKED_AT) {
            if filling.take(stored.clone(), message_bytes(stored)).is_break() {
                break;
            }
        }
        Ok(Some(filling.scan))
    }

    /// Looks through the log.
    pub(super) fn scan_log(&self, after: Position, page: Page, filter: &Filter) -> Result<Scan, Error> {
        let sieve = Sieve::of(filter, self.key);
        let mut filling = Filling { page, filter, bytes: 0, scan: Scan { entries: Vec::new(), reached: after } };
        let mut looked_through = 0;
        loop {
            let (durable, blocks) = self.blocks_from(filling.scan.reached.next(), BLOCKS)?;
            if blocks.is_empty() {
                return Ok(filling.scan);
            }
            for block in blocks {
                let last = block.end.previous().min(durable);
                if sieve.passes_block(|key| block.filter.may_hold(key)) {
                    looked_through += block.length;
                    if self.scan_block(&block, last, &sieve, &mut filling)?.is_break() || looked_through >= LOOKED_THROUGH {
                        return Ok(filling.scan);
                    }
                }
                filling.scan.reached = filling.scan.reached.max(last);
            }
        }
    }

    fn scan_block(
        &self,
        block: &Block,
        last: Position,
        sieve: &Sieve,
        filling: &mut Filling<'_>,
    ) -> Result<ControlFlow<()>, Error> {
        let after = filling.scan.reached;
        self.each_record(block, |record| {
            if record.position <= after || record.position > last || !sieve.passes(&record.hints) {
                return Ok(ControlFlow::Continue(()));
            }
            let entry = record.entry().map_err(|malformed| damaged(block.place, malformed))?;
            let stored = Stored { position: record.position, entry: Arc::new(entry) };
            let bytes = message_bytes(&stored);
            Ok(filling.take(stored, bytes))
        })
    }

    /// Visits the records of a block until told to stop.
    fn each_record(
        &self,
        block: &Block,
        visit: impl FnMut(log::Record<'_>) -> Result<ControlFlow<()>, LogError>,
    ) -> Result<ControlFlow<()>, Error> {
        let read = WholeBlock::read(&self.segments, block, Vec::new()).and_then(|whole| whole.each(visit));
        read.map_err(|error| self.unreadable(block.first, &error))
    }

    /// Why an entry cannot be read that was to be read.
    fn unreadable(&self, position: Position, error: &LogError) -> Error {
        // Retention may have been faster.
        if let Err(expired) = self.check_kept(position) {
            return expired;
        }
        tracing::error!(error = error as &dyn std::error::Error, "the log cannot be read");
        Error::Unavailable { cause: error.to_string() }
    }

    /// The durable position, and at most so many blocks from the one that holds `position` on; none if it is not durable.
    fn blocks_from(&self, position: Position, most: usize) -> Result<(Position, Vec<Block>), Error> {
        // Twice at most: what left the tail in between is in the index.
        loop {
            let (durable, in_tail) = {
                let tail = self.tail.lock();
                if position > tail.durable {
                    return Ok((tail.durable, Vec::new()));
                }
                (tail.durable, tail.blocks_from(position, most))
            };
            if !in_tail.is_empty() {
                return Ok((durable, in_tail));
            }
            let found = self.lookup(|lookup| lookup.blocks_from(position, most))?;
            if found.first().is_some_and(|block| block.first <= position) {
                return Ok((durable, found));
            }
            self.check_kept(position)?;
        }
    }

    /// Looks something up in the index.
    pub(super) fn lookup<T>(&self, find: impl FnOnce(&Lookup<'_>) -> Result<T, IndexError>) -> Result<T, Error> {
        self.index.lookup().and_then(|lookup| find(&lookup)).map_err(unavailable)
    }

    /// The entry at `position`, if it is durable and kept. Only who finds it nowhere in memory has a thread wait for the disk.
    pub(super) async fn entry_or_apart(self: &Arc<Self>, position: Position) -> Result<Option<Stored>, Error> {
        if let Some(known) = self.entry_in_memory(position) {
            return Ok(known);
        }
        // Many want a neighbour of it at the same time: one reads, the others find what it has read.
        let _reading = self.shelf.reading(position).await;
        if let Some(known) = self.entry_in_memory(position) {
            return Ok(known);
        }
        self.apart(move |core| core.read_entry(position)).await
    }

    /// As [`Self::entry`], as far as can be told from what is in memory: none where the disk has to be asked.
    fn entry_in_memory(&self, position: Position) -> Option<Option<Stored>> {
        // Before the tail, which others change meanwhile. What is wrong with it is told by who asks the disk.
        let on_shelf = self.shelf.holding(position).and_then(|block| block.entry(position).ok().flatten());
        if on_shelf.is_some() {
            return Some(on_shelf);
        }
        let tail = self.tail.lock();
        if !(tail.oldest..=tail.durable).contains(&position) {
            return Some(None);
        }
        tail.get(position).cloned().map(Some)
    }

    /// The entry at `position`, if it is durable and kept.
    pub(super) fn entry(&self, position: Position) -> Result<Option<Stored>, Error> {
        self.entry_in_memory(position).map_or_else(|| self.read_entry(position), Ok)
    }

    /// As [`Self::entry`], from the log.
    fn read_entry(&self, position: Position) -> Result<Option<Stored>, Error> {
        let (_, blocks) = self.blocks_from(position, 1)?;
        let Some(block) = blocks.first() else { return Ok(None) };
        let read = WholeBlock::read(&self.segments, block, self.shelf.buffer()).and_then(|whole| {
            let found = whole.entry(position)?;
            self.shelf.keep(Arc::new(whole));
            Ok(found)
        });
        read.map_err(|error| self.unreadable(position, &error))
    }

    /// See [`Store::message`](crate::store::Store::message).
    pub(super) fn message(&self, id: &str) -> Result<Option<Stored>, Error> {
        let mut positions = self.in_tail(|state| state.having(id).collect());
        positions.extend(self.lookup(|lookup| lookup.having(id))?);
        for position in positions {
            if let Some(stored) = self.entry(position)?.filter(|stored| stored.id() == id) {
                return Ok(Some(stored));
            }
        }
        Ok(None)
    }

    /// See [`Store::sequel`](crate::store::Store::sequel).
    pub(super) fn sequel(&self, position: Position, limit: usize) -> Result<Vec<Position>, Error> {
        // In this order: what leaves the tail is in the index before.
        let mut told: BTreeSet<_> = self.in_tail(|state| state.sequel().of(position).collect()).into_iter().collect();
        told.extend(self.lookup(|lookup| lookup.sequel(position, limit))?);
        let (oldest, durable) = {
            let tail = self.tail.lock();
            (tail.oldest, tail.durable)
        };
        if position < oldest {
            return Ok(Vec::new());
        }
        Ok(told.into_iter().filter(|teller| (oldest..=durable).contains(teller)).take(limit).collect())
    }

    fn in_tail(&self, find: impl Fn(&State) -> Vec<Position>) -> Vec<Position> {
        self.tail.lock().generations().flat_map(find).collect()
    }

    /// True if nothing was accepted under `id`, as far as can be told without reading anything.
    pub(super) fn is_certainly_new(&self, id: &str) -> bool {
        // In this order: what leaves the tail is in the index before.
        let in_tail = self.tail.lock().generations().any(|state| state.with_id(id).next().is_some());
        !in_tail && Lookup::is_certainly_new(&self.index, id)
    }

    /// Whether the id is taken, and by which entry of the same content.
    pub(super) fn look_up_claim(&self, id: &str, fingerprint: &[u8]) -> Result<(bool, Option<Stored>), Error> {
        let mut of_content = self.in_tail(|state| state.with_content(id, fingerprint).collect());
        of_content.extend(self.lookup(|lookup| lookup.with_content(id, fingerprint))?);
        let mut same = None;
        for position in of_content {
            let same_content =
                |stored: &Stored| stored.entry.submission.as_ref().is_some_and(|sent| sent.fingerprint == fingerprint);
            if let Some(stored) = self.entry(position)?.filter(|stored| is_under(stored, id) && same_content(stored)) {
                same = Some(stored);
                break;
            }
        }
        if same.is_some() {
            return Ok((true, same));
        }
        let oldest = self.tail.lock().oldest;
        let mut with_id = self.in_tail(|state| state.with_id(id).take(4).collect());
        with_id.extend(self.lookup(|lookup| lookup.with_id(id, oldest))?);
        for position in with_id {
            if self.entry(position)?.is_some_and(|stored| is_under(&stored, id)) {
                return Ok((true, None));
            }
        }
        Ok((false, None))
    }

    /// See [`Store::history`](crate::store::Store::history).
    pub(super) fn history(
        &self,
        conversation: &str,
        before: Option<Position>,
        limit: usize,
    ) -> Result<Option<Vec<Stored>>, Error> {
        let newest = {
            let tail = self.tail.lock();
            tail.newest_of(conversation, &self.index).map_err(unavailable)?
        };
        let Some(newest) = newest else { return Ok(None) };
        let in_thread =
            |stored: &Stored| stored.entry.session.as_ref().is_some_and(|session| session.conversation_id == conversation);
        let mut next = match before {
            None => self.durable_in_thread(newest)?,
            Some(before) => self.entry(before)?.filter(in_thread).map(|stored| older(&stored)).unwrap_or_default(),
        };
        let mut page = Vec::new();
        while page.len() < limit
            && next > Position::default()
            && let Some(stored) = self.entry(next)?
        {
            next = older(&stored);
            // What was lost has no message, but still leads on.
            if stored.entry.message.is_some() {
                page.push(stored);
            }
        }
        Ok(Some(page))
    }

    /// The newest message of a thread that is durable: `newest` may be on its way.
    fn durable_in_thread(&self, newest: Position) -> Result<Position, Error> {
        let tail = self.tail.lock();
        let mut next = newest;
        while next > tail.durable {
            match tail.get(next) {
                Some(stored) => next = older(stored),
                // What is on its way is larger than the window, so that the thread cannot be followed through it.
                None => return Err(Error::Busy),
            }
        }
        Ok(next)
    }

    /// The position before the first entry that was accepted at or after `time`.
    pub(super) fn before(&self, time: i64) -> Result<Position, Error> {
        let (oldest, durable) = {
            let tail = self.tail.lock();
            if let Some(position) = tail.before(time) {
                return Ok(position.min(tail.durable).max(tail.oldest.previous()));
            }
            (tail.oldest, tail.durable)
        };
        let in_tail = {
            let tail = self.tail.lock();
            let is_older = |block: &Block| block.accepted_at < time;
            let complete = || tail.blocks.iter().rev().find(|block| is_older(block)).cloned();
            tail.open_block().filter(is_older).or_else(complete)
        };
        let block = match in_tail {
            Some(block) => Some(block),
            None => self.lookup(|lookup| lookup.block_before(time))?,
        };
        // The first entry of the block is older than that; the first of the next block is not.
        let Some(block) = block.filter(|block| block.end > oldest) else { return Ok(oldest.previous()) };
        let mut before = block.first.max(oldest).previous();
        let _stopped = self.each_record(&block, |record| {
            if record.hints.accepted_at >= time {
                return Ok(ControlFlow::Break(()));
            }
            before = before.max(record.position);
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(before.min(durable))
    }

    /// A claim, once every earlier one on its id is settled.
    pub(super) async fn claim(self: &Arc<Self>, id: &str, fingerprint: &[u8]) -> Result<Claim, Error> {
        let lease = self.claims.take(id).await;
        // A store that is full still knows what it has.
        self.check_working()?;
        if self.is_certainly_new(id) {
            return Ok(Claim::new(false, None, lease));
        }
        let (id, fingerprint) = (id.to_owned(), fingerprint.to_owned());
        let (taken, same_content) = self.apart(move |core| core.look_up_claim(&id, &fingerprint)).await?;
        Ok(Claim::new(taken, same_content, lease))
    }

    /// Does something that may have to wait for the disk, apart from what must not.
    pub(super) async fn apart<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let core = self.clone();
        let done = tokio::task::spawn_blocking(move || work(&core)).await;
        done.unwrap_or_else(|error| Err(Error::Unavailable { cause: format!("a reading thread ended: {error}") }))
    }

    /// The time as the log counts it.
    pub(super) fn nanos(time: &prost_types::Timestamp) -> i64 {
        clock::to_nanos(time)
    }
}

fn is_under(stored: &Stored, id: &str) -> bool {
    stored.claimed_id() == id || stored.id() == id
}

fn older(stored: &Stored) -> Position {
    Position(stored.entry.previous_in_conversation)
}
