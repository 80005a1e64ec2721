use super::*;
use crate::store::Progress;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const SECOND: Duration = Duration::from_secs(1);

fn rules() -> Rules {
    Rules {
        retries: Schedule::new([1, 5, 15, 60].map(Duration::from_secs).to_vec()),
        hold: 30 * SECOND,
        parked: 2,
        in_flight: 2,
        in_flight_in_all: 3,
        lane_window: 4,
        breaker: BreakerRules { failures: 3, pauses: Schedule::new(vec![10 * SECOND]) },
        gone: 3,
    }
}

fn delivery(channel: &str, lane: u64, number: u64) -> Delivery {
    Delivery {
        id: DeliveryId { planned_at: Position(number), endpoint: Endpoint::Connector },
        channel_id: channel.into(),
        lane,
        message: Position(number),
        progress: Progress::PLANNED,
    }
}

/// Lanes, and a clock that stands still unless told.
struct World {
    lanes: Lanes,
    now: Instant,
}

impl World {
    fn new() -> Self {
        Self { lanes: Lanes::new(rules()), now: Instant::now() }
    }

    /// These deliveries arrive, each with a number of its own.
    fn with(deliveries: impl IntoIterator<Item = Delivery>) -> Self {
        let mut world = Self::new();
        for delivery in deliveries {
            world.arrive(delivery);
        }
        world
    }

    fn arrive(&mut self, delivery: Delivery) -> Prospect {
        self.lanes.arrive(delivery, self.now, true)
    }

    /// Everything that may begin now.
    fn begun(&mut self) -> Vec<Start> {
        self.lanes.wake(self.now);
        std::iter::from_fn(|| self.lanes.next(self.now)).collect()
    }

    /// The one attempt that may begin now.
    fn begin(&mut self) -> Start {
        let mut begun = self.begun();
        assert_eq!(begun.len(), 1, "{begun:?}");
        begun.remove(0)
    }

    fn end(&mut self, start: &Start, verdict: Verdict) -> Decision {
        self.lanes.finished(start, &verdict, self.now, 0.5, Terms::default())
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
    }

    /// Goes to the instant at which something is due.
    fn wait_until_due(&mut self) {
        self.now = self.lanes.next_due().expect("something is due").max(self.now);
    }
}

fn numbers(starts: &[Start]) -> Vec<u64> {
    starts.iter().map(|start| start.delivery.id.planned_at.0).collect()
}

const FAILED: Verdict = Verdict::MessageFailed { retry_after: None };
const DOWN: Verdict = Verdict::EndpointFailed { retry_after: None };

/// Every way in which an attempt ends; the first one settles it.
const ENDINGS: [Verdict; 7] =
    [Verdict::Delivered, Verdict::Accepted, FAILED, DOWN, Verdict::Refused, Verdict::Gone, Verdict::NotCalled];

#[test]
fn a_lane_goes_one_by_one_in_order() {
    let mut world = World::with((1..=3).map(|number| delivery("a", 1, number)));
    for number in 1..=3 {
        let start = world.begin();
        assert_eq!(start.delivery.id.planned_at.0, number);
        assert!(world.begun().is_empty(), "one at a time");
        assert_eq!(world.end(&start, Verdict::Delivered).state, DeliveryState::Delivered);
    }
    assert!(world.begun().is_empty());
    assert!(world.lanes.endpoints.iter().all(|state| state.lanes.is_empty()), "nothing is left");
}

#[test]
fn there_is_news_where_more_may_begin_or_is_due_sooner_or_is_to_be_asked_for() {
    let mut world = World::with([delivery("a", 1, 1), delivery("a", 2, 2)]);
    assert!(world.lanes.has_news(), "nobody awaits what is due");
    world.lanes.wake(world.now);
    let first = world.lanes.next(world.now).expect("it may begin");
    assert!(world.lanes.has_news(), "another may begin");
    let second = world.lanes.next(world.now).expect("it may begin");
    assert_eq!(world.lanes.await_next_due(), None);
    assert!(!world.lanes.has_news());
    world.end(&first, FAILED);
    assert!(world.lanes.has_news(), "it is due again");
    assert!(world.lanes.await_next_due().is_some() && !world.lanes.has_news());
    world.end(&second, Verdict::Delivered);
    assert!(!world.lanes.has_news());

    let mut world = World::with((1..=9).map(|number| delivery("a", 1, number)));
    for _ in 1..rules().lane_window {
        let start = world.begin();
        world.lanes.await_next_due();
        world.end(&start, Verdict::Delivered);
        assert_eq!(world.lanes.missing(), []);
    }
    let last = world.begin();
    world.lanes.await_next_due();
    world.end(&last, Verdict::Delivered);
    assert!(world.lanes.has_news(), "the log has more");
}

