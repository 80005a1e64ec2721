//! Blocks: stretches of a segment that a reader looks through or passes over as a whole.

use super::format::Hints;
use super::writer::Place;
use crate::store::Position;
use crate::store::bloom::Bloom;
use std::collections::HashSet;

/// A block ends with the batch that makes it longer than this, in bytes. One entry is found by reading a block, so it must not be
/// large; a block that is passed over costs a look at its filter, so it must not be small.
const LENGTH: u64 = 256 * 1024;

/// A stretch of a segment: whole batches that follow each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Block {
    /// Position of its first entry.
    pub(crate) first: Position,
    /// The position after its last entry.
    pub(crate) end: Position,
    /// Where it begins.
    pub(crate) place: Place,
    /// Its bytes.
    pub(crate) length: u64,
    /// When its first entry was accepted, in nanoseconds since 1970.
    pub(crate) accepted_at: i64,
    /// Which channels, sessions and conversations it may have; see [`Hints::keys`].
    pub(crate) filter: Bloom,
}

/// Makes blocks of the batches that pass by.
#[derive(Debug, Default)]
pub(crate) struct BlockBuilder {
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    first: Position,
    end: Position,
    place: Place,
    length: u64,
    accepted_at: i64,
    keys: HashSet<u64>,
}

impl BlockBuilder {
    /// Takes in a batch of entries from `first` on, at `place`. Returns the block that is complete before it or with it.
    pub(crate) fn add(&mut self, place: Place, size: u64, first: Position, hints: &[Hints]) -> Option<Block> {
        let moved = |open: &Open| open.place.segment != place.segment || open.place.offset + open.length != place.offset;
        // A block never goes on in another segment, nor over a seal. The one that was open is complete: it is returned, and the new
        // one is small enough not to be complete at once unless it is a large batch, which then is a block of its own later.
        let complete = self.open.take_if(|open| moved(open) || open.length >= LENGTH).map(Open::close);
        let open = self.open.get_or_insert_with(|| Open {
            first,
            end: first,
            place,
            length: 0,
            accepted_at: hints.first().map_or(0, |hints| hints.accepted_at),
            keys: HashSet::new(),
        });
        open.length += size;
        open.end = Position(first.0 + hints.len() as u64);
        open.keys.extend(hints.iter().filter(|hints| !hints.is_internal()).flat_map(Hints::keys));
        complete
    }

    /// The block that is not complete yet, as it stands.
    pub(crate) fn open(&self) -> Option<Block> {
        self.open.as_ref().map(Open::block)
    }
}

impl Open {
    fn block(&self) -> Block {
        let mut filter = Bloom::with_room(self.keys.len());
        self.keys.iter().for_each(|key| filter.insert(*key));
        Block { first: self.first, end: self.end, place: self.place, length: self.length, accepted_at: self.accepted_at, filter }
    }

    fn close(self) -> Block {
        self.block()
    }
}
