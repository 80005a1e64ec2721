//! What the page of metrics tells of deliveries.

use super::*;
use crate::support::eventually;
use crate::support::page::Page;
use crate::support::receiver::{Call, Reply};

/// The page, once it tells that.
async fn page(gateway: &Gateway, told: &[(&str, f64)]) -> Page {
    eventually("a page that tells what was done", async || {
        let page = gateway.page().await;
        told.iter().all(|(sample, value)| page.get(sample) == Some(*value)).then_some(page)
    })
    .await
}

#[tokio::test]
async fn attempts_are_counted_by_what_they_come_to_and_dead_letters_are_seen() {
    let mut failed = false;
    let rule = move |call: &Call| match call.said().as_str() {
        "again" if !std::mem::replace(&mut failed, true) => Reply::Status(500),
        "never" => Reply::Status(400),
        _ => Reply::Status(200),
    };
    let connector = Receiver::answering(rule).await;
    let gateway = gateway().start().await;
    register(gateway.grpc, channel("shop", &connector)).await;
    let client = gateway.client().await;
    client.send(answers("shop", "ada", "again")).await;
    client.send(answers("shop", "ada", "never")).await;
    let page = page(
        &gateway,
        &[
            (r#"cim_deliveries_settled_total{state="delivered"}"#, 2.0),
            (r#"cim_deliveries_settled_total{state="dead"}"#, 1.0),
            (r#"cim_deliveries{state="dead"}"#, 1.0),
            (r#"cim_deliveries{state="pending"}"#, 0.0),
        ],
    )
    .await;
    for (verdict, attempts) in [("delivered", 2.0), ("message_failed", 1.0), ("refused", 1.0)] {
        let sample = format!("cim_delivery_attempts_total{{endpoint=\"connector\",verdict=\"{verdict}\"}}");
        assert_eq!(page.value(&sample), attempts, "{verdict}");
    }
    assert_eq!(page.value(r#"cim_delivery_attempt_duration_seconds_count{endpoint="connector"}"#), 4.0);
    assert_eq!(page.value("cim_delivery_backlog_seconds"), 0.0);
    assert_eq!(page.value("cim_delivery_breakers_open"), 0.0);
}

#[tokio::test]
async fn a_webhook_that_is_down_is_seen_by_its_breaker_and_by_what_waits() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free").local_addr().expect("it is bound");
    let settings = gateway().set("delivery.breaker.failures", 1).set("delivery.sync_wait", "0s");
    let gateway = settings.set("delivery.breaker.pause", "1h").set("delivery.breaker.longest_pause", "1h").start().await;
    let connector = Some(endpoint(format!("http://{nobody}")));
    let channel = Channel { service_identifier: "shop".into(), channel_type: "WEB".into(), connector, ..Channel::default() };
    register(gateway.grpc, channel).await;
    gateway.client().await.send(answers("shop", "ada", "hi")).await;
    let waiting = [
        ("cim_delivery_breakers_open", 1.0),
        (r#"cim_deliveries{state="pending"}"#, 2.0),
        (r#"cim_delivery_attempts_total{endpoint="connector",verdict="endpoint_failed"}"#, 1.0),
    ];
    let page = page(&gateway, &waiting).await;
    assert!(page.value("cim_delivery_backlog_seconds") > 0.0);
    assert_eq!(page.value("cim_delivery_attempts_in_flight"), 0.0);
}
