//! Deliveries: what the log plans to send to webhooks, and what has become of it.
//!
//! A delivery is told by the entry that plans it and by every later entry that tells a step of it; the latest step counts. It is open
//! until a step settles it. One that was given up is a dead letter: it is never open again, and stays, for somebody to look at, until the log
//! lets go of it.

use super::clock;
use super::facts::Latest;
use super::hash::HashKey;
use super::pauses::Pauses;
use super::{Error, Position, Stored};
use crate::pb::store as pb;
use crate::pb::store::{CarriedDelivery, DeliveryState, DeliveryStep, Endpoint, Entry};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use prost_types::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::ops::Bound;
use std::str::FromStr;

/// Which delivery: the entry that planned it, and the endpoint. In the order in which deliveries were planned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryId {
    /// The entry that planned it.
    pub planned_at: Position,
    /// The endpoint, among those of its channel.
    pub endpoint: Endpoint,
}

impl DeliveryId {
    /// Before every delivery.
    pub const NONE: Self = Self { planned_at: Position(0), endpoint: Endpoint::Unspecified };

    /// The one before it, planned or not.
    pub(crate) const fn before(self) -> Self {
        match self.endpoint {
            Endpoint::Bot => Self { endpoint: Endpoint::Connector, ..self },
            Endpoint::Connector | Endpoint::Unspecified => Self { endpoint: Endpoint::Unspecified, ..self },
        }
    }

    /// The last one that can be planned at `position`.
    pub const fn last_of(position: Position) -> Self {
        Self { planned_at: position, endpoint: Endpoint::Bot }
    }
}

/// A delivery's name for the world outside: no other log has it, and it never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DeliveryName {
    /// Tells logs apart.
    pub log: u64,
    /// Which delivery of the log.
    pub id: DeliveryId,
}

impl DeliveryName {
    /// Number of the text form; the first of its bytes.
    const FORM: u8 = 1;
}

impl std::fmt::Display for DeliveryName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut bytes = [Self::FORM; 18];
        bytes[1..9].copy_from_slice(&self.log.to_be_bytes());
        bytes[9..17].copy_from_slice(&self.id.planned_at.0.to_be_bytes());
        bytes[17] = self.id.endpoint as u8;
        f.write_str(&BASE64_URL_SAFE_NO_PAD.encode(bytes))
    }
}

/// The text names no delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("names no delivery of this gateway")]
pub struct NoDelivery;

impl FromStr for DeliveryName {
    type Err = NoDelivery;

    fn from_str(text: &str) -> Result<Self, NoDelivery> {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| NoDelivery)?;
        let bytes = <[u8; 18]>::try_from(bytes).map_err(|_| NoDelivery)?;
        let (form, rest) = (bytes[0], &bytes[1..]);
        let (Some((log, rest)), true) = (rest.split_first_chunk(), form == Self::FORM) else { return Err(NoDelivery) };
        let Some((planned_at, &[endpoint])) = rest.split_first_chunk() else { return Err(NoDelivery) };
        let endpoint = Endpoint::try_from(i32::from(endpoint)).map_err(|_| NoDelivery)?;
        let id = DeliveryId { planned_at: Position(u64::from_be_bytes(*planned_at)), endpoint };
        Ok(Self { log: u64::from_be_bytes(*log), id })
    }
}

/// A delivery that is not settled, or a dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Which one.
    pub id: DeliveryId,
    /// The channel whose endpoint it is for.
    pub channel_id: String,
    /// Deliveries of one endpoint that have this in common are made one after the other.
    pub lane: u64,
    /// The entry that has the message; see [`message_of`].
    pub message: Position,
    /// How far it is.
    pub progress: Progress,
}

impl Delivery {
    /// What was planned. It names the message where it stands.
    pub(crate) fn to_pb(&self) -> pb::Delivery {
        let Self { id, channel_id, lane, message, .. } = self;
        pb::Delivery { channel_id: channel_id.clone(), endpoint: id.endpoint.into(), message: message.0, lane: *lane }
    }
}

/// How far a delivery is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Its state.
    pub state: DeliveryState,
    /// How many attempts were made that count.
    pub attempts: u32,
    /// When the next attempt is due, in nanoseconds since 1970; 0 for at once.
    pub due: i64,
}

