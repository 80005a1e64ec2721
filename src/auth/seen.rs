//! What is known, as a caller may know it.

use super::caller::Caller;
use crate::pb::store::Session;
use crate::store::{CustomerFacts, Delivery, DeliveryId, Facts, Name, Named, SessionFacts, SessionKey};
use std::sync::Arc;

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
    fn session_facts(&self, id: &str) -> Option<SessionFacts> {
        self.facts.session_facts(id).filter(|known| self.sees(&known.session))
    }

    fn latest_session(&self, key: &SessionKey) -> Option<Arc<Session>> {
        self.facts.latest_session(key).filter(|session| self.sees(session))
    }

    fn session_of_conversation(&self, conversation: &str) -> Option<Arc<Session>> {
        self.facts.session_of_conversation(conversation).filter(|session| self.sees(session))
    }

    fn customer(&self, id: &str) -> Option<Arc<CustomerFacts>> {
        self.facts.customer(id)
    }

    fn customer_at(&self, channel_type: &str, address: &str) -> Option<String> {
        self.facts.customer_at(channel_type, address)
    }

    fn active_conversation(&self, customer: &str) -> Option<String> {
        self.facts.active_conversation(customer)
    }

    fn named(&self, name: Name<'_>) -> Option<Named> {
        self.facts.named(name).filter(|named| named.session.as_ref().is_none_or(|session| self.sees(session)))
    }

    fn delivery(&self, id: DeliveryId) -> Option<Delivery> {
        self.facts.delivery(id)
    }
}
