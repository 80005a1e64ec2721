//! Which sessions are due to expire. Pure: it is told what happens, and what time it is, in seconds of a clock that only goes forward.
//!
//! A customer who is active moves no timer: that only notes until when the session has time. A timer that goes off looks there, and is
//! set again if there is time left. So a message costs a look into a table, and each session has one timer, however much is said.

use std::collections::{BTreeMap, HashMap};
use uuid::Uuid;

/// A session that was due and is still there is due again after this time: it could not be ended then.
const AGAIN: u32 = 10;

/// The timers of the sessions that are active.
#[derive(Debug, Default)]
pub(super) struct Timers {
    sessions: HashMap<Uuid, Watched>,
    /// Timers by the second at which they go off.
    wheel: BTreeMap<u32, Vec<Uuid>>,
}

#[derive(Debug, Clone, Copy)]
struct Watched {
    /// When its customer was last active, as the log tells it, in nanoseconds since 1970.
    last_activity: i64,
    /// Until when it has time.
    due: u32,
    /// When its timer goes off. What is in the wheel at another second is no timer any more.
    timer: u32,
}

impl Timers {
    /// An active session is told, whose customer was last active at `last_activity`; it is due at `due` if that is news.
    pub(super) fn told(&mut self, id: Uuid, last_activity: i64, due: u32) {
        match self.sessions.get_mut(&id) {
            Some(known) if known.last_activity == last_activity => {}
            // Its timer goes off in time, and is set again then.
            Some(known) if known.timer <= due => (known.last_activity, known.due) = (last_activity, due),
            _ => {
                self.sessions.insert(id, Watched { last_activity, due, timer: due });
                self.wheel.entry(due).or_default().push(id);
            }
        }
    }

    /// A session has ended, or is none to watch.
    pub(super) fn ended(&mut self, id: &Uuid) {
        // Its timer finds nothing when it goes off.
        self.sessions.remove(id);
    }

    /// At most `most` sessions that are due at `now`, each with the last activity that it is due for. They stay: whatever is not told
    /// to have ended is due again after some time.
    pub(super) fn due(&mut self, now: u32, most: usize) -> Vec<(Uuid, i64)> {
        let mut due = Vec::new();
        while due.len() < most
            && let Some(mut second) = self.wheel.first_entry().filter(|second| *second.key() <= now)
        {
            let timer = *second.key();
            let Some(id) = second.get_mut().pop() else {
                second.remove();
                continue;
            };
            let Some(watched) = self.sessions.get_mut(&id).filter(|watched| watched.timer == timer) else { continue };
            if watched.due <= now {
                due.push((id, watched.last_activity));
                watched.due = now.saturating_add(AGAIN);
            }
            watched.timer = watched.due;
            self.wheel.entry(watched.timer).or_default().push(id);
        }
        due
    }

    /// How many sessions are watched.
    pub(super) fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Bytes that they take, but for what the allocator adds.
    #[cfg(test)]
    fn bytes(&self) -> usize {
        // A table has a byte beside each place, and fills seven of eight places at most.
        let table = self.sessions.capacity() * 8 / 7 * (size_of::<(Uuid, Watched)>() + 1);
        let seconds = self.wheel.values().map(|second| second.capacity() * size_of::<Uuid>() + 64).sum::<usize>();
        table + seconds
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(number: u128) -> Uuid {
        Uuid::from_u128(number)
    }

    fn due(timers: &mut Timers, now: u32) -> Vec<u128> {
        let mut due: Vec<_> = timers.due(now, usize::MAX).iter().map(|(id, _)| id.as_u128()).collect();
        due.sort_unstable();
        due
    }

    #[test]
    fn a_session_is_due_when_its_time_is_over_and_activity_gives_it_more() {
        let mut timers = Timers::default();
        timers.told(id(1), 100, 10);
        timers.told(id(2), 100, 10);
        // What others say of it is no activity of its customer.
        timers.told(id(1), 100, 15);
        timers.told(id(2), 150, 15);
        assert_eq!(due(&mut timers, 9), []);
        assert_eq!(due(&mut timers, 10), [1]);
        assert_eq!(due(&mut timers, 14), []);
        assert_eq!(timers.due(15, 9), [(id(2), 150)]);
    }

    #[test]
    fn what_could_not_be_ended_is_due_again_and_what_has_ended_never() {
        let mut timers = Timers::default();
        timers.told(id(1), 100, 10);
        timers.told(id(2), 100, 10);
        assert_eq!(due(&mut timers, 10), [1, 2]);
        timers.ended(&id(2));
        assert_eq!(due(&mut timers, 10 + AGAIN - 1), []);
        assert_eq!(due(&mut timers, 10 + AGAIN), [1]);
        timers.ended(&id(1));
        assert_eq!(due(&mut timers, u32::MAX), []);
        assert!(timers.wheel.is_empty());
    }

    #[test]
    fn no_more_than_asked_for_are_due_at_once() {
        let mut timers = Timers::default();
        (0..10).for_each(|number| timers.told(id(number), 0, 5));
        let at_once: Vec<_> = (0..5).map(|_| timers.due(5, 3).len()).collect();
        assert_eq!(at_once, [3, 3, 3, 1, 0]);
    }

    #[test]
    fn a_shorter_time_than_before_counts_at_once() {
        let mut timers = Timers::default();
        timers.told(id(1), 100, 1000);
        timers.told(id(1), 200, 20);
        assert_eq!(due(&mut timers, 20), [1]);
        timers.told(id(1), 300, 40);
        assert_eq!(due(&mut timers, 39), []);
        assert_eq!(due(&mut timers, 40), [1]);
        timers.ended(&id(1));
        assert_eq!(due(&mut timers, 2000), []);
        assert!(timers.wheel.is_empty());
    }

    /// The figure stands in docs/performance.md.
    #[test]
    fn a_million_sessions_fit_into_90_mib() {
        let mut timers = Timers::default();
        for number in 0..1_000_000_u32 {
            timers.told(Uuid::now_v7(), i64::from(number), 600 + number % 600);
        }
        let mib = timers.bytes() >> 20;
        assert!((40..=90).contains(&mib), "{mib} MiB");
    }

    proptest! {
        #[test]
        fn every_session_is_due_once_its_own_time_is_over(events in proptest::collection::vec((0..4_u128, 0..3_u8, 1..30_u32), 1..80)) {
            let (mut timers, mut model, mut now) = (Timers::default(), HashMap::new(), 0);
            for (activity, (number, what, seconds)) in (1_i64..).zip(events) {
                match what {
                    0 => {
                        timers.told(id(number), activity, now + seconds);
                        model.insert(number, now + seconds);
                    }
                    1 => {
                        timers.ended(&id(number));
                        model.remove(&number);
                    }
                    _ => {
                        now += seconds;
                        let mut expected: Vec<_> =
                            model.iter().filter(|(_, due)| **due <= now).map(|(number, _)| *number).collect();
                        expected.sort_unstable();
                        prop_assert_eq!(due(&mut timers, now), expected.clone());
                        for number in expected {
                            model.insert(number, now + AGAIN);
                        }
                    }
                }
            }
        }
    }
}
