//! Notifications: accepted messages from a cursor on, then live, in order and each once.
//!
//! A reader pulls from the log at its own pace; a rise of the durable position only wakes it. So no reader can be too slow, none
//! slows a writer, and none keeps more than a page in memory.

use crate::error::Error;
use crate::pb::{Audience, SenderType};
use crate::store::{self, Cursor, Page, Position, Span, Store, Stored};
use crate::wire;
use prost_types::Timestamp;
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How long a typing notification is worth streaming.
const TYPING_LIFE: Duration = Duration::from_secs(5);

/// What a reader takes from the log at once. The bytes bound what a reader that has stopped reading holds.
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
}

/// Which messages a reader wants: AND across the sets, OR within; an empty set wants all.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Service identifiers of the channel.
    pub service_identifiers: HashSet<String>,
    /// Conversations.
    pub conversation_ids: HashSet<String>,
    /// Channel sessions.
    pub channel_session_ids: HashSet<String>,
    /// Types of the body, as JSON has them.
    pub body_types: HashSet<String>,
    /// Kinds of sender.
    pub sender_types: HashSet<SenderType>,
    /// Who the message is for.
    pub audiences: HashSet<Audience>,
}

impl Filter {
    /// True if the reader wants this entry.
    fn matches(&self, stored: &Stored) -> bool {
        let message = stored.entry.message.as_ref();
        let header = message.and_then(|message| message.header.as_ref());
        let service =
            header.and_then(|header| header.channel_data.as_ref()).and_then(|channel| channel.service_identifier.as_ref());
        let body_type = message.and_then(|message| message.body.as_ref()).and_then(wire::type_name);
        let sender = header.and_then(|header| header.sender.as_ref()).map(|sender| sender.r#type());
        wants(&self.service_identifiers, service)
            && wants(&self.conversation_ids, header.and_then(|header| header.conversation_id.as_ref()))
            && wants(&self.channel_session_ids, header.and_then(|header| header.channel_session_id.as_ref()))
            && (self.body_types.is_empty() || body_type.is_some_and(|body_type| self.body_types.contains(body_type)))
            && wants(&self.sender_types, sender.as_ref())
            && (self.audiences.is_empty() || stored.entry.audiences().any(|audience| self.audiences.contains(&audience)))
    }
}

fn wants<T: Eq + std::hash::Hash>(wanted: &HashSet<T>, found: Option<&T>) -> bool {
    wanted.is_empty() || found.is_some_and(|found| wanted.contains(found))
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
    places: Arc<Semaphore>,
    shutdown: CancellationToken,
}

impl Feed {
    /// A feed of what `store` accepts. When `shutdown` is cancelled, every subscription ends with [`Error::ShuttingDown`].
    pub fn new(store: Arc<dyn Store>, settings: Settings, shutdown: CancellationToken) -> Self {
        Self { store, settings, places: Arc::new(Semaphore::new(settings.max_streams)), shutdown }
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
        let durable = self.store.durable();
        let span = self.store.span();
        let position = match start {
            Start::After(cursor) => checked(cursor, &span)?,
            Start::Since(time) => self.store.before(time).await?,
            Start::Earliest => span.oldest.previous(),
            Start::Latest => span.end,
        };
        let heartbeat = heartbeat.unwrap_or(self.settings.heartbeat);
        Ok(Subscription {
            store: self.store.clone(),
            filter,
            epoch: span.epoch,
            position,
            page: VecDeque::new(),
            skipped: 0,
            skippable: self.settings.heartbeat_skipped,
            heartbeat,
            next_heartbeat: Instant::now(),
            durable,
            shutdown: self.shutdown.clone(),
            _place: place,
        })
    }
}

/// The position of a cursor that can be read from.
fn checked(cursor: Cursor, span: &Span) -> Result<Position, Error> {
    let oldest = span.cursor(span.oldest.previous());
    if cursor.epoch != span.epoch || cursor.position > span.end {
        return Err(Error::CursorUnknown { oldest });
    }
    if cursor.position < oldest.position {
        return Err(Error::CursorExpired { oldest });
    }
    Ok(cursor.position)
}

/// One reader's way through the log.
#[derive(Debug)]
pub struct Subscription {
    store: Arc<dyn Store>,
    filter: Filter,
    epoch: u64,
    /// The last entry that was looked at.
    position: Position,
    page: VecDeque<Stored>,
    /// Entries passed over since the last event.
    skipped: u64,
    skippable: u64,
    heartbeat: Duration,
    next_heartbeat: Instant,
    durable: watch::Receiver<Position>,
    shutdown: CancellationToken,
    _place: OwnedSemaphorePermit,
}

impl Subscription {
    /// The next event; waits for it. An error ends the subscription.
    ///
    /// Dropping the future loses nothing: the event comes with the next call.
    pub async fn next(&mut self) -> Result<Event, Error> {
        // Due at once at the start: the first event is a heartbeat.
        if self.skipped >= self.skippable || (self.page.is_empty() && self.next_heartbeat <= Instant::now()) {
            return Ok(self.beat());
        }
        loop {
            if self.shutdown.is_cancelled() {
                return Err(Error::ShuttingDown);
            }
            while let Some(stored) = self.page.pop_front() {
                self.position = stored.position;
                if self.filter.matches(&stored) && !is_stale(&stored) {
                    self.skipped = 0;
                    self.next_heartbeat = Instant::now() + self.heartbeat;
                    return Ok(Event::Notification(stored, self.cursor()));
                }
                self.skipped += 1;
                if self.skipped >= self.skippable {
                    return Ok(self.beat());
                }
            }
            let durable = *self.durable.borrow_and_update();
            if self.position < durable {
                self.page = self.read().await?.into();
                continue;
            }
            tokio::select! {
                biased;
                () = self.shutdown.cancelled() => return Err(Error::ShuttingDown),
                changed = self.durable.changed() => changed.map_err(|_| Error::ShuttingDown)?,
                () = tokio::time::sleep_until(self.next_heartbeat) => return Ok(self.beat()),
            }
        }
    }

    async fn read(&self) -> Result<Vec<Stored>, Error> {
        self.store.read(self.position, PAGE).await.map_err(|error| match error {
            // Retention has overtaken this reader.
            store::Error::Expired { oldest, .. } => {
                Error::CursorExpired { oldest: Cursor { epoch: self.epoch, position: oldest.previous() } }
            }
            error @ store::Error::Unavailable { .. } => Error::Store(error),
        })
    }

    fn beat(&mut self) -> Event {
        self.skipped = 0;
        self.next_heartbeat = Instant::now() + self.heartbeat;
        Event::Heartbeat(self.cursor())
    }

    const fn cursor(&self) -> Cursor {
        Cursor { epoch: self.epoch, position: self.position }
    }
}

/// True for a typing notification that nobody needs any more.
fn is_stale(stored: &Stored) -> bool {
    let accepted = stored.entry.accepted_at.as_ref().map_or(0, wire::to_millis);
    let age = wire::to_millis(&Timestamp::from(SystemTime::now())).saturating_sub(accepted);
    stored.entry.ephemeral && u128::try_from(age).unwrap_or(0) > TYPING_LIFE.as_millis()
}
