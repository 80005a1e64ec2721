//! Expiry: sessions whose customers were inactive for too long end.
//!
//! It follows the log, and keeps a timer for each active session ([`timers`](super::timers)). While it runs, time is that of a clock
//! that only goes forward; only what passed before it started is told from the wall clock. So that no outage and no clock that jumps
//! ends a million sessions at once, none ends in the first [`GRACE`], and then [`BURST`] in each [`TICK`] at most.
//!
//! A session is looked at again where it is ended, in the order of the log: what its customer said meanwhile keeps it open.

use super::ending;
use super::timers::Timers;
use crate::channels::Channels;
use crate::metrics;
use crate::planning;
use crate::store::{AppendError, Error, Facts, Page, Position, SessionFacts, SessionFilter, Store, Stored, clock, last_activity};
use crate::violation::Violations;
use crate::wire;
use prost_types::Timestamp;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// No session expires for so long after the start: customers come back first.
const GRACE: Duration = Duration::from_secs(60);

/// How often timers are looked at.
const TICK: Duration = Duration::from_millis(100);

/// Most sessions that expire at once: 1,000 in a second.
const BURST: usize = 100;

/// What is read of the log at once.
const PAGE: Page = Page { entries: 1024, bytes: 4 << 20 };

/// Sessions that are listed at once.
const LISTED: usize = 10_000;

/// How long the customers of a channel, named by its service identifier, may be inactive; none for ever.
pub type Timeouts = Arc<dyn Fn(&str) -> Option<Duration> + Send + Sync>;

/// Ends sessions whose customers were inactive for too long.
pub struct Expiry {
    store: Arc<dyn Store>,
    timeouts: Timeouts,
    /// None where nothing is delivered.
    channels: Option<Channels>,
    timers: Timers,
    /// How far the log is followed.
    position: Position,
    started: Instant,
    metrics: Arc<metrics::Expiry>,
    shutdown: CancellationToken,
}

impl fmt::Debug for Expiry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Expiry").field("position", &self.position).finish_non_exhaustive()
    }
}

impl Expiry {
    /// The expiry of the sessions in `store`. Time counts from here.
    pub fn new(store: Arc<dyn Store>, timeouts: Timeouts, shutdown: CancellationToken) -> Self {
        let (timers, position, metrics) = Default::default();
        Self { store, timeouts, channels: None, timers, position, started: Instant::now(), metrics, shutdown }
    }

    /// The same, with deliveries to the webhooks of these channels.
    pub fn delivering(self, channels: Channels) -> Self {
        Self { channels: Some(channels), ..self }
    }

    /// The same, counting by `metrics`.
    pub fn counting(self, metrics: Arc<metrics::Expiry>) -> Self {
        Self { metrics, ..self }
    }

