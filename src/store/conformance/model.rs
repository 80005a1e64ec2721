//! The facts of a log, the slow way.

use super::*;
use crate::store::told_names;

/// The facts of a log by their definitions, each found by going through all of it.
pub(in crate::store) struct Model<'l>(pub(in crate::store) &'l [Stored]);

/// The entry that gives the session of this one its place among those that could be meant.
fn rank(stored: &Stored) -> Position {
    match stored.entry.ranked_at {
        0 => stored.position,
        earlier => Position(earlier),
    }
}

impl Model<'_> {
    /// The sessions told, each as it stands now and with the entry by which it is ranked.
    pub(super) fn sessions(&self) -> Vec<(&Session, Position)> {
        let mut seen = HashSet::new();
        let told = self.0.iter().rev().filter_map(|stored| Some((stored.entry.session.as_ref()?, rank(stored))));
        told.filter(|(session, _)| seen.insert(session.id.as_str())).collect()
    }

    /// The session that is meant where those that `belong` could be.
    fn meant(&self, belong: impl Fn(&Session) -> bool) -> Option<Arc<Session>> {
        let (active, ended): (Vec<_>, Vec<_>) = self
            .sessions()
            .into_iter()
            .filter(|(session, _)| belong(session))
            .partition(|(session, _)| session.ended_at.is_none());
        let latest = active.into_iter().max_by_key(|(_, position)| *position);
        let meant = latest.or_else(|| ended.into_iter().max_by_key(|(session, position)| (key(&session.ended_at), *position)));
        meant.map(|(session, _)| Arc::new(session.clone()))
    }

    /// Every delivery that was ever planned, in that order.
    pub(in crate::store) fn planned(&self) -> Vec<DeliveryId> {
        let of = |stored: &Stored| {
            let planned_at = stored.position;
            let endpoints = stored.entry.deliveries.iter().map(pb::store::Delivery::endpoint);
            endpoints.map(|endpoint| DeliveryId { planned_at, endpoint }).collect::<Vec<_>>()
        };
        let mut planned: Vec<_> = self.0.iter().flat_map(of).collect();
        planned.sort_unstable();
        planned
    }

    pub(in crate::store) fn conversations(&self) -> HashSet<String> {
        self.sessions().into_iter().map(|(session, _)| session.conversation_id.clone()).collect()
    }

    pub(in crate::store) fn history(&self, conversation: &str) -> Vec<u64> {
        let belongs = |stored: &&Stored| {
            !stored.entry.ephemeral && stored.entry.session.as_ref().is_some_and(|s| s.conversation_id == conversation)
        };
        self.0.iter().rev().filter(belongs).map(|stored| stored.position.0).collect()
    }

    /// Compares with `facts` all that could be asked for in this log.
    pub(in crate::store) fn assert_agrees(&self, facts: &dyn Facts) {
        self.assert_agrees_on_sessions(facts);
        for (session, position) in self.sessions() {
            assert_eq!(facts.session_and_position(&session.id).map(|found| found.0), Some(position), "rank of {}", session.id);
        }
        self.assert_agrees_on_names(facts);
        for id in self.planned() {
            // It may have been carried forward, with its message; and lanes have numbers of their own in each log.
            let anywhere = |delivery: Delivery| Delivery { message: delivery.id.planned_at, lane: 0, ..delivery };
            assert_eq!(facts.delivery(id).map(anywhere), self.delivery(id).map(anywhere), "{id:?}");
        }
    }

    /// The same, of what is said of sessions and customers.
    pub(in crate::store) fn assert_agrees_on_sessions(&self, facts: &dyn Facts) {
        let mut sessions: HashSet<&str> = HashSet::from(["unknown", ""]);
        let mut keys = HashSet::from([SessionKey::of(&Session::default())]);
        let mut conversations = HashSet::from(["unknown", ""]);
        let mut customers = HashSet::from(["unknown", ""]);
        let mut addresses = HashSet::from([("unknown", "")]);
        for session in self.0.iter().filter_map(|stored| stored.entry.session.as_ref()) {
            sessions.insert(&session.id);
            keys.insert(SessionKey::of(session));
            conversations.insert(&session.conversation_id);
            customers.insert(&session.customer_id);
            addresses.insert((&session.channel_type, &session.channel_customer_identifier));
        }
        for id in sessions {
            assert_eq!(facts.session_facts(id), self.session_facts(id), "session {id:?}");
        }
        for key in keys {
            assert_eq!(facts.latest_session(&key), self.latest_session(&key), "session of {key:?}");
            self.assert_agrees_on_those_with(Common::Key(&key), facts);
        }
        for id in conversations {
            assert_eq!(facts.session_of_conversation(id), self.session_of_conversation(id), "session of conversation {id:?}");
            self.assert_agrees_on_those_with(Common::Conversation(id), facts);
        }
        for id in customers {
            assert_eq!(facts.customer(id), self.customer(id), "customer {id:?}");
            assert_eq!(facts.active_conversation(id), self.active_conversation(id), "active conversation of customer {id:?}");
            self.assert_agrees_on_those_with(Common::Customer(id), facts);
        }
        for (channel_type, address) in addresses {
            let found = facts.customer_at(channel_type, address);
            assert_eq!(found, self.customer_at(channel_type, address), "customer at {channel_type:?} {address:?}");
            self.assert_agrees_on_those_with(Common::Address { channel_type, address }, facts);
        }
    }

    /// The same, of sessions with something in common, each without those that go before it.
    fn assert_agrees_on_those_with(&self, common: Common<'_>, facts: &dyn Facts) {
        let mut before = HashSet::new();
        loop {
            let meant = self.session_with(common, &|id| before.contains(id));
            assert_eq!(facts.session_with(common, &|id| before.contains(id)), meant, "{common:?} without {before:?}");
            let Some(meant) = meant else { return };
            before.insert(meant.id.clone());
        }
    }

    /// The same, of what goes by a name.
    fn assert_agrees_on_names(&self, facts: &dyn Facts) {
        let mut messages = HashSet::from(["unknown", ""]);
        let mut provider_ids = HashSet::from([Name::Provider { service_identifier: "", id: "unknown" }]);
        for stored in self.0 {
            messages.extend([stored.id(), stored.claimed_id()]);
            let ids = [provider_id(stored), reported_id(stored)].into_iter().flatten();
            let service_identifier = service_identifier(stored).unwrap_or_default();
            provider_ids.extend(ids.map(|id| Name::Provider { service_identifier, id }));
            provider_ids.extend(told_names(&stored.entry));
        }
        let on_channels = messages.iter().flat_map(|id| {
            ["service 0", "service 1", "service 2"].map(|service_identifier| Name::MessageOn { service_identifier, id })
        });
        let on_channels: Vec<_> = on_channels.collect();
        for name in messages.into_iter().map(Name::Message).chain(on_channels).chain(provider_ids) {
            assert_eq!(facts.named(name), self.named(name), "{name:?}");
        }
    }
}

