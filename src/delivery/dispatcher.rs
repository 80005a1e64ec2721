//! The dispatcher: follows the log, begins attempts, and hears how they have ended. All that it decides, [`super::lanes`] decides.

#[cfg(test)]
mod tests;

use super::Settings;
use super::attempt::{Decided, End, Ended, Sender, endpoint};
use super::census::Census;
use super::desk::{Desk, Ruling};
use super::lanes::{Decision, EndpointKey, Lanes, Prospect, Start, Terms};
use super::overdue::Overdue;
use super::record::Record;
use super::recorder::Recorder;
use super::verdict::Verdict;
use crate::channels::{Channels, Snapshot};
use crate::message::Limits;
use crate::metrics;
use crate::outcomes::Waiters;
use crate::pb::DisabledReason;
use crate::pb::store::{DeliveryState, Endpoint};
use crate::store::{self, Deliveries, Delivery, DeliveryId, Store, Wanted};
use crate::webhook::Client;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

/// Deliveries that are read from the log at once.
const PAGE: usize = 512;

/// Wait before a store that failed is asked again.
const PATIENCE: Duration = Duration::from_millis(500);

/// See the module.
#[derive(Debug)]
pub struct Dispatcher {
    sender: Arc<Sender>,
    waiters: Waiters,
    lanes: Lanes,
    /// Up to here the log was followed.
    followed: DeliveryId,
    /// True if the log is known to have more.
    behind: bool,
    /// The etags of the channels whose endpoints are known to the lanes.
    etags: HashMap<String, String>,
    /// Under way; they end with the dispatcher.
    attempts: JoinSet<Ended>,
    /// Who writes down what they have led to; none once it runs.
    recorder: Option<Recorder>,
    records: mpsc::UnboundedSender<Record>,
    /// Records that are not written down yet, and how many more are.
    unwritten: usize,
    written: mpsc::UnboundedReceiver<usize>,
    /// Everything that is being written down.
    writing: JoinSet<()>,
    /// What somebody has decided at the desk.
    rulings: mpsc::UnboundedReceiver<Ruling>,
    ruling: mpsc::UnboundedSender<Ruling>,
    overdue: Overdue,
    metrics: Arc<metrics::Delivery>,
    stop: CancellationToken,
}

impl Dispatcher {
    /// A dispatcher of what `store` plans. It does nothing before it runs, and ends with `stop`.
    pub fn new(
        store: Arc<dyn Store>,
        channels: Channels,
        client: Client,
        settings: Settings,
        waiters: Waiters,
        limits: Limits,
        stop: CancellationToken,
    ) -> Self {
        let held_before = store.held_before();
        if held_before.is_some() {
            tracing::warn!(
                "the store was restored from a backup: what was to be delivered then is held until it is released or discarded"
            );
        }
        let lanes = Lanes::new(settings.rules()).holding(held_before);
        let sender = Arc::new(Sender { store, channels, client, settings });
        let metrics = Arc::<metrics::Delivery>::default();
        let followed = DeliveryId::NONE;
        let (records, to_write) = mpsc::unbounded_channel();
        let (done, written) = mpsc::unbounded_channel();
        let recorder = Recorder {
            sender: sender.clone(),
            waiters: waiters.clone(),
            limits,
            metrics: metrics.clone(),
            records: to_write,
            done,
            stop: stop.clone(),
        };
        let (etags, attempts, writing) = Default::default();
        let (ruling, rulings) = mpsc::unbounded_channel();
        let behind = true;
        let overdue = Overdue::new(sender.clone());
        Self {
            sender,
            waiters,
            lanes,
            followed,
            behind,
            etags,
            attempts,
            recorder: Some(recorder),
            records,
            unwritten: 0,
            written,
            writing,
            rulings,
            ruling,
            overdue,
            metrics,
            stop,
        }
    }

    /// The same, counting by `metrics`.
    pub fn counting(mut self, metrics: Arc<metrics::Delivery>) -> Self {
        if let Some(recorder) = &mut self.recorder {
            recorder.metrics = metrics.clone();
        }
        self.metrics = metrics;
        self
    }

    /// What counts now and then what is not settled: run it.
    pub fn census(&self) -> Census {
        Census::new(self.sender.clone(), self.metrics.clone(), self.stop.clone())
    }

    /// The desk at which somebody may decide about what is delivered here.
    pub fn desk(&self) -> Desk {
        Desk::new(self.sender.store.clone(), self.ruling.clone())
    }

