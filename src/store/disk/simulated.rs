//! A simulated disk: it loses what a power loss may take, and it fails and lies when it is told to.
//!
//! Of every file and of the names there are two views: what the process *sees*, and what is *durable*. What a power loss leaves lies
//! between them: of the content any of the sectors that were not synced, of the length any that the file had on its way, of the
//! names any of the changes, but of one name never a later change without the earlier ones.

mod content;
mod tests;

use super::{Disk, File};
use crate::store::random::Random;
use content::{Content, survivors};
use parking_lot::Mutex;
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

/// Room on a disk that is not limited.
const ROOMY: u64 = 1 << 40;

/// The disk, seen from outside the machine. A clone is the same disk.
#[derive(Debug, Clone)]
pub(crate) struct Simulated(Arc<Mutex<State>>);

#[derive(Debug, Clone, Default)]
struct State {
    /// How often the machine or its process has begun anew. What was opened in an earlier life is dead.
    life: u64,
    files: Vec<Content>,
    seen: Names,
    durable: Names,
    unsynced: Vec<Change>,
    capacity: u64,
    lies: bool,
    done: Done,
    plan: Plan,
    crashed: bool,
}

/// Where in [`State::files`] the file of a name is.
type Names = BTreeMap<String, usize>;

/// What names are for afterwards; all of them or none.
type Change = Vec<(String, Option<usize>)>;

/// How many of each there were.
#[derive(Debug, Clone, Copy, Default)]
struct Done {
    operations: usize,
    writes: usize,
    syncs: usize,
}

/// What is to happen at which of them.
#[derive(Debug, Clone, Default)]
struct Plan {
    crash: Option<usize>,
    writes: BTreeMap<usize, WriteFault>,
    syncs: BTreeMap<usize, SyncFault>,
}

#[derive(Debug, Clone, Copy)]
enum WriteFault {
    Error(Errno),
    Short(usize),
}

#[derive(Debug, Clone, Copy)]
enum SyncFault {
    Error(Errno),
    Lie,
}

