//! A look at the whole log, past whatever is damaged: what is whole, what is not, and which positions are lost by that.

use super::LogError;
use super::format::{BATCH_HEADER, BatchHeader, Malformed, SECTOR, SEGMENT_HEADER, SegmentHeader, records};
use super::recovery::written_after;
use super::segment::{Buffer, Found, Look, later_batch, look, name_of, position_of};
use super::writer::Place;
use crate::store::Position;
use crate::store::control::Epochs;
use crate::store::disk::{Disk, File};
use crate::store::hash::HashKey;
use std::sync::Arc;

/// Something that is wrong with the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Damage {
    /// The file.
    pub(crate) file: String,
    /// Where in it.
    pub(crate) offset: u64,
    /// What is wrong.
    pub(crate) what: String,
    /// The first position that is lost by it, and the one after the last; none if none is.
    pub(crate) lost: Option<(Position, Position)>,
}

/// Bytes at the end that are no whole batch: a write that was cut short.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unfinished {
    /// The file.
    pub(crate) file: String,
    /// Where in it.
    pub(crate) offset: u64,
    /// How many bytes.
    pub(crate) bytes: u64,
}

/// A part of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Piece {
    /// A whole batch that begins at this byte.
    Whole(u64),
    /// A seal stood here, or may have.
    Seal(Position),
    /// Positions that are lost: the first, and the one after the last.
    Lost(Position, Position),
}

/// A segment as it was found, or one that is missing.
#[derive(Debug)]
pub(crate) struct Surveyed {
    /// Position of its first entry.
    pub(crate) first: Position,
    /// What it says of itself; none if that is damaged.
    pub(crate) header: Option<SegmentHeader>,
    /// The run and the link of its first whole batch.
    pub(crate) first_batch: Option<(u64, u32)>,
    /// Link for what follows it; none if nobody knows it.
    pub(crate) link: Option<u32>,
    /// Its parts.
    pub(crate) pieces: Vec<Piece>,
    /// True if it has to be written anew to be whole.
    pub(crate) damaged: bool,
}

impl Surveyed {
    const fn new(first: Position) -> Self {
        Self { first, header: None, first_batch: None, link: None, pieces: Vec::new(), damaged: false }
    }
}

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// The segments, oldest first.
    pub(crate) segments: Vec<Surveyed>,
    /// Segments at the end that have no entries.
    pub(crate) empty: Vec<Position>,
    /// True if one of those is damaged.
    pub(crate) spoilt: bool,
    /// What is wrong.
    pub(crate) damages: Vec<Damage>,
    /// A write that was cut short.
    pub(crate) unfinished: Option<Unfinished>,
    /// The position after the last entry.
    pub(crate) end: Position,
    /// Bytes of the segments.
    pub(crate) bytes: u64,
}

/// What is known of the log from elsewhere.
#[derive(Debug)]
pub(crate) struct Expected<'e> {
    /// Its id.
    pub(crate) key: HashKey,
    /// Its histories; none if nobody knows them.
    pub(crate) epochs: Option<&'e Epochs>,
    /// The oldest position that has to be there.
    pub(crate) oldest: Position,
}

/// Visits whole batches, in the order of the log. What it fails with is wrong with the batch.
pub(crate) type Visit<'v> = dyn FnMut(Place, &BatchHeader, &[u8]) -> Result<(), Malformed> + 'v;

/// What the segments say of themselves, oldest first, as far as they can.
pub(crate) fn headers(disk: &dyn Disk) -> Result<Vec<SegmentHeader>, LogError> {
    let names = disk.list().map_err(LogError::io("the log", "listed"))?;
    let mut headers = Vec::new();
    for name in names.iter().filter(|name| position_of(name).is_some()) {
        let file = disk.open(name).map_err(LogError::io(name, "opened"))?;
        let mut buffer = Buffer::default();
        headers.extend(SegmentHeader::decode(buffer.get(&*file, 0, SEGMENT_HEADER).map_err(LogError::io(name, "read"))?).ok());
    }
    headers.sort_by_key(|header| header.first);
    Ok(headers)
}

