//! Which delivery is attempted next: lanes, endpoints, and the turns that they take.
//!
//! Pure: time and chance come from outside. What goes in is what the log tells of deliveries and what became of attempts; what comes
//! out is which attempt begins, and what each has led to.
//!
//! - A **lane** is what one endpoint gets of one customer on one channel. Its deliveries are attempted in the order in which they were
//!   planned, one at a time. While its head does not get through for its own fault it holds the lane up, for a while; then it is
//!   *parked*: it goes its own way, and the lane goes on.
//! - An **endpoint** that fails stops all of its lanes in place, and its breaker decides when it is tried again.
//! - Endpoints that have something to do take **turns**, so that none waits for another.
//!
//! Only the next deliveries of a lane are in memory; what follows them is asked of the log when it is needed.

#[cfg(test)]
mod tests;

use super::breaker::{Breaker, BreakerRules};
use super::schedule::Schedule;
use super::verdict::Verdict;
use crate::pb::store::{DeliveryState, Endpoint};
use crate::store::{Delivery, DeliveryId, Position};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// A webhook of a channel.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct EndpointKey {
    /// The channel.
    pub(super) channel_id: String,
    /// Which of its webhooks.
    pub(super) endpoint: Endpoint,
}

impl EndpointKey {
    pub(super) fn of(delivery: &Delivery) -> Self {
        Self { channel_id: delivery.channel_id.clone(), endpoint: delivery.id.endpoint }
    }

    fn is_of(&self, delivery: &Delivery) -> bool {
        self.channel_id == delivery.channel_id && self.endpoint == delivery.id.endpoint
    }
}

/// How lanes go.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    /// Waits between the attempts of one delivery.
    pub(super) retries: Schedule,
    /// How long a delivery that fails may hold up its lane.
    pub(super) hold: Duration,
    /// Most parked deliveries of a lane; then it is held up.
    pub(super) parked: usize,
    /// Most attempts at a time on one endpoint.
    pub(super) in_flight: usize,
    /// Most attempts at a time in all.
    pub(super) in_flight_in_all: usize,
    /// Most deliveries of a lane in memory.
    pub(super) lane_window: usize,
    /// Breakers of endpoints.
    pub(super) breaker: BreakerRules,
    /// So many deliveries in a row that are answered with 410 disable the endpoint.
    pub(super) gone: usize,
}

/// An attempt to begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Start {
    pub(super) key: Arc<EndpointKey>,
    pub(super) delivery: Delivery,
    /// The number of the endpoint.
    endpoint: usize,
}

/// Whether an attempt comes soon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Prospect {
    /// As soon as those before it are through.
    Soon,
    /// Something is in its way.
    NotSoon,
}

/// What an attempt has led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Decision {
    /// How far the delivery is now.
    pub(super) state: DeliveryState,
    /// Its attempts that count.
    pub(super) attempts: u32,
    /// When the next one is due; none if none is.
    pub(super) due: Option<Instant>,
    /// Deliveries that have to wait longer because of it.
    pub(super) held_up: Vec<DeliveryId>,
    /// True if the endpoint is gone for good.
    pub(super) disable: bool,
}

/// Deliveries of a lane that the log has and memory has not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Missing {
    pub(super) key: Arc<EndpointKey>,
    pub(super) lane: u64,
    /// The last one that is known.
    pub(super) after: DeliveryId,
    /// The number of the endpoint.
    endpoint: usize,
}

#[derive(Debug, Clone)]
struct Item {
    delivery: Delivery,
    due: Instant,
    /// Since when it has been holding up its lane.
    failing_since: Option<Instant>,
}

#[derive(Debug, Default)]
struct Lane {
    /// The first one is the head.
    queue: VecDeque<Item>,
    /// The last that was put into the queue, if the log has more.
    more_after: Option<DeliveryId>,
    /// True while what is missing is being asked for.
    asking: bool,
    /// True while its head is attempted.
    in_flight: bool,
    /// True while its head is among what is ready.
    queued: bool,
    parked: usize,
}

impl Lane {
    fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.more_after.is_none() && !self.in_flight && self.parked == 0
    }
}

#[derive(Debug)]
struct Parked {
    item: Item,
    in_flight: bool,
    /// True while it is among what is ready.
    queued: bool,
}

