//! Channel sessions and conversations: where a message belongs, and what the gateway fills in.
//!
//! Pure: [`route`] looks facts and channels up, and invents nothing but ids. So does [`ending`], which ends sessions without a message. The use case
//! of whoever looks after sessions is [`Sessions`]; [`Expiry`] ends those that nobody uses any more.

pub mod end_reason;
mod ending;
mod expiry;
mod register;
mod timers;

#[cfg(test)]
mod tests;

pub use expiry::{Expiry, Timeouts};
pub use register::{Ended, Sessions};

use crate::channels::Snapshot;
use crate::customers;
use crate::message;
use crate::pb;
use crate::pb::body::Kind;
use crate::pb::store::{Entry, Routing, Session, Submission};
use crate::pb::{Audience, SenderType, SessionEndReason};
use crate::receipts;
use crate::store::{CustomerFacts, Facts, Frame, SessionKey, is_of_customer, numbers_of};
use crate::violation::{Reason, Violations};
use crate::wire;
use prost::Message as _;
use prost_types::{Struct, Timestamp, Value, value};
use std::sync::Arc;

/// Name and id of the gateway where it is the sender.
const GATEWAY: &str = "cim-gateway";

/// Finds or opens the session of a checked message, fills what the gateway fills, and makes the frame to append: the message, and
/// before or after it what happened to its session.
///
/// `received_at` is when the message came, to the millisecond; `submission` is what the client sent beside the routing fields.
pub fn route(
    facts: &dyn Facts,
    channels: &Snapshot,
    mut message: pb::CimMessage,
    mut submission: Submission,
    received_at: Timestamp,
) -> Result<Frame, Violations> {
    let known = Known { facts, channels };
    let reported = receipts::reported(facts, &message);
    let destination = destination(known, &message, reported.session)?;
    check_channel(channels, &destination, &message)?;
    let sent = message.header.clone().unwrap_or_default();
    let sent_numbers = crate::store::customer_numbers(&message.exact_numbers);

    // What was only just made up need not be looked up.
    let (mut session, opened, is_new_customer) = match destination {
        Destination::Nowhere => {
            let entry = entry(message, None, Some(submission));
            return Ok(vec![Entry { about: reported.about, earlier: reported.earlier, ..entry }]);
        }
        Destination::Attach(session) => (Session::clone(&session), false, false),
        Destination::Open { key, conversation } => {
            let (session, is_new_customer) = open(known, key, conversation, &sent, received_at);
            (session, true, is_new_customer)
        }
    };
    let customer = match is_new_customer {
        true => customers::updated(None, &session, &sent, &sent_numbers),
        // Connectors send the header of a message back with what they report on it, which may be long ago.
        false if message::reports(&message) => {
            message.exact_numbers.retain(|pointer, _| !sent_numbers.contains_key(pointer));
            customer(facts, &mut session, &pb::Header::default(), &wire::Exact::default())
        }
        false => customer(facts, &mut session, &sent, &sent_numbers),
    };
    fill(&mut message, &session, customer);
    let is_activity = opened || message::is_of_customer(&message);
    let known = if is_activity { None } else { facts.session_and_position(&session.id) };
    let last_activity = known.as_ref().map_or(received_at, |(_, known)| known.last_activity);
    // What is reported of a message says nothing of where its customer is by now.
    let ranked_at = known.filter(|_| message::reports(&message)).map_or(0, |(position, _)| position.0);
    note_rerouting(&mut submission, sent, sent_numbers, &message);

    let mut frame = Vec::with_capacity(2);
    if opened {
        frame.push(notice(&message, &session, "CHANNEL_SESSION_STARTED", received_at));
    }
    let ends = message::ends_session(&message) && session.ended_at.is_none();
    if ends {
        session.ended_at = Some(received_at);
        session.end_reason = end_reason::name(ended_by(&message)).into();
    }
    let ended = ends.then(|| notice(&message, &session, "CHANNEL_SESSION_ENDED", received_at));
    let entry = entry(message, Some(session), Some(submission));
    frame.push(Entry { about: reported.about, earlier: reported.earlier, ranked_at, ..entry });
    frame.extend(ended);
    frame.iter_mut().for_each(|entry| entry.last_activity = Some(last_activity));
    Ok(frame)
}

