//! The facts that follow from the log: sessions, conversations, customers and ids.
//!
//! [`State::apply`] is pure: it needs no clock and no configuration, so that the same entries always give the same facts.

use super::deliveries::{Delivery, DeliveryId, Stack, Told};
use super::hash::HashKey;
use super::pauses::Pauses;
use super::sequel::Sequel;
use super::{Position, SessionFilter, Stored};
use crate::pb;
use crate::pb::body::Kind;
use crate::wire::Exact;
use prost_types::Timestamp;
use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap};
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

impl SessionFacts {
    /// As it stands in an entry that carries it forward, or tells it without a message: with its customer, and ranked at `position`.
    pub(crate) fn carried(&self, position: Position, customer: Option<&CustomerFacts>) -> pb::store::Carried {
        pb::store::Carried {
            session: Some(pb::store::Session::clone(&self.session)),
            position: position.0,
            customer: customer.map(CustomerFacts::to_pb),
            last_activity: Some(self.last_activity),
            delivery: None,
        }
    }
}

impl CustomerFacts {
    /// As they stand in the log and in the index.
    pub(crate) fn to_pb(&self) -> pb::store::CustomerFacts {
        pb::store::CustomerFacts { customer: Some(self.customer.clone()), exact_numbers: self.exact_numbers.clone() }
    }

    /// As the log and the index have them.
    pub(super) fn from_pb(facts: pb::store::CustomerFacts) -> Self {
        Self { customer: facts.customer.unwrap_or_default(), exact_numbers: facts.exact_numbers }
    }
}

/// A session as known so far.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionFacts {
    /// The session.
    pub session: Arc<pb::store::Session>,
    /// When its customer was last active.
    pub last_activity: Timestamp,
}

/// When the customer of an entry's session was last active, the entry included. Entries of the time before they said so tell when
/// somebody was.
pub(crate) fn last_activity(entry: &pb::store::Entry) -> Timestamp {
    entry.last_activity.or(entry.accepted_at).unwrap_or_default()
}

/// The position by which an entry at `position` ranks its session among those that could be meant.
pub(super) fn ranked_at(entry: &pb::store::Entry, position: Position) -> Position {
    if entry.ranked_at == 0 { position } else { Position(entry.ranked_at) }
}

/// What a stage may look up. Every answer follows from the entries that are kept, all that are staged before included.
///
/// Where several sessions could be meant, an active one goes before any that has ended: of active ones the one with the latest
/// entry, of ended ones the one that ended last. What only reports on an earlier message does not count: it leaves its session where
/// it stood, which it says by [`ranked_at`](pb::store::Entry::ranked_at).
pub trait Facts {
    /// A session by its id, active or ended.
    fn session(&self, id: &str) -> Option<Arc<pb::store::Session>> {
        Some(self.session_facts(id)?.session)
    }

    /// A session by its id, and when its customer was last active.
    fn session_facts(&self, id: &str) -> Option<SessionFacts> {
        Some(self.session_and_position(id)?.1)
    }

    /// The same, and the position by which it is ranked among those that could be meant; 0 where the entry that ranks it has no place in
    /// the log yet.
    fn session_and_position(&self, id: &str) -> Option<(Position, SessionFacts)>;

