//! Configurations: a connector is told what its channel has for it, whenever the channel changes.
//!
//! It is told as clients of the documented platform are: by a POST to `connector-configurations` beside its webhook. Nothing waits for
//! that, and nothing of it is kept: it is tried a few times while the process lives. Of a channel that changes meanwhile only the
//! latest is told, and never two at a time, so that the connector ends with the latest.

use super::attempt::{JSON, timeout};
use super::schedule::Schedule;
use super::verdict::Verdict;
use super::webhooks::secrets;
use crate::channels::{Channels, Snapshot};
use crate::pb;
use crate::webhook::{Answer, Client, Failure, Id, Post, TraceParent, Url};
use crate::wire;
use http::HeaderMap;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// Attempts to tell a configuration, after the first one.
const RETRIES: u32 = 4;

/// Where a configuration goes, beside the webhook.
const PATH: &str = "/connector-configurations";

/// See the module.
#[derive(Debug)]
pub struct Configurations {
    changes: watch::Receiver<Arc<Snapshot>>,
    teller: Teller,
    /// What is to be told of each channel that somebody follows: its latest, or nothing at present.
    latest: HashMap<String, watch::Sender<Option<Arc<pb::Channel>>>>,
    telling: JoinSet<()>,
    stop: CancellationToken,
}

#[derive(Debug, Clone)]
struct Teller {
    client: Client,
    retries: Schedule,
    /// One for each call that may be made at a time.
    calls: Arc<Semaphore>,
}

impl Configurations {
    /// Tells of the channels as they change from now on, with at most `in_flight` calls at a time; `retries` are the waits between
    /// attempts. It does nothing before it runs, and ends with `stop`.
    pub fn new(channels: &Channels, client: Client, retries: Vec<Duration>, in_flight: usize, stop: CancellationToken) -> Self {
        let calls = Arc::new(Semaphore::new(in_flight));
        let teller = Teller { client, retries: Schedule::new(retries), calls };
        let (latest, telling) = Default::default();
        Self { changes: channels.watch(), teller, latest, telling, stop }
    }

    /// Tells the connectors of declared channels at once, for nobody knows whether the configuration has changed them since the last
    /// start, and each other one when its channel changes.
    pub async fn run(mut self) {
        let stop = self.stop.clone();
        let mut former = Arc::new(Snapshot::default());
        let first = self.changes.borrow_and_update().clone();
        for channel in first.all().filter(|channel| channel.declared) {
            self.changed(channel, &former);
        }
        former = first;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                Ok(()) = self.changes.changed() => {
                    let now = self.changes.borrow_and_update().clone();
                    for channel in now.all() {
                        if former.by_id(&channel.id).is_none_or(|former| former.etag != channel.etag) {
                            self.changed(channel, &former);
                        }
                    }
                    self.latest.retain(|id, _| now.by_id(id).is_some());
                    former = now;
                }
                Some(_) = self.telling.join_next() => {}
            }
        }
    }

    fn changed(&mut self, channel: &Arc<pb::Channel>, former: &Snapshot) {
        let told = is_told(channel, former.by_id(&channel.id).map(AsRef::as_ref)).then(|| channel.clone());
        if let Some(latest) = self.latest.get(&channel.id) {
            latest.send_replace(told);
        } else if told.is_some() {
            let (latest, follow) = watch::channel(told);
            self.latest.insert(channel.id.clone(), latest);
            self.telling.spawn(self.teller.clone().follow(follow));
        }
    }
}

/// True if the connector of a channel is told: it has one that may be called, and something for it, or had before.
fn is_told(channel: &pb::Channel, former: Option<&pb::Channel>) -> bool {
    let has_some = |channel: &pb::Channel| !channel.attributes.is_empty();
    let callable = channel.connector.as_ref().is_some_and(|connector| !connector.disabled);
    callable && (has_some(channel) || former.is_some_and(has_some))
}

/// What becomes of a configuration after an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Next {
    /// No other is made.
    Done,
    /// Another is worth making, not before so much time if the receiver asks for it.
    Again(Option<Duration>),
}

impl Next {
    fn after(outcome: &Result<Answer, Failure>) -> Self {
        match (Verdict::of(outcome), outcome) {
            // It has no such path: it does not want to know.
            (_, Ok(Answer { status: 404 | 405, .. })) => Self::Done,
            (Verdict::EndpointFailed { retry_after } | Verdict::MessageFailed { retry_after }, _) => Self::Again(retry_after),
            (Verdict::Delivered | Verdict::Accepted | Verdict::Refused | Verdict::Gone | Verdict::NotCalled, _) => Self::Done,
        }
    }
}