/// Why a session ends that this message ends.
fn ended_by(message: &pb::CimMessage) -> SessionEndReason {
    match (message::intent(message), message::sender_type(message)) {
        (Some("NETWORK_DISCONNECT"), _) => SessionEndReason::Network,
        (_, Some(SenderType::Agent)) => SessionEndReason::Agent,
        _ => SessionEndReason::Customer,
    }
}

/// What is known when a message comes.
#[derive(Clone, Copy)]
struct Known<'k> {
    facts: &'k dyn Facts,
    channels: &'k Snapshot,
}

/// Where a message belongs.
enum Destination {
    /// To this session.
    Attach(Arc<Session>),
    /// To a new session of this key, in this conversation if one is given.
    Open { key: SessionKey, conversation: Option<String> },
    /// To none: a notification about something unknown.
    Nowhere,
}

/// The route that a header names, as far as it is known.
struct Named {
    session: Option<Arc<Session>>,
    conversation: Option<Arc<Session>>,
    key: Option<SessionKey>,
}

/// `reported` is the session of the message that the message reports on.
fn destination(known: Known<'_>, message: &pb::CimMessage, reported: Option<Arc<Session>>) -> Result<Destination, Violations> {
    let facts = known.facts;
    let header = message.header.as_ref();
    let named = Named {
        session: header.and_then(|header| header.channel_session_id.as_deref()).and_then(|id| facts.session(id)),
        conversation: header
            .and_then(|header| header.conversation_id.as_deref())
            .and_then(|id| facts.session_of_conversation(id)),
        key: header.and_then(key),
    };
    let may_open = message::may_open(message);
    if !may_open && let Some(session) = reported.filter(|session| agrees(session, header, &named)) {
        return Ok(Destination::Attach(session));
    }
    if let Some(session) = &named.session {
        return follow_session(facts, session, header, &named, may_open);
    }
    if let Some(session) = &named.conversation {
        return follow_conversation(known, session, header, &named, may_open);
    }
    let Some(key) = named.key else { return Err(unknown_route(header)) };
    Ok(follow_key(facts, key, None, may_open))
}

/// True if nothing that the header names speaks against a session.
fn agrees(session: &Session, header: Option<&pb::Header>, named: &Named) -> bool {
    let mut conflicts = Violations::default();
    channel_conflicts(session, header, &mut conflicts);
    conflicts.is_empty()
        && named.session.as_ref().is_none_or(|other| other.id == session.id)
        && named.conversation.as_ref().is_none_or(|other| other.conversation_id == session.conversation_id)
}

fn follow_session(
    facts: &dyn Facts,
    session: &Arc<Session>,
    header: Option<&pb::Header>,
    named: &Named,
    may_open: bool,
) -> Result<Destination, Violations> {
    let mut conflicts = Violations::default();
    if named.conversation.as_ref().is_some_and(|other| other.conversation_id != session.conversation_id) {
        let message = format!("the channel session {} belongs to the conversation {}", session.id, session.conversation_id);
        conflicts.add("header.conversationId", Reason::ConflictingRoute, message);
    }
    channel_conflicts(session, header, &mut conflicts);
    if !conflicts.is_empty() {
        return Err(conflicts);
    }
    if session.ended_at.is_none() {
        return Ok(Destination::Attach(session.clone()));
    }
    match follow_key(facts, SessionKey::of(session), None, may_open) {
        // Late news of a session that has ended belongs to it.
        Destination::Attach(_) | Destination::Nowhere if !may_open => Ok(Destination::Attach(session.clone())),
        destination => Ok(destination),
    }
}

/// Reports every identifier of the channel data that is not the session's.
fn channel_conflicts(session: &Session, header: Option<&pb::Header>, conflicts: &mut Violations) {
    let Some(channel) = header.and_then(|header| header.channel_data.as_ref()) else { return };
    for (key, sent, own) in [
        ("channelCustomerIdentifier", &channel.channel_customer_identifier, &session.channel_customer_identifier),
        ("serviceIdentifier", &channel.service_identifier, &session.service_identifier),
    ] {
        if let Some(sent) = sent.as_ref().filter(|sent| !sent.is_empty() && *sent != own) {
            let message = format!("the channel session {} is of {own:?}, found {sent:?}", session.id);
            conflicts.add(format_args!("header.channelData.{key}"), Reason::ConflictingRoute, message);
        }
    }
}

