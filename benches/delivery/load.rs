//! Those who send: messages to the gateway, or posts straight to its webhooks.

use crate::figures::now;
use crate::gateway::{CONNECTIONS, Running, number_it};
use crate::sink::Sink;
use cim_gateway::pb;
use cim_gateway::pb::send_messages_response::Result::Accepted;
use cim_gateway::webhook::{Id, Post, TraceParent, Url};
use cim_gateway::wire;
use futures::stream::{self, Stream, StreamExt as _};
use http::{HeaderMap, HeaderValue};
use hyper::body::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::UnboundedReceiverStream;

/// When messages should be sent: so many a second, by chance as strangers do.
pub(crate) fn schedule(rate: f64, length: Duration) -> Vec<Duration> {
    let mut at = 0.0;
    let mut next = move || {
        at -= (1.0 - fastrand::f64()).ln() / rate;
        Duration::from_secs_f64(at)
    };
    std::iter::from_fn(|| Some(next())).take_while(|at| *at < length).collect()
}

/// What became of messages that were sent on time, by their numbers, in nanoseconds since 1970.
pub(crate) struct Sent {
    /// When each should have been sent.
    pub(crate) due: Vec<u64>,
    /// When the answer came that it is accepted.
    pub(crate) accepted: Vec<u64>,
}

/// Sends so many messages as fast as they are taken, until all are accepted.
pub(crate) async fn at_once(running: &Running, messages: usize) {
    let plan = running.plan.clone();
    let part = move |connection: usize| {
        let plan = plan.clone();
        stream::iter((connection..messages).step_by(CONNECTIONS).map(move |number| plan.message(number)))
    };
    let accepted: usize = send(running, part).await.iter().map(Vec::len).sum();
    assert_eq!(accepted, messages);
}

/// Sends messages at their times, whether earlier ones are accepted or not, until all are.
pub(crate) async fn on_time(running: &Running, times: &[Duration]) -> Sent {
    // Made before: what it takes to make them is not the gateway's.
    let messages: Vec<_> = (0..times.len()).map(|number| running.plan.message(number)).collect();
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..CONNECTIONS).map(|_| mpsc::unbounded_channel()).unzip();
    let begin = now() + 10_000_000;
    let due: Vec<_> = times.iter().map(|at| begin + nanos(*at)).collect();
    let clock = due.clone();
    let mut messages = messages.into_iter();
    let pacing = std::thread::spawn(move || {
        pace(&clock, |number| {
            let message = messages.next().expect("there is one for each time");
            senders[number % CONNECTIONS].send(message).expect("the stream lasts");
        });
    });
    let mut receivers: Vec<_> = receivers.into_iter().map(Some).collect();
    let answers =
        send(running, move |connection| UnboundedReceiverStream::new(receivers[connection].take().expect("taken once"))).await;
    pacing.join().expect("the pace is kept");
    let mut accepted = vec![0; due.len()];
    for (connection, answers) in answers.into_iter().enumerate() {
        for (index, at) in answers.into_iter().enumerate() {
            accepted[index * CONNECTIONS + connection] = at;
        }
    }
    Sent { due, accepted }
}

/// Sends a stream of messages by each connection. When each was accepted, in the order of its stream.
async fn send<S>(running: &Running, mut part: impl FnMut(usize) -> S) -> Vec<Vec<u64>>
where
    S: Stream<Item = pb::CimMessage> + Send + 'static,
{
    let streams = running.clients.iter().cloned().enumerate().map(|(connection, mut client)| {
        let requests = part(connection).map(|message| pb::SendMessagesRequest { message: Some(message) });
        tokio::spawn(async move {
            let mut answers = client.send_messages(requests).await.expect("the stream opens").into_inner();
            let mut accepted = Vec::new();
            while let Some(answer) = answers.message().await.expect("the stream lasts") {
                assert!(matches!(answer.result, Some(Accepted(_))), "{answer:?}");
                accepted.push(now());
            }
            accepted
        })
    });
    let mut accepted = Vec::new();
    for stream in streams.collect::<Vec<_>>() {
        accepted.push(stream.await.expect("who sends does not panic"));
    }
    accepted
}

