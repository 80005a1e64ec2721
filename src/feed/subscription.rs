//! One reader's way through the log.

use super::roster::Roster;
use super::search::{self, Desk, Look};
use super::tray::{Left, Taken, Tray};
use super::{Event, Feed};
use crate::error::Error;
use crate::metrics;
use crate::store::{self, Cursor, Filter, Position, Scan, Stored};
use crate::wire;
use prost_types::Timestamp;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// How long a typing notification is worth streaming.
const TYPING_LIFE: Duration = Duration::from_secs(5);

/// One reader's way through the log. [`super`] has the protocol.
#[derive(Debug)]
pub struct Subscription {
    epoch: u64,
    /// The reader was given every entry up to here that it wants.
    position: Position,
    /// Where its latest event was.
    told: Position,
    place: Place,
    tray: Arc<Tray>,
    roster: Arc<Roster>,
    desk: Desk,
    heartbeat_skipped: u64,
    heartbeat: Duration,
    next_heartbeat: Instant,
    metrics: Arc<metrics::Feed>,
    shutdown: CancellationToken,
    _place: OwnedSemaphorePermit,
}

/// Where a reader gets its entries from.
#[derive(Debug)]
enum Place {
    /// From the log, by itself.
    Behind {
        page: VecDeque<Stored>,
        /// How far the log was looked through for the page.
        reached: Position,
        look: Option<Look>,
    },
    /// From its tray.
    Live,
}

impl Place {
    const fn behind(reached: Position) -> Self {
        Self::Behind { page: VecDeque::new(), reached, look: None }
    }
}

impl Subscription {
    pub(super) fn new(
        feed: &Feed,
        filter: Filter,
        start: Cursor,
        heartbeat: Option<Duration>,
        place: OwnedSemaphorePermit,
    ) -> Self {
        Self {
            epoch: start.epoch,
            position: start.position,
            told: start.position,
            place: Place::behind(start.position),
            tray: Arc::new(Tray::new(filter, feed.page)),
            roster: feed.roster.clone(),
            desk: feed.desk.clone(),
            heartbeat_skipped: feed.settings.heartbeat_skipped,
            heartbeat: heartbeat.unwrap_or(feed.settings.heartbeat),
            // Due at once: the first event is a heartbeat.
            next_heartbeat: Instant::now(),
            metrics: feed.metrics.clone(),
            shutdown: feed.shutdown.clone(),
            _place: place,
        }
    }

    /// The next event; waits for it. An error ends the subscription.
    ///
    /// Dropping the future loses nothing: the event comes with the next call.
    pub async fn next(&mut self) -> Result<Event, Error> {
        loop {
            if self.shutdown.is_cancelled() {
                return Err(Error::ShuttingDown);
            }
            let event = match self.place {
                Place::Behind { .. } => self.behind().await?,
                Place::Live => self.live().await?,
            };
            if let Some(event) = event {
                return Ok(event);
            }
        }
    }

    /// A step of a reader that is behind, with the event that comes of it.
    async fn behind(&mut self) -> Result<Option<Event>, Error> {
        let Place::Behind { page, reached, look } = &mut self.place else { return Ok(None) };
        if let Some(stored) = page.pop_front() {
            return Ok(self.give(stored));
        }
        self.position = self.position.max(*reached);
        if self.position.0 - self.told.0 >= self.heartbeat_skipped || self.next_heartbeat <= Instant::now() {
            return Ok(Some(self.beat()));
        }
        let look = match look {
            Some(look) => look,
            none => {
                if self.roster.join(&self.tray, self.position, self.told)? {
                    self.place = Place::Live;
                    self.metrics.joined();
                    return Ok(None);
                }
                none.insert(self.desk.look(self.tray.clone(), self.position))
            }
        };
        tokio::select! {
            biased;
            () = self.shutdown.cancelled() => Err(Error::ShuttingDown),
            scan = look => {
                self.place = Place::behind(self.position);
                let Scan { entries, reached } = search::outcome(scan).map_err(|error| self.failure(error))?;
                self.place = Place::Behind { page: entries.into(), reached, look: None };
                Ok(None)
            }
            () = sleep_until(self.next_heartbeat) => Ok(Some(self.beat())),
        }
    }

    /// A step of a reader that is live, with the event that comes of it. The matcher ends it at the shutdown.
    async fn live(&mut self) -> Result<Option<Event>, Error> {
        tokio::select! {
            biased;
            taken = self.tray.next() => match taken {
                Taken::Entry(stored) => return Ok(self.give(stored)),
                Taken::Left(Left::Behind(position)) => {
                    self.position = self.position.max(position);
                    self.place = Place::behind(position);
                    self.metrics.left();
                    return Ok(None);
                }
                Taken::Left(Left::Ended(error)) => return Err(error),
                Taken::Reminder => {}
            },
            () = sleep_until(self.next_heartbeat) => {}
        }
        let Some(position) = self.roster.tell(&self.tray, self.position) else { return Ok(None) };
        self.position = position;
        Ok(Some(self.beat()))
    }

    /// The event of an entry; none if it is stale.
    fn give(&mut self, stored: Stored) -> Option<Event> {
        self.position = stored.position;
        if is_stale(&stored) {
            return None;
        }
        self.happened();
        self.metrics.sent();
        Some(Event::Notification(stored, self.cursor()))
    }

    fn beat(&mut self) -> Event {
        self.happened();
        Event::Heartbeat(self.cursor())
    }

    /// Notes that an event tells where the reader is.
    fn happened(&mut self) {
        self.told = self.position;
        self.next_heartbeat = Instant::now() + self.heartbeat;
    }

    /// What a failure of the store means to the reader.
    fn failure(&self, error: store::Error) -> Error {
        match error {
            // Retention has overtaken this reader.
            store::Error::Expired { oldest, .. } => {
                Error::CursorExpired { oldest: Cursor { epoch: self.epoch, position: oldest.previous() } }
            }
            error => Error::Store(error),
        }
    }

    /// Where the reader is: it was given everything up to here that it wants. At first, the start.
    pub const fn cursor(&self) -> Cursor {
        Cursor { epoch: self.epoch, position: self.position }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if let Place::Live = self.place {
            self.roster.leave(&self.tray);
            self.metrics.left();
        }
    }
}

/// True for a typing notification that nobody needs any more.
fn is_stale(stored: &Stored) -> bool {
    let accepted = stored.entry.accepted_at.as_ref().map_or(0, wire::to_millis);
    let age = wire::to_millis(&Timestamp::from(SystemTime::now())).saturating_sub(accepted);
    stored.entry.ephemeral && u128::try_from(age).unwrap_or(0) > TYPING_LIFE.as_millis()
}
