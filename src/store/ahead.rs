//! The facts as they will be once a frame is appended that is only being made.

use super::{
    Common, CustomerFacts, Delivery, DeliveryId, Facts, Name, Named, Position, Rank, SessionFacts, customer_numbers,
    last_activity, ranked_at,
};
use crate::pb::store::{Entry, Session};
use std::sync::Arc;

/// No log gets so far: the frame comes after all that is below, and where that ends need not be known.
const BEYOND: Position = Position(1 << 63);

/// Facts for whatever is to be added to a frame, so that it sees what the frame tells already of sessions and customers, as if that
/// had been appended before.
///
/// What is in the frame has no place in the log yet: it goes by no name, and its deliveries are those of the log. A session that it
/// ranks is said to be at 0, so that a report behind it, in the same frame, ranks it where that report is.
pub(crate) struct Ahead<'a> {
    below: &'a dyn Facts,
    frame: &'a [Entry],
}

impl<'a> Ahead<'a> {
    /// The facts below, and what the frame tells so far.
    pub(crate) const fn of(below: &'a dyn Facts, frame: &'a [Entry]) -> Self {
        Self { below, frame }
    }

    /// The latest entry of the frame that tells a session, and where it is.
    fn telling(&self, id: &str) -> Option<(usize, &Entry)> {
        let tells = |entry: &Entry| entry.session.as_ref().is_some_and(|session| session.id == id);
        self.frame.iter().enumerate().rfind(|(_, entry)| tells(entry))
    }

    /// The position by which the entry ranks its session that is at `at` in the frame: one beyond the log, unless it says an earlier one.
    fn ranked_at(&self, at: usize) -> Position {
        ranked_at(&self.frame[at], BEYOND.plus(at as u64))
    }

    /// The sessions with something in common, as the latest entry of the frame has them that tells each, and where that is.
    fn told_with(&self, common: Common<'_>) -> impl Iterator<Item = (usize, &Session)> {
        let all = self.frame.iter().enumerate().filter_map(|(at, entry)| Some((at, entry.session.as_ref()?)));
        let is_latest = |at: usize, session: &Session| self.telling(&session.id).is_some_and(|(latest, _)| latest == at);
        all.filter(move |(at, session)| common.has(session) && is_latest(*at, session))
    }
}

impl Facts for Ahead<'_> {
    fn session_and_position(&self, id: &str) -> Option<(Position, SessionFacts)> {
        let Some((_, entry)) = self.telling(id) else { return self.below.session_and_position(id) };
        let facts = SessionFacts { session: Arc::new(entry.session.clone()?), last_activity: last_activity(entry) };
        Some((Position(entry.ranked_at), facts))
    }

    fn session_with(&self, common: Common<'_>, passed_over: &dyn Fn(&str) -> bool) -> Option<Arc<Session>> {
        let below = self.below.session_with(common, &|id| passed_over(id) || self.telling(id).is_some());
        let told = self.told_with(common).filter(|(_, session)| !passed_over(&session.id));
        let told = told.map(|(at, session)| (Rank::of(session, self.ranked_at(at)), session));
        let Some((rank, session)) = told.max_by_key(|(rank, _)| *rank) else { return below };
        let is_later = |below: &Arc<Session>| {
            let position = self.below.session_and_position(&below.id).map_or(Position(0), |(position, _)| position);
            Rank::of(below, position) > rank
        };
        below.filter(is_later).or_else(|| Some(Arc::new(session.clone())))
    }

    fn customer(&self, id: &str) -> Option<Arc<CustomerFacts>> {
        let told = self.frame.iter().rev().find_map(|entry| {
            entry.session.as_ref().filter(|session| session.customer_id == id)?;
            let message = entry.message.as_deref()?;
            let customer = message.header.as_ref()?.customer.clone()?;
            Some(Arc::new(CustomerFacts { customer, exact_numbers: customer_numbers(&message.exact_numbers) }))
        });
        told.or_else(|| self.below.customer(id))
    }

    fn named(&self, name: Name<'_>) -> Option<Named> {
        let named = self.below.named(name)?;
        let session = named.session.and_then(|session| self.session(&session.id));
        Some(Named { session, ..named })
    }

    fn delivery(&self, id: DeliveryId) -> Option<Delivery> {
        self.below.delivery(id)
    }

    fn is_open(&self, id: DeliveryId) -> bool {
        self.below.is_open(id)
    }
}

#[cfg(test)]
mod tests {
    use super::super::conformance::{Life, Model};
    use super::super::facts::State;
    use super::super::{SessionKey, Stored};
    use super::*;
    use prost_types::Timestamp;