/// `latest` is the session that is meant of the conversation's: of those that are active, if any are, the one with the latest entry, but
/// for reports.
fn follow_conversation(
    known: Known<'_>,
    latest: &Arc<Session>,
    header: Option<&pb::Header>,
    named: &Named,
    may_open: bool,
) -> Result<Destination, Violations> {
    let facts = known.facts;
    let conversation = &latest.conversation_id;
    let alive = latest.ended_at.is_none();
    let Some(key) = &named.key else {
        let mut conflicts = Violations::default();
        channel_conflicts(latest, header, &mut conflicts);
        return match (conflicts.is_empty(), alive) {
            (false, _) => Err(conflicts),
            (true, true) => Ok(Destination::Attach(latest.clone())),
            (true, false) if !may_open => Ok(Destination::Attach(latest.clone())),
            (true, false) => Ok(follow_key(facts, SessionKey::of(latest), None, may_open)),
        };
    };
    if *key == SessionKey::of(latest) && alive {
        return Ok(Destination::Attach(latest.clone()));
    }
    let active = facts.latest_session(key).filter(|session| session.ended_at.is_none());
    let same_customer = || {
        let customer = header.and_then(|header| customer_of(known, key, header));
        customer.is_none_or(|customer| customer == latest.customer_id)
    };
    let conflict = match &active {
        Some(session) => alive && session.conversation_id != *conversation,
        None => alive && !same_customer(),
    };
    if conflict {
        let mut conflicts = Violations::default();
        let message = format!(
            "the conversation {conversation} is not one of {:?} on {:?}",
            key.channel_customer_identifier, key.service_identifier
        );
        conflicts.add("header.conversationId", Reason::ConflictingRoute, message);
        return Err(conflicts);
    }
    Ok(follow_key(facts, key.clone(), alive.then(|| conversation.clone()), may_open))
}

fn follow_key(facts: &dyn Facts, key: SessionKey, conversation: Option<String>, may_open: bool) -> Destination {
    match facts.latest_session(&key) {
        Some(session) if session.ended_at.is_none() || !may_open => Destination::Attach(session),
        _ if may_open => Destination::Open { key, conversation },
        _ => Destination::Nowhere,
    }
}

/// Nothing that the header names is known.
fn unknown_route(header: Option<&pb::Header>) -> Violations {
    let mut unknown = Violations::default();
    let ids =
        header.map(|header| [("channelSessionId", &header.channel_session_id), ("conversationId", &header.conversation_id)]);
    for (key, id) in ids.into_iter().flatten() {
        if let Some(id) = id.as_deref().filter(|id| !id.is_empty()) {
            let message = format!("{id:?} is unknown, and header.channelData does not say where the message belongs");
            unknown.add(format_args!("header.{key}"), Reason::UnknownRoute, message);
        }
    }
    unknown
}

/// The key that complete channel data names.
fn key(header: &pb::Header) -> Option<SessionKey> {
    let channel = header.channel_data.as_ref()?;
    let identifier = |identifier: &Option<String>| identifier.clone().filter(|text| !text.trim().is_empty());
    Some(SessionKey {
        service_identifier: identifier(&channel.service_identifier)?,
        channel_customer_identifier: identifier(&channel.channel_customer_identifier)?,
    })
}

/// Fails if channels have to be registered and the message's is not.
fn check_channel(channels: &Snapshot, destination: &Destination, message: &pb::CimMessage) -> Result<(), Violations> {
    let service_identifier = match destination {
        Destination::Attach(session) => Some(session.service_identifier.as_str()),
        Destination::Open { key, .. } => Some(key.service_identifier.as_str()),
        Destination::Nowhere => message::service_identifier(message),
    };
    match service_identifier.filter(|service_identifier| !channels.admits(service_identifier)) {
        None => Ok(()),
        Some(unknown) => {
            let mut violations = Violations::default();
            let message = format!("no channel is registered under {unknown:?}");
            violations.add("header.channelData.serviceIdentifier", Reason::UnknownChannel, message);
            Err(violations)
        }
    }
}

/// Id of the customer that a message is about: the one it names, else the one known at its address. Those who were met before their
/// channel was registered are known under its service identifier.
fn customer_of(known: Known<'_>, key: &SessionKey, sent: &pb::Header) -> Option<String> {
    let at = |channel_type: &str| known.facts.customer_at(channel_type, &key.channel_customer_identifier);
    let service_identifier = key.service_identifier.as_str();
    let channel_type = known.channels.channel_type(service_identifier);
    let before = || if channel_type == service_identifier { None } else { at(service_identifier) };
    customers::named(sent).map(str::to_owned).or_else(|| at(channel_type)).or_else(before)
}

