//! Opening a log: finds its end, and makes sure that all of it is durable before anything of it is served.

use super::LogError;
use super::format::{BATCH_HEADER, BatchHeader, Malformed, SegmentHeader};
use super::reserve;
use super::segment::{Buffer, Found, Look, Scanned, Segments, look, name_of, position_of, scan};
use super::writer::{Identity, Place, TEMPORARY, WriteError, Writer};
use crate::store::Position;
use crate::store::disk::{Disk, File, read_full};
use crate::store::hash::HashKey;
use std::sync::Arc;

/// A log that is open.
#[derive(Debug)]
pub(crate) struct Opened {
    /// Its writer.
    pub(crate) writer: Writer,
    /// Its segments.
    pub(crate) segments: Arc<Segments>,
    /// The position that the next entry gets.
    pub(crate) end: Position,
    /// Bytes at the end that were not a whole batch, and are cut off.
    pub(crate) cut: u64,
}

/// What is known of a log from elsewhere.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known {
    /// Its id.
    pub(crate) key: HashKey,
    /// The history to write in.
    pub(crate) epoch: u64,
    /// The oldest position that has to be there; what lies below may be gone in part.
    pub(crate) oldest: Position,
    /// The last position that is known to have been durable.
    pub(crate) durable: Position,
}

/// Opens the log on `disk`, or begins one where there is none.
pub(crate) fn open(disk: Arc<dyn Disk>, known: Known, segment_bytes: u64) -> Result<Opened, LogError> {
    let segments = Arc::new(Segments::new(disk));
    let mut firsts = found_segments(&segments, known)?;
    let mut dropped = Vec::new();
    let tail = tail(&segments, &mut firsts, &mut dropped)?;
    let end = tail.as_ref().map_or_else(|| dropped.last().copied().unwrap_or(known.oldest), |tail| tail.scanned.end);
    if known.durable.next() > end {
        let what = "the index has seen more, so that acknowledged messages are missing".into();
        return Err(LogError::Missing { needed: known.durable.next(), found: end, what });
    }
    for first in &firsts {
        check_header(&segments, *first, known.key)?;
        let bytes = segments.open(*first).and_then(|file| file.len()).map_err(LogError::io(name_of(*first), "read"))?;
        segments.add(*first, bytes);
    }

    let identity = Identity { key: known.key, epoch: known.epoch, run: fresh_run() };
    let doubtful = tail.as_ref().and_then(|tail| tail.doubtful(known.durable));
    // Before a segment is begun, which may need the room.
    let cut = tail.as_ref().map_or(Ok(0), Tail::trim)?;
    let (first, link) = match (&tail, &doubtful) {
        (None, _) => (end, 0),
        (Some(tail), None) => (end, tail.scanned.link),
        (Some(tail), Some(last)) => (last.header.first, tail.scanned.link_before_last),
    };
    let again = tail.as_ref().zip(doubtful).map(|(tail, last)| Ok((tail.records_of(last)?, last.header.count))).transpose()?;
    let writer = Writer::begin(segments.clone(), identity, segment_bytes, (first, link), again).map_err(|error| {
        let (WriteError::Full(cause) | WriteError::Failed(cause)) = error;
        LogError::Io { file: name_of(first), action: "made", cause }
    })?;
    for empty in dropped.into_iter().filter(|empty| *empty != first) {
        segments.disk().remove(&name_of(empty)).map_err(LogError::io(name_of(empty), "removed"))?;
    }
    if let Some((tail, last)) = tail.zip(doubtful) {
        tail.cut(last.offset)?;
    }
    reserve::keep(&**segments.disk(), segment_bytes).map_err(LogError::io("the reserve", "made"))?;
    Ok(Opened { writer, segments, end, cut })
}

fn fresh_run() -> u64 {
    // A version 4 UUID has 122 random bits; its lower half has 62 of them.
    uuid::Uuid::new_v4().as_u64_pair().1
}

/// The segments that there are, oldest first, without those that retention left behind.
fn found_segments(segments: &Segments, known: Known) -> Result<Vec<Position>, LogError> {
    let disk = segments.disk();
    let names = disk.list().map_err(LogError::io("the log", "listed"))?;
    for name in names.iter().filter(|name| name.ends_with(TEMPORARY)) {
        disk.remove(name).map_err(LogError::io(name, "removed"))?;
    }
    let mut firsts: Vec<_> = names.iter().filter_map(|name| position_of(name)).collect();
    firsts.sort_unstable();
    let kept = firsts.partition_point(|first| *first <= known.oldest).saturating_sub(1);
    for gone in firsts.drain(..kept) {
        disk.remove(&name_of(gone)).map_err(LogError::io(name_of(gone), "removed"))?;
    }
    match firsts.first() {
        Some(first) if *first > known.oldest => {
            Err(LogError::Missing { needed: known.oldest, found: *first, what: "a segment is missing".into() })
        }
        _ => Ok(firsts),
    }
}

fn check_header(segments: &Segments, first: Position, key: HashKey) -> Result<(), LogError> {
    let name = name_of(first);
    let file = segments.open(first).map_err(LogError::io(&name, "opened"))?;
    let mut bytes = [0; super::format::SEGMENT_HEADER];
    let read = read_full(&*file, &mut bytes, 0).map_err(LogError::io(&name, "read"))?;
    let header = SegmentHeader::decode(&bytes[..read]).map_err(|malformed| LogError::malformed(&name, 0, malformed))?;
    if header.log != key {
        return Err(LogError::Foreign { file: name });
    }
    if header.first != first {
        return Err(LogError::damaged(&name, 0, format_args!("the header is of the segment {}", header.first)));
    }
    Ok(())
}

