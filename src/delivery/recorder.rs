//! Writes down what attempts have led to. It is not given up before the log has it: what the log does not know would be sent again.
//!
//! Lanes do not wait for that, so that what nobody waits for waits a little for more that can be written with it: each write costs a
//! sync, and as many threads that wake up for it.

use super::attempt::Sender;
use super::ended;
use super::record::Record;
use crate::message::Limits;
use crate::metrics;
use crate::outcomes::Waiters;
use crate::pb;
use crate::pb::store::DeliveryState;
use crate::receipts;
use crate::sessions;
use crate::store::{self, AppendError, DeliveryId, Facts, Frame, Position};
use crate::timeline::timeline;
use crate::violation::Violations;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// Wait before the log is asked again.
const PATIENCE: Duration = Duration::from_millis(200);

/// Wait for more to be written at once, where nobody waits.
const GATHERING: Duration = Duration::from_millis(1);

/// Most steps that are written at once.
const AT_ONCE: usize = 128;

/// Most writes that are on their way at a time.
const WRITES: usize = 8;

/// See the module.
#[derive(Debug)]
pub(super) struct Recorder {
    pub(super) sender: Arc<Sender>,
    pub(super) waiters: Waiters,
    pub(super) limits: Limits,
    pub(super) metrics: Arc<metrics::Delivery>,
    /// Hears what more was written, or could not be.
    pub(super) done: mpsc::UnboundedSender<Written>,
    /// Ends the attempts to write.
    pub(super) stop: CancellationToken,
}

/// Records that are written, or that could not be.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) count: usize,
    /// The deliveries of those that tell that one was given up without an attempt.
    pub(super) given_up: Vec<DeliveryId>,
}

/// A step, and what is written with it.
#[derive(Debug)]
struct Prepared {
    record: Record,
    /// True if somebody waits for the outcome, who will be told it.
    answered: bool,
    answers: Vec<(pb::CimMessage, bool)>,
}

/// Steps that have their place in the log.
struct Staged {
    /// Of each step, whether it has: that of a delivery which somebody else has settled has none.
    open: Vec<bool>,
    /// Tells once they are durable; none if no step has a place.
    frame: Option<store::Staged>,
}

impl Staged {
    /// Of so many steps that are given up.
    fn none(steps: usize) -> Self {
        Self { open: vec![false; steps], frame: None }
    }
}

impl Recorder {
    /// Writes down what comes, in the order in which it comes, until nothing more can.
    pub(super) async fn run(self, mut records: mpsc::UnboundedReceiver<Record>) {
        let this = Arc::new(self);
        let mut come = Vec::with_capacity(AT_ONCE);
        let mut writes = JoinSet::new();
        // Of writes that are done: memory that is new costs more than to use it again.
        let mut buffers = Vec::new();
        loop {
            tokio::select! {
                biased;
                Some(written) = writes.join_next() => {
                    let buffer = ended(written);
                    if buffers.len() < WRITES {
                        buffers.push(buffer);
                    }
                }
                count = records.recv_many(&mut come, AT_ONCE), if writes.len() < WRITES => {
                    if count == 0 {
                        break;
                    }
                    let mut steps = buffers.pop().unwrap_or_else(|| Vec::with_capacity(AT_ONCE));
                    steps.extend(come.drain(..).map(|record| this.prepare(record)));
                    if !steps.iter().any(|prepared| prepared.answered) && steps.len() < AT_ONCE {
                        sleep(GATHERING).await;
                        while steps.len() < AT_ONCE
                            && let Ok(record) = records.try_recv()
                        {
                            steps.push(this.prepare(record));
                        }
                    }
                    while !steps.is_empty() {
                        // What a bot answers may open a session that the next answer belongs to: it ends what is written at once.
                        let last = steps.iter().position(|prepared| !prepared.answers.is_empty());
                        let later = last.map_or_else(Vec::new, |last| steps.split_off(last + 1));
                        let staged = this.stage(&mut steps).await;
                        writes.spawn(this.clone().finish(std::mem::replace(&mut steps, later), staged));
                    }
                }
            }
        }
        while let Some(written) = writes.join_next().await {
            let _buffer = ended(written);
        }
    }

    fn prepare(&self, record: Record) -> Prepared {
        if !record.settles() {
            record.waited_for_at().for_each(|message| self.waiters.not_soon(message));
            return Prepared { record, answered: false, answers: Vec::new() };
        }
        let mut answered = false;
        for message in record.waited_for_at() {
            answered |= self.waiters.promise(message);
        }
        let answers = record.answers(self.sender.store.number(), &self.sender.channels.snapshot(), &self.limits);
        Prepared { record, answered, answers }
    }