#[test]
fn lanes_go_side_by_side_within_the_bounds_of_endpoint_and_whole() {
    let of = |channel: &'static str| (1..=3).map(move |lane| delivery(channel, lane, lane));
    let mut world = World::with(of("a").chain(of("b")));
    let begun = world.begun();
    assert_eq!(begun.len(), 3);
    for channel in ["a", "b"] {
        assert!(begun.iter().filter(|start| start.key.channel_id == channel).count() <= 2);
    }
}

#[test]
fn endpoints_take_turns() {
    let mut world = World::with((1..=3).map(|lane| delivery("busy", lane, lane)));
    let first = world.begun();
    assert_eq!(first.len(), 2);
    world.arrive(delivery("other", 1, 9));
    let other = world.begin();
    assert_eq!(other.key.channel_id, "other", "it does not wait for the busy one");
}

#[test]
fn a_message_that_fails_holds_its_lane_up_and_is_parked_then() {
    let mut world = World::with((1..=2).map(|number| delivery("a", 1, number)));
    let mut attempts = 0;
    let began = world.now;
    loop {
        let start = world.begin();
        assert_eq!(start.delivery.id.planned_at.0, 1);
        let decision = world.end(&start, FAILED);
        attempts += 1;
        assert_eq!(decision.attempts, attempts);
        if decision.state == DeliveryState::Parked {
            break;
        }
        assert_eq!(decision.state, DeliveryState::Pending);
        assert_eq!(decision.held_up, [DeliveryId { planned_at: Position(2), endpoint: Endpoint::Connector }]);
        assert!(world.begun().is_empty(), "it is not due yet");
        world.wait_until_due();
    }
    assert!(world.now - began <= rules().hold);
    let second = world.begin();
    assert_eq!(second.delivery.id.planned_at.0, 2);
    world.end(&second, Verdict::Delivered);
    world.wait(60 * SECOND);
    let late = world.begin();
    assert_eq!((late.delivery.id.planned_at.0, late.delivery.progress.state), (1, DeliveryState::Parked));
    world.end(&late, Verdict::Delivered);
    assert!(world.begun().is_empty());
}

/// Lets the head of the lane fail until it is parked, or until it holds the lane up beyond its time.
fn fail_head(world: &mut World, terms: Terms) -> DeliveryState {
    loop {
        let start = world.begin();
        let decision = world.lanes.finished(&start, &FAILED, world.now, 0.5, terms);
        let holds_on = decision.due.is_some_and(|due| due - world.now >= 60 * SECOND);
        if decision.state == DeliveryState::Parked || holds_on {
            return decision.state;
        }
        world.wait_until_due();
    }
}

#[test]
fn a_lane_with_too_many_parked_is_held_up() {
    let mut world = World::with((1..=4).map(|number| delivery("a", 1, number)));
    assert_eq!(fail_head(&mut world, Terms::default()), DeliveryState::Parked);
    assert_eq!(fail_head(&mut world, Terms::default()), DeliveryState::Parked);
    assert_eq!(fail_head(&mut world, Terms::default()), DeliveryState::Pending);
}

#[test]
fn a_strict_channel_parks_nothing() {
    let mut world = World::with((1..=2).map(|number| delivery("a", 1, number)));
    assert_eq!(fail_head(&mut world, Terms { strict: true, ..Terms::default() }), DeliveryState::Pending);
    assert!(world.begun().is_empty());
}

#[test]
fn an_endpoint_that_fails_stops_its_lanes_in_place_and_uses_up_no_attempts() {
    let mut world = World::with((1..=5).map(|lane| delivery("down", lane, lane)).chain([delivery("up", 1, 9)]));
    let mut failures = 0;
    while failures < 3 {
        for start in world.begun() {
            if start.key.channel_id == "up" {
                world.end(&start, Verdict::Delivered);
                continue;
            }
            let decision = world.end(&start, DOWN);
            assert_eq!((decision.state, decision.attempts), (DeliveryState::Pending, 0));
            failures += 1;
        }
        if failures < 3 {
            world.wait_until_due();
        }
    }
    world.wait(9 * SECOND);
    assert!(world.begun().is_empty(), "the breaker is open");
    world.arrive(delivery("up", 2, 10));
    let other = world.begin();
    world.end(&other, Verdict::Delivered);
    world.wait(2 * SECOND);
    let probe = world.begin();
    world.end(&probe, Verdict::Delivered);
    assert_eq!(world.begun().len(), 2, "all go on");
}

