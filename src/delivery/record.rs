//! What is to be written down of an attempt, or of the lack of one.

use super::answer::Report;
use super::attempt::{Decided, Kept, Sender};
use super::bot;
use super::lanes::Decision;
use super::outcome::{outcome, settled, step_alone};
use crate::channels::Snapshot;
use crate::message::{self, Limits};
use crate::outcomes::Outcome;
use crate::pb;
use crate::pb::store::{DeliveryState, DeliveryStep, Entry, Submission};
use crate::planning;
use crate::sessions;
use crate::store::{self, Ahead, Delivery, DeliveryId, DeliveryName, Facts, Frame, Position, Progress, Stored, message_of};
use crate::wire;
use prost_types::Timestamp;
use std::time::SystemTime;
use tokio::time::Instant;
use uuid::Uuid;

/// Tells answers of bots apart from everything else that has an id.
const ANSWERS: Uuid = Uuid::from_u128(0x4a1d_2f6b_0c3e_5b77_9d41_6e0f_83a2_c915);

/// A step of a delivery.
#[derive(Debug)]
pub(super) struct Record {
    /// Of this delivery.
    pub(super) delivery: Delivery,
    step: DeliveryStep,
    /// None while it stays open.
    settled: Option<Box<Settled>>,
    /// True if nothing was attempted.
    gives_up: bool,
    at: Timestamp,
}

/// A delivery that is settled.
#[derive(Debug)]
struct Settled {
    /// The entry with the message; none once an entry was made of it, and where the log has it no more.
    stored: Option<Stored>,
    outcome: Option<Outcome>,
    provider_id: Option<String>,
    answers: Vec<bot::Answer>,
}

impl Record {
    /// What an attempt has led to.
    pub(super) fn of(delivery: Delivery, decided: Box<Decided>, decision: Decision) -> Self {
        let Decided { stored, attempt, report, answers, .. } = *decided;
        let Decision { state, attempts, due, .. } = decision;
        let step = DeliveryStep {
            planned_at: delivery.id.planned_at.0,
            endpoint: delivery.id.endpoint.into(),
            state: state.into(),
            attempts,
            due: due.map(at),
            attempt: Some(attempt),
            provider_message_id: String::new(),
        };
        // It is open as long as an attempt is due.
        let settled = due.is_none().then(|| Box::new(Settled::new(state, Some(stored), report, answers)));
        Self { delivery, step, settled, gives_up: false, at: wire::now() }
    }

    /// That a delivery is given up, which is too old, and which nothing attempts. It has no entry if its message is gone.
    pub(super) fn given_up(delivery: Delivery, stored: Option<Stored>) -> Self {
        let (state, why) = match &stored {
            None => (DeliveryState::Failed, "its message is no longer kept"),
            Some(stored) if stored.entry.ephemeral => (DeliveryState::Discarded, "it could not be delivered in time"),
            Some(_) => (DeliveryState::Failed, "it could not be delivered in time"),
        };
        let step = Progress { state, due: 0, ..delivery.progress }.to_pb(delivery.id);
        let report = Report { text: Some(why.into()), ..Report::default() };
        let settled = Settled::new(state, stored, report, Vec::new());
        Self { delivery, step, settled: Some(Box::new(settled)), gives_up: true, at: wire::now() }
    }

    /// The delivery.
    pub(super) const fn id(&self) -> DeliveryId {
        self.delivery.id
    }

    /// Where somebody may wait for the outcome: at the message, which what was redriven has elsewhere than its plan.
    pub(super) fn waited_for_at(&self) -> impl Iterator<Item = Position> + use<> {
        let (planned_at, message) = (self.delivery.id.planned_at, self.delivery.message);
        std::iter::once(planned_at).chain((message != planned_at).then_some(message))
    }

    /// True if the delivery is settled by it.
    pub(super) const fn settles(&self) -> bool {
        self.settled.is_some()
    }

    /// True if the delivery is given up without an attempt.
    pub(super) const fn gives_up(&self) -> bool {
        self.gives_up
    }

    /// How far the delivery is with it.
    pub(super) fn state(&self) -> DeliveryState {
        self.step.state()
    }

    /// What it means to the senders of the message; none if the receiver is yet to tell.
    pub(super) fn outcome(&self) -> Option<&Outcome> {
        self.settled.as_ref()?.outcome.as_ref()
    }

