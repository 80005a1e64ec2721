//! The segment that comes next, filled with zeros before it is used: then syncing what is written into it need not wait for the file
//! system to find room.
//!
//! Filling it costs the disk as much as the log itself, and while the disk is at that the log waits. So it is filled in small pieces,
//! as the log fills the segment in use: a little faster, so that it is ready in time.

use super::writer::TEMPORARY;
use crate::store::disk::{Disk, File, write_all};
use parking_lot::{Condvar, Mutex};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Bytes that are written and synced at once.
const PIECE: u64 = 256 << 10;

/// Bytes by which it is ahead of the log at least.
const AHEAD: u64 = 1 << 20;

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

#[derive(Default)]
struct State {
    file: Option<(Arc<dyn File>, String)>,
    /// How much of the file is filled.
    filled: u64,
    /// How far the log is in the segment in use.
    used: u64,
    is_called_off: bool,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "State(filled to {}, used to {})", self.filled, self.used)
    }
}

impl Spare {
    /// None yet, of so many bytes.
    pub(super) fn new(disk: Arc<dyn Disk>, bytes: u64) -> Self {
        Self { disk, bytes, made: AtomicU64::new(0), state: Mutex::default(), changed: Condvar::new() }
    }

    /// Takes the spare, with its name, if it is ready.
    pub(super) fn take(&self) -> Option<(Arc<dyn File>, String)> {
        let mut state = self.state.lock();
        if !self.is_full(&state) {
            return None;
        }
        state.filled = 0;
        state.file.take()
    }

    pub(super) fn is_ready(&self) -> bool {
        self.is_full(&self.state.lock())
    }

    /// Says how far the log is in its segment; with [`u64::MAX`] the spare is wanted at once.
    pub(super) fn follow(&self, used: u64) {
        let mut state = self.state.lock();
        state.used = used;
        if self.is_due(&state) {
            self.changed.notify_all();
        }
    }

    fn is_full(&self, state: &State) -> bool {
        state.file.is_some() && state.filled >= self.bytes
    }

    fn is_due(&self, state: &State) -> bool {
        let wanted = state.used.saturating_add(state.used / 4).saturating_add(AHEAD).min(self.bytes);
        !self.is_full(state) && state.filled < wanted
    }

    /// Waits until something is to be filled. False if there is nothing until then, or if this is called off.
    pub(crate) fn wait_until_due(&self, until: Instant) -> bool {
        self.wait(until, |state| self.is_due(state))
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

    /// Fills what is to be filled now, where there is room for all of it beside so many bytes that stay free. One at a time may.
    pub(crate) fn fill(&self, min_free: u64) -> io::Result<()> {
        loop {
            let (file, filled) = {
                let state = self.state.lock();
                if state.is_called_off || !self.is_due(&state) {
                    return Ok(());
                }
                (state.file.clone(), state.filled)
            };
            let has_room = self.disk.free()? >= min_free.saturating_add(self.bytes - filled);
            let (file, name) = match file {
                Some(begun) => begun,
                None if !has_room => return Err(io::ErrorKind::StorageFull.into()),
                None => {
                    let name = name_of(self.made.fetch_add(1, Ordering::Relaxed));
                    (self.disk.create(&name)?, name)
                }
            };
            let length = PIECE.min(self.bytes - filled);
            let written = if has_room { zeros(&*file, filled, length) } else { Err(io::ErrorKind::StorageFull.into()) };
            if let Err(error) = written {
                let mut state = self.state.lock();
                (state.file, state.filled) = (None, 0);
                drop(state);
                // Half a spare must not keep the room that the log needs.
                let _unless_it_fails_too = self.disk.remove(&name);
                return Err(error);
            }
            let mut state = self.state.lock();
            state.file = Some((file, name));
            state.filled = filled + length;
        }
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

    fn filled(spare: &Spare, used: u64) -> u64 {
        spare.follow(used);
        spare.fill(0).expect("there is room");
        spare.state.lock().filled
    }

    #[test]
    fn it_grows_as_the_log_does_and_is_ready_before_the_segment_is_full() {
        let (disk, spare) = spare();
        assert_eq!(filled(&spare, 0), 1 << 20);
        assert_eq!(filled(&spare, 4 << 20), 6 << 20);
        assert!(spare.take().is_none(), "half a spare is none");
        assert_eq!(filled(&spare, BYTES * 3 / 4), BYTES);
        let (file, name) = spare.take().expect("it is ready");
        assert_eq!((disk.names(), file.len().unwrap()), (vec![name], BYTES));
        assert!(!spare.is_ready());
        assert_eq!(filled(&spare, 0), 1 << 20, "the next one begins anew");
    }

    #[test]
    fn where_the_segment_in_use_was_not_filled_it_is_made_at_once() {
        let (_disk, spare) = spare();
        assert_eq!(filled(&spare, u64::MAX), BYTES);
        assert!(spare.is_ready());
    }

    #[test]
    fn what_there_is_no_room_for_leaves_nothing_behind() {
        let (disk, spare) = spare();
        spare.follow(u64::MAX);
        disk.fail_write(5, Errno::NOSPC);
        assert!(spare.fill(0).is_err());
        assert!(disk.names().is_empty());
        assert_eq!(filled(&spare, u64::MAX), BYTES);
    }

    #[test]
    fn what_is_to_stay_free_is_not_taken_and_who_takes_it_gets_the_rest() {
        let (disk, spare) = spare();
        spare.follow(0);
        disk.limit(BYTES + 99);
        assert!(spare.fill(100).is_err());
        assert!(disk.names().is_empty());
        disk.limit(BYTES + 100);
        spare.fill(100).expect("there is room");
        assert_eq!(disk.names().len(), 1);
        spare.follow(BYTES / 2);
        disk.limit(100);
        assert!(spare.fill(100).is_err());
        assert!(disk.names().is_empty());
    }

    #[test]
    fn who_waits_goes_on_when_something_is_due_and_when_it_is_called_off() {
        let (_disk, spare) = spare();
        let long = Instant::now() + Duration::from_secs(60);
        assert!(spare.wait_until_due(long));
        spare.fill(0).unwrap();
        assert!(!spare.wait_until_due(Instant::now()), "nothing is due");
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| spare.wait_until_due(long));
            spare.follow(BYTES / 2);
            assert!(waits.join().unwrap());
            let rests = scope.spawn(|| spare.rest(long));
            spare.call_off();
            rests.join().unwrap();
        });
        assert!(!spare.wait_until_due(long));
        assert!(Instant::now() < long);
    }
}
