//! One attempt: the message is read, put into the form that its receiver takes, and sent.

use super::Settings;
use super::answer::{Report, excerpt};
use super::bot;
use super::lanes::{Start, Terms};
use super::verdict::Verdict;
use super::webhooks::Webhooks;
use crate::channels::Channels;
use crate::pb;
use crate::pb::store::{Attempt, DeliveryState, Endpoint};
use crate::pb::{BotFormat, DeliveryOrder};
use crate::store::{self, Delivery, DeliveryName, Store, Stored, Wanted, accepted_at, message_of, planned_at};
use crate::webhook::{Client, Failure, Id, Post, TraceParent};
use crate::wire;
use http::{HeaderMap, HeaderName, HeaderValue};
use prost_types::Timestamp;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::time::Instant;

/// How long typing is worth telling.
const TYPING_LASTS: Duration = Duration::from_secs(5);

/// Tells a receiver that earlier messages may have come before this one although they were sent later.
const LATE: HeaderName = HeaderName::from_static("cim-late");

pub(super) const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// What attempts need.
#[derive(Debug)]
pub(super) struct Sender {
    pub(super) store: Arc<dyn Store>,
    pub(super) channels: Channels,
    pub(super) client: Client,
    pub(super) webhooks: Webhooks,
    pub(super) settings: Settings,
}

/// An attempt that has ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) start: Start,
    pub(super) end: End,
}

/// How an attempt has ended.
#[derive(Debug)]
pub(super) enum End {
    /// It came to a verdict.
    Decided(Box<Decided>),
    /// It could not be made: the store cannot be read at the moment.
    Postponed,
    /// There is nothing to attempt any more.
    Settled,
    /// There is no message to attempt it with.
    Lost,
}

/// What there is of the message of a delivery.
#[derive(Debug)]
pub(super) enum Kept {
    /// The entry that has it.
    Here(Stored),
    /// The log has let go of it although the delivery is open: the memory engine carries nothing forward, and earlier versions of the
    /// embedded one did not carry the messages of what was redriven.
    Gone,
    /// It does not matter: the delivery is settled.
    Settled,
}

/// What is known after an attempt.
#[derive(Debug)]
pub(super) struct Decided {
    pub(super) stored: Stored,
    pub(super) verdict: Verdict,
    pub(super) terms: Terms,
    pub(super) attempt: Attempt,
    /// How long the webhook took; none if it was not called.
    pub(super) took: Option<Duration>,
    pub(super) report: Report,
    /// Messages that the receiver answered with.
    pub(super) answers: Vec<bot::Answer>,
}

impl Sender {
    pub(super) async fn attempt(&self, start: Start) -> Ended {
        let end = self.try_to_send(&start).await.unwrap_or_else(|error| {
            tracing::warn!(error = &error as &dyn std::error::Error, "a message cannot be read to be delivered");
            End::Postponed
        });
        Ended { start, end }
    }

    async fn try_to_send(&self, start: &Start) -> Result<End, store::Error> {
        let stored = match self.message(&start.delivery).await? {
            Kept::Here(stored) => stored,
            Kept::Gone => return Ok(End::Lost),
            Kept::Settled => return Ok(End::Settled),
        };
        let planned_at = self.planned_at(&start.delivery, &stored).await?;
        Ok(End::Decided(Box::new(self.send(start, stored, planned_at).await)))
    }

    /// The message of a delivery, wherever it is by now.
    pub(super) async fn message(&self, delivery: &Delivery) -> Result<Kept, store::Error> {
        let mut message = delivery.message;
        loop {
            if let Some(stored) = self.store.entry(message).await? {
                return Ok(Kept::Here(stored));
            }
            // It may have been carried forward. That can be seen before the log lets go of where it was.
            let now = self.store.deliveries(delivery.id.before(), Wanted::Lane(delivery.lane), 1).await?;
            match now.found.into_iter().find(|now| now.id == delivery.id) {
                None => return Ok(Kept::Settled),
                Some(now) if now.message != message => message = now.message,
                Some(_) if message < self.store.span().oldest => return Ok(Kept::Gone),
                // What carries it is not durable yet.
                Some(_) => return Err(store::Error::Busy),
            }
        }
    }

    /// When a delivery was planned: with its message, or later if it was redriven. `stored` is the entry with the message.
    pub(super) async fn planned_at(&self, delivery: &Delivery, stored: &Stored) -> Result<Option<Timestamp>, store::Error> {
        if delivery.id.planned_at != stored.position
            && let Some(planned) = self.store.entry(delivery.id.planned_at).await?
        {
            return Ok(planned.entry.accepted_at);
        }
        Ok(planned_at(&stored.entry))
    }