impl Progress {
    /// That of a delivery which was only planned.
    pub const PLANNED: Self = Self { state: DeliveryState::Pending, attempts: 0, due: 0 };

    fn of(step: &DeliveryStep) -> Self {
        Self { state: step.state(), attempts: step.attempts, due: step.due.as_ref().map_or(0, clock::to_nanos) }
    }

    /// The step that led to it, without its attempt.
    pub(crate) fn to_pb(self, id: DeliveryId) -> DeliveryStep {
        DeliveryStep {
            planned_at: id.planned_at.0,
            endpoint: id.endpoint.into(),
            state: self.state.into(),
            attempts: self.attempts,
            due: (self.due != 0).then(|| clock::from_nanos(self.due)),
            attempt: None,
            provider_message_id: String::new(),
        }
    }

    /// True while there is something to do.
    pub const fn is_open(&self) -> bool {
        matches!(self.state, DeliveryState::Pending | DeliveryState::Parked)
    }

    /// True for what is looked up: open deliveries, and dead letters.
    pub(super) const fn is_kept(&self) -> bool {
        self.is_open() || matches!(self.state, DeliveryState::Failed)
    }
}

/// Which deliveries are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// All that are open.
    Open,
    /// Those of a lane that are open.
    Lane(u64),
    /// Dead letters.
    Dead,
}

impl Wanted {
    fn wants(self, delivery: &Delivery) -> bool {
        match self {
            Self::Open => delivery.progress.is_open(),
            Self::Lane(lane) => delivery.progress.is_open() && delivery.lane == lane,
            Self::Dead => delivery.progress.state == DeliveryState::Failed,
        }
    }
}

/// Some deliveries, and how far they were looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deliveries {
    /// Those that are wanted, in the order in which they were planned.
    pub found: Vec<Delivery>,
    /// How far was looked: every wanted delivery up to this one is in `found`. The last that the durable end can have, if all are.
    pub reached: DeliveryId,
}

/// The message of a delivery, from the entry at [`Delivery::message`].
pub fn message_of(entry: &Entry) -> Option<&crate::pb::CimMessage> {
    let carried = || entry.carried.as_ref()?.delivery.as_ref()?.message.as_ref();
    entry.message.as_deref().or_else(carried)
}

/// Takes the message of a delivery out of the entry at [`Delivery::message`].
pub fn take_message(entry: &mut Entry) -> Option<Box<crate::pb::CimMessage>> {
    let carried = || entry.carried.as_mut()?.delivery.as_mut()?.message.take().map(Box::new);
    entry.message.take().or_else(carried)
}

/// When the message of a delivery was accepted, from the same entry. One that was carried forward is as old as it was.
pub fn accepted_at(entry: &Entry) -> Option<Timestamp> {
    let carried = || entry.carried.as_ref()?.delivery.as_ref()?.accepted_at;
    carried().or(entry.accepted_at)
}

/// When a delivery was planned, from the same entry, unless it was planned later than that: only one that was carried forward says so.
pub fn planned_at(entry: &Entry) -> Option<Timestamp> {
    let carried = || entry.carried.as_ref()?.delivery.as_ref()?.planned_at;
    carried().or_else(|| accepted_at(entry))
}

/// Fails if a frame plans to deliver a message that stands below `oldest`: that would be open for ever, without anything to deliver.
pub(super) fn check_messages(frame: &[Entry], oldest: Position) -> Result<(), Error> {
    let named = frame.iter().flat_map(|entry| &entry.deliveries).map(|delivery| Position(delivery.message));
    // 0 stands for the message of the entry itself.
    let gone = named.filter(|message| *message > Position(0)).find(|message| *message < oldest);
    gone.map_or(Ok(()), |asked| Err(Error::Expired { asked, oldest }))
}

/// Fills in the lanes of the deliveries that an entry plans of its own message.
pub(super) fn fill_lanes(entry: &mut Entry, key: HashKey) {
    if entry.deliveries.iter().all(|delivery| delivery.lane != 0) {
        return;
    }
    let header = entry.message.as_ref().and_then(|message| message.header.as_ref());
    let channel = header.and_then(|header| header.channel_data.as_ref());
    let [service, address] = [channel.map(|c| &c.service_identifier), channel.map(|c| &c.channel_customer_identifier)]
        .map(|text| text.and_then(Option::as_deref).unwrap_or_default());
    // 0 stands for none.
    let lane = key.hash_all(&[service, address]).max(1);
    entry.deliveries.iter_mut().filter(|delivery| delivery.lane == 0).for_each(|delivery| delivery.lane = lane);
}

