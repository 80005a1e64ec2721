use super::*;
use crate::pb::store::{self, DeliveryStep, Endpoint, Entry};
use crate::store::double::Double;
use crate::store::memory::Memory;
use crate::store::{AppendError, Claim, Stage, Staged, Store};
use async_trait::async_trait;
use parking_lot::Mutex;
use std::sync::Arc;

/// Plans so many deliveries; they are open.
async fn plan(store: &dyn Store, count: usize) {
    let delivery = store::Delivery { channel_id: "c".into(), endpoint: Endpoint::Connector.into(), ..store::Delivery::default() };
    let frame = vec![Entry { deliveries: vec![delivery], ..Entry::default() }; count];
    store.append(None, Box::new(|_| Ok(frame))).await.expect("is stored");
}

/// What tells how far the delivery that was planned at a position is.
fn step(planned_at: u64, state: DeliveryState) -> Entry {
    let endpoint = Endpoint::Connector.into();
    let step = DeliveryStep { planned_at, endpoint, state: state.into(), ..DeliveryStep::default() };
    Entry { delivery_steps: vec![step], ..Entry::default() }
}

async fn left(store: &dyn Store, wanted: Wanted) -> usize {
    store.deliveries(DeliveryId::NONE, wanted, usize::MAX).await.expect("can be read").found.len()
}

#[tokio::test]
async fn at_most_a_thousand_are_discarded_at_once_and_that_there_are_more_is_told() {
    let store = Arc::new(Memory::new(1 << 26));
    plan(&*store, AT_ONCE + 1).await;
    let desk = Desk::alone(store.clone());
    for told in [(AT_ONCE, true), (1, false), (0, false)] {
        let discarded = desk.discard_all(&[DiscardableState::Open], &Which::default()).await;
        assert_eq!(discarded.expect("is done"), told);
    }
    assert_eq!(left(&*store, Wanted::Open).await, 0);
}

#[tokio::test]
async fn only_what_is_in_a_state_that_was_said_is_discarded() {
    let store = Arc::new(Memory::new(1 << 20));
    plan(&*store, 2).await;
    store.append(None, Box::new(|_| Ok(vec![step(1, DeliveryState::Failed)]))).await.expect("is stored");
    let desk = Desk::alone(store.clone());
    let counts = async || (left(&*store, Wanted::Open).await, left(&*store, Wanted::Dead).await);
    for (state, (open, dead)) in
        [(DiscardableState::Held, (1, 1)), (DiscardableState::Dead, (1, 0)), (DiscardableState::Open, (0, 0))]
    {
        desk.discard_all(&[state], &Which::default()).await.expect("is done");
        assert_eq!(counts().await, (open, dead), "{state:?}");
    }
}

#[tokio::test]
async fn who_names_no_state_discards_nothing() {
    let store = Arc::new(Memory::new(1 << 20));
    plan(&*store, 1).await;
    let refused = Desk::alone(store.clone()).discard_all(&[], &Which::default()).await.expect_err("nothing is said");
    assert_eq!(refused.to_string(), "states needs at least one of HELD, OPEN, DEAD");
    assert_eq!(left(&*store, Wanted::Open).await, 1);
}

#[tokio::test]
async fn a_dead_letter_whose_message_is_gone_is_not_redriven() {
    let store = Arc::new(Memory::new(1 << 16));
    plan(&*store, 1).await;
    let again = store::Delivery { message: 1, endpoint: Endpoint::Connector.into(), ..store::Delivery::default() };
    let frame = vec![Entry { deliveries: vec![again], ..Entry::default() }, step(2, DeliveryState::Failed)];
    store.append(None, Box::new(|_| Ok(frame))).await.expect("is stored");
    let desk = Desk::alone(store.clone());
    while store.span().oldest <= Position(1) {
        store.append(None, Box::new(|_| Ok(vec![Entry::default()]))).await.expect("is stored");
    }
    let end = store.span().end;
    let id = DeliveryId { planned_at: Position(2), endpoint: Endpoint::Connector };
    let name = crate::store::DeliveryName { log: store.number(), id }.to_string();
    let refused = desk.redrive(&name).await.expect_err("there is no message");
    assert!(matches!(&refused, Error::DeliveryNotFound { id } if *id == name), "{refused}");
    assert_eq!(desk.redrive_all(&Which::default()).await.expect("is done"), (0, false));
    assert_eq!((store.span().end, left(&*store, Wanted::Dead).await), (end, 1));
}

/// A store to which somebody else writes first.
#[derive(Debug)]
struct Shared {
    memory: Memory,
    first: Mutex<Option<Entry>>,
}

#[async_trait]
impl Double for Shared {
    fn memory(&self) -> &Memory {
        &self.memory
    }

    async fn stage(&self, claim: Option<Claim>, stage: Stage<'_>) -> Result<Staged, AppendError> {
        let first = self.first.lock().take();
        if let Some(entry) = first {
            self.memory.append(None, Box::new(|_| Ok(vec![entry]))).await?;
        }
        self.memory.stage(claim, stage).await
    }
}

#[tokio::test]
async fn what_is_settled_or_given_up_meanwhile_is_left_alone() {
    for state in [DeliveryState::Delivered, DeliveryState::Failed] {
        let store = Arc::new(Shared { memory: Memory::new(1 << 20), first: Mutex::new(None) });
        plan(&*store, 2).await;
        *store.first.lock() = Some(step(1, state));
        let discarded = Desk::alone(store.clone()).discard_all(&[DiscardableState::Open], &Which::default()).await;
        assert_eq!(discarded.expect("is done"), (1, false));
        assert_eq!(store.span().end, Position(4), "one step by each");
        assert_eq!(left(&*store, Wanted::Dead).await, usize::from(state == DeliveryState::Failed));
    }
}
