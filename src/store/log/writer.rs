//! The one writer of the log.

use super::format::{BATCH_HEADER, BatchHeader, SEGMENT_HEADER, SegmentHeader};
use super::segment::{Segments, name_of};
use super::spare::Spare;
use crate::store::Position;
use crate::store::disk::{File, write_all};
use crate::store::hash::HashKey;
use std::io;
use std::sync::Arc;

/// A segment on its way to its name.
const NEW: &str = "new.tmp";

/// The end of the names of files that are no segments yet.
pub(super) const TEMPORARY: &str = ".tmp";

/// A place in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// The segment, by its first position.
    pub(crate) segment: Position,
    /// Where in it.
    pub(crate) offset: u64,
}

impl Place {
    /// Where the first batch of a segment is.
    pub(crate) const fn start_of(segment: Position) -> Self {
        Self { segment, offset: SEGMENT_HEADER as u64 }
    }
}

/// Why a batch was not written.
#[derive(Debug)]
pub(crate) enum WriteError {
    /// The disk is full. Nothing of the batch is in the log, and the writer can go on.
    Full(io::Error),
    /// Nobody knows what is on the disk: the writer must not go on.
    Failed(io::Error),
}

/// Writes batches, each durable before the next.
#[derive(Debug)]
pub(crate) struct Writer {
    segments: Arc<Segments>,
    key: HashKey,
    epoch: u64,
    run: u64,
    segment_bytes: u64,
    active: Active,
    /// Checksum of the header of the last batch.
    link: u32,
    spare: Arc<Spare>,
    /// True while the last batch has no seal after it.
    unsealed: bool,
    /// True if the next segment may have its name already: nothing more goes to the active one.
    rolling: bool,
}

#[derive(Debug)]
struct Active {
    file: Arc<dyn File>,
    first: Position,
    offset: u64,
    /// True if it was filled with zeros before.
    filled: bool,
}

/// What a writer writes in the header of every segment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Identity {
    pub(super) key: HashKey,
    pub(super) epoch: u64,
    pub(super) run: u64,
}

impl Writer {
    /// Begins a segment at `first`, which follows the batch whose header has the checksum `link`, with a batch of the `again` records,
    /// which stand after room for a header, if there are any. It replaces one that has the same name, and is durable with its batch.
    pub(super) fn begin(
        segments: Arc<Segments>,
        identity: Identity,
        segment_bytes: u64,
        (first, link): (Position, u32),
        again: Option<(Vec<u8>, u32)>,
    ) -> Result<Self, WriteError> {
        let Identity { key, epoch, run } = identity;
        let spare = Spare::new(segments.disk().clone(), segment_bytes);
        let header = SegmentHeader { log: key, epoch, first, run, link };
        let again = again.map(|(mut bytes, count)| {
            let header = BatchHeader::seal_up(&mut bytes, first, count, run, link);
            (bytes, header)
        });
        let batch = again.as_ref().map_or(&[][..], |(bytes, _)| bytes);
        let active = begin(&segments, None, header, batch, segment_bytes)?;
        Ok(Self {
            segments,
            key,
            epoch,
            run,
            segment_bytes,
            active,
            link: again.as_ref().map_or(link, |(_, header)| header.checksum),
            spare: Arc::new(spare),
            unsealed: again.is_some(),
            rolling: false,
        })
    }

    /// Where the next segment comes from.
    pub(crate) fn spare(&self) -> &Arc<Spare> {
        &self.spare
    }

    /// True while the last batch has no seal after it.
    pub(crate) const fn unsealed(&self) -> bool {
        self.unsealed
    }

