//! The way down: everything ends, with a word where it is the gateway's to say one, and soon.

use crate::support::gateway::Gateway;
use crate::support::messages::{hello, latest};
use crate::support::process::Process;
use crate::support::raw::{Raw, kind};
use crate::support::{assert_refused, soon};
use cim_gateway::pb::SubscribeNotificationsRequest;
use prost::Message as _;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

#[tokio::test]
async fn everything_that_is_open_ends_and_the_gateway_is_down_well_before_the_grace_period_is_over() {
    let gateway = Gateway::set("shutdown.grace", "1h").start().await;
    let address = gateway.grpc;
    let client = gateway.client().await;
    let idle = gateway.client().await;
    let mut same_connection = client.subscribe(latest()).await;
    let mut other_connection = gateway.client().await.subscribe(latest()).await;
    let mut health = HealthClient::new(gateway.client().await.channel);
    let request = HealthCheckRequest { service: "cim.v1.MessageService".into() };
    let mut watch = soon("the watch", health.watch(request)).await.unwrap().into_inner();
    let status = soon("the first health", watch.message()).await.unwrap().unwrap().status;
    assert_eq!(status, i32::from(ServingStatus::Serving));
    let (_messages, sent) = mpsc::channel(1);
    let mut sending = soon("the stream", client.sending(ReceiverStream::new(sent))).await.unwrap();
    let mut silent = Raw::to(address).await;
    let mut kept_alive = Raw::to(address).await;
    kept_alive.send(b"GET / HTTP/1.1\r\nhost: gateway\r\n\r\n").await;
    client.send(hello("all is well")).await;

    let asked = Instant::now();
    let stopping = gateway.stop();
    for events in [&mut same_connection, &mut other_connection] {
        assert_refused(&events.end().await, Code::Unavailable, "SHUTTING_DOWN");
    }
    let status = soon("the end of the answers", sending.message()).await.unwrap_err();
    assert_refused(&status, Code::Unavailable, "SHUTTING_DOWN");
    let status = soon("the last health", watch.message()).await.unwrap().unwrap().status;
    assert_eq!(status, i32::from(ServingStatus::NotServing));
    assert!(soon("the end of the watch", watch.message()).await.unwrap().is_none());
    assert!(silent.rest().await.is_empty());
    kept_alive.rest().await;
    stopping.down().await;
    assert!(asked.elapsed() < Duration::from_secs(20), "{:?}", asked.elapsed());
    let refused = soon("a refusal", TcpStream::connect(address)).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    idle.try_send(hello("too late")).await.unwrap_err();
}

#[tokio::test]
async fn clients_are_told_to_go_away() {
    let gateway = Gateway::start().await;
    let mut raw = Raw::http2(gateway.grpc).await;
    raw.frame_of(kind::SETTINGS, 0).await;
    let stopping = gateway.stop();
    // First that no more calls should come, then, when that must have arrived, which were the last to be served.
    raw.frame_of(kind::GOAWAY, 0).await;
    let ping = raw.frame_of(kind::PING, 0).await;
    const ACK: u8 = 1;
    raw.frame_out(kind::PING, ACK, 0, &ping.payload).await;
    raw.frame_of(kind::GOAWAY, 0).await;
    raw.rest().await;
    stopping.down().await;
}

/// The client takes part in nothing: it answers no ping and hears no goodbye.
#[tokio::test]
async fn a_connection_that_refuses_to_close_is_cut_after_the_grace_period() {
    let gateway = Gateway::set("shutdown.grace", "1s").start().await;
    let mut stubborn = Raw::http2(gateway.grpc).await;
    let subscription = SubscribeNotificationsRequest::default().encode_to_vec();
    stubborn.call(1, "SubscribeNotifications", Some(&subscription)).await;
    stubborn.frame_of(kind::DATA, 1).await;
    let asked = Instant::now();
    gateway.stop().down().await;
    let waited = asked.elapsed();
    assert!((Duration::from_secs(1)..Duration::from_secs(20)).contains(&waited), "{waited:?}");
    stubborn.rest().await;
}

#[tokio::test]
async fn a_process_that_is_asked_to_stop_ends_its_streams_and_exits_with_0() {
    for signal in ["TERM", "INT"] {
        let process = Process::start(&[("shutdown.grace", &"1h")]).await;
        let client = process.client().await;
        let mut events = client.subscribe(latest()).await;
        client.send(hello("hi")).await;
        process.signal(signal);
        let end = events.end().await;
        let status = process.ended().await;
        assert_eq!(status.code(), Some(0), "after SIG{signal}: {status}");
        assert_refused(&end, Code::Unavailable, "SHUTTING_DOWN");
    }
}

#[tokio::test]
async fn a_process_with_a_connection_that_refuses_to_close_exits_with_0_all_the_same() {
    let process = Process::start(&[("shutdown.grace", &"1s")]).await;
    let mut stubborn = Raw::http2(process.grpc).await;
    let subscription = SubscribeNotificationsRequest::default().encode_to_vec();
    stubborn.call(1, "SubscribeNotifications", Some(&subscription)).await;
    stubborn.frame_of(kind::DATA, 1).await;
    process.signal("TERM");
    assert_eq!(process.ended().await.code(), Some(0));
}