    /// Ends sessions until the shutdown, or until the store has failed.
    pub async fn run(mut self) {
        let shutdown = self.shutdown.clone();
        let done = tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            done = self.go_on() => done,
        };
        if let Err(error) = done {
            tracing::error!(error = &error as &dyn std::error::Error, "no session expires any more");
        }
    }

    async fn go_on(&mut self) -> Result<(), Error> {
        self.begin().await?;
        let mut durable = self.store.durable();
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.follow().await?;
            self.metrics.watched(self.timers.len());
            tokio::select! {
                _ = tick.tick() => self.expire().await?,
                changed = durable.changed() => if changed.is_err() { return Ok(()) },
            }
        }
    }

    /// Looks at what there is.
    async fn begin(&mut self) -> Result<(), Error> {
        self.timers.clear();
        // First, so that nothing is missed in between.
        self.position = self.store.span().end;
        let active = SessionFilter { active: true, ..SessionFilter::default() };
        let mut before: Option<String> = None;
        loop {
            let page = self.store.sessions(&active, before.as_deref(), LISTED).await?;
            let now = wire::to_millis(&wire::now());
            for SessionFacts { session, last_activity } in &page.sessions {
                let passed = u64::try_from(now - wire::to_millis(last_activity)).unwrap_or_default();
                self.told(session, *last_activity, Duration::from_millis(passed));
            }
            before = match page.next {
                Some(next) => Some(next),
                None => return Ok(()),
            };
        }
    }

    /// Follows the log to its end.
    async fn follow(&mut self) -> Result<(), Error> {
        loop {
            let scan = match self.store.scan(self.position, PAGE, &crate::store::Filter::default()).await {
                // Retention was faster.
                Err(Error::Expired { .. }) => return self.begin().await,
                scan => scan?,
            };
            for Stored { entry, .. } in &scan.entries {
                let Some(session) = &entry.session else { continue };
                match session.ended_at {
                    None => self.told(session, last_activity(entry), Duration::ZERO),
                    Some(_) => self.ended(&session.id),
                }
            }
            if scan.reached <= self.position {
                return Ok(());
            }
            self.position = scan.reached;
        }
    }

    /// An active session is told, whose customer was last active so long ago.
    fn told(&mut self, session: &crate::pb::store::Session, last_activity: Timestamp, ago: Duration) {
        let Ok(id) = Uuid::parse_str(&session.id) else { return };
        match (self.timeouts)(&session.service_identifier) {
            Some(timeout) => {
                let due = (self.started.elapsed() + timeout.saturating_sub(ago)).as_millis().div_ceil(1000);
                self.timers.told(id, clock::to_nanos(&last_activity), u32::try_from(due).unwrap_or(u32::MAX));
            }
            None => self.timers.ended(&id),
        }
    }

    fn ended(&mut self, id: &str) {
        if let Ok(id) = Uuid::parse_str(id) {
            self.timers.ended(&id);
        }
    }

    /// Ends what is due. What cannot be ended now is due again.
    async fn expire(&mut self) -> Result<(), Error> {
        let elapsed = self.started.elapsed();
        if elapsed < GRACE {
            return Ok(());
        }
        let due = self.timers.due(u32::try_from(elapsed.as_secs()).unwrap_or(u32::MAX), BURST);
        // To the millisecond, as every time of a message.
        let at = wire::now();
        let mut staged = Vec::with_capacity(due.len());
        for (id, last_activity) in due {
            let channels = self.channels.as_ref();
            let stage = Box::new(move |facts: &dyn Facts| {
                let expired = ending::expire(facts, &id.to_string(), clock::from_nanos(last_activity), at);
                let mut frame = expired.ok_or_else(Violations::default)?;
                if let Some(channels) = channels {
                    planning::plan_all(&mut frame, &channels.snapshot());
                }
                Ok(frame)
            });
            match self.store.stage(None, stage).await {
                Ok(frame) => staged.push(frame),
                // It has ended, or its customer has come back.
                Err(AppendError::Refused(_)) => {}
                Err(AppendError::Store(Error::Busy | Error::Full { .. })) => break,
                Err(AppendError::Store(error)) => return Err(error),
            }
        }
        for frame in staged {
            match frame.durable().await {
                Ok(_) | Err(Error::Busy | Error::Full { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message;
    use crate::pb::body::Kind;
    use crate::pb::store::{Session, Submission};
    use crate::samples;
    use crate::store::memory::Memory;
    use serde_json::{Value as Json, json};
    use std::sync::atomic::{AtomicI64, Ordering};
    use tokio::task::JoinHandle;
    use tokio::time::{advance, sleep};

    const TIMEOUT: Duration = Duration::from_secs(600);

    struct World {
        memory: Memory,
        shutdown: CancellationToken,
        running: JoinHandle<()>,
        /// Messages that were sent, each at another millisecond: the clock on the wall stands still in these tests.
        sent: AtomicI64,
    }

    impl World {
        fn new() -> Self {
            Self::on(Memory::new(256 << 20))
        }

        fn on(memory: Memory) -> Self {
            let shutdown = CancellationToken::new();
            let timeouts: Timeouts = Arc::new(|channel| (channel != "endless").then_some(TIMEOUT));
            let expiry = Expiry::new(Arc::new(memory.clone()), timeouts, shutdown.clone());
            Self { memory, shutdown, running: tokio::spawn(expiry.run()), sent: AtomicI64::new(0) }
        }

        async fn restarted(self) -> Self {
            self.shutdown.cancel();
            self.running.await.expect("does not panic");
            Self::on(self.memory)
        }

        /// Routes a message as if it had come at a time in the past.
        async fn send_ago(&self, ago: Duration, patch: Json) -> Session {
            let sent = self.sent.fetch_add(1, Ordering::Relaxed);
            let received_at =
                wire::from_millis(wire::to_millis(&wire::now()) + sent - i64::try_from(ago.as_millis()).expect("is short"));
            let mut message = samples::message(patch);
            message.id.get_or_insert_with(message::fresh_id);
            let stage = Box::new(|facts: &dyn Facts| {
                crate::sessions::route(facts, &crate::channels::Snapshot::default(), message, Submission::default(), received_at)
            });
            let frame = self.memory.append(None, stage).await.expect("is accepted");
            frame.last().and_then(|stored| stored.entry.session.clone()).expect("belongs to a session")
        }

        async fn send(&self, patch: Json) -> Session {
            self.send_ago(Duration::ZERO, patch).await
        }

        /// Notifications that the gateway told of a session, and its reason if it has ended.
        async fn told(&self, session: &Session) -> (Vec<String>, String) {
            let page = Page { entries: usize::MAX, bytes: usize::MAX };
            let log = self.memory.read(Position(0), page).await.expect("is kept");
            let of_session = log.iter().filter(|stored| stored.entry.session.as_ref().is_some_and(|own| own.id == session.id));
            let notice = |stored: &Stored| match message::kind(stored.entry.message.as_ref()?)? {
                Kind::Notification(notification) => notification.notification_type.clone(),
                _ => None,
            };
            let known = self.memory.session(&session.id).await.expect("can be read").expect("is there").session;
            (of_session.filter_map(notice).collect(), known.end_reason.clone())
        }

        async fn is_active(&self, session: &Session) -> bool {
            self.told(session).await.1.is_empty()
        }

        async fn active(&self) -> usize {
            let filter = SessionFilter { active: true, ..SessionFilter::default() };
            self.memory.sessions(&filter, None, usize::MAX).await.expect("can be read").sessions.len()
        }
    }

    fn from(address: &str) -> Json {
        on("support", address)
    }

    fn on(channel: &str, address: &str) -> Json {
        json!({ "header": { "channelData": { "channelCustomerIdentifier": address, "serviceIdentifier": channel } } })
    }

    fn by(sender: &str, address: &str) -> Json {
        let mut patch = from(address);
        patch["header"]["sender"] = json!({ "id": "s", "type": sender, "senderName": "S" });
        patch
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_expires_when_its_customer_was_inactive_for_too_long_and_both_sides_are_told() {
        let world = World::new();
        let session = world.send(from("+49 1")).await;
        sleep(TIMEOUT - Duration::from_secs(1)).await;
        assert!(world.is_active(&session).await);
        sleep(Duration::from_secs(3)).await;
        let notices = ["CHANNEL_SESSION_STARTED", "CHANNEL_SESSION_EXPIRED", "CHANNEL_SESSION_ENDED"];
        assert_eq!(world.told(&session).await, (notices.map(str::to_owned).to_vec(), "INACTIVITY".into()));
        let next = world.send(from("+49 1")).await;
        assert_ne!(next.id, session.id);
    }

    #[tokio::test(start_paused = true)]
    async fn the_customer_keeps_a_session_open_and_nobody_else_does() {
        let world = World::new();
        let (kept, left) = (world.send(from("+49 1")).await, world.send(from("+49 2")).await);
        for _ in 0..4 {
            sleep(TIMEOUT / 2).await;
            world.send(by("CUSTOMER", "+49 1")).await;
            if world.is_active(&left).await {
                world.send(by("AGENT", "+49 2")).await;
            }
        }
        assert!(world.is_active(&kept).await);
        assert_eq!(world.told(&left).await.1, "INACTIVITY");
        sleep(TIMEOUT + Duration::from_secs(3)).await;
        assert!(!world.is_active(&kept).await);
    }

    /// Outcomes of deliveries told none in the logs of earlier versions.
    #[tokio::test(start_paused = true)]
    async fn an_entry_that_tells_no_activity_keeps_no_session_for_ever() {
        let world = World::new();
        let session = world.send(from("+49 1")).await;
        // It is followed by then.
        sleep(Duration::from_secs(1)).await;
        let message = Some(samples::message(json!({})).into());
        let entry = crate::pb::store::Entry { message, session: Some(session.clone()), ..Default::default() };
        world.memory.append(None, Box::new(|_| Ok(vec![entry]))).await.expect("is accepted");
        sleep(TIMEOUT + Duration::from_secs(3)).await;
        assert!(!world.is_active(&session).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_channel_without_a_timeout_and_a_session_that_has_ended_do_not_expire() {
        let world = World::new();
        let endless = world.send(on("endless", "+49 1")).await;
        world.send(from("+49 2")).await;
        let mut end = from("+49 2");
        end["header"]["intent"] = json!("END_CHAT");
        let ended = world.send(end).await;
        sleep(TIMEOUT * 10).await;
        assert!(world.is_active(&endless).await);
        let notices = ["CHANNEL_SESSION_STARTED", "CHANNEL_SESSION_ENDED"];
        assert_eq!(world.told(&ended).await.0, notices);
    }

    #[tokio::test(start_paused = true)]
    async fn what_passed_before_a_restart_counts_by_the_wall_clock_but_nobody_expires_at_once() {
        let world = World::new();
        let long_ago = world.send_ago(TIMEOUT * 2, from("+49 1")).await;
        let half_ago = world.send_ago(TIMEOUT / 2, from("+49 2")).await;
        let just_now = world.send(from("+49 3")).await;
        let world = world.restarted().await;
        sleep(GRACE - Duration::from_secs(1)).await;
        assert_eq!(world.active().await, 3);
        sleep(Duration::from_secs(3)).await;
        assert!(!world.is_active(&long_ago).await);
        sleep(TIMEOUT / 2 - GRACE - Duration::from_secs(5)).await;
        assert!(world.is_active(&half_ago).await);
        sleep(Duration::from_secs(8)).await;
        assert!(!world.is_active(&half_ago).await);
        assert!(world.is_active(&just_now).await);
    }

    #[tokio::test(start_paused = true)]
    async fn many_sessions_that_are_due_at_once_expire_one_thousand_a_second() {
        let world = World::new();
        for number in 0..3_000 {
            world.send_ago(TIMEOUT * 2, from(&number.to_string())).await;
        }
        let world = world.restarted().await;
        sleep(GRACE).await;
        let mut left = vec![world.active().await];
        for _ in 0..4 {
            sleep(Duration::from_secs(1)).await;
            left.push(world.active().await);
        }
        assert!(left.is_sorted_by(|earlier, later| later <= earlier), "{left:?}");
        assert!(left.windows(2).all(|pair| pair[0] - pair[1] <= 1_100), "{left:?}");
        assert!(left[0] >= 2_800 && left[4] == 0, "{left:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_said_after_the_timer_was_set_keeps_a_session() {
        let memory = Memory::new(64 << 20);
        let timeouts: Timeouts = Arc::new(|_| Some(Duration::from_secs(1)));
        let mut expiry = Expiry::new(Arc::new(memory.clone()), timeouts, CancellationToken::new());
        let world =
            World { memory, shutdown: CancellationToken::new(), running: tokio::spawn(async {}), sent: AtomicI64::new(0) };
        let session = world.send_ago(Duration::from_secs(5), from("+49 1")).await;
        expiry.begin().await.expect("can be read");
        advance(GRACE * 2).await;
        // It is due, and nobody has told the expiry of what follows.
        world.send(by("CUSTOMER", "+49 1")).await;
        expiry.expire().await.expect("goes on");
        assert!(world.is_active(&session).await);
        expiry.follow().await.expect("can be read");
        expiry.expire().await.expect("goes on");
        assert!(world.is_active(&session).await);
        advance(Duration::from_secs(2)).await;
        expiry.expire().await.expect("goes on");
        assert!(!world.is_active(&session).await);
    }
}
