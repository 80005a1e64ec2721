//! The engine's threads: one writes the log, one the index, one keeps the house.

use super::core::Core;
use super::pace::Pace;
use parking_lot::Mutex;
use std::fs::File;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A log that is quiet for so long gets a seal.
const QUIET: Duration = Duration::from_millis(100);

/// How often room and retention are looked after.
const KEEPING: Duration = Duration::from_secs(1);

/// The same while messages are accepted and there is no room for another segment: they take the last of what there is.
const KEEPING_CLOSELY: Duration = Duration::from_millis(50);

/// The threads of an engine. They end when this is dropped.
#[derive(Debug)]
pub(super) struct Threads {
    core: Arc<Core>,
    running: Mutex<Option<Running>>,
    /// Keeps other processes out.
    _lock: Option<File>,
}

#[derive(Debug)]
struct Running {
    writer: JoinHandle<()>,
    indexer: JoinHandle<()>,
    keeper: JoinHandle<()>,
}

impl Threads {
    pub(super) fn start(core: &Arc<Core>, lock: Option<File>) -> io::Result<Self> {
        let spawn = |name: &'static str, work: fn(&Core)| {
            let core = core.clone();
            std::thread::Builder::new().name(name.to_owned()).spawn(move || guard(&core, name, work))
        };
        let running = Running {
            writer: spawn("log-writer", write)?,
            indexer: spawn("log-indexer", index)?,
            keeper: spawn("log-keeper", keep)?,
        };
        Ok(Self { core: core.clone(), running: Mutex::new(Some(running)), _lock: lock })
    }

    /// Ends the threads in order: what is staged is written, what is written is indexed.
    pub(super) fn stop(&self, core: &Core) {
        let Some(running) = self.running.lock().take() else { return };
        core.stopping.store(true, Ordering::Release);
        core.to_write.notify_all();
        core.spare.call_off();
        let _ended = running.writer.join();
        core.to_index.notify_all();
        let _ended = running.indexer.join();
        let _ended = running.keeper.join();
        core.refuse_from_now_on();
    }
}

/// Works. A panic fails the store: those who wait for the thread would wait for ever.
pub(super) fn guard(core: &Core, name: &str, work: fn(&Core)) {
    if catch_unwind(AssertUnwindSafe(|| work(core))).is_err() {
        core.fail(format!("the thread {name} has panicked"), None);
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        let core = self.core.clone();
        self.stop(&core);
    }
}

fn write(core: &Core) {
    loop {
        while core.write_next() {}
        if core.has_failed() {
            return;
        }
        let stopping = core.stopping.load(Ordering::Acquire);
        let mut tail = core.tail.lock();
        if !tail.batches.is_empty() {
            continue;
        }
        if stopping {
            drop(tail);
            core.seal();
            return;
        }
        let quiet = core.to_write.wait_for(&mut tail, QUIET).timed_out();
        drop(tail);
        if quiet {
            core.seal();
        }
    }
}

fn index(core: &Core) {
    let mut pace = Pace::begin();
    loop {
        let stopping = core.stopping.load(Ordering::Acquire);
        while core.index_next() {}
        // What the index has no room for when this is closed it gets when it is opened again.
        if core.has_failed() || (stopping && core.index_is_full()) {
            return;
        }
        if core.merge_next() && !stopping {
            core.rest(&mut pace);
            continue;
        }
        let mut tail = core.tail.lock();
        let indexed = tail.old.is_none() && tail.young.len() == 0;
        // The writer has ended, or will have when this is called for the last time.
        if stopping && indexed && core.all_written(&tail) {
            return;
        }
        let _woken = core.to_index.wait_for(&mut tail, QUIET);
    }
}

fn keep(core: &Core) {
    while !core.stopping.load(Ordering::Acquire) && !core.has_failed() {
        core.keep_house();
        let next = Instant::now() + KEEPING;
        while Instant::now() < next && core.spare.wait_until_due(next) && core.fill_spare() {}
        let has_no_room = !core.spare.is_ready() && core.check_accepting().is_ok();
        core.spare.rest(if has_no_room { next.min(Instant::now() + KEEPING_CLOSELY) } else { next });
    }
}