    async fn send(&self, start: &Start, stored: Stored, planned_at: Option<Timestamp>) -> Decided {
        let began_at = Timestamp::from(SystemTime::now());
        let begun = Instant::now();
        let once = stored.entry.ephemeral;
        let snapshot = self.channels.snapshot();
        let channel = snapshot.by_id(&start.key.channel_id);
        let strict = channel
            .is_some_and(|channel| channel.delivery.as_ref().is_some_and(|delivery| delivery.order() == DeliveryOrder::Strict));
        let terms = Terms { strict, expired: age_at(planned_at, &began_at) >= self.settings.max_age, once };
        let mut decided = Decided {
            verdict: Verdict::NotCalled,
            terms,
            attempt: Attempt { began_at: Some(began_at), ..Attempt::default() },
            took: None,
            report: Report::default(),
            answers: Vec::new(),
            stored,
        };
        if once && age_at(accepted_at(&decided.stored.entry), &began_at) >= TYPING_LASTS {
            decided.attempt.failure = "it is too old to be of use".into();
            return decided;
        }
        let webhook = channel.and_then(|channel| Some((channel, self.webhooks.of(channel, &start.key)?)));
        let Some((channel, webhook)) = webhook else {
            decided.attempt.failure = "its channel has no such webhook any more".into();
            decided.report.reason_code = Some("404".into());
            decided.report.text = Some(decided.attempt.failure.clone());
            return decided;
        };
        let Some(url) = &webhook.url else {
            decided.verdict = Verdict::EndpointFailed { retry_after: None };
            decided.attempt.failure = "its address cannot be read".into();
            return decided;
        };
        let Some(message) = message_of(&decided.stored.entry) else { return decided };
        let takes_envelopes =
            start.key.endpoint == Endpoint::Bot && channel.bot.as_ref().is_some_and(|bot| bot.format() == BotFormat::Bot);
        let body = if takes_envelopes { bot::envelope(message) } else { wire::encode(message) };
        let name = DeliveryName { log: self.store.number(), id: start.delivery.id };
        let id = Id::new(name.to_string()).expect("base64 is visible and has no full stop");
        let mut headers = HeaderMap::new();
        if start.delivery.progress.state == DeliveryState::Parked {
            headers.insert(LATE, HeaderValue::from_static("true"));
        }
        let timeout = if once { Some(TYPING_LASTS) } else { timeout(channel) };
        let post = Post {
            url,
            id: &id,
            content_type: JSON,
            body: body.into(),
            secrets: &webhook.secrets,
            trace: TraceParent::new(),
            headers,
            timeout,
        };
        let outcome = self.client.post(post).await;
        decided.verdict = Verdict::of(&outcome);
        let is_refused = decided.verdict == Verdict::Refused;
        let took = begun.elapsed();
        decided.took = Some(took);
        decided.attempt.millis = u32::try_from(took.as_millis()).unwrap_or(u32::MAX);
        match outcome {
            Ok(answer) => {
                decided.attempt.status = answer.status.into();
                decided.attempt.answer = excerpt(&answer.body, self.settings.excerpt);
                decided.report = Report::read(&answer.body);
                if takes_envelopes && decided.verdict == Verdict::Delivered {
                    decided.answers = answers(channel, &answer.body);
                }
                if decided.report.failed() && matches!(decided.verdict, Verdict::Delivered | Verdict::Accepted) {
                    // It was heard, and says that it will come to nothing.
                    decided.verdict = Verdict::Refused;
                }
            }
            Err(failure) => {
                decided.attempt.status = status_of(&failure).map_or(0, Into::into);
                decided.attempt.failure = failure.to_string();
            }
        }
        // Also where its answer could not be read to the end.
        if is_refused && decided.report.reason_code.is_none() {
            decided.report.reason_code = Some("400".into());
            decided.report.text = Some(format!("the receiver answered {}", decided.attempt.status));
        }
        if matches!(decided.verdict, Verdict::MessageFailed { .. } | Verdict::EndpointFailed { .. } | Verdict::Gone) {
            decided.report.text.get_or_insert_with(|| match &*decided.attempt.failure {
                "" => format!("the receiver answered {}", decided.attempt.status),
                failure => failure.to_owned(),
            });
        }
        decided
    }
}

/// What a bot has answered. It has the message, so that an answer that cannot be read is no reason to send it again.
fn answers(channel: &pb::Channel, answer: &[u8]) -> Vec<bot::Answer> {
    bot::answers(answer).unwrap_or_else(|error| {
        let bot = channel.bot.as_ref().map(|bot| &*bot.id);
        // Of the answer, it names one character at most.
        tracing::warn!(channel = channel.id, bot, %error, "a bot's answer cannot be read and is left out");
        Vec::new()
    })
}

/// How old at a time is what there has been since another.
pub(super) fn age_at(since: Option<Timestamp>, now: &Timestamp) -> Duration {
    let millis = wire::to_millis(now).saturating_sub(since.as_ref().map_or(0, wire::to_millis));
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}

/// How long a channel's webhooks may take, where it says so itself.
pub(super) fn timeout(channel: &pb::Channel) -> Option<Duration> {
    let timeout = channel.delivery.as_ref()?.timeout?;
    Duration::try_from(timeout).ok()
}

fn status_of(failure: &Failure) -> Option<u16> {
    match failure {
        Failure::ResponseTimeout { status, .. }
        | Failure::Reset { status, .. }
        | Failure::TooLarge { status, .. }
        | Failure::Malformed { status, .. } => *status,
        _ => None,
    }
}
