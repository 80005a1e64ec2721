//! The pace of work that nobody waits for. What takes a tenth of a second of a core all at once, on a machine of few, makes every message
//! of that time late.

use super::core::Core;
use std::time::{Duration, Instant};

/// Work between two rests.
const WORK: Duration = Duration::from_millis(1);

/// How often as long as it has worked it rests.
const RESTS: u32 = 9;

/// Longest rest, even if the work before was not on a core all the time.
const LONGEST: Duration = Duration::from_millis(30);

/// Since when there was no rest.
#[derive(Debug)]
pub(super) struct Pace(Instant);

impl Pace {
    pub(super) fn begin() -> Self {
        Self(Instant::now())
    }
}

impl Core {
    /// Rests, if it is time for it and nobody waits for the indexer: for acceptance it must be done before the next generation is full.
    pub(super) fn rest(&self, Pace(since): &mut Pace) {
        let worked = since.elapsed();
        if worked < WORK {
            return;
        }
        if self.may_rest() {
            std::thread::park_timeout((worked * RESTS).min(LONGEST));
        }
        *since = Instant::now();
    }

    pub(super) fn may_rest(&self) -> bool {
        let tail = self.tail.lock();
        !self.is_to_flush(&tail) && !tail.young_is_half_full()
    }
}
