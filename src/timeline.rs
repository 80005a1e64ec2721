//! What became of a message, in the order in which it became known: the steps of its deliveries, and the receipts.

use crate::message;
use crate::outcomes::Outcome;
use crate::pb::DeliveryStatus;
use crate::pb::store::{Attempt, DeliveryState, DeliveryStep};
use crate::receipts::{advances, may_report};
use crate::store::{self, DeliveryId, Position, Store, Stored};
use std::collections::BTreeMap;

/// Most entries that a timeline is made of: the oldest ones.
pub const MOST: usize = 1000;

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct Timeline {
    /// What became of the message by all that counts; none as long as nobody has told.
    pub outcome: Option<Outcome>,
    /// What happened, in the order of the log.
    pub events: Vec<Event>,
}

/// Something that happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// A delivery notification.
    Receipt {
        /// The notification.
        stored: Stored,
        /// What it says.
        outcome: Outcome,
        /// True if it said more than what was known, and comes from where it may come from. Any other changes nothing.
        counts: bool,
    },
    /// A step of a delivery.
    Step {
        /// The entry that tells it.
        stored: Stored,
        /// The delivery.
        delivery: DeliveryId,
        /// The step.
        step: DeliveryStep,
    },
    /// The message is delivered once more.
    Redriven {
        /// The entry that plans it.
        stored: Stored,
        /// The new delivery.
        delivery: DeliveryId,
    },
}

/// The timeline of the message at `about`.
pub async fn timeline(store: &dyn Store, about: &Stored) -> Result<Timeline, store::Error> {
    let entries = entries(store, about.position).await?;
    let mut timeline = Timeline::default();
    let mut failed = None;
    for stored in entries.values() {
        let entry = &stored.entry;
        for step in &entry.delivery_steps {
            let delivery = DeliveryId { planned_at: Position(step.planned_at), endpoint: step.endpoint() };
            if delivery.planned_at == about.position || entries.contains_key(&delivery.planned_at) {
                timeline.events.push(Event::Step { stored: stored.clone(), delivery, step: step.clone() });
                // Nothing came of delivering it once more.
                if step.state() == DeliveryState::Discarded && timeline.outcome.is_none() {
                    timeline.outcome = failed.take();
                }
            }
        }
        for plan in entry.deliveries.iter().filter(|plan| plan.message == about.position.0) {
            let delivery = DeliveryId { planned_at: stored.position, endpoint: plan.endpoint() };
            timeline.events.push(Event::Redriven { stored: stored.clone(), delivery });
            // What comes of that is no late news.
            failed = timeline.outcome.take_if(|outcome| outcome.status == DeliveryStatus::Failed).or(failed);
        }
        if let Some(outcome) = entry.message.as_deref().and_then(Outcome::of) {
            let known = timeline.outcome.as_ref().map(|outcome| outcome.status);
            let counts = may_report(entry, about) && advances(known, outcome.status);
            if counts {
                timeline.outcome = Some(outcome.clone());
            }
            timeline.events.push(Event::Receipt { stored: stored.clone(), outcome, counts });
        }
    }
    Ok(timeline)
}

/// The attempts to make a delivery, oldest first.
pub async fn attempts(store: &dyn Store, delivery: DeliveryId) -> Result<Vec<Attempt>, store::Error> {
    let mut attempts = Vec::new();
    for teller in store.sequel(delivery.planned_at, MOST).await? {
        let Some(stored) = store.entry(teller).await? else { continue };
        let is_of_it = |step: &&DeliveryStep| step.planned_at == delivery.planned_at.0 && step.endpoint() == delivery.endpoint;
        attempts.extend(stored.entry.delivery_steps.iter().filter(is_of_it).filter_map(|step| step.attempt.clone()));
    }
    Ok(attempts)
}

/// All that tells something of the message at `about`, or of what tells something of it.
async fn entries(store: &dyn Store, about: Position) -> Result<BTreeMap<Position, Stored>, store::Error> {
    let mut entries = BTreeMap::new();
    let mut to_follow = vec![about];
    while let Some(position) = to_follow.pop() {
        for teller in store.sequel(position, MOST).await? {
            if teller == about || entries.contains_key(&teller) || entries.len() == MOST {
                continue;
            }
            let Some(stored) = store.entry(teller).await? else { continue };
            let is_receipt = stored.entry.message.as_deref().is_some_and(message::is_receipt);
            if is_receipt || stored.entry.deliveries.iter().any(|plan| plan.message == about.0) {
                to_follow.push(teller);
            }
            entries.insert(teller, stored);
        }
    }
    Ok(entries)
}

/// The message that a delivery notification is about in the end, if that is known.
pub(crate) async fn message_of_receipt(store: &dyn Store, receipt: &Stored) -> Result<Option<Stored>, store::Error> {
    let mut about = receipt.entry.about;
    for _ in 0..MOST {
        if about == 0 {
            return Ok(None);
        }
        match store.entry(Position(about)).await? {
            Some(stored) if stored.entry.message.as_deref().is_some_and(message::is_receipt) => about = stored.entry.about,
            found => return Ok(found),
        }
    }
    Ok(None)
}
