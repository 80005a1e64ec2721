//! The facts that follow from the log: sessions, conversations, customers and ids.
//!
//! [`State::apply`] is pure: it needs no clock and no configuration, so that the same entries always give the same facts.

use super::{Position, Stored};
use crate::pb;
use crate::wire::Exact;
use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::Hash;
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

/// What a stage may look up. Every answer follows from the entries that are kept, all that are staged before included.
///
/// Where several sessions could be meant, an active one goes before any that has ended: of active ones the one with the latest
/// entry, of ended ones the one that ended last.
pub trait Facts {
    /// A session by its id, active or ended.
    fn session(&self, id: &str) -> Option<Arc<pb::store::Session>>;

    /// The session of a key, active or ended.
    fn latest_session(&self, key: &SessionKey) -> Option<Arc<pb::store::Session>>;

    /// The session of a conversation, active or ended.
    fn session_of_conversation(&self, conversation: &str) -> Option<Arc<pb::store::Session>>;

    /// A customer by id, as the latest of its messages has it.
    fn customer(&self, id: &str) -> Option<Arc<CustomerFacts>>;

    /// Id of the customer whose session is at an address on channels of a type.
    fn customer_at(&self, channel_type: &str, address: &str) -> Option<String>;

    /// The conversation of a customer's active session.
    fn active_conversation(&self, customer: &str) -> Option<String>;

    /// The session of the latest message accepted under a client's id, or under the id it has now.
    fn session_of_message(&self, id: &str) -> Option<Arc<pb::store::Session>>;
}

/// True while a session has not ended.
const fn is_active(session: &pb::store::Session) -> bool {
    session.ended_at.is_none()
}

/// All facts of a log, in memory.
///
/// They are a function of the entries that are kept: to forget the oldest entry leaves what applying the others alone would give.
#[derive(Debug, Default, PartialEq)]
pub(super) struct State {
    sessions: HashMap<String, Latest<Arc<pb::store::Session>>>,
    of_key: HashMap<SessionKey, Ranked>,
    of_address: HashMap<Address, Ranked>,
    of_customer: HashMap<String, Ranked>,
    conversations: HashMap<String, Conversation>,
    customers: HashMap<String, Latest<Arc<CustomerFacts>>>,
    ids: HashMap<String, VecDeque<Accepted>>,
    /// The messages whose id was taken, so that they got a fresh one: the latest of each content. A client may send one id for ever.
    renewed: HashMap<Renewed, Position>,
}

/// A content sent under a taken id.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Renewed {
    id: String,
    fingerprint: Vec<u8>,
}

impl Renewed {
    /// What an entry renewed; none if its message has the id that was sent.
    fn of(stored: &Stored) -> Option<Self> {
        let submission = stored.entry.submission.as_ref().filter(|_| stored.claimed_id() != stored.id())?;
        Some(Self { id: submission.id.clone(), fingerprint: submission.fingerprint.clone() })
    }
}

/// A message accepted under an id.
#[derive(Debug, PartialEq)]
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
#[derive(Debug, PartialEq)]
struct Latest<T> {
    fact: T,
    position: Position,
}

/// Sessions in the order in which they could be meant; the last one is.
type Ranked = BTreeMap<Rank, Arc<pb::store::Session>>;

/// See [`Facts`]. An entry tells one session, so that no two have the same rank.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    active: bool,
    ended_at: (i64, i32),
    /// The session's latest entry.
    position: Position,
}

impl Rank {
    fn of(known: &Latest<Arc<pb::store::Session>>) -> Self {
        let ended_at = known.fact.ended_at.map_or((0, 0), |time| (time.seconds, time.nanos));
        Self { active: is_active(&known.fact), ended_at, position: known.position }
    }
}

fn insert<K: Eq + Hash>(index: &mut HashMap<K, Ranked>, key: K, rank: Rank, session: &Arc<pb::store::Session>) {
    index.entry(key).or_default().insert(rank, session.clone());
}

fn remove<K: Eq + Hash>(index: &mut HashMap<K, Ranked>, key: &K, rank: Rank) {
    if let Some(ranked) = index.get_mut(key) {
        ranked.remove(&rank);
        if ranked.is_empty() {
            index.remove(key);
        }
    }
}

