//! Writes down what attempts have led to. It is not given up before the log has it: what the log does not know would be sent again.
//!
//! Lanes do not wait for that, so that what nobody waits for waits a little for more that can be written with it: each write costs a
//! sync, and as many threads that wake up for it.

use super::attempt::Sender;
use super::record::Record;
use crate::message::Limits;
use crate::metrics;
use crate::outcomes::Waiters;
use crate::pb;
use crate::pb::store::DeliveryState;
use crate::store::{AppendError, Facts};
use crate::violation::Violations;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// Wait before the log is asked again.
const PATIENCE: Duration = Duration::from_millis(200);

/// Wait for more to be written at once, where nobody waits.
const GATHERING: Duration = Duration::from_millis(1);

/// Most steps that are written at once.
const AT_ONCE: usize = 128;

/// See the module.
#[derive(Debug)]
pub(super) struct Recorder {
    pub(super) sender: Arc<Sender>,
    pub(super) waiters: Waiters,
    pub(super) limits: Limits,
    pub(super) metrics: Arc<metrics::Delivery>,
    /// What is to be written.
    pub(super) records: mpsc::UnboundedReceiver<Record>,
    /// Hears how many more were written, or given up.
    pub(super) done: mpsc::UnboundedSender<usize>,
    /// Ends the attempts to write.
    pub(super) stop: CancellationToken,
}

/// A step, and what is written with it.
#[derive(Debug)]
struct Prepared {
    record: Record,
    /// True if somebody waits for the outcome, who will be told it.
    answered: bool,
    answers: Vec<(pb::CimMessage, bool)>,
}

impl Recorder {
    /// Writes down what comes, until nothing more can.
    pub(super) async fn run(mut self) {
        let mut come = Vec::with_capacity(AT_ONCE);
        while self.records.recv_many(&mut come, AT_ONCE).await > 0 {
            let mut batch: Vec<_> = come.drain(..).map(|record| self.prepare(record)).collect();
            if !batch.iter().any(|prepared| prepared.answered) && batch.len() < AT_ONCE {
                sleep(GATHERING).await;
                while batch.len() < AT_ONCE
                    && let Ok(record) = self.records.try_recv()
                {
                    batch.push(self.prepare(record));
                }
            }
            let count = batch.len();
            self.write(batch).await;
            let _nobody_counts = self.done.send(count);
        }
    }

    fn prepare(&self, record: Record) -> Prepared {
        let planned_at = record.id.planned_at;
        if !record.settles() {
            self.waiters.not_soon(planned_at);
            return Prepared { record, answered: false, answers: Vec::new() };
        }
        let answered = self.waiters.promise(planned_at);
        let answers = record.answers(self.sender.store.number(), &self.sender.channels.snapshot(), &self.limits);
        Prepared { record, answered, answers }
    }

    /// Writes steps down, and tells who waits for them.
    async fn write(&self, batch: Vec<Prepared>) {
        let mut rest = &batch[..];
        while !rest.is_empty() {
            // What a bot answers may open a session that the next answer belongs to: it ends what is written at once.
            let length = rest.iter().position(|prepared| !prepared.answers.is_empty()).map_or(rest.len(), |last| last + 1);
            let (now, later) = rest.split_at(length);
            let open = self.append(now).await;
            for (Prepared { record, .. }, was_open) in now.iter().zip(open) {
                self.tell(record, was_open);
            }
            rest = later;
        }
    }

    fn tell(&self, record: &Record, is_durable: bool) {
        if !record.settles() {
            return;
        }
        if is_durable {
            self.metrics.settled(word(record.state()));
        }
        let planned_at = record.id.planned_at;
        match record.outcome() {
            _ if !is_durable => self.waiters.not_soon(planned_at),
            Some(outcome) => self.waiters.known(planned_at, outcome.clone()),
            None => self.waiters.accepted(planned_at),
        }
    }

    /// Appends steps at once. Tells of each whether it is durable: that of a delivery which somebody else has settled is left out.
    async fn append(&self, steps: &[Prepared]) -> Vec<bool> {
        loop {
            let mut open = Vec::with_capacity(steps.len());
            let snapshot = self.sender.channels.snapshot();
            let make = |facts: &dyn Facts| {
                open.extend(steps.iter().map(|step| facts.delivery(step.record.id).is_some_and(|now| now.progress.is_open())));
                let still_open = steps.iter().zip(&open).filter(|(_, is_open)| **is_open);
                let frame: Vec<_> = still_open
                    .flat_map(|(Prepared { record, answered, answers }, _)| record.frame(*answered, answers, facts, &snapshot))
                    .collect();
                if frame.is_empty() { Err(Violations::default()) } else { Ok(frame) }
            };
            match self.sender.store.append(None, Box::new(make)).await {
                Ok(_) | Err(AppendError::Refused(_)) => return open,
                Err(AppendError::Store(error)) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "the outcome of a delivery cannot be stored yet");
                }
            }
            tokio::select! {
                () = sleep(PATIENCE) => {}
                () = self.stop.cancelled() => return vec![false; steps.len()],
            }
        }
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
