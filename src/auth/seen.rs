//! What is known, as a caller may know it.

use super::caller::Caller;
use crate::pb::store::Session;
use crate::store::{Common, CustomerFacts, Delivery, DeliveryId, Facts, Name, Named, Position, SessionFacts};
use std::sync::Arc;

/// Most sessions of others in one conversation that are passed over: everybody else waits meanwhile.
const UNSEEN: usize = 16;

/// Facts without the sessions of service identifiers that a caller is not bound to: to it they are unknown, and so are the messages in
/// them. Customers are everybody's.
pub(super) struct Seen<'f> {
    pub(super) facts: &'f dyn Facts,
    pub(super) caller: &'f Caller,
}

impl Seen<'_> {
    fn sees(&self, session: &Session) -> bool {
        self.caller.sees(&session.service_identifier)
    }
}

impl Facts for Seen<'_> {
    fn session_and_position(&self, id: &str) -> Option<(Position, SessionFacts)> {
        self.facts.session_and_position(id).filter(|(_, known)| self.sees(&known.session))
    }

    fn session_with(&self, common: Common<'_>, passed_over: &dyn Fn(&str) -> bool) -> Option<Arc<Session>> {
        let everybodys = matches!(common, Common::Customer(_) | Common::Address { .. });
        let mut unseen: Vec<String> = Vec::new();
        while unseen.len() <= UNSEEN {
            let session = self.facts.session_with(common, &|id| passed_over(id) || unseen.iter().any(|other| other == id))?;
            if everybodys || self.sees(&session) {
                return Some(session);
            }
            unseen.push(session.id.clone());
        }
        None
    }

    fn customer(&self, id: &str) -> Option<Arc<CustomerFacts>> {
        self.facts.customer(id)
    }

    fn named(&self, name: Name<'_>) -> Option<Named> {
        self.facts.named(name).filter(|named| named.session.as_ref().is_none_or(|session| self.sees(session)))
    }

    fn delivery(&self, id: DeliveryId) -> Option<Delivery> {
        self.facts.delivery(id)
    }
}