/// The last segment that has entries.
struct Tail {
    name: String,
    file: Arc<dyn File>,
    scanned: Scanned,
    /// True if a segment was begun after it.
    followed: bool,
}

/// Finds the last segment that has entries. Those after it have none: they go from `firsts` to `dropped`.
fn tail(segments: &Segments, firsts: &mut Vec<Position>, dropped: &mut Vec<Position>) -> Result<Option<Tail>, LogError> {
    while let Some(first) = firsts.last().copied() {
        let name = name_of(first);
        let file = segments.open(first).map_err(LogError::io(&name, "opened"))?;
        let scanned = scan(&*file, &name)?;
        if scanned.last.is_some() {
            let followed = check_next(&name, &scanned, dropped.last().copied())?;
            return Ok(Some(Tail { name, file, scanned, followed }));
        }
        // A segment is begun where the one before ends: if one follows, this one had entries, and they are gone.
        if let Some(next) = dropped.last() {
            let what = format!("position {first} is missing: the next segment begins at {next}");
            return Err(LogError::damaged(name, super::format::SEGMENT_HEADER as u64, what));
        }
        dropped.push(first);
        firsts.pop();
    }
    Ok(None)
}

/// A segment is begun after everything before it is durable, or to hold the last batch once more. True in the first case.
fn check_next(name: &str, scanned: &Scanned, next: Option<Position>) -> Result<bool, LogError> {
    let last = scanned.last.map(|last| last.header.first);
    match next {
        None => Ok(false),
        Some(next) if next == scanned.end => Ok(true),
        Some(next) if Some(next) == last => Ok(false),
        Some(next) => {
            let what = format!("position {} is missing: the next segment begins at {next}", scanned.end);
            Err(LogError::damaged(name, scanned.length, what))
        }
    }
}

impl Tail {
    /// The last batch, unless it is proven to have been durable: by what was written after it, or by the index.
    fn doubtful(&self, durable: Position) -> Option<Found> {
        self.scanned.last.filter(|last| !self.scanned.proven && !self.followed && last.header.first > durable)
    }

    /// The records of a batch, after room for a header.
    fn records_of(&self, found: Found) -> Result<Vec<u8>, LogError> {
        let mut buffer = Buffer::default();
        match look(&*self.file, found.offset, &mut buffer).map_err(LogError::io(&self.name, "read"))? {
            Look::Batch(found, bytes) => Ok(bytes[..BATCH_HEADER + found.header.length as usize].to_vec()),
            Look::None(malformed) => Err(LogError::malformed(&self.name, found.offset, malformed)),
        }
    }

    /// Cuts off what is not a whole batch. Returns how many bytes a torn write had left.
    fn trim(&self) -> Result<u64, LogError> {
        let length = self.file.len().map_err(LogError::io(&self.name, "read"))?;
        let torn = written_after(&*self.file, self.scanned.length, length).map_err(LogError::io(&self.name, "read"))?;
        if self.scanned.length < length {
            self.cut(self.scanned.length)?;
        }
        Ok(torn)
    }

    fn cut(&self, length: u64) -> Result<(), LogError> {
        self.file.set_len(length).and_then(|()| self.file.sync()).map_err(LogError::io(&self.name, "cut"))
    }
}

/// How many bytes from `offset` on up to the last that is not zero.
pub(super) fn written_after(file: &dyn File, offset: u64, length: u64) -> std::io::Result<u64> {
    let mut bytes = vec![0; 64 << 10];
    let (mut at, mut written) = (offset, 0);
    while at < length {
        let read = read_full(file, &mut bytes, at)?;
        if read == 0 {
            break;
        }
        if let Some(last) = bytes[..read].iter().rposition(|byte| *byte != 0) {
            written = at + last as u64 + 1 - offset;
        }
        at += read as u64;
    }
    Ok(written)
}

/// Goes through the batches of the log from a place on, where the batch with a position begins, up to `end`: everything there was
/// durable, so anything that is not whole is damage.
pub(crate) fn replay(
    segments: &Segments,
    (from, position): (Place, Position),
    end: Position,
    mut visit: impl FnMut(Place, &BatchHeader, &[u8]) -> Result<(), LogError>,
) -> Result<(), LogError> {
    let firsts = segments.firsts();
    let start = firsts.partition_point(|first| *first < from.segment);
    let mut buffer = Buffer::default();
    for (i, segment) in firsts.iter().enumerate().skip(start) {
        let segment_end = firsts.get(i + 1).copied().unwrap_or(end).min(end);
        let name = name_of(*segment);
        let file = segments.open(*segment).map_err(LogError::io(&name, "opened"))?;
        let mut offset = if *segment == from.segment { from.offset } else { super::format::SEGMENT_HEADER as u64 };
        buffer.clear();
        let mut next = if *segment == from.segment { position } else { *segment };
        while next < segment_end {
            match look(&*file, offset, &mut buffer).map_err(LogError::io(&name, "read"))? {
                Look::Batch(found, bytes) if found.header.first == next => {
                    visit(Place { segment: *segment, offset }, &found.header, bytes)?;
                    next = found.header.end();
                    offset += found.header.size();
                }
                Look::Batch(..) => return Err(LogError::damaged(&name, offset, Malformed::Checksum)),
                Look::None(malformed) => return Err(LogError::malformed(&name, offset, malformed)),
            }
        }
    }
    Ok(())
}
