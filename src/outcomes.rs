//! Outcomes of messages, and the senders that wait for them.

use crate::message;
use crate::pb::body::Kind;
use crate::pb::{self, DeliveryStatus};
use crate::store::{Position, Stored};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

/// The outcome of a message, as its senders are told.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// What became of it.
    pub status: DeliveryStatus,
    /// Why, as `reasonCode` has it.
    pub reason_code: String,
    /// More about it, for people to read.
    pub text: Option<String>,
}

impl Outcome {
    /// What a delivery notification says; none of any other message.
    pub fn of(message: &pb::CimMessage) -> Option<Self> {
        let Some(Kind::DeliveryNotification(notification)) = message::kind(message) else { return None };
        let text = message.body.as_ref().and_then(|body| body.markdown_text.clone()).filter(|text| !text.is_empty());
        let reason_code = notification.reason_code.clone().unwrap_or_default();
        Some(Self { status: notification.status(), reason_code, text })
    }
}

/// How long a sender waits for an outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// The time.
    pub time: Duration,
    /// True if the sender asked to wait: then it is worth waiting for what the receiver tells later, by a delivery notification.
    pub asked: bool,
}

impl Patience {
    /// Of a sender that asked to wait so long.
    pub const fn asked(time: Duration) -> Self {
        Self { time, asked: true }
    }

    /// Of a sender that did not say.
    pub const fn usual(time: Duration) -> Self {
        Self { time, asked: false }
    }
}

/// Longest that a sender may wait for an outcome.
pub const LONGEST_DELIVERY_WAIT: Duration = Duration::from_secs(30);

/// How long news of a message are kept for whoever has just begun to wait for them: the answer to a sender and the attempt begin at
/// the same instant.
const KEPT: Duration = Duration::from_secs(10);

/// Most news that are kept.
const KEPT_AT_MOST: usize = 10_000;

/// What is told to who waits.
#[derive(Debug, Clone, PartialEq)]
enum News {
    /// What became of the message.
    Known(Outcome),
    /// The receiver has it, and will tell itself what becomes of it.
    Accepted,
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
    /// By the message, and a number: who repeats a message waits beside who sent it.
    waiting: BTreeMap<(Position, u64), Waiting>,
    /// The number of who comes next.
    next: u64,
    recent: HashMap<Position, News>,
    /// The recent ones, oldest first.
    order: VecDeque<(Instant, Position)>,
}

/// The places of all who wait for the outcome of a message.
const fn everybody(message: Position) -> RangeInclusive<(Position, u64)> {
    (message, 0)..=(message, u64::MAX)
}

#[derive(Debug)]
struct Waiting {
    told: oneshot::Sender<News>,
    /// See [`Patience::asked`].
    asked: bool,
    /// True once the outcome is on its way, so that it is worth waiting for whatever it takes.
    promised: bool,
}

impl Waiters {
    /// Nobody waits; at most `most` may.
    pub fn new(most: usize) -> Self {
        Self { shared: Arc::default(), most }
    }

    /// The outcome of a message, if it comes in time; none if it does not, or if none can come.
    pub async fn outcome(&self, stored: &Stored, patience: Patience) -> Option<Outcome> {
        let Patience { time, asked } = patience;
        let is_notification = stored.entry.message.as_deref().is_none_or(message::is_notification);
        // Of what goes to no webhook only a reader of the stream can tell anything.
        let can_come = !stored.entry.deliveries.is_empty() || (asked && !is_notification);
        // Nobody is told what becomes of typing.
        if time.is_zero() || !can_come || stored.entry.ephemeral {
            return None;
        }
        let message = stored.position;
        let deadline = Instant::now() + time;
        let (place, mut told) = {
            let mut shared = self.shared.lock();
            match shared.recent.get(&message) {
                Some(News::Known(outcome)) => return Some(outcome.clone()),
                Some(News::Accepted) if asked => {}
                Some(News::Accepted | News::NotSoon) => return None,
                None => {}
            }
            if shared.waiting.len() >= self.most {
                return None;
            }
            let (told, receiver) = oneshot::channel();
            let key = (message, shared.next);
            shared.next += 1;
            shared.waiting.insert(key, Waiting { told, asked, promised: false });
            (Place { waiters: self, key }, receiver)
        };
        let news = match timeout_at(deadline, &mut told).await {
            Ok(news) => news.ok(),
            Err(_) if self.is_promised(place.key) => told.await.ok(),
            Err(_) => None,
        };
        drop(place);
        match news {
            Some(News::Known(outcome)) => Some(outcome),
            Some(News::Accepted | News::NotSoon) | None => None,
        }
    }

