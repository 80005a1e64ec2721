//! What became of a message, as the face shows it.

use super::view::json;
use crate::outcomes::Outcome;
use crate::pb::store::{Attempt, DeliveryState, Endpoint};
use crate::store::{DeliveryId, DeliveryName, Stored};
use crate::timeline::{Event, Timeline};
use crate::wire;
use serde::Serialize;

#[derive(Debug, Serialize)]
struct Shown<'t> {
    outcome: Option<ShownOutcome<'t>>,
    timeline: Vec<ShownEvent<'t>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownOutcome<'t> {
    status: &'static str,
    reason_code: &'t str,
    text: Option<&'t str>,
}

#[derive(Debug, Serialize)]
struct ShownEvent<'t> {
    time: String,
    #[serde(flatten)]
    what: What<'t>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
enum What<'t> {
    Receipt(ShownReceipt<'t>),
    Delivery(ShownDelivery<'t>),
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownReceipt<'t> {
    message_id: &'t str,
    #[serde(flatten)]
    outcome: ShownOutcome<'t>,
    counts: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownDelivery<'t> {
    delivery_id: String,
    endpoint: &'static str,
    state: &'static str,
    attempts: u32,
    due_time: Option<String>,
    attempt: Option<ShownAttempt<'t>>,
}

/// An attempt to make a delivery.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ShownAttempt<'t> {
    time: Option<String>,
    duration: String,
    status: Option<u32>,
    failure: Option<&'t str>,
    answer: Option<&'t str>,
}

/// Writes `"outcome": .., "timeline": ..` and the brace that closes the object.
pub(super) fn write(out: &mut Vec<u8>, timeline: &Timeline, log: u64) {
    let shown = Shown {
        outcome: timeline.outcome.as_ref().map(ShownOutcome::of),
        timeline: timeline.events.iter().map(|event| ShownEvent::of(event, log)).collect(),
    };
    // The object's text without the opening brace.
    out.extend_from_slice(&json(&shown)[1..]);
}

impl<'t> ShownOutcome<'t> {
    fn of(outcome: &'t Outcome) -> Self {
        let status = outcome.status.as_str_name().trim_start_matches("DELIVERY_STATUS_");
        Self { status, reason_code: &outcome.reason_code, text: outcome.text.as_deref() }
    }
}

impl<'t> ShownEvent<'t> {
    fn of(event: &'t Event, log: u64) -> Self {
        let (stored, what) = match event {
            Event::Receipt { stored, outcome, counts } => {
                let receipt = ShownReceipt { message_id: stored.id(), outcome: ShownOutcome::of(outcome), counts: *counts };
                (stored, What::Receipt(receipt))
            }
            Event::Step { stored, delivery, step } => {
                let shown = ShownDelivery {
                    state: state(step.state()),
                    attempts: step.attempts,
                    due_time: step.due.as_ref().map(wire::to_rfc3339),
                    attempt: step.attempt.as_ref().map(ShownAttempt::of),
                    ..ShownDelivery::of(*delivery, log)
                };
                (stored, What::Delivery(shown))
            }
            Event::Redriven { stored, delivery } => (stored, What::Delivery(ShownDelivery::of(*delivery, log))),
        };
        Self { time: accepted_at(stored), what }
    }
}

fn accepted_at(stored: &Stored) -> String {
    wire::to_rfc3339(&stored.entry.accepted_at.unwrap_or_default())
}

impl ShownDelivery<'_> {
    /// One that is only planned.
    fn of(delivery: DeliveryId, log: u64) -> Self {
        let endpoint = endpoint(delivery.endpoint);
        let delivery_id = DeliveryName { log, id: delivery }.to_string();
        let state = state(DeliveryState::Pending);
        Self { delivery_id, endpoint, state, attempts: 0, due_time: None, attempt: None }
    }
}

impl<'t> ShownAttempt<'t> {
    pub(super) fn of(attempt: &'t Attempt) -> Self {
        let some = |text: &'t str| Some(text).filter(|text| !text.is_empty());
        Self {
            time: attempt.began_at.as_ref().map(wire::to_rfc3339),
            duration: format!("{}.{:03}s", attempt.millis / 1000, attempt.millis % 1000),
            status: Some(attempt.status).filter(|status| *status != 0),
            failure: some(&attempt.failure),
            answer: some(&attempt.answer),
        }
    }
}

/// The name of a webhook of a channel.
pub(super) fn endpoint(endpoint: Endpoint) -> &'static str {
    endpoint.as_str_name().trim_start_matches("ENDPOINT_")
}

/// The name of a state: what was given up is a dead letter.
pub(super) fn state(state: DeliveryState) -> &'static str {
    match state {
        DeliveryState::Failed => "DEAD",
        other => other.as_str_name().trim_start_matches("DELIVERY_STATE_"),
    }
}
