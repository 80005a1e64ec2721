//! A store made of a backup.

use super::{copy, end_of, io, make_empty, sync_folder};
use crate::store::Position;
use crate::store::control::Control;
use crate::store::deliveries::{Below as _, DeliveryId, Wanted};
use crate::store::embedded::{Files, OpenError, Opening, Options, reindex_locked};
use crate::store::index::Index;
use crate::store::log;
use std::fs;
use std::path::Path;
use std::sync::Arc;

/// The control file until everything else is there.
const INCOMPLETE: &str = "control.db.incomplete";

/// How far a restore is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restoring {
    /// Files are copied.
    Copying {
        /// Bytes that are done.
        done: u64,
        /// Bytes of all files.
        of: u64,
    },
    /// The index is made.
    Indexing(Opening),
}

/// What becomes of the deliveries that were open in a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenDeliveries {
    /// They are held until they are released.
    AreHeld,
    /// They go on.
    GoOn,
}

/// What was restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restored {
    /// The oldest position.
    pub oldest: Position,
    /// The last position; before `oldest` if there are no entries. Another epoch begins after it.
    pub last: Position,
    /// Bytes of the log.
    pub bytes: u64,
    /// True if there are deliveries that are held.
    pub held: bool,
}

/// Makes a store in `folder`, which must be new or empty, of the backup in `from`. Another epoch begins after its last entry, so that
/// cursors of what was accepted after the backup are told from those of what will be.
///
/// Deliveries that were open in the backup may have been made since. They are held until somebody decides, unless they go on at once.
pub fn restore(
    from: &Path,
    folder: &Path,
    options: Options,
    open_deliveries: OpenDeliveries,
    progress: &dyn Fn(Restoring),
) -> Result<Restored, OpenError> {
    let from = Files::existing(from)?;
    let to = make_empty(folder)?;
    let lock = to.lock()?;
    let mut names: Vec<String> = Vec::new();
    for file in fs::read_dir(from.log()).map_err(io(&from.log(), "read"))? {
        let name = file.map_err(io(&from.log(), "read"))?.file_name().to_string_lossy().into_owned();
        names.extend(Some(name).filter(|name| log::position_of(name).is_some()));
    }
    let size = |name: &String| fs::metadata(from.log().join(name)).map_or(0, |file| file.len());
    let of = names.iter().map(size).sum();
    let mut done = 0;
    for name in &names {
        // Copied, never linked: opening a store may cut a file.
        done += copy(&from.log().join(name), &to.log().join(name))?;
        progress(Restoring::Copying { done, of });
    }
    sync_folder(&to.log())?;
    let incomplete = to.folder.join(INCOMPLETE);
    copy(&from.control(), &incomplete)?;
    let mut control = Control::open(&incomplete)?;
    let disk = Arc::new(to.make_log()?);
    let end = end_of(disk.clone(), &control, &options)?;
    control.begin_epoch(end)?;
    // Whether there are any is not known before there is an index.
    control.hold(Some(end))?;
    let oldest = control.oldest()?;
    drop(control);
    fs::rename(&incomplete, to.control()).map_err(io(&to.control(), "made"))?;
    sync_folder(&to.folder)?;
    let last = reindex_locked(disk, &to, lock, options, &|opening| progress(Restoring::Indexing(opening)))?;
    let held = open_deliveries == OpenDeliveries::AreHeld && has_open_deliveries(&to)?;
    if !held {
        Control::open(&to.control())?.hold(None)?;
    }
    Ok(Restored { oldest, last, bytes: done, held })
}

fn has_open_deliveries(files: &Files) -> Result<bool, OpenError> {
    let key = Control::open(&files.control())?.key;
    let index = Index::open(&files.index(), key)?;
    let found = index.lookup()?.deliveries(DeliveryId::NONE, Wanted::Open, 1)?;
    Ok(!found.is_empty())
}