    fn is_promised(&self, key: (Position, u64)) -> bool {
        let mut shared = self.shared.lock();
        match shared.waiting.get(&key) {
            Some(waiting) if waiting.promised => true,
            Some(_) => {
                shared.waiting.remove(&key);
                false
            }
            // It was told in this instant.
            None => true,
        }
    }

    /// True if somebody waits for the outcome, who will certainly be told it.
    pub(crate) fn promise(&self, message: Position) -> bool {
        let mut shared = self.shared.lock();
        let mut somebody = false;
        for (_, waiting) in shared.waiting.range_mut(everybody(message)).filter(|(_, waiting)| !waiting.told.is_closed()) {
            waiting.promised = true;
            somebody = true;
        }
        somebody
    }

    /// True if anybody waits at all.
    pub(crate) fn are_there(&self) -> bool {
        !self.shared.lock().waiting.is_empty()
    }

    /// What became of the message is known.
    pub(crate) fn known(&self, message: Position, outcome: Outcome) {
        self.tell(message, News::Known(outcome));
    }

    /// The receiver of the message will tell itself what becomes of it.
    pub(crate) fn accepted(&self, message: Position) {
        self.tell(message, News::Accepted);
    }

    /// No outcome of the message can come soon.
    pub(crate) fn not_soon(&self, message: Position) {
        self.tell(message, News::NotSoon);
    }

    /// What was known of the message counts no more: it is delivered once more.
    pub(crate) fn forget(&self, message: Position) {
        self.shared.lock().recent.remove(&message);
    }

    fn tell(&self, message: Position, news: News) {
        let now = Instant::now();
        let mut shared = self.shared.lock();
        while let Some((_, old)) = shared.order.front().filter(|(at, _)| *at + KEPT < now).copied() {
            shared.order.pop_front();
            shared.recent.remove(&old);
        }
        let told = shared.waiting.extract_if(everybody(message), |_, waiting| {
            let waits_on = waiting.asked && news == News::Accepted;
            waiting.promised &= !waits_on;
            !waits_on
        });
        for (_, waiting) in told {
            let _gone = waiting.told.send(news.clone());
        }
        if shared.recent.insert(message, news).is_none() {
            shared.order.push_back((now, message));
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
    key: (Position, u64),
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.waiters.shared.lock().waiting.remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;
    use futures::future::join;
    use futures::poll;
    use serde_json::json;
    use std::pin::pin;

    fn stored() -> Stored {
        let entry = pb::store::Entry { message: Some(samples::message(json!({})).into()), ..pb::store::Entry::default() };
        Stored { position: Position(1), entry: Arc::new(entry) }
    }

    fn delivered() -> Outcome {
        Outcome { status: DeliveryStatus::Delivered, reason_code: "200".into(), text: None }
    }

    const A_WHILE: Patience = Patience::asked(Duration::from_secs(1));

    #[tokio::test(start_paused = true)]
    async fn who_repeats_a_message_waits_beside_who_sent_it_and_both_are_told() {
        let (waiters, stored) = (Waiters::new(10), stored());
        let mut both = pin!(join(waiters.outcome(&stored, A_WHILE), waiters.outcome(&stored, A_WHILE)));
        assert!(poll!(&mut both).is_pending());
        waiters.known(stored.position, delivered());
        assert_eq!(both.await, (Some(delivered()), Some(delivered())));
        assert!(!waiters.are_there());
    }

    #[tokio::test(start_paused = true)]
    async fn who_gives_up_takes_nobody_else_along() {
        let (waiters, stored) = (Waiters::new(10), stored());
        let mut second = pin!(waiters.outcome(&stored, A_WHILE));
        {
            let mut first = pin!(waiters.outcome(&stored, A_WHILE));
            assert!(poll!(&mut first).is_pending() && poll!(&mut second).is_pending());
        }
        assert!(waiters.promise(stored.position), "one is left");
        waiters.known(stored.position, delivered());
        assert_eq!(second.await, Some(delivered()));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_the_outcome_of_typing() {
        let Stored { position, entry } = stored();
        let typing = Stored { position, entry: Arc::new(pb::store::Entry { ephemeral: true, ..Arc::unwrap_or_clone(entry) }) };
        let begun = Instant::now();
        assert_eq!(Waiters::new(10).outcome(&typing, A_WHILE).await, None);
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_wait_than_may() {
        let (waiters, stored) = (Waiters::new(1), stored());
        let mut first = pin!(waiters.outcome(&stored, A_WHILE));
        assert!(poll!(&mut first).is_pending());
        assert_eq!(waiters.outcome(&stored, A_WHILE).await, None);
        assert_eq!(first.await, None);
        assert!(!waiters.are_there());
    }
}
