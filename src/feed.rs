//! Notifications: accepted messages from a cursor on, then live, in order and each once.
//!
//! A reader pulls from the log at its own pace; a rise of the durable position only wakes it. So no reader can be too slow, none
//! slows a writer, and none keeps more than a page in memory.

use crate::error::Error;
use crate::store::{self, Cursor, Filter, Page, Position, Store, Stored};
use crate::wire;
use prost_types::Timestamp;
use std::collections::VecDeque;
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
            Start::After(cursor) => self.checked(cursor)?,
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
            reached: position,
            skipped: 0,
            skippable: self.settings.heartbeat_skipped,
            heartbeat,
            next_heartbeat: Instant::now(),
            durable,
            shutdown: self.shutdown.clone(),
            _place: place,
        })
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

/// One reader's way through the log.
#[derive(Debug)]
pub struct Subscription {
    store: Arc<dyn Store>,
    filter: Filter,
    epoch: u64,
    /// The last entry that was looked at.
    position: Position,
    page: VecDeque<Stored>,
    /// How far the log was looked through for the page.
    reached: Position,
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
        if self.page.is_empty() && self.next_heartbeat <= Instant::now() {
            return Ok(self.beat());
        }
        loop {
            if self.shutdown.is_cancelled() {
                return Err(Error::ShuttingDown);
            }
            while let Some(stored) = self.page.pop_front() {
                self.pass(stored.position.previous());
                self.position = stored.position;
                if !is_stale(&stored) {
                    self.skipped = 0;
                    self.next_heartbeat = Instant::now() + self.heartbeat;
                    return Ok(Event::Notification(stored, self.cursor()));
                }
                self.skipped += 1;
            }
            self.pass(self.reached);
            if self.skipped >= self.skippable {
                return Ok(self.beat());
            }
            let durable = *self.durable.borrow_and_update();
            if self.position < durable {
                // A reader that wants little goes through much without ever waiting: others get their turn.
                tokio::task::coop::consume_budget().await;
                self.read().await?;
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

    /// Passes over what lies up to `position` and is not wanted.
    fn pass(&mut self, position: Position) {
        self.skipped += position.0.saturating_sub(self.position.0);
        self.position = self.position.max(position);
    }

    async fn read(&mut self) -> Result<(), Error> {
        let scan = self.store.scan(self.position, PAGE, &self.filter).await.map_err(|error| match error {
            // Retention has overtaken this reader.
            store::Error::Expired { oldest, .. } => {
                Error::CursorExpired { oldest: Cursor { epoch: self.epoch, position: oldest.previous() } }
            }
            error => Error::Store(error),
        })?;
        self.page = scan.entries.into();
        self.reached = scan.reached;
        Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::body::Kind;
    use crate::pb::store::{Entry, Session};
    use crate::pb::{self, Audience, SenderType};
    use crate::store::memory::Memory;
    use crate::store::{AppendError, Claim, Error as StoreError, Scan, Span, Stage, Staged};
    use async_trait::async_trait;
    use futures::FutureExt as _;
    use proptest::prelude::*;
    use std::collections::HashSet;

    const SETTINGS: Settings = Settings { heartbeat: Duration::from_secs(15), heartbeat_skipped: 10_000, max_streams: 3 };

    /// A feed, and the store that it reads.
    struct Gateway {
        store: Memory,
        feed: Feed,
        shutdown: CancellationToken,
    }

    fn gateway() -> Gateway {
        with(SETTINGS, Memory::new(64 << 20))
    }

    fn with(settings: Settings, store: Memory) -> Gateway {
        let shutdown = CancellationToken::new();
        Gateway { feed: Feed::new(Arc::new(store.clone()), settings, shutdown.clone()), store, shutdown }
    }

    impl Gateway {
        async fn append(&self, entry: Entry) -> Position {
            let stored = self.store.append(None, Box::new(|_| Ok(vec![entry]))).await.expect("can be appended");
            stored[0].position
        }

        async fn append_many(&self, count: u64) {
            for _ in 0..count {
                self.append(says("a")).await;
            }
        }

        async fn subscribe(&self, start: Start) -> Subscription {
            self.feed.subscribe(Filter::default(), start, None).await.expect("there is room")
        }

        fn cursor(&self, position: u64) -> Cursor {
            self.store.span().cursor(Position(position))
        }
    }

    impl Subscription {
        async fn heartbeat(&mut self) -> u64 {
            match self.next().await.expect("goes on") {
                Event::Heartbeat(cursor) => cursor.position.0,
                Event::Notification(stored, _) => panic!("a heartbeat, found {}", stored.position),
            }
        }

        async fn notification(&mut self) -> (u64, Cursor) {
            match self.next().await.expect("goes on") {
                Event::Notification(stored, cursor) => (stored.position.0, cursor),
                Event::Heartbeat(cursor) => panic!("a notification, found a heartbeat at {}", cursor.position),
            }
        }

        /// Positions of the notifications up to the next heartbeat, and the heartbeat's.
        async fn until_heartbeat(&mut self) -> (Vec<u64>, u64) {
            let mut seen = Vec::new();
            loop {
                match self.next().await.expect("goes on") {
                    Event::Notification(stored, _) => seen.push(stored.position.0),
                    Event::Heartbeat(cursor) => return (seen, cursor.position.0),
                }
            }
        }
    }

    fn says(text: &str) -> Entry {
        let kind = Some(Kind::Plain(pb::PlainBody {}));
        let body = pb::Body { markdown_text: Some(text.to_owned()), kind, ..pb::Body::default() };
        let message = pb::CimMessage { body: Some(body), ..pb::CimMessage::default() };
        Entry { message: Some(message), ..Entry::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_event_is_a_heartbeat_at_the_start() {
        let gateway = gateway();
        for (entries, earliest, latest) in [(0, 0, 0), (3, 0, 3)] {
            gateway.append_many(entries).await;
            let began = Instant::now();
            assert_eq!(gateway.subscribe(Start::Earliest).await.heartbeat().await, earliest);
            assert_eq!(gateway.subscribe(Start::Latest).await.heartbeat().await, latest);
            assert_eq!(gateway.subscribe(Start::After(gateway.cursor(latest))).await.heartbeat().await, latest);
            assert_eq!(began.elapsed(), Duration::ZERO);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn from_any_cursor_a_reader_gets_the_rest_in_order() {
        let gateway = gateway();
        // More than one page.
        gateway.append_many(600).await;
        let mut reader = gateway.subscribe(Start::Earliest).await;
        reader.heartbeat().await;
        let mut cursors = Vec::new();
        for expected in 1..=600 {
            let (position, cursor) = reader.notification().await;
            assert_eq!(position, expected);
            cursors.push(cursor);
        }
        assert_eq!(reader.heartbeat().await, 600);
        for (cursor, seen) in cursors.into_iter().zip(1..).step_by(7) {
            // As a client holds it.
            let cursor: Cursor = cursor.to_string().parse().expect("the feed gave it");
            let mut resumed = gateway.subscribe(Start::After(cursor)).await;
            assert_eq!(resumed.heartbeat().await, seen);
            assert_eq!(resumed.until_heartbeat().await, ((seen + 1..=600).collect(), 600));
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn a_live_reader_sees_what_many_append_in_order_and_once() {
        let gateway = Arc::new(gateway());
        let readers: Vec<_> = (0..3)
            .map(|_| {
                let gateway = gateway.clone();
                tokio::spawn(async move {
                    let mut reader = gateway.subscribe(Start::Earliest).await;
                    reader.heartbeat().await;
                    for expected in 1..=400 {
                        assert_eq!(reader.notification().await.0, expected);
                    }
                })
            })
            .collect();
        let writers: Vec<_> = (0..4)
            .map(|_| {
                let gateway = gateway.clone();
                tokio::spawn(async move { gateway.append_many(100).await })
            })
            .collect();
        for task in writers.into_iter().chain(readers) {
            tokio::time::timeout(Duration::from_secs(10), task).await.expect("in time").expect("is content");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_stops_waiting_loses_nothing() {
        let gateway = gateway();
        let mut reader = gateway.subscribe(Start::Latest).await;
        reader.heartbeat().await;
        for expected in 1..=20 {
            assert!(reader.next().now_or_never().is_none());
            gateway.append_many(1).await;
            assert_eq!(reader.notification().await.0, expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_quiet_stream_beats_at_its_interval() {
        let gateway = gateway();
        for (asked, interval) in [(None, SETTINGS.heartbeat), (Some(Duration::from_secs(2)), Duration::from_secs(2))] {
            let mut reader = gateway.feed.subscribe(Filter::default(), Start::Latest, asked).await.expect("there is room");
            reader.heartbeat().await;
            for _ in 0..3 {
                let began = Instant::now();
                reader.heartbeat().await;
                assert_eq!(began.elapsed(), interval);
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn every_event_puts_the_next_heartbeat_off() {
        let gateway = gateway();
        let mut reader = gateway.subscribe(Start::Latest).await;
        reader.heartbeat().await;
        tokio::time::advance(Duration::from_secs(10)).await;
        gateway.append_many(1).await;
        reader.notification().await;
        let began = Instant::now();
        assert_eq!(reader.heartbeat().await, 1);
        assert_eq!(began.elapsed(), SETTINGS.heartbeat);
    }

    #[tokio::test(start_paused = true)]
    async fn a_filter_that_passes_over_many_beats_on_the_way() {
        let gateway = with(Settings { heartbeat_skipped: 5, ..SETTINGS }, Memory::new(64 << 20));
        gateway.append_many(12).await;
        let filter = Filter { body_types: HashSet::from(["VOICE".to_owned()]), ..Filter::default() };
        let began = Instant::now();
        let mut reader = gateway.feed.subscribe(filter, Start::Earliest, None).await.expect("there is room");
        for expected in [0, 5, 10] {
            assert_eq!(reader.heartbeat().await, expected);
        }
        assert_eq!(began.elapsed(), Duration::ZERO);
        assert_eq!(reader.heartbeat().await, 12);
        assert_eq!(began.elapsed(), SETTINGS.heartbeat);
    }

    #[tokio::test(start_paused = true)]
    async fn a_time_starts_at_the_first_message_at_or_after_it() {
        let gateway = gateway();
        gateway.append_many(2).await;
        let time = Timestamp::from(SystemTime::now());
        gateway.append_many(2).await;
        for (time, position) in [(Timestamp::default(), 0), (time, 2), (Timestamp { seconds: i64::MAX, nanos: 0 }, 4)] {
            assert_eq!(gateway.subscribe(Start::Since(time)).await.heartbeat().await, position);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_cursor_that_cannot_be_read_from_tells_the_oldest_that_can() {
        let gateway = with(SETTINGS, Memory::new(20 << 10));
        gateway.append_many(100).await;
        let span = gateway.store.span();
        let oldest = span.cursor(span.oldest.previous());
        assert!(oldest.position > Position(0));
        let subscribe = async |cursor: Cursor| gateway.feed.subscribe(Filter::default(), Start::After(cursor), None).await.err();
        let expired = Some(Error::CursorExpired { oldest });
        let unknown = Some(Error::CursorUnknown { oldest });
        assert_eq!(subscribe(gateway.cursor(0)).await, expired);
        assert_eq!(subscribe(span.cursor(oldest.position.previous())).await, expired);
        assert_eq!(subscribe(gateway.cursor(101)).await, unknown);
        assert_eq!(subscribe(gateway.cursor(u64::MAX)).await, unknown);
        assert_eq!(subscribe(Cursor { epoch: span.epoch + 1, position: span.end }).await, unknown);
        assert_eq!(subscribe(Cursor { epoch: 0, position: Position(0) }).await, unknown);
        let mut reader = gateway.subscribe(Start::After(oldest)).await;
        assert_eq!(reader.until_heartbeat().await, (vec![], oldest.position.0));
        assert_eq!(reader.until_heartbeat().await, ((span.oldest.0..=100).collect(), 100));
        gateway.feed.subscribe(Filter::default(), Start::Latest, None).await.expect("what was refused took no place");
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_retention_overtakes_is_told_where_to_go_on() {
        let gateway = with(SETTINGS, Memory::new(20 << 10));
        gateway.append_many(1).await;
        let mut reader = gateway.subscribe(Start::Earliest).await;
        reader.heartbeat().await;
        assert_eq!(reader.notification().await.0, 1);
        gateway.append_many(100).await;
        let Err(Error::CursorExpired { oldest }) = reader.next().await else { panic!("there is no silent gap") };
        let mut resumed = gateway.subscribe(Start::After(oldest)).await;
        resumed.heartbeat().await;
        assert_eq!(resumed.notification().await.0, gateway.store.span().oldest.0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_shutdown_ends_every_stream() {
        let gateway = gateway();
        gateway.append_many(3).await;
        let mut busy = gateway.subscribe(Start::Earliest).await;
        busy.heartbeat().await;
        busy.notification().await;
        let mut waiting = gateway.subscribe(Start::Latest).await;
        waiting.heartbeat().await;
        let waiting = tokio::spawn(async move { waiting.next().await.err() });
        tokio::task::yield_now().await;
        let began = Instant::now();
        gateway.shutdown.cancel();
        assert_eq!(busy.next().await.err(), Some(Error::ShuttingDown));
        assert_eq!(waiting.await.expect("ends"), Some(Error::ShuttingDown));
        assert_eq!(began.elapsed(), Duration::ZERO);
        let late = gateway.feed.subscribe(Filter::default(), Start::Latest, None).await;
        assert_eq!(late.err(), Some(Error::ShuttingDown));
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_streams_are_open_than_the_most_and_a_dropped_one_makes_room() {
        let gateway = gateway();
        let mut open = Vec::new();
        for _ in 0..SETTINGS.max_streams {
            open.push(gateway.subscribe(Start::Latest).await);
        }
        let refused = gateway.feed.clone().subscribe(Filter::default(), Start::Latest, None).await;
        assert_eq!(refused.err(), Some(Error::TooManyStreams { most: SETTINGS.max_streams }));
        open.pop();
        open.push(gateway.subscribe(Start::Latest).await);
    }

    /// A store whose entries were accepted some time ago.
    #[derive(Debug)]
    struct Aged {
        store: Memory,
        age: Duration,
    }

    #[async_trait]
    impl Store for Aged {
        async fn scan(&self, after: Position, page: Page, filter: &Filter) -> Result<Scan, StoreError> {
            let accepted_at = Some(Timestamp::from(SystemTime::now() - self.age));
            let age = |stored: Stored| Stored { entry: Arc::new(Entry { accepted_at, ..Entry::clone(&stored.entry) }), ..stored };
            let scan = self.store.scan(after, page, filter).await?;
            Ok(Scan { entries: scan.entries.into_iter().map(age).collect(), ..scan })
        }

        async fn claim(&self, id: &str, fingerprint: &[u8]) -> Result<Claim, StoreError> {
            self.store.claim(id, fingerprint).await
        }

        async fn stage(&self, claim: Option<Claim>, stage: Stage<'_>) -> Result<Staged, AppendError> {
            self.store.stage(claim, stage).await
        }

        async fn message(&self, id: &str) -> Result<Option<Stored>, StoreError> {
            self.store.message(id).await
        }

        async fn history(&self, id: &str, before: Option<Position>, limit: usize) -> Result<Option<Vec<Stored>>, StoreError> {
            self.store.history(id, before, limit).await
        }

        async fn before(&self, time: Timestamp) -> Result<Position, StoreError> {
            self.store.before(time).await
        }

        fn span(&self) -> Span {
            self.store.span()
        }

        fn durable(&self) -> watch::Receiver<Position> {
            self.store.durable()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn typing_is_streamed_while_it_is_fresh() {
        for (age, streamed) in [(0, vec![1, 2, 3]), (4, vec![1, 2, 3]), (6, vec![1, 3]), (1_000_000, vec![1, 3])] {
            let Gateway { store, .. } = gateway();
            for ephemeral in [false, true, false] {
                let entry = Entry { ephemeral, ..says("a") };
                store.append(None, Box::new(|_| Ok(vec![entry]))).await.expect("can be appended");
            }
            let aged = Aged { store, age: Duration::from_secs(age) };
            let feed = Feed::new(Arc::new(aged), SETTINGS, CancellationToken::new());
            let mut reader = feed.subscribe(Filter::default(), Start::Earliest, None).await.expect("there is room");
            reader.heartbeat().await;
            assert_eq!(reader.until_heartbeat().await, (streamed, 3), "after {age} s");
        }
    }

    /// What filters look at, each as a small number; 0 for none.
    type Traits = [u8; 6];

    const KINDS: [fn() -> Option<Kind>; 4] = [
        || None,
        || Some(Kind::Plain(pb::PlainBody {})),
        || Some(Kind::StructuredMessage(pb::StructuredMessageBody::default())),
        || Some(Kind::Generic(pb::GenericBody { r#type: "plain".into() })),
    ];
    const TYPES: [&str; 4] = ["", "PLAIN", "StructuredMessage", "plain"];
    const SENDERS: [SenderType; 4] = [SenderType::Unspecified, SenderType::Agent, SenderType::Bot, SenderType::Other];

    fn entry([service, conversation, session, kind, sender, audiences]: Traits) -> Entry {
        let text = |number: u8| (number > 0).then(|| number.to_string());
        let sender = pb::Sender { r#type: SENDERS[usize::from(sender)].into(), ..pb::Sender::default() };
        let header = pb::Header {
            sender: Some(sender),
            channel_data: Some(pb::ChannelData { service_identifier: text(service), ..pb::ChannelData::default() }),
            conversation_id: text(conversation),
            channel_session_id: text(session),
            ..pb::Header::default()
        };
        let body = pb::Body { kind: KINDS[usize::from(kind)](), ..pb::Body::default() };
        let message = pb::CimMessage { header: Some(header), body: Some(body), ..pb::CimMessage::default() };
        // As a set of bits: customer, platform.
        let of = |bit: u8, audience: Audience| (audiences & bit != 0).then(|| audience.into());
        let audiences = [of(1, Audience::Customer), of(2, Audience::Platform)].into_iter().flatten().collect();
        Entry { message: Some(message), audiences, session: Some(Session::default()), ..Entry::default() }
    }

    /// A filter that wants these numbers.
    fn filter(wanted: &[Vec<u8>; 6]) -> Filter {
        let texts = |wanted: &[u8]| wanted.iter().map(u8::to_string).collect();
        let [services, conversations, sessions, kinds, senders, audiences] = wanted;
        Filter {
            service_identifiers: texts(services),
            conversation_ids: texts(conversations),
            channel_session_ids: texts(sessions),
            body_types: kinds.iter().map(|kind| TYPES[usize::from(*kind)].to_owned()).collect(),
            sender_types: senders.iter().map(|sender| SENDERS[usize::from(*sender)]).collect(),
            audiences: audiences.iter().map(|bit| if *bit == 1 { Audience::Customer } else { Audience::Platform }).collect(),
        }
    }

    fn wants_it(wanted: &[Vec<u8>; 6], traits: &Traits) -> bool {
        wanted.iter().zip(traits).enumerate().all(|(i, (wanted, found))| match i {
            _ if wanted.is_empty() => true,
            5 => wanted.iter().any(|bit| found & bit != 0),
            _ => wanted.contains(found),
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_filter_passes_what_matches_all_of_its_lists(
            entries in proptest::collection::vec([0..3_u8, 0..3_u8, 0..3_u8, 0..4_u8, 0..4_u8, 0..4_u8], 0..40),
            lists in [
                proptest::collection::vec(1..3_u8, 0..3), proptest::collection::vec(1..3_u8, 0..3),
                proptest::collection::vec(1..3_u8, 0..3), proptest::collection::vec(1..4_u8, 0..3),
                proptest::collection::vec(0..4_u8, 0..3), proptest::collection::vec(1..3_u8, 0..2),
            ],
            which in 0..64_u8,
        ) {
            // Few lists at a time, lest nothing match them all.
            let wanted: [Vec<u8>; 6] = std::array::from_fn(|i| if which & (1 << i) == 0 { Vec::new() } else { lists[i].clone() });
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("starts");
            let seen = runtime.block_on(async {
                let gateway = gateway();
                for traits in &entries {
                    gateway.append(entry(*traits)).await;
                }
                let reader = gateway.feed.subscribe(filter(&wanted), Start::Earliest, None).await;
                let mut reader = reader.expect("there is room");
                reader.heartbeat().await;
                reader.until_heartbeat().await
            });
            let expected = (1..).zip(&entries).filter(|(_, traits)| wants_it(&wanted, traits)).map(|(position, _)| position);
            prop_assert_eq!(seen, (expected.collect(), entries.len() as u64));
        }
    }
}