impl Simulated {
    /// An empty disk with all the room that anybody needs.
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(State { capacity: ROOMY, ..State::default() })))
    }

    /// Another disk that is now as this one is: to try more than one future.
    pub(crate) fn copy(&self) -> Self {
        Self(Arc::new(Mutex::new(self.0.lock().clone())))
    }

    /// The disk for the process that runs now. It and its files are dead, and fail, after the next [`Self::restart`] or
    /// [`Self::power_loss`].
    pub(crate) fn disk(&self) -> Arc<dyn Disk> {
        let life = self.0.lock().life;
        Arc::new(Mounted { state: self.0.clone(), life })
    }

    /// The process dies and the machine does not: the next process sees all that was done, synced or not. Faults that were planned
    /// and did not happen are forgotten, and so they are at a power loss; [`Self::lie`] and [`Self::limit`] stay.
    pub(crate) fn restart(&self) {
        self.0.lock().begin_anew();
    }

    /// The machine loses power: of what was not synced, chance leaves this or that.
    pub(crate) fn power_loss(&self, random: &mut Random) {
        let state = &mut *self.0.lock();
        state.begin_anew();
        let changes = std::mem::take(&mut state.unsynced);
        let mut held_back = BTreeSet::new();
        for (change, survives) in changes.iter().zip(survivors(random, changes.len())) {
            if survives && !change.iter().any(|(name, _)| held_back.contains(name)) {
                apply(&mut state.durable, change);
            } else {
                held_back.extend(change.iter().map(|(name, _)| name));
            }
        }
        state.seen = state.durable.clone();
        for file in &mut state.files {
            file.lose(random);
        }
    }

    /// In the `nth` operation from now that changes anything (1 is the next), be it a write, a `set_len`, a sync, or a file created,
    /// renamed or removed, the machine crashes: that one fails and so does everything after it, until a restart or a power loss.
    /// What it crashes in was under way: unless it is a sync, it is seen after a restart, and a power loss may leave it.
    pub(crate) fn crash_after(&self, nth: usize) {
        let state = &mut *self.0.lock();
        state.plan.crash = Some(state.done.operations + nth);
    }

    /// True once a planned crash has happened, until a restart or a power loss.
    pub(crate) fn crashed(&self) -> bool {
        self.0.lock().crashed
    }

    /// How many operations there were that [`Self::crash_after`] counts.
    pub(crate) fn operations(&self) -> usize {
        self.0.lock().done.operations
    }

    /// The `nth` write from now writes nothing and fails.
    pub(crate) fn fail_write(&self, nth: usize, error: Errno) {
        let state = &mut *self.0.lock();
        state.plan.writes.insert(state.done.writes + nth, WriteFault::Error(error));
    }

    /// The `nth` write from now writes no more than `at_most` bytes, and tells so.
    pub(crate) fn shorten_write(&self, nth: usize, at_most: usize) {
        let state = &mut *self.0.lock();
        state.plan.writes.insert(state.done.writes + nth, WriteFault::Short(at_most));
    }

    /// The `nth` sync from now, be it of a file or of names, fails. What the file held that was not synced counts as written
    /// from then on: it is still seen, no later sync writes it, and a power loss takes it. Names and lengths are what the file system
    /// keeps book of: they stay unsynced until a later sync.
    pub(crate) fn fail_sync(&self, nth: usize, error: Errno) {
        let state = &mut *self.0.lock();
        state.plan.syncs.insert(state.done.syncs + nth, SyncFault::Error(error));
    }

    /// True once every planned failure has happened, until a restart or a power loss.
    pub(crate) fn failed(&self) -> bool {
        let state = self.0.lock();
        state.plan.writes.is_empty() && state.plan.syncs.is_empty()
    }

    /// The `nth` sync from now does nothing and says that it did.
    pub(crate) fn lie_at_sync(&self, nth: usize) {
        let state = &mut *self.0.lock();
        state.plan.syncs.insert(state.done.syncs + nth, SyncFault::Lie);
    }

    /// Whether every sync lies.
    pub(crate) fn lie(&self, lies: bool) {
        self.0.lock().lies = lies;
    }

    /// From now on there is room for this many bytes more. A file takes as many as it is long.
    pub(crate) fn limit(&self, free: u64) {
        let state = &mut *self.0.lock();
        state.capacity = state.used() + free;
    }

    /// The names that are seen.
    pub(crate) fn names(&self) -> Vec<String> {
        self.0.lock().seen.keys().cloned().collect()
    }

    /// What is seen in a file.
    pub(crate) fn content(&self, name: &str) -> Vec<u8> {
        self.with(name, |file| file.seen().to_vec())
    }

    /// Flips a bit of a file, on the disk too.
    pub(crate) fn flip(&self, name: &str, bit: usize) {
        self.with(name, |file| file.flip(bit));
    }

    /// Cuts a file, on the disk too.
    pub(crate) fn truncate(&self, name: &str, len: usize) {
        self.with(name, |file| file.truncate(len));
    }

    fn with<T>(&self, name: &str, use_it: impl FnOnce(&mut Content) -> T) -> T {
        let state = &mut *self.0.lock();
        let file = *state.seen.get(name).unwrap_or_else(|| panic!("there is no file {name}"));
        use_it(&mut state.files[file])
    }
}

fn apply(names: &mut Names, change: &Change) {
    for (name, file) in change {
        match file {
            Some(file) => names.insert(name.clone(), *file),
            None => names.remove(name),
        };
    }
}

impl State {
    fn begin_anew(&mut self) {
        self.life += 1;
        self.plan = Plan::default();
        self.crashed = false;
    }

    fn used(&self) -> u64 {
        self.seen.values().map(|file| self.files[*file].len()).sum()
    }

    fn free(&self) -> u64 {
        self.capacity.saturating_sub(self.used())
    }

    fn file(&self, name: &str) -> io::Result<usize> {
        self.seen.get(name).copied().ok_or_else(|| Errno::NOENT.into())
    }

    fn change(&mut self, change: Change) {
        apply(&mut self.seen, &change);
        self.unsynced.push(change);
    }

