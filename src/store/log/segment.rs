//! Segments: their names, their headers, and the batches in them.

use super::LogError;
use super::format::{BATCH_HEADER, BatchHeader, Malformed, SECTOR, SEGMENT_HEADER, SegmentHeader};
use crate::store::Position;
use crate::store::disk::{Disk, File, read_full};
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

const EXTENSION: &str = ".log";

/// The name of the segment whose first entry has this position.
pub(crate) fn name_of(first: Position) -> String {
    format!("{:020}{EXTENSION}", first.0)
}

/// The position that a segment's name tells; none for the name of another file.
pub(crate) fn position_of(name: &str) -> Option<Position> {
    let digits = name.strip_suffix(EXTENSION)?;
    let number = digits.parse().ok()?;
    Some(Position(number)).filter(|first| digits.len() == 20 && name_of(*first) == name)
}

/// The segments that are kept. A segment ends where the next one begins.
#[derive(Debug)]
pub(crate) struct Segments {
    disk: Arc<dyn Disk>,
    /// Where each begins, and its bytes; of the one that is written to, those that it may get.
    known: RwLock<BTreeMap<Position, u64>>,
}

impl Segments {
    /// No segments yet, of a log on `disk`.
    pub(crate) fn new(disk: Arc<dyn Disk>) -> Self {
        Self { disk, known: RwLock::default() }
    }

    /// The disk they are on.
    pub(crate) fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    /// A segment that is there from now on, and its bytes.
    pub(crate) fn add(&self, first: Position, bytes: u64) {
        self.known.write().insert(first, bytes);
    }

    /// A segment that has got all its bytes.
    pub(crate) fn complete(&self, first: Position, bytes: u64) {
        if let Some(known) = self.known.write().get_mut(&first) {
            *known = bytes;
        }
    }

    /// Where each begins, and its bytes.
    pub(crate) fn sizes(&self) -> Vec<(Position, u64)> {
        self.known.read().iter().map(|(first, bytes)| (*first, *bytes)).collect()
    }

    /// The bytes of all.
    pub(crate) fn bytes(&self) -> u64 {
        self.known.read().values().sum()
    }

    /// A segment that is gone from now on.
    pub(crate) fn forget(&self, first: Position) {
        self.known.write().remove(&first);
    }

    /// Where each begins.
    pub(crate) fn firsts(&self) -> Vec<Position> {
        self.known.read().keys().copied().collect()
    }

    /// Opens one to read.
    pub(crate) fn open(&self, first: Position) -> io::Result<Arc<dyn File>> {
        self.disk.open(&name_of(first))
    }
}

/// Least bytes to read at once.
const READ_AHEAD: usize = 64 * 1024;

/// A part of a file in memory.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    start: u64,
}

impl Buffer {
    /// Forgets what it holds: the next file is another.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
    }

    /// `length` bytes of `file` from `offset` on; fewer where it ends.
    pub(crate) fn get(&mut self, file: &dyn File, offset: u64, length: usize) -> io::Result<&[u8]> {
        let held = offset.checked_sub(self.start).and_then(|skip| usize::try_from(skip).ok());
        let held = held.filter(|skip| skip.saturating_add(length) <= self.bytes.len());
        let skip = match held {
            Some(skip) => skip,
            None => {
                self.fill(file, offset, length.max(READ_AHEAD))?;
                0
            }
        };
        Ok(&self.bytes[skip..self.bytes.len().min(skip + length)])
    }

    fn fill(&mut self, file: &dyn File, offset: u64, length: usize) -> io::Result<()> {
        self.start = offset;
        read_into(&mut self.bytes, file, offset, length)
    }
}

/// Puts `length` bytes of `file` from `offset` on in the place of `bytes`; fewer where it ends.
pub(crate) fn read_into(bytes: &mut Vec<u8>, file: &dyn File, offset: u64, length: usize) -> io::Result<()> {
    // A length that a damaged header claims must not make us ask for more memory than the file has bytes.
    let left = usize::try_from(file.len()?.saturating_sub(offset)).unwrap_or(usize::MAX);
    bytes.resize(length.min(left), 0);
    let read = read_full(file, bytes, offset)?;
    bytes.truncate(read);
    Ok(())
}

/// A batch as found in a segment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found {
    /// Its header.
    pub(crate) header: BatchHeader,
    /// Where it begins in its segment.
    pub(crate) offset: u64,
}