impl Facts for Model<'_> {
    fn session_and_position(&self, id: &str) -> Option<(Position, SessionFacts)> {
        let told = |stored: &&Stored| stored.entry.session.as_ref().is_some_and(|session| session.id == id);
        let stored = self.0.iter().rev().find(told)?;
        let last_activity = stored.entry.last_activity.or(stored.entry.accepted_at)?;
        Some((rank(stored), SessionFacts { session: Arc::new(stored.entry.session.clone()?), last_activity }))
    }

    fn session_with(&self, common: Common<'_>, passed_over: &dyn Fn(&str) -> bool) -> Option<Arc<Session>> {
        self.meant(|session| common.has(session) && !passed_over(&session.id))
    }

    fn latest_session(&self, key: &SessionKey) -> Option<Arc<Session>> {
        self.meant(|session| SessionKey::of(session) == *key)
    }

    fn session_of_conversation(&self, conversation: &str) -> Option<Arc<Session>> {
        self.meant(|session| session.conversation_id == conversation)
    }

    fn customer(&self, id: &str) -> Option<Arc<CustomerFacts>> {
        self.0.iter().rev().find_map(|stored| {
            stored.entry.session.as_ref().filter(|session| session.customer_id == id)?;
            let carried = stored.entry.carried.as_ref().and_then(|carried| carried.customer.as_ref());
            if let Some(customer) = carried.cloned().map(CustomerFacts::from_pb) {
                return Some(Arc::new(customer));
            }
            let message = stored.entry.message.as_ref()?;
            let customer = message.header.as_ref()?.customer.clone()?;
            Some(Arc::new(CustomerFacts { customer, exact_numbers: customer_numbers(&message.exact_numbers) }))
        })
    }

    fn customer_at(&self, channel_type: &str, address: &str) -> Option<String> {
        let session =
            self.meant(|session| session.channel_type == channel_type && session.channel_customer_identifier == address)?;
        Some(session.customer_id.clone())
    }

    fn active_conversation(&self, customer: &str) -> Option<String> {
        let session = self.meant(|session| session.customer_id == customer && session.ended_at.is_none())?;
        Some(session.conversation_id.clone())
    }

    fn named(&self, name: Name<'_>) -> Option<Named> {
        let goes_by_it = |stored: &&Stored| match name {
            Name::Message(id) => [stored.id(), stored.claimed_id()].contains(&id),
            Name::MessageOn { service_identifier, id } => {
                let session = stored.entry.session.as_ref();
                let is_on_it = session.is_some_and(|session| session.service_identifier == service_identifier);
                is_on_it && [stored.id(), stored.claimed_id()].contains(&id)
            }
            Name::Provider { service_identifier: service, id } => {
                let own = provider_id(stored) == Some(id) && reported_id(stored) != Some(id);
                let guessed = reported_id(stored) == Some(id) && stored.entry.about == 0;
                service_identifier(stored) == Some(service) && (own || guessed)
            }
        };
        let told = |stored: &&Stored| match name {
            Name::Message(_) | Name::MessageOn { .. } => false,
            Name::Provider { service_identifier: service, id } => {
                let on_it = stored.entry.session.as_ref().is_some_and(|session| session.service_identifier == service);
                on_it && stored.entry.about != 0 && stored.entry.delivery_steps.iter().any(|step| step.provider_message_id == id)
            }
        };
        let goes_by_it = |stored: &&Stored| !stored.entry.ephemeral && goes_by_it(stored);
        let latest = self.0.iter().rev().find(|stored| goes_by_it(stored) || told(stored))?;
        if told(&latest) {
            let session = latest.entry.session.as_ref().and_then(|session| self.session(&session.id));
            return Some(Named { position: Position(latest.entry.about), session, waits: false });
        }
        let waits = matches!(name, Name::Provider { .. }) && reported_id(latest).is_some() && latest.entry.about == 0;
        let session = latest.entry.session.as_ref().and_then(|session| self.session(&session.id));
        Some(Named { position: latest.position, session, waits })
    }

    fn delivery(&self, id: DeliveryId) -> Option<Delivery> {
        let planned = self.0.iter().find(|stored| stored.position == id.planned_at)?;
        let plan = planned.entry.deliveries.iter().find(|delivery| delivery.endpoint() == id.endpoint)?;
        let of_it = |step: &&DeliveryStep| step.planned_at == id.planned_at.0 && step.endpoint() == id.endpoint;
        let latest = self.0.iter().rev().find_map(|stored| stored.entry.delivery_steps.iter().rev().find(of_it));
        let progress = latest.map_or(Progress::PLANNED, |step| Progress {
            state: step.state(),
            attempts: step.attempts,
            due: step.due.as_ref().map_or(0, |due| due.seconds * 1_000_000_000),
        });
        let kept = [DeliveryState::Pending, DeliveryState::Parked, DeliveryState::Failed].contains(&progress.state);
        kept.then(|| Delivery { id, channel_id: plan.channel_id.clone(), lane: plan.lane, message: planned.position, progress })
    }
}
