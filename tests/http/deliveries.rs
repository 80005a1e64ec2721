//! Deliveries that are not settled: the same as by gRPC.

use crate::client::Answer;
use crate::gateway::Gateway;
use axum::Router;
use axum::http::StatusCode;
use serde_json::{Value, json};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

/// A connector that answers with a status, which can be changed.
struct Connector {
    uri: String,
    status: Arc<AtomicU16>,
    /// The ids of the deliveries that it was called with.
    calls: mpsc::UnboundedReceiver<String>,
}

impl Connector {
    async fn answering(status: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let uri = format!("http://{}", listener.local_addr().unwrap());
        let status = Arc::new(AtomicU16::new(status));
        let (called, calls) = mpsc::unbounded_channel();
        let answer = status.clone();
        let router = Router::new().fallback(async move |headers: axum::http::HeaderMap| {
            called.send(headers["webhook-id"].to_str().unwrap().to_owned()).unwrap();
            StatusCode::from_u16(answer.load(Ordering::Acquire)).unwrap()
        });
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { uri, status, calls }
    }

    async fn call(&mut self) -> String {
        self.calls.recv().await.unwrap()
    }
}

async fn get(gateway: &Gateway, path: &str) -> (u16, Value) {
    let answer = gateway.connect().await.get(path).await;
    (answer.status, answer.json())
}

async fn post(gateway: &Gateway, path: &str, body: &Value) -> Answer {
    gateway.connect().await.post(path, body).await
}

/// Registers a channel.
async fn register(gateway: &Gateway, name: &str, uri: &str) -> String {
    let channel = json!({"serviceIdentifier": name, "channelType": "WEB", "connector": {"uri": uri}});
    let answer = post(gateway, "/v1/channels", &channel).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    answer.json()["id"].as_str().unwrap().to_owned()
}

/// What an agent says to the customer `ada`.
async fn say(gateway: &Gateway, channel: &str, id: &str) {
    let message = json!({
        "id": id,
        "header": {
            "sender": {"id": "agent-1", "type": "AGENT", "senderName": "Grace"},
            "channelData": {"channelCustomerIdentifier": "ada", "serviceIdentifier": channel},
            "timestamp": 1_677_151_053_951_i64,
        },
        "body": {"type": "PLAIN", "markdownText": "hi"},
    });
    gateway.accept(&message).await;
}

/// The deliveries that a query lists, page by page.
async fn listed(gateway: &Gateway, query: &str) -> Vec<Value> {
    let (mut found, mut token) = (Vec::new(), String::new());
    loop {
        let (status, page) = get(gateway, &format!("/v1/deliveries?pageSize=2{query}{token}")).await;
        assert_eq!(status, 200, "{page}");
        found.extend(page["deliveries"].as_array().unwrap().iter().cloned());
        let Some(next) = page["nextPageToken"].as_str() else { return found };
        token = format!("&pageToken={next}");
    }
}

