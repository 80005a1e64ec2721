use super::*;
use crate::delivery::attempt::{End, Ended};
use crate::message::is_notification;
use crate::outcomes::Patience;
use crate::pb::store::{self, DeliveryState, Endpoint, Entry};
use crate::pb::{self, DeliveryStatus};
use crate::samples;
use crate::store::double::Double;
use crate::store::memory::Memory;
use crate::store::{AppendError, Claim, Position, Stage, Staged, Stored, message_of};
use crate::violation::Violations;
use crate::webhook;
use async_trait::async_trait;
use serde_json::json;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

/// A dispatcher of what a store plans for channels.
fn dispatcher(store: Arc<dyn Store>, channels: Channels, waiters: Waiters) -> Dispatcher {
    let second = Duration::from_secs(1);
    let client = webhook::Client::new(webhook::Settings {
        timeout: second,
        connect_timeout: second,
        max_response: 1 << 10,
        max_response_head: 8 << 10,
        max_response_headers: 10,
        max_idle_per_host: 0,
        idle_timeout: second,
        max_lookups: 1,
        allow: vec!["127.0.0.0/8".parse().expect("is a network")],
        tls: webhook::Tls::default(),
    });
    let settings = Settings {
        retries: vec![second],
        hold: second,
        parked: 1,
        max_age: second,
        in_flight: 1,
        in_flight_in_all: 1,
        lane_window: 1,
        breaker_failures: 1,
        breaker_pause: second,
        breaker_longest_pause: second,
        gone: 1,
        excerpt: 0,
    };
    let (client, stop) = (client.expect("reads no files"), CancellationToken::new());
    Dispatcher::new(store, channels, client, settings, waiters, samples::LIMITS, stop)
}

/// An entry that plans to deliver a message to the connector of a channel.
fn planned(channel_id: &str) -> Entry {
    let planned = store::Delivery { channel_id: channel_id.into(), endpoint: Endpoint::Connector.into(), ..Default::default() };
    Entry { message: Some(samples::message(json!({})).into()), deliveries: vec![planned], ..Entry::default() }
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_what_somebody_else_has_settled_waits_no_longer() {
    let memory = Arc::new(Memory::new(1 << 20));
    let stored = memory.append(None, Box::new(|_| Ok(vec![planned("c")]))).await.expect("is stored").remove(0);
    let waiters = Waiters::new(1);
    let mut dispatcher = dispatcher(memory, samples::channels(false), waiters.clone());
    dispatcher.follow().await;
    let (attempts, now) = (dispatcher.attempts, Instant::now());
    attempts.lanes().wake(now);
    let start = attempts.next().expect("it is due");
    assert_eq!(start.delivery.id.planned_at, Position(1));
    let ends = async { attempts.ended(Ended { start, end: End::Settled }) };
    let (outcome, ()) = tokio::join!(waiters.outcome(&stored, Patience::asked(Duration::from_secs(30))), ends);
    assert_eq!((outcome, now.elapsed()), (None, Duration::ZERO));
    assert_eq!(attempts.lanes().in_flight(), 0);
}

/// A store that cannot write for a while.
#[derive(Debug)]
struct Stumbling {
    memory: Memory,
    /// Writes that still fail.
    stumbles: AtomicUsize,
}

#[async_trait]
impl Double for Stumbling {
    fn memory(&self) -> &Memory {
        &self.memory
    }

    async fn stage(&self, claim: Option<Claim>, stage: Stage<'_>) -> Result<Staged, AppendError> {
        let stumbles = self.stumbles.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        match stumbles {
            Ok(_) => Err(AppendError::Store(crate::store::Error::Busy)),
            Err(_) => self.memory.stage(claim, stage).await,
        }
    }
}

/// A webhook that takes everything, and counts its calls.
async fn webhook() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let (uri, calls) = (format!("http://{}", listener.local_addr().expect("it is bound")), Arc::new(AtomicUsize::new(0)));
    let counted = calls.clone();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(async move {
                let mut request = [0; 1024];
                let _read = socket.read(&mut request).await;
                let answer = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
                let _written = socket.write_all(answer.as_bytes()).await;
                // The rest of the request, so that the connection is not reset.
                while socket.read(&mut request).await.is_ok_and(|read| read > 0) {}
            });
        }
    });
    (uri, calls)
}

