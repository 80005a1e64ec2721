//! What each part counts. One that nobody shows counts all the same.

use super::histogram::Histogram;
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use std::time::{Duration, SystemTime};

/// Refusals that are told before the first one: nobody sees a number that begins with 1 rise.
const REFUSED: [&str; 4] = ["INVALID_MESSAGE", "STORE_BUSY", "STORE_FULL", "STORE_UNAVAILABLE"];

/// The same of what becomes of deliveries.
const SETTLED: [&str; 4] = ["accepted", "dead", "delivered", "discarded"];

/// Values of labels, with their keys.
pub(super) type Labels<const N: usize> = [(&'static str, &'static str); N];

/// What the inbox counts.
#[derive(Debug)]
pub struct Inbox {
    pub(super) accepted: Counter,
    pub(super) repeated: Counter,
    pub(super) refused: Family<Labels<1>, Counter>,
    pub(super) took: Histogram,
}

impl Default for Inbox {
    fn default() -> Self {
        let (accepted, repeated, refused) = Default::default();
        let inbox = Self { accepted, repeated, refused, took: Histogram::of_times() };
        for reason in REFUSED {
            drop(inbox.refused.get_or_create(&[("reason", reason)]));
        }
        inbox
    }
}

impl Inbox {
    /// A message is accepted: durable, so long after it was received.
    pub fn accepted(&self, took: Duration) {
        self.accepted.inc();
        self.took.took(took);
    }

    /// A message repeats one that was accepted.
    pub fn repeated(&self) {
        self.repeated.inc();
    }

    /// A message is refused.
    pub fn refused(&self, reason: &'static str) {
        self.refused.get_or_create(&[("reason", reason)]).inc();
    }
}

/// What the writer of the log counts.
#[derive(Debug)]
pub struct Log {
    pub(super) entries: Histogram,
    pub(super) bytes: Counter,
    pub(super) took: Histogram,
}

impl Default for Log {
    fn default() -> Self {
        Self { entries: Histogram::of_numbers(), bytes: Counter::default(), took: Histogram::of_times() }
    }
}

impl Log {
    /// So much was written and synced at once.
    pub fn wrote(&self, entries: u32, bytes: u64, took: Duration) {
        self.entries.observe(entries.into());
        self.bytes.inc_by(bytes);
        self.took.took(took);
    }
}

/// What delivery counts.
#[derive(Debug)]
pub struct Delivery {
    pub(super) attempts: Family<Labels<2>, Counter>,
    pub(super) took: Family<Labels<1>, Histogram>,
    pub(super) settled: Family<Labels<1>, Counter>,
    pub(super) in_flight: Gauge,
    pub(super) breakers: Gauge,
    backlog: Mutex<Option<Backlog>>,
}

/// Deliveries that are not settled, and dead letters, when they were last counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Those that are attempted in their turn.
    pub pending: u64,
    /// Those that go their own way.
    pub parked: u64,
    /// Those that wait until somebody releases them.
    pub held: u64,
    /// Dead letters.
    pub dead: u64,
    /// When the oldest pending one was planned.
    pub since: Option<SystemTime>,
}

impl Default for Delivery {
    fn default() -> Self {
        let (attempts, settled, in_flight, breakers, backlog) = Default::default();
        let took = Family::new_with_constructor(Histogram::of_times as fn() -> Histogram);
        let delivery = Self { attempts, took, settled, in_flight, breakers, backlog };
        for state in SETTLED {
            drop(delivery.settled.get_or_create(&[("state", state)]));
        }
        delivery
    }
}

impl Delivery {
    /// An attempt has ended with a verdict. `took` is how long the webhook took, if it was called.
    pub fn attempted(&self, endpoint: &'static str, verdict: &'static str, took: Option<Duration>) {
        self.attempts.get_or_create(&[("endpoint", endpoint), ("verdict", verdict)]).inc();
        if let Some(took) = took {
            self.took.get_or_create(&[("endpoint", endpoint)]).took(took);
        }
    }

    /// A delivery is settled, durably.
    pub fn settled(&self, state: &'static str) {
        self.settled.get_or_create(&[("state", state)]).inc();
    }

    /// So many attempts are under way, and so many breakers open.
    pub fn goes_on(&self, in_flight: usize, breakers: usize) {
        self.in_flight.set(number(in_flight));
        self.breakers.set(number(breakers));
    }

    /// What is not settled was counted.
    pub fn found(&self, backlog: Backlog) {
        *self.backlog.lock() = Some(backlog);
    }

    /// What was counted last; none if nothing was yet.
    pub(super) fn backlog(&self) -> Option<Backlog> {
        *self.backlog.lock()
    }
}

/// What the feed counts.
#[derive(Debug, Default)]
pub struct Feed {
    pub(super) sent: Counter,
    pub(super) live: Gauge,
}

impl Feed {
    /// A notification goes out.
    pub fn sent(&self) {
        self.sent.inc();
    }

    /// A stream has caught up.
    pub fn joined(&self) {
        self.live.inc();
    }

    /// A stream that had caught up has fallen behind, or has ended.
    pub fn left(&self) {
        self.live.dec();
    }
}

/// What the expiry of sessions counts.
#[derive(Debug, Default)]
pub struct Expiry {
    pub(super) watched: Gauge,
}

impl Expiry {
    /// So many sessions may expire.
    pub fn watched(&self, sessions: usize) {
        self.watched.set(number(sessions));
    }
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