/// What can be attempted at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ready {
    Head(u64),
    Parked(DeliveryId),
}

#[derive(Debug)]
struct State {
    key: Arc<EndpointKey>,
    enabled: bool,
    breaker: Breaker,
    lanes: HashMap<u64, Lane>,
    parked: HashMap<DeliveryId, Parked>,
    ready: VecDeque<Ready>,
    in_flight: usize,
    /// The last deliveries that were answered with 410, since any that were not.
    gone: Vec<DeliveryId>,
    /// True while it waits for its turn.
    queued: bool,
}

impl State {
    fn new(key: Arc<EndpointKey>, enabled: bool) -> Self {
        Self {
            key,
            enabled,
            breaker: Breaker::CLOSED,
            lanes: HashMap::new(),
            parked: HashMap::new(),
            ready: VecDeque::new(),
            in_flight: 0,
            gone: Vec::new(),
            queued: false,
        }
    }

    /// Everything of its lanes that waits.
    fn waiting(&self) -> Vec<DeliveryId> {
        self.lanes.values().flat_map(|lane| &lane.queue).map(|item| item.delivery.id).collect()
    }
}

/// What becomes due, and the number of its endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Head(usize, u64),
    Parked(usize, DeliveryId),
    Breaker(usize),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Lanes {
    rules: Rules,
    /// Each has its number for good.
    endpoints: Vec<State>,
    numbers: HashMap<Arc<EndpointKey>, usize>,
    /// Endpoints that have something to do and may.
    turns: VecDeque<usize>,
    in_flight: usize,
    /// Endpoints whose breaker is not closed.
    broken: usize,
    timers: BinaryHeap<Reverse<(Instant, Timer)>>,
    /// Lanes of which the log has more than memory.
    missing: Vec<Missing>,
    /// When somebody looks next for what has become due.
    awaited: Option<Instant>,
    /// What was planned before it is held: it is not attempted, and holds its lane up.
    held_before: Option<Position>,
    /// What somebody has discarded while it was under way: nothing follows that.
    discarded: HashSet<DeliveryId>,
}

impl Lanes {
    pub(super) fn new(rules: Rules) -> Self {
        let (endpoints, numbers, turns, timers, missing, discarded) = Default::default();
        let (awaited, held_before) = Default::default();
        Self { rules, endpoints, numbers, turns, in_flight: 0, broken: 0, timers, missing, awaited, held_before, discarded }
    }

    /// Holds what was planned before a position, from the beginning on.
    pub(super) fn holding(self, held_before: Option<Position>) -> Self {
        Self { held_before, ..self }
    }

    /// Holds nothing any more.
    pub(super) fn release(&mut self, now: Instant) {
        self.held_before = None;
        for (endpoint, state) in self.endpoints.iter().enumerate() {
            for (lane_of, lane) in &state.lanes {
                let head = lane.queue.front().filter(|_| !lane.in_flight);
                self.timers.extend(head.map(|head| Reverse((head.due.max(now), Timer::Head(endpoint, *lane_of)))));
            }
            let parked = state.parked.iter().filter(|(_, parked)| !parked.in_flight);
            self.timers.extend(parked.map(|(id, parked)| Reverse((parked.item.due.max(now), Timer::Parked(endpoint, *id)))));
        }
    }

    /// Attempts that are under way.
    pub(super) const fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Endpoints that are left alone, or probed, because they fail.
    pub(super) const fn broken(&self) -> usize {
        self.broken
    }

    /// A delivery that is planned, or that an earlier process left open. `due` is when its next attempt is, `enabled` whether
    /// its endpoint may be called: that counts when the endpoint is new here.
    pub(super) fn arrive(&mut self, delivery: Delivery, due: Instant, enabled: bool) -> Prospect {
        let endpoint = self.number(EndpointKey::of(&delivery), enabled);
        let state = &mut self.endpoints[endpoint];
        let (id, lane_of) = (delivery.id, delivery.lane);
        let lane = state.lanes.entry(lane_of).or_default();
        let item = Item { delivery, due, failing_since: None };
        if item.delivery.progress.state == DeliveryState::Parked {
            lane.parked += 1;
            state.parked.insert(id, Parked { item, in_flight: false, queued: false });
            self.timers.push(Reverse((due, Timer::Parked(endpoint, id))));
            return Prospect::NotSoon;
        }
        if lane.more_after.is_some() || lane.queue.len() >= self.rules.lane_window {
            let last = lane.queue.back().map(|item| item.delivery.id);
            lane.more_after = lane.more_after.or(last);
            return Prospect::NotSoon;
        }
        let heads = lane.queue.is_empty() && !lane.in_flight;
        let held_up = lane.queue.front().is_some_and(|head| head.failing_since.is_some());
        lane.queue.push_back(item);
        let held_up = held_up || lane.queue.front().is_some_and(|head| is_held(self.held_before, head.delivery.id));
        let prospect = if state.enabled && state.breaker.is_closed() && !held_up { Prospect::Soon } else { Prospect::NotSoon };
        if heads {
            self.timers.push(Reverse((due, Timer::Head(endpoint, lane_of))));
        }
        prospect
    }