#[tokio::test]
async fn an_outcome_that_cannot_be_stored_at_once_is_stored_later_and_nobody_is_called_again() {
    let (uri, calls) = webhook().await;
    let channels = samples::channels(false);
    let channel = pb::Channel {
        service_identifier: "shop".into(),
        channel_type: "WEB".into(),
        connector: Some(pb::Endpoint { uri, ..pb::Endpoint::default() }),
        ..pb::Channel::default()
    };
    let channel = channels.create(channel, Violations::default()).await.expect("is registered");
    let store = Arc::new(Stumbling { memory: Memory::new(1 << 20), stumbles: AtomicUsize::new(0) });
    let stored = store.append(None, Box::new(|_| Ok(vec![planned(&channel.id)]))).await.expect("is stored").remove(0);
    store.stumbles.store(3, Ordering::Relaxed);
    let waiters = Waiters::new(1);
    let dispatcher = dispatcher(store.clone(), channels, waiters.clone());
    let stop = dispatcher.stop.clone();
    let running = tokio::spawn(dispatcher.run());
    let outcome = waiters.outcome(&stored, Patience::asked(Duration::from_secs(30))).await.expect("it is told");
    assert_eq!(outcome.status, DeliveryStatus::Delivered);
    assert_eq!(store.stumbles.load(Ordering::Relaxed), 0);
    stop.cancel();
    running.await.expect("does not panic");
    assert_eq!(calls.load(Ordering::Relaxed), 1);
    let open = store.deliveries(DeliveryId::NONE, Wanted::Open, 9).await.expect("can be read").found;
    assert!(open.iter().all(|delivery| delivery.id.planned_at != stored.position), "{open:?}");
    let told = store.entry(store.span().end).await.expect("can be read").expect("is there");
    assert_eq!(told.entry.about, stored.position.0);
    assert!(message_of(&told.entry).is_some_and(is_notification), "{told:?}");
}

/// Appends an entry; its position.
async fn append(memory: &Memory, entry: Entry) -> Position {
    memory.append(None, Box::new(|_| Ok(vec![entry]))).await.expect("is stored")[0].position
}

#[tokio::test]
async fn a_census_tells_what_is_open_and_what_is_dead_and_passes_over_what_is_settled() {
    let memory = Arc::new(Memory::new(1 << 20));
    let plan = async || append(&memory, planned("c")).await;
    let step = async |planned_at: Position, state: DeliveryState| {
        let endpoint = Endpoint::Connector.into();
        let step = store::DeliveryStep { planned_at: planned_at.0, endpoint, state: state.into(), ..Default::default() };
        append(&memory, Entry { delivery_steps: vec![step], ..Entry::default() }).await;
    };
    let mut census = dispatcher(memory.clone(), samples::channels(false), Waiters::new(0)).census();
    let mut counted = async || {
        let metrics::Backlog { pending, parked, held, dead, since } = census.count().await.expect("can be read");
        assert_eq!(since.is_some(), pending > 0);
        assert_eq!(held, 0);
        (pending, parked, dead)
    };
    assert_eq!(counted().await, (0, 0, 0));
    let [delivered, parked, dead, first, last] = [plan().await, plan().await, plan().await, plan().await, plan().await];
    step(delivered, DeliveryState::Delivered).await;
    step(parked, DeliveryState::Parked).await;
    step(dead, DeliveryState::Failed).await;
    assert_eq!(counted().await, (2, 1, 1));
    step(first, DeliveryState::Failed).await;
    step(parked, DeliveryState::Delivered).await;
    assert_eq!(counted().await, (1, 0, 2), "what was open may die");
    step(dead, DeliveryState::Discarded).await;
    step(first, DeliveryState::Discarded).await;
    step(last, DeliveryState::Accepted).await;
    assert_eq!(counted().await, (0, 0, 0));
    plan().await;
    assert_eq!(counted().await, (1, 0, 0));
}

/// A store that counts what is written.
#[derive(Debug)]
struct Counting {
    memory: Memory,
    writes: AtomicUsize,
}

#[async_trait]
impl Double for Counting {
    fn memory(&self) -> &Memory {
        &self.memory
    }