    /// The session that is meant among those with something in common, active or ended, those that `passed_over` names excepted.
    fn session_with(&self, common: Common<'_>, passed_over: &dyn Fn(&str) -> bool) -> Option<Arc<pb::store::Session>>;

    /// The session of a key, active or ended.
    fn latest_session(&self, key: &SessionKey) -> Option<Arc<pb::store::Session>> {
        self.session_with(Common::Key(key), &|_| false)
    }

    /// The session of a conversation, active or ended.
    fn session_of_conversation(&self, conversation: &str) -> Option<Arc<pb::store::Session>> {
        self.session_with(Common::Conversation(conversation), &|_| false)
    }

    /// A customer by id, as the latest of its messages has it.
    fn customer(&self, id: &str) -> Option<Arc<CustomerFacts>>;

    /// Id of the customer whose session is at an address on channels of a type.
    fn customer_at(&self, channel_type: &str, address: &str) -> Option<String> {
        let session = self.session_with(Common::Address { channel_type, address }, &|_| false)?;
        Some(session.customer_id.clone())
    }

    /// The conversation of a customer's active session.
    fn active_conversation(&self, customer: &str) -> Option<String> {
        let session = self.session_with(Common::Customer(customer), &|_| false)?;
        is_active(&session).then(|| session.conversation_id.clone())
    }

    /// The latest message that goes by a name; of a provider's also a delivery notification.
    fn named(&self, name: Name<'_>) -> Option<Named>;

    /// A delivery that is open, or a dead letter.
    fn delivery(&self, id: DeliveryId) -> Option<Delivery>;

    /// True for a delivery that is open.
    fn is_open(&self, id: DeliveryId) -> bool {
        self.delivery(id).is_some_and(|delivery| delivery.progress.is_open())
    }
}

/// What a message goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Name<'n> {
    /// The id it has, or was sent with.
    Message(&'n str),
    /// The same, of a message in a session of a channel: clients of several channels may choose the same id.
    MessageOn {
        /// The channel.
        service_identifier: &'n str,
        /// The id.
        id: &'n str,
    },
    /// The id that the provider of a channel gave it. Delivery notifications that have it go by it as well, and so does a message of which
    /// a step of its delivery tells that id.
    Provider {
        /// The channel.
        service_identifier: &'n str,
        /// The id.
        id: &'n str,
    },
}

impl Name<'_> {
    /// What [`IdKey::hash`] is of it.
    pub(super) fn hash(self, key: HashKey) -> i64 {
        match self {
            Self::Message(id) | Self::MessageOn { id, .. } => id_hash(key, id),
            Self::Provider { service_identifier, id } => key.hash_all(&["provider", service_identifier, id]).cast_signed(),
        }
    }
}

impl Name<'_> {
    /// True if what goes by the name may be in a session, as far as the hash does not tell.
    pub(super) fn admits(self, session: Option<&pb::store::Session>) -> bool {
        match self {
            Self::MessageOn { service_identifier, .. } => {
                session.is_some_and(|session| session.service_identifier == service_identifier)
            }
            Self::Message(_) | Self::Provider { .. } => true,
        }
    }
}

/// What goes by a name.
#[derive(Debug, Clone, PartialEq)]
pub struct Named {
    /// The entry; that of the message where a step of its delivery tells the name.
    pub position: Position,
    /// Its session as it stands now.
    pub session: Option<Arc<pb::store::Session>>,
    /// True for a delivery notification of which nobody knew what it is about.
    pub waits: bool,
}

/// True while a session has not ended.
pub(super) const fn is_active(session: &pb::store::Session) -> bool {
    session.ended_at.is_none()
}

/// All facts of a log, in memory.
///
/// They are a function of the entries that are kept: to forget the oldest entry leaves what applying the others alone would give.
#[derive(Debug, Default, PartialEq)]
pub(super) struct State {
    key: HashKey,
    sessions: HashMap<String, Latest<SessionFacts>>,
    /// By the hash of the session's key.
    of_key: HashMap<u64, Ranked>,
    /// By the hash of the channel's type and the address on it.
    of_address: HashMap<u64, Ranked>,
    of_customer: HashMap<String, Ranked>,
    conversations: HashMap<String, Conversation>,
    customers: HashMap<String, Latest<Arc<CustomerFacts>>>,
    ids: BTreeMap<IdKey, Option<Arc<pb::store::Session>>>,
    deliveries: Told,
    sequel: Sequel,
}

/// A message under one of its names. The order makes the look-ups short that acceptance needs, however often a client sends one id.
/// Only hashes are kept: who must be certain compares the entry at the position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct IdKey {
    /// Hash of the name.
    pub(super) hash: i64,
    /// Whether the message has another id now, and 32 bits of the fingerprint of its content; see [`content`]. [`WAITS`] of a
    /// delivery notification of which nobody knew what it is about, [`TELLS`] and the position of a message where a step of its delivery
    /// tells the name.
    pub(super) content: i64,
    /// The entry that tells the name: the message, but for such a step.
    pub(super) position: Position,
}

impl IdKey {
    /// The entry that goes by the name.
    pub(super) const fn named(&self) -> Position {
        if self.content & TELLS == 0 { self.position } else { Position((self.content & !TELLS).cast_unsigned()) }
    }
}