#[test]
fn a_delivery_that_arrives_at_an_endpoint_that_fails_has_no_outcome_soon() {
    let mut world = World::with((1..=3).map(|lane| delivery("down", lane, lane)));
    assert_eq!(world.arrive(delivery("down", 9, 9)), Prospect::Soon);
    let mut failures = 0;
    while failures < 3 {
        for start in world.begun() {
            let decision = world.end(&start, DOWN);
            failures += 1;
            assert_eq!(decision.held_up.is_empty(), failures != 3, "all that wait are held up when the breaker opens");
        }
        world.wait(SECOND);
    }
    assert_eq!(world.arrive(delivery("down", 10, 10)), Prospect::NotSoon);
}

#[test]
fn an_endpoint_that_is_gone_is_told_after_three_messages_in_a_row() {
    let mut world = World::with((1..=5).map(|number| delivery("a", 1, number)));
    let mut disable = Vec::new();
    for verdict in [Verdict::Gone, Verdict::Delivered, Verdict::Gone, Verdict::Gone, Verdict::Gone] {
        // The window of the lane is smaller than this.
        let Some(start) = world.begun().pop() else { break };
        disable.push(world.end(&start, verdict).disable);
    }
    assert_eq!(disable, [false; 4]);
    let mut world = World::with((1..=4).map(|lane| delivery("a", lane, lane)));
    let mut told = Vec::new();
    while told.len() < 3 {
        for start in world.begun() {
            told.push(world.end(&start, Verdict::Gone).disable);
        }
    }
    assert_eq!(told[..3], [false, false, true]);
    let key = EndpointKey { channel_id: "a".into(), endpoint: Endpoint::Connector };
    world.lanes.changed(&key, false, world.now);
    assert!(world.begun().is_empty());
    world.lanes.changed(&key, true, world.now);
    assert!(!world.begun().is_empty() || told.len() == 4);
}

#[test]
fn what_does_not_fit_in_memory_is_asked_of_the_log() {
    let mut world = World::with((1..=6).map(|number| delivery("a", 1, number)));
    for _ in 1..=4 {
        assert!(world.lanes.missing().is_empty());
        let start = world.begin();
        world.end(&start, Verdict::Delivered);
    }
    let missing = world.lanes.missing();
    assert_eq!(missing.len(), 1);
    assert_eq!(missing[0].after.planned_at, Position(4));
    assert!(world.lanes.missing().is_empty(), "once");
    world.arrive(delivery("a", 1, 7));
    assert!(world.begun().is_empty(), "what arrives waits behind what is asked for");
    let found = (5..=7).map(|number| (delivery("a", 1, number), world.now)).collect();
    world.lanes.refilled(&missing[0], found, DeliveryId::last_of(Position(7)), true);
    for number in 5..=7 {
        let start = world.begin();
        assert_eq!(start.delivery.id.planned_at.0, number);
        world.end(&start, Verdict::Delivered);
    }
}

#[test]
fn what_is_withdrawn_is_not_begun() {
    let mut world = World::with((1..=3).map(|number| delivery("a", 1, number)));
    let first = world.begin();
    world.lanes.withdraw(&delivery("a", 1, 2), world.now);
    world.end(&first, Verdict::Delivered);
    assert_eq!(numbers(&world.begun()), [3]);
}

#[test]
fn what_is_discarded_while_it_is_under_way_is_not_attempted_again() {
    let discarded = |parked: bool, end: fn(&mut World, &Start)| {
        let mut world = World::with((1..=2).map(|number| delivery("a", 1, number)));
        if parked {
            let mut parked = delivery("a", 1, 0);
            parked.progress.state = DeliveryState::Parked;
            world.arrive(parked);
        }
        let mut begun = world.begun();
        let at = usize::from(begun.len() > 1 && (begun[0].delivery.progress.state == DeliveryState::Parked) != parked);
        let start = begun.remove(at);
        world.lanes.discard(&start.delivery, world.now);
        end(&mut world, &start);
        for other in begun {
            world.end(&other, Verdict::Delivered);
        }
        let mut later = Vec::new();
        for _ in 0..9 {
            for other in world.begun() {
                later.push(other.delivery.id);
                world.end(&other, Verdict::Delivered);
            }
            world.wait(Duration::from_hours(1));
        }
        assert!(!later.contains(&start.delivery.id), "{parked}");
        assert!(later.contains(&delivery("a", 1, 2).id), "the others go on");
        assert!(world.lanes.endpoints.iter().all(|state| state.lanes.is_empty()), "nothing is left");
        assert!(world.lanes.discarded.is_empty() && world.lanes.in_flight() == 0);
    };
    for parked in [false, true] {
        discarded(parked, |world, start| assert_eq!(world.end(start, FAILED).due, None));
        discarded(parked, |world, start| assert_eq!(world.end(start, DOWN).due, None));
        discarded(parked, |world, start| assert_eq!(world.end(start, Verdict::Delivered).state, DeliveryState::Delivered));
        discarded(parked, |world, start| world.lanes.postponed(start, world.now, world.now + SECOND));
    }
}

