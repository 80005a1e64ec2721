//! Named subscriptions: the same as by gRPC, with a browser's means.

use crate::gateway::{Gateway, plain};
use crate::notifications::Events;
use serde_json::{Value, json};

async fn acknowledge(gateway: &Gateway, name: &str, body: &Value) -> (u16, Value) {
    let answer = gateway.connect().await.post(&format!("/v1/subscriptions/{name}/acknowledge"), body).await;
    (answer.status, answer.json())
}

async fn list(gateway: &Gateway, query: &str) -> Value {
    gateway.connect().await.get(&format!("/v1/subscriptions{query}")).await.json()
}

/// A stream that stands, its generation and where it starts.
async fn attach(gateway: &Gateway, query: &str, headers: &str) -> (Events, Value, String) {
    let mut events = Events::open(gateway, query, headers).await;
    let first = events.next().await.unwrap();
    assert_eq!(first.kind, "heartbeat");
    (events, first.data["generation"].clone(), first.id)
}

async fn send(gateway: &Gateway, ids: std::ops::Range<usize>) {
    for i in ids {
        gateway.accept(&plain(Some(&format!("m-{i}")), "visitor", "hello")).await;
    }
}

const DESK: &str = "?subscription=desk&bodyType=PLAIN";

#[tokio::test]
async fn a_name_goes_on_after_what_is_acknowledged_whatever_event_a_browser_had_last() {
    let gateway = Gateway::start().await;
    let (mut events, generation, _) = attach(&gateway, DESK, "").await;
    send(&gateway, 0..3).await;
    let (_, processed) = events.messages(2).await;
    let (_, last) = events.messages(1).await;
    let body = json!({"generation": generation, "cursor": processed});
    assert_eq!(acknowledge(&gateway, "desk", &body).await, (200, json!({"cursor": processed})));
    drop(events);
    let (mut resumed, _, start) = attach(&gateway, DESK, &format!("last-event-id: {last}\r\n")).await;
    assert_eq!(start, processed);
    assert_eq!(resumed.messages(1).await.0, ["m-2"]);
}

#[tokio::test]
async fn the_stream_that_is_taken_over_ends_with_the_reason() {
    let gateway = Gateway::start().await;
    let (mut first, generation, start) = attach(&gateway, DESK, "").await;
    let (_second, ..) = attach(&gateway, DESK, "").await;
    let end = first.next().await.unwrap();
    assert_eq!((end.kind.as_str(), &end.data["reason"]), ("end", &json!("SUBSCRIPTION_TAKEN_OVER")));
    assert_eq!(first.next().await, None);
    let (status, failure) = acknowledge(&gateway, "desk", &json!({"generation": generation, "cursor": start})).await;
    assert_eq!((status, &failure["reason"]), (409, &json!("SUBSCRIPTION_TAKEN_OVER")));
}

#[tokio::test]
async fn to_ask_for_the_headers_of_a_stream_attaches_nobody() {
    let gateway = Gateway::start().await;
    let (mut first, ..) = attach(&gateway, DESK, "").await;
    for name in ["desk", "other"] {
        let path = format!("/v1/notifications?subscription={name}&from=earliest&reset=true");
        let head = gateway.connect().await.ask("HEAD", &path, "").await;
        assert_eq!((head.status, head.header("content-type")), (200, Some("text/event-stream")), "{name}");
    }
    assert_eq!(gateway.connect().await.ask("HEAD", "/v1/notifications?from=nowhere", "").await.status, 400);
    send(&gateway, 0..1).await;
    assert_eq!(first.messages(1).await.0, ["m-0"]);
    assert_eq!(list(&gateway, "").await["subscriptions"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn names_are_listed_in_pages_and_deleted() {
    let gateway = Gateway::start().await;
    let (mut events, _, start) = attach(&gateway, DESK, "").await;
    drop(attach(&gateway, "?subscription=bot", "").await);
    send(&gateway, 0..1).await;
    let first = list(&gateway, "?pageSize=1").await;
    assert_eq!((&first["subscriptions"][0]["name"], &first["nextPageToken"]), (&json!("bot"), &json!("bot")));
    let second = list(&gateway, "?pageSize=1&pageToken=bot").await;
    let desk = &second["subscriptions"][0];
    let expected = json!({
        "name": "desk", "cursor": start, "createdAt": desk["createdAt"], "acknowledgedAt": null, "attached": true, "behind": 2,
        "expired": false,
    });
    assert_eq!((desk, &second["nextPageToken"]), (&expected, &Value::Null));
    assert_eq!(gateway.connect().await.ask("DELETE", "/v1/subscriptions/desk", "").await.status, 204);
    let end = loop {
        let event = events.next().await.unwrap();
        if event.kind == "end" {
            break event.data;
        }
    };
    assert_eq!(end["reason"], json!("SUBSCRIPTION_NOT_FOUND"));
    let again = gateway.connect().await.ask("DELETE", "/v1/subscriptions/desk", "").await;
    assert_eq!((again.status, &again.json()["reason"]), (404, &json!("SUBSCRIPTION_NOT_FOUND")));
    assert_eq!(list(&gateway, "").await["subscriptions"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn what_is_wrong_with_an_acknowledgement_is_said() {
    let gateway = Gateway::start().await;
    let (_events, generation, start) = attach(&gateway, DESK, "").await;
    for (body, problem) in [
        (json!({"cursor": start}), "body missing field `generation` at line 1 column "),
        (json!({"generation": generation}), "body missing field `cursor` at line 1 column "),
        (json!({"generation": "7", "cursor": start}), "body invalid type: string \"7\", expected u64 at line 1 column "),
        (json!({"generation": generation, "cursor": start, "x": 1}), "body unknown field `x`, expected `generation` or `cursor`"),
        (json!({"generation": generation, "cursor": "x"}), "cursor is no cursor that this gateway gave out"),
    ] {
        let (status, failure) = acknowledge(&gateway, "desk", &body).await;
        assert_eq!((status, &failure["reason"]), (400, &json!("INVALID_REQUEST")));
        let sentence = failure["markdownText"].as_str().unwrap();
        assert!(sentence.starts_with(problem), "{sentence}");
    }
    let (status, failure) = acknowledge(&gateway, "nobody", &json!({"generation": generation, "cursor": start})).await;
    assert_eq!((status, &failure["reason"]), (404, &json!("SUBSCRIPTION_NOT_FOUND")));
    let large = json!({"generation": generation, "cursor": "x".repeat(1025)});
    assert_eq!(acknowledge(&gateway, "desk", &large).await.0, 413);
    let text = gateway.connect().await.post_text("/v1/subscriptions/desk/acknowledge", "text/plain", "{}").await;
    assert_eq!(text.status, 415);
}
