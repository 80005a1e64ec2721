//! The segment that comes next, filled with zeros before it is used: then syncing what is written into it need not wait for the file
//! system to find room.
//!
//! It is filled all at once, piece by piece. To fill it slowly, as the log fills the segment in use, gave nothing that could be told from
//! noise: then the log meets the other's syncs all the time.

use super::writer::TEMPORARY;
use crate::store::disk::{Disk, File, write_all};
use parking_lot::{Condvar, Mutex};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Bytes that are written and synced at once: while much is being synced, the log waits for the disk.
const PIECE: u64 = 1 << 20;

/// Each spare has a name of its own: the one before may still be on its way to that of a segment.
fn name_of(number: u64) -> String {
    format!("spare-{number}{TEMPORARY}")
}

/// See the module. Whoever has time fills it.
#[derive(Debug)]
pub(crate) struct Spare {
    disk: Arc<dyn Disk>,
    bytes: u64,
    made: AtomicU64,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Filled, and its name.
    ready: Option<(Arc<dyn File>, String)>,
    is_called_off: bool,
}

impl Spare {
    /// None yet, of so many bytes.
    pub(super) fn new(disk: Arc<dyn Disk>, bytes: u64) -> Self {
        Self { disk, bytes, made: AtomicU64::new(0), state: Mutex::default(), changed: Condvar::new() }
    }

    /// Takes the spare, with its name, if it is ready.
    pub(super) fn take(&self) -> Option<(Arc<dyn File>, String)> {
        let spare = self.state.lock().ready.take();
        self.changed.notify_all();
        spare
    }

    /// True if it can be taken.
    pub(crate) fn is_ready(&self) -> bool {
        self.state.lock().ready.is_some()
    }

    /// Waits until there is something to fill. False if there is nothing until then, or if this is called off.
    pub(crate) fn wait_until_due(&self, until: Instant) -> bool {
        self.wait(until, |state| state.ready.is_none())
    }

    /// Waits until then, unless this is called off.
    pub(crate) fn rest(&self, until: Instant) {
        self.wait(until, |_| false);
    }

    fn wait(&self, until: Instant, enough: impl Fn(&State) -> bool) -> bool {
        let mut state = self.state.lock();
        while !state.is_called_off && !enough(&state) {
            if self.changed.wait_until(&mut state, until).timed_out() {
                return false;
            }
        }
        !state.is_called_off
    }

    /// Ends every wait, now and from now on.
    pub(crate) fn call_off(&self) {
        self.state.lock().is_called_off = true;
        self.changed.notify_all();
    }

    /// Fills it, if there is none yet, where there is room for all of it beside so many bytes that stay free. One at a time may.
    pub(crate) fn fill(&self, min_free: u64) -> io::Result<()> {
        if self.is_ready() {
            return Ok(());
        }
        self.may_go_on(min_free, self.bytes)?;
        let name = name_of(self.made.fetch_add(1, Ordering::Relaxed));
        let file = self.disk.create(&name)?;
        let filled = (0..self.bytes).step_by(PIECE as usize).try_for_each(|offset| {
            let left = self.bytes - offset;
            self.may_go_on(min_free, left)?;
            zeros(&*file, offset, left.min(PIECE))
        });
        if let Err(error) = filled {
            // Half a spare must not keep the room that the log needs.
            let _unless_it_fails_too = self.disk.remove(&name);
            return Err(error);
        }
        self.state.lock().ready = Some((file, name));
        Ok(())
    }

    /// Fails if there is no room for so many bytes beside those that stay free, or if this is called off.
    fn may_go_on(&self, min_free: u64, bytes: u64) -> io::Result<()> {
        if self.state.lock().is_called_off {
            return Err(io::ErrorKind::Interrupted.into());
        }
        if self.disk.free()? < min_free.saturating_add(bytes) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }
}

fn zeros(file: &dyn File, offset: u64, length: u64) -> io::Result<()> {
    const ZEROS: &[u8] = &[0; PIECE as usize];
    write_all(file, &ZEROS[..usize::try_from(length).unwrap_or(ZEROS.len())], offset)?;
    file.sync()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::disk::Simulated;
    use rustix::io::Errno;
    use std::time::Duration;

    const BYTES: u64 = 16 << 20;

    fn spare() -> (Simulated, Spare) {
        let disk = Simulated::new();
        let spare = Spare::new(disk.disk(), BYTES);
        (disk, spare)
    }

    #[test]
    fn it_is_filled_before_it_is_used_and_the_next_one_is_another() {
        let (disk, spare) = spare();
        assert!(spare.take().is_none() && !spare.is_ready());
        spare.fill(0).expect("there is room");
        let (file, name) = spare.take().expect("it is ready");
        assert_eq!((disk.names(), file.len().unwrap()), (vec![name], BYTES));
        assert!(spare.take().is_none() && !spare.is_ready());
        spare.fill(0).expect("there is room");
        assert_eq!(disk.names().len(), 2);
    }

    #[test]
    fn what_there_is_no_room_for_leaves_nothing_behind() {
        let (disk, spare) = spare();
        disk.fail_write(5, Errno::NOSPC);
        assert!(spare.fill(0).is_err());
        assert!(disk.names().is_empty());
        spare.fill(0).expect("there is room again");
        assert!(spare.is_ready());
    }

    #[test]
    fn what_is_to_stay_free_is_not_taken() {
        let (disk, spare) = spare();
        disk.limit(BYTES + 99);
        assert!(spare.fill(100).is_err());
        assert!(disk.names().is_empty());
        disk.limit(BYTES + 100);
        spare.fill(100).expect("there is room");
        assert!(spare.is_ready());
    }

    #[test]
    fn who_waits_goes_on_when_it_was_taken_and_when_it_is_called_off() {
        let (_disk, spare) = spare();
        let long = Instant::now() + Duration::from_secs(60);
        assert!(spare.wait_until_due(long));
        spare.fill(0).unwrap();
        assert!(!spare.wait_until_due(Instant::now()), "there is nothing to fill");
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| spare.wait_until_due(long));
            assert!(spare.take().is_some());
            assert!(waits.join().unwrap());
            let rests = scope.spawn(|| spare.rest(long));
            spare.call_off();
            rests.join().unwrap();
        });
        assert!(!spare.wait_until_due(long));
        assert!(Instant::now() < long);
    }
}
