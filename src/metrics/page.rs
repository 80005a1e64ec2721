//! The page: every metric, by its name and what it tells. Names stand here, and in `docs/operations.md`, which a test holds to them.

use super::parts::Backlog;
use super::present::{Present, State, Store, Streams, Subscriptions};
use super::process::{self, Process};
use super::requests::Requests;
use super::{Delivery, Expiry, Feed, Inbox, Log, Metrics};
use prometheus_client::collector::Collector;
pub use prometheus_client::encoding::prometheus_text::CONTENT_TYPE;
use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue, EncodeMetric, prometheus_text};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::Registry;
use std::fmt;
use std::time::SystemTime;

/// The page as text.
pub(super) fn write(metrics: Metrics, present: Present) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Page { metrics, present }));
    let mut page = String::new();
    prometheus_text::encode(&mut page, &registry).expect("a text has room for everything");
    page
}

#[derive(Debug)]
struct Page {
    metrics: Metrics,
    present: Present,
}

impl Collector for Page {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut lines = Lines(encoder);
        let Metrics { grpc, http, inbox, log, delivery, feed, expiry, .. } = &self.metrics;
        let Present { readiness, store, streams, subscriptions } = &self.present;
        lines.put("cim_build", "The version that runs", &Info::new([("version", env!("CARGO_PKG_VERSION"))]))?;
        if let Some(readiness) = readiness {
            lines.state("cim_readiness", "1 for the word that /readyz says, 0 for all others", readiness)?;
        }
        lines.requests(&[grpc, http])?;
        lines.inbox(inbox)?;
        if let Some(store) = store {
            lines.store(store)?;
        }
        lines.log(log)?;
        lines.delivery(delivery)?;
        lines.feed(feed, streams.as_ref())?;
        if let Some(subscriptions) = subscriptions {
            lines.subscriptions(subscriptions)?;
        }
        lines.expiry(expiry)?;
        process::read().map_or(Ok(()), |process| lines.process(&process))
    }
}

/// The lines of the page.
struct Lines<'p>(DescriptorEncoder<'p>);

