//! Opening: the log first, then the index, then what the index lacks.

use super::Embedded;
use super::core::{Core, Parts, each_entry};
use super::options::Options;
use super::threads::Threads;
use crate::store::control::{Control, ControlError};
use crate::store::disk::{Directory, Disk};
use crate::store::index::{Index, IndexError};
use crate::store::log::{self, Known, LogError, Opened, Place};
use crate::store::tail::Tail;
use crate::store::{Position, Store as _};
use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("{} is in use by another process", .0.display())]
    InUse(PathBuf),
    /// There is none.
    #[error("{} holds no store: it has no control.db", .0.display())]
    NoStore(PathBuf),
    /// Something else is where one is to be made.
    #[error("{} is not empty", .0.display())]
    NotEmpty(PathBuf),
    /// The system refused.
    #[error("{} cannot be {action}: {cause}", .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the system says.
        #[source]
        cause: io::Error,
    },
    /// The control file cannot be used.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The log cannot be used.
    #[error("{0}; `cim-gateway fsck` tells more")]
    Log(#[from] LogError),
    /// The index cannot be made.
    #[error(transparent)]
    Index(#[from] IndexError),
}

/// How far opening is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// The end of the log is looked for.
    Recovering,
    /// What the index lacks is read from the log.
    Indexing {
        /// Entries that are read.
        done: u64,
        /// Entries that have to be read.
        of: u64,
    },
}

/// The files of a store.
#[derive(Debug, Clone)]
pub(crate) struct Files {
    /// The folder of them all.
    pub(crate) folder: PathBuf,
}

impl Files {
    /// The files of the store that is in `folder`.
    pub(crate) fn existing(folder: &Path) -> Result<Self, OpenError> {
        let files = Self { folder: folder.to_owned() };
        if files.control().is_file() { Ok(files) } else { Err(OpenError::NoStore(files.folder)) }
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    pub(crate) fn index(&self) -> PathBuf {
        self.folder.join("index.db")
    }

    pub(crate) fn control(&self) -> PathBuf {
        self.folder.join("control.db")
    }

    /// The folder of the log, which is made if it is missing.
    pub(crate) fn make_log(&self) -> Result<Directory, OpenError> {
        Directory::new(&self.log()).map_err(|cause| OpenError::Io { path: self.log(), action: "made", cause })
    }

    /// Takes the lock that keeps other processes out for as long as it is held.
    pub(crate) fn lock(&self) -> Result<File, OpenError> {
        let path = self.folder.join("lock");
        let failed = |action| {
            let path = path.clone();
            move |cause| OpenError::Io { path, action, cause }
        };
        let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(failed("opened"))?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => Err(OpenError::InUse(self.folder.clone())),
            Err(TryLockError::Error(cause)) => Err(failed("locked")(cause)),
        }
    }
}

/// Opens the store in `folder`, or makes one where there is none. Blocks meanwhile, and tells `progress` how far it is: making the
/// index again reads the whole log.
pub fn open(folder: &Path, options: Options, progress: &dyn Fn(Opening)) -> Result<Embedded, OpenError> {
    let files = Files { folder: folder.to_owned() };
    let log = files.make_log()?;
    let lock = files.lock()?;
    let core = open_on(Arc::new(log), &files, options, progress)?;
    serve(core, lock, folder)
}

/// Makes the index of the store in `folder` again from its log. The former one stays unless the log has all that it knew of.
/// Blocks meanwhile, and tells `progress` how far it is. Returns the last position.
pub fn reindex(folder: &Path, options: Options, progress: &dyn Fn(Opening)) -> Result<Position, OpenError> {
    let files = Files::existing(folder)?;
    let log: Arc<dyn Disk> = Arc::new(files.make_log()?);
    let lock = files.lock()?;
    reindex_locked(log, &files, lock, options, progress)
}

/// As [`reindex`], for whoever has the lock already.
pub(crate) fn reindex_locked(
    log: Arc<dyn Disk>,
    files: &Files,
    lock: File,
    options: Options,
    progress: &dyn Fn(Opening),
) -> Result<Position, OpenError> {
    progress(Opening::Recovering);
    let control = Control::open(&files.control())?;
    // An index that is damaged cannot tell what it has seen.
    let seen = Index::open(&files.index(), control.key).and_then(|index| index.position()).unwrap_or_default();
    let epoch = control.epochs.current();
    let known = Known { key: control.key, epoch, oldest: control.oldest()?, durable: seen };
    drop((log::open(log.clone(), known, options.segment_bytes)?, control));
    let removed = Index::remove(&files.index());
    removed.map_err(|cause| OpenError::Io { path: files.index(), action: "removed", cause })?;
    let core = open_on(log, files, options, progress)?;
    let store = serve(core, lock, &files.folder)?;
    // Closing takes what is left in the tail into the index.
    store.close();
    Ok(store.span().end)
}

/// Starts what makes the store go on.
fn serve(core: Core, lock: File, folder: &Path) -> Result<Embedded, OpenError> {
    let core = Arc::new(core);
    let threads = Threads::start(&core, Some(lock));
    let threads = threads.map_err(|cause| OpenError::Io { path: folder.to_owned(), action: "served by threads", cause })?;
    Ok(Embedded { core, threads: Arc::new(threads) })
}

