//! Reads a segment batch by batch while a gateway may be writing it.

use super::LogError;
use super::format::{BatchHeader, Malformed, SECTOR, SEGMENT_HEADER, SegmentHeader};
use super::segment::{Buffer, Look, later_batch, look, name_of};
use super::writer::Place;
use crate::store::Position;
use crate::store::disk::{Disk, File};
use crate::store::hash::HashKey;
use std::io;
use std::sync::Arc;

/// Where a batch is, its header, and its bytes from the header on.
type Batch<'b> = (Place, BatchHeader, &'b [u8]);

/// The way through one segment.
#[derive(Debug)]
pub(crate) struct Follower {
    file: Arc<dyn File>,
    name: String,
    header: SegmentHeader,
    buffer: Buffer,
    link: u32,
    /// Where the next batch begins.
    pub(crate) offset: u64,
    /// The position that comes next.
    pub(crate) at: Position,
}

impl Follower {
    /// The beginning of the segment whose first entry has the position `first`, of the log `key`. None if it is gone.
    pub(crate) fn open(disk: &dyn Disk, first: Position, key: HashKey) -> Result<Option<Self>, LogError> {
        let name = name_of(first);
        let file = match disk.open(&name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(LogError::io(&name, "opened"))?,
        };
        let mut buffer = Buffer::default();
        let bytes = buffer.get(&*file, 0, SEGMENT_HEADER).map_err(LogError::io(&name, "read"))?;
        let header = SegmentHeader::decode(bytes).map_err(|malformed| LogError::damaged(&name, 0, malformed))?;
        if header.log != key {
            return Err(LogError::Foreign { file: name });
        }
        let (link, offset) = (header.link, SEGMENT_HEADER as u64);
        Ok(Some(Self { file, name, header, buffer, link, offset, at: first }))
    }

    /// The next batch and its bytes; none where there is none yet. Entries from `end` on are not read: they stand in the next
    /// segment, too.
    pub(crate) fn next(&mut self, end: Option<Position>) -> Result<Option<Batch<'_>>, LogError> {
        if end.is_some_and(|end| self.at >= end) {
            return Ok(None);
        }
        if !self.is_whole()? {
            if end.is_none() && !self.is_overtaken()? {
                return Ok(None);
            }
            // It may have been written in between: what follows it is only written then.
            self.buffer.clear();
            if !self.is_whole()? {
                let what = format!("the batch of position {}: {}", self.at, Malformed::Checksum);
                return Err(LogError::damaged(&self.name, self.offset, what));
            }
        }
        let place = Place { segment: self.header.first, offset: self.offset };
        let found = look(&*self.file, self.offset, &mut self.buffer).map_err(LogError::io(&self.name, "read"))?;
        let Look::Batch(found, bytes) = found else { unreachable!("it was whole, and a batch never changes") };
        self.offset += found.header.size();
        self.at = found.header.end();
        self.link = found.header.checksum;
        Ok(Some((place, found.header, bytes)))
    }

    fn is_whole(&mut self) -> Result<bool, LogError> {
        let found = look(&*self.file, self.offset, &mut self.buffer).map_err(LogError::io(&self.name, "read"))?;
        match found {
            Look::Batch(found, _) => {
                let header = found.header;
                Ok(header.run == self.header.run && header.first == self.at && header.link == self.link)
            }
            Look::None(malformed @ Malformed::TooNew { .. }) => Err(LogError::damaged(&self.name, self.offset, malformed)),
            Look::None(_) => {
                // What is read ahead may be out of date by the next time.
                self.buffer.clear();
                Ok(false)
            }
        }
    }

    /// True if something was written after the place where the next batch should be.
    fn is_overtaken(&mut self) -> Result<bool, LogError> {
        let known = Some((self.header.run, self.at));
        let later = later_batch(&*self.file, self.offset + SECTOR as u64, known, &mut self.buffer);
        Ok(later.map_err(LogError::io(&self.name, "read"))?.is_some())
    }
}
