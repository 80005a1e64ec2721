//! Channel sessions, conversations and customers: where a message belongs, and what the gateway fills in.
//!
//! Pure: [`route`] looks facts up, and invents nothing but ids.

use crate::message;
use crate::pb;
use crate::pb::body::Kind;
use crate::pb::store::{Entry, Session, Submission};
use crate::pb::{Audience, SenderType};
use crate::store::{CustomerFacts, Facts, Frame, SessionKey};
use crate::violation::{Reason, Violations};
use crate::wire;
use prost_types::{Struct, Timestamp, Value, value};
use std::sync::Arc;

/// Name and id of the gateway where it is the sender.
const GATEWAY: &str = "cim-gateway";

/// Finds or opens the session of a checked message, fills what the gateway fills, and makes the frame to append: the message, and
/// before or after it what happened to its session.
///
/// `received_at` is when the message came; `submission` is what the client sent beside the routing fields.
pub fn route(
    facts: &dyn Facts,
    mut message: pb::CimMessage,
    mut submission: Submission,
    received_at: Timestamp,
) -> Result<Frame, Violations> {
    let destination = destination(facts, &message)?;
    let sent = message.header.clone().unwrap_or_default();
    let sent_numbers = crate::store::customer_numbers(&message.exact_numbers);

    let (mut session, opened) = match destination {
        Destination::Nowhere => return Ok(vec![entry(message, None, Some(submission))]),
        Destination::Attach(session) => (Session::clone(&session), false),
        Destination::Open { key, conversation } => (open(facts, key, conversation, &sent, received_at), true),
    };
    let customer = customer(facts, &mut session, &sent, &sent_numbers);
    fill(&mut message, &session, customer);
    note_rerouting(&mut submission, sent, sent_numbers, &message);

    let mut frame = Vec::with_capacity(2);
    if opened {
        frame.push(notice(&message, &session, "CHANNEL_SESSION_STARTED", received_at));
    }
    let ends = message::intent(&message) == Some("END_CHAT") && session.ended_at.is_none();
    if ends {
        session.ended_at = Some(received_at);
        session.end_reason = "CUSTOMER".into();
    }
    let ended = ends.then(|| notice(&message, &session, "CHANNEL_SESSION_ENDED", received_at));
    frame.push(entry(message, Some(session), Some(submission)));
    frame.extend(ended);
    Ok(frame)
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

fn destination(facts: &dyn Facts, message: &pb::CimMessage) -> Result<Destination, Violations> {
    let header = message.header.as_ref();
    let named = Named {
        session: header.and_then(|header| header.channel_session_id.as_deref()).and_then(|id| facts.session(id)),
        conversation: header
            .and_then(|header| header.conversation_id.as_deref())
            .and_then(|id| facts.session_of_conversation(id)),
        key: header.and_then(key),
    };
    let may_open = message::may_open(message);
    if !may_open && let Some(session) = reported_session(facts, message).filter(|session| agrees(session, &named)) {
        return Ok(Destination::Attach(session));
    }
    if let Some(session) = &named.session {
        return follow_session(facts, session, header, &named, may_open);
    }
    if let Some(session) = &named.conversation {
        return follow_conversation(facts, session, header, &named, may_open);
    }
    let Some(key) = named.key else { return Err(unknown_route(header)) };
    Ok(follow_key(facts, key, None, may_open))
}

/// The session of the message that a notification reports on.
fn reported_session(facts: &dyn Facts, message: &pb::CimMessage) -> Option<Arc<Session>> {
    let id = match message::kind(message)? {
        Kind::DeliveryNotification(notification) => notification.message_id.as_deref(),
        Kind::DeletedNotification(notification) => notification.message_id.as_deref(),
        _ => None,
    };
    facts.session_of_message(id?)
}

/// True if nothing that the header names speaks against a session.
fn agrees(session: &Session, named: &Named) -> bool {
    named.session.as_ref().is_none_or(|other| other.id == session.id)
        && named.conversation.as_ref().is_none_or(|other| other.conversation_id == session.conversation_id)
        && named.key.as_ref().is_none_or(|key| *key == SessionKey::of(session))
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

/// `latest` is the conversation's session that was active last.
fn follow_conversation(
    facts: &dyn Facts,
    latest: &Arc<Session>,
    header: Option<&pb::Header>,
    named: &Named,
    may_open: bool,
) -> Result<Destination, Violations> {
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
        let at_key = facts.customer_at(&key.service_identifier, &key.channel_customer_identifier);
        let sent = header.and_then(|header| header.customer.as_ref()).and_then(|customer| customer.id.clone());
        sent.or(at_key).is_none_or(|customer| customer == latest.customer_id)
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

/// A new session. Its customer joins the conversation in which it is active already.
fn open(facts: &dyn Facts, key: SessionKey, conversation: Option<String>, sent: &pb::Header, at: Timestamp) -> Session {
    // A channel that is not registered is a type of its own.
    let channel_type = key.service_identifier.clone();
    let sent_customer = sent.customer.as_ref().and_then(|customer| customer.id.clone()).filter(|id| !id.is_empty());
    let of_conversation =
        || conversation.as_deref().and_then(|id| facts.session_of_conversation(id)).map(|session| session.customer_id.clone());
    let customer_id = sent_customer
        .or_else(|| facts.customer_at(&channel_type, &key.channel_customer_identifier))
        .or_else(of_conversation)
        .unwrap_or_else(message::fresh_id);
    let conversation_id = conversation.or_else(|| facts.active_conversation(&customer_id)).unwrap_or_else(message::fresh_id);
    Session {
        id: message::fresh_id(),
        service_identifier: key.service_identifier,
        channel_customer_identifier: key.channel_customer_identifier,
        conversation_id,
        customer_id,
        channel_type,
        opened_at: Some(at),
        ended_at: None,
        end_reason: String::new(),
    }
}

/// The customer of a session with what the client sent about it. A client that names another customer is right.
fn customer(facts: &dyn Facts, session: &mut Session, sent: &pb::Header, sent_numbers: &wire::Exact) -> CustomerFacts {
    let update = sent.customer.as_ref();
    if let Some(id) = update.and_then(|customer| customer.id.as_ref()).filter(|id| !id.is_empty()) {
        session.customer_id.clone_from(id);
    }
    let known = facts.customer(&session.customer_id);
    let mut merged = match known {
        Some(known) => CustomerFacts::clone(&known),
        None => CustomerFacts { customer: newcomer(session, sent), ..CustomerFacts::default() },
    };
    if let Some(update) = update {
        merge(&mut merged.customer, update);
        merged.exact_numbers.extend(sent_numbers.clone());
    }
    merged.customer.id = Some(session.customer_id.clone());
    merged
}

/// A customer nobody has met: named as the provider names it, else anonymous under its address.
fn newcomer(session: &Session, sent: &pb::Header) -> pb::Customer {
    let channel = sent.channel_data.as_ref();
    let names = [channel.and_then(|c| c.customer_first_name.as_deref()), channel.and_then(|c| c.customer_last_name.as_deref())];
    let name = names.into_iter().flatten().filter(|name| !name.trim().is_empty()).collect::<Vec<_>>().join(" ");
    let is_anonymous = name.is_empty();
    let first_name = if is_anonymous { session.channel_customer_identifier.clone() } else { name };
    pb::Customer { first_name: Some(first_name), is_anonymous, ..pb::Customer::default() }
}

/// Lets what is sent overwrite what is known; what is not sent never does. Whether a customer is anonymous goes with the name.
fn merge(known: &mut pb::Customer, sent: &pb::Customer) {
    if let Some(name) = &sent.first_name {
        known.first_name = Some(name.clone());
        known.is_anonymous = sent.is_anonymous;
    }
    if !sent.phone_number.is_empty() {
        known.phone_number.clone_from(&sent.phone_number);
    }
    if sent.version != 0 {
        known.version = sent.version;
    }
    if sent.additional_detail.is_some() {
        known.additional_detail.clone_from(&sent.additional_detail);
    }
    if let Some(extras) = &sent.extra_fields {
        let not_null = extras.fields.iter().filter(|(_, value)| !matches!(value.kind, Some(value::Kind::NullValue(_)) | None));
        let not_null = not_null.map(|(key, value)| (key.clone(), value.clone()));
        known.extra_fields.get_or_insert_default().fields.extend(not_null);
    }
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
    submission.rerouted = sent.channel_session_id != now.channel_session_id
        || sent.conversation_id != now.conversation_id
        || sent.channel_data != now.channel_data
        || sent.customer != now.customer;
    if submission.rerouted {
        submission.channel_session_id = sent.channel_session_id;
        submission.conversation_id = sent.conversation_id;
        submission.channel_data = sent.channel_data;
        submission.customer = sent.customer;
        submission.customer_exact_numbers = sent_numbers;
    }
}

fn entry(message: pb::CimMessage, session: Option<Session>, submission: Option<Submission>) -> Entry {
    Entry {
        audiences: vec![message::audience(&message).into()],
        ephemeral: message::is_typing(&message),
        message: Some(message),
        session,
        submission,
        ..Entry::default()
    }
}

/// What the gateway tells both sides about a session, with every header field that they read.
fn notice(cause: &pb::CimMessage, session: &Session, notification: &str, at: Timestamp) -> Entry {
    let routed = cause.header.as_ref();
    let sender = pb::Sender {
        id: Some(GATEWAY.into()),
        r#type: SenderType::System.into(),
        sender_name: Some(GATEWAY.into()),
        ..pb::Sender::default()
    };
    let header = pb::Header {
        sender: Some(sender),
        channel_data: routed.and_then(|header| header.channel_data.clone()),
        timestamp: Some(at),
        channel_session_id: Some(session.id.clone()),
        conversation_id: Some(session.conversation_id.clone()),
        customer: routed.and_then(|header| header.customer.clone()),
        room_id: routed.and_then(|header| header.room_id.clone()),
        ..pb::Header::default()
    };
    let mut data = Struct::default();
    if !session.end_reason.is_empty() {
        let reason = Value { kind: Some(value::Kind::StringValue(session.end_reason.clone())) };
        data.fields.insert("reasonCode".into(), reason);
    }
    let body = pb::NotificationBody { notification_type: Some(notification.into()), notification_data: Some(data) };
    let message = pb::CimMessage {
        id: Some(message::fresh_id()),
        header: Some(header),
        body: Some(pb::Body { kind: Some(Kind::Notification(body)), ..pb::Body::default() }),
        exact_numbers: crate::store::customer_numbers(&cause.exact_numbers),
        ..pb::CimMessage::default()
    };
    Entry {
        audiences: vec![Audience::Customer.into(), Audience::Platform.into()],
        message: Some(message),
        session: Some(session.clone()),
        ..Entry::default()
    }
}
