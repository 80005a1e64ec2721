//! Connections: how many, for how long, and what becomes of those that nobody uses.

use crate::support::gateway::Gateway;
use crate::support::messages::{hello, latest};
use crate::support::proxy::Proxy;
use crate::support::raw::{PREFACE, Raw, kind};
use crate::support::{assert_refused, eventually, soon};
use cim_gateway::pb::SubscribeNotificationsRequest;
use prost::Message as _;
use std::time::{Duration, Instant};
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

#[tokio::test]
async fn a_connection_that_does_not_say_what_it_wants_is_closed_and_harms_nobody() {
    let gateway = Gateway::set("grpc.keepalive_timeout", "1s").start().await;
    let client = gateway.client().await;
    let started = Instant::now();
    let beginnings = [&b""[..], b"P", &PREFACE[..12], b"POST /cim.v1.MessageService/SendMessage HTTP/1.1\r\nhost: gate"];
    let mut silent = Vec::new();
    for beginning in beginnings {
        let mut raw = Raw::to(gateway.grpc).await;
        raw.send(beginning).await;
        silent.push(raw);
    }
    client.send(hello("meanwhile")).await;
    for mut raw in silent {
        let said = raw.rest().await;
        assert!(said.is_empty() || said.starts_with(b"HTTP/1.1 408"), "{}", String::from_utf8_lossy(&said));
    }
    let waited = started.elapsed();
    assert!((Duration::from_secs(1)..Duration::from_secs(20)).contains(&waited), "{waited:?}");
    client.send(hello("afterwards")).await;
}

#[tokio::test]
async fn what_is_not_http_at_all_is_answered_so_or_closed() {
    let gateway = Gateway::start().await;
    for garbage in [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], b"GET\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n"] {
        let mut raw = Raw::to(gateway.grpc).await;
        raw.send(garbage).await;
        let said = raw.rest().await;
        assert!(said.is_empty() || said.starts_with(b"HTTP/1.1 4"), "{}", String::from_utf8_lossy(&said));
    }
    let mut raw = Raw::http2(gateway.grpc).await;
    raw.send(&[0xff; 64]).await;
    let said = raw.rest().await;
    assert!(!said.is_empty(), "HTTP/2 says goodbye");
    gateway.client().await.send(hello("afterwards")).await;
}

#[tokio::test]
async fn an_answer_arrives_although_the_client_is_still_sending() {
    let gateway = Gateway::start().await;
    let mut raw = Raw::to(gateway.grpc).await;
    raw.send(b"POST / HTTP/1.1\r\nhost: gateway\r\ncontent-type: text/plain\r\ncontent-length: 3000000\r\n\r\n").await;
    for _ in 0..300 {
        raw.send(&[b'x'; 10_000]).await;
    }
    let said = raw.rest().await;
    assert!(said.starts_with(b"HTTP/1.1 400"), "{}", String::from_utf8_lossy(&said));
}

#[tokio::test]
async fn a_client_that_does_not_answer_pings_is_disconnected() {
    let gateway = Gateway::set("grpc.keepalive_interval", "1s").set("grpc.keepalive_timeout", "1s").start().await;
    let mut raw = Raw::http2(gateway.grpc).await;
    let answering = gateway.client().await;
    let mut events = answering.subscribe(latest()).await;
    let connected = Instant::now();
    raw.rest().await;
    assert!(connected.elapsed() >= Duration::from_millis(1900), "{:?}", connected.elapsed());
    answering.send(hello("still here")).await;
    assert_eq!(events.until("still here").await, ["CHANNEL_SESSION_STARTED"]);
}

/// The network says nothing of a client whose cable is cut: only that pings go unanswered tells.
#[tokio::test]
async fn the_place_of_a_subscriber_that_vanished_is_free_again() {
    let settings = Gateway::set("grpc.keepalive_interval", "1s").set("grpc.keepalive_timeout", "1s").set("feed.max_streams", 1);
    let gateway = settings.start().await;
    let proxy = Proxy::to(gateway.grpc).await;
    let vanishing = proxy.client_that_breaks_after(usize::MAX).await;
    let _events = vanishing.subscribe(latest()).await;
    proxy.freeze();
    let client = gateway.client().await;
    eventually("the place to be free", async || client.try_subscribe(latest()).await.ok()).await;
}

#[tokio::test]
async fn streams_beyond_the_bound_are_refused_and_a_dropped_one_makes_room() {
    let gateway = Gateway::set("feed.max_streams", 2).start().await;
    let client = gateway.client().await;
    let first = client.subscribe(latest()).await;
    let _second = gateway.client().await.subscribe(latest()).await;
    let status = client.try_subscribe(latest()).await.unwrap_err();
    assert_refused(&status, Code::ResourceExhausted, "TOO_MANY_STREAMS");
    client.send(hello("calls are no streams")).await;
    drop(first);
    let _third = eventually("the place to be free", async || client.try_subscribe(latest()).await.ok()).await;
    let status = client.try_subscribe(latest()).await.unwrap_err();
    assert_refused(&status, Code::ResourceExhausted, "TOO_MANY_STREAMS");
}