/// What a stretch of the log tells of deliveries.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Told {
    planned: BTreeMap<DeliveryId, Plan>,
    /// The latest step of each, whoever planned it.
    steps: BTreeMap<DeliveryId, Latest<Progress>>,
    /// What is planned, by lane.
    lanes: BTreeSet<(u64, DeliveryId)>,
    /// What is planned of messages that earlier entries have, by message. Retention looks for it while whoever appends waits.
    redriven: BTreeSet<(Position, DeliveryId)>,
}

/// What was planned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) channel_id: String,
    pub(super) lane: u64,
    pub(super) message: Position,
    /// The entry that tells it: a later one, if it was carried forward.
    pub(super) told: Position,
}

impl Plan {
    fn of(delivery: &pb::Delivery, told: Position) -> Self {
        let message = if delivery.message == 0 { told } else { Position(delivery.message) };
        Self { channel_id: delivery.channel_id.clone(), lane: delivery.lane, message, told }
    }

    pub(super) fn with(&self, id: DeliveryId, progress: Progress) -> Delivery {
        let Self { channel_id, lane, message, .. } = self;
        Delivery { id, channel_id: channel_id.clone(), lane: *lane, message: *message, progress }
    }
}

impl Told {
    pub(super) fn apply(&mut self, stored: &Stored) {
        let Stored { position, entry } = stored;
        for delivery in &entry.deliveries {
            let id = DeliveryId { planned_at: *position, endpoint: delivery.endpoint() };
            self.plan(id, Plan::of(delivery, *position));
        }
        for step in &entry.delivery_steps {
            let id = DeliveryId { planned_at: Position(step.planned_at), endpoint: step.endpoint() };
            self.steps.insert(id, Latest { fact: Progress::of(step), position: *position, told: *position });
        }
        if let Some(carried) = &entry.carried
            && let Some(CarriedDelivery { delivery: Some(delivery), step, .. }) = &carried.delivery
        {
            let id = DeliveryId { planned_at: Position(carried.position), endpoint: delivery.endpoint() };
            // The entry that the plan names goes; the message is here, too.
            self.plan(id, Plan { message: *position, ..Plan::of(delivery, *position) });
            if let Some(step) = step {
                self.steps.insert(id, Latest { fact: Progress::of(step), position: *position, told: *position });
            }
        }
    }

    fn plan(&mut self, id: DeliveryId, plan: Plan) {
        self.lanes.insert((plan.lane, id));
        let redriven = (plan.message != plan.told).then_some((plan.message, id));
        if let Some(earlier) = self.planned.insert(id, plan) {
            self.redriven.remove(&(earlier.message, id));
        }
        self.redriven.extend(redriven);
    }

    pub(super) fn forget(&mut self, stored: &Stored) {
        let Stored { position, entry } = stored;
        let carried = entry.carried.as_ref().and_then(|carried| {
            let delivery = carried.delivery.as_ref()?.delivery.as_ref()?;
            Some(DeliveryId { planned_at: Position(carried.position), endpoint: delivery.endpoint() })
        });
        let planned = entry.deliveries.iter().map(|delivery| DeliveryId { planned_at: *position, endpoint: delivery.endpoint() });
        for id in planned.chain(carried) {
            if let Some(plan) = self.planned.get(&id).filter(|plan| plan.told == *position) {
                self.lanes.remove(&(plan.lane, id));
                self.redriven.remove(&(plan.message, id));
                self.planned.remove(&id);
            }
        }
        let stepped = entry
            .delivery_steps
            .iter()
            .map(|step| DeliveryId { planned_at: Position(step.planned_at), endpoint: step.endpoint() });
        for id in stepped.chain(carried) {
            if self.steps.get(&id).is_some_and(|latest| latest.told == *position) {
                self.steps.remove(&id);
            }
        }
    }

    /// What is planned here, and the latest step that is told here.
    pub(super) fn get(&self, id: DeliveryId) -> (Option<&Plan>, Option<Progress>) {
        (self.planned.get(&id), self.steps.get(&id).map(|latest| latest.fact))
    }

