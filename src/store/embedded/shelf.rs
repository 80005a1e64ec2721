//! Blocks of the log in memory: read as a whole, and kept for a while, because who looks up one entry of a block often looks up its
//! neighbours next: deliveries that wait, a conversation, a timeline.

use super::core::damaged;
use crate::pb::store::Entry;
use crate::store::log::{self, BatchHeader, Block, LogError, Malformed, Place, Record, Segments};
use crate::store::{Position, Stored};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::ops::ControlFlow;
use std::sync::{Arc, OnceLock};
use tokio::sync::{Mutex as Turns, MutexGuard as Turn};

/// Most bytes of blocks that are kept; the one that was read last is, whatever its size. Webhooks that have a lot to catch up with are not
/// all equally far: with half as many a hundred of them had each block read nine times.
const KEPT: usize = 16 << 20;

/// Most blocks that are read at a time for deliveries and the like.
const READING: usize = 16;

/// Positions next to each other of which one reader at a time reads: as many as a block may well have.
const NEIGHBOURS: u64 = 1024;

/// Largest buffer that is kept for the next block: few are larger.
const BUFFER: usize = 2 << 20;

/// A block that was read. Every batch of it is whole.
pub(super) struct WholeBlock {
    first: Position,
    end: Position,
    place: Place,
    bytes: Vec<u8>,
    batches: Vec<Batch>,
}

/// A batch of a block.
struct Batch {
    header: BatchHeader,
    /// Where it begins in the bytes of the block.
    at: usize,
    /// Where each of its records begins in its own bytes, once somebody wants one of them.
    starts: OnceLock<Result<Vec<usize>, Malformed>>,
}

impl WholeBlock {
    /// Reads a block, into a buffer that is no longer needed.
    pub(super) fn read(segments: &Segments, block: &Block, mut bytes: Vec<u8>) -> Result<Self, LogError> {
        let Block { first, end, place, length, .. } = *block;
        let failed = |action| move |cause: io::Error| LogError::Io { file: log::name_of(place.segment), action, cause };
        let file = segments.open(place.segment).map_err(failed("opened"))?;
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        log::read_into(&mut bytes, &*file, place.offset, length).map_err(failed("read"))?;
        if bytes.len() < length {
            // Else what is cut off would be passed over.
            return Err(damaged(place, Malformed::Short));
        }
        let mut batches = Vec::new();
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            let header = BatchHeader::decode(rest).map_err(|malformed| damaged(place, malformed))?;
            if !header.holds(rest) {
                return Err(damaged(place, Malformed::Checksum));
            }
            batches.push(Batch { header, at, starts: OnceLock::new() });
            at = at.saturating_add(usize::try_from(header.size()).unwrap_or(usize::MAX));
        }
        Ok(Self { first, end, place, bytes, batches })
    }

    /// Visits the records until told to stop.
    pub(super) fn each(
        &self,
        mut visit: impl FnMut(Record<'_>) -> Result<ControlFlow<()>, LogError>,
    ) -> Result<ControlFlow<()>, LogError> {
        for Batch { header, at, .. } in &self.batches {
            for record in log::records(header, &self.bytes[*at..]) {
                if visit(record.map_err(|malformed| damaged(self.place, malformed))?)?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// The entry at `position`; none if it is in another block.
    pub(super) fn entry(&self, position: Position) -> Result<Option<Stored>, LogError> {
        let after = self.batches.partition_point(|batch| batch.header.first <= position);
        let Some(batch) = after.checked_sub(1).and_then(|batch| self.batches.get(batch)) else { return Ok(None) };
        let entry = batch.entry(&self.bytes, position).map_err(|malformed| damaged(self.place, malformed))?;
        Ok(entry.map(|entry| Stored { position, entry: Arc::new(entry) }))
    }

    fn holds(&self, position: Position) -> bool {
        (self.first..self.end).contains(&position)
    }
}

impl Batch {
    /// The entry at `position`, which is not before the batch; none if it is behind it. `block` is the bytes of the whole block.
    fn entry(&self, block: &[u8], position: Position) -> Result<Option<Entry>, Malformed> {
        let bytes = &block[self.at..];
        let starts = self.starts.get_or_init(|| log::starts(&self.header, bytes)).as_ref().map_err(|malformed| *malformed)?;
        let number = usize::try_from(position.0 - self.header.first.0).unwrap_or(usize::MAX);
        let Some(start) = starts.get(number) else { return Ok(None) };
        log::record_at(&self.header, bytes, *start, number)?.entry().map(Some)
    }
}

impl fmt::Debug for WholeBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WholeBlock({:?}..{:?})", self.first, self.end)
    }
}

/// The blocks that were read last.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    places: Mutex<Places>,
    /// By the positions that are being read.
    reading: [Turns<()>; READING],
}

#[derive(Debug, Default)]
struct Places {
    /// The one that was asked for last is at the front.
    blocks: VecDeque<Arc<WholeBlock>>,
    /// Nothing before it is on the shelf, nor will be.
    oldest: Position,
    /// Of a block that has gone: memory that is new costs more than to read into it.
    buffer: Vec<u8>,
}

