//! Every row of the table of failures: whose fault it is, and what waits for it.

use super::*;
use crate::support::eventually;
use crate::support::receiver::{Call, Reply};
use cim_gateway::pb::get_channel_request::Key;
use cim_gateway::pb::{DeliveryStatus, DisabledReason, GetChannelRequest, GetMessageRequest, UpdateChannelRequest};
use prost_types::FieldMask;
use std::collections::HashMap;

/// Answers the first call of each message with a status, later ones with 200.
fn once(status: u16) -> impl FnMut(&Call) -> Reply {
    let mut seen = HashMap::<String, u32>::new();
    move |call| {
        let times = seen.entry(call.id.clone()).or_default();
        *times += 1;
        Reply::Status(if call.said() == "hi" && *times == 1 { status } else { 200 })
    }
}

#[tokio::test]
async fn what_fails_is_sent_again_with_the_same_id() {
    for status in [301, 401, 403, 404, 408, 425, 429, 500, 501, 502, 503, 504] {
        let mut connector = Receiver::answering(once(status)).await;
        let gateway = gateway().start().await;
        register(gateway.grpc, channel("shop", &connector)).await;
        gateway.client().await.send(answers("shop", "ada", "hi")).await;
        let calls = connector.take(3).await;
        assert_eq!(calls.iter().map(Call::said).collect::<Vec<_>>(), ["CHANNEL_SESSION_STARTED", "hi", "hi"], "{status}");
        assert_eq!(calls[1].id, calls[2].id, "{status}");
        assert_ne!(calls[0].id, calls[1].id);
    }
}

#[tokio::test]
async fn what_is_refused_is_not_sent_again() {
    for status in [400, 409, 413, 415, 422] {
        let mut connector = Receiver::answering(once(status)).await;
        let gateway = gateway().start().await;
        register(gateway.grpc, channel("shop", &connector)).await;
        let client = gateway.client().await;
        client.send(answers("shop", "ada", "hi")).await;
        client.send(answers("shop", "ada", "fence")).await;
        let said: Vec<_> = connector.take(3).await.iter().map(Call::said).collect();
        assert_eq!(said, ["CHANNEL_SESSION_STARTED", "hi", "fence"], "{status}");
    }
}

