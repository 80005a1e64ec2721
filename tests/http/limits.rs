//! Clients that are slow, greedy or gone.

use crate::client::{Client, request};
use crate::gateway::{Gateway, MESSAGE_BYTES, connections, plain, settings};
use cim_gateway::http::Settings;
use cim_gateway::listener;
use serde_json::json;
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;

const SHORT: Duration = Duration::from_millis(300);
/// How long the chart's probes wait for an answer.
const PROBES_PATIENCE: Duration = Duration::from_secs(3);
const JSON: &str = "content-type: application/json\r\n";

/// A gateway that soon loses patience.
async fn impatient() -> Gateway {
    let connections = listener::Settings { header_timeout: SHORT, ..connections() };
    Gateway::with_connections(Settings { body_timeout: SHORT, ..settings() }, connections).await
}

#[tokio::test]
async fn a_message_may_be_as_large_as_the_bound_and_no_larger() {
    let gateway = Gateway::start().await;
    let shell = plain(None, "visitor", "").to_string().len();
    // As protobuf it is smaller than as JSON, so the bound on what is received is the one that counts.
    let largest = plain(None, "visitor", &"x".repeat(MESSAGE_BYTES - shell));
    assert_eq!(largest.to_string().len(), MESSAGE_BYTES);
    gateway.accept(&largest).await;
    let larger = plain(None, "visitor", &"x".repeat(MESSAGE_BYTES - shell + 1));
    let answer = gateway.connect().await.post("/message", &larger).await;
    assert_eq!((answer.status, &answer.json()["reason"]), (413, &json!("MESSAGE_TOO_LARGE")));
    assert_eq!(answer.header("connection"), Some("close"));
}

#[tokio::test]
async fn a_body_that_is_announced_too_large_is_refused_unread() {
    let gateway = Gateway::start().await;
    let mut client = gateway.connect().await;
    let head = format!("{JSON}content-length: {}\r\n", 10 << 20);
    client.send(request("POST", "/message", &head).as_bytes()).await;
    assert_eq!(client.answer().await.status, 413);
    client.rest().await;
}

#[tokio::test]
async fn a_client_that_sends_too_much_first_and_reads_then_gets_its_answer() {
    let gateway = Gateway::start().await;
    let answer = gateway.connect().await.post_text("/message", "application/json", vec![b' '; 10 << 20]).await;
    assert_eq!(answer.status, 413);
}

#[tokio::test]
async fn an_unannounced_body_is_refused_where_it_grows_too_large() {
    let gateway = Gateway::start().await;
    let mut client = gateway.connect().await;
    client.send(request("POST", "/message", &format!("{JSON}transfer-encoding: chunked\r\n")).as_bytes()).await;
    let chunk = [format!("{MESSAGE_BYTES:x}\r\n").as_bytes(), &vec![b' '; MESSAGE_BYTES], b"\r\n"].concat();
    client.send(&chunk).await;
    client.send(b"1\r\n").await;
    client.send(b" \r\n").await;
    assert_eq!(client.answer().await.status, 413);
}

#[tokio::test]
async fn a_silent_client_is_cut_off() {
    let gateway = impatient().await;
    assert_eq!(gateway.connect().await.rest().await, b"");
}

#[tokio::test]
async fn a_client_that_stops_within_its_headers_is_cut_off() {
    let gateway = impatient().await;
    for start in ["P", "PRI * HTTP/2.0\r\n", "POST /message HT", "POST /message HTTP/1.1\r\nhost: gateway\r\nx-slow: "] {
        let mut client = gateway.connect().await;
        client.send(start.as_bytes()).await;
        assert_eq!(client.rest().await, b"", "{start:?}");
    }
}

#[tokio::test]
async fn a_client_that_drips_its_headers_is_cut_off() {
    let gateway = impatient().await;
    let mut client = gateway.connect().await;
    client.send(b"GET /healthz HTTP/1.1\r\n").await;
    let mut ticks = tokio::time::interval(SHORT / 10);
    let mut sent = 0;
    // Each header is in time, all together never are.
    while client.socket.get_mut().write_all(b"x-drip: 1\r\n").await.is_ok() {
        sent += 1;
        assert!(sent < 10_000, "the client was never cut off");
        ticks.tick().await;
    }
}

#[tokio::test]
async fn a_connection_that_is_idle_for_long_is_closed() {
    let gateway = impatient().await;
    let mut client = gateway.connect().await;
    assert_eq!(client.get("/healthz").await.status, 200);
    assert_eq!(client.rest().await, b"");
}

#[tokio::test]
async fn a_body_that_stops_is_answered_with_a_timeout() {
    let gateway = impatient().await;
    let mut client = gateway.connect().await;
    client.send(request("POST", "/message", &format!("{JSON}content-length: 100\r\n")).as_bytes()).await;
    client.send(b"{\"id\":").await;
    let answer = client.answer().await;
    assert_eq!((answer.status, &answer.json()["reason"]), (408, &json!("BODY_TIMEOUT")));
    assert_eq!(client.rest().await, b"");
}