/// Opens the store whose log is on `disk`, without the threads that make it go on.
pub(super) fn open_on(
    disk: Arc<dyn Disk>,
    files: &Files,
    options: Options,
    progress: &dyn Fn(Opening),
) -> Result<Core, OpenError> {
    progress(Opening::Recovering);
    let control = Control::open(&files.control())?;
    let oldest = control.oldest()?;
    let index = open_index(&files.index(), control.key)?;
    let known = Known { key: control.key, epoch: control.epochs.current(), oldest, durable: index.position()? };
    let log = log::open(disk, known, options.segment_bytes)?;
    if log.cut > 0 {
        tracing::warn!(bytes = log.cut, end = %log.end, "a write that was cut short is removed; none of it was acknowledged");
    }
    check_segments(&index, &log)?;
    if oldest > Position(1) {
        // What retention had begun.
        index.forget(oldest)?;
    }
    let tail = replay(&index, &log, control.key, oldest, options, progress)?;
    Ok(Core::new(Parts { options, control, index, log, tail }))
}

/// Opens the index, or makes an empty one if it cannot be used.
fn open_index(path: &Path, key: crate::store::hash::HashKey) -> Result<Index, OpenError> {
    match Index::open(path, key) {
        Ok(index) => Ok(index),
        Err(error) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "the index cannot be used and is made again");
            Index::remove(path).map_err(|cause| OpenError::Io { path: path.to_owned(), action: "removed", cause })?;
            Ok(Index::open(path, key)?)
        }
    }
}

/// Every segment that the index knows must be there: a file that is missing in the middle is not noticed otherwise.
fn check_segments(index: &Index, log: &Opened) -> Result<(), OpenError> {
    let there = log.segments.firsts();
    let oldest = there.first().copied().unwrap_or_default();
    for segment in index.lookup()?.segments()?.into_iter().filter(|segment| *segment >= oldest) {
        if there.binary_search(&segment).is_err() {
            let found = there.iter().copied().find(|first| *first > segment).unwrap_or(log.end);
            let what = format!("{} is missing", log::name_of(segment));
            return Err(LogError::Missing { needed: segment, found, what }.into());
        }
    }
    Ok(())
}

/// Reads what the index lacks. What is too much for the tail goes to the index at once.
fn replay(
    index: &Index,
    log: &Opened,
    key: crate::store::hash::HashKey,
    oldest: Position,
    options: Options,
    progress: &dyn Fn(Opening),
) -> Result<Tail, OpenError> {
    let begun = index.position()?.max(oldest.previous());
    let of = log.end.0.saturating_sub(begun.next().0);
    let mut tail = Tail::new(key, options.bounds(), begun, oldest);
    let first = log.segments.firsts().first().copied().unwrap_or(oldest);
    let last_block = index.lookup()?.last_block()?;
    let from = last_block.map_or((Place::start_of(first), first), |block| {
        let offset = block.place.offset + block.length;
        (Place { segment: block.place.segment, offset }, block.end)
    });
    let (mut failure, mut no_room) = (None, false);
    let mut told = 0;
    let replayed = log::replay(&log.segments, from, log.end, |place, header, bytes| {
        if header.count == 0 {
            // A seal tells nothing, and no block begins with one.
            return Ok(());
        }
        let mut hints = Vec::with_capacity(header.count as usize);
        for record in log::records(header, bytes) {
            hints.push(record.map_err(|malformed| super::core::damaged(place, malformed))?.hints);
        }
        tail.written(place, header.size(), header.first, &hints);
        each_entry(place, header, bytes, begun, |stored, hints, size| {
            let position = stored.position;
            tail.replay(stored, &hints, size);
            let done = position.0 - begun.0;
            if done - told >= 10_000 {
                told = done;
                progress(Opening::Indexing { done, of });
            }
            Ok(())
        })?;
        if tail.young_is_full()
            && !no_room
            && let Err(error) = flush(&mut tail, index)
        {
            if error.is_full() {
                // The tail keeps it, larger than it may become otherwise, until there is room.
                no_room = true;
                return Ok(());
            }
            // Carried out past the log, which knows nothing of the index.
            let what = error.to_string();
            failure = Some(error);
            return Err(LogError::Damaged { file: "index.db".into(), offset: 0, what });
        }
        Ok(())
    });
    if let Some(error) = failure {
        return Err(error.into());
    }
    replayed?;
    progress(Opening::Indexing { done: of, of });
    Ok(tail)
}

/// Takes all that the tail has into the index.
fn flush(tail: &mut Tail, index: &Index) -> Result<(), IndexError> {
    tail.freeze();
    let Some(old) = tail.old.clone() else { return Ok(()) };
    let blocks = tail.blocks_up_to(old.last);
    let complete: Vec<_> = tail.blocks.range(..blocks).cloned().collect();
    index.write(&old.state, &complete, (old.first, old.last), &mut || {})?;
    drop(tail.indexed(blocks));
    Ok(())
}