/// What [`IdKey::content`] is of a content with this fingerprint.
pub(super) fn content(renewed: bool, fingerprint: &[u8]) -> i64 {
    // The first byte is the number of the algorithm.
    let mut bits = [0; 4];
    bits.iter_mut().zip(fingerprint.iter().skip(1)).for_each(|(bit, byte)| *bit = *byte);
    i64::from(renewed) << 32 | i64::from(u32::from_le_bytes(bits))
}

/// See [`IdKey::content`].
pub(super) const WAITS: i64 = 2 << 32;

/// See [`IdKey::content`]. Positions are below it.
const TELLS: i64 = 1 << 62;

/// What [`IdKey::hash`] is of an id.
pub(super) fn id_hash(key: HashKey, id: &str) -> i64 {
    key.hash(id.as_bytes()).cast_signed()
}

/// The keys under which a message is found that the entry has, or that it tells a name of: of the id it has, of the one the client
/// sent, and of its provider's. What is ephemeral is found by no name.
pub(super) fn id_keys(hashes: HashKey, stored: &Stored) -> impl Iterator<Item = IdKey> + use<> {
    let entry = &stored.entry;
    let of_message = (entry.message.is_some() && !entry.ephemeral).then(|| message_keys(hashes, stored));
    let told = told_names(entry).map(|name| IdKey {
        hash: name.hash(hashes),
        content: TELLS | entry.about.cast_signed(),
        position: stored.position,
    });
    let told: Vec<_> = told.collect();
    of_message.into_iter().flatten().chain(told)
}

/// The provider's ids of the message that an entry is about, which steps of its delivery tell.
pub(crate) fn told_names(entry: &pb::store::Entry) -> impl Iterator<Item = Name<'_>> {
    let session = entry.session.as_ref().filter(|_| entry.about != 0);
    let told = entry.delivery_steps.iter().map(|step| step.provider_message_id.as_str()).filter(|id| !id.is_empty());
    session
        .into_iter()
        .flat_map(move |session| told.clone().map(|id| Name::Provider { service_identifier: &session.service_identifier, id }))
}

fn message_keys(hashes: HashKey, stored: &Stored) -> impl Iterator<Item = IdKey> + use<> {
    let fingerprint = stored.entry.submission.as_ref().map_or(&[][..], |submission| &submission.fingerprint);
    let key = |id: &str, renewed| IdKey {
        hash: id_hash(hashes, id),
        content: content(renewed, fingerprint),
        position: stored.position,
    };
    let own = key(stored.id(), false);
    let claimed = stored.submitted_id().map(|claimed| key(claimed, true));
    let content = if waits(&stored.entry) { WAITS } else { content(false, fingerprint) };
    let of_provider = provider_names(&stored.entry).into_iter().flatten();
    let of_provider = of_provider.map(|name| IdKey { hash: name.hash(hashes), content, position: stored.position });
    std::iter::once(own).chain(claimed).chain(of_provider.collect::<Vec<_>>())
}

/// True for a delivery notification of which nobody knew what it is about.
fn waits(entry: &pb::store::Entry) -> bool {
    let body = entry.message.as_ref().and_then(|message| message.body.as_ref());
    entry.about == 0 && matches!(body, Some(pb::Body { kind: Some(Kind::DeliveryNotification(_)), .. }))
}

/// The provider's ids that an entry goes by. Some providers' ids are reported as if they were the gateway's.
fn provider_names(entry: &pb::store::Entry) -> [Option<Name<'_>>; 2] {
    let message = entry.message.as_ref();
    let header = message.and_then(|message| message.header.as_ref());
    let channel = header.and_then(|header| header.channel_data.as_ref());
    let Some(service_identifier) = channel.and_then(|channel| channel.service_identifier.as_deref()) else { return [None; 2] };
    let own = header.and_then(|header| header.provider_message_id.as_deref()).filter(|id| !id.is_empty());
    let reported = match message.and_then(|message| message.body.as_ref()?.kind.as_ref()) {
        Some(Kind::DeliveryNotification(notification)) => notification.message_id.as_deref(),
        _ => None,
    };
    // What is known by its own id needs no other name for the same.
    let ids = [own.filter(|own| reported != Some(*own)), reported.filter(|_| waits(entry))];
    ids.map(|id| id.map(|id| Name::Provider { service_identifier, id }))
}

