//! A copy of a store, while a gateway may be using it.

use super::{copy, io, make_empty, sync_folder};
use crate::store::Position;
use crate::store::control::Control;
use crate::store::disk::{Directory, Disk};
use crate::store::embedded::{Files, OpenError};
use crate::store::log::{self, BatchHeader, Follower, SEGMENT_HEADER};
use std::fs;
use std::io::{ErrorKind, Write as _};
use std::path::Path;

/// The control file until the backup is complete: without its name nothing is taken for a backup.
const INCOMPLETE: &str = "control.db.incomplete";

/// How often it is begun anew because retention was faster.
const ATTEMPTS: usize = 100;

/// What a backup has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backup {
    /// The oldest position.
    pub oldest: Position,
    /// The last position; before `oldest` if there are no entries.
    pub last: Position,
    /// Files of the log that are shared with the store.
    pub linked: usize,
    /// Files of the log that were copied.
    pub copied: usize,
    /// Bytes of all of them.
    pub bytes: u64,
}

/// Copies the store in `folder` to `to`, which must be new or empty. Files of the log that are complete are shared where the file
/// system can do that. The store may be in use: the copy has all that was acknowledged before this was called.
///
/// `progress` is told the bytes that are done, and those of all files.
pub fn back_up(folder: &Path, to: &Path, progress: &dyn Fn(u64, u64)) -> Result<Backup, OpenError> {
    let from = Files::existing(folder)?;
    let to = make_empty(to)?;
    for _ in 0..ATTEMPTS {
        if let Some(backup) = attempt(&from, &to, progress)? {
            sync_folder(&to.log())?;
            let incomplete = to.folder.join(INCOMPLETE);
            fs::File::open(&incomplete).and_then(|file| file.sync_all()).map_err(io(&incomplete, "synced"))?;
            fs::rename(&incomplete, to.control()).map_err(io(&to.control(), "made"))?;
            sync_folder(&to.folder)?;
            let parent = to.folder.parent().filter(|parent| !parent.as_os_str().is_empty());
            parent.map_or(Ok(()), sync_folder)?;
            return Ok(backup);
        }
        clear(&to)?;
    }
    let cause = std::io::Error::other(format!("old files went {ATTEMPTS} times while it was copied"));
    Err(OpenError::Io { path: from.log(), action: "backed up", cause })
}

/// Removes what an attempt has made.
fn clear(to: &Files) -> Result<(), OpenError> {
    let log = to.log();
    for file in fs::read_dir(&log).map_err(io(&log, "read"))? {
        let path = file.map_err(io(&log, "read"))?.path();
        fs::remove_file(&path).map_err(io(&path, "removed"))?;
    }
    let incomplete = to.folder.join(INCOMPLETE);
    fs::remove_file(&incomplete).map_err(io(&incomplete, "removed"))
}

/// None if retention was faster.
fn attempt(from: &Files, to: &Files, progress: &dyn Fn(u64, u64)) -> Result<Option<Backup>, OpenError> {
    // First, so that whatever it says is kept was there afterwards, unless retention went on.
    let control = Control::open(&from.control())?;
    control.back_up(&to.folder.join(INCOMPLETE))?;
    let oldest = Control::open(&to.folder.join(INCOMPLETE))?.oldest()?;
    let disk = Directory::new(&from.log()).map_err(io(&from.log(), "opened"))?;
    let firsts = segments(&disk, &from.log(), oldest)?;
    let mut backup = Backup { oldest, last: oldest.previous(), ..Backup::default() };
    let Some((active, sealed)) = firsts.split_last() else { return Ok(Some(backup)) };
    if firsts[0] > oldest {
        return Ok(None);
    }
    let size = |first: &Position| fs::metadata(from.log().join(log::name_of(*first))).map_or(0, |file| file.len());
    let of: u64 = firsts.iter().map(size).sum();
    for first in sealed {
        let name = log::name_of(*first);
        let (source, target) = (from.log().join(&name), to.log().join(&name));
        match fs::hard_link(&source, &target) {
            Ok(()) => {
                backup.linked += 1;
                backup.bytes += size(first);
            }
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            // Of another file system, or of one that has no links.
            Err(_) => {
                if !source.is_file() {
                    return Ok(None);
                }
                backup.bytes += copy(&source, &target)?;
                backup.copied += 1;
            }
        }
        progress(backup.bytes, of);
    }
    let Some((last, bytes)) = copy_whole(&disk, *active, &control, &to.log().join(log::name_of(*active)))? else {
        return Ok(None);
    };
    backup.copied += 1;
    backup.bytes += bytes;
    backup.last = last;
    progress(of, of);
    Ok(Some(backup))
}

/// The segments that hold what is kept from `oldest` on, without a gap.
fn segments(disk: &Directory, path: &Path, oldest: Position) -> Result<Vec<Position>, OpenError> {
    let list = || -> Result<Vec<Position>, OpenError> {
        let names = disk.list().map_err(io(path, "listed"))?;
        let mut firsts: Vec<_> = names.iter().filter_map(|name| log::position_of(name)).collect();
        firsts.sort_unstable();
        Ok(firsts)
    };
    // A listing may lack a file that was made meanwhile and yet have one that was made later. A second listing lacks neither.
    let last = list()?.last().copied();
    let mut firsts = list()?;
    firsts.retain(|first| Some(*first) <= last);
    let gone = firsts.partition_point(|first| *first <= oldest).saturating_sub(1);
    firsts.drain(..gone);
    Ok(firsts)
}

/// Copies the segment that is written to, up to its last whole batch. Returns the last position and the bytes; none if the segment
/// is gone.
fn copy_whole(disk: &Directory, first: Position, control: &Control, to: &Path) -> Result<Option<(Position, u64)>, OpenError> {
    let Some(mut follower) = Follower::open(disk, first, control.key)? else { return Ok(None) };
    let mut file = fs::File::create_new(to).map_err(io(to, "made"))?;
    let source = disk.open(&log::name_of(first)).map_err(io(to, "read"))?;
    let mut header = [0; SEGMENT_HEADER];
    crate::store::disk::read_full(&*source, &mut header, 0).map_err(io(to, "read"))?;
    file.write_all(&header).map_err(io(to, "written"))?;
    while let Some((_, header, bytes)) = follower.next(None)? {
        file.write_all(&padded(&header, bytes)).map_err(io(to, "written"))?;
    }
    file.sync_all().map_err(io(to, "synced"))?;
    Ok(Some((follower.at.previous(), follower.offset)))
}

/// A batch up to where the next one begins.
fn padded(header: &BatchHeader, bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes.resize(usize::try_from(header.size()).unwrap_or(usize::MAX), 0);
    bytes
}
