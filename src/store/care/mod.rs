//! What an operator does with the files of a store: check and salvage them, copy them away and back, read them out.

mod backup;
mod check;
mod export;
mod restore;
mod salvage;

#[cfg(test)]
mod tests;

pub use backup::{Backup, back_up};
pub use check::{Finding, Report};
pub use export::{Export, ExportError, From, export};
pub use restore::{OpenDeliveries, Restored, Restoring, restore};
pub use salvage::Salvaged;

use super::Position;
use super::control::Control;
use super::disk::{Directory, Disk};
use super::embedded::{Files, OpenError, Options};
use super::log::{self, Known};
use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A store that nobody else can open for as long as this is held.
#[derive(Debug)]
pub struct Closed {
    files: Files,
    disk: Arc<dyn Disk>,
    _lock: File,
}

impl Closed {
    /// Takes the lock of the store in `folder`, which may be damaged.
    pub fn lock(folder: &Path) -> Result<Self, OpenError> {
        let files = Files { folder: folder.to_owned() };
        if !files.control().is_file() && !files.log().is_dir() {
            return Err(OpenError::NoStore(files.folder));
        }
        let disk: Arc<dyn Disk> = Arc::new(files.make_log()?);
        let lock = files.lock()?;
        Ok(Self { files, disk, _lock: lock })
    }
}

/// Positions that are lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lost {
    /// The first.
    pub first: Position,
    /// The last.
    pub last: Position,
}

impl Lost {
    /// Of the first, and the one after the last.
    const fn of((first, end): (Position, Position)) -> Self {
        Self { first, last: end.previous() }
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self { first, last } if first == last => write!(f, "position {first} is lost"),
            Self { first, last } => write!(f, "positions {first} to {last} are lost"),
        }
    }
}

/// Begins another epoch at the end of the store in `folder`, if it has entries: what comes next was not written after them. Returns
/// the position at which it begins.
pub fn begin_epoch(folder: &Path, options: &Options) -> Result<Option<Position>, OpenError> {
    let files = Files { folder: folder.to_owned() };
    if !files.control().is_file() {
        return Ok(None);
    }
    let disk: Arc<dyn Disk> = Arc::new(files.make_log()?);
    let _lock = files.lock()?;
    let mut control = Control::open(&files.control())?;
    let end = end_of(disk, &control, options)?;
    if end == Position(1) {
        return Ok(None);
    }
    control.begin_epoch(end)?;
    Ok(Some(end))
}

/// The position after the last entry of a log, all of which is durable then.
fn end_of(disk: Arc<dyn Disk>, control: &Control, options: &Options) -> Result<Position, OpenError> {
    let known =
        Known { key: control.key, epoch: control.epochs.current(), oldest: control.oldest()?, durable: Position::default() };
    Ok(log::open(disk, known, options.segment_bytes)?.end)
}

fn io(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> OpenError + use<> {
    let path = path.to_owned();
    move |cause| OpenError::Io { path, action, cause }
}

/// Makes what was made, renamed and removed in a folder durable.
fn sync_folder(folder: &Path) -> Result<(), OpenError> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(io(folder, "synced"))
}

/// Copies a file, durably. Returns its bytes.
fn copy(from: &Path, to: &Path) -> Result<u64, OpenError> {
    let bytes = std::fs::copy(from, to).map_err(io(to, "written"))?;
    File::open(to).and_then(|file| file.sync_all()).map_err(io(to, "synced"))?;
    Ok(bytes)
}

/// Makes a folder for the files of a store, unless something is in it already.
fn make_empty(folder: &Path) -> Result<Files, OpenError> {
    let files = Files { folder: folder.to_owned() };
    if folder.exists() {
        let mut inside = std::fs::read_dir(folder).map_err(io(folder, "read"))?;
        // Whoever looked whether a store is here left a lock.
        if inside.any(|file| file.is_ok_and(|file| file.file_name() != "lock")) {
            return Err(OpenError::NotEmpty(files.folder));
        }
    }
    let _made: Directory = files.make_log()?;
    Ok(files)
}

/// The folder in which salvage keeps what it replaces.
fn salvage_folder(files: &Files) -> PathBuf {
    let now = super::clock::from_nanos(super::clock::now_after(0)).to_string();
    let seconds = now.split('.').next().unwrap_or(&now).trim_end_matches('Z').replace(':', "-");
    files.log().join(format!("salvaged-{seconds}"))
}