    /// The number of an endpoint. One that is new here gets the next, and may be called if it is `enabled`.
    fn number(&mut self, key: EndpointKey, enabled: bool) -> usize {
        if let Some(number) = self.numbers.get(&key) {
            return *number;
        }
        let (number, key) = (self.endpoints.len(), Arc::new(key));
        self.endpoints.push(State::new(key.clone(), enabled));
        self.numbers.insert(key, number);
        number
    }

    /// Lanes of which the log has to tell more, each once until [`Self::refilled`].
    pub(super) fn missing(&mut self) -> Vec<Missing> {
        std::mem::take(&mut self.missing)
    }

    /// The log has told the deliveries that follow what was known of a lane, each with when it is due. `complete` tells that there are
    /// none beyond, and none has come since.
    pub(super) fn refilled(&mut self, missing: &Missing, found: Vec<(Delivery, Instant)>, reached: DeliveryId, complete: bool) {
        let endpoint = missing.endpoint;
        let Some(state) = self.endpoints.get_mut(endpoint) else { return };
        let Some(lane) = state.lanes.get_mut(&missing.lane) else { return };
        lane.asking = false;
        lane.more_after = (!complete).then_some(reached);
        let was_empty = lane.queue.is_empty();
        for (delivery, due) in found {
            // What is parked is known already.
            if state.key.is_of(&delivery) && !state.parked.contains_key(&delivery.id) {
                lane.queue.push_back(Item { delivery, due, failing_since: None });
            }
        }
        match lane.queue.front() {
            Some(head) if was_empty && !lane.in_flight => {
                self.timers.push(Reverse((head.due, Timer::Head(endpoint, missing.lane))));
            }
            None if lane.more_after.is_some() => self.ask(endpoint, missing.lane),
            _ => {}
        }
        self.tidy(endpoint, missing.lane);
    }

    fn ask(&mut self, endpoint: usize, lane_of: u64) {
        let Some(state) = self.endpoints.get_mut(endpoint) else { return };
        let Some(lane) = state.lanes.get_mut(&lane_of) else { return };
        let Some(after) = lane.more_after.filter(|_| !lane.asking) else { return };
        lane.asking = true;
        self.missing.push(Missing { key: state.key.clone(), lane: lane_of, after, endpoint });
    }

