use super::*;
use crate::delivery::answer::Report;
use crate::delivery::attempt::{Decided, End, Ended};
use crate::delivery::bot;
use crate::delivery::lanes::{Decision, Terms};
use crate::delivery::verdict::Verdict;
use crate::message::is_notification;
use crate::outcomes::Patience;
use crate::pb::body::Kind;
use crate::pb::store::{self, DeliveryState, Endpoint, Entry};
use crate::pb::{self, DeliveryStatus};
use crate::planning;
use crate::samples;
use crate::sessions;
use crate::store::double::Double;
use crate::store::memory::Memory;
use crate::store::{AppendError, Claim, Facts, Position, Stage, Staged, Stored, message_of};
use crate::violation::Violations;
use crate::webhook;
use crate::wire;
use async_trait::async_trait;
use serde_json::{Value, json};
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

/// A store that cannot write for a while, and that may have an entry that cannot be read.
#[derive(Debug)]
struct Stumbling {
    memory: Memory,
    /// Writes that still fail.
    stumbles: AtomicUsize,
    damaged: Option<Position>,
}

impl Stumbling {
    fn new(stumbles: usize, damaged: Option<Position>) -> Arc<Self> {
        Arc::new(Self { memory: Memory::new(1 << 20), stumbles: AtomicUsize::new(stumbles), damaged })
    }
}

#[async_trait]
impl Double for Stumbling {
    fn memory(&self) -> &Memory {
        &self.memory
    }