    /// Writes a batch of `count` entries from `first` on, and returns once it is durable. `bytes` holds its records after room for
    /// a header; it is completed. Tells where the batch is, and how many bytes it takes.
    pub(crate) fn write(&mut self, bytes: &mut Vec<u8>, first: Position, count: u32) -> Result<(Place, u64), WriteError> {
        let size = super::format::padded(bytes.len() as u64);
        if self.rolling || count > 0 && self.goes_to_the_next(first, size) {
            self.roll(first)?;
        }
        let header = BatchHeader::seal_up(bytes, first, count, self.run, self.link);
        let place = Place { segment: self.active.first, offset: self.active.offset };
        if let Err(error) = write_all(&*self.active.file, bytes, self.active.offset) {
            return Err(self.take_back(error));
        }
        self.active.file.sync().map_err(WriteError::Failed)?;
        self.active.offset += header.size();
        self.link = header.checksum;
        self.unsealed = true;
        Ok((place, header.size()))
    }

    /// Writes that everything before `next` is durable, so that after a crash the last batch is known to have been. That is not worth a
    /// segment: in one that is full it takes a sector more, and where the next has to be begun first it is left.
    pub(crate) fn seal(&mut self, next: Position) -> Result<(), WriteError> {
        if self.unsealed && !self.rolling {
            let mut bytes = vec![0; BATCH_HEADER];
            self.write(&mut bytes, next, 0)?;
            self.unsealed = false;
        }
        Ok(())
    }

    /// True if a batch from `first` on, of so many bytes, goes to the next segment.
    fn goes_to_the_next(&self, first: Position, size: u64) -> bool {
        // While this one has none the next would have its name and replace it, and what stands in it is what the next would link to.
        let has_entries = self.active.first < first;
        let no_room = self.active.offset + size > self.segment_bytes;
        // The segment that a start begins with is not filled: that would hold the start up.
        let to_filled = !self.active.filled && self.spare.is_ready();
        has_entries && (no_room || to_filled)
    }

    /// Takes a batch back that could not be written for want of room.
    fn take_back(&self, error: io::Error) -> WriteError {
        if !is_full(&error) {
            return WriteError::Failed(error);
        }
        let file = &self.active.file;
        match file.set_len(self.active.offset).and_then(|()| file.sync()) {
            Ok(()) => WriteError::Full(error),
            Err(error) => WriteError::Failed(error),
        }
    }

    /// Goes on in a new segment.
    fn roll(&mut self, first: Position) -> Result<(), WriteError> {
        let header = SegmentHeader { log: self.key, epoch: self.epoch, first, run: self.run, link: self.link };
        self.rolling = true;
        let spare = self.spare.take();
        let next = begin(&self.segments, spare, header, &[], self.segment_bytes)?;
        let former = std::mem::replace(&mut self.active, next);
        self.rolling = false;
        // What is left of it would stay for nothing. If this fails it stays.
        let _only_room = former.file.set_len(former.offset);
        self.segments.complete(former.first, former.offset);
        Ok(())
    }
}

pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Makes a segment of a header and a batch, if there is one. It gets its name once its content is durable: so what has the name of a
/// segment and no header is damaged, and a segment that is replaced is whole until the new one is.
fn begin(
    segments: &Segments,
    spare: Option<(Arc<dyn File>, String)>,
    header: SegmentHeader,
    batch: &[u8],
    segment_bytes: u64,
) -> Result<Active, WriteError> {
    let disk = segments.disk();
    let filled = spare.is_some();
    // Nothing of what is to be written is in the log yet.
    let failed = |error: io::Error| if is_full(&error) { WriteError::Full(error) } else { WriteError::Failed(error) };
    let (file, former) = match spare {
        Some(spare) => spare,
        None => {
            let _left_behind = disk.remove(NEW);
            (disk.create(NEW).map_err(failed)?, NEW.to_owned())
        }
    };
    let bytes = [&header.encode()[..], batch].concat();
    let written = write_all(&*file, &bytes, 0).map_err(failed);
    let synced = written.and_then(|()| file.sync().map_err(WriteError::Failed));
    let named = synced.and_then(|()| disk.rename(&former, &name_of(header.first)).map_err(failed));
    if let Err(error) = named {
        let _left_behind = disk.remove(&former);
        return Err(error);
    }
    disk.sync().map_err(WriteError::Failed)?;
    segments.add(header.first, segment_bytes);
    Ok(Active { file, first: header.first, offset: bytes.len() as u64, filled })
}

