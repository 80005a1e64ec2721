use super::present::{State, Store, Streams, Subscriptions};
use super::*;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

const SECOND: Duration = Duration::from_secs(1);

/// Metrics of which each has something to tell.
fn telling() -> Metrics {
    let metrics = Metrics::default();
    metrics.grpc.method("cim.v1.MessageService/SendMessage").begin().ends(0);
    metrics.inbox.accepted(SECOND);
    metrics.inbox.refused("INVALID_MESSAGE");
    metrics.log.wrote(3, 4096, SECOND);
    metrics.delivery.attempted("connector", "delivered", Some(SECOND));
    metrics.delivery.settled("delivered");
    metrics.delivery.found(Backlog::default());
    metrics.ask(|present| {
        let state = State { all: &["on", "off"], now: "on" };
        let (index_bytes, free_bytes, not_indexed) = (Some(1), Some(2), Some(3));
        present.readiness = Some(state);
        present.store = Some(Store { state, log_bytes: 1, index_bytes, free_bytes, oldest: 1, newest: 2, not_indexed });
        present.streams = Some(Streams { open: 1, most: 2 });
        present.subscriptions = Some(Subscriptions { names: 3, attached: 2, expired: 1, behind: 7 });
    });
    metrics
}

/// The line of a page that has a sample.
fn sample<'p>(page: &'p str, name: &str) -> Option<&'p str> {
    page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
}

/// What the head of each metric says: name, help and type.
fn heads(page: &str) -> Vec<(&str, &str, &str)> {
    let mut lines = page.lines().filter(|line| line.starts_with("# "));
    let mut heads = Vec::new();
    while let Some((help, kind)) = lines.next().zip(lines.next()) {
        let (name, help) = help.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')).expect("help comes first");
        let (of, kind) = kind.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')).expect("then the type");
        assert_eq!(of, name);
        heads.push((name, help, kind));
    }
    heads
}

/// What the name of a sample may end with beyond that of its metric.
fn suffixes(kind: &str) -> &'static [&'static str] {
    match kind {
        "histogram" => &["_bucket", "_sum", "_count"],
        _ => &[""],
    }
}

/// The keys of the labels of each sample, by its name.
fn labels(page: &str) -> BTreeMap<&str, Vec<&str>> {
    let samples = page.lines().filter(|line| !line.starts_with('#'));
    let labelled = samples.map(|line| {
        let end = line.find(['{', ' ']).expect("a value follows");
        let labels = line.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map_or("", |(labels, _)| labels);
        let keys = labels.split("\",").filter_map(|label| label.split_once('=')).map(|(key, _)| key);
        (&line[..end], keys.filter(|key| *key != "le").collect())
    });
    labelled.collect()
}

