//! What became of a message, as clients see it.

use super::deliveries::{attempt, endpoint};
use crate::outcomes::Outcome;
use crate::pb;
use crate::pb::store;
use crate::store::{DeliveryId, DeliveryName};
use crate::timeline::Event;

/// An outcome.
pub(super) fn outcome(outcome: Outcome) -> pb::DeliveryOutcome {
    let Outcome { status, reason_code, text } = outcome;
    pb::DeliveryOutcome { status: status.into(), reason_code, text: text.unwrap_or_default() }
}

/// An event of the log of this number.
pub(super) fn event(event: &Event, log: u64) -> pb::MessageEvent {
    let of = |delivery: DeliveryId| pb::DeliveryEvent {
        delivery_id: DeliveryName { log, id: delivery }.to_string(),
        endpoint: endpoint(delivery.endpoint).into(),
        ..pb::DeliveryEvent::default()
    };
    let (stored, event) = match event {
        Event::Receipt { stored, outcome, counts } => {
            let receipt = pb::ReceiptEvent {
                message_id: stored.id().to_owned(),
                outcome: Some(self::outcome(outcome.clone())),
                counts: *counts,
            };
            (stored, pb::message_event::Event::Receipt(receipt))
        }
        Event::Step { stored, delivery, step } => {
            let event = pb::DeliveryEvent {
                state: state(step.state()).into(),
                attempts: step.attempts,
                due_time: step.due,
                attempt: step.attempt.as_ref().map(attempt),
                ..of(*delivery)
            };
            (stored, pb::message_event::Event::Delivery(event))
        }
        Event::Redriven { stored, delivery } => {
            let event = pb::DeliveryEvent { state: pb::DeliveryState::Pending.into(), ..of(*delivery) };
            (stored, pb::message_event::Event::Delivery(event))
        }
    };
    pb::MessageEvent { time: stored.entry.accepted_at, event: Some(event) }
}

/// How far a delivery is.
pub(super) const fn state(state: store::DeliveryState) -> pb::DeliveryState {
    match state {
        store::DeliveryState::Unspecified => pb::DeliveryState::Unspecified,
        store::DeliveryState::Pending => pb::DeliveryState::Pending,
        store::DeliveryState::Parked => pb::DeliveryState::Parked,
        store::DeliveryState::Accepted => pb::DeliveryState::Accepted,
        store::DeliveryState::Delivered => pb::DeliveryState::Delivered,
        store::DeliveryState::Failed => pb::DeliveryState::Dead,
        store::DeliveryState::Discarded => pb::DeliveryState::Discarded,
    }
}
