//! What happens to a log, at random.

use super::*;

/// Frames as life could bring them, at random. The seed is printed: `CONFORMANCE_SEED` brings a failure back.
pub(in crate::store) struct Life {
    random: Random,
    clock: i64,
    messages: usize,
    sessions: Vec<Session>,
    used: HashSet<String>,
    /// How many more deliveries may be planned: those that are not settled are never let go of.
    open: usize,
    /// Deliveries that are known to have been planned, each with the entry that plans it.
    planned: Vec<(DeliveryId, Stored)>,
    /// Those of them that were given up: none is open again.
    dead: HashSet<DeliveryId>,
    /// How many entries there are.
    stored: usize,
    /// Messages of sessions that something can be reported of.
    said: Vec<Stored>,
}

/// Most messages that are remembered to report on.
const REPORTED_ON: usize = 12;

impl Life {
    pub(in crate::store) fn new() -> Self {
        Self::of(Random::seeded_by("CONFORMANCE_SEED"))
    }

    /// One that leaves as many deliveries open as it likes.
    pub(in crate::store) fn open_handed() -> Self {
        Self { open: usize::MAX, ..Self::new() }
    }

    /// The life that these random numbers bring.
    pub(in crate::store) fn of(random: Random) -> Self {
        let (sessions, used, planned, dead, said) = Default::default();
        Self { random, clock: 0, messages: 0, sessions, used, open: 6, planned, dead, stored: 0, said }
    }

    fn one_of(&mut self, prefix: &str, count: usize) -> String {
        format!("{prefix}{}", self.random.below(count))
    }

    /// The next frame, of one to three entries, of those who know nothing of what became of others.
    pub(in crate::store) fn frame(&mut self) -> Frame {
        let entries = 0..1 + self.random.below(3);
        entries
            .map(|_| {
                let entry = self.timed();
                self.with_deliveries(entry)
            })
            .collect()
    }

    /// The next frame, in which outcomes and receipts are told as well, by what `facts` tell when it is staged.
    pub(in crate::store) fn frame_on(&mut self, facts: &dyn Facts) -> Frame {
        let mut frame = Frame::new();
        for _ in 0..1 + self.random.below(3) {
            let report = match self.random.below(5) {
                0 => self.outcome(&Ahead::of(facts, &frame)),
                1 => self.receipt(&Ahead::of(facts, &frame)),
                _ => None,
            };
            frame.push(report.unwrap_or_else(|| {
                let entry = self.timed();
                self.with_deliveries(entry)
            }));
        }
        frame
    }

    /// What the gateway tells once it has delivered a message, or has tried to: as whoever writes outcomes down.
    fn outcome(&mut self, facts: &dyn Facts) -> Option<Entry> {
        let open: Vec<_> = (0..self.planned.len()).filter(|index| facts.is_open(self.planned[*index].0)).collect();
        let index = *open.get(self.random.below(open.len().max(1)))?;
        let stored = self.planned[index].1.clone();
        let state = [DeliveryState::Failed, DeliveryState::Delivered][self.random.below(2)];
        let delivery_steps = vec![self.step_of(index, state)];
        Some(Entry { delivery_steps, ..self.report(&stored, facts) })
    }

    /// What a connector tells of a message later.
    fn receipt(&mut self, facts: &dyn Facts) -> Option<Entry> {
        let stored = self.said.get(self.random.below(self.said.len().max(1))).cloned()?;
        Some(Entry { submission: Some(Box::default()), ..self.report(&stored, facts) })
    }