#[test]
fn names_types_and_help_are_these() {
    let page = telling().page();
    let mut lines = String::new();
    for (name, help, kind) in heads(&page) {
        writeln!(lines, "# HELP {name} {help}\n# TYPE {name} {kind}").expect("a text has room");
    }
    insta::assert_snapshot!(lines, @r#"
    # HELP cim_build_info The version that runs
    # TYPE cim_build_info gauge
    # HELP cim_readiness 1 for the word that /readyz says, 0 for all others
    # TYPE cim_readiness gauge
    # HELP cim_requests_total Requests that have ended, and with which status; CANCELLED or 499 if the client left before the answer
    # TYPE cim_requests_total counter
    # HELP cim_request_duration_seconds Time from a request to its answer; streams, which last as long as their clients like, are left out
    # TYPE cim_request_duration_seconds histogram
    # HELP cim_messages_accepted_total Messages that were accepted from senders
    # TYPE cim_messages_accepted_total counter
    # HELP cim_messages_repeated_total Messages that repeat an accepted one
    # TYPE cim_messages_repeated_total counter
    # HELP cim_messages_refused_total Messages that were refused, and why
    # TYPE cim_messages_refused_total counter
    # HELP cim_acceptance_duration_seconds Time from the receipt of a message until it was durable
    # TYPE cim_acceptance_duration_seconds histogram
    # HELP cim_store_state 1 for the state of the store, 0 for all others; full takes no messages
    # TYPE cim_store_state gauge
    # HELP cim_store_log_bytes Bytes of the log, as max_bytes counts them
    # TYPE cim_store_log_bytes gauge
    # HELP cim_store_index_bytes Bytes of the index
    # TYPE cim_store_index_bytes gauge
    # HELP cim_store_free_bytes Bytes that are free on the disk of the log
    # TYPE cim_store_free_bytes gauge
    # HELP cim_store_oldest_position Position of the oldest entry that is kept
    # TYPE cim_store_oldest_position gauge
    # HELP cim_store_newest_position Position of the newest durable entry
    # TYPE cim_store_newest_position gauge
    # HELP cim_store_not_indexed_entries Entries that the index lacks, and has to get after a crash
    # TYPE cim_store_not_indexed_entries gauge
    # HELP cim_store_batch_entries Entries that were written and synced at once
    # TYPE cim_store_batch_entries histogram
    # HELP cim_store_written_bytes_total Bytes that were written to the log
    # TYPE cim_store_written_bytes_total counter
    # HELP cim_store_write_duration_seconds Time to write and sync a batch
    # TYPE cim_store_write_duration_seconds histogram
    # HELP cim_delivery_attempts_total Attempts to deliver, and what they came to
    # TYPE cim_delivery_attempts_total counter
    # HELP cim_delivery_attempt_duration_seconds Time that webhooks took to answer, or to fail
    # TYPE cim_delivery_attempt_duration_seconds histogram
    # HELP cim_delivery_attempts_in_flight Attempts under way
    # TYPE cim_delivery_attempts_in_flight gauge
    # HELP cim_delivery_breakers_open Webhooks that are left alone for a while because they fail
    # TYPE cim_delivery_breakers_open gauge
    # HELP cim_deliveries_settled_total Deliveries that were settled by an attempt or by their age
    # TYPE cim_deliveries_settled_total counter
    # HELP cim_deliveries Deliveries that are not settled, and dead letters, when they were last counted
    # TYPE cim_deliveries gauge
    # HELP cim_delivery_backlog_seconds Age of the oldest pending delivery; 0 if there is none
    # TYPE cim_delivery_backlog_seconds gauge
    # HELP cim_notifications_sent_total Notifications that went out on streams
    # TYPE cim_notifications_sent_total counter
    # HELP cim_streams Open streams of notifications: live ones have caught up, the others read old entries
    # TYPE cim_streams gauge
    # HELP cim_streams_limit Most streams that may be open
    # TYPE cim_streams_limit gauge
    # HELP cim_subscriptions Named subscriptions
    # TYPE cim_subscriptions gauge
    # HELP cim_subscriptions_attached Named subscriptions that have a reader
    # TYPE cim_subscriptions_attached gauge
    # HELP cim_subscriptions_expired Named subscriptions whose cursor is older than what is kept
    # TYPE cim_subscriptions_expired gauge
    # HELP cim_subscription_lag_entries Entries after what is acknowledged, of the named subscription that has most and has not expired
    # TYPE cim_subscription_lag_entries gauge
    # HELP cim_sessions_watched Active sessions that end if their customer is inactive for too long
    # TYPE cim_sessions_watched gauge
    # HELP process_cpu_seconds_total Time of processors that the process has used
    # TYPE process_cpu_seconds_total counter
    # HELP process_resident_memory_bytes Memory that the process has in use
    # TYPE process_resident_memory_bytes gauge
    # HELP process_virtual_memory_bytes Address space of the process
    # TYPE process_virtual_memory_bytes gauge
    # HELP process_open_fds Open file descriptors
    # TYPE process_open_fds gauge
    # HELP process_max_fds Most file descriptors that may be open
    # TYPE process_max_fds gauge
    # HELP process_start_time_seconds When the process was started, in seconds since 1970
    # TYPE process_start_time_seconds gauge
    "#);
}

#[test]
fn every_sample_has_its_help_and_its_type_and_every_metric_its_sample() {
    let page = telling().page();
    let heads = heads(&page);
    let names: Vec<_> =
        heads.iter().flat_map(|(name, _, kind)| suffixes(kind).iter().map(move |suffix| format!("{name}{suffix}"))).collect();
    let samples = labels(&page);
    let strangers: Vec<_> = samples.keys().filter(|name| !names.iter().any(|known| known == *name)).collect();
    let silent: Vec<_> = names.iter().filter(|name| !samples.contains_key(name.as_str())).collect();
    assert!(strangers.is_empty() && silent.is_empty(), "{strangers:?} {silent:?}");
    assert!(names.iter().all(|name| name.starts_with("cim_") || name.starts_with("process_")), "{names:?}");
}

#[test]
fn the_documentation_lists_every_metric_as_the_page_has_it() {
    let page = telling().page();
    let labels = labels(&page);
    let told = heads(&page).into_iter().map(|(name, help, kind)| {
        let first = format!("{name}{}", suffixes(kind)[0]);
        let keys: Vec<_> = labels[first.as_str()].iter().map(|key| format!("`{key}`")).collect();
        format!("| `{name}` | {kind} | {} | {help} |", keys.join(", "))
    });
    let told: Vec<_> = told.collect();
    let documented = include_str!("../../docs/operations.md").lines();
    let documented: Vec<_> = documented.filter(|line| line.starts_with("| `cim_") || line.starts_with("| `process_")).collect();
    assert_eq!(documented.join("\n"), told.join("\n"));
}

#[test]
fn what_nobody_knows_is_not_on_the_page() {
    let page = Metrics::default().page();
    for unknown in ["cim_readiness", "cim_store_free_bytes", "cim_store_state", "cim_deliveries{", "cim_delivery_backlog_seconds"]
    {
        assert!(!page.contains(unknown), "{unknown}");
    }
    assert_eq!(sample(&page, "cim_messages_accepted_total"), Some("0"));
}

#[test]
fn a_request_is_counted_once_with_its_method_its_code_and_its_time() {
    let metrics = Metrics::default();
    let method = metrics.http.method("GET /v1/messages/{id}");
    let mut call = method.begin();
    call.ends(404);
    call.ends(200);
    drop(call);
    let page = metrics.page();
    let labels = r#"face="http",method="GET /v1/messages/{id}""#;
    assert_eq!(sample(&page, &format!("cim_requests_total{{{labels},code=\"404\"}}")), Some("1"));
    assert_eq!(sample(&page, &format!("cim_requests_total{{{labels},code=\"200\"}}")), None);
    assert_eq!(sample(&page, &format!("cim_request_duration_seconds_count{{{labels}}}")), Some("1"));
}

#[test]
fn what_somebody_is_to_be_woken_for_is_told_before_it_happens() {
    let metrics = Metrics::default();
    metrics.grpc.method("a/B").begin().ends(0);
    metrics.http.method("GET /").begin().ends(200);
    metrics.http.method("GET /nobody");
    let page = metrics.page();
    for name in [
        r#"cim_requests_total{face="grpc",method="a/B",code="INTERNAL"}"#,
        r#"cim_requests_total{face="http",method="GET /",code="500"}"#,
        r#"cim_messages_refused_total{reason="STORE_FULL"}"#,
        r#"cim_deliveries_settled_total{state="dead"}"#,
    ] {
        assert_eq!(sample(&page, name), Some("0"), "{name}");
    }
    assert!(!page.contains("nobody"), "{page}");
}

#[test]
fn a_client_that_leaves_is_counted_and_a_stream_has_no_time() {
    let metrics = Metrics::default();
    drop(metrics.grpc.method("a/B").begin());
    let mut stream = metrics.http.method("GET /s").begin();
    stream.streams();
    stream.ends(200);
    let page = metrics.page();
    assert_eq!(sample(&page, r#"cim_requests_total{face="grpc",method="a/B",code="CANCELLED"}"#), Some("1"));
    assert_eq!(sample(&page, r#"cim_requests_total{face="http",method="GET /s",code="200"}"#), Some("1"));
    assert!(!page.contains(r#"cim_request_duration_seconds_count{face="http""#), "{page}");
}

#[test]
fn a_code_that_nobody_knows_is_another() {
    let metrics = Metrics::default();
    metrics.http.method("GET /").begin().ends(418);
    metrics.grpc.method("a/B").begin().ends(99);
    let page = metrics.page();
    assert_eq!(sample(&page, r#"cim_requests_total{face="http",method="GET /",code="other"}"#), Some("1"));
    assert_eq!(sample(&page, r#"cim_requests_total{face="grpc",method="a/B",code="UNKNOWN"}"#), Some("1"));
}

#[test]
fn a_histogram_counts_each_time_within_its_bounds() {
    let metrics = Metrics::default();
    for millis in [1, 3, 40_000] {
        metrics.inbox.accepted(Duration::from_millis(millis));
    }
    let page = metrics.page();
    let bucket = |le: &str| sample(&page, &format!("cim_acceptance_duration_seconds_bucket{{le=\"{le}\"}}"));
    assert_eq!(["0.0005", "0.001", "0.0025", "0.005", "30", "+Inf"].map(bucket), ["0", "1", "1", "2", "2", "3"].map(Some));
    assert_eq!(sample(&page, "cim_acceptance_duration_seconds_count"), Some("3"));
    assert_eq!(sample(&page, "cim_acceptance_duration_seconds_sum"), Some("40.004"));
}

#[test]
fn the_backlog_grows_older_while_nobody_counts_it() {
    let metrics = Metrics::default();
    let since = SystemTime::now() - 60 * SECOND;
    metrics.delivery.found(Backlog { pending: 2, since: Some(since), ..Backlog::default() });
    let page = metrics.page();
    assert_eq!(sample(&page, r#"cim_deliveries{state="pending"}"#), Some("2"));
    let age: f64 = sample(&page, "cim_delivery_backlog_seconds").and_then(|age| age.parse().ok()).expect("is known");
    assert!((60.0..120.0).contains(&age), "{age}");
}

#[cfg(target_os = "linux")]
#[test]
fn the_process_is_on_the_page() {
    let page = Metrics::default().page();
    let value = |name| sample(&page, name).and_then(|value| value.parse::<f64>().ok()).expect("is on the page");
    assert!(value("process_resident_memory_bytes") > 1e6);
    assert!(value("process_open_fds") >= 3.0 && value("process_max_fds") > value("process_open_fds"));
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("is later").as_secs_f64();
    let age = now - value("process_start_time_seconds");
    assert!((-2.0..86_400.0).contains(&age), "{age}");
}
