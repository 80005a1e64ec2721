//! Delivery: what is planned in the log is sent to webhooks, and what becomes of it is appended to the log.
//!
//! ```text
//! log ─► dispatcher ─► lanes: what is attempted next ─► attempt ─► verdict ─► outcome ─► log
//!            ▲                                                        │          └─► waiters: who sent it and waits
//!            └────────────────────── what comes next ─────────────────┘
//! ```
//!
//! The log is the queue. What is in memory can be lost at any instant: another process finds what is open in the log, and goes on. So
//! a message is delivered at least once, with the same id on every attempt, and a message is first attempted only after every earlier
//! one of its lane has been delivered, given up or parked.
//!
//! Beside that, connectors are told what their channels have for them: [`Configurations`].

mod answer;
mod attempt;
mod attempts;
mod bot;
mod breaker;
mod census;
mod configurations;
mod desk;
mod dispatcher;
mod lanes;
mod outcome;
mod overdue;
mod record;
mod recorder;
mod schedule;
mod verdict;
mod webhooks;

pub use census::Census;
pub use configurations::Configurations;
pub use desk::{AT_ONCE, DeliveryPage, Desk, Shown, Which};
pub use dispatcher::Dispatcher;

use breaker::BreakerRules;
use lanes::Rules;
use schedule::Schedule;
use std::time::Duration;
use tokio::task::JoinError;

/// How messages are delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Waits between the attempts of one message; the last one again and again. Not empty.
    pub retries: Vec<Duration>,
    /// How long a message that fails may hold up those that follow it in its lane.
    pub hold: Duration,
    /// Most messages of a lane that go their own way; then the lane is held up.
    pub parked: usize,
    /// Age at which a message is given up.
    pub max_age: Duration,
    /// Most attempts at a time on one endpoint.
    pub in_flight: usize,
    /// Most attempts at a time in all.
    pub in_flight_in_all: usize,
    /// Most messages of a lane in memory.
    pub lane_window: usize,
    /// Failures in a row that open an endpoint's breaker.
    pub breaker_failures: u32,
    /// How long a breaker stays open at first; twice as long after each probe that fails.
    pub breaker_pause: Duration,
    /// Longest that a breaker stays open.
    pub breaker_longest_pause: Duration,
    /// Messages in a row that an endpoint answers with 410 before it is disabled.
    pub gone: usize,
    /// Bytes of an answer that are kept for people to read.
    pub excerpt: usize,
}

impl Settings {
    fn rules(&self) -> Rules {
        Rules {
            retries: Schedule::new(self.retries.clone()),
            hold: self.hold,
            parked: self.parked,
            in_flight: self.in_flight,
            in_flight_in_all: self.in_flight_in_all,
            lane_window: self.lane_window,
            breaker: BreakerRules {
                failures: self.breaker_failures,
                pauses: Schedule::doubling(self.breaker_pause, self.breaker_longest_pause),
            },
            gone: self.gone,
        }
    }
}

/// What a task gave. Nobody aborts one that is waited for: if it did not end, it has panicked.
fn ended<T>(joined: Result<T, JoinError>) -> T {
    joined.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()))
}