/// Looks at everything. Fails only where a file cannot be read, or needs a later version of the gateway.
pub(crate) fn survey(disk: &dyn Disk, expected: &Expected<'_>, visit: &mut Visit<'_>) -> Result<Survey, LogError> {
    let names = disk.list().map_err(LogError::io("the log", "listed"))?;
    let mut firsts: Vec<_> = names.iter().filter_map(|name| position_of(name)).collect();
    firsts.sort_unstable();
    // What retention left behind.
    let kept = firsts.partition_point(|first| *first <= expected.oldest).saturating_sub(1);
    firsts.drain(..kept);

    let mut found = Survey { end: expected.oldest, ..Survey::default() };
    while let Some(first) = firsts.last().copied() {
        let name = name_of(first);
        let file = disk.open(&name).map_err(LogError::io(&name, "opened"))?;
        if has_entries(&*file, first).map_err(LogError::io(&name, "read"))? {
            break;
        }
        let mut buffer = Buffer::default();
        let header = buffer.get(&*file, 0, SEGMENT_HEADER).map_err(LogError::io(&name, "read"))?;
        if let Err(malformed) = SegmentHeader::decode(header) {
            // A segment gets its name once its header is durable.
            let what = format!("the header of the segment, which has no entries: {malformed}");
            found.damages.push(Damage { file: name, offset: 0, what, lost: None });
            found.spoilt = true;
        }
        found.empty.insert(0, first);
        firsts.pop();
    }
    let (mut link, mut lost_seal) = (None, None);
    for (i, first) in firsts.iter().copied().enumerate() {
        let name = name_of(first);
        let file = disk.open(&name).map_err(LogError::io(&name, "opened"))?;
        found.bytes += file.len().map_err(LogError::io(&name, "read"))?;
        if i == 0 && first <= expected.oldest {
            found.end = first;
        }
        if first > found.end {
            found.miss(first, "the segment that should be here is missing");
            link = None;
        }
        let next = firsts.get(i + 1).copied();
        let mut walk = Walk {
            expected,
            file,
            name,
            next,
            at: first,
            offset: SEGMENT_HEADER as u64,
            run: None,
            link,
            lost_seal,
            is_sealed: false,
            found: &mut found,
            segment: Surveyed::new(first),
            salvaged: false,
        };
        walk.header()?;
        walk.batches(visit)?;
        // What was salvaged does not lead on to what was written after the original.
        link = walk.link.filter(|_| !walk.salvaged);
        lost_seal = walk.lost_seal;
        let Walk { mut segment, at, .. } = walk;
        segment.link = link;
        found.end = at;
        found.segments.push(segment);
    }
    match found.empty.first().copied() {
        Some(begun) if begun > found.end => found.lose(begun, "a segment was begun after it"),
        _ => {}
    }
    Ok(found)
}

/// True if entries stand in the segment that begins with `first`, or stood there: a seal tells that, too.
fn has_entries(file: &dyn File, first: Position) -> std::io::Result<bool> {
    let mut buffer = Buffer::default();
    let run = SegmentHeader::decode(buffer.get(file, 0, SEGMENT_HEADER)?).ok().map(|header| header.run);
    let mut offset = SEGMENT_HEADER as u64;
    while let Some(found) = later_batch(file, offset, run.map(|run| (run, Position(0))), &mut buffer)? {
        if found.header.count > 0 || found.header.first > first {
            return Ok(true);
        }
        offset = found.offset + SECTOR as u64;
    }
    Ok(false)
}

impl Survey {
    /// The segments before `first` are missing.
    fn miss(&mut self, first: Position, what: &str) {
        let lost = (self.end, first);
        self.damages.push(Damage { file: name_of(self.end), offset: 0, what: what.into(), lost: Some(lost) });
        let pieces = vec![Piece::Lost(lost.0, lost.1)];
        self.segments.push(Surveyed { pieces, damaged: true, ..Surveyed::new(self.end) });
        self.end = first;
    }

    /// The end of the log is missing, up to `end`.
    pub(crate) fn lose(&mut self, end: Position, why: &str) {
        let file = self.segments.last().map_or_else(|| name_of(self.end), |segment| name_of(segment.first));
        let what = format!("the log ends before position {}, but {why}", self.end);
        let offset = self.unfinished.take().map_or(0, |unfinished| unfinished.offset);
        if let Some(last) = self.segments.last_mut() {
            last.damaged = true;
        }
        self.damages.push(Damage { file, offset, what, lost: Some((self.end, end)) });
    }
}