/// A fact and the entry that told it last.
#[derive(Debug, PartialEq)]
pub(super) struct Latest<T> {
    /// The fact.
    pub(super) fact: T,
    /// The message that told it last: its place among others that could be meant. Of sessions reports do not count.
    pub(super) position: Position,
    /// The entry that tells it: a later one, if it was carried forward, or reported on.
    pub(super) told: Position,
}

/// Sessions in the order in which they could be meant; the last one is. Mostly there is one, and mostly the last one moves.
#[derive(Debug, Default, PartialEq)]
struct Ranked(Vec<(Rank, Arc<pb::store::Session>)>);

impl Ranked {
    fn insert(&mut self, rank: Rank, session: Arc<pb::store::Session>) {
        let at = self.0.partition_point(|(other, _)| *other < rank);
        self.0.insert(at, (rank, session));
    }

    /// Removes a session, as it was told when it got this rank.
    fn remove(&mut self, rank: Rank, session: &Arc<pb::store::Session>) {
        let from = self.0.partition_point(|(other, _)| *other < rank);
        let mut of_rank = self.0[from..].iter().take_while(|(other, _)| *other == rank);
        if let Some(at) = of_rank.position(|(_, known)| Arc::ptr_eq(known, session)) {
            self.0.remove(from + at);
        }
    }

    /// Gives a session another rank.
    fn rerank(&mut self, session: &Arc<pb::store::Session>, from: Rank, to: Rank) {
        match self.0.last_mut() {
            Some((last, known)) if *last == from && to > from && Arc::ptr_eq(known, session) => *last = to,
            _ => {
                self.remove(from, session);
                self.insert(to, session.clone());
            }
        }
    }
}

/// See [`Facts`]. A message ranks one session, so that no two have the same rank, but for one that is told anew at its former rank: for a
/// moment it is there as it was and as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    active: bool,
    ended_at: (i64, i32),
    /// The session's latest message, but for reports.
    position: Position,
}

impl Rank {
    /// The session's latest message, but for reports.
    pub(super) const fn position(&self) -> Position {
        self.position
    }

    /// The rank of a session whose latest message, but for reports, is at `position`.
    pub(super) fn of(session: &pb::store::Session, position: Position) -> Self {
        let ended_at = session.ended_at.map_or((0, 0), |time| (time.seconds, time.nanos));
        Self { active: is_active(session), ended_at, position }
    }
}

impl Latest<SessionFacts> {
    fn rank(&self) -> Rank {
        Rank::of(&self.fact.session, self.position)
    }
}