    /// What is planned here of messages that stand below `oldest`, each with the entry that has its message.
    pub(super) fn redriven_below(&self, oldest: Position) -> impl Iterator<Item = (DeliveryId, Position)> {
        self.redriven.range(..(oldest, DeliveryId::NONE)).map(|(message, id)| (*id, *message))
    }

    /// What may be wanted after `after`, and whether it is, as far as is told here.
    fn look_after(&self, after: DeliveryId, wanted: Wanted) -> Box<dyn Iterator<Item = (DeliveryId, bool)> + '_> {
        let from = (Bound::Excluded(after), Bound::Unbounded);
        let is_open = |id: &DeliveryId| self.steps.get(id).is_none_or(|latest| latest.fact.is_open());
        match wanted {
            Wanted::Open => Box::new(self.planned.range(from).map(move |(id, _)| (*id, is_open(id)))),
            Wanted::Lane(lane) => {
                let last = DeliveryId::last_of(Position(u64::MAX));
                let of_lane = self.lanes.range((Bound::Excluded((lane, after)), Bound::Included((lane, last))));
                Box::new(of_lane.map(move |(_, id)| (*id, is_open(id))))
            }
            // Whoever planned it.
            Wanted::Dead => {
                let steps = self.steps.range(from);
                Box::new(steps.map(|(id, latest)| (*id, latest.fact.state == DeliveryState::Failed)))
            }
        }
    }

    pub(super) fn drop_slowly(self, pauses: &mut Pauses<'_>) {
        let Self { planned, steps, lanes, redriven } = self;
        pauses.drop_each(planned);
        pauses.drop_each(steps);
        pauses.drop_each(lanes);
        pauses.drop_each(redriven);
    }

    /// Every delivery that is planned or told a step of here.
    pub(super) fn each(&self) -> impl Iterator<Item = (DeliveryId, Option<&Plan>, Option<Progress>)> {
        let planned = self.planned.iter().map(|(id, plan)| (*id, Some(plan), self.steps.get(id).map(|latest| latest.fact)));
        let elsewhere = self.steps.iter().filter(|(id, _)| !self.planned.contains_key(id));
        planned.chain(elsewhere.map(|(id, latest)| (*id, None, Some(latest.fact))))
    }
}

/// Most that is looked at of a stretch of the log for one answer: most of it is settled, and whoever appends waits meanwhile.
const LOOKED_AT: usize = 1024;

/// What is below the generations: the index, or nothing.
pub(super) trait Below {
    /// Why it cannot tell.
    type Error;

    /// At most `limit` deliveries after `after` that are wanted, as far as it knows, in the order in which they were planned.
    fn deliveries(&self, after: DeliveryId, wanted: Wanted, limit: usize) -> Result<Vec<Delivery>, Self::Error>;

    /// One delivery, as far as it knows; none if it is settled.
    fn delivery(&self, id: DeliveryId) -> Result<Option<Delivery>, Self::Error>;
}

/// Nothing is below.
impl Below for () {
    type Error = Infallible;

    fn deliveries(&self, _: DeliveryId, _: Wanted, _: usize) -> Result<Vec<Delivery>, Infallible> {
        Ok(Vec::new())
    }

    fn delivery(&self, _: DeliveryId) -> Result<Option<Delivery>, Infallible> {
        Ok(None)
    }
}

/// Stretches of the log, the latest first, over what is below them.
pub(super) struct Stack<'s, B> {
    pub(super) above: &'s [&'s Told],
    pub(super) below: &'s B,
}