#[tokio::test]
async fn a_client_that_leaves_within_its_body_leaves_nothing_behind() {
    let gateway = Gateway::with_connections(settings(), listener::Settings { max_connections: 1, ..connections() }).await;
    let mut client = gateway.connect().await;
    client.send(request("POST", "/message", &format!("{JSON}content-length: 1000\r\n")).as_bytes()).await;
    client.send(b"{\"id\":").await;
    drop(client);
    // There is one place only: it is free again.
    gateway.accept(&plain(Some("m-1"), "visitor", "hello")).await;
}

/// A gateway of one connection, and who has that.
async fn full() -> (Gateway, Client) {
    let gateway = Gateway::with_connections(settings(), listener::Settings { max_connections: 1, ..connections() }).await;
    let mut first = gateway.connect().await;
    assert_eq!(first.get("/healthz").await.status, 200);
    (gateway, first)
}

#[tokio::test]
async fn a_gateway_that_is_full_answers_probes_and_tells_everybody_else_to_come_again() {
    let (gateway, mut first) = full().await;
    for path in ["/healthz", "/readyz", "/metrics"] {
        let mut probe = gateway.connect().await;
        let answer = probe.get(path).await;
        assert_eq!((answer.status, answer.header("connection")), (200, Some("close")), "{path}");
        assert_eq!(probe.rest().await, b"");
    }
    let mut second = gateway.connect().await;
    let answer = second.post("/message", &plain(Some("m-1"), "visitor", "hello")).await;
    assert_eq!((answer.status, &answer.json()["reason"]), (503, &json!("TOO_MANY_CONNECTIONS")));
    assert_eq!((answer.header("retry-after"), answer.header("connection")), (Some("1"), Some("close")));
    assert_eq!(second.rest().await, b"");
    let refused = r#"cim_requests_total{face="http",method="POST other",code="503"} 1"#;
    let metrics = first.get("/metrics").await;
    assert!(metrics.text().contains(refused), "{}", metrics.text());
    assert_eq!(first.get("/v1/messages/m-1").await.status, 404);
}

#[tokio::test]
async fn one_connection_too_many_waits_for_its_place_and_keeps_that() {
    let (gateway, first) = full().await;
    let mut second = gateway.connect().await;
    second.send(request("GET", "/v1/messages/none", "").as_bytes()).await;
    assert!(tokio::time::timeout(SHORT, second.head()).await.is_err(), "it was served beside the first");
    drop(first);
    assert_eq!(second.answer().await.status, 404);
    let answer = second.get("/healthz").await;
    assert_eq!((answer.status, answer.header("connection")), (200, None));
    assert_eq!(gateway.connect().await.get("/v1/messages/none").await.status, 503);
}

#[tokio::test]
async fn who_connects_to_a_gateway_that_is_full_and_says_little_is_in_no_probes_way() {
    let (gateway, _first) = full().await;
    let mut silent = Vec::new();
    for said in ["", "G"].repeat(150) {
        let mut client = gateway.connect().await;
        client.send(said.as_bytes()).await;
        silent.push(client);
    }
    let answer = tokio::time::timeout(PROBES_PATIENCE, async { gateway.connect().await.get("/healthz").await }).await;
    assert_eq!(answer.expect("in time").status, 200);
    // Nor is it there for long.
    for mut silent in silent {
        assert_eq!(silent.rest().await, b"");
    }
}

#[tokio::test]
async fn headers_that_never_end_are_refused() {
    let gateway = Gateway::start().await;
    let mut client = gateway.connect().await;
    client.send(b"GET /healthz HTTP/1.1\r\n").await;
    let line = format!("x-long: {}\r\n", "x".repeat(8000));
    while client.socket.get_mut().write_all(line.as_bytes()).await.is_ok() {}
}

#[tokio::test]
async fn a_shutdown_lets_a_request_in_flight_finish_and_closes_idle_connections() {
    let gateway = Gateway::start().await;
    let mut idle = gateway.connect().await;
    assert_eq!(idle.get("/healthz").await.status, 200);
    let mut busy = gateway.connect().await;
    let text = plain(Some("m-1"), "visitor", "hello").to_string();
    let (start, end) = text.split_at(20);
    // It asks to go on, so its answer tells that the request has begun.
    let head = format!("{JSON}expect: 100-continue\r\ncontent-length: {}\r\n", text.len());
    busy.send(request("POST", "/message", &head).as_bytes()).await;
    assert_eq!(busy.head().await.status, 100);
    busy.send(start.as_bytes()).await;

    gateway.shutdown.cancel();
    assert_eq!(idle.rest().await, b"");
    busy.send(end.as_bytes()).await;
    assert_eq!(busy.answer().await.status, 202);
    assert_eq!(busy.rest().await, b"");
    gateway.served.await.unwrap();
    assert!(tokio::net::TcpStream::connect(gateway.address).await.is_err());
}

#[tokio::test]
async fn requests_may_share_a_connection_by_pipelining() {
    let gateway = Gateway::start().await;
    let mut client: Client = gateway.connect().await;
    client.send(request("GET", "/healthz", "").repeat(3).as_bytes()).await;
    for _ in 0..3 {
        assert_eq!(client.answer().await.json(), json!({"status": "alive"}));
    }
}
