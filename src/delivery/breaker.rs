//! The breaker of an endpoint: while nothing gets through, nothing is tried, but for one probe now and then.

use super::schedule::Schedule;
use std::time::Duration;
use tokio::time::Instant;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Breaker {
    state: State,
    /// Failures of the endpoint since anything got through.
    failures: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// All goes through.
    Closed,
    /// Nothing does until then; after that one probe.
    Open { until: Instant },
    /// A probe is under way.
    Probing,
}

/// When a breaker opens, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BreakerRules {
    /// Failures in a row that open it.
    pub(super) failures: u32,
    /// How long it stays open: the first time, and after each probe that fails.
    pub(super) pauses: Schedule,
}

impl Breaker {
    /// A breaker that lets all through.
    pub(super) const CLOSED: Self = Self { state: State::Closed, failures: 0 };

    /// True while attempts are made as they come.
    pub(super) fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// True if an attempt may begin now.
    pub(super) fn admits(&self, now: Instant) -> bool {
        match self.state {
            State::Closed => true,
            State::Open { until } => now >= until,
            State::Probing => false,
        }
    }

    /// When it lets a probe through; none if it need not be waited for.
    pub(super) fn opens_again(&self) -> Option<Instant> {
        match self.state {
            State::Open { until } => Some(until),
            State::Closed | State::Probing => None,
        }
    }

    /// An attempt begins, which it admitted. True if it is a probe.
    pub(super) fn begin(&mut self) -> bool {
        let probes = matches!(self.state, State::Open { .. });
        if probes {
            self.state = State::Probing;
        }
        probes
    }

    /// Something got through.
    pub(super) fn worked(&mut self) {
        *self = Self::CLOSED;
    }

    /// A probe ended without telling anything of the endpoint: the next attempt is one.
    pub(super) fn undecided(&mut self, now: Instant) {
        if self.state == State::Probing {
            self.state = State::Open { until: now };
        }
    }

    /// The endpoint failed in an attempt that was begun while the breaker was closed, or that was a probe.
    pub(super) fn failed(&mut self, rules: &BreakerRules, now: Instant, chance: f64, retry_after: Option<Duration>) {
        self.failures = self.failures.saturating_add(1);
        let opens = match self.state {
            // Others were under way when it opened.
            State::Open { .. } => false,
            State::Probing => true,
            // Who asks to be left alone is left alone.
            State::Closed => self.failures >= rules.failures || retry_after.is_some(),
        };
        if opens {
            let times = self.failures.saturating_sub(rules.failures).saturating_add(1);
            self.state = State::Open { until: now + rules.pauses.wait(times, chance, retry_after) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn rules() -> BreakerRules {
        BreakerRules { failures: 3, pauses: Schedule::new(vec![seconds(10), seconds(20)]) }
    }

    fn failing(times: u32, now: Instant) -> Breaker {
        let mut breaker = Breaker::CLOSED;
        (0..times).for_each(|_| breaker.failed(&rules(), now, 0.5, None));
        breaker
    }

    #[test]
    fn it_opens_after_so_many_failures_in_a_row() {
        let now = Instant::now();
        assert!(failing(2, now).admits(now));
        let mut breaker = failing(2, now);
        breaker.worked();
        breaker.failed(&rules(), now, 0.5, None);
        assert!(breaker.admits(now), "what got through counts the failures anew");
        let breaker = failing(3, now);
        assert!(!breaker.admits(now) && !breaker.admits(now + seconds(9)));
        assert_eq!(breaker.opens_again(), Some(now + seconds(10)));
    }

    #[test]
    fn it_lets_one_probe_through_and_waits_longer_after_each_that_fails() {
        let now = Instant::now();
        let mut breaker = failing(3, now);
        let now = now + seconds(10);
        assert!(breaker.admits(now));
        assert!(breaker.begin(), "it is a probe");
        assert!(!breaker.admits(now + seconds(100)), "one at a time");
        breaker.failed(&rules(), now, 0.5, None);
        assert_eq!(breaker.opens_again(), Some(now + seconds(20)));
        assert!(breaker.begin());
        breaker.worked();
        assert!(breaker.is_closed() && !breaker.begin());
    }

    #[test]
    fn failures_that_were_under_way_when_it_opened_do_not_prolong_it() {
        let now = Instant::now();
        let mut breaker = failing(3, now);
        breaker.failed(&rules(), now + seconds(5), 0.5, None);
        assert_eq!(breaker.opens_again(), Some(now + seconds(10)));
    }

    #[test]
    fn an_endpoint_that_asks_to_be_left_alone_is_left_alone_at_once() {
        let now = Instant::now();
        let mut breaker = Breaker::CLOSED;
        breaker.failed(&rules(), now, 0.0, Some(seconds(90)));
        assert_eq!(breaker.opens_again(), Some(now + seconds(90)));
    }

    #[test]
    fn a_probe_that_tells_nothing_is_followed_by_another() {
        let now = Instant::now();
        let mut breaker = failing(3, now);
        breaker.begin();
        breaker.undecided(now + seconds(10));
        assert!(breaker.admits(now + seconds(10)) && breaker.begin());
    }
}