#[test]
fn a_probe_that_calls_nobody_leaves_the_breaker_as_it_is_and_another_follows() {
    let mut world = World::with((1..=5).map(|lane| delivery("a", lane, lane)));
    for _ in 0..3 {
        let start = world.begun().remove(0);
        world.end(&start, DOWN);
    }
    assert!(world.begun().is_empty(), "the breaker is open");
    world.wait(10 * SECOND);
    let probe = world.begin();
    let decision = world.end(&probe, Verdict::NotCalled);
    assert_eq!((decision.state, decision.attempts, decision.due), (DeliveryState::Failed, 0, None));
    let other = world.begin();
    assert_ne!(other.delivery.id, probe.delivery.id);
    assert!(world.begun().is_empty(), "one at a time: it is a probe, too");
    world.end(&other, DOWN);
    assert!(world.begun().is_empty(), "the breaker is open again");
}

#[test]
fn a_breaker_counts_until_something_gets_through_or_its_endpoint_is_changed() {
    let fail = |world: &mut World, channel: &str| {
        for _ in 0..3 {
            let start = world.begun().into_iter().find(|start| start.key.channel_id == channel).expect("may begin");
            world.end(&start, DOWN);
        }
    };
    let mut world = World::with((1..=5).map(|lane| delivery("a", lane, lane)));
    fail(&mut world, "a");
    assert_eq!(world.lanes.broken(), 1);
    world.wait(10 * SECOND);
    let probe = world.begin();
    assert_eq!(world.lanes.broken(), 1, "nobody knows yet");
    world.end(&probe, Verdict::Delivered);
    assert_eq!(world.lanes.broken(), 0);

    let mut world = World::with((1..=5).map(|lane| delivery("a", lane, lane)));
    fail(&mut world, "a");
    let key = world.lanes.endpoints().next().expect("is known").clone();
    for enabled in [false, true] {
        world.lanes.changed(&key, enabled, world.now);
        assert_eq!(world.lanes.broken(), 0);
    }
}

#[test]
fn what_is_held_holds_its_lane_up_until_it_is_discarded_or_all_is_released() {
    let mut world = World::new();
    world.lanes = Lanes::new(rules()).holding(Some(Position(10)));
    let parked = Delivery { progress: Progress { state: DeliveryState::Parked, ..Progress::PLANNED }, ..delivery("a", 1, 1) };
    for held in [parked.clone(), delivery("a", 2, 2), delivery("a", 3, 3), delivery("a", 3, 4)] {
        assert_eq!(world.arrive(held), Prospect::NotSoon);
    }
    assert_eq!(world.arrive(delivery("a", 1, 10)), Prospect::Soon, "what is parked holds nothing up");
    assert_eq!(world.arrive(delivery("a", 2, 11)), Prospect::NotSoon);
    let start = world.begin();
    assert_eq!(start.delivery.id.planned_at.0, 10);
    world.end(&start, Verdict::Delivered);
    world.wait(3600 * SECOND);
    assert!(world.begun().is_empty());

    world.lanes.withdraw(&delivery("a", 2, 2), world.now);
    let start = world.begin();
    assert_eq!(start.delivery.id.planned_at.0, 11);
    world.end(&start, Verdict::Delivered);
    assert!(world.begun().is_empty());

    world.lanes.release(world.now);
    let begun = world.begun();
    assert_eq!(numbers(&begun).into_iter().collect::<BTreeSet<_>>(), BTreeSet::from([1, 3]));
    begun.iter().for_each(|start| drop(world.end(start, Verdict::Delivered)));
    assert_eq!(numbers(&world.begun()), [4]);
}

#[test]
fn what_calls_nobody_is_no_answer_between_those_that_say_gone() {
    let mut world = World::with((1..=5).map(|number| delivery("a", 1, number)));
    for (verdict, disables) in
        [(Verdict::Gone, false), (Verdict::NotCalled, false), (Verdict::Gone, false), (DOWN, false), (Verdict::Gone, true)]
    {
        world.wait(10 * SECOND);
        let start = world.begin();
        assert_eq!(world.end(&start, verdict).disable, disables);
    }
}

