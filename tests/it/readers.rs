//! Many readers, and readers that do not read.

use crate::support::client::{Client, Events};
use crate::support::gateway::Gateway;
use crate::support::messages::{Differs as _, Wants as _, after, latest, said, says};
use crate::support::process::Process;
use crate::support::raw::Raw;
use crate::support::soon;
use cim_gateway::pb::{Audience, CimMessage, NotificationFilter, SenderType};
use futures::future::{join_all, try_join_all};
use prost::Message as _;
use std::time::{Duration, Instant};

const CHANNELS: usize = 250;

/// Channel and text of all messages before the one on the last channel.
async fn hear_until_the_end(events: &mut Events) -> Vec<(String, String)> {
    let mut heard = Vec::new();
    loop {
        let message = events.message().await;
        let header = message.message.as_ref().unwrap().header.as_ref().unwrap();
        let channel = header.channel_data.as_ref().unwrap().service_identifier.clone().unwrap();
        if channel == "the end" {
            return heard;
        }
        heard.push((channel, said(&message)));
    }
}

/// Every channel has four subscribers with different filters; all of them also hear the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_subscribers_with_different_filters_hear_exactly_what_is_theirs() {
    let gateway = Gateway::start().await;
    let clients = join_all((0..8).map(|_| gateway.client())).await;
    let sender = gateway.client().await;
    let mut subscribers = Vec::new();
    for (channel, kind) in (0..CHANNELS).flat_map(|channel| (0..4).map(move |kind| (channel, kind))) {
        let mut request = latest().on(&channel.to_string()).on("the end");
        let filter = request.filter.as_mut().unwrap();
        let expected: &[&str] = match kind {
            0 => &["CHANNEL_SESSION_STARTED", "question", "answer"],
            1 => {
                filter.body_types = vec!["PLAIN".into()];
                &["question", "answer"]
            }
            2 => {
                filter.sender_types = vec![SenderType::Connector.into(), SenderType::System.into()];
                &["CHANNEL_SESSION_STARTED", "question"]
            }
            _ => {
                filter.audiences = vec![Audience::Customer.into()];
                &["CHANNEL_SESSION_STARTED", "answer"]
            }
        };
        let mut events = clients[(channel + kind) % clients.len()].subscribe(request).await;
        subscribers.push(tokio::spawn(async move {
            let heard = hear_until_the_end(&mut events).await;
            let channel = channel.to_string();
            assert!(
                heard.iter().map(|(on, text)| (on, text.as_str())).eq(expected.iter().map(|text| (&channel, *text))),
                "{heard:?}"
            );
        }));
    }
    let dialogue = |channel: usize| {
        let channel = channel.to_string();
        [says(&channel, "ada", "question"), says(&channel, "ada", "answer").by(SenderType::Agent)]
    };
    sender.send_all((0..CHANNELS).flat_map(dialogue)).await;
    // One of them passes each filter.
    sender.send(says("the end", "ada", "the end")).await;
    sender.send(says("the end", "ada", "the end").by(SenderType::Agent)).await;
    try_join_all(subscribers).await.unwrap();
}

/// Messages as small as they come.
fn flood(senders: usize, sender: usize, messages: usize) -> impl Iterator<Item = CimMessage> {
    let customer = format!("customer-{sender}");
    (0..messages / senders).map(move |number| says("flood", &customer, &number.to_string()))
}

/// Sends `messages` by several streams at once, and returns how long that took.
async fn send_flood(clients: &[Client], messages: usize) -> Duration {
    let started = Instant::now();
    let senders = clients.iter().enumerate().map(|(sender, client)| {
        let (client, flood) = (client.clone(), flood(clients.len(), sender, messages));
        tokio::spawn(async move { client.send_all(flood).await.len() })
    });
    let sent: usize = soon("everything to be sent", try_join_all(senders)).await.unwrap().into_iter().sum();
    assert_eq!(sent, messages);
    started.elapsed()
}