#[tokio::test]
async fn connections_beyond_the_bound_are_told_their_health_and_served_once_there_is_a_place() {
    let gateway = Gateway::set("grpc.max_connections", 2).start().await;
    let mut first = Raw::http2(gateway.grpc).await;
    first.frame_of(kind::SETTINGS, 0).await;
    let client = gateway.client().await;
    client.send(hello("served")).await;
    for service in ["", "startup", "liveness"] {
        let mut health = HealthClient::new(gateway.client().await.channel);
        let request = HealthCheckRequest { service: service.into() };
        let checked = soon("health", health.check(request)).await.expect("is told").into_inner();
        assert_eq!(checked.status(), ServingStatus::Serving, "{service}");
    }
    let third = gateway.client().await;
    assert_refused(&third.refused(hello("beyond")).await, Code::Unavailable, "TOO_MANY_CONNECTIONS");
    let waiting = tokio::spawn({
        let fourth = gateway.client().await;
        async move {
            fourth.send(hello("in its place")).await;
            fourth
        }
    });
    drop(first);
    let fourth = soon("the fourth connection", waiting).await.expect("is served");
    fourth.send(hello("and goes on")).await;
    assert_refused(&gateway.client().await.refused(hello("beyond")).await, Code::Unavailable, "TOO_MANY_CONNECTIONS");
}

/// Numbers of the settings of HTTP/2 (RFC 9113, 6.5.2).
const MAX_CONCURRENT_STREAMS: u16 = 3;
const INITIAL_WINDOW_SIZE: u16 = 4;
const MAX_HEADER_LIST_SIZE: u16 = 6;

#[tokio::test]
async fn a_client_is_told_the_limits_of_its_connection() {
    let settings = Gateway::set("grpc.max_concurrent_streams", 7)
        .set("grpc.initial_stream_window", "128 KiB")
        .set("grpc.initial_connection_window", "256 KiB")
        .set("grpc.max_header_list", "4 KiB");
    let gateway = settings.start().await;
    let mut raw = Raw::http2(gateway.grpc).await;
    let told = raw.frame_of(kind::SETTINGS, 0).await.settings();
    for expected in [(MAX_CONCURRENT_STREAMS, 7), (INITIAL_WINDOW_SIZE, 128 * 1024), (MAX_HEADER_LIST_SIZE, 4096)] {
        assert!(told.contains(&expected), "{expected:?} is not in {told:?}");
    }
    // Every connection begins with a window of 65,535 bytes.
    assert_eq!(raw.frame_of(kind::WINDOW_UPDATE, 0).await.number(), 256 * 1024 - 65_535);
}

#[tokio::test]
async fn calls_beyond_the_bound_of_a_connection_are_refused_for_the_client_to_repeat() {
    const REFUSED_STREAM: u32 = 7;
    let gateway = Gateway::set("grpc.max_concurrent_streams", 2).start().await;
    let mut raw = Raw::http2(gateway.grpc).await;
    let subscription = SubscribeNotificationsRequest::default().encode_to_vec();
    for stream in [1, 3, 5] {
        raw.call(stream, "SubscribeNotifications", Some(&subscription)).await;
    }
    assert_eq!(raw.frame_of(kind::RST_STREAM, 5).await.number(), REFUSED_STREAM);
    // A client that keeps to the bound queues what is beyond it.
    let client = gateway.client().await;
    let first = client.subscribe(latest()).await;
    let mut second = client.subscribe(latest()).await;
    let queued = tokio::spawn({
        let client = client.clone();
        async move { client.send(hello("queued")).await }
    });
    let other = gateway.client().await;
    other.send(hello("of another connection")).await;
    assert_eq!(second.until("of another connection").await, ["CHANNEL_SESSION_STARTED"]);
    assert!(!queued.is_finished());
    drop(first);
    soon("the queued call", queued).await.unwrap();
    assert_eq!(second.said().await, "queued");
}

#[tokio::test]
async fn headers_up_to_the_bound_are_taken() {
    let gateway = Gateway::set("grpc.max_header_list", "4 KiB").start().await;
    let client = gateway.client().await;
    for (bytes, taken) in [(3000, true), (5000, false)] {
        let mut request =
            tonic::Request::new(cim_gateway::pb::SendMessageRequest { message: Some(hello("hi")), delivery_wait: None });
        request.metadata_mut().insert("x-note", "x".repeat(bytes).parse().unwrap());
        let answer = soon("an answer", client.calls.clone().send_message(request)).await;
        assert_eq!(answer.is_ok(), taken, "{bytes} bytes: {answer:?}");
    }
}
