//! Writes down what attempts have led to. It is not given up before the log has it: what the log does not know would be sent again.

use super::answer::Report;
use super::attempt::{Decided, Sender};
use super::bot;
use super::lanes::{Decision, Start};
use super::outcome::{outcome, settled, step_alone};
use crate::message::{self, Limits};
use crate::metrics;
use crate::outcomes::Waiters;
use crate::pb;
use crate::pb::store::{DeliveryState, DeliveryStep, Endpoint, Submission};
use crate::planning;
use crate::sessions;
use crate::store::{AppendError, Delivery, DeliveryId, DeliveryName, Facts, Frame, Progress, Stored, message_of};
use crate::violation::Violations;
use crate::wire;
use prost_types::Timestamp;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Wait before the log is asked again.
const PATIENCE: Duration = Duration::from_millis(200);

/// Writes outcomes down. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Recorder {
    pub(super) sender: Arc<Sender>,
    pub(super) waiters: Waiters,
    pub(super) limits: Limits,
    pub(super) metrics: Arc<metrics::Delivery>,
    /// Ends the attempts to write.
    pub(super) stop: CancellationToken,
}

/// Tells answers of bots apart from everything else that has an id.
const ANSWERS: Uuid = Uuid::from_u128(0x4a1d_2f6b_0c3e_5b77_9d41_6e0f_83a2_c915);

impl Recorder {
    /// Writes down what an attempt has led to, and tells who waits for it.
    pub(super) async fn record(self, start: Start, decided: Box<Decided>, decision: Decision) {
        let id = start.delivery.id;
        let Decided { stored, attempt, report, answers, .. } = *decided;
        let now = wire::now();
        let Decision { state, attempts, due, .. } = decision;
        let step = DeliveryStep {
            planned_at: id.planned_at.0,
            endpoint: id.endpoint.into(),
            state: state.into(),
            attempts,
            due: due.map(at),
            attempt: Some(attempt),
        };
        // It is open as long as an attempt is due.
        if due.is_some() {
            self.waiters.not_soon(id.planned_at);
            self.append(|_| Ok(vec![step_alone(step.clone())]), id).await;
            return;
        }
        let answers = self.answers(&start, &answers, &stored.entry, now);
        self.settle(id, step, report, &stored, &answers, now).await;
    }

    /// Gives up a delivery that is too old, and that nothing attempts.
    pub(super) async fn give_up(self, delivery: Delivery, stored: Stored) {
        let state = if stored.entry.ephemeral { DeliveryState::Discarded } else { DeliveryState::Failed };
        let step = Progress { state, due: 0, ..delivery.progress }.to_pb(delivery.id);
        let report = Report { text: Some("it could not be delivered in time".into()), ..Report::default() };
        self.settle(delivery.id, step, report, &stored, &[], wire::now()).await;
    }

    /// Settles a delivery, and tells who waits for that.
    async fn settle(
        &self,
        id: DeliveryId,
        step: DeliveryStep,
        mut report: Report,
        stored: &Stored,
        answers: &[(pb::CimMessage, bool)],
        now: Timestamp,
    ) {
        let provider_id = report.provider_id.take();
        let state = step.state();
        let outcome = outcome(state, report);
        // Who is told by the answer is not told once more; who has left is.
        let answered = self.waiters.promise(id.planned_at);
        let make = |facts: &dyn Facts| {
            let snapshot = self.sender.channels.snapshot();
            let mut entry = settled(step.clone(), outcome.as_ref(), provider_id.clone(), stored, now);
            if !answered {
                planning::plan(&mut entry, &snapshot);
            }
            let mut frame = vec![entry];
            for (message, is_suggestion) in answers {
                match sessions::route(facts, &snapshot, message.clone(), Submission::default(), now) {
                    Ok(routed) => frame.extend(routed.into_iter().map(|mut entry| {
                        if *is_suggestion {
                            entry.audiences = vec![pb::Audience::Platform.into()];
                        } else {
                            planning::plan(&mut entry, &snapshot);
                        }
                        entry
                    })),
                    Err(violations) => tracing::warn!(?violations, "a bot's answer belongs nowhere and is left out"),
                }
            }
            Ok(frame)
        };
        let is_durable = self.append(make, id).await;
        if is_durable {
            self.metrics.settled(word(state));
        }
        match outcome {
            _ if !is_durable => self.waiters.not_soon(id.planned_at),
            Some(outcome) => self.waiters.known(id.planned_at, outcome),
            None => self.waiters.accepted(id.planned_at),
        }
    }

    /// Appends the frame that `make` makes, unless the delivery is settled already. True if it is durable.
    async fn append(&self, make: impl Fn(&dyn Facts) -> Result<Frame, Violations> + Send + Sync, id: DeliveryId) -> bool {
        loop {
            let stage = Box::new(|facts: &dyn Facts| match facts.delivery(id) {
                Some(delivery) if delivery.progress.is_open() => make(facts),
                _ => Err(Violations::default()),
            });
            match self.sender.store.append(None, stage).await {
                Ok(_) => return true,
                // Somebody else has settled it.
                Err(AppendError::Refused(_)) => return false,
                Err(AppendError::Store(error)) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "the outcome of a delivery cannot be stored yet");
                }
            }
            tokio::select! {
                () = sleep(PATIENCE) => {}
                () = self.stop.cancelled() => return false,
            }
        }
    }

    /// The messages that a bot answered with. Their ids follow from the delivery's, so that an answer that comes twice is one message.
    fn answers(
        &self,
        start: &Start,
        answers: &[bot::Answer],
        about: &pb::store::Entry,
        now: Timestamp,
    ) -> Vec<(pb::CimMessage, bool)> {
        if answers.is_empty() || start.key.endpoint != Endpoint::Bot {
            return Vec::new();
        }
        let snapshot = self.sender.channels.snapshot();
        let channel = snapshot.by_id(&start.key.channel_id);
        let Some(bot) = channel.and_then(|channel| channel.bot.as_ref()) else { return Vec::new() };
        let Some(about) = message_of(about) else { return Vec::new() };
        let name = DeliveryName { log: self.sender.store.number(), id: start.delivery.id }.to_string();
        let mut messages = Vec::with_capacity(answers.len());
        for (i, answer) in answers.iter().enumerate() {
            let id = Uuid::new_v5(&ANSWERS, format!("{name} {i}").as_bytes()).to_string();
            let (mut message, mut violations) = answer.message(about, bot, id);
            violations.follow_up(message::check(&mut message, &self.limits));
            if violations.is_empty() {
                message.header.get_or_insert_default().timestamp.get_or_insert(now);
                messages.push((message, answer.is_suggestion));
            } else {
                let bot = &bot.id;
                tracing::warn!(bot, ?violations, "a bot's answer is no message and is left out");
            }
        }
        messages
    }
}

/// The word for a state that settles a delivery.
const fn word(state: DeliveryState) -> &'static str {
    match state {
        DeliveryState::Delivered => "delivered",
        DeliveryState::Accepted => "accepted",
        DeliveryState::Failed => "dead",
        DeliveryState::Discarded => "discarded",
        DeliveryState::Unspecified | DeliveryState::Pending | DeliveryState::Parked => "open",
    }
}

/// The time of an instant that is still to come.
fn at(due: Instant) -> Timestamp {
    Timestamp::from(SystemTime::now() + due.saturating_duration_since(Instant::now()))
}