    /// The messages that a bot answered with, and whether each is a suggestion. Their ids follow from the delivery's, so that an answer
    /// that comes twice is one message. `log` is the number of the log.
    pub(super) fn answers(&self, log: u64, snapshot: &Snapshot, limits: &Limits) -> Vec<(pb::CimMessage, bool)> {
        let Some(Settled { stored: Some(stored), answers, .. }) = self.settled.as_deref() else { return Vec::new() };
        let channel = snapshot.by_id(&self.delivery.channel_id).filter(|_| !answers.is_empty());
        let Some(bot) = channel.and_then(|channel| channel.bot.as_ref()) else { return Vec::new() };
        let Some(about) = message_of(&stored.entry) else { return Vec::new() };
        let name = DeliveryName { log, id: self.id() }.to_string();
        let mut messages = Vec::with_capacity(answers.len());
        for (i, answer) in answers.iter().enumerate() {
            let id = Uuid::new_v5(&ANSWERS, format!("{name} {i}").as_bytes()).to_string();
            let (mut message, mut violations) = answer.message(about, bot, id);
            violations.follow_up(message::check(&mut message, limits));
            if violations.is_empty() {
                message.header.get_or_insert_default().timestamp.get_or_insert(self.at);
                messages.push((message, answer.is_suggestion));
            } else {
                let bot = &bot.id;
                tracing::warn!(bot, rules = violations.rules(), "a bot's answer is no message and is left out");
            }
        }
        messages
    }

    /// The entry of the step and of its outcome, which senders that wait are told by the answer if it is `answered`. It takes the
    /// message along: [`Self::read_again`] comes before another.
    pub(super) fn entry(&mut self, answered: bool, snapshot: &Snapshot) -> Entry {
        let step = self.step.clone();
        let Some(Settled { stored, outcome, provider_id, .. }) = self.settled.as_deref_mut() else { return step_alone(step) };
        let mut entry = settled(step, outcome.as_ref(), provider_id.clone(), stored.take(), self.at);
        // Who is told by the answer is not told once more; who has left is.
        if !answered {
            planning::plan(&mut entry, snapshot);
        }
        entry
    }

    /// Reads the message again that an entry has taken along. Where that is damaged the step alone is to be told: it must not hold up all
    /// others.
    pub(super) async fn read_again(&mut self, sender: &Sender) -> Result<(), store::Error> {
        let Some(settled) = self.settled.as_deref_mut().filter(|settled| settled.stored.is_none()) else { return Ok(()) };
        match sender.message(&self.delivery).await {
            Ok(Kept::Here(stored)) => settled.stored = Some(stored),
            Ok(Kept::Gone | Kept::Settled) => {}
            Err(store::Error::Busy) => return Err(store::Error::Busy),
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "an outcome is told to nobody: its message cannot be read"
                );
            }
        }
        Ok(())
    }

    /// Adds the entries of a bot's answers to a frame. Each goes where it would go if all before it had been appended already: an answer
    /// may open the session that the next one belongs to, or end it.
    pub(super) fn answer(&self, frame: &mut Frame, answers: &[(pb::CimMessage, bool)], facts: &dyn Facts, snapshot: &Snapshot) {
        for (message, is_suggestion) in answers {
            let facts = Ahead::of(facts, frame);
            match sessions::route(&facts, snapshot, message.clone(), Submission::default(), self.at) {
                Ok(mut routed) => {
                    routed.iter_mut().for_each(|entry| plan_answer(entry, *is_suggestion, snapshot));
                    frame.append(&mut routed);
                }
                Err(violations) => {
                    tracing::warn!(rules = violations.rules(), "a bot's answer belongs nowhere and is left out");
                }
            }
        }
    }
}

/// Plans the deliveries of an entry of a bot's answer. A suggestion is only for who helps to answer; what the gateway tells of its session
/// is for both sides, as ever.
fn plan_answer(entry: &mut Entry, is_suggestion: bool, snapshot: &Snapshot) {
    if is_suggestion && !entry.message.as_deref().is_some_and(sessions::is_notice) {
        entry.audiences = vec![pb::Audience::Platform.into()];
    } else {
        planning::plan(entry, snapshot);
    }
}

impl Settled {
    fn new(state: DeliveryState, stored: Option<Stored>, mut report: Report, answers: Vec<bot::Answer>) -> Self {
        let provider_id = report.provider_id.take();
        Self { stored, outcome: outcome(state, report), provider_id, answers }
    }
}

/// The time of an instant that is still to come.
fn at(due: Instant) -> Timestamp {
    Timestamp::from(SystemTime::now() + due.saturating_duration_since(Instant::now()))
}
