//! The desk: shows deliveries that are not settled, and takes decisions about them.

mod bulk;

pub use bulk::{AT_ONCE, Which};

use super::lanes::is_held;
use crate::error::Error;
use crate::pb::store::{self, Attempt, DeliveryState, Entry};
use crate::store::{
    AppendError, Deliveries, Delivery, DeliveryId, DeliveryName, Facts, Frame, Progress, Store, Stored, Wanted, message_of,
};
use crate::timeline::attempts;
use crate::violation::Violations;
use std::slice;
use std::sync::Arc;
use tokio::sync::mpsc;

/// A delivery and the entry that has its message; none if the log has let go of it.
#[derive(Debug, Clone)]
pub struct Shown {
    /// Its id, as its receiver sees it.
    pub name: DeliveryName,
    /// The delivery.
    pub delivery: Delivery,
    /// The entry with its message.
    pub message: Option<Stored>,
    /// True if it is not attempted before what is held is released.
    pub held: bool,
}

impl Shown {
    /// The id of the message; empty if the log has let go of it.
    pub fn message_id(&self) -> &str {
        let message = self.message.as_ref().and_then(|stored| message_of(&stored.entry));
        message.and_then(|message| message.id.as_deref()).unwrap_or_default()
    }
}

/// A page of deliveries.
#[derive(Debug, Clone)]
pub struct DeliveryPage {
    /// The deliveries.
    pub deliveries: Vec<Shown>,
    /// Token of the next page; none on the last.
    pub next: Option<String>,
}

/// See the module. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Desk {
    store: Arc<dyn Store>,
    rulings: mpsc::UnboundedSender<Ruling>,
}

/// What somebody has decided at the desk.
#[derive(Debug)]
pub(super) enum Ruling {
    /// These deliveries are discarded.
    Discarded(Vec<Delivery>),
    /// Nothing is held any more.
    Released,
}

impl Desk {
    /// A desk before `store`. What is decided is written there, and then told by `rulings`.
    pub(super) const fn new(store: Arc<dyn Store>, rulings: mpsc::UnboundedSender<Ruling>) -> Self {
        Self { store, rulings }
    }

    /// A desk at which nobody listens.
    #[cfg(test)]
    pub(crate) fn alone(store: Arc<dyn Store>) -> Self {
        Self::new(store, mpsc::unbounded_channel().0)
    }

    /// The delivery that an id names.
    fn id(&self, text: &str) -> Result<DeliveryId, Error> {
        let name = text.parse::<DeliveryName>().ok().filter(|name| name.log == self.store.number());
        name.map(|name| name.id).ok_or_else(|| Error::DeliveryNotFound { id: text.to_owned() })
    }

    async fn shown(&self, delivery: Delivery) -> Result<Shown, Error> {
        let message = self.store.entry(delivery.message).await?;
        let held = is_held(self.store.held_before(), delivery.id) && delivery.progress.is_open();
        Ok(Shown { name: DeliveryName { log: self.store.number(), id: delivery.id }, delivery, message, held })
    }

    /// An open delivery or a dead letter, by its id, and the attempts that were made.
    pub async fn get(&self, id: &str) -> Result<(Shown, Vec<Attempt>), Error> {
        let delivery = self.find(id).await?;
        let attempts = attempts(&*self.store, delivery.id).await?;
        Ok((self.shown(delivery).await?, attempts))
    }

    async fn find(&self, text: &str) -> Result<Delivery, Error> {
        let id = self.id(text)?;
        for wanted in [Wanted::Open, Wanted::Dead] {
            let found = self.store.deliveries(id.before(), wanted, 1).await?.found.pop();
            if let Some(delivery) = found.filter(|delivery| delivery.id == id) {
                return Ok(delivery);
            }
        }
        Err(Error::DeliveryNotFound { id: text.to_owned() })
    }

    /// A page of at most `size` deliveries in this state, or of all that are open, after the page before; of one channel only, if one
    /// is given. It may have fewer, and not be the last.
    pub async fn list(
        &self,
        state: Option<DeliveryState>,
        channel_id: Option<&str>,
        token: Option<&str>,
        size: usize,
    ) -> Result<DeliveryPage, Error> {
        let after = token.map_or(Ok(DeliveryId::NONE), page_end)?;
        let wanted = if state == Some(DeliveryState::Failed) { Wanted::Dead } else { Wanted::Open };
        let Deliveries { found, reached } = self.store.deliveries(after, wanted, size).await?;
        let mut deliveries = Vec::with_capacity(found.len());
        for delivery in found {
            let wanted = state.is_none_or(|state| state == delivery.progress.state);
            if wanted && channel_id.is_none_or(|id| id == delivery.channel_id) {
                deliveries.push(self.shown(delivery).await?);
            }
        }
        let more = reached < DeliveryId::last_of(self.store.span().end);
        Ok(DeliveryPage { deliveries, next: more.then(|| page_token(reached)) })
    }