/// The gateway is a process of its own: its memory is nobody else's, and its time is not the readers'.
///
/// What is asserted of memory: while readers stand still, the process grows as it does without them, plus a bounded amount for
/// each of them. The log itself grows with every message, in both cases alike. Of time: that everything is taken and heard at all
/// while they stand still; how long it takes is printed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_that_stand_still_cost_little_slow_nobody_and_catch_up() {
    const MESSAGES: usize = 100_000;
    const STALLED: usize = 32;
    const GREEDY: usize = 64;
    // About three times what they hold: the log grows by some megabytes more or less from one flood to the next. Their backlog is
    // some 15 MB each.
    const MOST_BYTES_EACH: usize = 512 * 1024;
    let process = Process::start(&[("store.engine", &"memory"), ("store.memory.max_bytes", &"4 GiB")]).await;
    let senders = join_all((0..4).map(|_| process.client())).await;
    // The first messages make the process grow to its working size.
    send_flood(&senders, MESSAGES / 10).await;
    let start = process.client().await.subscribe(latest()).await.start;

    let empty = process.resident_bytes();
    let alone = send_flood(&senders, MESSAGES / 2).await;
    let full = process.resident_bytes();
    let mut stalled = join_all((0..STALLED).map(async |_| process.client().await.subscribe(after(&start)).await)).await;
    // They ask for all that there is, and leave it in the network.
    let _greedy = join_all((0..GREEDY).map(|_| Raw::greedy(process.grpc, after(&start).encode_to_vec()))).await;
    let live = process.client().await;
    let only_the_end = NotificationFilter { service_identifiers: vec!["live".into()], ..NotificationFilter::default() };
    let mut live_events = live.subscribe(latest().only(only_the_end)).await;
    let beside = send_flood(&senders, MESSAGES / 2).await;
    let fuller = process.resident_bytes();
    let (without, with) = (full.saturating_sub(empty), fuller.saturating_sub(full));
    println!("{alone:?} and {} KiB without stalled readers, {beside:?} and {} KiB with", without / 1024, with / 1024);
    assert!(with < without + (STALLED + GREEDY) * MOST_BYTES_EACH, "{with} bytes beside {without}");
    // Who reads hears at once, although others do not.
    live.send(says("live", "ada", "live")).await;
    assert_eq!(live_events.until("live").await, ["CHANNEL_SESSION_STARTED"]);

    let mut next = [0; 4];
    let reader = &mut stalled[0];
    for _ in 0..MESSAGES {
        let message = reader.message().await.message.unwrap();
        let channel = message.header.unwrap().channel_data.unwrap();
        let customer = channel.channel_customer_identifier.unwrap();
        let sender: usize = customer.trim_start_matches("customer-").parse().unwrap();
        let number: usize = message.body.unwrap().markdown_text.unwrap().parse().unwrap();
        // Each sender sent two floods, one after the other.
        assert_eq!(number, next[sender] % (MESSAGES / 8));
        next[sender] += 1;
    }
    assert_eq!(next, [MESSAGES / 4; 4]);
    assert_eq!(reader.until("live").await, ["CHANNEL_SESSION_STARTED"]);
}

/// Streams that wait for what does not come, beside messages that are none of their business. The gateway is a process of its own,
/// so that its memory is nobody else's. What it grows by while the streams are opened is mostly what gRPC and HTTP/2 keep of a call.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_idle_streams_cost_little_memory_and_hear_what_is_theirs() {
    const STREAMS: usize = 10_000;
    const CONNECTIONS: usize = 20;
    const MOST_BYTES_EACH: usize = 20 * 1024;
    let process = Process::start(&[("store.engine", &"memory"), ("store.memory.max_bytes", &"8 MiB")]).await;
    let clients = join_all((0..CONNECTIONS).map(|_| process.client())).await;
    let sender = process.client().await;
    // The log is as large as it gets, and every connection has been used.
    sender.send_all(flood(1, 0, 4_000)).await;
    join_all(clients.iter().map(|client| client.subscribe(latest().on("nothing here")))).await;
    let before = process.resident_bytes();
    let open = clients.iter().enumerate().map(|(connection, client)| async move {
        let mut streams = Vec::new();
        for number in 0..STREAMS / CONNECTIONS {
            let channel = format!("idle-{connection}-{number}");
            streams.push(client.subscribe(latest().on(&channel)).await);
        }
        streams
    });
    let mut streams = join_all(open).await;
    sender.send_all(flood(1, 0, 4_000)).await;
    let each = process.resident_bytes().saturating_sub(before) / STREAMS;
    println!("{each} bytes for each of {STREAMS} idle streams");
    assert!(each < MOST_BYTES_EACH, "{each} bytes each");
    for (connection, number) in [(0, 0), (7, 123), (CONNECTIONS - 1, STREAMS / CONNECTIONS - 1)] {
        sender.send(says(&format!("idle-{connection}-{number}"), "ada", "for you")).await;
        assert_eq!(streams[connection][number].until("for you").await, ["CHANNEL_SESSION_STARTED"]);
    }
}