/// A new session, and whether its customer is new, too. A customer who is known joins the conversation in which it is active already.
fn open(known: Known<'_>, key: SessionKey, conversation: Option<String>, sent: &pb::Header, at: Timestamp) -> (Session, bool) {
    let facts = known.facts;
    let of_conversation =
        || conversation.as_deref().and_then(|id| facts.session_of_conversation(id)).map(|session| session.customer_id.clone());
    let customer = customer_of(known, &key, sent).or_else(of_conversation);
    let active = || customer.as_deref().and_then(|id| facts.active_conversation(id));
    let conversation_id = conversation.or_else(active).unwrap_or_else(message::fresh_id);
    let is_new = customer.is_none();
    let session = Session {
        id: message::fresh_id(),
        channel_type: known.channels.channel_type(&key.service_identifier).to_owned(),
        service_identifier: key.service_identifier,
        channel_customer_identifier: key.channel_customer_identifier,
        conversation_id,
        customer_id: customer.unwrap_or_else(message::fresh_id),
        opened_at: Some(at),
        ended_at: None,
        end_reason: String::new(),
    };
    (session, is_new)
}

/// The customer of a session with what the client sent about it. A client that names another customer is right.
fn customer(facts: &dyn Facts, session: &mut Session, sent: &pb::Header, sent_numbers: &wire::Exact) -> CustomerFacts {
    if let Some(id) = customers::named(sent) {
        session.customer_id = id.to_owned();
    }
    let known = facts.customer(&session.customer_id).map(Arc::unwrap_or_clone);
    customers::updated(known, session, sent, sent_numbers)
}

/// Fills the header fields that the page calls system generated.
fn fill(message: &mut pb::CimMessage, session: &Session, customer: CustomerFacts) {
    let header = message.header.get_or_insert_default();
    header.channel_session_id = Some(session.id.clone());
    header.conversation_id = Some(session.conversation_id.clone());
    header.customer = Some(customer.customer);
    let channel = header.channel_data.get_or_insert_default();
    channel.channel_customer_identifier = Some(session.channel_customer_identifier.clone());
    channel.service_identifier = Some(session.service_identifier.clone());
    if !customer.exact_numbers.is_empty() {
        message.exact_numbers.extend(customer.exact_numbers);
        wire::drop_stale_exact_numbers(message);
    }
}

/// Notes what the client sent where the routed message now has something else.
fn note_rerouting(submission: &mut Submission, sent: pb::Header, sent_numbers: wire::Exact, routed: &pb::CimMessage) {
    let Some(now) = &routed.header else { return };
    let is_rerouted = sent.channel_session_id != now.channel_session_id
        || sent.conversation_id != now.conversation_id
        || sent.channel_data != now.channel_data
        || sent.customer != now.customer;
    submission.routing = is_rerouted.then(|| {
        let routing = Routing {
            channel_session_id: sent.channel_session_id,
            conversation_id: sent.conversation_id,
            channel_data: sent.channel_data,
            customer: sent.customer,
            customer_exact_numbers: sent_numbers,
        };
        routing.encode_to_vec()
    });
}

pub(crate) fn entry(message: pb::CimMessage, session: Option<Session>, submission: Option<Submission>) -> Entry {
    Entry {
        audiences: vec![message::audience(&message).into()],
        ephemeral: message::is_typing(&message),
        message: Some(message.into()),
        session,
        submission: submission.map(Box::new),
        ..Entry::default()
    }
}

/// Who a notice of the gateway's is for.
pub(crate) const NOTICE_AUDIENCES: [Audience; 2] = [Audience::Customer, Audience::Platform];