/// Gives a session another rank among those that could be meant.
fn rerank(ranked: Option<&mut Ranked>, from: Rank, to: Rank) {
    if let Some(ranked) = ranked
        && let Some(session) = ranked.remove(&from)
    {
        ranked.insert(to, session);
    }
}

fn last<K, Q>(index: &HashMap<K, Ranked>, key: &Q) -> Option<Arc<pb::store::Session>>
where
    K: Eq + Hash + Borrow<Q>,
    Q: Eq + Hash + ?Sized,
{
    let (_, session) = index.get(key)?.last_key_value()?;
    Some(session.clone())
}

#[derive(Debug, Default, PartialEq)]
struct Conversation {
    sessions: Ranked,
    /// Its newest message that has a place in the history; 0 for none.
    newest: Position,
}

impl State {
    /// Takes in the next entry.
    pub(super) fn apply(&mut self, stored: &Stored) {
        let Stored { position, entry } = stored;
        let session = entry.session.as_ref().map(|session| self.apply_session(*position, session));
        if let Some(session) = &session {
            self.apply_customer(*position, session, entry.message.as_ref());
        }
        if entry.ephemeral {
            return;
        }
        for id in ids(stored) {
            let accepted = Accepted { position: *position, session: session.clone() };
            self.ids.entry(id.to_owned()).or_default().push_back(accepted);
        }
        if let Some(renewed) = Renewed::of(stored) {
            self.renewed.insert(renewed, *position);
        }
        if let Some(conversation) = session.and_then(|session| self.conversations.get_mut(&session.conversation_id)) {
            conversation.newest = *position;
        }
    }

    fn apply_session(&mut self, position: Position, session: &pb::store::Session) -> Arc<pb::store::Session> {
        if let Some(known) = self.sessions.get_mut(&session.id)
            && *known.fact == *session
        {
            // Most entries leave their session as it was, but for its rank.
            let (from, fact) = (Rank::of(known), known.fact.clone());
            known.position = position;
            let to = Rank::of(known);
            rerank(self.of_key.get_mut(&SessionKey::of(session)), from, to);
            rerank(self.of_address.get_mut(&Address::of(session)), from, to);
            rerank(self.of_customer.get_mut(&session.customer_id), from, to);
            let conversation = self.conversations.get_mut(&session.conversation_id);
            rerank(conversation.map(|conversation| &mut conversation.sessions), from, to);
            return fact;
        }
        let known = self.sessions.remove(&session.id);
        let fact = Arc::new(session.clone());
        let told = Latest { fact: fact.clone(), position };
        // In this order, so that a conversation of one session is never without.
        self.rank(&told);
        if let Some(known) = &known {
            self.unrank(known);
        }
        self.sessions.insert(session.id.clone(), told);
        fact
    }

    fn apply_customer(&mut self, position: Position, session: &pb::store::Session, message: Option<&pb::CimMessage>) {
        let customer = message.and_then(|message| message.header.as_ref()).and_then(|header| header.customer.as_ref());
        let Some((message, customer)) = message.zip(customer) else { return };
        let exact_numbers = customer_numbers(&message.exact_numbers);
        match self.customers.get_mut(&session.customer_id) {
            Some(known) if known.fact.customer == *customer && known.fact.exact_numbers == exact_numbers => {
                known.position = position;
            }
            _ => {
                let fact = Arc::new(CustomerFacts { customer: customer.clone(), exact_numbers });
                self.customers.insert(session.customer_id.clone(), Latest { fact, position });
            }
        }
    }

    fn rank(&mut self, known: &Latest<Arc<pb::store::Session>>) {
        let (rank, session) = (Rank::of(known), &known.fact);
        insert(&mut self.of_key, SessionKey::of(session), rank, session);
        insert(&mut self.of_address, Address::of(session), rank, session);
        insert(&mut self.of_customer, session.customer_id.clone(), rank, session);
        let conversation = self.conversations.entry(session.conversation_id.clone()).or_default();
        conversation.sessions.insert(rank, session.clone());
    }

