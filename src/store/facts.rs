//! The facts that follow from the log: sessions, conversations, customers and ids.
//!
//! [`State::apply`] is pure: it needs no clock and no configuration, so that the same entries always give the same facts.

use super::{Position, Stored};
use crate::pb;
use crate::wire::Exact;
use std::collections::HashMap;
use std::sync::Arc;

/// One customer on one channel.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SessionKey {
    /// The channel.
    pub service_identifier: String,
    /// The customer's address on it.
    pub channel_customer_identifier: String,
}

impl SessionKey {
    /// The key of a session.
    pub fn of(session: &pb::store::Session) -> Self {
        Self {
            service_identifier: session.service_identifier.clone(),
            channel_customer_identifier: session.channel_customer_identifier.clone(),
        }
    }
}

/// A customer as known so far.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CustomerFacts {
    /// The customer.
    pub customer: pb::Customer,
    /// Literals of its free-form numbers, by JSON Pointer into a message that carries it.
    pub exact_numbers: Exact,
}

/// What a stage may look up. Every answer holds for all entries staged before.
pub trait Facts {
    /// A session by its id, active or ended.
    fn session(&self, id: &str) -> Option<Arc<pb::store::Session>>;

    /// The latest session of a key, active or ended.
    fn latest_session(&self, key: &SessionKey) -> Option<Arc<pb::store::Session>>;

    /// The session of a conversation that was active last: an active one before any that has ended.
    fn session_of_conversation(&self, conversation: &str) -> Option<Arc<pb::store::Session>>;

    /// A customer by id.
    fn customer(&self, id: &str) -> Option<Arc<CustomerFacts>>;

    /// Id of the customer with an address on channels of a type.
    fn customer_at(&self, channel_type: &str, address: &str) -> Option<String>;

    /// The conversation of a customer that has an active session.
    fn active_conversation(&self, customer: &str) -> Option<String>;

    /// The session of the latest message accepted under a client's id, or under the id it has now.
    fn session_of_message(&self, id: &str) -> Option<Arc<pb::store::Session>>;
}

/// True while a session has not ended.
pub(crate) const fn is_active(session: &pb::store::Session) -> bool {
    session.ended_at.is_none()
}

/// All facts of a log, in memory.
#[derive(Debug, Default)]
pub(super) struct State {
    sessions: HashMap<String, Latest<Arc<pb::store::Session>>>,
    keys: HashMap<SessionKey, String>,
    conversations: HashMap<String, Conversation>,
    customers: HashMap<String, Latest<Arc<CustomerFacts>>>,
    /// The conversation in which each customer was active last.
    customer_conversations: HashMap<String, String>,
    addresses: HashMap<Address, String>,
    ids: HashMap<String, Vec<Accepted>>,
}

/// A message accepted under an id.
#[derive(Debug)]
struct Accepted {
    position: Position,
    /// Its session as it stood then.
    session: Option<Arc<pb::store::Session>>,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Address {
    channel_type: String,
    address: String,
}

impl Address {
    fn of(session: &pb::store::Session) -> Self {
        Self { channel_type: session.channel_type.clone(), address: session.channel_customer_identifier.clone() }
    }
}

/// A fact and the entry that told it last.
#[derive(Debug)]
struct Latest<T> {
    fact: T,
    position: Position,
}

#[derive(Debug, Default)]
struct Conversation {
    /// Active sessions, the latest active last.
    active: Vec<String>,
    /// The session that was active last.
    latest: String,
    /// Its newest message that has a place in the history.
    newest: Position,
    /// Its newest entry of any kind.
    position: Position,
}

impl State {
    /// Takes in the next entry.
    pub(super) fn apply(&mut self, stored: &Stored) {
        let Stored { position, entry } = stored;
        if let Some(session) = &entry.session {
            self.apply_session(*position, entry.ephemeral, session);
            self.apply_customer(*position, session, entry.message.as_ref());
        }
        if !entry.ephemeral {
            let session = entry.session.as_ref().and_then(|session| self.session(&session.id));
            for id in ids(stored) {
                let accepted = Accepted { position: *position, session: session.clone() };
                self.ids.entry(id.to_owned()).or_default().push(accepted);
            }
        }
    }

    fn apply_customer(&mut self, position: Position, session: &pb::store::Session, message: Option<&pb::CimMessage>) {
        if is_active(session) {
            self.customer_conversations.insert(session.customer_id.clone(), session.conversation_id.clone());
        }
        let customer = message.and_then(|message| message.header.as_ref()).and_then(|header| header.customer.as_ref());
        let Some((message, customer)) = message.zip(customer) else { return };
        let exact_numbers = customer_numbers(&message.exact_numbers);
        match self.customers.get_mut(&session.customer_id) {
            Some(known) if known.fact.customer == *customer && known.fact.exact_numbers == exact_numbers => {
                known.position = position
            }
            _ => {
                let fact = Arc::new(CustomerFacts { customer: customer.clone(), exact_numbers });
                self.customers.insert(session.customer_id.clone(), Latest { fact, position });
            }
        }
    }

