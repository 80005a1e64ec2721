//! The machine that a store is on: a simulated disk for its log, and a folder in memory for what SQLite keeps.
//!
//! SQLite is trusted with its own files: a transaction that was committed is there or, of the index after a power loss, one of the
//! states before it, with the runs of ids that it has. Which of their bytes a power loss leaves is tried in `store/index`. The control
//! file is synced at each commit and never goes back.

use super::super::core::Core;
use super::super::open::{Files, OpenError, open_on};
use super::super::options::Options;
use crate::store::control::Control;
use crate::store::disk::Simulated;
use crate::store::index::Index;
use crate::store::log::{Expected, Survey, survey};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use tempfile::TempDir;

/// The index at some time: its files by their paths in the folder.
#[derive(Debug, Clone)]
pub(super) struct Snapshot(Vec<(PathBuf, Vec<u8>)>);

/// Runs of ids, in the folder of the store.
const IDS: &str = "index.db-ids";

/// The files of a new store: to copy them is faster than to make them.
static NEW: LazyLock<Vec<(&str, Vec<u8>)>> = LazyLock::new(|| {
    let folder = folder();
    let files = Files { folder: folder.path().to_owned() };
    drop(open_on(Simulated::new().disk(), &files, small(), &|_| {}).expect("a new store can be made"));
    ["index.db", "control.db"].map(|name| (name, std::fs::read(folder.path().join(name)).expect("was made"))).into()
});

/// Small segments, so that every border is met soon; everything is kept.
pub(super) fn small() -> Options {
    Options {
        segment_bytes: 4 << 10,
        batch_bytes: 1 << 10,
        generation_entries: 8,
        window_bytes: 1 << 10,
        max_age: Duration::MAX,
        min_age: Duration::ZERO,
        min_free: 0,
        ..Options::default()
    }
}

fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.expect("a folder can be made")
}

/// See the module.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) disk: Simulated,
    pub(super) options: Options,
    folder: TempDir,
}

impl Machine {
    /// A machine with a new store.
    pub(super) fn new(options: Options) -> Self {
        let machine = Self { disk: Simulated::new(), options, folder: folder() };
        for (name, content) in &*NEW {
            std::fs::write(machine.path(name), content).expect("can be written");
        }
        machine
    }

    /// Another machine that is now as this one is, to try more than one future. Nothing must have the store open.
    pub(super) fn copy(&self) -> Self {
        let copy = Self { disk: self.disk.copy(), options: self.options, folder: folder() };
        copy.write(&self.files_in(""));
        copy.write(&self.files_in(IDS));
        copy
    }

    /// The files in one of its folders, by their paths.
    fn files_in(&self, folder: &str) -> Vec<(PathBuf, Vec<u8>)> {
        let Ok(listed) = std::fs::read_dir(self.path(folder)) else { return Vec::new() };
        let paths = listed.map(|file| file.expect("can be listed").path()).filter(|path| path.is_file());
        let within = |path: &Path| path.strip_prefix(self.folder.path()).expect("is in it").to_owned();
        paths.map(|path| (within(&path), std::fs::read(&path).expect("can be read"))).collect()
    }

    fn write(&self, files: &[(PathBuf, Vec<u8>)]) {
        for (path, content) in files {
            let path = self.folder.path().join(path);
            std::fs::create_dir_all(path.parent().expect("is in a folder")).expect("can be made");
            std::fs::write(path, content).expect("can be written");
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn files(&self) -> Files {
        Files { folder: self.folder.path().to_owned() }
    }

    /// Opens the store.
    pub(super) fn open(&self) -> Result<Arc<Core>, OpenError> {
        open_on(self.disk.disk(), &self.files(), self.options, &|_| {}).map(Arc::new)
    }

    /// What `fsck` finds in the log.
    pub(super) fn survey(&self) -> Survey {
        let control = Control::open(&self.files().control()).expect("is there");
        let oldest = control.oldest().expect("can be read");
        let expected = Expected { key: control.key, epochs: Some(&control.epochs), oldest };
        let surveyed = survey(&*self.disk.disk(), &expected, &mut |_, _, _| Ok(()));
        surveyed.unwrap_or_else(|error| panic!("cannot be looked at: {error}"))
    }

    /// The index as it stands. Nothing must be writing to it.
    pub(super) fn index(&self) -> Snapshot {
        let mut files = self.files_in("");
        // What is shared in memory does not outlive the process.
        files.retain(|(path, _)| [Path::new("index.db"), Path::new("index.db-wal")].contains(&path.as_path()));
        files.extend(self.files_in(IDS));
        Snapshot(files)
    }

    /// Puts an index in the place of the one that is there. Nothing must have the store open.
    pub(super) fn put_back(&self, Snapshot(files): &Snapshot) {
        self.remove_index();
        self.write(files);
    }

    /// Removes the index. Nothing must have the store open.
    pub(super) fn remove_index(&self) {
        Index::remove(&self.files().index()).expect("can be removed");
    }
}