/// True for what the gateway tells about a session.
pub(crate) fn is_notice(message: &pb::CimMessage) -> bool {
    let sender = message.header.as_ref().and_then(|header| header.sender.as_ref());
    let of_session = matches!(
        message::kind(message),
        Some(Kind::Notification(notification))
            if matches!(notification.notification_type.as_deref(), Some("CHANNEL_SESSION_STARTED" | "CHANNEL_SESSION_EXPIRED" | "CHANNEL_SESSION_ENDED"))
    );
    of_session && sender.is_some_and(|sender| sender.id.as_deref() == Some(GATEWAY) && sender.r#type() == SenderType::System)
}

/// A copy of what [`by_gateway`] repeats of a message, and of what it is known by.
pub(crate) fn gist(message: &pb::CimMessage) -> pb::CimMessage {
    let header = message.header.as_ref().map(|header| pb::Header {
        channel_data: header.channel_data.clone(),
        channel_session_id: header.channel_session_id.clone(),
        conversation_id: header.conversation_id.clone(),
        customer: header.customer.clone(),
        room_id: header.room_id.clone(),
        provider_message_id: header.provider_message_id.clone(),
        ..pb::Header::default()
    });
    let exact_numbers = numbers_of(&message.exact_numbers, |pointer| is_of_channel(pointer) || is_of_customer(pointer));
    pb::CimMessage { id: message.id.clone(), header, exact_numbers, ..pb::CimMessage::default() }
}

/// The exact numbers of the channel's data of a message.
pub(crate) fn channel_numbers(message: &pb::CimMessage) -> wire::Exact {
    numbers_of(&message.exact_numbers, is_of_channel)
}

fn is_of_channel(pointer: &str) -> bool {
    pointer.starts_with("/header/channelData/")
}

/// Makes of a routed message, or of the [`gist`] of one, what the gateway says by itself about it: it goes where that one is.
pub(crate) fn by_gateway(message: &mut pb::CimMessage, body: pb::Body, at: Timestamp) {
    let sender = pb::Sender {
        id: Some(GATEWAY.into()),
        r#type: SenderType::System.into(),
        sender_name: Some(GATEWAY.into()),
        ..pb::Sender::default()
    };
    let header = message.header.get_or_insert_default();
    *header = pb::Header {
        sender: Some(sender),
        channel_data: header.channel_data.take(),
        timestamp: Some(at),
        channel_session_id: header.channel_session_id.take(),
        conversation_id: header.conversation_id.take(),
        customer: header.customer.take(),
        room_id: header.room_id.take(),
        ..pb::Header::default()
    };
    message.id = Some(message::fresh_id());
    message.body = Some(body);
    message.extra_fields = None;
    message.exact_numbers.retain(|pointer, _| is_of_channel(pointer) || is_of_customer(pointer));
}

/// Brings what an entry of the gateway's repeats of an earlier message up to date: since then its session may have ended, and more may be
/// known of its customer, who is not active by it. The session stays where it is among those that could be meant: its customer may have
/// gone on to another.
pub(crate) fn bring_up_to_date(entry: &mut Entry, facts: &dyn Facts) {
    let Some(session) = &mut entry.session else { return };
    let Some((position, known)) = facts.session_and_position(&session.id) else {
        // It went with all that told it.
        entry.session = None;
        return;
    };
    if *session != *known.session {
        session.clone_from(&known.session);
    }
    (entry.last_activity, entry.ranked_at) = (Some(known.last_activity), position.0);
    let customer = facts.customer(&known.session.customer_id);
    let Some(message) = entry.message.as_deref_mut() else {
        // Whatever tells a session tells its customer, too: else the log would let go of the customer first.
        entry.carried = Some(known.carried(position, customer.as_deref()).into());
        return;
    };
    let Some(customer) = customer else { return };
    let repeated = message.header.as_ref().and_then(|header| header.customer.as_ref());
    if repeated != Some(&customer.customer) || crate::store::customer_numbers(&message.exact_numbers) != customer.exact_numbers {
        message.exact_numbers.retain(|pointer, _| !is_of_customer(pointer));
        fill(message, &known.session, Arc::unwrap_or_clone(customer));
    }
}

/// What the gateway tells both sides about a session, with every header field that they read.
fn notice(cause: &pb::CimMessage, session: &Session, notification: &str, at: Timestamp) -> Entry {
    let mut data = Struct::default();
    if !session.end_reason.is_empty() {
        let reason = Value { kind: Some(value::Kind::StringValue(session.end_reason.clone())) };
        data.fields.insert("reasonCode".into(), reason);
    }
    let body = pb::NotificationBody { notification_type: Some(notification.into()), notification_data: Some(data) };
    let body = pb::Body { kind: Some(Kind::Notification(body)), ..pb::Body::default() };
    let mut message = gist(cause);
    by_gateway(&mut message, body, at);
    Entry {
        audiences: NOTICE_AUDIENCES.map(i32::from).to_vec(),
        message: Some(message.into()),
        session: Some(session.clone()),
        ..Entry::default()
    }
}