    fn apply_session(&mut self, position: Position, ephemeral: bool, session: &pb::store::Session) {
        let active = is_active(session);
        let key = SessionKey::of(session);
        // A late message of a session that has ended must not hide the one that followed it.
        if active || self.keys.get(&key).is_none_or(|latest| *latest == session.id) {
            self.keys.insert(key, session.id.clone());
            self.addresses.insert(Address::of(session), session.customer_id.clone());
        }
        match self.sessions.get_mut(&session.id) {
            Some(known) if *known.fact == *session => known.position = position,
            _ => {
                self.sessions.insert(session.id.clone(), Latest { fact: Arc::new(session.clone()), position });
            }
        }
        let conversation = self.conversations.entry(session.conversation_id.clone()).or_default();
        conversation.active.retain(|id| *id != session.id);
        if active {
            conversation.active.push(session.id.clone());
        }
        if active || conversation.active.is_empty() {
            conversation.latest.clone_from(&session.id);
        }
        conversation.position = position;
        if !ephemeral {
            conversation.newest = position;
        }
    }

    /// Drops the oldest entry, and every fact that no younger entry tells.
    pub(super) fn forget(&mut self, stored: &Stored) {
        let Stored { position, entry } = stored;
        for id in ids(stored) {
            if let Some(positions) = self.ids.get_mut(id) {
                positions.retain(|other| other.position != *position);
                if positions.is_empty() {
                    self.ids.remove(id);
                }
            }
        }
        let Some(session) = &entry.session else { return };
        if self.sessions.get(&session.id).is_some_and(|known| known.position == *position) {
            self.sessions.remove(&session.id);
            let key = SessionKey::of(session);
            if self.keys.get(&key) == Some(&session.id) {
                self.keys.remove(&key);
                self.addresses.remove(&Address::of(session));
            }
            if let Some(conversation) = self.conversations.get_mut(&session.conversation_id) {
                conversation.active.retain(|id| *id != session.id);
            }
        }
        if self.conversations.get(&session.conversation_id).is_some_and(|known| known.position == *position) {
            self.conversations.remove(&session.conversation_id);
        }
        if self.customers.get(&session.customer_id).is_some_and(|known| known.position == *position) {
            self.customers.remove(&session.customer_id);
            self.customer_conversations.remove(&session.customer_id);
        }
    }

    /// Positions of the entries accepted under an id, oldest first.
    pub(super) fn positions(&self, id: &str) -> impl DoubleEndedIterator<Item = Position> {
        self.ids.get(id).into_iter().flatten().map(|accepted| accepted.position)
    }

    /// The newest message of a conversation's history.
    pub(super) fn newest_of(&self, conversation: &str) -> Option<Position> {
        self.conversations.get(conversation).map(|conversation| conversation.newest)
    }

    /// The facts as a stage sees them.
    pub(super) const fn facts(&self) -> &dyn Facts {
        self
    }
}

/// The ids under which an entry is found: the client's, and the one it has.
fn ids(stored: &Stored) -> impl Iterator<Item = &str> {
    let own = stored.id();
    let claimed = stored.claimed_id();
    std::iter::once(own).chain((claimed != own).then_some(claimed))
}

/// The exact numbers that belong to the customer of a message.
pub(crate) fn customer_numbers(exact: &Exact) -> Exact {
    let of_customer = exact.iter().filter(|(pointer, _)| pointer.starts_with("/header/customer/"));
    of_customer.map(|(pointer, literal)| (pointer.clone(), literal.clone())).collect()
}

impl Facts for State {
    fn session(&self, id: &str) -> Option<Arc<pb::store::Session>> {
        self.sessions.get(id).map(|latest| latest.fact.clone())
    }

    fn latest_session(&self, key: &SessionKey) -> Option<Arc<pb::store::Session>> {
        self.session(self.keys.get(key)?)
    }

    fn session_of_conversation(&self, conversation: &str) -> Option<Arc<pb::store::Session>> {
        let conversation = self.conversations.get(conversation)?;
        self.session(conversation.active.last().unwrap_or(&conversation.latest))
    }

    fn customer(&self, id: &str) -> Option<Arc<CustomerFacts>> {
        self.customers.get(id).map(|latest| latest.fact.clone())
    }

    fn customer_at(&self, channel_type: &str, address: &str) -> Option<String> {
        let address = Address { channel_type: channel_type.to_owned(), address: address.to_owned() };
        self.addresses.get(&address).cloned()
    }

    fn active_conversation(&self, customer: &str) -> Option<String> {
        let id = self.customer_conversations.get(customer)?;
        self.conversations.get(id).filter(|conversation| !conversation.active.is_empty()).map(|_| id.clone())
    }

    fn session_of_message(&self, id: &str) -> Option<Arc<pb::store::Session>> {
        let accepted = self.ids.get(id)?.last()?;
        self.session(&accepted.session.as_ref()?.id)
    }
}