    fn unrank(&mut self, known: &Latest<Arc<pb::store::Session>>) {
        let (rank, session) = (Rank::of(known), &known.fact);
        remove(&mut self.of_key, &SessionKey::of(session), rank);
        remove(&mut self.of_address, &Address::of(session), rank);
        remove(&mut self.of_customer, &session.customer_id, rank);
        if let Some(conversation) = self.conversations.get_mut(&session.conversation_id) {
            conversation.sessions.remove(&rank);
            if conversation.sessions.is_empty() {
                self.conversations.remove(&session.conversation_id);
            }
        }
    }

    /// Drops the oldest entry, and every fact that no younger entry tells.
    pub(super) fn forget(&mut self, stored: &Stored) {
        let Stored { position, entry } = stored;
        for id in ids(stored) {
            if let Some(accepted) = self.ids.get_mut(id) {
                if accepted.front().is_some_and(|oldest| oldest.position == *position) {
                    accepted.pop_front();
                }
                if accepted.is_empty() {
                    self.ids.remove(id);
                }
            }
        }
        if let Some(renewed) = Renewed::of(stored).filter(|renewed| self.renewed.get(renewed) == Some(position)) {
            self.renewed.remove(&renewed);
        }
        let Some(session) = &entry.session else { return };
        if let Some(conversation) = self.conversations.get_mut(&session.conversation_id)
            && conversation.newest == *position
        {
            conversation.newest = Position::default();
        }
        if self.sessions.get(&session.id).is_some_and(|known| known.position == *position)
            && let Some(known) = self.sessions.remove(&session.id)
        {
            self.unrank(&known);
        }
        if self.customers.get(&session.customer_id).is_some_and(|known| known.position == *position) {
            self.customers.remove(&session.customer_id);
        }
    }

    /// The oldest entry accepted under an id. If a message has that id, it is this one: the others were renewed.
    pub(super) fn first(&self, id: &str) -> Option<Position> {
        Some(self.ids.get(id)?.front()?.position)
    }

    /// The latest entry that got a fresh id because `id` was taken, of the content `fingerprint`.
    pub(super) fn renewed(&self, id: &str, fingerprint: &[u8]) -> Option<Position> {
        self.renewed.get(&Renewed { id: id.to_owned(), fingerprint: fingerprint.to_owned() }).copied()
    }

    /// The newest message of a conversation's history, 0 if it has none; none for an unknown conversation.
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
        last(&self.of_key, key)
    }

    fn session_of_conversation(&self, conversation: &str) -> Option<Arc<pb::store::Session>> {
        let (_, session) = self.conversations.get(conversation)?.sessions.last_key_value()?;
        Some(session.clone())
    }

    fn customer(&self, id: &str) -> Option<Arc<CustomerFacts>> {
        self.customers.get(id).map(|latest| latest.fact.clone())
    }

    fn customer_at(&self, channel_type: &str, address: &str) -> Option<String> {
        let address = Address { channel_type: channel_type.to_owned(), address: address.to_owned() };
        last(&self.of_address, &address).map(|session| session.customer_id.clone())
    }

    fn active_conversation(&self, customer: &str) -> Option<String> {
        let session = last(&self.of_customer, customer).filter(|session| is_active(session))?;
        Some(session.conversation_id.clone())
    }

    fn session_of_message(&self, id: &str) -> Option<Arc<pb::store::Session>> {
        let accepted = self.ids.get(id)?.back()?;
        self.session(&accepted.session.as_ref()?.id)
    }
}

#[cfg(test)]
mod tests {
    use super::super::conformance::Life;
    use super::*;

    #[test]
    fn to_forget_the_oldest_leaves_what_the_others_tell() {
        let mut life = Life::new();
        let entries = std::iter::repeat_with(|| life.frame()).flatten().take(200);
        let log: Vec<_> =
            entries.zip(1..).map(|(entry, position)| Stored { position: Position(position), entry: Arc::new(entry) }).collect();
        let told_by = |kept: &[Stored]| {
            let mut state = State::default();
            kept.iter().for_each(|stored| state.apply(stored));
            state
        };
        let mut state = told_by(&log);
        for (forgotten, oldest) in log.iter().enumerate() {
            state.forget(oldest);
            assert_eq!(state, told_by(&log[forgotten + 1..]), "after forgetting {}", oldest.position);
        }
    }
}