    /// A delivery notification about a message.
    fn report(&mut self, about: &Stored, facts: &dyn Facts) -> Entry {
        self.messages += 1;
        let mut message = message_of(&about.entry).map(sessions::gist).unwrap_or_default();
        let body = pb::DeliveryNotificationBody { message_id: Some(about.id().into()), ..Default::default() };
        let body = pb::Body { kind: Some(Kind::DeliveryNotification(body)), ..pb::Body::default() };
        sessions::by_gateway(&mut message, body, Timestamp { seconds: self.clock, nanos: 0 });
        message.id = Some(format!("message {}", self.messages));
        let (message, session) = (Some(message.into()), about.entry.session.clone());
        let mut entry = Entry { message, session, about: about.position.0, ..Entry::default() };
        if self.random.below(3) == 0 {
            entry = on_channel(entry, Some(&self.one_of("provided ", 5)));
        }
        sessions::bring_up_to_date(&mut entry, facts);
        let customer = entry.session.as_ref().and_then(|session| facts.customer(&session.customer_id));
        if customer.is_none() {
            // Every message of a gateway's tells its customer, and not every one of this life does.
            entry.message.get_or_insert_default().header.get_or_insert_default().customer = None;
        }
        receipts::hold_earlier(&mut entry, facts);
        entry
    }

    /// The next entry, which says when the customer of its session was last active.
    fn timed(&mut self) -> Entry {
        let last_activity = Timestamp { seconds: self.clock - self.random.below(3) as i64, nanos: 0 };
        let entry = self.entry();
        let last_activity = entry.session.as_ref().map(|_| last_activity);
        Entry { last_activity, ..entry }
    }

    /// Takes notice of what a frame has become: what was planned may be settled later, and what was said reported on.
    pub(in crate::store) fn learn(&mut self, stored: &[Stored]) {
        if let Some(first) = stored.first() {
            self.forget_after(first.position.previous());
        }
        for id in Model(stored).planned() {
            let planned = stored.iter().find(|stored| stored.position == id.planned_at);
            self.planned.extend(planned.map(|stored| (id, stored.clone())));
        }
        let is_said = |stored: &&Stored| stored.entry.session.is_some() && !stored.entry.ephemeral;
        self.said.extend(stored.iter().filter(is_said).cloned());
        self.said.drain(..self.said.len().saturating_sub(REPORTED_ON));
        self.stored = stored.last().map_or(self.stored, |last| last.position.0 as usize);
    }

    /// What came after `end` was lost.
    pub(in crate::store) fn forget_after(&mut self, end: Position) {
        self.planned.retain(|(_, planned)| planned.position <= end);
        self.said.retain(|said| said.position <= end);
        self.stored = self.stored.min(end.0 as usize);
    }

    fn with_deliveries(&mut self, mut entry: Entry) -> Entry {
        if self.open > 0 && self.random.below(3) == 0 {
            self.open -= 1;
            let endpoints = [Endpoint::Connector, Endpoint::Bot];
            let from = self.random.below(2);
            let header = entry.message.get_or_insert_default().header.get_or_insert_default();
            header.channel_data.get_or_insert_default().channel_customer_identifier = Some(self.one_of("address ", 3));
            entry = planning(entry, &endpoints[from..]);
        }
        if !self.planned.is_empty() && self.random.below(3) == 0 {
            let index = self.random.below(self.planned.len());
            let states = [DeliveryState::Pending, DeliveryState::Parked, DeliveryState::Failed, DeliveryState::Delivered];
            let state = match states[self.random.below(states.len())] {
                DeliveryState::Pending | DeliveryState::Parked if self.dead.contains(&self.planned[index].0) => {
                    DeliveryState::Failed
                }
                state => state,
            };
            let mut step = self.step_of(index, state);
            if self.random.below(2) == 0 {
                step.provider_message_id = self.one_of("provided ", 5);
            }
            entry.delivery_steps.push(step);
        }
        entry
    }

    /// A step of a delivery that was planned.
    fn step_of(&mut self, index: usize, state: DeliveryState) -> DeliveryStep {
        let id = self.planned[index].0;
        if state == DeliveryState::Failed {
            self.dead.insert(id);
        }
        if state == DeliveryState::Delivered {
            self.open = self.open.saturating_add(1);
            self.planned.swap_remove(index);
        }
        let due = Timestamp { seconds: self.clock, nanos: 0 };
        DeliveryStep { attempts: self.messages as u32, due: Some(due), ..step(id, state) }
    }

