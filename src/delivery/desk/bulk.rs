//! Decisions about many deliveries at once.

#[cfg(test)]
mod tests;

use super::Desk;
use crate::delivery::lanes::{held_end, is_held};
use crate::error::Error;
use crate::pb::DiscardableState;
use crate::pb::store::DeliveryState;
use crate::store::{Deliveries, Delivery, DeliveryId, Position, Wanted, accepted_at};
use prost_types::Timestamp;

/// Most deliveries that are decided about at once.
pub const AT_ONCE: usize = 1000;

/// Deliveries that are read from the store at once.
const PAGE: usize = 500;

/// Which deliveries are meant.
#[derive(Debug, Clone, Default)]
pub struct Which {
    /// Those of this channel.
    pub channel_id: Option<String>,
    /// Those whose message was accepted then or later.
    pub since: Option<Timestamp>,
    /// Those whose message was accepted before.
    pub before: Option<Timestamp>,
}

impl Desk {
    /// Redrives dead letters, oldest first, at most [`AT_ONCE`]; how many, and whether there may be more.
    pub async fn redrive_all(&self, which: &Which) -> Result<(usize, bool), Error> {
        let (mut search, mut redriven) = (self.search(Wanted::Dead, self.end(), which), 0);
        while let Some(page) = search.next().await? {
            for dead in page {
                if redriven == AT_ONCE {
                    return Ok((redriven, true));
                }
                let again = match self.redrive_one(dead).await {
                    // Its message has just gone, and it with it.
                    Err(Error::DeliveryNotFound { .. }) => None,
                    again => again?,
                };
                redriven += usize::from(again.is_some());
            }
        }
        Ok((redriven, false))
    }

    /// Discards deliveries in these states: what is open first, then dead letters, the oldest of each first, at most [`AT_ONCE`]. How
    /// many, and whether there may be more.
    pub async fn discard_all(&self, states: &[DiscardableState], which: &Which) -> Result<(usize, bool), Error> {
        if states.is_empty() {
            return Err(Error::InvalidRequest { field: "states", problem: "needs at least one of HELD, OPEN, DEAD".into() });
        }
        let end = |state| if states.contains(&state) { self.end() } else { DeliveryId::NONE };
        let open = end(DiscardableState::Open).max(end(DiscardableState::Held).min(held_end(self.store.held_before())));
        let mut meant = Vec::new();
        for (wanted, end) in [(Wanted::Open, open), (Wanted::Dead, end(DiscardableState::Dead))] {
            let mut search = self.search(wanted, end, which);
            while meant.len() <= AT_ONCE
                && let Some(page) = search.next().await?
            {
                meant.extend(page);
            }
        }
        let more = meant.len() > AT_ONCE;
        meant.truncate(AT_ONCE);
        let is_meant = |now: &Delivery| is_in(states, now, self.store.held_before());
        Ok((self.discard_those(&meant, is_meant).await?, more))
    }

    /// The last delivery that may be there now.
    fn end(&self) -> DeliveryId {
        DeliveryId::last_of(self.store.span().end)
    }

    /// Looks for deliveries up to `end`: what comes meanwhile is not meant.
    const fn search<'s>(&'s self, wanted: Wanted, end: DeliveryId, which: &'s Which) -> Search<'s> {
        Search { desk: self, wanted, which, after: DeliveryId::NONE, end }
    }
}

/// True if a delivery is in one of these states.
fn is_in(states: &[DiscardableState], delivery: &Delivery, held_before: Option<Position>) -> bool {
    states.iter().any(|state| match state {
        DiscardableState::Held => delivery.progress.is_open() && is_held(held_before, delivery.id),
        DiscardableState::Open => delivery.progress.is_open(),
        DiscardableState::Dead => delivery.progress.state == DeliveryState::Failed,
        DiscardableState::Unspecified => false,
    })
}

/// A look through deliveries, page by page, in the order in which they were planned.
#[derive(Debug)]
struct Search<'s> {
    desk: &'s Desk,
    wanted: Wanted,
    which: &'s Which,
    after: DeliveryId,
    end: DeliveryId,
}

impl Search<'_> {
    /// Those that are meant of the next page; none when all were looked at.
    async fn next(&mut self) -> Result<Option<Vec<Delivery>>, Error> {
        if self.after >= self.end {
            return Ok(None);
        }
        let Deliveries { found, reached } = self.desk.store.deliveries(self.after, self.wanted, PAGE).await?;
        let mut meant = Vec::new();
        for delivery in found {
            if delivery.id <= self.end && self.is_meant(&delivery).await? {
                meant.push(delivery);
            }
        }
        self.after = if reached > self.after { reached } else { self.end };
        Ok(Some(meant))
    }

    async fn is_meant(&self, delivery: &Delivery) -> Result<bool, Error> {
        let Which { channel_id, since, before } = self.which;
        if channel_id.as_ref().is_some_and(|id| *id != delivery.channel_id) {
            return Ok(false);
        }
        if since.is_none() && before.is_none() {
            return Ok(true);
        }
        let Some(stored) = self.desk.store.entry(delivery.message).await? else { return Ok(false) };
        let key = |time: &Timestamp| (time.seconds, time.nanos);
        let at = accepted_at(&stored.entry).as_ref().map(key);
        let late_enough = since.as_ref().is_none_or(|since| at >= Some(key(since)));
        Ok(late_enough && before.as_ref().is_none_or(|before| at < Some(key(before))))
    }
}
