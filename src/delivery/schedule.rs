//! When to try again.

use std::time::Duration;

/// The waits between attempts: the first after the first failure, and so on; the last one again and again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Schedule(Vec<Duration>);

/// A wait is this part of itself shorter or longer at most, by chance: what failed at once is not to come again at once.
const JITTER: f64 = 0.2;

impl Schedule {
    /// The schedule of these waits.
    ///
    /// # Panics
    ///
    /// If there are none; the configuration sees to that.
    pub(super) fn new(waits: Vec<Duration>) -> Self {
        assert!(!waits.is_empty(), "a schedule has a wait");
        Self(waits)
    }

    /// Each wait twice the one before, from `first` to `longest`.
    pub(super) fn doubling(first: Duration, longest: Duration) -> Self {
        let doubled = std::iter::successors(Some(first), |wait| wait.checked_mul(2));
        let mut waits: Vec<_> = doubled.take(64).take_while(|wait| *wait < longest).collect();
        waits.push(longest);
        Self(waits)
    }

    /// How long to wait after the attempt number `failed` has failed; 1 is the first. `chance` is between 0 and 1. A receiver that asks
    /// for more gets it.
    pub(super) fn wait(&self, failed: u32, chance: f64, retry_after: Option<Duration>) -> Duration {
        let index = (failed.max(1) as usize - 1).min(self.0.len() - 1);
        let wait = self.0[index].mul_f64(1.0 + JITTER * (2.0 * chance.clamp(0.0, 1.0) - 1.0));
        // A little more than asked for: all who were asked would come at the same instant.
        let asked = retry_after.map_or(Duration::ZERO, |asked| asked.mul_f64(1.0 + JITTER * chance.clamp(0.0, 1.0)));
        wait.max(asked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_last_wait_comes_again_and_again() {
        let schedule = Schedule::new(vec![seconds(1), seconds(5), seconds(60)]);
        let waits = [0, 1, 2, 3, 4, u32::MAX].map(|failed| schedule.wait(failed, 0.5, None));
        assert_eq!(waits, [1, 1, 5, 60, 60, 60].map(seconds));
    }

    #[test]
    fn waits_double_up_to_the_longest() {
        assert_eq!(Schedule::doubling(seconds(1), seconds(6)).0, [1, 2, 4, 6].map(seconds));
        assert_eq!(Schedule::doubling(seconds(9), seconds(6)).0, [seconds(6)]);
        assert_eq!(Schedule::doubling(Duration::ZERO, seconds(6)).0.last(), Some(&seconds(6)));
    }

    proptest! {
        #[test]
        fn a_wait_is_never_far_from_the_schedule_and_never_less_than_asked_for(
            failed in 0_u32..20,
            chance in 0.0..=1.0,
            asked in proptest::option::of(0_u64..100_000),
        ) {
            let schedule = Schedule::new(vec![seconds(10), seconds(100)]);
            let plain = if failed <= 1 { seconds(10) } else { seconds(100) };
            let wait = schedule.wait(failed, chance, asked.map(seconds));
            prop_assert!(wait >= plain.mul_f64(0.799));
            prop_assert!(wait >= seconds(asked.unwrap_or(0)));
            prop_assert!(wait <= plain.mul_f64(1.201).max(seconds(asked.unwrap_or(0)).mul_f64(1.201)));
        }
    }
}