/// How a look at a place in a segment ended.
pub(crate) enum Look<'b> {
    /// A whole batch, and its bytes from the header on.
    Batch(Found, &'b [u8]),
    /// No batch, or not all of one.
    None(Malformed),
}

/// Looks for a batch at `offset`.
pub(crate) fn look<'b>(file: &dyn File, offset: u64, buffer: &'b mut Buffer) -> io::Result<Look<'b>> {
    let header = match BatchHeader::decode(buffer.get(file, offset, BATCH_HEADER)?) {
        Ok(header) => header,
        Err(malformed) => return Ok(Look::None(malformed)),
    };
    let bytes = buffer.get(file, offset, header.size() as usize)?;
    if !header.holds(bytes) {
        return Ok(Look::None(Malformed::Checksum));
    }
    Ok(Look::Batch(Found { header, offset }, bytes))
}

/// What one pass through a segment found.
#[derive(Debug)]
pub(super) struct Scanned {
    /// Its last batch that has records, and the one before that.
    pub(super) last: Option<Found>,
    /// Link for a segment that begins with [`Self::last`].
    pub(super) link_before_last: u32,
    /// Link for what follows the last batch.
    pub(super) link: u32,
    /// True if something was written after the last batch with records, so that it is proven to have been durable.
    pub(super) proven: bool,
    /// The position after its last entry.
    pub(super) end: Position,
    /// Where its last batch ends.
    pub(super) length: u64,
}

/// Goes through a segment from its first batch to its last. Damage in front of anything that was written later is an error; what is
/// at the end and not whole is taken for a write that was cut short.
pub(super) fn scan(file: &dyn File, name: &str) -> Result<Scanned, LogError> {
    let mut buffer = Buffer::default();
    let io = || LogError::io(name, "read");
    let bytes = buffer.get(file, 0, SEGMENT_HEADER).map_err(io())?;
    // It was durable before the segment got its name.
    let header = SegmentHeader::decode(bytes).map_err(|malformed| LogError::malformed(name, 0, malformed))?;
    let mut scanned = Scanned {
        last: None,
        link_before_last: header.link,
        link: header.link,
        proven: true,
        end: header.first,
        length: SEGMENT_HEADER as u64,
    };
    loop {
        let offset = scanned.length;
        let malformed = match look(file, offset, &mut buffer).map_err(io())? {
            Look::Batch(found, _)
                if found.header.run == header.run && found.header.link == scanned.link && found.header.first == scanned.end =>
            {
                if found.header.count == 0 {
                    scanned.proven = true;
                } else {
                    // A segment that holds the last batch once more replaces one that begins with it, and a seal in front of it, which
                    // earlier versions wrote there: it follows what that one followed.
                    let is_first = found.header.first == header.first;
                    scanned.link_before_last = if is_first { header.link } else { scanned.link };
                    scanned.last = Some(found);
                    scanned.proven = false;
                }
                scanned.link = found.header.checksum;
                scanned.end = found.header.end();
                scanned.length += found.header.size();
                continue;
            }
            // Whole, but of another run or not the one that follows.
            Look::Batch(..) => Malformed::Checksum,
            Look::None(malformed @ Malformed::TooNew { .. }) => return Err(LogError::malformed(name, offset, malformed)),
            Look::None(malformed) => malformed,
        };
        let later = later_batch(file, offset + SECTOR as u64, Some((header.run, scanned.end)), &mut buffer).map_err(io())?;
        return match later {
            Some(later) => Err(LogError::damaged(
                name,
                offset,
                format!(
                    "the batch of position {}: {malformed}; the batch of position {} at byte {} was written later",
                    scanned.end, later.header.first, later.offset
                ),
            )),
            None => Ok(scanned),
        };
    }
}

/// The first batch from `offset` on whose header is whole; of this run and not before this position, if they are known.
pub(super) fn later_batch(
    file: &dyn File,
    offset: u64,
    known: Option<(u64, Position)>,
    buffer: &mut Buffer,
) -> io::Result<Option<Found>> {
    let length = file.len()?;
    let mut offset = offset.next_multiple_of(SECTOR as u64);
    while offset < length {
        if let Ok(header) = BatchHeader::decode(buffer.get(file, offset, BATCH_HEADER)?)
            && known.is_none_or(|(run, end)| header.run == run && header.first >= end)
        {
            return Ok(Some(Found { header, offset }));
        }
        offset += SECTOR as u64;
    }
    Ok(None)
}