    fn entry(&mut self) -> Entry {
        self.clock += self.random.below(2) as i64;
        match self.random.below(9) {
            0 => self.message(None),
            1 | 2 => {
                let opened = self.open();
                self.message(opened)
            }
            3 => {
                let at = Timestamp { seconds: self.clock, nanos: 0 };
                let ended = self.any_session(|session| session.ended_at = Some(session.ended_at.unwrap_or(at)));
                self.message(ended)
            }
            4 => {
                let customer = self.one_of("customer ", 4);
                let renamed = self.any_session(|session| session.customer_id = customer);
                self.message(renamed)
            }
            5 => {
                let session = self.any_session(|_| {});
                Entry { ephemeral: true, ..self.message(session) }
            }
            _ => {
                let session = self.any_session(|_| {});
                self.message(session)
            }
        }
    }

    /// Opens a session of a key that has no active one.
    fn open(&mut self) -> Option<Session> {
        let channel = self.random.below(3);
        let session = Session {
            id: format!("session {}", self.sessions.len()),
            service_identifier: format!("service {channel}"),
            channel_customer_identifier: self.one_of("address ", 3),
            conversation_id: self.one_of("conversation ", 6),
            customer_id: self.one_of("customer ", 4),
            channel_type: format!("type {}", channel / 2),
            opened_at: Some(Timestamp { seconds: self.clock, nanos: 0 }),
            ..Session::default()
        };
        let key = SessionKey::of(&session);
        if self.sessions.iter().any(|other| other.ended_at.is_none() && SessionKey::of(other) == key) {
            return None;
        }
        self.sessions.push(session.clone());
        Some(session)
    }

    fn any_session(&mut self, change: impl FnOnce(&mut Session)) -> Option<Session> {
        let index = self.random.below(self.sessions.len().max(1));
        let session = self.sessions.get_mut(index)?;
        change(session);
        Some(session.clone())
    }

    fn message(&mut self, session: Option<Session>) -> Entry {
        self.messages += 1;
        let fresh = format!("message {}", self.messages);
        let sent = self.one_of("sent ", 8);
        let mut entry = match self.random.below(3) {
            0 => said(&fresh),
            _ if self.used.insert(sent.clone()) => renewed(&sent, &sent),
            _ => renewed(&fresh, &sent),
        };
        let message = entry.message.get_or_insert_default();
        if session.is_some() && self.random.below(4) > 0 {
            let mut customer = pb::Customer { first_name: Some(self.one_of("name ", 3)), ..pb::Customer::default() };
            let score = ["/header/customer/score", "/body/score"][self.random.below(2)];
            if score.starts_with("/header") {
                let number = Value { kind: Some(value::Kind::NumberValue(9_007_199_254_740_992.0)) };
                customer.extra_fields.get_or_insert_default().fields.insert("score".into(), number);
            }
            message.header = Some(pb::Header { customer: Some(customer), ..pb::Header::default() });
            message.exact_numbers = wire::Exact::from([(score.to_owned(), "9007199254740993".to_owned())]);
        }
        self.with_names(Entry { session, ..entry })
    }

    /// Some messages have provider's ids, and some are delivery notifications, of which some report what nobody knows.
    fn with_names(&mut self, entry: Entry) -> Entry {
        let provider_id = (self.random.below(3) == 0).then(|| self.one_of("provided ", 5));
        let known = self.stored.checked_sub(1).map(|last| self.random.below(last.min(9) + 1));
        match (self.random.below(4), known) {
            (0, Some(back)) => {
                let body = pb::DeliveryNotificationBody { message_id: Some(self.one_of("sent ", 8)), ..Default::default() };
                let body = pb::Body { kind: Some(Kind::DeliveryNotification(body)), ..pb::Body::default() };
                let mut entry = on_channel(entry, provider_id.as_deref());
                entry.message.get_or_insert_default().body = Some(body);
                // The latest entries are those that the most engines still have.
                let about = if back % 3 == 0 { 0 } else { (self.stored - back) as u64 };
                Entry { about, ..entry }
            }
            _ if provider_id.is_some() => on_channel(entry, provider_id.as_deref()),
            _ => entry,
        }
    }
}
