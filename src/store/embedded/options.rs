//! How the engine is set up.

use crate::store::tail::Bounds;
use std::time::Duration;

/// What the engine may use, and how long it keeps what it has.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Bytes of one segment of the log. Retention drops whole segments.
    pub segment_bytes: u64,
    /// Bytes of one batch, unless a single frame is larger: what is written and synced at once.
    pub batch_bytes: usize,
    /// Bytes of what may wait to be written. Beyond it callers wait, then fail with [`Busy`](crate::store::Error::Busy).
    pub staged_bytes: usize,
    /// Entries that are indexed at once.
    pub generation_entries: u64,
    /// Bytes of entries that are indexed at once. A start after a crash reads up to twice as much of the log.
    pub generation_bytes: u64,
    /// Bytes of the newest entries, as protobuf, that are kept decoded for live readers.
    pub window_bytes: usize,
    /// Bytes of the log beyond which the oldest segments go.
    pub max_bytes: u64,
    /// Time after which segments go.
    pub max_age: Duration,
    /// Time for which entries are kept although the log is larger than `max_bytes`: new ones are refused instead.
    pub min_age: Duration,
    /// Bytes that stay free on the disk: with less, new entries are refused.
    pub min_free: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            batch_bytes: 1 << 20,
            staged_bytes: 64 << 20,
            generation_entries: 128 << 10,
            generation_bytes: 256 << 20,
            window_bytes: 8 << 20,
            max_bytes: 64 << 30,
            max_age: Duration::from_secs(30 * 24 * 60 * 60),
            min_age: Duration::from_secs(24 * 60 * 60),
            min_free: 256 << 20,
        }
    }
}

impl Options {
    pub(super) const fn bounds(&self) -> Bounds {
        Bounds {
            generation_entries: self.generation_entries,
            generation_bytes: self.generation_bytes,
            window_bytes: self.window_bytes,
            batch_bytes: self.batch_bytes,
            staged_bytes: self.staged_bytes,
        }
    }
}