impl Lines<'_> {
    fn requests(&mut self, faces: &[&Requests]) -> fmt::Result {
        let methods: Vec<_> = faces
            .iter()
            .flat_map(|requests| requests.methods().into_iter().map(|(name, method)| (requests.face, name, method)))
            .collect();
        let answered = methods.iter().flat_map(|(face, name, method)| {
            let labels = move |code: &'static str| [("face", *face), ("method", name.as_str()), ("code", code)];
            method.answered().map(move |(code, count)| (labels(code), ConstCounter::new(count)))
        });
        self.each(
            "cim_requests",
            "Requests that have ended, and with which status; CANCELLED or 499 if the client left before the answer",
            answered,
        )?;
        let took = methods.iter().filter(|(.., method)| !method.took.is_empty());
        self.each(
            "cim_request_duration_seconds",
            "Time from a request to its answer; streams, which last as long as their clients like, are left out",
            took.map(|(face, name, method)| ([("face", *face), ("method", name.as_str())], method.took.clone())),
        )
    }

    fn inbox(&mut self, Inbox { accepted, repeated, refused, took }: &Inbox) -> fmt::Result {
        self.put("cim_messages_accepted", "Messages that were accepted from senders", accepted)?;
        self.put("cim_messages_repeated", "Messages that repeat an accepted one", repeated)?;
        self.put("cim_messages_refused", "Messages that were refused, and why", refused)?;
        self.put("cim_acceptance_duration_seconds", "Time from the receipt of a message until it was durable", took)
    }

    fn store(&mut self, store: &Store) -> fmt::Result {
        let Store { state, log_bytes, index_bytes, free_bytes, oldest, newest, not_indexed } = store;
        self.state("cim_store_state", "1 for the state of the store, 0 for all others; full takes no messages", state)?;
        self.gauge("cim_store_log_bytes", "Bytes of the log, as max_bytes counts them", Some(*log_bytes))?;
        self.gauge("cim_store_index_bytes", "Bytes of the index", *index_bytes)?;
        self.gauge("cim_store_free_bytes", "Bytes that are free on the disk of the log", *free_bytes)?;
        self.gauge("cim_store_oldest_position", "Position of the oldest entry that is kept", Some(*oldest))?;
        self.gauge("cim_store_newest_position", "Position of the newest durable entry", Some(*newest))?;
        self.gauge("cim_store_not_indexed_entries", "Entries that the index lacks, and has to get after a crash", *not_indexed)
    }

    fn log(&mut self, Log { entries, bytes, took }: &Log) -> fmt::Result {
        self.put("cim_store_batch_entries", "Entries that were written and synced at once", entries)?;
        self.put("cim_store_written_bytes", "Bytes that were written to the log", bytes)?;
        self.put("cim_store_write_duration_seconds", "Time to write and sync a batch", took)
    }

    fn delivery(&mut self, delivery: &Delivery) -> fmt::Result {
        let Delivery { attempts, took, settled, in_flight, breakers, .. } = delivery;
        self.put("cim_delivery_attempts", "Attempts to deliver, and what they came to", attempts)?;
        self.put("cim_delivery_attempt_duration_seconds", "Time that webhooks took to answer, or to fail", took)?;
        self.put("cim_delivery_attempts_in_flight", "Attempts under way", in_flight)?;
        self.put("cim_delivery_breakers_open", "Webhooks that are left alone for a while because they fail", breakers)?;
        self.put("cim_deliveries_settled", "Deliveries that were settled by an attempt or by their age", settled)?;
        let Some(backlog) = delivery.backlog() else { return Ok(()) };
        let Backlog { pending, parked, held, dead, since } = backlog;
        let states = [("pending", pending), ("parked", parked), ("held", held), ("dead", dead)];
        self.each(
            "cim_deliveries",
            "Deliveries that are not settled, and dead letters, when they were last counted",
            states.map(|(state, count)| ([("state", state)], ConstGauge::new(count))),
        )?;
        let age = since.map_or(0.0, |since| SystemTime::now().duration_since(since).unwrap_or_default().as_secs_f64());
        self.gauge("cim_delivery_backlog_seconds", "Age of the oldest pending delivery; 0 if there is none", Some(age))
    }

    fn feed(&mut self, Feed { sent, live }: &Feed, streams: Option<&Streams>) -> fmt::Result {
        self.put("cim_notifications_sent", "Notifications that went out on streams", sent)?;
        let Some(Streams { open, most }) = streams else { return Ok(()) };
        let live = u64::try_from(live.get()).unwrap_or(0).min(*open);
        let states = [("live", live), ("behind", open - live)];
        self.each(
            "cim_streams",
            "Open streams of notifications: live ones have caught up, the others read old entries",
            states.map(|(state, count)| ([("state", state)], ConstGauge::new(count))),
        )?;
        self.gauge("cim_streams_limit", "Most streams that may be open", Some(*most))
    }

    fn subscriptions(&mut self, subscriptions: &Subscriptions) -> fmt::Result {
        let Subscriptions { names, attached, expired, behind } = subscriptions;
        self.gauge("cim_subscriptions", "Named subscriptions", Some(*names))?;
        self.gauge("cim_subscriptions_attached", "Named subscriptions that have a reader", Some(*attached))?;
        self.gauge("cim_subscriptions_expired", "Named subscriptions whose cursor is older than what is kept", Some(*expired))?;
        self.gauge(
            "cim_subscription_lag_entries",
            "Entries after what is acknowledged, of the named subscription that has most and has not expired",
            Some(*behind),
        )
    }

    fn expiry(&mut self, Expiry { watched }: &Expiry) -> fmt::Result {
        self.put("cim_sessions_watched", "Active sessions that end if their customer is inactive for too long", watched)
    }

    fn process(&mut self, process: &Process) -> fmt::Result {
        let Process { cpu_seconds, started, resident_bytes, virtual_bytes, open_fds, max_fds } = process;
        let cpu = ConstCounter::new(*cpu_seconds);
        self.put("process_cpu_seconds", "Time of processors that the process has used", &cpu)?;
        self.gauge("process_resident_memory_bytes", "Memory that the process has in use", Some(*resident_bytes))?;
        self.gauge("process_virtual_memory_bytes", "Address space of the process", Some(*virtual_bytes))?;
        self.gauge("process_open_fds", "Open file descriptors", *open_fds)?;
        self.gauge("process_max_fds", "Most file descriptors that may be open", *max_fds)?;
        self.gauge("process_start_time_seconds", "When the process was started, in seconds since 1970", *started)
    }

    /// A metric, by its name and what it tells.
    fn put(&mut self, name: &str, help: &str, metric: &impl EncodeMetric) -> fmt::Result {
        metric.encode(self.0.encode_descriptor(name, help, None, metric.metric_type())?)
    }

    /// A value, if it is known.
    fn gauge<V: EncodeGaugeValue>(&mut self, name: &str, help: &str, value: Option<V>) -> fmt::Result {
        let Some(value) = value else { return Ok(()) };
        self.0.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
    }

    /// One of a few states.
    fn state(&mut self, name: &str, help: &str, State { all, now }: &State) -> fmt::Result {
        let states = all.iter().map(|state| ([("state", *state)], ConstGauge::new(u64::from(state == now))));
        self.each(name, help, states)
    }

    /// A metric for each of these labels.
    fn each<'l, const N: usize, M: EncodeMetric + TypedMetric>(
        &mut self,
        name: &str,
        help: &str,
        metrics: impl IntoIterator<Item = ([(&'static str, &'l str); N], M)>,
    ) -> fmt::Result {
        let mut encoder = self.0.encode_descriptor(name, help, None, M::TYPE)?;
        for (labels, metric) in metrics {
            metric.encode(encoder.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