impl<B: Below> Stack<'_, B> {
    /// An open delivery or a dead letter.
    pub(super) fn delivery(&self, id: DeliveryId) -> Result<Option<Delivery>, B::Error> {
        let step = self.above.iter().find_map(|told| told.get(id).1);
        if step.is_some_and(|progress| !progress.is_kept()) {
            return Ok(None);
        }
        let planned = self.above.iter().find_map(|told| told.get(id).0);
        let delivery = match planned {
            Some(plan) => Some(plan.with(id, Progress::PLANNED)),
            None => self.below.delivery(id)?,
        };
        Ok(delivery.map(|delivery| Delivery { progress: step.unwrap_or(delivery.progress), ..delivery }))
    }

    /// At most `limit` deliveries after `after` and up to `end` that are wanted.
    pub(super) fn deliveries(
        &self,
        after: DeliveryId,
        wanted: Wanted,
        limit: usize,
        end: Position,
    ) -> Result<Deliveries, B::Error> {
        let mut reached = DeliveryId::last_of(end);
        let below = self.below.deliveries(after, wanted, limit)?;
        if below.len() >= limit {
            reached = below.last().map_or(reached, |delivery| delivery.id.min(reached));
        }
        let mut ids: Vec<_> = below.iter().map(|delivery| delivery.id).collect();
        for told in self.above {
            let most = reached;
            let mut left = limit.max(1);
            for (looked_at, (id, may_be)) in told.look_after(after, wanted).take_while(|(id, _)| *id <= most).enumerate() {
                if may_be {
                    ids.push(id);
                    left -= 1;
                }
                if left == 0 || looked_at + 1 == LOOKED_AT {
                    reached = id;
                    break;
                }
            }
        }
        // Stretches one after the other, each of them in order.
        ids.sort();
        ids.dedup();
        let mut found = Vec::new();
        for id in ids.into_iter().take_while(|id| *id <= reached) {
            if let Some(delivery) = self.delivery(id)?.filter(|delivery| wanted.wants(delivery)) {
                if found.len() == limit {
                    reached = found.last().map_or(reached, |last: &Delivery| last.id);
                    break;
                }
                found.push(delivery);
            }
        }
        Ok(Deliveries { found, reached: reached.max(after) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_name_survives_its_text(log: u64, position: u64, bot: bool) {
            let endpoint = if bot { Endpoint::Bot } else { Endpoint::Connector };
            let name = DeliveryName { log, id: DeliveryId { planned_at: Position(position), endpoint } };
            prop_assert_eq!(name.to_string().parse(), Ok(name));
        }

        #[test]
        fn no_text_makes_a_name_panic(text: String) {
            let _name: Result<DeliveryName, NoDelivery> = text.parse();
        }
    }

    #[test]
    fn what_is_open_or_dead_among_many_that_are_settled_is_found_over_several_looks() {
        let last = 3 * LOOKED_AT as u64;
        let state_of = |position: u64| match position % 1000 {
            0 => DeliveryState::Pending,
            1 => DeliveryState::Failed,
            _ => DeliveryState::Delivered,
        };
        // What was planned in one stretch is settled in the next, or in the same.
        let (mut young, mut old) = (Told::default(), Told::default());
        let connector = Endpoint::Connector.into();
        for position in 1..=last {
            let planned = pb::Delivery { channel_id: "c".into(), endpoint: connector, lane: 7, ..pb::Delivery::default() };
            let entry = Entry { deliveries: vec![planned], ..Entry::default() };
            old.apply(&Stored { position: Position(position), entry: entry.into() });
            let step = DeliveryStep {
                planned_at: position,
                endpoint: connector,
                state: state_of(position).into(),
                ..DeliveryStep::default()
            };
            let entry = Entry { delivery_steps: vec![step], ..Entry::default() };
            let told = if position % 2 == 0 { &mut young } else { &mut old };
            told.apply(&Stored { position: Position(last + position), entry: entry.into() });
        }
        let all = |wanted| {
            let (mut after, mut positions, mut looks) = (DeliveryId::NONE, Vec::new(), 0);
            while after < DeliveryId::last_of(Position(2 * last)) {
                let Ok(Deliveries { found, reached }) =
                    Stack { above: &[&young, &old], below: &() }.deliveries(after, wanted, 512, Position(2 * last));
                assert!(reached > after, "each look leads on");
                positions.extend(found.iter().map(|delivery| delivery.id.planned_at.0));
                after = reached;
                looks += 1;
            }
            assert!(looks > 1, "{wanted:?} is found at once");
            positions
        };
        let expected = |state| (1..=last).filter(|position| state_of(*position) == state).collect::<Vec<_>>();
        assert_eq!(all(Wanted::Open), expected(DeliveryState::Pending));
        assert_eq!(all(Wanted::Lane(7)), expected(DeliveryState::Pending));
        assert_eq!(all(Wanted::Dead), expected(DeliveryState::Failed));
    }

    #[test]
    fn another_text_names_no_delivery() {
        for text in ["", "AQ", "0", "{}", "AgAAAAAAAAABAAAAAAAAAAEB", "AQAAAAAAAAABAAAAAAAAAAEJ"] {
            assert_eq!(text.parse::<DeliveryName>(), Err(NoDelivery), "{text}");
        }
    }
}