#[test]
fn typing_is_never_a_dead_letter() {
    for verdict in [FAILED, DOWN, Verdict::Refused, Verdict::Gone, Verdict::NotCalled] {
        let mut world = World::with([delivery("a", 1, 1)]);
        let start = world.begin();
        let once = Terms { once: true, ..Terms::default() };
        let decision = world.lanes.finished(&start, &verdict, world.now, 0.5, once);
        assert_eq!((decision.state, decision.due), (DeliveryState::Discarded, None), "{verdict:?}");
    }
}

#[derive(Debug, Clone)]
enum Event {
    Arrive { channel: u8, lane: u64 },
    End { which: usize, verdict: usize },
    Wait { seconds: u64 },
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => (0_u8..3, 1_u64..4).prop_map(|(channel, lane)| Event::Arrive { channel, lane }),
        4 => (any::<usize>(), 0_usize..ENDINGS.len()).prop_map(|(which, verdict)| Event::End { which, verdict }),
        1 => (0_u64..40).prop_map(|seconds| Event::Wait { seconds }),
    ]
}

proptest! {
    /// Whatever happens: no delivery is begun twice at once, a lane is never passed over but by what is parked, bounds hold, and in
    /// the end, when everything works, everything is delivered.
    #[test]
    fn order_and_bounds_hold_and_nothing_is_stuck(events in proptest::collection::vec(event(), 1..120)) {
        let mut world = World::new();
        let mut running: Vec<Start> = Vec::new();
        let mut number = 0;
        // What is not settled, by lane.
        let mut open: BTreeMap<(String, u64), BTreeSet<u64>> = BTreeMap::new();
        let mut parked: BTreeSet<u64> = BTreeSet::new();
        let mut all: BTreeMap<u64, Delivery> = BTreeMap::new();
        let rest = std::iter::repeat_n(Event::End { which: 0, verdict: 0 }, 600);
        for (i, event) in events.iter().cloned().chain(rest).enumerate() {
            match event {
                Event::Arrive { channel, lane } => {
                    number += 1;
                    let arriving = delivery(&channel.to_string(), lane, number);
                    all.insert(number, arriving.clone());
                    open.entry((channel.to_string(), lane)).or_default().insert(number);
                    world.arrive(arriving);
                }
                Event::End { which, verdict } if !running.is_empty() => {
                    let start = running.swap_remove(which % running.len());
                    let verdict = ENDINGS[verdict].clone();
                    let decision = world.end(&start, verdict);
                    let number = start.delivery.id.planned_at.0;
                    match decision.state {
                        DeliveryState::Parked => drop(parked.insert(number)),
                        DeliveryState::Pending => {}
                        _ => {
                            parked.remove(&number);
                            open.entry((start.key.channel_id.clone(), start.delivery.lane)).or_default().remove(&number);
                        }
                    }
                    if decision.disable {
                        world.lanes.changed(&start.key, true, world.now);
                    }
                }
                Event::End { .. } => world.wait(if i >= events.len() { 30 * SECOND } else { SECOND }),
                Event::Wait { seconds } => world.wait(Duration::from_secs(seconds)),
            }
            for missing in world.lanes.missing() {
                let of_lane = open.get(&(missing.key.channel_id.clone(), missing.lane)).cloned().unwrap_or_default();
                let found: Vec<_> = of_lane.range(missing.after.planned_at.0 + 1..).filter(|number| !parked.contains(number)).map(|number| (all[number].clone(), world.now)).collect();
                world.lanes.refilled(&missing, found, DeliveryId::last_of(Position(number)), true);
            }
            for start in world.begun() {
                let number = start.delivery.id.planned_at.0;
                let lane = &open[&(start.key.channel_id.clone(), start.delivery.lane)];
                prop_assert!(lane.contains(&number), "{number} is settled");
                prop_assert!(running.iter().all(|other| other.delivery.id != start.delivery.id), "{number} is begun twice");
                if !parked.contains(&number) {
                    let before = lane.range(..number).find(|earlier| !parked.contains(earlier));
                    prop_assert_eq!(before, None, "{} passes over an earlier one", number);
                }
                running.push(start);
            }
            prop_assert!(running.len() <= 3);
            for channel in ["0", "1", "2"] {
                prop_assert!(running.iter().filter(|start| start.key.channel_id == channel).count() <= 2);
            }
            prop_assert_eq!(world.lanes.in_flight(), running.len());
        }
        let left: Vec<_> = open.values().flatten().collect();
        prop_assert!(left.is_empty(), "{left:?} are stuck");
        prop_assert!(world.lanes.endpoints.iter().all(|state| state.lanes.is_empty() && state.parked.is_empty()));
    }
}