    /// Delivers the message of a dead letter once more, as a new delivery at the end of its lane.
    pub async fn redrive(&self, id: &str) -> Result<Shown, Error> {
        let dead = self.find(id).await?;
        match self.redrive_one(dead).await? {
            Some(delivery) => self.shown(delivery).await,
            None => Err(Error::DeliveryNotDead { id: id.to_owned() }),
        }
    }

    /// None if it is no dead letter any more. One whose message has gone, or is about to, is not found: there is nothing to deliver.
    async fn redrive_one(&self, dead: Delivery) -> Result<Option<Delivery>, Error> {
        let planned = Delivery { progress: Progress::PLANNED, ..dead.clone() };
        let entry = Entry {
            deliveries: vec![store::Delivery { message: dead.message.0, ..planned.to_pb() }],
            delivery_steps: vec![discarded(&dead)],
            ..Entry::default()
        };
        let is_dead = |facts: &dyn Facts| {
            let now = facts.delivery(dead.id);
            now.is_some_and(|delivery| delivery.progress.state == DeliveryState::Failed)
        };
        let appended = self.append(|facts| if is_dead(facts) { vec![entry] } else { Vec::new() }).await;
        let stored = appended.map_err(|error| match error {
            Error::Store(crate::store::Error::Expired { .. }) => {
                Error::DeliveryNotFound { id: DeliveryName { log: self.store.number(), id: dead.id }.to_string() }
            }
            other => other,
        })?;
        let redriven = stored.first().map(|stored| DeliveryId { planned_at: stored.position, ..dead.id });
        Ok(redriven.map(|id| Delivery { id, ..planned }))
    }

    /// Settles a delivery: it is not delivered any more.
    pub async fn discard(&self, id: &str) -> Result<(), Error> {
        let delivery = self.find(id).await?;
        match self.discard_those(slice::from_ref(&delivery), |_| true).await? {
            // Whoever was faster has settled it.
            0 => Err(Error::DeliveryNotFound { id: id.to_owned() }),
            _ => Ok(()),
        }
    }

    /// Settles deliveries with one write, as far as they are open or dead letters still, and `meant`; how many.
    async fn discard_those(
        &self,
        deliveries: &[Delivery],
        meant: impl Fn(&Delivery) -> bool + Send + Sync,
    ) -> Result<usize, Error> {
        let mut settled = Vec::new();
        let make = |facts: &dyn Facts| -> Frame {
            settled.extend(deliveries.iter().filter_map(|delivery| facts.delivery(delivery.id)).filter(&meant));
            settled.iter().map(|now| Entry { delivery_steps: vec![discarded(now)], ..Entry::default() }).collect()
        };
        self.append(make).await?;
        let count = settled.len();
        // All at once: one that is next in its lane would go out before it is heard that it is discarded, too.
        let _stopped = self.rulings.send(Ruling::Discarded(settled));
        Ok(count)
    }

    /// Lets everything that is held go on, durably. A repeat does nothing.
    pub async fn release(&self) -> Result<(), Error> {
        self.store.release().await?;
        let _stopped = self.rulings.send(Ruling::Released);
        Ok(())
    }

    /// Appends the frame that `make` makes, unless it is empty.
    async fn append(&self, make: impl FnOnce(&dyn Facts) -> Frame + Send) -> Result<Vec<Stored>, Error> {
        let stage =
            Box::new(|facts: &dyn Facts| Some(make(facts)).filter(|frame| !frame.is_empty()).ok_or_else(Violations::default));
        match self.store.append(None, stage).await {
            Ok(frame) => Ok(frame),
            Err(AppendError::Refused(_)) => Ok(Vec::new()),
            Err(AppendError::Store(error)) => Err(error.into()),
        }
    }
}

/// The token of the page after the one that ends with a delivery.
fn page_token(last: DeliveryId) -> String {
    // Whose log it is does not matter here.
    DeliveryName { log: 0, id: last }.to_string()
}

fn page_end(token: &str) -> Result<DeliveryId, Error> {
    let name: Result<DeliveryName, _> = token.parse();
    name.map(|name| name.id).map_err(|error| Error::InvalidRequest { field: "page_token", problem: error.to_string() })
}

/// The step that discards a delivery.
fn discarded(delivery: &Delivery) -> store::DeliveryStep {
    Progress { state: DeliveryState::Discarded, due: 0, ..delivery.progress }.to_pb(delivery.id)
}
