//! Server-sent events.

use crate::client::{Client, request};
use crate::gateway::{Gateway, MESSAGE_BYTES, plain};
use serde_json::{Value, json};

pub struct Events {
    client: Client,
    text: String,
}

#[derive(Debug, PartialEq)]
pub struct Event {
    pub id: String,
    pub kind: String,
    pub data: Value,
}

impl Events {
    pub async fn open(gateway: &Gateway, query: &str, headers: &str) -> Self {
        let mut client = gateway.connect().await;
        client.send(request("GET", &format!("/v1/notifications{query}"), headers).as_bytes()).await;
        let head = client.head().await;
        assert_eq!((head.status, head.header("content-type")), (200, Some("text/event-stream")));
        assert_eq!(head.header("cache-control"), Some("no-store"));
        assert_eq!(head.header("x-accel-buffering"), Some("no"));
        Self { client, text: String::new() }
    }

    /// The next event; none at the end of the stream.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let event = parse(event);
                self.text = rest.to_owned();
                return Some(event);
            }
            let chunk = self.client.chunk().await?;
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    async fn heartbeat(&mut self) -> Event {
        let event = self.next().await.unwrap();
        assert_eq!((event.kind.as_str(), &event.data), ("heartbeat", &json!({"cursor": event.id})));
        event
    }

    /// The next `count` messages: their ids, and the last cursor.
    pub async fn messages(&mut self, count: usize) -> (Vec<String>, String) {
        let (mut ids, mut cursor) = (Vec::new(), String::new());
        while ids.len() < count {
            let event = self.next().await.unwrap();
            assert_eq!((event.kind.as_str(), &event.data["cursor"]), ("message", &json!(event.id)));
            ids.push(event.data["message"]["id"].as_str().unwrap().to_owned());
            cursor = event.id;
        }
        (ids, cursor)
    }
}

fn parse(text: &str) -> Event {
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        line.unwrap_or_default().to_owned()
    };
    Event { id: field("id"), kind: field("event"), data: serde_json::from_str(&field("data")).unwrap() }
}

async fn send(gateway: &Gateway, ids: std::ops::Range<usize>) {
    for i in ids {
        gateway.accept(&plain(Some(&format!("m-{i}")), "visitor", "hello\nthere")).await;
    }
}

#[tokio::test]
async fn a_heartbeat_comes_first_and_then_every_message_in_order() {
    let gateway = Gateway::start().await;
    send(&gateway, 0..1).await;
    let mut events = Events::open(&gateway, "", "").await;
    events.heartbeat().await;
    send(&gateway, 1..4).await;
    assert_eq!(events.messages(3).await.0, ["m-1", "m-2", "m-3"]);
}

#[tokio::test]
async fn an_event_is_the_message_as_it_reads_back() {
    let gateway = Gateway::start().await;
    let mut events = Events::open(&gateway, "?bodyType=PLAIN", "").await;
    events.heartbeat().await;
    send(&gateway, 0..1).await;
    let event = events.next().await.unwrap();
    let mut read = gateway.connect().await.get("/v1/messages/m-0").await.json();
    // What became of it since is no part of the event.
    assert!(["outcome", "timeline"].iter().all(|key| read.as_object_mut().unwrap().remove(*key).is_some()));
    assert_eq!(event.data, read);
}

#[tokio::test]
async fn a_client_that_was_cut_off_goes_on_without_gap_or_repeat() {
    let gateway = Gateway::start().await;
    let mut events = Events::open(&gateway, "?from=earliest&bodyType=PLAIN", "").await;
    events.heartbeat().await;
    send(&gateway, 0..3).await;
    let (_, cursor) = events.messages(2).await;
    drop(events);
    send(&gateway, 3..5).await;
    // A browser repeats the address as it was.
    let mut resumed = Events::open(&gateway, "?from=earliest&bodyType=PLAIN", &format!("last-event-id: {cursor}\r\n")).await;
    assert_eq!(resumed.heartbeat().await.id, cursor);
    assert_eq!(resumed.messages(3).await.0, ["m-2", "m-3", "m-4"]);
}

