//! Health, the description of the face, and HTTP itself.

use crate::gateway::Gateway;
use cim_gateway::readiness::Readiness;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use tokio::net::TcpStream;

#[tokio::test]
async fn health_says_alive_and_readiness_what_it_is_told() {
    let gateway = Gateway::start().await;
    let mut client = gateway.connect().await;
    assert_eq!(client.get("/readyz").await.json(), json!({"status": "ready"}));
    gateway.readiness.send_replace(Readiness::Rebuilding { done: 1, of: 2 });
    let answer = client.get("/readyz").await;
    assert_eq!((answer.status, answer.json()), (503, json!({"status": "rebuilding", "progress": {"done": 1, "of": 2}})));
    let answer = client.get("/healthz").await;
    assert_eq!((answer.status, answer.json()), (200, json!({"status": "alive"})));
}

#[tokio::test]
async fn head_has_the_headers_of_get_and_no_body() {
    let gateway = Gateway::start().await;
    let mut client = gateway.connect().await;
    for path in ["/healthz", "/openapi.json", "/v1/messages/none"] {
        let get = client.get(path).await;
        let head = client.ask("HEAD", path, "").await;
        assert_eq!((head.status, head.header("content-length")), (get.status, get.header("content-length")), "{path}");
    }
    let head = client.ask("HEAD", "/v1/notifications", "").await;
    assert_eq!((head.status, head.header("content-length")), (200, None), "a stream has no length");
}

#[tokio::test]
async fn the_description_is_served_as_it_is_written() {
    let gateway = Gateway::start().await;
    let answer = gateway.connect().await.get("/openapi.json").await;
    assert_eq!(answer.text(), include_str!("../../src/http/openapi.json"));
    assert_eq!(answer.json()["openapi"], json!("3.1.0"));
}

#[tokio::test]
async fn http_2_is_spoken_on_the_same_port() {
    let gateway = Gateway::start().await;
    let socket = TcpStream::connect(gateway.address).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(socket)).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = hyper::Request::get(format!("http://{}/healthz", gateway.address)).body(Empty::<Bytes>::new()).unwrap();
    let answer = sender.send_request(request).await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.version()), (200, hyper::Version::HTTP_2));
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(&body[..], br#"{"status":"alive"}"#);
    gateway.shutdown.cancel();
    gateway.served.await.unwrap();
    connection.await.unwrap().unwrap();
}

fn document() -> Value {
    serde_json::from_str(include_str!("../../src/http/openapi.json")).unwrap()
}

/// The documented keys of the objects of one schema.
fn keys<'d>(document: &'d Value, schema: &str) -> impl Iterator<Item = &'d String> {
    let properties = document["components"]["schemas"][schema]["properties"].as_object();
    properties.unwrap_or_else(|| panic!("{schema} has properties")).keys()
}

/// The schema of the bodies of one type.
fn body_schema<'d>(document: &'d Value, name: &Value) -> &'d str {
    let schemas = document["components"]["schemas"].as_object().unwrap();
    let describes = |schema: &Value| {
        let described = &schema["properties"]["type"];
        &described["const"] == name || described["enum"].as_array().is_some_and(|names| names.contains(name))
    };
    let found = schemas.iter().find(|(key, schema)| key.ends_with("Body") && describes(schema));
    found.map_or("GenericBody", |(key, _)| key.as_str())
}

/// Checks that what is written has every documented key, and no others than those and what the client sent.
fn agrees(document: &Value, schema: &str, written: &Value, sent: &Value) {
    let written = written.as_object().unwrap();
    // Written only when set.
    let missing = keys(document, schema).find(|key| *key != "additionalData" && !written.contains_key(*key));
    assert_eq!(missing, None, "{schema} documents a key that is not written");
    let surplus = written.keys().find(|key| !keys(document, schema).any(|known| known == *key) && sent.get(key).is_none());
    assert_eq!(surplus, None, "{schema} does not document a key that is written");
}

#[tokio::test]
async fn every_example_is_accepted_and_reads_back_with_the_documented_keys() {
    let gateway = Gateway::start().await;
    let mut client = gateway.connect().await;
    let document = document();
    let mut types = BTreeSet::new();
    for (name, example) in document["components"]["examples"].as_object().unwrap() {
        let sent = &example["value"];
        let answer = client.post("/ccm/message/receive", sent).await;
        assert_eq!(answer.status, 202, "{name}: {}", answer.text());
        let receipt = answer.json();
        agrees(&document, "Receipt", &with_all(&receipt), &Value::Null);

        let stored = client.get(&format!("/v1/messages/{}", receipt["messageId"].as_str().unwrap())).await.json();
        let message = &stored["message"];
        agrees(&document, "FollowedMessage", &stored, &Value::Null);
        agrees(&document, "CimMessage", message, sent);
        agrees(&document, "Header", &message["header"], &sent["header"]);
        agrees(&document, "Sender", &message["header"]["sender"], &sent["header"]["sender"]);
        agrees(&document, "ChannelData", &message["header"]["channelData"], &sent["header"]["channelData"]);
        if message["header"]["customer"].is_object() {
            agrees(&document, "Customer", &message["header"]["customer"], &sent["header"]["customer"]);
        }
        let schema = body_schema(&document, &sent["body"]["type"]);
        agrees(&document, schema, &message["body"], &sent["body"]);
        types.insert(schema);
    }
    let documented = document["components"]["schemas"]["Body"]["oneOf"].as_array().unwrap();
    let documented = documented.iter().map(|schema| schema["$ref"].as_str().unwrap().rsplit('/').next().unwrap());
    assert_eq!(types, documented.collect(), "every type of body has an example");
}

/// A receipt with the keys that only some have.
fn with_all(receipt: &Value) -> Value {
    let mut all = json!({"submittedId": "", "duplicate": true});
    all.as_object_mut().unwrap().extend(receipt.as_object().unwrap().clone());
    all
}
