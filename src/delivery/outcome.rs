//! What is appended when an attempt has ended: the step, and the delivery notification that tells the other side.
//!
//! Pure. Nobody is notified about notifications, and typing leaves no trace.

use super::answer::Report;
use crate::outcomes::Outcome;
use crate::pb;
use crate::pb::body::Kind;
use crate::pb::store::{DeliveryState, DeliveryStep, Endpoint, Entry, Session};
use crate::pb::{Audience, DeliveryStatus};
use crate::store::{Stored, message_of, take_message};
use crate::{message, sessions};
use prost_types::Timestamp;
use std::sync::Arc;

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

/// The entry that settles the delivery of `stored` and tells its outcome, if that is told: of none if there is no message any more.
/// `provider_id` is what the receiver says that its provider calls the message; where there is no outcome yet, the step tells it.
pub(super) fn settled(
    step: DeliveryStep,
    outcome: Option<&Outcome>,
    provider_id: Option<String>,
    stored: Option<Stored>,
    now: Timestamp,
) -> Entry {
    let endpoint = step.endpoint();
    let entry = step_alone(step);
    // What becomes of notifications is told to nobody, for that would never end.
    let is_told = |stored: &Stored| message_of(&stored.entry).is_some_and(|message| !message::is_notification(message));
    let Some(stored) = stored.filter(is_told) else { return entry };
    let Some(outcome) = outcome else { return naming(entry, provider_id, &stored) };
    let Stored { position, entry: told } = stored;
    let (mut message, session) = gist(told);
    notify(&mut message, outcome, now);
    if let Some(header) = message.header.as_mut().filter(|_| provider_id.is_some()) {
        header.provider_message_id = provider_id;
    }
    // Who is on the other side of who got it.
    let audience = if endpoint == Endpoint::Connector { Audience::Platform } else { Audience::Customer };
    Entry { audiences: vec![audience.into()], message: Some(message), session, about: position.0, ..entry }
}

/// The entry, which tells of a message whose outcome is yet to come what its provider calls it, if that is known: the receipts that tell
/// the outcome may name it so.
fn naming(mut entry: Entry, provider_id: Option<String>, stored: &Stored) -> Entry {
    let (Some(provider_id), Some(step)) = (provider_id, entry.delivery_steps.first_mut()) else { return entry };
    step.provider_message_id = provider_id;
    let session = stored.entry.session.clone().or_else(|| session_named_by(message_of(&stored.entry)?));
    Entry { session, about: stored.position.0, ..entry }
}

/// The session that a message names. What else is known of it is filled in later.
fn session_named_by(message: &pb::CimMessage) -> Option<Session> {
    Some(Session { id: message.header.as_ref()?.channel_session_id.clone()?, ..Session::default() })
}

/// What a notification repeats of the message of an entry, and its session. Nothing is copied if nobody else has the entry, as is so of
/// what has waited.
fn gist(entry: Arc<Entry>) -> (Box<pb::CimMessage>, Option<Session>) {
    let (message, session) = match Arc::try_unwrap(entry) {
        Ok(mut entry) => (take_message(&mut entry).unwrap_or_default(), entry.session),
        Err(shared) => (message_of(&shared).map(sessions::gist).unwrap_or_default().into(), shared.session.clone()),
    };
    // An entry that was carried forward has none, but its message names it.
    let session = session.or_else(|| session_named_by(&message));
    (message, session)
}

/// Makes the notification of its outcome of a message, or of the gist of one.
fn notify(message: &mut pb::CimMessage, outcome: &Outcome, now: Timestamp) {
    let provider_id = message.header.as_mut().and_then(|header| header.provider_message_id.take());
    let about_id = message.id.take();
    let kind = pb::DeliveryNotificationBody {
        message_id: about_id.clone(),
        status: outcome.status.into(),
        reason_code: Some(outcome.reason_code.clone()),
    };
    let body =
        pb::Body { markdown_text: outcome.text.clone(), kind: Some(Kind::DeliveryNotification(kind)), ..pb::Body::default() };
    sessions::by_gateway(message, body, now);
    let header = message.header.get_or_insert_default();
    header.original_message_id = about_id;
    header.provider_message_id = provider_id;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::store::{Carried, CarriedDelivery};
    use crate::samples;
    use crate::store::Position;
    use serde_json::json;

    #[test]
    fn an_outcome_is_the_same_whether_somebody_else_has_the_message_or_nobody() {
        let customer = json!({ "_id": "c", "firstName": "Ada", "score": 9_007_199_254_740_993_u64 });
        let channel =
            json!({ "channelCustomerIdentifier": "+49 1", "serviceIdentifier": "shop", "score": 9_007_199_254_740_995_u64 });
        let header = json!({ "providerMessageId": "p", "roomId": "r", "customer": customer, "channelData": channel });
        let patch = json!({ "id": "m", "header": header });
        let entry = Entry {
            message: Some(samples::message(patch).into()),
            session: Some(Session { id: "s".into(), ..Session::default() }),
            ..Entry::default()
        };
        let outcome = Outcome { status: DeliveryStatus::Delivered, reason_code: "200".into(), text: None };
        let told = |entry: Arc<Entry>| {
            let stored = Stored { position: Position(7), entry };
            let mut told = settled(DeliveryStep::default(), Some(&outcome), None, Some(stored), Timestamp::default());
            told.message.as_mut().expect("tells it").id = None;
            told
        };
        let shared = Arc::new(entry.clone());
        let told = [told(shared.clone()), told(Arc::new(entry))];
        assert_eq!(told[0], told[1]);
        let message = told[0].message.as_deref().expect("tells it");
        assert_eq!(message.exact_numbers.len(), 2);
        let header = message.header.as_ref().expect("has a header");
        assert_eq!((header.original_message_id.as_deref(), header.provider_message_id.as_deref()), (Some("m"), Some("p")));
        assert_eq!(told[0].session.as_ref().map(|session| &*session.id), Some("s"));
    }

    #[test]
    fn the_outcome_of_what_was_carried_forward_belongs_to_the_session_that_its_message_names() {
        let message = samples::message(json!({ "header": { "channelSessionId": "s" } }));
        let delivery = CarriedDelivery { message: Some(message), ..CarriedDelivery::default() };
        let carried = Carried { delivery: Some(delivery), ..Carried::default() };
        let (_, session) = gist(Arc::new(Entry { carried: Some(carried.into()), ..Entry::default() }));
        assert_eq!(session.map(|session| session.id).as_deref(), Some("s"));
    }
}