    fn write(&mut self, file: usize, bytes: &[u8], offset: usize) -> io::Result<usize> {
        self.done.writes += 1;
        let wanted = match self.plan.writes.remove(&self.done.writes) {
            Some(WriteFault::Error(error)) => return Err(error.into()),
            Some(WriteFault::Short(at_most)) => bytes.len().min(at_most),
            None => bytes.len(),
        };
        let reach = self.files[file].len() + self.free();
        let fits = wanted.min(reach.saturating_sub(offset as u64) as usize);
        if fits < wanted && fits == 0 {
            return Err(Errno::NOSPC.into());
        }
        self.files[file].write(&bytes[..fits], offset);
        Ok(fits)
    }

    fn set_len(&mut self, file: usize, len: usize) -> io::Result<()> {
        if len as u64 > self.files[file].len() + self.free() {
            return Err(Errno::NOSPC.into());
        }
        self.files[file].set_len(len);
        Ok(())
    }

    /// How the next sync goes wrong, if it does. One that the machine crashes in does nothing.
    fn sync_fault(&mut self) -> Option<SyncFault> {
        self.done.syncs += 1;
        let planned = self.plan.syncs.remove(&self.done.syncs);
        if self.crashed || self.lies { Some(SyncFault::Lie) } else { planned }
    }

    fn sync_file(&mut self, file: usize) -> io::Result<()> {
        match self.sync_fault() {
            None => self.files[file].sync(),
            Some(SyncFault::Lie) => {}
            Some(SyncFault::Error(error)) => {
                self.files[file].forget_dirty();
                return Err(error.into());
            }
        }
        Ok(())
    }

    fn sync_names(&mut self) -> io::Result<()> {
        match self.sync_fault() {
            None => {
                self.durable = self.seen.clone();
                self.unsynced.clear();
            }
            Some(SyncFault::Lie) => {}
            Some(SyncFault::Error(error)) => return Err(error.into()),
        }
        Ok(())
    }
}

/// The disk, seen from inside a life of the machine.
#[derive(Debug)]
struct Mounted {
    state: Arc<Mutex<State>>,
    life: u64,
}

#[derive(Debug)]
struct Opened {
    disk: Mounted,
    file: usize,
}

impl Mounted {
    fn look<T>(&self, look: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        let state = &mut *self.state.lock();
        if state.crashed || state.life != self.life {
            return Err(Errno::IO.into());
        }
        look(state)
    }

    fn operate<T>(&self, operation: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        self.look(|state| {
            state.done.operations += 1;
            state.crashed = state.plan.crash == Some(state.done.operations);
            let outcome = operation(state);
            if state.crashed { Err(Errno::IO.into()) } else { outcome }
        })
    }

    fn opened(&self, file: usize) -> Arc<dyn File> {
        Arc::new(Opened { disk: Self { state: self.state.clone(), life: self.life }, file })
    }
}

impl Disk for Mounted {
    fn list(&self) -> io::Result<Vec<String>> {
        self.look(|state| Ok(state.seen.keys().cloned().collect()))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let file = self.operate(|state| {
            if state.seen.contains_key(name) {
                return Err(Errno::EXIST.into());
            }
            state.files.push(Content::default());
            let file = state.files.len() - 1;
            state.change(vec![(name.to_owned(), Some(file))]);
            Ok(file)
        })?;
        Ok(self.opened(file))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        Ok(self.opened(self.look(|state| state.file(name))?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.operate(|state| {
            let file = state.file(from)?;
            state.change(vec![(from.to_owned(), None), (to.to_owned(), Some(file))]);
            Ok(())
        })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.operate(|state| {
            state.file(name)?;
            state.change(vec![(name.to_owned(), None)]);
            Ok(())
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.operate(State::sync_names)
    }

    fn free(&self) -> io::Result<u64> {
        self.look(|state| Ok(state.free()))
    }
}

impl File for Opened {
    fn len(&self) -> io::Result<u64> {
        self.disk.look(|state| Ok(state.files[self.file].len()))
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        self.disk.look(|state| {
            let rest = state.files[self.file].seen().get(offset as usize..).unwrap_or_default();
            let read = rest.len().min(bytes.len());
            bytes[..read].copy_from_slice(&rest[..read]);
            Ok(read)
        })
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.disk.operate(|state| state.write(self.file, bytes, offset as usize))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.operate(|state| state.set_len(self.file, len as usize))
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.operate(|state| state.sync_file(self.file))
    }
}