#[tokio::test]
async fn who_asks_for_time_gets_it() {
    let mut asked = false;
    let rule = move |call: &Call| match call.said().as_str() {
        "hi" if !std::mem::replace(&mut asked, true) => Reply::Header(429, "retry-after", "2"),
        _ => Reply::Status(200),
    };
    let mut connector = Receiver::answering(rule).await;
    let gateway = gateway().start().await;
    register(gateway.grpc, channel("shop", &connector)).await;
    gateway.client().await.send(answers("shop", "ada", "hi")).await;
    connector.take(2).await;
    let begun = std::time::Instant::now();
    assert_eq!(connector.call().await.said(), "hi");
    assert!(begun.elapsed() >= std::time::Duration::from_millis(1_900), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_connector_that_is_not_there_yet_gets_everything_once_it_is() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    drop(listener);
    let gateway = gateway().start().await;
    let uri = format!("http://{address}");
    let late = Channel {
        service_identifier: "shop".into(),
        channel_type: "WEB".into(),
        connector: Some(endpoint(uri)),
        ..Channel::default()
    };
    register(gateway.grpc, late).await;
    let client = gateway.client().await;
    for number in 0..10 {
        client.send(answers("shop", "ada", &number.to_string())).await;
    }
    let mut connector =
        Receiver::on(tokio::net::TcpListener::bind(address).await.expect("the port is still free"), |_| Reply::Status(200));
    let said: Vec<_> = connector.take(11).await.iter().map(Call::said).collect();
    let expected: Vec<_> =
        ["CHANNEL_SESSION_STARTED".to_owned()].into_iter().chain((0..10).map(|number| number.to_string())).collect();
    assert_eq!(said, expected);
}

#[tokio::test]
async fn a_dead_connector_delays_no_other() {
    let dead = Receiver::answering(|_| Reply::Status(503)).await;
    let mut alive = Receiver::willing().await;
    let gateway = gateway().start().await;
    register(gateway.grpc, channel("dead", &dead)).await;
    register(gateway.grpc, channel("alive", &alive)).await;
    let client = gateway.client().await;
    for number in 0..100 {
        client.send(answers("dead", &number.to_string(), "lost for now")).await;
    }
    client.send(answers("alive", "ada", "hi")).await;
    assert_eq!(alive.take(2).await[1].said(), "hi");
}

#[tokio::test]
async fn an_address_that_is_not_allowed_is_never_called() {
    let mut connector = Receiver::willing().await;
    let gateway = gateway().set("webhook.allow", "[]").start().await;
    register(gateway.grpc, channel("shop", &connector)).await;
    let sent = gateway.client().await.send(answers("shop", "ada", "hi")).await;
    assert_eq!(sent.outcome, None, "it is tried again, in case that the configuration changes");
    assert!(connector.pending().is_empty());
}

/// The connector of a channel, as the registry shows it.
async fn shown(gateway: &Gateway, id: &str) -> Endpoint {
    let mut channels = ChannelServiceClient::connect(format!("http://{}", gateway.grpc)).await.expect("can be connected to");
    let request = GetChannelRequest { key: Some(Key::Id(id.into())) };
    let found = soon("an answer to GetChannel", channels.get_channel(request)).await.expect("is there").into_inner();
    found.channel.and_then(|channel| channel.connector).expect("has a connector")
}

#[tokio::test]
async fn a_connector_that_is_gone_is_left_alone_over_restarts_until_somebody_enables_it() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let mut connector = Receiver::answering(|call| Reply::Status(if call.said() == "back" { 200 } else { 410 })).await;
    let settings = gateway().set("store.embedded.data_dir", folder.path().display());
    let first = settings.clone().start().await;
    let registered = register(first.grpc, channel("shop", &connector)).await;
    let client = first.client().await;
    for text in ["1", "2"] {
        client.send(answers("shop", "ada", text)).await;
    }
    let said: Vec<_> = connector.take(3).await.iter().map(Call::said).collect();
    assert_eq!(said, ["CHANNEL_SESSION_STARTED", "1", "2"]);
    eventually("the connector to be disabled", async || {
        let connector = shown(&first, &registered.id).await;
        connector.disabled.then(|| assert_eq!(connector.disabled_reason(), DisabledReason::Gone))
    })
    .await;
    let waits = client.send(answers("shop", "ada", "back")).await;
    assert_eq!(waits.outcome, None, "nobody is called");
    drop(client);
    first.stop().down().await;

    let second = settings.start().await;
    assert!(shown(&second, &registered.id).await.disabled);
    let waits = second.client().await.send(answers("shop", "bob", "back")).await;
    assert_eq!(waits.outcome, None, "nobody is called");
    assert!(connector.pending().is_empty());
    let mut channels = ChannelServiceClient::connect(format!("http://{}", second.grpc)).await.expect("can be connected to");
    let enabled = Channel { id: registered.id, connector: Some(Endpoint::default()), ..Channel::default() };
    let update_mask = Some(FieldMask { paths: vec!["connector.disabled".into()] });
    let request = UpdateChannelRequest { channel: Some(enabled), update_mask };
    soon("an answer to UpdateChannel", channels.update_channel(request)).await.expect("is changed");
    let mut said: Vec<_> = connector.take(3).await.iter().map(Call::said).collect();
    said.sort_unstable();
    assert_eq!(said, ["CHANNEL_SESSION_STARTED", "back", "back"]);
}

#[tokio::test]
async fn what_is_too_old_is_given_up_although_its_connector_is_disabled_or_cannot_be_reached() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free").local_addr().expect("it is bound");
    let disabled = Endpoint { disabled: true, ..endpoint("http://127.0.0.1:9".into()) };
    // Nothing probes the one that cannot be reached before all is too old.
    let settings = gateway().set("delivery.max_age", "2s").set("delivery.breaker.failures", 1).set("delivery.sync_wait", "0s");
    let gateway = settings.set("delivery.breaker.pause", "1h").set("delivery.breaker.longest_pause", "1h").start().await;
    for (name, connector) in [("disabled", disabled), ("dead", endpoint(format!("http://{nobody}")))] {
        let channel = Channel {
            service_identifier: name.into(),
            channel_type: "WEB".into(),
            connector: Some(connector),
            ..Channel::default()
        };
        register(gateway.grpc, channel).await;
        for number in 0..10 {
            let message = answers(name, &format!("customer {}", number % 3), "hi").with_id(&format!("{name}-{number}"));
            gateway.client().await.send(message).await;
        }
    }
    for name in ["disabled", "dead"] {
        for number in 0..10 {
            let told = eventually("the outcome", async || {
                let request = GetMessageRequest { message_id: format!("{name}-{number}") };
                gateway.client().await.calls.get_message(request).await.expect("is kept").into_inner().outcome
            })
            .await;
            assert_eq!((told.status(), told.reason_code.as_str()), (DeliveryStatus::Failed, "500"), "{name}-{number}");
        }
    }
}