/// Waits until there are so many dead letters.
async fn dead(gateway: &Gateway, count: usize) -> Vec<Value> {
    let waiting = async {
        loop {
            let found = listed(gateway, "&state=DEAD").await;
            if found.len() == count {
                return found;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), waiting).await.expect("they are given up")
}

fn ids(deliveries: &[Value]) -> Vec<&str> {
    deliveries.iter().map(|delivery| delivery["messageId"].as_str().unwrap_or_default()).collect()
}

#[tokio::test]
async fn a_dead_letter_is_shown_and_redriven() {
    let mut connector = Connector::answering(400).await;
    let gateway = Gateway::delivering().await;
    let channel = register(&gateway, "shop", &connector.uri).await;
    say(&gateway, "shop", "m-1").await;
    // The notice that the session has started is one, too.
    let letters = dead(&gateway, 2).await;
    let (_, letter) = (connector.call().await, &letters[1]);
    let id = connector.call().await;
    let expected = json!({
        "id": id, "messageId": "m-1", "channelId": channel, "endpoint": "CONNECTOR", "state": "DEAD", "attempts": 1, "dueTime": null,
        "acceptedAt": letter["acceptedAt"], "held": false,
    });
    assert_eq!(letter, &expected);
    assert!(letter["acceptedAt"].as_str().unwrap().ends_with('Z'));
    let (status, found) = get(&gateway, &format!("/v1/deliveries/{id}")).await;
    assert_eq!((status, &found["delivery"]), (200, &expected));
    let [attempt] = found["attempts"].as_array().unwrap().as_slice() else { panic!("there is one: {found}") };
    assert_eq!((&attempt["status"], &attempt["failure"], &attempt["answer"]), (&json!(400), &Value::Null, &Value::Null));
    assert!(attempt["time"].is_string() && attempt["duration"].is_string());

    connector.status.store(200, Ordering::Release);
    let redrive = format!("/v1/deliveries/{id}/redrive");
    let answer = post(&gateway, &redrive, &json!({})).await;
    let redriven = answer.json();
    assert_eq!((answer.status, &redriven["state"], &redriven["messageId"]), (200, &json!("PENDING"), &json!("m-1")));
    assert_eq!(json!(connector.call().await), redriven["id"]);
    assert_ne!(redriven["id"], json!(id));
    let again = post(&gateway, &redrive, &json!({})).await;
    assert_eq!((again.status, &again.json()["reason"]), (404, &json!("DELIVERY_NOT_FOUND")));
}

#[tokio::test]
async fn dead_letters_of_a_channel_and_of_a_time_are_redriven_together() {
    let mut connector = Connector::answering(400).await;
    let gateway = Gateway::delivering().await;
    let shop = register(&gateway, "shop", &connector.uri).await;
    register(&gateway, "help", &connector.uri).await;
    say(&gateway, "shop", "m-1").await;
    say(&gateway, "help", "m-2").await;
    let letters = dead(&gateway, 4).await;
    let of_shop = listed(&gateway, &format!("&state=DEAD&channelId={shop}")).await;
    assert_eq!(of_shop.len(), 2);
    connector.status.store(200, Ordering::Release);
    for _ in 0..4 {
        connector.call().await;
    }
    let redrive = async |body: Value| post(&gateway, "/v1/deliveries/redrive", &body).await.json();
    let none = json!({"redriven": 0, "more": false});
    assert_eq!(redrive(json!({"acceptedBefore": of_shop[0]["acceptedAt"], "channelId": shop})).await, none);
    assert_eq!(redrive(json!({"acceptedSince": "2999-01-01T00:00:00Z"})).await, none);
    assert_eq!(redrive(json!({"channelId": shop, "acceptedSince": "2020-01-01"})).await, json!({"redriven": 2, "more": false}));
    let left = dead(&gateway, 2).await;
    assert_eq!(ids(&left), ids(&letters[2..]));
    assert_eq!(redrive(json!({})).await, json!({"redriven": 2, "more": false}));
    dead(&gateway, 0).await;
}

#[tokio::test]
async fn deliveries_of_a_channel_and_of_a_time_are_discarded_together() {
    // It delivers nothing, so that what is planned stays open.
    let gateway = Gateway::start().await;
    let shop = register(&gateway, "shop", "https://connector.example").await;
    register(&gateway, "help", "https://connector.example").await;
    for (channel, id) in [("shop", "m-1"), ("help", "m-2"), ("shop", "m-3")] {
        say(&gateway, channel, id).await;
    }
    let open = listed(&gateway, "").await;
    assert_eq!(open.len(), 5, "two are notices that a session has started");
    let discard = async |body: Value| post(&gateway, "/v1/deliveries/discard", &body).await.json();
    let none = json!({"discarded": 0, "more": false});
    assert_eq!(discard(json!({"states": ["HELD", "DEAD"]})).await, none, "nothing is");
    assert_eq!(discard(json!({"states": ["OPEN"], "acceptedSince": "2999-01-01T00:00:00Z"})).await, none);
    assert_eq!(discard(json!({"states": ["OPEN"], "acceptedBefore": "2020-01-01"})).await, none);
    assert_eq!(listed(&gateway, "").await, open);
    let of_shop = json!({"states": ["OPEN", "HELD"], "channelId": shop, "acceptedSince": "2020-01-01"});
    assert_eq!(discard(of_shop).await, json!({"discarded": 3, "more": false}));
    assert_eq!(ids(&listed(&gateway, "").await)[1..], ["m-2"]);
    assert_eq!(discard(json!({"states": ["OPEN"]})).await, json!({"discarded": 2, "more": false}));
    assert!(listed(&gateway, "").await.is_empty());
    let (_, message) = get(&gateway, "/v1/messages/m-3").await;
    let states: Vec<_> = message["timeline"].as_array().unwrap().iter().map(|event| &event["delivery"]["state"]).collect();
    assert_eq!(states, ["DISCARDED"]);
}

#[tokio::test]
async fn an_open_delivery_is_listed_and_discarded() {
    // It delivers nothing, so that what is planned stays open.
    let gateway = Gateway::start().await;
    let channel = register(&gateway, "shop", "https://connector.example").await;
    for id in ["m-1", "m-2", "m-3"] {
        say(&gateway, "shop", id).await;
    }
    let open = listed(&gateway, "").await;
    assert_eq!(ids(&open)[1..], ["m-1", "m-2", "m-3"]);
    assert_eq!(listed(&gateway, &format!("&channelId={channel}&state=PENDING")).await, open);
    assert!(listed(&gateway, "&state=PARKED").await.is_empty() && listed(&gateway, "&channelId=other").await.is_empty());
    assert!(listed(&gateway, "&state=DEAD").await.is_empty());

    let id = open[2]["id"].as_str().unwrap();
    let redriven = post(&gateway, &format!("/v1/deliveries/{id}/redrive"), &json!({})).await;
    assert_eq!((redriven.status, &redriven.json()["reason"]), (409, &json!("DELIVERY_NOT_DEAD")));
    let discard = format!("/v1/deliveries/{id}/discard");
    assert_eq!(post(&gateway, &discard, &json!({})).await.status, 204);
    assert_eq!(ids(&listed(&gateway, "").await)[1..], ["m-1", "m-3"]);
    let again = post(&gateway, &discard, &json!({})).await;
    assert_eq!((again.status, &again.json()["reason"]), (404, &json!("DELIVERY_NOT_FOUND")));
    assert_eq!(get(&gateway, &format!("/v1/deliveries/{id}")).await.0, 404);
    for _ in 0..2 {
        assert_eq!(post(&gateway, "/v1/deliveries/release", &json!({})).await.status, 204, "nothing is held: nothing happens");
    }
}

#[tokio::test]
async fn what_is_wrong_is_said() {
    let gateway = Gateway::start().await;
    for (query, problem) in [
        ("state=LOST", "state needs one of PENDING, PARKED, DEAD, found \"LOST\""),
        ("pageSize=11", "pageSize needs a whole number from 1 to 10, found \"11\""),
        ("pageToken=x", "pageToken names no delivery of this gateway"),
        ("color=red", "query has the unknown parameter \"color\"; known are state, channelId, pageSize, pageToken"),
    ] {
        let (status, failure) = get(&gateway, &format!("/v1/deliveries?{query}")).await;
        assert_eq!((status, failure["markdownText"].as_str().unwrap()), (400, problem));
    }
    for (body, problem) in [
        (json!({"acceptedSince": "soon"}), "acceptedSince needs epoch milliseconds or an ISO 8601 time, found \"soon\""),
        (json!({"channel": "1"}), "body unknown field `channel`, expected one of `channelId`, `acceptedSince`, `acceptedBefore`"),
    ] {
        let answer = post(&gateway, "/v1/deliveries/redrive", &body).await;
        let (status, failure) = (answer.status, answer.json());
        let text = failure["markdownText"].as_str().unwrap();
        assert!(status == 400 && text.starts_with(problem), "{text}");
    }
    for (body, problem) in [
        (json!({}), "body missing field `states`"),
        (json!({"states": []}), "states needs at least one of HELD, OPEN, DEAD"),
        (json!({"states": ["DEAD", "LOST"]}), "states needs one of HELD, OPEN, DEAD, found \"LOST\""),
        (json!({"states": ["DEAD"], "acceptedBefore": "soon"}), "acceptedBefore needs epoch milliseconds or an ISO 8601 time"),
        (json!({"states": ["DEAD"], "channel": "1"}), "body unknown field `channel`"),
    ] {
        let answer = post(&gateway, "/v1/deliveries/discard", &body).await;
        let (status, failure) = (answer.status, answer.json());
        let text = failure["markdownText"].as_str().unwrap();
        assert!(status == 400 && text.starts_with(problem), "{text}");
    }
    for path in
        ["redrive", "discard", "release", "lost/redrive", "lost/discard"].map(|decision| format!("/v1/deliveries/{decision}"))
    {
        let path = path.as_str();
        // A page of a browser may send this without asking.
        let form = gateway.connect().await.post_text(path, "text/plain", "{}").await;
        assert_eq!((form.status, &form.json()["reason"]), (415, &json!("UNSUPPORTED_MEDIA_TYPE")), "{path}");
        let large = post(&gateway, path, &json!({"channelId": "x".repeat(4096)})).await;
        assert_eq!(large.status, 413, "{path}");
    }
    assert_eq!(get(&gateway, "/v1/deliveries/lost").await.1["reason"], json!("DELIVERY_NOT_FOUND"));
}