/// What several sessions have in common, so that one of them could be meant.
#[derive(Debug, Clone, Copy)]
pub enum Common<'c> {
    /// One customer on one channel.
    Key(&'c SessionKey),
    /// An address on channels of one type.
    Address {
        /// The type.
        channel_type: &'c str,
        /// The address.
        address: &'c str,
    },
    /// The customer.
    Customer(&'c str),
    /// The conversation.
    Conversation(&'c str),
}

impl Common<'_> {
    /// True if a session has it.
    pub(super) fn has(self, session: &pb::store::Session) -> bool {
        match self {
            Self::Key(key) => {
                session.service_identifier == key.service_identifier
                    && session.channel_customer_identifier == key.channel_customer_identifier
            }
            Self::Address { channel_type, address } => {
                session.channel_type == channel_type && session.channel_customer_identifier == address
            }
            Self::Customer(id) => session.customer_id == id,
            Self::Conversation(id) => session.conversation_id == id,
        }
    }
}

fn insert<K: Eq + Hash>(index: &mut HashMap<K, Ranked>, key: K, rank: Rank, session: &Arc<pb::store::Session>) {
    index.entry(key).or_default().insert(rank, session.clone());
}

fn remove<Q, K>(index: &mut HashMap<K, Ranked>, key: &Q, rank: Rank, session: &Arc<pb::store::Session>)
where
    Q: Eq + Hash + ?Sized,
    K: Eq + Hash + Borrow<Q>,
{
    if let Some(ranked) = index.get_mut(key) {
        ranked.remove(rank, session);
        if ranked.0.is_empty() {
            index.remove(key);
        }
    }
}

#[derive(Debug, Default, PartialEq)]
struct Conversation {
    sessions: Ranked,
    /// Its newest message that has a place in the history; 0 for none.
    newest: Position,
}

impl State {
    /// The facts of no entries. Ids are hashed with `key`.
    pub(super) fn new(key: HashKey) -> Self {
        Self { key, ..Self::default() }
    }

    /// What ids are hashed with.
    pub(super) const fn key(&self) -> HashKey {
        self.key
    }

    /// Takes in the next entry.
    pub(super) fn apply(&mut self, stored: &Stored) {
        let Stored { position, entry } = stored;
        self.deliveries.apply(stored);
        self.sequel.apply(stored);
        if let Some(carried) = &entry.carried {
            self.apply_carried(*position, carried);
        }
        let last_activity = last_activity(entry);
        let ranked_at = ranked_at(entry, *position);
        let session = entry.session.as_ref().map(|session| self.apply_session(ranked_at, *position, session, last_activity));
        if let Some(session) = &session {
            self.apply_customer(*position, session, entry.message.as_deref());
        }
        for key in id_keys(self.key, stored) {
            self.ids.insert(key, session.clone());
        }
        if entry.ephemeral || entry.message.is_none() {
            return;
        }
        if let Some(conversation) = session.and_then(|session| self.conversations.get_mut(&session.conversation_id)) {
            conversation.newest = *position;
        }
    }

    fn apply_carried(&mut self, told: Position, carried: &pb::store::Carried) {
        let Some(session) = &carried.session else { return };
        let position = Position(carried.position);
        let last_activity = carried.last_activity.or(session.opened_at).unwrap_or_default();
        let session = self.apply_session(position, told, session, last_activity);
        if let Some(customer) = &carried.customer {
            let fact = Arc::new(CustomerFacts::from_pb(customer.clone()));
            self.customers.insert(session.customer_id.clone(), Latest { fact, position, told });
        }
    }

    fn apply_session(
        &mut self,
        position: Position,
        told: Position,
        session: &pb::store::Session,
        last_activity: Timestamp,
    ) -> Arc<pb::store::Session> {
        if let Some(known) = self.sessions.get_mut(&session.id)
            && *known.fact.session == *session
        {
            // Most entries leave their session as it was, but for its rank.
            let (from, fact) = (known.rank(), known.fact.session.clone());
            (known.position, known.told, known.fact.last_activity) = (position, told, last_activity);
            let to = known.rank();
            if to == from {
                return fact;
            }
            let (key, address) = (self.key_of(session), self.address_of(session));
            let conversation = self.conversations.get_mut(&session.conversation_id);
            let ranked = [
                self.of_key.get_mut(&key),
                self.of_address.get_mut(&address),
                self.of_customer.get_mut(&session.customer_id),
                conversation.map(|conversation| &mut conversation.sessions),
            ];
            ranked.into_iter().flatten().for_each(|ranked| ranked.rerank(&fact, from, to));
            return fact;
        }
        let known = self.sessions.remove(&session.id);
        let fact = Arc::new(session.clone());
        let latest = Latest { fact: SessionFacts { session: fact.clone(), last_activity }, position, told };
        // In this order, so that a conversation of one session is never without.
        self.rank(&latest);
        if let Some(known) = &known {
            self.unrank(known);
        }
        self.sessions.insert(session.id.clone(), latest);
        fact
    }

    fn apply_customer(&mut self, position: Position, session: &pb::store::Session, message: Option<&pb::CimMessage>) {
        let customer = message.and_then(|message| message.header.as_ref()).and_then(|header| header.customer.as_ref());
        let Some((message, customer)) = message.zip(customer) else { return };
        let exact_numbers = customer_numbers(&message.exact_numbers);
        match self.customers.get_mut(&session.customer_id) {
            Some(known) if known.fact.customer == *customer && known.fact.exact_numbers == exact_numbers => {
                (known.position, known.told) = (position, position);
            }
            _ => {
                let fact = Arc::new(CustomerFacts { customer: customer.clone(), exact_numbers });
                self.customers.insert(session.customer_id.clone(), Latest { fact, position, told: position });
            }
        }
    }

    fn rank(&mut self, known: &Latest<SessionFacts>) {
        let (rank, session) = (known.rank(), &known.fact.session);
        let (key, address) = (self.key_of(session), self.address_of(session));
        insert(&mut self.of_key, key, rank, session);
        insert(&mut self.of_address, address, rank, session);
        insert(&mut self.of_customer, session.customer_id.clone(), rank, session);
        let conversation = self.conversations.entry(session.conversation_id.clone()).or_default();
        conversation.sessions.insert(rank, session.clone());
    }

    fn unrank(&mut self, known: &Latest<SessionFacts>) {
        let (rank, session) = (known.rank(), &known.fact.session);
        let (key, address) = (self.key_of(session), self.address_of(session));
        remove(&mut self.of_key, &key, rank, session);
        remove(&mut self.of_address, &address, rank, session);
        remove(&mut self.of_customer, session.customer_id.as_str(), rank, session);
        if let Some(conversation) = self.conversations.get_mut(&session.conversation_id) {
            conversation.sessions.remove(rank, session);
            if conversation.sessions.0.is_empty() {
                self.conversations.remove(&session.conversation_id);
            }
        }
    }

    /// Drops all facts, and calls `pause` now and then: it takes longer than a message may be late.
    pub(super) fn drop_slowly(self, pause: &mut dyn FnMut()) {
        let mut pauses = Pauses::new(pause);
        let Self { key: _, sessions, of_key, of_address, of_customer, conversations, customers, ids, deliveries, sequel } = self;
        pauses.drop_each(ids);
        deliveries.drop_slowly(&mut pauses);
        sequel.drop_slowly(&mut pauses);
        pauses.drop_each(sessions);
        pauses.drop_each(of_key);
        pauses.drop_each(of_address);
        pauses.drop_each(of_customer);
        pauses.drop_each(conversations);
        pauses.drop_each(customers);
    }

    /// Drops the oldest entry, and every fact that no younger entry tells.
    pub(super) fn forget(&mut self, stored: &Stored) {
        let Stored { position, entry } = stored;
        self.deliveries.forget(stored);
        self.sequel.forget(stored);
        for key in id_keys(self.key, stored) {
            self.ids.remove(&key);
        }
        let Some(session) = &entry.session else { return };
        if let Some(conversation) = self.conversations.get_mut(&session.conversation_id)
            && conversation.newest == *position
        {
            conversation.newest = Position::default();
        }
        if self.sessions.get(&session.id).is_some_and(|known| known.told == *position)
            && let Some(known) = self.sessions.remove(&session.id)
        {
            self.unrank(&known);
        }
        if self.customers.get(&session.customer_id).is_some_and(|known| known.told == *position) {
            self.customers.remove(&session.customer_id);
        }
    }

    /// Messages that seem to have, or to have been sent with, `id`: oldest first among those of one content.
    pub(super) fn with_id(&self, id: &str) -> impl Iterator<Item = Position> {
        self.ids_between(id_hash(self.key, id), i64::MIN, i64::MAX).map(|(key, _)| key.position)
    }

    /// The latest of those that seem to go by a name, and its session as it was when that was told.
    pub(super) fn latest(&self, name: Name<'_>) -> Option<Named> {
        let all = self.ids_between(name.hash(self.key), i64::MIN, i64::MAX);
        let admitted = all.filter(|(_, session)| name.admits(session.map(|session| &**session)));
        let (key, session) = admitted.max_by_key(|(key, _)| key.position)?;
        Some(Named { position: key.named(), session: session.cloned(), waits: key.content == WAITS })
    }

    /// Messages that seem to have `id` now.
    pub(super) fn having(&self, id: &str) -> impl Iterator<Item = Position> {
        let hash = id_hash(self.key, id);
        self.ids_between(hash, 0, i64::from(u32::MAX)).map(|(key, _)| key.position)
    }

    /// Messages that seem to have been accepted under `id` with a content, latest first.
    pub(super) fn with_content(&self, id: &str, fingerprint: &[u8]) -> impl Iterator<Item = Position> {
        let hash = id_hash(self.key, id);
        let [kept, renewed] = [false, true].map(|renewed| {
            let content = content(renewed, fingerprint);
            self.ids_between(hash, content, content).rev().map(|(key, _)| key.position)
        });
        // Those that were renewed came later.
        renewed.chain(kept)
    }

    fn ids_between(
        &self,
        hash: i64,
        least: i64,
        most: i64,
    ) -> impl DoubleEndedIterator<Item = (IdKey, Option<&Arc<pb::store::Session>>)> {
        let from = IdKey { hash, content: least, position: Position(0) };
        let to = IdKey { hash, content: most, position: Position(u64::MAX) };
        self.ids.range(from..=to).map(|(key, session)| (*key, session.as_ref()))
    }

    /// The session that is meant among those with something in common, those that `passed_over` names excepted.
    pub(super) fn meant(
        &self,
        common: Common<'_>,
        passed_over: &dyn Fn(&str) -> bool,
    ) -> Option<(Rank, Arc<pb::store::Session>)> {
        let ranked = match common {
            Common::Key(key) => {
                let texts = [key.service_identifier.as_str(), key.channel_customer_identifier.as_str()];
                self.of_key.get(&self.key.hash_all(&texts))
            }
            Common::Address { channel_type, address } => self.of_address.get(&self.key.hash_all(&[channel_type, address])),
            Common::Customer(id) => self.of_customer.get(id),
            Common::Conversation(id) => self.conversations.get(id).map(|conversation| &conversation.sessions),
        };
        let mut best_first = ranked?.0.iter().rev();
        let found = best_first.find(|(_, session)| common.has(session) && !passed_over(&session.id))?;
        Some((found.0, found.1.clone()))
    }

    fn key_of(&self, session: &pb::store::Session) -> u64 {
        self.key.hash_all(&[&session.service_identifier, &session.channel_customer_identifier])
    }

    fn address_of(&self, session: &pb::store::Session) -> u64 {
        self.key.hash_all(&[&session.channel_type, &session.channel_customer_identifier])
    }

    /// Every session that is told.
    pub(super) const fn sessions(&self) -> &HashMap<String, Latest<SessionFacts>> {
        &self.sessions
    }

    /// The sessions that `filter` wants with ids below `before`, in no order.
    pub(super) fn listed<'s>(&'s self, filter: &SessionFilter, before: Option<&str>) -> impl Iterator<Item = &'s SessionFacts> {
        let told = self.sessions.values().map(|latest| &latest.fact);
        let is_below = move |id: &str| before.is_none_or(|before| id < before);
        told.filter(move |facts| is_below(&facts.session.id) && filter.matches(&facts.session))
    }

    /// Every customer that is told.
    pub(super) const fn customers(&self) -> &HashMap<String, Latest<Arc<CustomerFacts>>> {
        &self.customers
    }

    /// Every message by its ids, in the order of the keys.
    pub(super) const fn ids(&self) -> &BTreeMap<IdKey, Option<Arc<pb::store::Session>>> {
        &self.ids
    }

    /// Every conversation that is told and its newest message in the history, 0 if it has none.
    pub(super) fn conversations(&self) -> impl Iterator<Item = (&str, Position)> {
        self.conversations.iter().map(|(id, conversation)| (id.as_str(), conversation.newest))
    }

    /// The newest message of a conversation's history, 0 if it has none; none for an unknown conversation.
    pub(super) fn newest_of(&self, conversation: &str) -> Option<Position> {
        self.conversations.get(conversation).map(|conversation| conversation.newest)
    }

    /// What entries tell of earlier ones.
    pub(super) const fn sequel(&self) -> &Sequel {
        &self.sequel
    }

    /// What is told of deliveries.
    pub(super) const fn deliveries(&self) -> &Told {
        &self.deliveries
    }

    /// The facts as a stage sees them.
    pub(super) const fn facts(&self) -> &dyn Facts {
        self
    }
}