    /// When something becomes due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.timers.peek().map(|Reverse((at, _))| *at)
    }

    /// When something becomes due, for somebody who looks for it then.
    pub(super) fn await_next_due(&mut self) -> Option<Instant> {
        self.awaited = self.next_due();
        self.awaited
    }

    /// True if there is something to do sooner than is awaited: to ask the log, or to begin an attempt.
    pub(super) fn has_news(&self) -> bool {
        let is_sooner = |due: Instant| self.awaited.is_none_or(|awaited| due < awaited);
        let may_begin = !self.turns.is_empty() && self.in_flight < self.rules.in_flight_in_all;
        !self.missing.is_empty() || may_begin || self.next_due().is_some_and(is_sooner)
    }

    /// Makes ready what is due by now.
    pub(super) fn wake(&mut self, now: Instant) {
        while self.next_due().is_some_and(|at| at <= now) {
            let Some(Reverse((_, timer))) = self.timers.pop() else { return };
            match timer {
                Timer::Head(endpoint, lane) => self.head_is_due(endpoint, lane, now),
                Timer::Parked(endpoint, id) => {
                    if let Some(state) = self.endpoints.get_mut(endpoint)
                        && let Some(parked) = state.parked.get_mut(&id)
                        && !parked.in_flight
                        && !parked.queued
                        && parked.item.due <= now
                        && !is_held(self.held_before, id)
                    {
                        parked.queued = true;
                        state.ready.push_back(Ready::Parked(id));
                        self.take_turn(endpoint, now);
                    }
                }
                Timer::Breaker(endpoint) => self.take_turn(endpoint, now),
            }
        }
    }

    fn head_is_due(&mut self, endpoint: usize, lane_of: u64, now: Instant) {
        let Some(state) = self.endpoints.get_mut(endpoint) else { return };
        let Some(lane) = state.lanes.get_mut(&lane_of) else { return };
        let Some(head) = lane.queue.front() else { return };
        // An older timer of the lane may have come first.
        if lane.in_flight || lane.queued || head.due > now || is_held(self.held_before, head.delivery.id) {
            return;
        }
        lane.queued = true;
        state.ready.push_back(Ready::Head(lane_of));
        self.take_turn(endpoint, now);
    }

    /// Lets an endpoint wait for its turn, if it has something to do and may.
    fn take_turn(&mut self, endpoint: usize, now: Instant) {
        let Some(state) = self.endpoints.get_mut(endpoint) else { return };
        if state.queued || state.ready.is_empty() || !state.enabled || state.in_flight >= self.rules.in_flight {
            return;
        }
        if !state.breaker.admits(now) {
            return;
        }
        state.queued = true;
        self.turns.push_back(endpoint);
    }

    /// The attempt to begin next; none if none may begin now.
    pub(super) fn next(&mut self, now: Instant) -> Option<Start> {
        while self.in_flight < self.rules.in_flight_in_all {
            let endpoint = self.turns.pop_front()?;
            let Some(state) = self.endpoints.get_mut(endpoint) else { continue };
            state.queued = false;
            if !state.enabled || !state.breaker.admits(now) || state.in_flight >= self.rules.in_flight {
                continue;
            }
            let Some(delivery) = state.begin() else { continue };
            state.breaker.begin();
            state.in_flight += 1;
            self.in_flight += 1;
            let key = state.key.clone();
            self.take_turn(endpoint, now);
            return Some(Start { key, delivery, endpoint });
        }
        None
    }

    /// An attempt has ended, or was not made because there was nothing to attempt any more.
    pub(super) fn finished(
        &mut self,
        start: &Start,
        verdict: &Verdict,
        now: Instant,
        chance: f64,
        Terms { strict, expired, once }: Terms,
    ) -> Decision {
        let Start { delivery: Delivery { id, lane: lane_of, progress, .. }, endpoint, .. } = start;
        self.in_flight = self.in_flight.saturating_sub(1);
        let is_discarded = self.discarded.remove(id);
        let nothing = Decision {
            state: DeliveryState::Failed,
            attempts: progress.attempts,
            due: None,
            held_up: Vec::new(),
            disable: false,
        };
        let Some(state) = self.endpoints.get_mut(*endpoint) else { return nothing };
        state.in_flight = state.in_flight.saturating_sub(1);
        let was_closed = state.breaker.is_closed();
        match verdict {
            Verdict::EndpointFailed { retry_after } => state.breaker.failed(&self.rules.breaker, now, chance, *retry_after),
            Verdict::NotCalled => state.breaker.undecided(now),
            Verdict::Gone => {
                state.breaker.worked();
                if !state.gone.contains(id) {
                    state.gone.push(*id);
                }
            }
            Verdict::Delivered | Verdict::Accepted | Verdict::MessageFailed { .. } | Verdict::Refused => {
                state.breaker.worked();
                state.gone.clear();
            }
        }
        let disable = state.gone.len() >= self.rules.gone;
        if let Some(at) = state.breaker.opens_again() {
            self.timers.push(Reverse((at, Timer::Breaker(*endpoint))));
        }
        let opened = was_closed && !state.breaker.is_closed();
        self.broken += usize::from(opened);
        self.broken -= usize::from(!was_closed && state.breaker.is_closed());
        let mut held_up = if opened { state.waiting() } else { Vec::new() };

        let counts = !matches!(verdict, Verdict::EndpointFailed { .. } | Verdict::NotCalled);
        let attempts = progress.attempts.saturating_add(u32::from(counts));
        let parked = state.parked.contains_key(id);
        let lane = state.lanes.entry(*lane_of).or_default();
        let (next, due) = match verdict {
            Verdict::Delivered => (DeliveryState::Delivered, None),
            Verdict::Accepted => (DeliveryState::Accepted, None),
            _ if once => (DeliveryState::Discarded, None),
            Verdict::Refused | Verdict::Gone | Verdict::NotCalled => (DeliveryState::Failed, None),
            Verdict::EndpointFailed { .. } | Verdict::MessageFailed { .. } if expired => (DeliveryState::Failed, None),
            Verdict::EndpointFailed { retry_after } => {
                let wait = self.rules.retries.wait(1, chance, *retry_after);
                let state = if parked { DeliveryState::Parked } else { DeliveryState::Pending };
                (state, Some(now + wait))
            }
            Verdict::MessageFailed { retry_after } => {
                let wait = self.rules.retries.wait(attempts, chance, *retry_after);
                let since = lane.queue.front().and_then(|head| head.failing_since).unwrap_or(now);
                let holds = (now + wait).saturating_duration_since(since) <= self.rules.hold;
                let parks = parked || !(holds || strict || lane.parked >= self.rules.parked);
                let state = if parks { DeliveryState::Parked } else { DeliveryState::Pending };
                (state, Some(now + wait))
            }
        };
        let (next, due) = if is_discarded && due.is_some() { (DeliveryState::Discarded, None) } else { (next, due) };
        match (parked, due) {
            (true, Some(due)) => {
                if let Some(parked) = state.parked.get_mut(id) {
                    parked.in_flight = false;
                    parked.item.due = due;
                    parked.item.delivery.progress.attempts = attempts;
                    self.timers.push(Reverse((due, Timer::Parked(*endpoint, *id))));
                }
            }
            (true, None) => {
                state.parked.remove(id);
                lane.parked = lane.parked.saturating_sub(1);
            }
            (false, Some(due)) => {
                lane.in_flight = false;
                if next == DeliveryState::Parked {
                    if let Some(mut item) = lane.queue.pop_front() {
                        item.due = due;
                        item.delivery.progress.attempts = attempts;
                        item.delivery.progress.state = DeliveryState::Parked;
                        lane.parked += 1;
                        state.parked.insert(*id, Parked { item, in_flight: false, queued: false });
                        self.timers.push(Reverse((due, Timer::Parked(*endpoint, *id))));
                    }
                } else if let Some(head) = lane.queue.front_mut() {
                    head.due = due;
                    head.delivery.progress.attempts = attempts;
                    if matches!(verdict, Verdict::MessageFailed { .. }) && head.failing_since.is_none() {
                        head.failing_since = Some(now);
                    }
                    held_up.extend(lane.queue.iter().skip(1).map(|item| item.delivery.id));
                }
            }
            (false, None) => {
                lane.in_flight = false;
                lane.queue.pop_front();
            }
        }
        self.go_on(*endpoint, *lane_of, now);
        Decision { state: next, attempts, due, held_up, disable }
    }

    /// An attempt has come to nothing without telling anything, for example because the store could not be read: it is made again at
    /// `due`.
    pub(super) fn postponed(&mut self, start: &Start, now: Instant, due: Instant) {
        let Start { delivery: Delivery { id, lane: lane_of, .. }, endpoint, .. } = start;
        if self.discarded.contains(id) {
            self.finished(start, &Verdict::NotCalled, now, 0.0, Terms::default());
            return;
        }
        self.in_flight = self.in_flight.saturating_sub(1);
        let Some(state) = self.endpoints.get_mut(*endpoint) else { return };
        state.in_flight = state.in_flight.saturating_sub(1);
        state.breaker.undecided(now);
        if let Some(parked) = state.parked.get_mut(id) {
            parked.in_flight = false;
            parked.item.due = due;
            self.timers.push(Reverse((due, Timer::Parked(*endpoint, *id))));
        } else if let Some(lane) = state.lanes.get_mut(lane_of) {
            lane.in_flight = false;
            if let Some(head) = lane.queue.front_mut() {
                head.due = due;
            }
        }
        self.go_on(*endpoint, *lane_of, now);
    }

    /// A delivery is discarded. If it is under way, that is the last attempt.
    pub(super) fn discard(&mut self, delivery: &Delivery, now: Instant) {
        if !self.withdraw(delivery, now) {
            self.discarded.insert(delivery.id);
        }
    }

    /// A delivery is settled by somebody else. False if it is under way: that ends by itself.
    pub(super) fn withdraw(&mut self, delivery: &Delivery, now: Instant) -> bool {
        let Some(endpoint) = self.numbers.get(&EndpointKey::of(delivery)).copied() else { return true };
        let state = &mut self.endpoints[endpoint];
        let Some(lane) = state.lanes.get_mut(&delivery.lane) else { return true };
        let heads = lane.queue.front().is_some_and(|head| head.delivery.id == delivery.id);
        if (heads && lane.in_flight) || state.parked.get(&delivery.id).is_some_and(|parked| parked.in_flight) {
            return false;
        }
        if state.parked.contains_key(&delivery.id) {
            state.parked.remove(&delivery.id);
            lane.parked = lane.parked.saturating_sub(1);
        }
        lane.queue.retain(|item| item.delivery.id != delivery.id);
        self.go_on(endpoint, delivery.lane, now);
        true
    }

    /// The lane's next is due, asked for, or there is none.
    fn go_on(&mut self, endpoint: usize, lane_of: u64, now: Instant) {
        if let Some(state) = self.endpoints.get_mut(endpoint)
            && let Some(lane) = state.lanes.get_mut(&lane_of)
            && !lane.in_flight
        {
            match lane.queue.front() {
                Some(head) if head.due > now => self.timers.push(Reverse((head.due, Timer::Head(endpoint, lane_of)))),
                Some(_) => self.head_is_due(endpoint, lane_of, now),
                None => self.ask(endpoint, lane_of),
            }
        }
        self.tidy(endpoint, lane_of);
        self.take_turn(endpoint, now);
    }

    /// Forgets a lane of which nothing is left.
    fn tidy(&mut self, endpoint: usize, lane_of: u64) {
        if let Some(state) = self.endpoints.get_mut(endpoint)
            && state.lanes.get(&lane_of).is_some_and(Lane::is_idle)
        {
            state.lanes.remove(&lane_of);
        }
    }

    /// The endpoint was changed: what is known of its failures counts no more.
    pub(super) fn changed(&mut self, key: &EndpointKey, enabled: bool, now: Instant) {
        let Some(endpoint) = self.numbers.get(key).copied() else { return };
        let state = &mut self.endpoints[endpoint];
        state.enabled = enabled;
        self.broken -= usize::from(!state.breaker.is_closed());
        state.breaker = Breaker::CLOSED;
        state.gone.clear();
        self.take_turn(endpoint, now);
    }

    /// The endpoints that are known here.
    pub(super) fn endpoints(&self) -> impl Iterator<Item = &Arc<EndpointKey>> {
        self.endpoints.iter().map(|state| &state.key)
    }
}

