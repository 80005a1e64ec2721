//! Outcomes of messages, and the senders that wait for them.

use crate::pb::DeliveryStatus;
use crate::store::{DeliveryId, Position, Stored};
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

/// The outcome of a message, as its senders are told.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// What became of it; none if the receiver has it and will tell itself.
    pub status: Option<DeliveryStatus>,
    /// Why, as `reasonCode` has it.
    pub reason_code: String,
    /// More about it, for people to read.
    pub text: Option<String>,
}

/// Longest that a sender may wait for an outcome.
pub const LONGEST_DELIVERY_WAIT: Duration = Duration::from_secs(30);

/// How long news of a delivery are kept for whoever has just begun to wait for them: the answer to a sender and the attempt begin at
/// the same instant.
const KEPT: Duration = Duration::from_secs(10);

/// Most news that are kept.
const KEPT_AT_MOST: usize = 10_000;

/// What is told to who waits.
#[derive(Debug, Clone, PartialEq)]
enum News {
    /// The delivery is settled.
    Settled(Outcome),
    /// No outcome can come soon.
    NotSoon,
}

/// Senders that wait. Cheap to clone; every clone has the same.
#[derive(Debug, Clone)]
pub struct Waiters {
    shared: Arc<Mutex<Shared>>,
    most: usize,
}

#[derive(Debug, Default)]
struct Shared {
    waiting: HashMap<DeliveryId, Waiting>,
    recent: HashMap<DeliveryId, News>,
    /// The recent ones, oldest first.
    order: VecDeque<(Instant, DeliveryId)>,
}

#[derive(Debug)]
struct Waiting {
    told: oneshot::Sender<News>,
    /// True once the outcome is on its way, so that it is worth waiting for whatever it takes.
    promised: bool,
}

impl Waiters {
    /// Nobody waits; at most `most` may.
    pub fn new(most: usize) -> Self {
        Self { shared: Arc::default(), most }
    }

    /// The outcome of a message's delivery, if it comes within `patience`; none if it does not, or if nothing of the message is
    /// delivered.
    pub async fn outcome(&self, stored: &Stored, patience: Duration) -> Option<Outcome> {
        let id = delivery_of(stored)?;
        if patience.is_zero() {
            return None;
        }
        let deadline = Instant::now() + patience;
        let mut told = {
            let mut shared = self.shared.lock();
            match shared.recent.get(&id) {
                Some(News::Settled(outcome)) => return Some(outcome.clone()),
                Some(News::NotSoon) => return None,
                None => {}
            }
            if shared.waiting.len() >= self.most || shared.waiting.contains_key(&id) {
                return None;
            }
            let (told, receiver) = oneshot::channel();
            shared.waiting.insert(id, Waiting { told, promised: false });
            receiver
        };
        let place = Place { waiters: self, id };
        let news = match timeout_at(deadline, &mut told).await {
            Ok(news) => news.ok(),
            Err(_) if self.is_promised(id) => told.await.ok(),
            Err(_) => None,
        };
        drop(place);
        match news {
            Some(News::Settled(outcome)) => Some(outcome),
            Some(News::NotSoon) | None => None,
        }
    }

    fn is_promised(&self, id: DeliveryId) -> bool {
        let mut shared = self.shared.lock();
        match shared.waiting.get(&id) {
            Some(waiting) if waiting.promised => true,
            Some(_) => {
                shared.waiting.remove(&id);
                false
            }
            // It was told in this instant.
            None => true,
        }
    }

    /// True if somebody waits for the outcome, who will certainly be told it.
    pub(crate) fn promise(&self, id: DeliveryId) -> bool {
        let mut shared = self.shared.lock();
        let Some(waiting) = shared.waiting.get_mut(&id).filter(|waiting| !waiting.told.is_closed()) else { return false };
        waiting.promised = true;
        true
    }

    /// The delivery is settled.
    pub(crate) fn settled(&self, id: DeliveryId, outcome: Outcome) {
        self.tell(id, News::Settled(outcome));
    }

    /// No outcome of the delivery can come soon.
    pub(crate) fn not_soon(&self, id: DeliveryId) {
        self.tell(id, News::NotSoon);
    }

    fn tell(&self, id: DeliveryId, news: News) {
        let now = Instant::now();
        let mut shared = self.shared.lock();
        while let Some((_, old)) = shared.order.front().filter(|(at, _)| *at + KEPT < now).copied() {
            shared.order.pop_front();
            shared.recent.remove(&old);
        }
        if let Some(waiting) = shared.waiting.remove(&id) {
            let _gone = waiting.told.send(news.clone());
        }
        if shared.recent.insert(id, news).is_none() {
            shared.order.push_back((now, id));
        }
        if shared.order.len() > KEPT_AT_MOST
            && let Some((_, old)) = shared.order.pop_front()
        {
            shared.recent.remove(&old);
        }
    }
}

/// Who waits gives its place up when it stops.
struct Place<'w> {
    waiters: &'w Waiters,
    id: DeliveryId,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.waiters.shared.lock().waiting.remove(&self.id);
    }
}

/// The delivery that answers for a message: a message is for one side.
fn delivery_of(stored: &Stored) -> Option<DeliveryId> {
    let delivery = stored.entry.deliveries.first()?;
    Some(DeliveryId { planned_at: Position(stored.position.0), endpoint: delivery.endpoint() })
}