/// The exact numbers that belong to the customer of a message.
pub(crate) fn customer_numbers(exact: &Exact) -> Exact {
    numbers_of(exact, is_of_customer)
}

/// The exact numbers whose pointers are wanted.
pub(crate) fn numbers_of(exact: &Exact, is_wanted: impl Fn(&str) -> bool) -> Exact {
    let wanted = exact.iter().filter(|(pointer, _)| is_wanted(pointer));
    wanted.map(|(pointer, literal)| (pointer.clone(), literal.clone())).collect()
}

/// True for a number that belongs to the customer of a message.
pub(crate) fn is_of_customer(pointer: &str) -> bool {
    pointer.starts_with("/header/customer/")
}

impl Facts for State {
    fn session_and_position(&self, id: &str) -> Option<(Position, SessionFacts)> {
        self.sessions.get(id).map(|latest| (latest.position, latest.fact.clone()))
    }

    fn session_with(&self, common: Common<'_>, passed_over: &dyn Fn(&str) -> bool) -> Option<Arc<pb::store::Session>> {
        Some(self.meant(common, passed_over)?.1)
    }

    fn customer(&self, id: &str) -> Option<Arc<CustomerFacts>> {
        self.customers.get(id).map(|latest| latest.fact.clone())
    }

    fn named(&self, name: Name<'_>) -> Option<Named> {
        let named = self.latest(name)?;
        let session = named.session.and_then(|session| self.session(&session.id));
        Some(Named { session, ..named })
    }

