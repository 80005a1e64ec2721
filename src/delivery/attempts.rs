//! Attempts under way. Whoever has made one makes the next that may begin, so that nobody else has to be woken for it; the dispatcher
//! sees to what this leaves over.

use super::attempt::{Decided, End, Ended, Sender};
use super::lanes::{Decision, EndpointKey, Lanes, Start, Terms};
use super::record::Record;
use super::verdict::Verdict;
use crate::metrics;
use crate::outcomes::Waiters;
use crate::pb::store::{DeliveryState, Endpoint};
use parking_lot::{Mutex, MutexGuard};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use tokio::task::coop::consume_budget;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Wait before a store that failed is asked again.
pub(super) const PATIENCE: Duration = Duration::from_millis(500);

/// See the module.
#[derive(Debug)]
pub(super) struct Attempts {
    pub(super) sender: Arc<Sender>,
    pub(super) waiters: Waiters,
    pub(super) lanes: Mutex<Lanes>,
    /// What they have led to, to be written down.
    pub(super) records: mpsc::UnboundedSender<Record>,
    /// Records that are not written down yet.
    pub(super) unwritten: AtomicUsize,
    /// Endpoints that say that they are gone.
    pub(super) gone: mpsc::UnboundedSender<Arc<EndpointKey>>,
    /// Told when there is something to do for the dispatcher.
    pub(super) news: Notify,
    pub(super) metrics: Arc<metrics::Delivery>,
    /// No attempt begins after it.
    pub(super) stop: CancellationToken,
}

impl Attempts {
    /// The lanes. Not to be held for long: every attempt waits for them.
    pub(super) fn lanes(&self) -> MutexGuard<'_, Lanes> {
        self.lanes.lock()
    }

    /// The attempt to begin next; none if none may begin now.
    pub(super) fn next(&self) -> Option<Start> {
        let mut lanes = self.lanes();
        // A store that cannot keep up with the outcomes is not given more of them.
        let keeps_up = self.unwritten.load(Ordering::Relaxed) < self.sender.settings.in_flight_in_all;
        let may_begin = keeps_up && !self.stop.is_cancelled();
        let next = may_begin.then(|| lanes.next(Instant::now())).flatten();
        self.metrics.goes_on(lanes.in_flight(), lanes.broken());
        if may_begin && lanes.has_news() {
            self.news.notify_one();
        }
        next
    }

    /// Makes an attempt, and the next, until none may begin.
    pub(super) async fn run(self: Arc<Self>, first: Start) {
        let mut next = Some(first);
        while let Some(start) = next {
            let ended = self.sender.attempt(start).await;
            self.ended(ended);
            // There may be many that need not wait for anybody.
            consume_budget().await;
            next = self.next();
        }
    }

    pub(super) fn ended(&self, Ended { start, end }: Ended) {
        let now = Instant::now();
        match end {
            End::Postponed => self.lanes().postponed(&start, now, now + PATIENCE),
            End::Settled => {
                // Who waits is not told: whoever has settled it knows what became of it.
                self.waiters.not_soon(start.delivery.id.planned_at);
                self.lanes().finished(&start, &Verdict::NotCalled, now, 0.0, Terms::default());
            }
            End::Lost => {
                let (channel, delivery) = (&start.key.channel_id, start.delivery.id);
                tracing::error!(channel, ?delivery, "a delivery is given up, for the log has its message no more");
                self.lanes().finished(&start, &Verdict::NotCalled, now, 0.0, Terms::default());
                self.note(Record::given_up(start.delivery, None));
            }
            End::Decided(decided) => {
                self.metrics.attempted(word(start.key.endpoint), decided.verdict.word(), decided.took);
                let decision = self.lanes().finished(&start, &decided.verdict, now, fastrand::f64(), decided.terms);
                for held_up in &decision.held_up {
                    self.waiters.not_soon(held_up.planned_at);
                }
                if decision.disable {
                    // Not called any more from now on; the dispatcher sees to it that this lasts.
                    self.lanes().changed(&start.key, false, now);
                    let _stopped = self.gone.send(start.key.clone());
                }
                tell(&start, &decided, &decision);
                self.note(Record::of(start.delivery, decided, decision));
            }
        }
    }

    /// So many more records are written down, or given up.
    pub(super) fn are_written(&self, count: usize) {
        self.unwritten.fetch_sub(count, Ordering::Relaxed);
    }

    /// Has a record written down.
    pub(super) fn note(&self, record: Record) {
        self.unwritten.fetch_add(1, Ordering::Relaxed);
        // Nobody listens only where the dispatcher does not run.
        let _stopped = self.records.send(record);
    }
}

fn tell(start: &Start, decided: &Decided, decision: &Decision) {
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

/// The word for a webhook of a channel.
const fn word(endpoint: Endpoint) -> &'static str {
    match endpoint {
        Endpoint::Bot => "bot",
        Endpoint::Connector | Endpoint::Unspecified => "connector",
    }
}
