//! What is too old although nothing attempts it: its webhook fails or is disabled, or its next attempt is far off.

use super::attempt::{Kept, Sender, age_at};
use super::lanes::held_end;
use crate::store::{self, Deliveries, Delivery, DeliveryId, Stored, Wanted};
use crate::wire;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Deliveries that are looked at at once.
const PAGE: usize = 256;

/// Wait before the next ones are looked at, if all of these were too old.
const PAUSE: Duration = Duration::from_secs(1);

/// Longest wait before the oldest is looked at again.
const LONGEST_WAIT: Duration = Duration::from_mins(1);

/// Looks for what is too old. Deliveries are looked at in the order in which they were planned: what follows one that is not too old is
/// not, either.
#[derive(Debug)]
pub(super) struct Overdue {
    sender: Arc<Sender>,
    next: Instant,
    after: DeliveryId,
}

impl Overdue {
    pub(super) fn new(sender: Arc<Sender>) -> Self {
        Self { sender, next: Instant::now(), after: DeliveryId::NONE }
    }

    /// When to look again.
    pub(super) const fn next(&self) -> Instant {
        self.next
    }

    /// Open deliveries that are too old, with their messages: all of them, or the next few. Those are too old, too, whose messages the
    /// log has let go of.
    pub(super) async fn look(&mut self) -> Vec<(Delivery, Option<Stored>)> {
        let found = self.page().await.unwrap_or_else(|error| {
            tracing::warn!(error = &error as &dyn std::error::Error, "what is too old to be delivered cannot be read");
            (Vec::new(), None)
        });
        let (overdue, more) = found;
        let max_age = self.sender.settings.max_age;
        // In time for those who set so short an age, too.
        let wait = if more.is_some() { PAUSE.min(max_age / 4) } else { LONGEST_WAIT.min(max_age / 4) };
        self.next = Instant::now() + wait;
        self.after = more.unwrap_or(DeliveryId::NONE);
        overdue
    }

    /// A page of those, and where the next one begins if there may be more.
    async fn page(&self) -> Result<(Vec<(Delivery, Option<Stored>)>, Option<DeliveryId>), store::Error> {
        let store = &self.sender.store;
        // What is held is somebody's to decide.
        let after = self.after.max(held_end(store.held_before()));
        let Deliveries { found, reached } = store.deliveries(after, Wanted::Open, PAGE).await?;
        let now = wire::now();
        let mut overdue = Vec::new();
        for delivery in found {
            let stored = match self.sender.message(&delivery).await? {
                Kept::Here(stored) => stored,
                Kept::Gone => {
                    overdue.push((delivery, None));
                    continue;
                }
                Kept::Settled => continue,
            };
            let planned_at = self.sender.planned_at(&delivery, &stored).await?;
            if age_at(planned_at, &now) < self.sender.settings.max_age {
                return Ok((overdue, None));
            }
            overdue.push((delivery, Some(stored)));
        }
        let more = reached > after && reached < DeliveryId::last_of(store.span().end);
        Ok((overdue, more.then_some(reached)))
    }
}
