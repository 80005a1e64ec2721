//! What the page of metrics tells of a gateway at work.

use crate::support::eventually;
use crate::support::gateway::Gateway;
use crate::support::http::ask;
use crate::support::messages::{Differs as _, hello, latest, says};
use crate::support::page::Page;
use cim_gateway::pb::{CimMessage, SubscribeNotificationsRequest};

/// The sample of the requests of a method that ended with a code.
fn requests(face: &str, method: &str, code: &str) -> String {
    format!("cim_requests_total{{face=\"{face}\",method=\"{method}\",code=\"{code}\"}}")
}

/// The sample of the requests of a method that have a duration.
fn timed(face: &str, method: &str) -> String {
    format!("cim_request_duration_seconds_count{{face=\"{face}\",method=\"{method}\"}}")
}

#[tokio::test]
async fn messages_are_counted_by_what_becomes_of_them() {
    let gateway = Gateway::start().await;
    let client = gateway.client().await;
    let message = hello("hi").with_id("m-1").at(1_700_000_000);
    client.send(message.clone()).await;
    assert!(client.send(message).await.duplicate);
    client.refused(CimMessage::default()).await;
    let page = gateway.page().await;
    assert_eq!(page.value("cim_messages_accepted_total"), 1.0);
    assert_eq!(page.value("cim_messages_repeated_total"), 1.0);
    assert_eq!(page.value(r#"cim_messages_refused_total{reason="INVALID_MESSAGE"}"#), 1.0);
    assert_eq!(page.value("cim_acceptance_duration_seconds_count"), 1.0);
    let method = "cim.v1.MessageService/SendMessage";
    assert_eq!(page.value(&requests("grpc", method, "OK")), 2.0);
    assert_eq!(page.value(&requests("grpc", method, "INVALID_ARGUMENT")), 1.0);
    assert_eq!(page.value(&timed("grpc", method)), 3.0);
}

#[tokio::test]
async fn requests_over_http_are_counted_by_their_routes() {
    let gateway = Gateway::start().await;
    ask(gateway.http, "GET", "/v1/messages/nobody-has-this-id", "", "").await;
    ask(gateway.http, "GET", "/nothing-is-here", "", "").await;
    ask(gateway.http, "BREW", "/healthz", "", "").await;
    ask(gateway.http, "POST", "/ccm/message/receive", "", "{").await;
    let page = gateway.page().await;
    assert_eq!(page.value(&requests("http", "GET /v1/messages/{messageId}", "404")), 1.0);
    assert_eq!(page.value(&requests("http", "GET other", "404")), 1.0);
    assert_eq!(page.value(&requests("http", "OTHER /healthz", "405")), 1.0);
    assert_eq!(page.value(&requests("http", "POST /ccm/message/receive", "400")), 1.0);
    assert_eq!(page.value(r#"cim_messages_refused_total{reason="INVALID_JSON"}"#), 1.0);
    assert_eq!(gateway.page().await.value(&requests("http", "GET /metrics", "200")), 1.0);
}

#[tokio::test]
async fn streams_are_counted_and_have_no_duration() {
    let gateway = Gateway::start().await;
    let client = gateway.client().await;
    let mut named = client.subscribe(SubscribeNotificationsRequest { subscription: "desk".into(), ..latest() }).await;
    let mut nameless = client.subscribe(latest()).await;
    client.send(hello("hi")).await;
    for events in [&mut named, &mut nameless] {
        assert_eq!([events.said().await, events.said().await], ["CHANNEL_SESSION_STARTED", "hi"]);
    }
    let page = eventually("both streams to be live", async || {
        let page = gateway.page().await;
        (page.value(r#"cim_streams{state="live"}"#) == 2.0).then_some(page)
    })
    .await;
    assert_eq!(page.value(r#"cim_streams{state="behind"}"#), 0.0);
    assert_eq!(page.value("cim_notifications_sent_total"), 4.0);
    assert_eq!([page.value("cim_subscriptions"), page.value("cim_subscriptions_attached")], [1.0, 1.0]);
    assert_eq!(page.value("cim_subscription_lag_entries"), 2.0, "nothing is acknowledged");

    drop((named, nameless));
    let method = "cim.v1.MessageService/SubscribeNotifications";
    let page = eventually("both streams to have ended", async || {
        let page = gateway.page().await;
        let open = [r#"cim_streams{state="live"}"#, r#"cim_streams{state="behind"}"#].map(|sample| page.value(sample));
        // A call has ended a moment before its stream is gone.
        (page.get(&requests("grpc", method, "CANCELLED")) == Some(2.0) && open == [0.0; 2]).then_some(page)
    })
    .await;
    assert_eq!(page.get(&timed("grpc", method)), None);
}

#[tokio::test]
async fn the_store_tells_how_it_is() {
    let gateway = Gateway::start().await;
    gateway.client().await.send(hello("hi")).await;
    let page = eventually("the keeper of the store", async || {
        let page = gateway.page().await;
        page.get("cim_store_free_bytes").is_some().then_some(page)
    })
    .await;
    assert_eq!(page.value(r#"cim_readiness{state="ready"}"#), 1.0);
    assert_eq!(page.value(r#"cim_readiness{state="opening"}"#), 0.0);
    assert_eq!(page.value(r#"cim_store_state{state="serving"}"#), 1.0);
    assert_eq!([page.value("cim_store_oldest_position"), page.value("cim_store_newest_position")], [1.0, 2.0]);
    assert_eq!(page.value("cim_store_batch_entries_sum"), 2.0);
    assert_eq!(page.value("cim_store_write_duration_seconds_count"), page.value("cim_store_batch_entries_count"));
    for bytes in ["cim_store_log_bytes", "cim_store_index_bytes", "cim_store_free_bytes", "cim_store_written_bytes_total"] {
        assert!(page.value(bytes) > 0.0, "{bytes}");
    }
    assert!(page.value("cim_store_not_indexed_entries") <= 2.0);
}

#[tokio::test]
async fn nothing_of_a_message_its_customer_or_its_channel_is_on_the_page() {
    let gateway = Gateway::start().await;
    let client = gateway.client().await;
    let secrets = ["channel-of-secrets", "customer-of-secrets", "text-of-secrets", "id-of-secrets", "name-of-secrets"];
    let [channel, customer, text, id, name] = secrets;
    let _named = client.subscribe(SubscribeNotificationsRequest { subscription: name.into(), ..latest() }).await;
    let accepted = client.send(says(channel, customer, text).with_id(id)).await;
    client.message(id).await.expect("is there");
    client.message("id-of-secrets-2").await.unwrap_err();
    for path in ["/v1/messages/id-of-secrets", "/v1/messages/id-of-secrets-2", "/secrets", "/v1/secrets/secrets"] {
        ask(gateway.http, "GET", path, "", "").await;
    }
    ask(gateway.http, "SECRETS", "/", "", "").await;
    client.call("/cim.v1.Secrets/OfSecrets", Vec::new()).await.unwrap_err();
    let Page(page) = gateway.page().await;
    let ids = [accepted.conversation_id, accepted.channel_session_id];
    for secret in ["secrets", "Secrets", "SECRETS"].into_iter().chain(ids.iter().map(String::as_str)) {
        assert!(!page.contains(secret), "{page}");
    }
}

/// As the format has it: each metric is one block, with its help, its type and its samples.
#[tokio::test]
async fn the_page_can_be_read_line_by_line() {
    let gateway = Gateway::start().await;
    let client = gateway.client().await;
    client.send(hello("hi")).await;
    client.refused(CimMessage::default()).await;
    let Page(page) = gateway.page().await;
    let (mut metric, mut kind, mut seen) = (String::new(), String::new(), Vec::new());
    for line in page.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            metric = help.split_once(' ').expect("a name and a text").0.to_owned();
            assert!(!seen.contains(&metric), "{metric} is there twice");
            seen.push(metric.clone());
        } else if let Some(of) = line.strip_prefix("# TYPE ") {
            let (of, is) = of.split_once(' ').expect("a name and a type");
            assert_eq!(of, metric);
            kind = is.to_owned();
        } else {
            let (sample, value) = line.rsplit_once(' ').expect("a sample and its value");
            let suffix = sample.split('{').next().and_then(|name| name.strip_prefix(metric.as_str()));
            let suffixes: &[_] = match kind.as_str() {
                "histogram" => &["_bucket", "_sum", "_count"],
                _ => &[""],
            };
            assert!(suffix.is_some_and(|suffix| suffixes.contains(&suffix)), "{line} is no {kind} of {metric}");
            assert!(value.parse::<f64>().is_ok_and(f64::is_finite), "{line}");
        }
    }
    assert!(seen.len() > 30, "{seen:?}");
}