    /// Gives steps their place in the log, once the store can be asked for that.
    async fn stage(&self, steps: &mut [Prepared]) -> Staged {
        loop {
            match self.try_to_stage(steps).await {
                Ok(staged) => return staged,
                Err(error) => self.wait_for_store(&error).await,
            }
            if self.stop.is_cancelled() {
                return Staged::none(steps.len());
            }
        }
    }

    /// Gives steps their place in the log. What a bot answers is of the last one.
    async fn try_to_stage(&self, steps: &mut [Prepared]) -> Result<Staged, store::Error> {
        for step in &mut *steps {
            step.record.read_again(&self.sender).await?;
        }
        let mut open = Vec::with_capacity(steps.len());
        let snapshot = self.sender.channels.snapshot();
        // Made before, because nobody else can append while the frame is made.
        let mut frame: Frame = steps.iter_mut().map(|step| step.record.entry(step.answered, &snapshot)).collect();
        let make = |facts: &dyn Facts| {
            // What is given up may just have got through.
            let is_settled = |i: usize, record: &Record| {
                record.gives_up() && steps[..i].iter().any(|step| step.record.settles() && step.record.id() == record.id())
            };
            let is_open = |(i, step): (usize, &Prepared)| facts.is_open(step.record.id()) && !is_settled(i, &step.record);
            open.extend(steps.iter().enumerate().map(is_open));
            let mut are_open = open.iter();
            frame.retain(|_| are_open.next() == Some(&true));
            for entry in &mut frame {
                sessions::bring_up_to_date(entry, facts);
                receipts::hold_earlier(entry, facts);
            }
            if let (Some(Prepared { record, answers, .. }), Some(true)) = (steps.last(), open.last()) {
                record.answer(&mut frame, answers, facts, &snapshot);
            }
            if frame.is_empty() { Err(Violations::default()) } else { Ok(frame) }
        };
        match self.sender.store.stage(None, Box::new(make)).await {
            Ok(frame) => Ok(Staged { open, frame: Some(frame) }),
            Err(AppendError::Refused(_)) => Ok(Staged { open, frame: None }),
            Err(AppendError::Store(error)) => Err(error),
        }
    }

    /// Waits until steps are durable, and tells who waits for them. Returns what they were in, empty.
    async fn finish(self: Arc<Self>, mut steps: Vec<Prepared>, mut staged: Staged) -> Vec<Prepared> {
        let mut written = Vec::new();
        while let Some(frame) = staged.frame.take() {
            match frame.durable().await {
                Ok(frame) => written = frame,
                Err(error) => {
                    self.wait_for_store(&error).await;
                    // Behind later ones, if need be. A step of a delivery that they have settled is left out.
                    staged = if self.stop.is_cancelled() { Staged::none(steps.len()) } else { self.stage(&mut steps).await };
                }
            }
        }
        for (Prepared { record, .. }, is_durable) in steps.iter().zip(staged.open) {
            self.tell(record, is_durable);
        }
        for entry in written.iter().map(|stored| &stored.entry).filter(|entry| entry.message.is_none() && entry.earlier != 0) {
            self.tell_early(Position(entry.about)).await;
        }
        let given_up = steps.iter().filter(|step| step.record.gives_up()).map(|step| step.record.id()).collect();
        let _nobody_counts = self.done.send(Written { count: steps.len(), given_up });
        steps.clear();
        steps
    }

    /// The store cannot write at the moment: it is asked again a little later.
    async fn wait_for_store(&self, error: &store::Error) {
        tracing::warn!(error = error as &dyn std::error::Error, "the outcome of a delivery cannot be stored yet");
        tokio::select! {
            () = sleep(PATIENCE) => {}
            () = self.stop.cancelled() => {}
        }
    }

    /// Tells whoever waits what receipts have told of a message, which were faster than the answer of its receiver.
    async fn tell_early(&self, message: Position) {
        if !self.waiters.are_there() {
            return;
        }
        let store = &*self.sender.store;
        let outcome = async {
            let Some(about) = store.entry(message).await? else { return Ok(None) };
            Ok::<_, store::Error>(timeline(store, &about).await?.outcome)
        };
        match outcome.await {
            Ok(Some(outcome)) => self.waiters.known(message, outcome),
            Ok(None) => {}
            Err(error) => {
                tracing::debug!(error = &error as &dyn std::error::Error, "whoever waits for an outcome is not told at once");
            }
        }
    }

    fn tell(&self, record: &Record, is_durable: bool) {
        if !record.settles() {
            return;
        }
        if is_durable {
            self.metrics.settled(word(record.state()));
        }
        for message in record.waited_for_at() {
            match record.outcome() {
                _ if !is_durable => self.waiters.not_soon(message),
                Some(outcome) => self.waiters.known(message, outcome.clone()),
                None => self.waiters.accepted(message),
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
