//! Notifications: accepted messages from a cursor on, then live, in order and each once.
//!
//! A subscription is in one of two places:
//!
//! - **Behind**, a laggard: it reads the log by itself, a page at a time and at its own pace ([`search`]).
//! - **Live**: one [`Matcher`] follows the durable position, reads each new entry once for all, looks up who wants it ([`readers`])
//!   and lays it on their [`tray`]s. Whoever does not want it is not touched.
//!
//! So no reader can be too slow, none slows a writer, and none keeps more than a page in memory; and what passes costs those
//! nothing that do not want it.
//!
//! # The hand-over
//!
//! `p` is how far a reader has come: it was given every entry up to `p` that it wants. `m` is how far the matcher has come: every
//! entry up to `m` lies on the trays of those who want it. `m` is the [`roster`]'s, and moves under its lock only.
//!
//! 1. **Joining**, under that lock, needs `p ≥ m`. From then on the matcher lays out what comes after `m`, and the tray takes what
//!    comes after `p`. Where `p < m` the reader stays behind and reads on; it is faster than the log grows, or stays behind for good
//!    and loses nothing by that.
//! 2. **Overflow.** An entry `e` that does not fit on a tray is not laid there; the reader leaves the roster, under the same lock,
//!    with `e − 1` as the position up to which the tray is complete. The reader takes what lies on it, then `p = e − 1`, and it is
//!    behind.
//! 3. **Heartbeats.** The matcher lays out first and publishes `m` after. A live reader reads `m` first and looks at its tray
//!    after: if that is empty, nothing that it wants is left before `m`.
//!
//! Each step leaves `p` where the next one begins, so every wanted entry is given exactly once and in order, whatever the timing.
//!
//! # Heartbeats
//!
//! One comes first, with the cursor of the start; then one whenever there was no event for the interval; and one after
//! [`Settings::heartbeat_skipped`] entries or more that were passed over: from a laggard as soon as the look at the log returns that
//! has passed them, from a live reader at the matcher's next round, of which there is one in [`roster::ROUND`] at most, lest a flood
//! wake everybody.

mod matcher;
mod readers;
mod roster;
mod search;
mod subscription;
#[cfg(test)]
mod tests;
mod tray;

pub use matcher::Matcher;
pub use subscription::Subscription;

use crate::error::Error;
use crate::metrics;
use crate::store::{Cursor, Filter, Page, Position, Store, Stored};
use prost_types::Timestamp;
use roster::Roster;
use search::Desk;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// What a reader takes from the log at once, and what its tray holds. The bytes bound what a reader that has stopped reading holds.
const PAGE: Page = Page { entries: 256, bytes: 64 * 1024 };

/// How the feed serves its readers.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Time between heartbeats on a quiet stream, unless the reader asks for another.
    pub heartbeat: Duration,
    /// Entries that a filter may pass over before a heartbeat tells how far the reader is.
    pub heartbeat_skipped: u64,
    /// Most streams open at a time.
    pub max_streams: usize,
    /// Most cold searches at a time: looks through old parts of the log for the few entries that a filter wants.
    pub cold_scans: usize,
}

/// Where a reader starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// After the message with this cursor.
    After(Cursor),
    /// At the first message accepted at or after this time.
    Since(Timestamp),
    /// At the oldest message that is kept.
    Earliest,
    /// After the latest accepted message.
    Latest,
}

/// What a reader gets next.
#[derive(Debug, Clone)]
pub enum Event {
    /// An accepted message and its cursor.
    Notification(Stored, Cursor),
    /// A sign of life: nothing that the reader wants is left before the cursor.
    Heartbeat(Cursor),
}

/// Serves readers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Feed {
    store: Arc<dyn Store>,
    settings: Settings,
    page: Page,
    places: Arc<Semaphore>,
    roster: Arc<Roster>,
    desk: Desk,
    metrics: Arc<metrics::Feed>,
    shutdown: CancellationToken,
}

impl Feed {
    /// A feed of what `store` accepts, and the matcher that its live readers depend on: run it. When `shutdown` is cancelled, the
    /// matcher and every subscription end, these with [`Error::ShuttingDown`].
    pub fn new(store: Arc<dyn Store>, settings: Settings, shutdown: CancellationToken) -> (Self, Matcher) {
        let durable = store.durable();
        let roster = Arc::new(Roster::new(*durable.borrow(), settings.heartbeat_skipped));
        let matcher = Matcher::new(store.clone(), roster.clone(), shutdown.clone());
        let desk = Desk::new(store.clone(), settings.cold_scans);
        let places = Arc::new(Semaphore::new(settings.max_streams));
        (Self { store, settings, page: PAGE, places, roster, desk, metrics: Arc::default(), shutdown }, matcher)
    }

    /// The same, counting by `metrics`.
    pub fn counting(self, metrics: Arc<metrics::Feed>) -> Self {
        Self { metrics, ..self }
    }

    /// How many streams are open, and how many may be.
    pub fn streams(&self) -> (usize, usize) {
        let most = self.settings.max_streams;
        (most.saturating_sub(self.places.available_permits()), most)
    }

    /// Opens a subscription. Its first event is a heartbeat with the cursor of the start.
    ///
    /// Fails for a cursor that is older than what is kept, of another history or beyond the end, and when too many are open.
    pub async fn subscribe(&self, filter: Filter, start: Start, heartbeat: Option<Duration>) -> Result<Subscription, Error> {
        if self.shutdown.is_cancelled() {
            return Err(Error::ShuttingDown);
        }
        let place = self.places.clone().try_acquire_owned();
        let place = place.map_err(|_| Error::TooManyStreams { most: self.settings.max_streams })?;
        let span = self.store.span();
        let position = match start {
            Start::After(cursor) => self.checked(cursor)?,
            Start::Since(time) => self.store.before(time).await?,
            Start::Earliest => span.oldest.previous(),
            Start::Latest => span.end,
        };
        Ok(Subscription::new(self, filter, span.cursor(position), heartbeat, place))
    }

    /// The position of a cursor that can be read from.
    fn checked(&self, cursor: Cursor) -> Result<Position, Error> {
        let span = self.store.span();
        let oldest = span.cursor(span.oldest.previous());
        if !self.store.knows(cursor) {
            return Err(Error::CursorUnknown { oldest });
        }
        if cursor.position < oldest.position {
            return Err(Error::CursorExpired { oldest });
        }
        Ok(cursor.position)
    }
}
