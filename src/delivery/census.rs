//! The census: counts now and then what is not settled. The log tells that exactly, and nothing else does: what is in memory is a part
//! of it.
//!
//! It costs the store a look at every open delivery and at every dead letter. So it rests, the longer the more there are.

use super::attempt::Sender;
use super::lanes::is_held;
use crate::metrics::{self, Backlog};
use crate::pb::store::DeliveryState;
use crate::store::{self, Deliveries, Delivery, DeliveryId, Wanted};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

/// Deliveries that are looked at at once.
const PAGE: usize = 512;

/// Least rest between two counts.
const REST: Duration = Duration::from_secs(5);

/// It rests at least so many times as long as the count took.
const RESTS: u32 = 100;

/// See the module.
#[derive(Debug)]
pub struct Census {
    sender: Arc<Sender>,
    metrics: Arc<metrics::Delivery>,
    /// Nothing up to here is open, or ever will be again.
    open_after: DeliveryId,
    /// Nothing up to here is a dead letter, or ever will be.
    dead_after: DeliveryId,
    stop: CancellationToken,
}

impl Census {
    pub(super) fn new(sender: Arc<Sender>, metrics: Arc<metrics::Delivery>, stop: CancellationToken) -> Self {
        Self { sender, metrics, open_after: DeliveryId::NONE, dead_after: DeliveryId::NONE, stop }
    }

    /// Counts until told to stop.
    pub async fn run(mut self) {
        let stop = self.stop.clone();
        let counting = async {
            loop {
                let begun = Instant::now();
                match self.count().await {
                    Ok(backlog) => self.metrics.found(backlog),
                    // The last count stays; others tell that the store cannot be read.
                    Err(error) => tracing::debug!(error = &error as &dyn std::error::Error, "deliveries cannot be counted"),
                }
                sleep(REST.max(begun.elapsed() * RESTS)).await;
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = counting => {}
        }
    }

    pub(super) async fn count(&mut self) -> Result<Backlog, store::Error> {
        let held_before = self.sender.store.held_before();
        let (mut backlog, mut oldest) = (Backlog::default(), None);
        let open_after = self.visit(Wanted::Open, self.open_after, |delivery| {
            if is_held(held_before, delivery.id) {
                backlog.held += 1;
            } else if delivery.progress.state == DeliveryState::Parked {
                backlog.parked += 1;
            } else {
                backlog.pending += 1;
                oldest.get_or_insert(delivery);
            }
        });
        self.open_after = open_after.await?;
        let dead_after = self.visit(Wanted::Dead, self.dead_after, |_| backlog.dead += 1).await?;
        // What was open above may have died since.
        self.dead_after = dead_after.min(self.open_after);
        if let Some(oldest) = oldest {
            backlog.since = self.planned_at(&oldest).await?;
        }
        Ok(backlog)
    }

    /// Visits every delivery after `after` that is wanted now. Returns up to where there is none.
    async fn visit(
        &self,
        wanted: Wanted,
        mut after: DeliveryId,
        mut visit: impl FnMut(Delivery) + Send,
    ) -> Result<DeliveryId, store::Error> {
        let store = &self.sender.store;
        let end = DeliveryId::last_of(store.span().end);
        let mut none_up_to = None;
        loop {
            let Deliveries { found, reached } = store.deliveries(after, wanted, PAGE).await?;
            if let Some(first) = found.first() {
                none_up_to.get_or_insert(first.id.before());
            }
            found.into_iter().for_each(&mut visit);
            if reached >= end || reached <= after {
                return Ok(none_up_to.unwrap_or(reached));
            }
            after = reached;
        }
    }

    /// When a delivery was planned; none if the log has let go of its message.
    async fn planned_at(&self, delivery: &Delivery) -> Result<Option<SystemTime>, store::Error> {
        let Some(stored) = self.sender.store.entry(delivery.message).await? else { return Ok(None) };
        let planned_at = self.sender.planned_at(delivery, &stored).await?;
        Ok(planned_at.and_then(|time| SystemTime::try_from(time).ok()))
    }
}
