//! What a receiver sees.

use crate::support::*;
use cim_gateway::webhook::{Id, Post, Secret, TraceParent, sign};
use hyper::HeaderMap;
use hyper::header::HeaderValue;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;

/// A receiver that hands over what it gets.
async fn listening() -> (Receiver, mpsc::UnboundedReceiver<Request>) {
    let (got, requests) = mpsc::unbounded_channel();
    let receiver = Receiver::doing(move |mut stream, _| {
        let got = got.clone();
        async move {
            while let Some(request) = read_request(&mut stream).await {
                got.send(request).unwrap();
                stream.write_all(OK).await.unwrap();
            }
        }
    })
    .await;
    (receiver, requests)
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

async fn see(secrets: &[Secret], headers: HeaderMap, trace: TraceParent) -> (Request, u16) {
    let (receiver, mut requests) = listening().await;
    let id = Id::new("6f9619ff-8b86-d011-b42d-00c04fc964ff").unwrap();
    let post = Post {
        url: &receiver.url_as("http", "127.0.0.1", "/cim?token=a%20b"),
        id: &id,
        content_type: HeaderValue::from_static("application/json"),
        body: r#"{"id": 1}"#.into(),
        secrets,
        trace,
        headers,
        timeout: None,
    };
    soon("the answer", client().post(post)).await.unwrap();
    (soon("the request", requests.recv()).await.unwrap(), receiver.port())
}

#[tokio::test]
async fn a_receiver_sees_a_post_with_all_that_it_needs() {
    let secrets = ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"];
    let secrets = secrets.map(|text| Secret::parse(text).unwrap());
    let trace = TraceParent::new();
    let mut headers = HeaderMap::new();
    headers.insert("cim-late", HeaderValue::from_static("true"));
    let before = now();
    let (request, port) = see(&secrets, headers, trace).await;

    assert_eq!(request.head.lines().next(), Some("POST /cim?token=a%20b HTTP/1.1"));
    assert_eq!(request.body, br#"{"id": 1}"#);
    assert_eq!(request.header("host"), format!("127.0.0.1:{port}"));
    assert_eq!(request.header("content-type"), "application/json");
    assert_eq!(request.header("user-agent"), concat!("cim-gateway/", env!("CARGO_PKG_VERSION")));
    assert_eq!(request.header("cim-late"), "true");
    assert_eq!(request.header("traceparent"), trace.to_string());
    assert_eq!(request.header("webhook-id"), "6f9619ff-8b86-d011-b42d-00c04fc964ff");
    let timestamp: u64 = request.header("webhook-timestamp").parse().unwrap();
    assert!((before..=now()).contains(&timestamp), "{timestamp}");
    let id = Id::new(request.header("webhook-id")).unwrap();
    assert_eq!(request.header("webhook-signature"), sign(&secrets, &id, timestamp, &request.body));
    assert_eq!(request.header("webhook-signature").split(' ').count(), 2);
}

#[tokio::test]
async fn without_a_secret_nothing_is_signed() {
    let (request, _) = see(&[], HeaderMap::new(), TraceParent::new()).await;
    assert_eq!(request.all("webhook-signature"), Vec::<&str>::new());
}

#[tokio::test]
async fn further_headers_replace_none_that_the_client_sets() {
    let trace = TraceParent::new();
    let mut headers = HeaderMap::new();
    for name in [
        "host",
        "content-length",
        "transfer-encoding",
        "connection",
        "upgrade",
        "expect",
        "te",
        "trailer",
        "content-type",
        "user-agent",
        "webhook-id",
        "webhook-timestamp",
        "webhook-signature",
        "traceparent",
    ] {
        headers.append(name, HeaderValue::from_static("forged"));
        headers.append(name, HeaderValue::from_static("forged"));
    }
    let (request, _) = see(&[], headers, trace).await;
    assert!(!request.head.contains("forged"), "{}", request.head);
    assert_eq!(request.header("content-length"), "9");
    assert_eq!(request.header("traceparent"), trace.to_string());
}

#[tokio::test]
async fn an_empty_body_is_sent_with_its_length() {
    let (receiver, mut requests) = listening().await;
    post_body(&client(), &receiver.url(), "").await.unwrap();
    assert_eq!(soon("the request", requests.recv()).await.unwrap().header("content-length"), "0");
}

#[test]
fn what_is_sent_does_not_show_what_only_its_receiver_should_see() {
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let post = Post {
        url: &url("https://connector.example/cim?token=hidden"),
        id: &Id::new("delivery-1").unwrap(),
        content_type: HeaderValue::from_static("application/json"),
        body: "hidden".into(),
        secrets: &[Secret::parse(secret).unwrap()],
        trace: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".parse().unwrap(),
        headers: HeaderMap::from_iter([(hyper::header::AUTHORIZATION, HeaderValue::from_static("hidden"))]),
        timeout: None,
    };
    let shown = format!("{post:?}");
    assert!(shown.contains("authorization") && shown.contains("body_bytes: 6") && shown.contains("secrets: 1"), "{shown}");
    assert!(!shown.contains("hidden") && !shown.contains("MfKQ"), "{shown}");
}
