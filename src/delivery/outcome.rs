//! What is appended when an attempt has ended: the step, and the delivery notification that tells the other side.
//!
//! Pure. Nobody is notified about notifications, and typing leaves no trace.

use super::answer::Report;
use crate::outcomes::Outcome;
use crate::pb;
use crate::pb::body::Kind;
use crate::pb::store::{DeliveryState, DeliveryStep, Endpoint, Entry};
use crate::pb::{Audience, DeliveryStatus};
use crate::store::{Stored, message_of};
use crate::{message, sessions};
use prost_types::Timestamp;

/// The entry that tells a step and nothing else.
pub(super) fn step_alone(step: DeliveryStep) -> Entry {
    Entry { delivery_steps: vec![step], ..Entry::default() }
}

/// What a settled delivery means to the senders of its message; none if the receiver is yet to tell.
pub(super) fn outcome(state: DeliveryState, report: Report) -> Option<Outcome> {
    let Report { status, reason_code, text, .. } = report;
    let (status, usual) = match state {
        DeliveryState::Delivered => (status.unwrap_or(DeliveryStatus::Delivered), "200"),
        DeliveryState::Failed | DeliveryState::Discarded => (DeliveryStatus::Failed, "500"),
        _ => return None,
    };
    Some(Outcome { status, reason_code: reason_code.unwrap_or_else(|| usual.into()), text })
}

/// The entry that settles the delivery of `stored` and tells its outcome, if that is told. `provider_id` is what the receiver says
/// that its provider calls the message.
pub(super) fn settled(
    step: DeliveryStep,
    outcome: Option<&Outcome>,
    provider_id: Option<String>,
    stored: &Stored,
    now: Timestamp,
) -> Entry {
    let endpoint = step.endpoint();
    let entry = step_alone(step);
    // What becomes of notifications is told to nobody, for that would never end.
    let told = message_of(&stored.entry).filter(|message| !message::is_notification(message));
    let Some((about, outcome)) = told.zip(outcome) else { return entry };
    let mut message = notification(about, outcome, now);
    if let Some(header) = message.header.as_mut().filter(|_| provider_id.is_some()) {
        header.provider_message_id = provider_id;
    }
    // Who is on the other side of who got it.
    let audience = if endpoint == Endpoint::Connector { Audience::Platform } else { Audience::Customer };
    Entry {
        audiences: vec![audience.into()],
        message: Some(message.into()),
        session: stored.entry.session.clone(),
        about: stored.position.0,
        ..entry
    }
}

fn notification(about: &pb::CimMessage, outcome: &Outcome, now: Timestamp) -> pb::CimMessage {
    let kind = pb::DeliveryNotificationBody {
        message_id: about.id.clone(),
        status: outcome.status.into(),
        reason_code: Some(outcome.reason_code.clone()),
    };
    let body =
        pb::Body { markdown_text: outcome.text.clone(), kind: Some(Kind::DeliveryNotification(kind)), ..pb::Body::default() };
    let mut message = sessions::by_gateway(about, body, now);
    let header = message.header.get_or_insert_default();
    header.original_message_id.clone_from(&about.id);
    header.provider_message_id = about.header.as_ref().and_then(|header| header.provider_message_id.clone());
    message
}