    fn delivery(&self, id: DeliveryId) -> Option<Delivery> {
        let Ok(found) = Stack { above: &[&self.deliveries], below: &() }.delivery(id);
        found
    }
}

#[cfg(test)]
mod tests {
    use super::super::conformance::{Life, Model};
    use super::*;

    #[test]
    fn an_entry_that_does_not_say_when_the_customer_was_active_counts_as_activity() {
        let at = |seconds| Some(Timestamp { seconds, nanos: 0 });
        let told = |position, accepted_at, last_activity| {
            let session = Some(pb::store::Session { id: "s".into(), ..Default::default() });
            let entry = pb::store::Entry { accepted_at, last_activity, session, ..Default::default() };
            Stored { position: Position(position), entry: Arc::new(entry) }
        };
        let mut state = State::default();
        let mut after = |stored| {
            state.apply(&stored);
            state.session_facts("s").map(|known| known.last_activity)
        };
        assert_eq!(after(told(1, at(5), None)), at(5));
        assert_eq!(after(told(2, at(9), at(7))), at(7));
        assert_eq!(after(told(3, at(11), None)), at(11));
    }

    /// So many entries of a life, or a few more.
    fn lived(entries: usize) -> Vec<Stored> {
        lived_by(Life::new(), entries)
    }