/// True if what was planned before a position is held, and a delivery is of that.
pub(super) fn is_held(held_before: Option<Position>, id: DeliveryId) -> bool {
    held_before.is_some_and(|before| id.planned_at < before)
}

/// The last delivery that may be held.
pub(super) fn held_end(held_before: Option<Position>) -> DeliveryId {
    held_before.map_or(DeliveryId::NONE, |before| DeliveryId::last_of(before.previous()))
}

/// What else decides about a delivery whose attempt has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Terms {
    /// The channel parks nothing.
    pub(super) strict: bool,
    /// The message is too old for another attempt.
    pub(super) expired: bool,
    /// The message is not worth another attempt.
    pub(super) once: bool,
}

impl State {
    /// Takes what is ready next.
    fn begin(&mut self) -> Option<Delivery> {
        loop {
            match self.ready.pop_front()? {
                Ready::Head(lane_of) => {
                    let Some(lane) = self.lanes.get_mut(&lane_of) else { continue };
                    lane.queued = false;
                    let Some(head) = lane.queue.front().filter(|_| !lane.in_flight) else { continue };
                    lane.in_flight = true;
                    return Some(head.delivery.clone());
                }
                Ready::Parked(id) => {
                    let Some(parked) = self.parked.get_mut(&id) else { continue };
                    parked.queued = false;
                    parked.in_flight = true;
                    return Some(parked.item.delivery.clone());
                }
            }
        }
    }
}