impl Places {
    /// Drops the blocks from this place on.
    fn truncate(&mut self, fit: usize) {
        for block in self.blocks.drain(fit..) {
            if let Some(block) = Arc::into_inner(block).filter(|block| block.bytes.capacity() <= BUFFER) {
                self.buffer = block.bytes;
            }
        }
    }
}

impl Shelf {
    /// The block that holds `position`, if it is kept.
    pub(super) fn holding(&self, position: Position) -> Option<Arc<WholeBlock>> {
        let Places { blocks, oldest, .. } = &mut *self.places.lock();
        let at = blocks.iter().position(|block| block.holds(position)).filter(|_| position >= *oldest)?;
        let block = blocks.remove(at)?;
        blocks.push_front(block.clone());
        Some(block)
    }

    /// The right to read the entry at `position`. Who has waited for it may find the block on the shelf: many want the same one at once,
    /// when deliveries that wait come to it.
    pub(super) async fn reading(&self, position: Position) -> Turn<'_, ()> {
        self.reading[(position.0 / NEIGHBOURS % READING as u64) as usize].lock().await
    }

    /// A buffer to read the next block into.
    pub(super) fn buffer(&self) -> Vec<u8> {
        std::mem::take(&mut self.places.lock().buffer)
    }

    /// Keeps a block for a while. One that was read before, when it was not complete, goes.
    pub(super) fn keep(&self, block: Arc<WholeBlock>) {
        let mut places = self.places.lock();
        places.blocks.retain(|kept| kept.first != block.first);
        places.blocks.push_front(block);
        let mut bytes = 0;
        let fit = places.blocks.iter().take_while(|block| {
            bytes += block.bytes.len();
            bytes <= KEPT
        });
        let fit = fit.count().max(1);
        places.truncate(fit);
    }

    /// What is before `oldest` is kept no longer.
    pub(super) fn let_go(&self, oldest: Position) {
        let mut places = self.places.lock();
        places.oldest = oldest;
        places.blocks.retain(|block| block.end > oldest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(first: u64, end: u64, bytes: usize) -> Arc<WholeBlock> {
        let place = Place { segment: Position(1), offset: 0 };
        Arc::new(WholeBlock { first: Position(first), end: Position(end), place, bytes: vec![0; bytes], batches: Vec::new() })
    }

    fn kept(shelf: &Shelf, positions: impl IntoIterator<Item = u64>) -> Vec<u64> {
        positions
            .into_iter()
            .filter(|position| shelf.places.lock().blocks.iter().any(|block| block.holds(Position(*position))))
            .collect()
    }

    #[test]
    fn the_blocks_that_were_asked_for_last_stay_within_the_bound() {
        let shelf = Shelf::default();
        for first in 0..4 {
            shelf.keep(block(first, first + 1, KEPT / 4));
        }
        assert_eq!(kept(&shelf, 0..4), [0, 1, 2, 3]);
        assert!(shelf.holding(Position(0)).is_some());
        shelf.keep(block(4, 5, KEPT / 4));
        assert_eq!(kept(&shelf, 0..5), [0, 2, 3, 4]);
        shelf.keep(block(5, 6, KEPT * 2));
        assert_eq!(kept(&shelf, 0..6), [5]);
    }

    #[test]
    fn the_memory_of_a_block_that_has_gone_is_used_again_unless_somebody_reads_it_or_it_is_large() {
        let gone = |bytes: usize, reads: bool| {
            let shelf = Shelf::default();
            shelf.keep(block(0, 1, bytes));
            let _reads = shelf.holding(Position(0)).filter(|_| reads);
            shelf.keep(block(1, 2, KEPT));
            (shelf.buffer().capacity(), shelf.buffer().capacity())
        };
        assert_eq!(gone(BUFFER, false), (BUFFER, 0));
        assert_eq!(gone(BUFFER, true), (0, 0));
        assert_eq!(gone(BUFFER + 1, false), (0, 0));
    }

    #[test]
    fn what_is_let_go_is_not_held_even_if_it_was_being_read() {
        let shelf = Shelf::default();
        shelf.keep(block(0, 2, 10));
        shelf.keep(block(2, 4, 10));
        shelf.let_go(Position(3));
        shelf.keep(block(0, 2, 10));
        let held = |position: &u64| shelf.holding(Position(*position)).is_some();
        assert_eq!((0..4).filter(held).collect::<Vec<_>>(), [3]);
    }

    #[test]
    fn a_block_that_has_grown_takes_the_place_of_what_it_was() {
        let shelf = Shelf::default();
        shelf.keep(block(0, 2, 10));
        assert!(shelf.holding(Position(2)).is_none());
        shelf.keep(block(0, 3, 15));
        assert!(shelf.holding(Position(2)).is_some());
        assert_eq!(shelf.places.lock().blocks.len(), 1);
    }
}