    /// Delivers until told to stop; then it begins nothing more, and ends once what is under way has ended and is written down.
    pub async fn run(mut self) {
        let mut durable = self.sender.store.durable();
        let mut channels = self.sender.channels.watch();
        let stop = self.stop.clone();
        if let Some(recorder) = self.recorder.take() {
            self.writing.spawn(recorder.run());
        }
        loop {
            if self.behind {
                self.follow().await;
            }
            self.refill().await;
            self.begin();
            self.metrics.goes_on(self.lanes.in_flight(), self.lanes.broken());
            if self.overdue.next() <= Instant::now() {
                self.give_up().await;
            }
            let due = self.lanes.next_due();
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(joined) = self.attempts.join_next() => {
                    self.ended(ended(joined));
                    while let Some(joined) = self.attempts.try_join_next() {
                        self.ended(ended(joined));
                    }
                }
                Some(ruling) = self.rulings.recv() => match ruling {
                    Ruling::Discarded(deliveries) => {
                        for delivery in deliveries {
                            self.waiters.not_soon(delivery.id.planned_at);
                            self.lanes.withdraw(&delivery, Instant::now());
                        }
                    }
                    Ruling::Released => self.lanes.release(Instant::now()),
                },
                Ok(()) = channels.changed() => {
                    let snapshot = channels.borrow_and_update().clone();
                    self.channels_changed(&snapshot);
                }
                Ok(()) = durable.changed(), if !self.behind => {
                    let end = *durable.borrow_and_update();
                    self.behind = end > self.followed.planned_at;
                }
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
                () = sleep_until(self.overdue.next()) => {}
                Some(count) = self.written.recv() => self.unwritten -= count,
                Some(joined) = self.writing.join_next() => ended(joined),
                () = std::future::ready(()), if self.behind => {}
            }
        }
        while let Some(joined) = self.attempts.join_next().await {
            self.ended(ended(joined));
        }
        // Nothing more comes to be written.
        drop(self.records);
        while let Some(joined) = self.writing.join_next().await {
            ended(joined);
        }
    }

    /// Gives up what is too old, and not under way.
    async fn give_up(&mut self) {
        for (delivery, stored) in self.overdue.look().await {
            if self.lanes.withdraw(&delivery, Instant::now()) {
                self.note(Record::given_up(delivery, stored));
            }
        }
    }

    /// Reads the next page of what is planned.
    async fn follow(&mut self) {
        let found = self.sender.store.deliveries(self.followed, Wanted::Open, PAGE).await;
        let Deliveries { found, reached } = match found {
            Ok(found) => found,
            Err(error) => {
                return self.wait_for_store(&error).await;
            }
        };
        let snapshot = self.sender.channels.snapshot();
        for delivery in found {
            let id = delivery.id;
            let enabled = self.notice(&EndpointKey::of(&delivery), &snapshot);
            let due = due(&delivery);
            if self.lanes.arrive(delivery, due, enabled) == Prospect::NotSoon {
                self.waiters.not_soon(id.planned_at);
            }
        }
        self.behind = reached.planned_at < self.sender.store.span().end;
        self.followed = reached;
    }

    /// Notes which state of an endpoint the lanes go by. True if it may be called.
    fn notice(&mut self, key: &EndpointKey, snapshot: &Snapshot) -> bool {
        let Some(channel) = snapshot.by_id(&key.channel_id) else { return true };
        if !self.etags.contains_key(&key.channel_id) {
            self.etags.insert(key.channel_id.clone(), channel.etag.clone());
        }
        is_enabled(key, snapshot)
    }

    /// Asks the log for what follows in lanes that have run empty.
    async fn refill(&mut self) {
        for missing in self.lanes.missing() {
            let asked = self.sender.store.deliveries(missing.after, Wanted::Lane(missing.lane), PAGE).await;
            match asked {
                Ok(Deliveries { found, reached }) => {
                    // What lies beyond comes when the log is followed.
                    let followed = self.followed;
                    let found = found.into_iter().filter(|delivery| delivery.id <= followed);
                    let found = found
                        .map(|delivery| {
                            let due = due(&delivery);
                            (delivery, due)
                        })
                        .collect();
                    self.lanes.refilled(&missing, found, reached.min(followed), reached >= followed);
                }
                Err(error) => {
                    self.lanes.refilled(&missing, Vec::new(), missing.after, false);
                    self.wait_for_store(&error).await;
                }
            }
        }
    }

    /// The store cannot be read at the moment: it is asked again a little later.
    async fn wait_for_store(&self, error: &store::Error) {
        tracing::warn!(error = error as &dyn std::error::Error, "what is to be delivered cannot be read");
        tokio::select! {
            () = sleep(PATIENCE) => {}
            () = self.stop.cancelled() => {}
        }
    }

    /// Begins every attempt that may begin now.
    fn begin(&mut self) {
        let now = Instant::now();
        self.lanes.wake(now);
        // A store that cannot keep up with the outcomes is not given more of them.
        while self.unwritten < self.sender.settings.in_flight_in_all
            && let Some(start) = self.lanes.next(now)
        {
            let sender = self.sender.clone();
            self.attempts.spawn(async move { sender.attempt(start).await });
        }
    }

    fn ended(&mut self, Ended { start, end }: Ended) {
        let now = Instant::now();
        match end {
            End::Postponed => self.lanes.postponed(&start, now, now + PATIENCE),
            End::Settled => {
                // Who waits is not told: whoever has settled it knows what became of it.
                self.waiters.not_soon(start.delivery.id.planned_at);
                self.lanes.finished(&start, &Verdict::NotCalled, now, 0.0, Terms::default());
            }
            End::Decided(decided) => {
                self.metrics.attempted(word(start.key.endpoint), decided.verdict.word(), decided.took);
                let decision = self.lanes.finished(&start, &decided.verdict, now, fastrand::f64(), decided.terms);
                for held_up in &decision.held_up {
                    self.waiters.not_soon(held_up.planned_at);
                }
                if decision.disable {
                    self.disable(&start.key);
                }
                self.tell(&start, &decided, &decision);
                self.note(Record::of(start, decided, decision));
            }
        }
    }

    /// Has a record written down.
    fn note(&mut self, record: Record) {
        self.unwritten += 1;
        // Nobody listens only where this does not run.
        let _stopped = self.records.send(record);
    }

    /// An endpoint that says that it is gone is not called any more, until somebody enables it.
    fn disable(&mut self, key: &EndpointKey) {
        let EndpointKey { channel_id: channel, endpoint } = key.clone();
        tracing::error!(channel, ?endpoint, "the webhook says that it is gone; nothing is delivered to it until it is enabled");
        self.lanes.changed(key, false, Instant::now());
        let Some(etag) = self.etags.get(&channel).cloned() else { return };
        let (channels, stop) = (self.sender.channels.clone(), self.stop.clone());
        self.writing.spawn(async move {
            while let Err(error) = channels.disable(&channel, endpoint, &etag, DisabledReason::Gone).await {
                tracing::warn!(channel, error = &error as &dyn std::error::Error, "that a webhook is gone cannot be stored yet");
                tokio::select! {
                    () = sleep(PATIENCE) => {}
                    () = stop.cancelled() => return,
                }
            }
        });
    }

    fn tell(&self, start: &Start, decided: &Decided, decision: &Decision) {
        let (channel, attempt) = (&start.key.channel_id, &decided.attempt);
        let message = decided.stored.id();
        let state = decision.state.as_str_name();
        let (status, failure, millis) = (attempt.status, &attempt.failure, attempt.millis);
        if decision.state == DeliveryState::Failed {
            tracing::warn!(channel, message, status, failure, attempts = decision.attempts, "a message is given up");
        } else {
            let typing = decided.terms.once;
            tracing::debug!(channel, message, state, status, failure, millis, typing, "an attempt has ended");
        }
    }

    fn channels_changed(&mut self, snapshot: &Snapshot) {
        let now = Instant::now();
        let keys: Vec<_> = self.lanes.endpoints().cloned().collect();
        let mut etags = HashMap::with_capacity(self.etags.len());
        for key in keys {
            let etag = snapshot.by_id(&key.channel_id).map(|channel| channel.etag.clone()).unwrap_or_default();
            if self.etags.get(&key.channel_id) != Some(&etag) {
                self.lanes.changed(&key, is_enabled(&key, snapshot), now);
            }
            etags.insert(key.channel_id, etag);
        }
        self.etags = etags;
    }
}

/// The word for a webhook of a channel.
const fn word(endpoint: Endpoint) -> &'static str {
    match endpoint {
        Endpoint::Bot => "bot",
        Endpoint::Connector | Endpoint::Unspecified => "connector",
    }
}

/// True if an endpoint may be called. One that is no longer there may: what is for it finds that out, and is given up.
fn is_enabled(key: &EndpointKey, snapshot: &Snapshot) -> bool {
    let channel = snapshot.by_id(&key.channel_id);
    channel.and_then(|channel| endpoint(channel, key.endpoint)).is_none_or(|endpoint| !endpoint.disabled)
}

/// When the next attempt of a delivery is due.
fn due(delivery: &Delivery) -> Instant {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let due = Duration::from_nanos(u64::try_from(delivery.progress.due).unwrap_or(0));
    Instant::now() + due.saturating_sub(now)
}

/// Nobody aborts a task of a dispatcher that runs: one that did not end has panicked.
fn ended<T>(joined: Result<T, JoinError>) -> T {
    joined.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()))
}