/// Calls `at` with the number of each time when it has come.
#[expect(clippy::disallowed_methods, reason = "a thread of its own sleeps more exactly than the runtime")]
fn pace(due: &[u64], mut at: impl FnMut(usize)) {
    for (number, due) in due.iter().enumerate() {
        while let Some(left) = due.checked_sub(now()).filter(|left| *left > 0) {
            std::thread::sleep(Duration::from_nanos(left));
        }
        at(number);
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).expect("it is short")
}

/// One call that the gateway would make, without the gateway.
pub(crate) struct Ready {
    url: Url,
    id: Id,
    body: Bytes,
}

/// The calls that so many messages for healthy webhooks lead to, byte for byte.
pub(crate) async fn posts(running: &Running, sink: &Sink, count: usize) -> Vec<Ready> {
    let plan = &running.plan;
    let mut message = accepted(running).await;
    let healthy = plan.webhooks - plan.failing - plan.slow - plan.dead;
    (0..count)
        .map(|number| {
            number_it(&mut message, number);
            let port = sink.ports[number % healthy];
            let url = Url::parse(&format!("http://127.0.0.1:{port}/message/receive")).expect("it is a URL");
            // As long as those of deliveries.
            let id = Id::new(format!("AQAAAAAAAAAAAAAAAAAAAA{number:010}")).expect("it is an id");
            Ready { url, id, body: wire::encode(&message).into() }
        })
        .collect()
}

/// A message as the gateway passes it on, with all that it fills in.
async fn accepted(running: &Running) -> pb::CimMessage {
    let mut client = running.clients[0].clone();
    let request = pb::SendMessageRequest { message: Some(unnumbered(running)), delivery_wait: None };
    let sent = client.send_message(request).await.expect("the message is accepted").into_inner();
    let request = pb::GetMessageRequest { message_id: sent.message_id };
    let stored = client.get_message(request).await.expect("the message is there").into_inner();
    stored.message.and_then(|stored| stored.message).expect("a response holds the message")
}

/// A message that the receiver does not count.
fn unnumbered(running: &Running) -> pb::CimMessage {
    let mut message = running.plan.message(0);
    let text = message.body.get_or_insert_default().markdown_text.get_or_insert_default();
    *text = text.split_once(';').map_or_else(String::new, |(_, rest)| rest.to_owned());
    message
}

/// Posts everything, as many at a time as the gateway would.
pub(crate) async fn post_at_once(running: &Running, posts: Vec<Ready>) {
    let plan = &running.plan;
    let at_a_time = plan.customers.min(plan.webhooks * running.in_flight);
    let (posts, next) = (Arc::new(posts), Arc::new(AtomicUsize::new(0)));
    let mut callers = JoinSet::new();
    for _ in 0..at_a_time {
        let (client, posts, next) = (running.webhooks.clone(), posts.clone(), next.clone());
        callers.spawn(async move {
            while let Some(ready) = posts.get(next.fetch_add(1, Ordering::Relaxed)) {
                post(&client, ready).await;
            }
        });
    }
    while let Some(done) = callers.join_next().await {
        done.expect("a caller does not panic");
    }
}

/// Posts everything at its time, whether earlier ones are answered or not. When each should have been sent.
pub(crate) async fn post_on_time(running: &Running, posts: Vec<Ready>, times: &[Duration]) -> Vec<u64> {
    let begin = now() + 10_000_000;
    let due: Vec<_> = times.iter().map(|at| begin + nanos(*at)).collect();
    let clock = due.clone();
    let (sender, mut on_time) = mpsc::unbounded_channel();
    let mut posts = posts.into_iter();
    let pacing = std::thread::spawn(move || {
        pace(&clock, |_| sender.send(posts.next().expect("there is one for each time")).expect("somebody posts"));
    });
    let mut calls = JoinSet::new();
    while let Some(ready) = on_time.recv().await {
        let client = running.webhooks.clone();
        calls.spawn(async move { post(&client, &ready).await });
    }
    while let Some(done) = calls.join_next().await {
        done.expect("a call does not panic");
    }
    pacing.join().expect("the pace is kept");
    due
}

async fn post(client: &cim_gateway::webhook::Client, ready: &Ready) {
    let post = Post {
        url: &ready.url,
        id: &ready.id,
        content_type: HeaderValue::from_static("application/json"),
        body: ready.body.clone(),
        secrets: &[],
        trace: TraceParent::new(),
        headers: HeaderMap::new(),
        timeout: None,
    };
    let answer = client.post(post).await.expect("the receiver answers");
    assert_eq!(answer.status, 200);
}