    async fn stage(&self, claim: Option<Claim>, stage: Stage<'_>) -> Result<Staged, AppendError> {
        self.writes.fetch_add(1, Ordering::Relaxed);
        self.memory.stage(claim, stage).await
    }
}

/// Those that are open of a store that plans three, with their messages, and what would give them up.
async fn three_to_give_up(waiters: &Waiters) -> (Arc<Counting>, Dispatcher, Vec<(Delivery, Stored)>) {
    let store = Arc::new(Counting { memory: Memory::new(1 << 20), writes: AtomicUsize::new(0) });
    for _ in 0..3 {
        append(&store.memory, planned("c")).await;
    }
    let mut open = Vec::new();
    for delivery in store.deliveries(DeliveryId::NONE, Wanted::Open, 9).await.expect("can be read").found {
        let stored = store.entry(delivery.message).await.expect("can be read").expect("is there");
        open.push((delivery, stored));
    }
    let dispatcher = dispatcher(store.clone(), samples::channels(false), waiters.clone());
    (store, dispatcher, open)
}

/// Writes down that deliveries are given up; how long that takes.
async fn give_up(mut dispatcher: Dispatcher, those: Vec<(Delivery, Stored)>) -> Duration {
    let (recorder, records) = dispatcher.recorder.take().expect("it does not run yet");
    let count = those.len();
    for (delivery, stored) in those {
        dispatcher.attempts.note(Record::given_up(delivery, stored));
    }
    assert_eq!(dispatcher.attempts.unwritten.load(Ordering::Relaxed), count);
    drop(dispatcher.attempts);
    let begun = Instant::now();
    recorder.run(records).await;
    assert_eq!(dispatcher.written.recv().await.map(|written| written.count), Some(count));
    begun.elapsed()
}

#[tokio::test(start_paused = true)]
async fn what_comes_together_is_written_at_once_without_what_somebody_else_has_settled() {
    let (store, dispatcher, open) = three_to_give_up(&Waiters::new(1)).await;
    let (planned_at, endpoint) = (open[0].0.id.planned_at.0, Endpoint::Connector.into());
    let state = DeliveryState::Discarded.into();
    let step = store::DeliveryStep { planned_at, endpoint, state, ..Default::default() };
    let end = append(&store.memory, Entry { delivery_steps: vec![step], ..Entry::default() }).await;
    give_up(dispatcher, open).await;
    assert_eq!(store.writes.load(Ordering::Relaxed), 1);
    assert_eq!(store.span().end.0 - end.0, 2, "two are given up");
    assert!(store.deliveries(DeliveryId::NONE, Wanted::Open, 9).await.expect("can be read").found.is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_is_given_up_twice_is_told_once() {
    let (store, dispatcher, mut open) = three_to_give_up(&Waiters::new(1)).await;
    let end = store.span().end;
    open.push(open[0].clone());
    give_up(dispatcher, open).await;
    assert_eq!((store.writes.load(Ordering::Relaxed), store.span().end.0 - end.0), (1, 3));
}

#[tokio::test(start_paused = true)]
async fn what_is_given_up_is_not_taken_up_again_before_that_is_written_down() {
    let (_store, mut dispatcher, open) = three_to_give_up(&Waiters::new(1)).await;
    dispatcher.given_up.extend(open.iter().map(|(delivery, _)| delivery.id));
    dispatcher.follow().await;
    dispatcher.attempts.lanes().wake(Instant::now());
    assert_eq!(dispatcher.attempts.next(), None);
}

#[tokio::test(start_paused = true)]
async fn what_somebody_waits_for_does_not_wait_for_more() {
    let waiters = Waiters::new(1);
    let (_store, dispatcher, mut open) = three_to_give_up(&waiters).await;
    let stored = open[1].1.clone();
    let (outcome, took) =
        tokio::join!(waiters.outcome(&stored, Patience::asked(Duration::from_secs(1))), give_up(dispatcher, open.split_off(1)));
    assert_eq!((outcome.expect("it is told").status, took), (DeliveryStatus::Failed, Duration::ZERO));

    let (_store, dispatcher, open) = three_to_give_up(&waiters).await;
    assert!(give_up(dispatcher, open).await > Duration::ZERO, "nobody waits");
}
