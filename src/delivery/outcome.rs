//! What is appended when an attempt has ended: the step, and the delivery notification that tells the other side.
//!
//! Pure. Nobody is notified about notifications, and typing leaves no trace.

use super::answer::Report;
use crate::outcomes::Outcome;
use crate::pb;
use crate::pb::body::Kind;
use crate::pb::store::{Attempt, DeliveryState, DeliveryStep, Endpoint, Entry};
use crate::pb::{Audience, DeliveryStatus, SenderType};
use crate::store::{DeliveryId, Stored, message_of};
use crate::{message, sessions};
use prost_types::Timestamp;
use uuid::Uuid;

/// How far a delivery has come with an attempt.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Step {
    pub(super) id: DeliveryId,
    pub(super) state: DeliveryState,
    pub(super) attempts: u32,
    pub(super) due: Option<Timestamp>,
    pub(super) attempt: Option<Attempt>,
}

impl Step {
    fn into_pb(self) -> DeliveryStep {
        DeliveryStep {
            planned_at: self.id.planned_at.0,
            endpoint: self.id.endpoint.into(),
            state: self.state.into(),
            attempts: self.attempts,
            due: self.due,
            attempt: self.attempt,
        }
    }
}

/// The entry that tells a step and nothing else.
pub(super) fn step_alone(step: Step) -> Entry {
    Entry { delivery_steps: vec![step.into_pb()], ..Entry::default() }
}

/// What a settled delivery means to the senders of its message.
pub(super) fn outcome(state: DeliveryState, report: Report) -> Outcome {
    let Report { status, reason_code, text } = report;
    match state {
        DeliveryState::Delivered => {
            let status = status.unwrap_or(DeliveryStatus::Delivered);
            Outcome { status: Some(status), reason_code: reason_code.unwrap_or_else(|| "200".into()), text }
        }
        DeliveryState::Failed | DeliveryState::Discarded => {
            let reason_code = reason_code.unwrap_or_else(|| "500".into());
            Outcome { status: Some(DeliveryStatus::Failed), reason_code, text }
        }
        _ => Outcome { status: None, reason_code: "202".into(), text },
    }
}

/// True if what becomes of a message is told: not of notifications, which would never end.
pub(super) fn is_told(message: &pb::CimMessage) -> bool {
    let of_notifications = matches!(
        message::kind(message),
        Some(Kind::DeliveryNotification(_) | Kind::DeletedNotification(_) | Kind::Notification(_))
    );
    !of_notifications && !message::is_typing(message)
}

/// The entry that settles the delivery of `stored` and tells its outcome, if that is told.
pub(super) fn settled(step: Step, outcome: &Outcome, stored: &Stored, now: Timestamp) -> Entry {
    let endpoint = step.id.endpoint;
    let entry = step_alone(step);
    let told = message_of(&stored.entry).filter(|message| is_told(message));
    let Some((message, status)) = told.zip(outcome.status) else { return entry };
    // Who is on the other side of who got it.
    let audience = if endpoint == Endpoint::Connector { Audience::Platform } else { Audience::Customer };
    Entry {
        audiences: vec![audience.into()],
        message: Some(notification(message, status, outcome, now)),
        session: stored.entry.session.clone(),
        ..entry
    }
}

fn notification(about: &pb::CimMessage, status: DeliveryStatus, outcome: &Outcome, now: Timestamp) -> pb::CimMessage {
    let routed = about.header.clone().unwrap_or_default();
    let sender = pb::Sender {
        id: Some(sessions::GATEWAY.into()),
        r#type: SenderType::System.into(),
        sender_name: Some(sessions::GATEWAY.into()),
        ..pb::Sender::default()
    };
    let header = pb::Header {
        sender: Some(sender),
        channel_data: routed.channel_data,
        timestamp: Some(now),
        channel_session_id: routed.channel_session_id,
        conversation_id: routed.conversation_id,
        customer: routed.customer,
        original_message_id: about.id.clone(),
        provider_message_id: routed.provider_message_id,
        room_id: routed.room_id,
        ..pb::Header::default()
    };
    let kind = pb::DeliveryNotificationBody {
        message_id: about.id.clone(),
        status: status.into(),
        reason_code: Some(outcome.reason_code.clone()),
    };
    pb::CimMessage {
        id: Some(Uuid::now_v7().to_string()),
        header: Some(header),
        body: Some(pb::Body {
            markdown_text: outcome.text.clone(),
            kind: Some(Kind::DeliveryNotification(kind)),
            ..pb::Body::default()
        }),
        exact_numbers: crate::store::customer_numbers(&about.exact_numbers),
        ..pb::CimMessage::default()
    }
}
