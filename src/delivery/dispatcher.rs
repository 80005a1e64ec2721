//! The dispatcher: follows the log, begins attempts, and writes down what they have led to. All that it decides, [`super::lanes`]
//! decides.

#[cfg(test)]
mod tests;

use super::attempt::Sender;
use super::attempts::{Attempts, PATIENCE};
use super::census::Census;
use super::desk::{Desk, Ruling};
use super::lanes::{EndpointKey, Lanes, Prospect};
use super::overdue::Overdue;
use super::record::Record;
use super::recorder::{Recorder, Written};
use super::webhooks::{Webhooks, endpoint};
use super::{Settings, ended};
use crate::channels::{Channels, Snapshot};
use crate::message::Limits;
use crate::metrics;
use crate::outcomes::Waiters;
use crate::pb::DisabledReason;
use crate::store::{self, Deliveries, Delivery, DeliveryId, Store, Wanted};
use crate::webhook::Client;
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

/// Deliveries that are read from the log at once.
const PAGE: usize = 512;

/// See the module.
#[derive(Debug)]
pub struct Dispatcher {
    sender: Arc<Sender>,
    attempts: Arc<Attempts>,
    /// Those who make attempts; they end with the dispatcher.
    under_way: JoinSet<()>,
    /// Up to here the log was followed.
    followed: DeliveryId,
    /// True if the log is known to have more.
    behind: bool,
    /// The etags of the channels whose endpoints are known to the lanes.
    etags: HashMap<String, String>,
    /// Endpoints that say that they are gone.
    gone: mpsc::UnboundedReceiver<Arc<EndpointKey>>,
    /// Who writes down what attempts have led to, and what is to be written; none once it runs.
    recorder: Option<(Recorder, mpsc::UnboundedReceiver<Record>)>,
    /// How many more records are written down.
    written: mpsc::UnboundedReceiver<Written>,
    /// Deliveries that are given up, of which that is not written down yet.
    given_up: HashSet<DeliveryId>,
    /// Everything that is being written down.
    writing: JoinSet<()>,
    /// What somebody has decided at the desk.
    rulings: mpsc::UnboundedReceiver<Ruling>,
    ruling: mpsc::UnboundedSender<Ruling>,
    overdue: Overdue,
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
        let sender = Arc::new(Sender { store, channels, client, webhooks: Webhooks::default(), settings });
        let metrics = Arc::<metrics::Delivery>::default();
        let (records, to_write) = mpsc::unbounded_channel();
        let (done, written) = mpsc::unbounded_channel();
        let (goes, gone) = mpsc::unbounded_channel();
        let (ruling, rulings) = mpsc::unbounded_channel();
        let recorder = Recorder {
            sender: sender.clone(),
            waiters: waiters.clone(),
            limits,
            metrics: metrics.clone(),
            done,
            stop: stop.clone(),
        };
        let attempts = Attempts {
            sender: sender.clone(),
            waiters,
            lanes: Mutex::new(lanes),
            records,
            unwritten: AtomicUsize::new(0),
            gone: goes,
            news: Notify::new(),
            metrics,
            stop: stop.clone(),
        };
        let (under_way, etags, writing, given_up) = Default::default();
        Self {
            overdue: Overdue::new(sender.clone()),
            sender,
            attempts: Arc::new(attempts),
            under_way,
            followed: DeliveryId::NONE,
            behind: true,
            etags,
            gone,
            recorder: Some((recorder, to_write)),
            written,
            given_up,
            writing,
            rulings,
            ruling,
            stop,
        }
    }

    /// The same, counting by `metrics`.
    pub fn counting(mut self, metrics: Arc<metrics::Delivery>) -> Self {
        if let Some((recorder, _)) = &mut self.recorder {
            recorder.metrics = metrics.clone();
        }
        // Nobody shares them before it runs.
        if let Some(attempts) = Arc::get_mut(&mut self.attempts) {
            attempts.metrics = metrics;
        }
        self
    }

    /// What counts now and then what is not settled: run it.
    pub fn census(&self) -> Census {
        Census::new(self.sender.clone(), self.attempts.metrics.clone(), self.stop.clone())
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
        if let Some((recorder, records)) = self.recorder.take() {
            self.writing.spawn(recorder.run(records));
        }
        loop {
            if self.behind {
                self.follow().await;
            }
            if self.overdue.next() <= Instant::now() {
                self.give_up().await;
            }
            self.refill().await;
            let due = self.begin();
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(joined) = self.under_way.join_next() => ended(joined),
                Some(ruling) = self.rulings.recv() => match ruling {
                    Ruling::Discarded(deliveries) => {
                        for delivery in deliveries {
                            self.attempts.waiters.not_soon(delivery.id.planned_at);
                            self.attempts.lanes().discard(&delivery, Instant::now());
                        }
                    }
                    Ruling::Released => self.attempts.lanes().release(Instant::now()),
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
                Some(Written { count, given_up }) = self.written.recv() => {
                    self.attempts.are_written(count);
                    given_up.iter().for_each(|id| _ = self.given_up.remove(id));
                }
                Some(key) = self.gone.recv() => self.disable(&key),
                Some(joined) = self.writing.join_next() => ended(joined),
                () = self.attempts.news.notified() => {}
                () = std::future::ready(()), if self.behind => {}
            }
        }
        while let Some(joined) = self.under_way.join_next().await {
            ended(joined);
        }
        while let Ok(key) = self.gone.try_recv() {
            self.disable(&key);
        }
        // Nothing more comes to be written.
        drop(self.attempts);
        while let Some(joined) = self.writing.join_next().await {
            ended(joined);
        }
    }

    /// Gives up what is too old, and not under way.
    async fn give_up(&mut self) {
        for (delivery, stored) in self.overdue.look().await {
            let is_waiting = self.attempts.lanes().withdraw(&delivery, Instant::now());
            // Once, however often the log is looked through before that is written down.
            if is_waiting && self.given_up.insert(delivery.id) {
                self.attempts.note(Record::given_up(delivery, stored));
            }
        }
    }

    /// A page of what the log has, without what is given up: the log tells that as open until it is written down.
    async fn page(&self, after: DeliveryId, wanted: Wanted) -> Result<Deliveries, store::Error> {
        let mut page = self.sender.store.deliveries(after, wanted, PAGE).await?;
        page.found.retain(|delivery| !self.given_up.contains(&delivery.id));
        Ok(page)
    }

    /// Reads the next page of what is planned.
    async fn follow(&mut self) {
        let found = self.page(self.followed, Wanted::Open).await;
        let Deliveries { found, reached } = match found {
            Ok(found) => found,
            Err(error) => {
                return self.wait_for_store(&error).await;
            }
        };
        let snapshot = self.sender.channels.snapshot();
        for delivery in found {
            let id = delivery.id;
            if delivery.message != id.planned_at {
                self.attempts.waiters.forget(delivery.message);
            }
            let enabled = self.notice(&EndpointKey::of(&delivery), &snapshot);
            let due = due(&delivery);
            let prospect = self.attempts.lanes().arrive(delivery, due, enabled);
            if prospect == Prospect::NotSoon {
                self.attempts.waiters.not_soon(id.planned_at);
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
        let missing = self.attempts.lanes().missing();
        for missing in missing {
            match self.page(missing.after, Wanted::Lane(missing.lane)).await {
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
                    self.attempts.lanes().refilled(&missing, found, reached.min(followed), reached >= followed);
                }
                Err(error) => {
                    self.attempts.lanes().refilled(&missing, Vec::new(), missing.after, false);
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

    /// Begins every attempt that may begin now; when another may is what it returns.
    fn begin(&mut self) -> Option<Instant> {
        self.attempts.lanes().wake(Instant::now());
        while let Some(start) = self.attempts.next() {
            self.under_way.spawn(self.attempts.clone().run(start));
        }
        self.attempts.lanes().await_next_due()
    }

    /// An endpoint that says that it is gone is not called any more, until somebody enables it.
    fn disable(&mut self, key: &EndpointKey) {
        let EndpointKey { channel_id: channel, endpoint } = key.clone();
        tracing::error!(channel, ?endpoint, "the webhook says that it is gone; nothing is delivered to it until it is enabled");
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

    fn channels_changed(&mut self, snapshot: &Snapshot) {
        self.sender.webhooks.keep(snapshot);
        let now = Instant::now();
        let mut lanes = self.attempts.lanes();
        let keys: Vec<_> = lanes.endpoints().cloned().collect();
        let mut etags = HashMap::with_capacity(self.etags.len());
        for key in keys {
            let channel = key.channel_id.clone();
            let etag = snapshot.by_id(&channel).map(|channel| channel.etag.clone()).unwrap_or_default();
            if self.etags.get(&channel) != Some(&etag) {
                lanes.changed(&key, is_enabled(&key, snapshot), now);
            }
            etags.insert(channel, etag);
        }
        drop(lanes);
        self.etags = etags;
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