impl Teller {
    /// Tells a channel's connector its latest, until the channel is gone.
    async fn follow(self, mut latest: watch::Receiver<Option<Arc<pb::Channel>>>) {
        let mut failures = 0;
        loop {
            let wait = match self.tell(&mut latest).await {
                Next::Again(retry_after) if failures < RETRIES => {
                    failures += 1;
                    Some(self.retries.wait(failures, fastrand::f64(), retry_after))
                }
                Next::Again(_) | Next::Done => None,
            };
            let pause = async {
                match wait {
                    Some(wait) => sleep(wait).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = latest.changed() => match changed {
                    Ok(()) => failures = 0,
                    Err(_) => return,
                },
                () = pause => {}
            }
        }
    }

    /// Makes one attempt, with what is the latest once it may be made.
    async fn tell(&self, latest: &mut watch::Receiver<Option<Arc<pb::Channel>>>) -> Next {
        let _call = self.calls.acquire().await.expect("nobody closes it");
        let Some(channel) = latest.borrow_and_update().clone() else { return Next::Done };
        let Some(connector) = &channel.connector else { return Next::Done };
        let Ok(url) = Url::parse(&connector.uri).map(beside) else { return Next::Done };
        let body = wire::encode_connector_configuration(&channel.service_identifier, &channel.attributes);
        let outcome = self
            .client
            .post(Post {
                url: &url,
                id: &Id::new(channel.etag.clone()).expect("an etag is made of hexadecimal digits"),
                content_type: JSON,
                body: body.into(),
                secrets: &secrets(connector),
                trace: TraceParent::new(),
                headers: HeaderMap::new(),
                timeout: timeout(&channel),
            })
            .await;
        let next = Next::after(&outcome);
        let (channel, status) = (&channel.id, outcome.as_ref().ok().map(|answer| answer.status));
        let failure = outcome.err().map(|failure| failure.to_string());
        match next {
            Next::Again(_) => tracing::warn!(channel, status, failure, "the connector could not be told its configuration"),
            Next::Done => tracing::debug!(channel, status, failure, "the connector is told its configuration"),
        }
        next
    }
}

/// The address for configurations: beside the one that takes messages, which most end in `/message/receive` or the like.
fn beside(webhook: Url) -> Url {
    let path = webhook.as_uri().path().trim_end_matches('/');
    let base = match path.strip_suffix("/receive") {
        Some(rest) => rest.rsplit_once('/').map_or("", |(base, _)| base),
        None => path,
    };
    let path = format!("{base}{PATH}");
    webhook.with_path(&path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configurations_go_beside_the_webhook() {
        for (webhook, configurations) in [
            ("http://a", "http://a/connector-configurations"),
            ("http://a:8080/", "http://a:8080/connector-configurations"),
            ("http://a/message/receive", "http://a/connector-configurations"),
            ("http://a/receive", "http://a/connector-configurations"),
            ("http://a/whatsapp/ccm-msg/receive/", "http://a/whatsapp/connector-configurations"),
            ("https://a/whatsapp", "https://a/whatsapp/connector-configurations"),
            ("https://a/hook?token=1", "https://a/hook/connector-configurations?token=1"),
        ] {
            let url = Url::parse(webhook).expect("is one");
            assert_eq!(beside(url).as_uri().to_string(), configurations);
        }
    }

    #[test]
    fn a_connector_that_has_no_such_path_is_not_asked_again() {
        let after = |status, retry_after| {
            Next::after(&Ok(Answer { status, retry_after, body: Default::default(), duration: Duration::ZERO }))
        };
        for status in [200, 202, 400, 404, 405, 410] {
            assert_eq!(after(status, None), Next::Done, "{status}");
        }
        let asked = Some(Duration::from_secs(7));
        for status in [301, 401, 429, 500, 503] {
            assert_eq!(after(status, asked), Next::Again(asked), "{status}");
        }
        assert_eq!(Next::after(&Err(Failure::Dns { cause: "x".into() })), Next::Again(None));
    }

    #[test]
    fn a_connector_is_told_what_there_is_for_it_and_that_there_is_nothing_any_more() {
        let attribute = pb::Attribute { key: Some("account".into()), ..pb::Attribute::default() };
        let connector = pb::Endpoint { uri: "http://a".into(), ..pb::Endpoint::default() };
        let disabled = pb::Endpoint { disabled: true, ..connector.clone() };
        let bare = pb::Channel { connector: Some(connector), ..pb::Channel::default() };
        let full = pb::Channel { attributes: vec![attribute], ..bare.clone() };
        assert!(is_told(&full, None) && is_told(&full, Some(&bare)) && is_told(&bare, Some(&full)));
        assert!(!is_told(&bare, None) && !is_told(&bare, Some(&bare)));
        for connector in [None, Some(disabled)] {
            assert!(!is_told(&pb::Channel { connector, ..full.clone() }, Some(&full)));
        }
    }
}