    fn lived_by(mut life: Life, entries: usize) -> Vec<Stored> {
        let (mut state, mut log) = (State::default(), Vec::new());
        while log.len() < entries {
            let begins = log.len();
            for entry in life.frame_on(state.facts()) {
                log.push(Stored { position: Position(log.len() as u64 + 1), entry: Arc::new(entry) });
            }
            log[begins..].iter().for_each(|stored| state.apply(stored));
            life.learn(&log[begins..]);
        }
        log
    }

    #[test]
    fn what_only_reports_changes_nothing_that_is_known_of_sessions_and_customers() {
        let log = lived_by(Life::open_handed(), 300);
        let reports: Vec<_> = (0..log.len()).filter(|at| log[*at].entry.ranked_at > 0).collect();
        let outcomes = reports.iter().filter(|at| !log[**at].entry.delivery_steps.is_empty()).count();
        let receipts = reports.len() - outcomes;
        assert!(outcomes > 5 && receipts > 5, "{outcomes} outcomes and {receipts} receipts are too few to tell anything");
        for at in reports {
            Model(&log[..at]).assert_agrees_on_sessions(&Model(&log[..=at]));
        }
    }

    #[test]
    fn whoever_drops_many_facts_may_pause_now_and_then() {
        let mut state = State::default();
        lived(1000).iter().for_each(|stored| state.apply(stored));
        let mut pauses = 0;
        state.drop_slowly(&mut || pauses += 1);
        assert!(pauses >= 1000 / 100, "{pauses}");
    }

    #[test]
    fn to_forget_the_oldest_leaves_what_the_others_tell() {
        let log = lived(200);
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
