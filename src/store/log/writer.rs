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
        let has_batches = self.active.offset > SEGMENT_HEADER as u64;
        let no_room = self.active.offset + size > self.segment_bytes;
        // The segment that a start begins with is not filled: that would hold the start up. A seal is not worth a new one.
        let to_filled = !self.active.filled && count > 0 && self.spare.is_ready();
        if has_batches && (no_room || to_filled) || self.rolling {
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

    /// Writes that everything before `next` is durable, so that after a crash the last batch is known to have been.
    pub(crate) fn seal(&mut self, next: Position) -> Result<(), WriteError> {
        if self.unsealed {
            let mut bytes = vec![0; BATCH_HEADER];
            self.write(&mut bytes, next, 0)?;
            self.unsealed = false;
        }
        Ok(())
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