#[tokio::test]
async fn every_start_is_where_it_says() {
    let gateway = Gateway::start().await;
    send(&gateway, 0..2).await;
    let first = gateway.connect().await.get("/v1/messages/m-0").await.json();
    for query in [
        format!("?after={}", first["cursor"].as_str().unwrap()),
        "?from=earliest&conversationId=nobody".into(),
        "?since=1970-01-01T00:00:00Z&bodyType=PLAIN".into(),
    ] {
        let mut events = Events::open(&gateway, &query, "").await;
        events.heartbeat().await;
        match query.as_str() {
            after if after.starts_with("?after") => assert_eq!(events.messages(1).await.0, ["m-1"]),
            since if since.starts_with("?since") => assert_eq!(events.messages(2).await.0, ["m-0", "m-1"]),
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_filter_passes_what_matches_only() {
    let gateway = Gateway::start().await;
    let mut events = Events::open(&gateway, "?senderType=BOT&senderType=AGENT&audience=CUSTOMER", "").await;
    events.heartbeat().await;
    send(&gateway, 0..2).await;
    let mut bot = plain(Some("from-bot"), "visitor", "how can I help?");
    bot["header"]["sender"] = json!({"id": "bot", "type": "BOT", "senderName": "helper"});
    gateway.accept(&bot).await;
    assert_eq!(events.messages(1).await.0, ["from-bot"]);
}

#[tokio::test]
async fn a_quiet_stream_has_a_heartbeat_at_the_pace_that_was_asked_for() {
    let gateway = Gateway::start().await;
    let mut events = Events::open(&gateway, "?heartbeat=1", "").await;
    let first = events.heartbeat().await;
    assert_eq!(events.heartbeat().await, first);
}

#[tokio::test]
async fn a_shutdown_ends_the_stream_with_its_reason() {
    let gateway = Gateway::start().await;
    let mut events = Events::open(&gateway, "", "").await;
    events.heartbeat().await;
    gateway.shutdown.cancel();
    let end = events.next().await.unwrap();
    assert_eq!((end.kind.as_str(), end.id.as_str(), &end.data["reason"]), ("end", "", &json!("SHUTTING_DOWN")));
    assert_eq!(events.next().await, None);
    gateway.served.await.unwrap();
}

#[tokio::test]
async fn a_reader_that_pauses_misses_nothing() {
    const MESSAGES: usize = 100;
    let gateway = Gateway::start().await;
    let mut events = Events::open(&gateway, "?bodyType=PLAIN", "").await;
    events.heartbeat().await;
    // More than the buffers of both sockets hold.
    let text = "x".repeat(MESSAGE_BYTES - 1024);
    for i in 0..MESSAGES {
        gateway.accept(&plain(Some(&format!("m-{i}")), "visitor", &text)).await;
    }
    let expected: Vec<_> = (0..MESSAGES).map(|i| format!("m-{i}")).collect();
    assert_eq!(events.messages(MESSAGES).await.0, expected);
}

#[tokio::test]
async fn a_failure_before_the_stream_is_an_http_error() {
    let gateway = Gateway::start().await;
    send(&gateway, 0..1).await;
    let stranger = "AQAAAAAAAAABAAAAAAAAAAE";
    let answer = gateway.connect().await.get(&format!("/v1/notifications?after={stranger}")).await;
    assert_eq!((answer.status, &answer.json()["reason"]), (410, &json!("CURSOR_UNKNOWN")));
    let oldest = answer.json()["oldestCursor"].as_str().unwrap().to_owned();
    let mut events = Events::open(&gateway, &format!("?after={oldest}&bodyType=PLAIN"), "").await;
    events.heartbeat().await;
    assert_eq!(events.messages(1).await.0, ["m-0"]);
}

#[tokio::test]
async fn one_stream_too_many_is_told_to_try_later() {
    let gateway = Gateway::start().await;
    let _first = Events::open(&gateway, "", "").await;
    let _second = Events::open(&gateway, "", "").await;
    let answer = gateway.connect().await.get("/v1/notifications").await;
    assert_eq!((answer.status, &answer.json()["reason"]), (429, &json!("TOO_MANY_STREAMS")));
    assert_eq!(answer.header("retry-after"), Some("1"));
}