#[cfg(test)]
mod tests {
    use super::super::format::SECTOR;
    use super::*;
    use crate::store::conformance::said;
    use crate::store::disk::Simulated;
    use crate::store::log::{Expected, Follower, Known, Opened, Record, Survey, open, survey};
    use rustix::io::Errno;

    const SECTORS: usize = 8;

    const KEY: HashKey = HashKey([7; 16]);

    /// A log of small segments that is written to.
    struct Written {
        disk: Simulated,
        opened: Opened,
    }

    fn opened(disk: &Simulated) -> Opened {
        let known = Known { key: KEY, epoch: 1, oldest: Position(1), durable: Position(0) };
        open(disk.disk(), known, (SECTORS * SECTOR) as u64).expect("can be opened")
    }

    impl Written {
        fn new() -> Self {
            let disk = Simulated::new();
            Self { opened: opened(&disk), disk }
        }

        /// Writes a batch of one entry.
        fn try_write(&mut self, sectors: usize) -> Result<Place, WriteError> {
            let mut bytes = vec![0; BATCH_HEADER];
            Record::encode(&said(&"x".repeat(sectors * SECTOR - 200)), true, KEY, &mut bytes);
            let (place, size) = self.opened.writer.write(&mut bytes, self.opened.end, 1)?;
            assert_eq!(size, (sectors * SECTOR) as u64);
            self.opened.end = self.opened.end.next();
            Ok(place)
        }

        fn write(&mut self, sectors: usize) -> Place {
            self.try_write(sectors).expect("can be written")
        }

        fn seal(&mut self) {
            self.opened.writer.seal(self.opened.end).expect("can be written");
        }

        fn fill_spare(&self) {
            self.opened.writer.spare().fill(0).expect("there is room");
        }

        /// The process is killed, and the log is opened again.
        fn open_again(&mut self) {
            self.disk.restart();
            let end = self.opened.end;
            self.opened = opened(&self.disk);
            assert_eq!(self.opened.end, end);
        }

        fn survey(&self) -> Survey {
            let expected = Expected { key: KEY, epochs: None, oldest: Position(1) };
            survey(&*self.disk.disk(), &expected, &mut |_, _, _| Ok(())).expect("can be looked at")
        }

        fn assert_sound(&self) {
            let Survey { damages, unfinished, end, .. } = self.survey();
            assert_eq!((damages, unfinished, end), (vec![], None, self.opened.end));
        }

        /// It is sound, and still is when it has been opened again, whether the last batch has a seal or not.
        fn assert_sound_from_now_on(&mut self) {
            self.assert_sound();
            for _ in 0..2 {
                self.open_again();
                self.assert_sound();
                self.write(1);
                self.assert_sound();
            }
            self.seal();
            self.open_again();
            self.assert_sound();
        }
    }

    /// The segment after it links to the seal, which has to be there.
    #[test]
    fn a_seal_begins_no_segment_although_the_one_before_is_full() {
        for (full, next) in [(SECTORS - 1, 1), (SECTORS - 1, SECTORS - 1), (2 * SECTORS, 1), (2 * SECTORS, 2 * SECTORS)] {
            for [is_filled, next_is_filled] in [[false, false], [false, true], [true, false], [true, true]] {
                let mut log = Written::new();
                if is_filled {
                    log.write(1);
                    log.fill_spare();
                }
                let place = log.write(full);
                log.seal();
                assert_eq!(log.opened.segments.firsts().last(), Some(&place.segment), "the seal stands with what it is of");
                if next_is_filled {
                    log.fill_spare();
                }
                let mut follower = Follower::open(&*log.disk.disk(), place.segment, KEY).unwrap().unwrap();
                let end = log.opened.end;
                assert_eq!(log.write(next), Place::start_of(end));
                let batches = std::iter::from_fn(|| follower.next(Some(end)).unwrap().map(|(_, header, _)| header.count));
                assert_eq!(batches.collect::<Vec<_>>(), [1]);
                log.assert_sound_from_now_on();
            }
        }
    }