/// The way through one segment.
struct Walk<'w> {
    expected: &'w Expected<'w>,
    file: Arc<dyn File>,
    name: String,
    /// Where the next segment begins; none for the last one.
    next: Option<Position>,
    /// The position that comes next.
    at: Position,
    offset: u64,
    run: Option<u64>,
    /// Link for what comes next; none if nobody knows it.
    link: Option<u32>,
    /// Link for what follows the seal that the segment before, and at last this one, may have had at its end. Who opened the log linked to
    /// it as soon as it was seen: then it was not synced, perhaps, and went with the power. Nothing depends on it, since what it vouches
    /// for is followed by something. Earlier versions also wrote it where the next segment replaced it.
    lost_seal: Option<u32>,
    /// True if the last batch is a seal.
    is_sealed: bool,
    found: &'w mut Survey,
    segment: Surveyed,
    /// True if positions of it were lost before, and are marked as such.
    salvaged: bool,
}

impl Walk<'_> {
    fn damage(&mut self, offset: u64, what: String, lost: Option<(Position, Position)>) {
        self.segment.damaged = true;
        self.segment.pieces.extend(lost.map(|(from, to)| Piece::Lost(from, to)));
        self.found.damages.push(Damage { file: self.name.clone(), offset, what, lost });
    }

    fn header(&mut self) -> Result<(), LogError> {
        let mut buffer = Buffer::default();
        let bytes = buffer.get(&*self.file, 0, SEGMENT_HEADER).map_err(LogError::io(&self.name, "read"))?;
        let header = match SegmentHeader::decode(bytes) {
            Ok(header) => header,
            Err(malformed @ Malformed::TooNew { .. }) => return Err(LogError::damaged(&self.name, 0, malformed)),
            Err(malformed) => {
                self.damage(0, format!("the header of the segment: {malformed}"), None);
                return Ok(());
            }
        };
        if header.log != self.expected.key {
            return Err(LogError::Foreign { file: self.name.clone() });
        }
        if header.first != self.segment.first {
            self.damage(0, format!("the header of the segment is of {}", name_of(header.first)), None);
            return Ok(());
        }
        if self.expected.epochs.is_some_and(|epochs| !epochs.contains(header.epoch)) {
            self.damage(0, format!("it was written in the epoch {}, of which control.db knows nothing", header.epoch), None);
        }
        if !self.is_linked(header.link) {
            self.damage(0, "the segment does not follow the one before it".into(), None);
        }
        self.run = Some(header.run);
        self.link = Some(header.link);
        self.segment.header = Some(header);
        Ok(())
    }

    /// True if what has this link comes next, be it after a seal that is gone.
    fn is_linked(&mut self, link: u32) -> bool {
        let lost_seal = self.lost_seal.take();
        if self.link.is_none_or(|known| known == link) {
            return true;
        }
        let is_after_seal = lost_seal == Some(link);
        if is_after_seal && let Some(before) = self.found.segments.last_mut() {
            before.link = Some(link);
        }
        is_after_seal
    }

    /// Link for what would follow a seal here.
    fn link_of_seal(&self) -> Option<u32> {
        let (run, link) = self.run.zip(self.link).filter(|_| !self.is_sealed)?;
        Some(BatchHeader::seal_up(&mut vec![0; BATCH_HEADER], self.at, 0, run, link).checksum)
    }

    /// True if this batch comes next.
    fn follows(&self, header: &BatchHeader) -> bool {
        self.run.is_none_or(|run| run == header.run)
            && header.first == self.at
            && self.next.is_none_or(|next| header.end() <= next)
    }

    fn batches(&mut self, visit: &mut Visit<'_>) -> Result<(), LogError> {
        let mut buffer = Buffer::default();
        let file = self.file.clone();
        loop {
            let offset = self.offset;
            let over = self.next == Some(self.at);
            let malformed = match look(&*file, offset, &mut buffer).map_err(LogError::io(&self.name, "read"))? {
                Look::Batch(found, bytes) if self.follows(&found.header) && (!over || found.header.count == 0) => {
                    self.take(found, bytes, visit)?;
                    continue;
                }
                // A sector is there or not: what is neither whole nor blank is no seal that was not synced.
                Look::None(Malformed::Blank | Malformed::Short) if over => {
                    self.lost_seal = self.link_of_seal();
                    return Ok(());
                }
                _ if over => return Ok(()),
                Look::Batch(..) => Malformed::Checksum,
                Look::None(malformed @ Malformed::TooNew { .. }) => return Err(LogError::damaged(&self.name, offset, malformed)),
                Look::None(malformed) => malformed,
            };
            if !self.pass(malformed, &mut buffer)? {
                return Ok(());
            }
        }
    }

    /// Takes a whole batch.
    fn take(&mut self, found: Found, bytes: &[u8], visit: &mut Visit<'_>) -> Result<(), LogError> {
        let Found { header, offset } = found;
        if !self.is_linked(header.link) {
            self.damage(offset, format!("the batch of position {} does not follow the one before it", header.first), None);
        }
        let place = Place { segment: self.segment.first, offset };
        match visit(place, &header, bytes) {
            Ok(()) => {
                self.segment.first_batch.get_or_insert((header.run, header.link));
                self.segment.pieces.push(Piece::Whole(offset));
            }
            Err(malformed @ Malformed::TooNew { .. }) => return Err(LogError::damaged(&self.name, offset, malformed)),
            Err(malformed) => {
                let what = format!("the batch of position {} is whole, but an entry of it {malformed}", header.first);
                self.damage(offset, what, Some((header.first, header.end())));
            }
        }
        self.salvaged |= is_lost(&header, bytes);
        self.run = Some(header.run);
        self.step(&header);
        Ok(())
    }

    fn step(&mut self, header: &BatchHeader) {
        self.link = Some(header.checksum);
        self.is_sealed = header.count == 0;
        self.at = header.end();
        self.offset += header.size();
    }

    /// Passes over what is not whole. False at the end of the segment.
    fn pass(&mut self, malformed: Malformed, buffer: &mut Buffer) -> Result<bool, LogError> {
        let (offset, at) = (self.offset, self.at);
        let io = || LogError::io(&self.name, "read");
        let file = self.file.clone();
        let known = self.run.map(|run| (run, at));
        let later = later_batch(&*file, offset + SECTOR as u64, known, buffer).map_err(io())?;
        let within = |first: Position| first >= at && self.next.is_none_or(|next| first < next);
        let later = later.filter(|later| within(later.header.first));
        let own = BatchHeader::decode(buffer.get(&*file, offset, BATCH_HEADER).map_err(io())?).ok();
        let own = own.filter(|header| self.follows(header) && header.count > 0);
        let what = format!("the batch of position {at}: {malformed}");
        match (own, later, self.next) {
            // Its header tells how much of it is lost.
            (Some(header), Some(_), _) | (Some(header), None, Some(_)) => {
                self.damage(offset, what, Some((at, header.end())));
                self.run = Some(header.run);
                self.step(&header);
                Ok(true)
            }
            (None, Some(later), _) => {
                let first = later.header.first;
                self.damage(offset, what, (first > at).then_some((at, first)));
                if first == at {
                    self.segment.pieces.push(Piece::Seal(at));
                }
                self.at = first;
                self.offset = later.offset;
                self.link = Some(later.header.link);
                self.is_sealed = false;
                Ok(true)
            }
            (None, None, Some(next)) => {
                let what = format!("{what}; nothing whole follows before the next segment");
                self.damage(offset, what, Some((at, next)));
                self.at = next;
                self.link = None;
                Ok(false)
            }
            (_, None, None) => {
                let length = file.len().map_err(io())?;
                let bytes = written_after(&*file, offset, length).map_err(io())?;
                if bytes > 0 {
                    self.found.unfinished = Some(Unfinished { file: self.name.clone(), offset, bytes });
                }
                Ok(false)
            }
        }
    }
}

/// True if a batch marks positions as lost.
fn is_lost(header: &BatchHeader, bytes: &[u8]) -> bool {
    let first = records(header, bytes).next();
    let entry = first.and_then(Result::ok).filter(|record| record.hints.is_internal()).and_then(|record| record.entry().ok());
    entry.is_some_and(|entry| entry.lost)
}