    #[test]
    fn what_is_in_the_frame_is_seen_as_if_it_had_been_appended() {
        let mut life = Life::new();
        let (mut state, mut log) = (State::default(), Vec::new());
        while log.len() < 300 {
            let frame = life.frame_on(state.facts());
            let stored = frame
                .iter()
                .enumerate()
                .map(|(i, entry)| Stored { position: Position((log.len() + i) as u64 + 1), entry: Arc::new(entry.clone()) });
            let stored: Vec<_> = stored.collect();
            life.learn(&stored);
            log.extend(stored.iter().cloned());
            Model(&log).assert_agrees_on_sessions(&Ahead::of(state.facts(), &frame));
            stored.iter().for_each(|stored| state.apply(stored));
        }
    }

    #[test]
    fn a_frame_of_many_entries_tells_each_session_as_it_is_last() {
        let mut life = Life::new();
        let frames: Vec<_> = std::iter::repeat_with(|| life.frame()).take(50).flatten().collect();
        let stored = frames.iter().zip(1..).map(|(entry, at)| Stored { position: Position(at), entry: Arc::new(entry.clone()) });
        let log: Vec<_> = stored.collect();
        for below in [0, 1, log.len() / 2, log.len()] {
            let mut state = State::default();
            log[..below].iter().for_each(|stored| state.apply(stored));
            Model(&log).assert_agrees_on_sessions(&Ahead::of(state.facts(), &frames[below..]));
        }
    }

    /// An entry that tells a session of the customer `c`, on a channel of this name.
    fn telling(channel: &str, ended_at: Option<i64>) -> Entry {
        let session = Session {
            id: channel.into(),
            service_identifier: channel.into(),
            customer_id: "c".into(),
            conversation_id: "conversation".into(),
            ended_at: ended_at.map(|seconds| Timestamp { seconds, nanos: 0 }),
            ..Session::default()
        };
        Entry { session: Some(session), ..Entry::default() }
    }

    /// What is known of these entries.
    fn known(entries: &[Entry]) -> State {
        let mut state = State::default();
        for (entry, at) in entries.iter().zip(1..) {
            state.apply(&Stored { position: Position(at), entry: Arc::new(entry.clone()) });
        }
        state
    }

    #[test]
    fn where_the_frame_ends_a_session_another_one_below_goes_on() {
        let below = known(&[telling("mail", None), telling("web", None)]);
        let frame = [telling("web", Some(5))];
        let ahead = Ahead::of(below.facts(), &frame);
        assert_eq!(ahead.active_conversation("c").as_deref(), Some("conversation"));
        assert_eq!(ahead.session_of_conversation("conversation").map(|session| session.id.clone()).as_deref(), Some("mail"));
        let frame = [telling("web", Some(5)), telling("mail", Some(4))];
        let ahead = Ahead::of(below.facts(), &frame);
        assert_eq!(ahead.active_conversation("c"), None);
        assert_eq!(ahead.session_of_conversation("conversation").map(|session| session.id.clone()).as_deref(), Some("web"));
        let key = SessionKey { service_identifier: "mail".into(), channel_customer_identifier: String::new() };
        let mail = ahead.latest_session(&key).expect("has ended");
        assert_eq!((ahead.session("mail").as_ref(), mail.ended_at.is_some()), (Some(&mail), true));
    }

    #[test]
    fn what_only_reports_leaves_its_session_where_it_stands_below_and_in_the_frame() {
        let below = known(&[telling("mail", None), telling("web", None)]);
        let meant = |frame: &[Entry]| {
            let session = Ahead::of(below.facts(), frame).session_of_conversation("conversation");
            session.map(|session| session.id.clone()).expect("is known")
        };
        let reports = |channel: &str, ranked_at| Entry { ranked_at, ..telling(channel, None) };
        assert_eq!(meant(&[reports("mail", 1)]), "web");
        assert_eq!(meant(&[reports("web", 2), reports("mail", 1)]), "web");
        assert_eq!(meant(&[reports("mail", 1), telling("mail", None)]), "mail");
        assert_eq!(meant(&[telling("mail", None), reports("web", 2)]), "mail");
        let position = |frame: &[Entry]| Ahead::of(below.facts(), frame).session_and_position("mail").map(|found| found.0.0);
        assert_eq!([&[][..], &[reports("mail", 1)], &[telling("mail", None)]].map(position), [1, 1, 0].map(Some));
    }

    #[test]
    fn what_goes_by_a_name_has_its_session_as_the_frame_tells_it() {
        let message = crate::pb::CimMessage { id: Some("m".into()), ..Default::default() };
        let below = known(&[Entry { message: Some(message.into()), ..telling("web", None) }]);
        let frame = [telling("web", Some(5))];
        let named = Ahead::of(below.facts(), &frame).named(Name::Message("m")).expect("is known");
        assert_eq!((named.position, named.session.as_deref()), (Position(1), frame[0].session.as_ref()));
    }
}