    #[test]
    fn a_seal_begins_no_segment_that_had_no_room_before() {
        let mut log = Written::new();
        log.write(SECTORS - 1);
        log.disk.fail_write(1, Errno::NOSPC);
        assert!(matches!(log.try_write(SECTORS - 1), Err(WriteError::Full(_))));
        log.seal();
        assert!(log.opened.writer.unsealed());
        assert_eq!(log.opened.segments.firsts(), [Position(1)]);
        assert_eq!(log.write(SECTORS - 1), Place::start_of(Position(2)));
        log.assert_sound_from_now_on();
    }

    /// As earlier versions left it where a segment was full.
    #[test]
    fn a_segment_that_begins_with_a_seal_is_gone_on_with_and_replaced_with_its_link() {
        let begun = || {
            let mut log = Written::new();
            log.write(1);
            log.seal();
            log.open_again();
            log.opened.writer.write(&mut vec![0; BATCH_HEADER], log.opened.end, 0).expect("can be written");
            log
        };
        let behind_the_seal = Place { segment: Position(2), offset: 2 * SECTOR as u64 };
        for (next, is_filled) in [(1, false), (1, true), (SECTORS, false)] {
            let mut log = begun();
            if is_filled {
                log.fill_spare();
            }
            let mut follower = Follower::open(&*log.disk.disk(), Position(2), KEY).unwrap().unwrap();
            assert!(follower.next(None).unwrap().is_some_and(|(_, header, _)| header.count == 0));
            assert_eq!(log.write(next), behind_the_seal);
            assert_eq!(follower.next(None).unwrap().map(|(place, ..)| place), Some(behind_the_seal));
            log.assert_sound_from_now_on();
        }
        begun().assert_sound_from_now_on();
    }

    /// As earlier versions left it where a segment was full and the next batch had no room beside the seal.
    #[test]
    fn a_segment_that_replaced_the_one_with_its_seal_follows_that() {
        for sectors in [1, SECTORS] {
            let mut log = Written::new();
            log.write(SECTORS - 1);
            let end = log.opened.end;
            log.opened.writer.roll(end).expect("there is room");
            log.opened.writer.write(&mut vec![0; BATCH_HEADER], end, 0).expect("can be written");
            log.opened.writer.roll(end).expect("there is room");
            assert_eq!(log.write(sectors), Place::start_of(end));
            log.assert_sound_from_now_on();
        }
    }

    /// Two segments: the first has a seal at its end, which is this sector of it, and the second follows that.
    fn sealed() -> (Written, String, usize) {
        let mut log = Written::new();
        let first = name_of(log.write(1).segment);
        log.seal();
        log.open_again();
        log.write(1);
        let sector = log.disk.content(&first).len() / SECTOR - 1;
        (log, first, sector)
    }

    #[test]
    fn a_seal_that_was_not_synced_may_be_gone_once_something_follows() {
        let (mut log, first, sector) = sealed();
        log.disk.truncate(&first, sector * SECTOR);
        log.assert_sound_from_now_on();
    }

    #[test]
    fn a_seal_that_is_damaged_is_told_and_so_is_what_is_gone_beside_it() {
        let (log, first, sector) = sealed();
        log.disk.flip(&first, (sector * SECTOR + 40) * 8);
        assert!(matches!(&log.survey().damages[..], [damage] if damage.lost.is_none()));
        let (log, first, sector) = sealed();
        log.disk.truncate(&first, (sector - 1) * SECTOR);
        assert!(matches!(&log.survey().damages[..], [damage] if damage.lost == Some((Position(1), Position(2)))));
    }

    #[test]
    fn a_segment_that_follows_no_seal_of_the_one_before_is_told() {
        let (log, first, sector) = sealed();
        log.disk.truncate(&first, sector * SECTOR);
        let name = name_of(Position(2));
        let header = SegmentHeader::decode(&log.disk.content(&name)).expect("is one");
        let other = SegmentHeader { link: header.link ^ 1, ..header };
        write_all(&*log.disk.disk().open(&name).expect("is there"), &other.encode(), 0).expect("can be written");
        assert!(!log.survey().damages.is_empty());
    }
}