    async fn entry(&self, position: Position) -> Result<Option<Stored>, crate::store::Error> {
        if self.damaged == Some(position) {
            return Err(crate::store::Error::Unavailable { cause: "it is damaged".into() });
        }
        self.memory.entry(position).await
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
    let store = Stumbling::new(0, None);
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
    let told = store.memory.entry(store.span().end).await.expect("can be read").expect("is there");
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

/// A store that was written by an earlier version: it has a delivery that is open, and whose message is gone. The entry that plans it.
async fn store_that_has_lost_a_message() -> (Arc<Memory>, Stored) {
    let memory = Arc::new(Memory::new(1 << 16));
    let position = append(&memory, planned("c")).await;
    let mut again = Entry { message: None, ..planned("c") };
    again.deliveries[0].message = position.0;
    let redriven = append(&memory, again).await;
    while memory.span().oldest <= position {
        append(&memory, Entry::default()).await;
    }
    let stored = memory.entry(redriven).await.expect("can be read").expect("is kept");
    (memory, stored)
}

#[tokio::test]
async fn what_has_no_message_any_more_is_a_dead_letter_instead_of_being_dropped_in_silence() {
    let (store, redriven) = store_that_has_lost_a_message().await;
    let waiters = Waiters::new(1);
    let dispatcher = dispatcher(store.clone(), samples::channels(false), waiters.clone());
    let stop = dispatcher.stop.clone();
    let running = tokio::spawn(dispatcher.run());
    let outcome = waiters.outcome(&redriven, Patience::asked(Duration::from_secs(30))).await.expect("it is told");
    assert_eq!((outcome.status, outcome.text.as_deref()), (DeliveryStatus::Failed, Some("its message is no longer kept")));
    stop.cancel();
    running.await.expect("does not panic");
    let told = store.entry(store.span().end).await.expect("can be read").expect("is there");
    let steps: Vec<_> = told.entry.delivery_steps.iter().map(|step| (step.planned_at, step.state())).collect();
    assert_eq!(steps, [(redriven.position.0, DeliveryState::Failed)]);
}

#[tokio::test]
async fn what_has_no_message_any_more_is_given_up_although_nothing_attempts_it() {
    let (store, redriven) = store_that_has_lost_a_message().await;
    let overdue = dispatcher(store, samples::channels(false), Waiters::new(0)).overdue.look().await;
    let overdue: Vec<_> = overdue.iter().map(|(delivery, stored)| (delivery.id.planned_at, stored.is_some())).collect();
    assert_eq!(overdue, [(redriven.position, false)]);
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

/// A store that counts, those that are open once it plans three, with their messages, and what would give them up.
async fn three_to_give_up(waiters: &Waiters) -> (Arc<Counting>, Dispatcher, Vec<(Delivery, Stored)>) {
    let store = Arc::new(Counting { memory: Memory::new(1 << 20), writes: AtomicUsize::new(0) });
    let open = three_open(&store.memory).await;
    let dispatcher = dispatcher(store.clone(), samples::channels(false), waiters.clone());
    (store, dispatcher, open)
}

/// Plans three deliveries. With their messages.
async fn three_open(memory: &Memory) -> Vec<(Delivery, Stored)> {
    for _ in 0..3 {
        append(memory, planned("c")).await;
    }
    let mut open = Vec::new();
    for delivery in memory.deliveries(DeliveryId::NONE, Wanted::Open, 9).await.expect("can be read").found {
        let stored = memory.entry(delivery.message).await.expect("can be read").expect("is there");
        open.push((delivery, stored));
    }
    open
}

/// Writes down that deliveries are given up; how long that takes.
async fn give_up(dispatcher: Dispatcher, those: Vec<(Delivery, Stored)>) -> Duration {
    write_down(dispatcher, those.into_iter().map(|(delivery, stored)| Record::given_up(delivery, Some(stored))).collect()).await
}

/// Writes down what deliveries have come to; how long that takes.
async fn write_down(mut dispatcher: Dispatcher, those: Vec<Record>) -> Duration {
    let (recorder, records) = dispatcher.recorder.take().expect("it does not run yet");
    let count = those.len();
    those.into_iter().for_each(|record| dispatcher.attempts.note(record));
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
async fn a_message_that_cannot_be_read_again_holds_up_no_outcome() {
    let store = Stumbling::new(1, Some(Position(2)));
    let open = three_open(&store.memory).await;
    give_up(dispatcher(store.clone(), samples::channels(false), Waiters::new(0)), open).await;
    let mut told = Vec::new();
    for position in 4..=store.span().end.0 {
        let entry = store.memory.entry(Position(position)).await.expect("can be read").expect("is there").entry;
        told.push((entry.delivery_steps[0].planned_at, entry.about));
    }
    assert_eq!(told, [(1, 1), (2, 0), (3, 3)], "what cannot be read is settled, but nobody can be told");
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

/// A shop with a bot and a connector, and what is said there.
struct Shop {
    memory: Arc<Memory>,
    channels: Channels,
}

impl Shop {
    async fn new() -> Self {
        let channels = samples::channels(false);
        let endpoint = || Some(pb::Endpoint { uri: "https://shop.example".into(), ..pb::Endpoint::default() });
        let channel = pb::Channel {
            service_identifier: "support".into(),
            channel_type: "WEB".into(),
            connector: endpoint(),
            bot: Some(pb::Bot { endpoint: endpoint(), id: "bot-1".into(), ..pb::Bot::default() }),
            ..pb::Channel::default()
        };
        channels.create(channel, Violations::default()).await.expect("is registered");
        Self { memory: Arc::new(Memory::new(1 << 20)), channels }
    }

    /// What the log has of a message that is accepted: the message, and what happens to its session.
    async fn accept(&self, patch: Value) -> Vec<Stored> {
        let (channels, mut message) = (self.channels.snapshot(), samples::message(patch));
        message.id.get_or_insert_with(crate::message::fresh_id);
        let stage = Box::new(|facts: &dyn Facts| {
            let mut frame = sessions::route(facts, &channels, message, store::Submission::default(), wire::now())?;
            planning::plan_all(&mut frame, &channels);
            Ok(frame)
        });
        self.memory.append(None, stage).await.expect("is accepted")
    }

    /// What the customer says first.
    async fn first(&self) -> Stored {
        self.accept(json!({})).await.pop().expect("is the last")
    }

    /// What the log has more after the bot has answered so to what was said, but for its outcome.
    async fn after(&self, said: &Stored, answers: Value) -> Vec<Stored> {
        let end = self.memory.span().end;
        let id = DeliveryId { planned_at: said.position, endpoint: Endpoint::Bot };
        let found = self.memory.deliveries(id.before(), Wanted::Open, 1).await.expect("can be read").found;
        let delivery = found.into_iter().next().filter(|delivery| delivery.id == id).expect("it is planned");
        let decided = Decided {
            stored: said.clone(),
            verdict: Verdict::Delivered,
            terms: Terms::default(),
            attempt: store::Attempt::default(),
            took: None,
            report: Report::default(),
            answers: bot::answers(answers.to_string().as_bytes()).expect("is JSON"),
        };
        let (state, attempts) = (DeliveryState::Delivered, 1);
        let decision = Decision { state, attempts, due: None, held_up: Vec::new(), disable: false };
        let dispatcher = dispatcher(self.memory.clone(), self.channels.clone(), Waiters::new(0));
        write_down(dispatcher, vec![Record::of(delivery, Box::new(decided), decision)]).await;
        let page = crate::store::Page { entries: 99, bytes: usize::MAX };
        let mut more = self.memory.read(end, page).await.expect("can be read");
        assert_eq!(more.remove(0).entry.about, said.position.0);
        more
    }
}

/// What a bot answers.
fn answer(text: &str, intent: &str, mode: &str) -> Value {
    json!({ "intent": { "name": intent }, "mode": mode, "body": { "type": "PLAIN", "markdownText": text } })
}

/// What an entry says.
fn said(stored: &Stored) -> Option<&str> {
    let body = stored.entry.message.as_ref()?.body.as_ref()?;
    match body.kind.as_ref()? {
        Kind::Notification(notification) => notification.notification_type.as_deref(),
        _ => body.markdown_text.as_deref(),
    }
}

/// Of each entry what it says, and its session.
fn told(entries: &[Stored]) -> Vec<(&str, &store::Session)> {
    let told = entries.iter().map(|stored| said(stored).zip(stored.entry.session.as_ref()));
    told.map(|told| told.expect("says something in a session")).collect()
}

#[tokio::test(start_paused = true)]
async fn where_a_session_has_ended_meanwhile_all_that_a_bot_answers_opens_one() {
    let shop = Shop::new().await;
    let said = shop.first().await;
    shop.accept(json!({ "header": { "intent": "END_CHAT" } })).await;
    let more = shop.after(&said, json!([answer("a", "x", "message"), answer("b", "x", "message")])).await;
    let [("CHANNEL_SESSION_STARTED", opened), ("a", first), ("b", second)] = told(&more)[..] else {
        panic!("{:?}", told(&more));
    };
    assert_eq!((first, second, opened.ended_at), (opened, opened, None));
    assert_ne!(Some(&opened.id), said.entry.session.as_ref().map(|session| &session.id));
}

#[tokio::test(start_paused = true)]
async fn what_a_bot_answers_after_it_has_ended_the_chat_is_of_another_session() {
    let shop = Shop::new().await;
    let said = shop.first().await;
    let more = shop.after(&said, json!([answer("bye", "END_CHAT", "message"), answer("a", "x", "message")])).await;
    let [("bye", bye), ("CHANNEL_SESSION_ENDED", ended), ("CHANNEL_SESSION_STARTED", opened), ("a", first)] = told(&more)[..]
    else {
        panic!("{:?}", told(&more));
    };
    assert_eq!((bye, first), (ended, opened));
    assert!(ended.ended_at.is_some() && opened.ended_at.is_none());
    assert_ne!(opened.id, ended.id);
    assert_eq!(opened.customer_id, ended.customer_id);
    assert_ne!(opened.conversation_id, ended.conversation_id);
}

#[tokio::test(start_paused = true)]
async fn a_chat_that_a_bot_ends_twice_has_ended_once() {
    let shop = Shop::new().await;
    let said = shop.first().await;
    let more = shop.after(&said, json!([answer("bye", "END_CHAT", "message"), answer("bye!", "END_CHAT", "message")])).await;
    let [("bye", bye), ("CHANNEL_SESSION_ENDED", ended), ("bye!", again)] = told(&more)[..] else {
        panic!("{:?}", told(&more));
    };
    assert!(ended.ended_at.is_some());
    assert_eq!((bye, again), (ended, ended));
}

#[tokio::test(start_paused = true)]
async fn the_session_that_a_suggestion_opens_is_told_to_both_sides() {
    let shop = Shop::new().await;
    let said = shop.first().await;
    shop.accept(json!({ "header": { "intent": "END_CHAT" } })).await;
    let more = shop.after(&said, answer("offer tea", "x", "suggestion")).await;
    let to = |stored: &Stored| stored.entry.deliveries.iter().map(store::Delivery::endpoint).collect::<Vec<_>>();
    let [opened, suggestion] = &more[..] else { panic!("{:?}", told(&more)) };
    assert_eq!(told(&more).iter().map(|(said, _)| *said).collect::<Vec<_>>(), ["CHANNEL_SESSION_STARTED", "offer tea"]);
    assert_eq!(opened.entry.audiences().collect::<Vec<_>>(), sessions::NOTICE_AUDIENCES);
    assert_eq!(to(opened), [Endpoint::Connector, Endpoint::Bot]);
    assert_eq!(suggestion.entry.audiences().collect::<Vec<_>>(), [pb::Audience::Platform]);
    assert_eq!(to(suggestion), []);
}
