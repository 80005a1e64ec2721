//! Keeping the house: a spare segment, room on the disk, and letting go of what is old.

use super::core::{Core, Seen, unavailable};
use super::sessions::Reach;
use crate::pb::store::{Carried, CarriedDelivery, Entry};
use crate::store::index::IndexError;
use crate::store::log::name_of;
use crate::store::tail::{Layers, Tail};
use crate::store::{DeliveryId, Error, Facts as _, Frame, Health, Position, Stored, accepted_at, clock, message_of, planned_at};
use futures::executor::block_on;
use prost_types::Timestamp;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Sessions or deliveries that are carried forward in one frame.
const CARRIED: usize = 64;

/// How long nothing is accepted after something that was staged has been refused, though there is room again.
const REFUSING: Duration = Duration::from_secs(1);

/// A delivery whose message is about to go.
struct Going {
    id: DeliveryId,
    /// The entry with its message.
    stored: Stored,
    /// When it was planned.
    planned_at: Option<Timestamp>,
}

/// What retention has to do.
#[derive(Debug, Default, PartialEq, Eq)]
struct Plan {
    /// What is kept begins here from now on.
    oldest: Option<Position>,
    /// True if there is more than may be kept, and all of it too young to go.
    overfull: bool,
}

impl Core {
    pub(super) fn has_failed(&self) -> bool {
        matches!(&*self.health.borrow(), Health::Failed { .. })
    }

    /// True if nothing waits to be written.
    pub(super) fn all_written(&self, tail: &Tail) -> bool {
        self.has_failed() || (tail.batches.is_empty() && tail.durable == tail.end)
    }

    /// The engine is closed: what is asked of it fails.
    pub(super) fn refuse_from_now_on(&self) {
        self.health.send_if_modified(|health| {
            let open = !matches!(health, Health::Failed { .. });
            if open {
                *health = Health::Failed { cause: "the store is closed".into() };
            }
            open
        });
    }

    /// Looks after room and retention once.
    pub(super) fn keep_house(&self) {
        let kept = self.keep_within_bounds();
        let seen = Seen { index_bytes: self.index.bytes().ok(), free_bytes: self.segments.disk().free().ok() };
        *self.seen.lock() = seen;
        let full = match kept {
            Ok(true) => Some(format!("the log has more than {} bytes, all of them too young to go", self.options.max_bytes)),
            Ok(false) => self.disk_full(seen),
            Err(error) => {
                if !self.has_failed() {
                    tracing::warn!(error = &error as &dyn std::error::Error, "old messages cannot be let go");
                }
                self.disk_full(seen)
            }
        };
        // Who sends in order has to hear of what was refused before anything is accepted that follows it.
        let was_rejected = self.rejected.lock().is_some_and(|at| at.elapsed() < REFUSING);
        if full.is_some() || !was_rejected {
            self.set_full(full);
        }
        self.fill_spare();
    }

    /// Fills the spare segment, if there is none and messages are accepted. False if it could not be.
    pub(super) fn fill_spare(&self) -> bool {
        let filled = self.check_accepting().is_ok().then(|| self.spare.fill(self.options.min_free));
        if let Some(Err(error)) = &filled {
            tracing::debug!(%error, "no spare segment");
        }
        matches!(filled, Some(Ok(())))
    }

    fn disk_full(&self, seen: Seen) -> Option<String> {
        let least = self.options.min_free;
        match seen.free_bytes {
            Some(free) if free < least => Some(format!("{free} bytes are free on the disk, {least} are needed")),
            _ if self.index_is_full() => Some("the index cannot grow".into()),
            _ => None,
        }
    }

    /// Lets go of what is too old or too much. True if there is too much that may not go.
    fn keep_within_bounds(&self) -> Result<bool, Error> {
        let Plan { oldest, overfull } = self.plan()?;
        if let Some(oldest) = oldest {
            self.let_go(oldest)?;
        }
        Ok(overfull)
    }

    fn plan(&self) -> Result<Plan, Error> {
        let segments = self.segments.sizes();
        let total: u64 = segments.iter().map(|(_, bytes)| bytes).sum();
        let indexed = self.index.position().map_err(unavailable)?;
        let lookup = self.index.lookup().map_err(unavailable)?;
        let now = clock::now_after(0);
        // All entries of a segment are as old as the first of the next one, or older. What is not indexed yet stays.
        let age_of = |i: usize| -> Result<Option<Duration>, Error> {
            let Some((next, _)) = segments.get(i + 1).filter(|(next, _)| *next <= indexed) else { return Ok(None) };
            let accepted_at = lookup.accepted_at(*next).map_err(unavailable)?;
            Ok(accepted_at.map(|at| Duration::from_nanos(now.saturating_sub(at).max(0).cast_unsigned())))
        };
        let mut gone = 0;
        let mut left = total;
        while let Some(age) = age_of(gone)? {
            // More than needed goes at once, because looking for what has to be carried forward takes its time.
            let too_much = total > self.options.max_bytes && left > self.options.max_bytes - self.options.max_bytes / 16;
            if age <= self.options.max_age && !(too_much && age >= self.options.min_age) {
                break;
            }
            left -= segments[gone].1;
            gone += 1;
        }
        let oldest = segments.get(gone).filter(|_| gone > 0).map(|(first, _)| *first);
        let may_not_go = age_of(gone)?.is_some_and(|age| age < self.options.min_age);
        Ok(Plan { oldest, overfull: left > self.options.max_bytes && may_not_go })
    }

    /// Drops all segments before the one that begins with `oldest`: what lives on is carried forward, durably and in the index; the
    /// mark is set, durably; then they go.
    fn let_go(&self, oldest: Position) -> Result<(), Error> {
        let before = self.tail.lock().goes_below;
        // Then nothing goes, and what is there may be redriven. Once the mark may have been set, nobody knows that.
        self.carry_forward(oldest).inspect_err(|_| self.tail.lock().goes_below = before)?;
        let failed = |cause: String| Error::Unavailable { cause };
        self.control.set_oldest(oldest).map_err(|error| failed(error.to_string()))?;
        self.tail.lock().oldest = oldest;
        self.shelf.let_go(oldest);
        self.index.forget(oldest).map_err(unavailable)?;
        let disk = self.segments.disk();
        for first in self.segments.firsts().into_iter().filter(|first| *first < oldest) {
            self.segments.forget(first);
            disk.remove(&name_of(first)).map_err(|error| failed(format!("{} cannot be removed: {error}", name_of(first))))?;
        }
        tracing::info!(%oldest, "old messages are gone");
        disk.sync().map_err(|error| failed(error.to_string()))
    }

    /// Tells once more, at the end of the log, every session that has not ended and every delivery that is not settled, and that only
    /// entries below `oldest` tell; also every delivery of a message there, though a later entry has planned it.
    fn carry_forward(&self, oldest: Position) -> Result<(), Error> {
        // In this order: what leaves the tail is in the index before. Nothing is added to it meanwhile.
        let (in_tail, begun) = {
            let mut tail = self.tail.lock();
            (tail.go_below(oldest), Reach { end: tail.end, taken_back: tail.taken_back })
        };
        // So that it can be read.
        self.wait_until_durable(begun)?;
        let (sessions, mut deliveries) =
            self.lookup(|lookup| Ok((lookup.to_carry(oldest)?, lookup.deliveries_to_carry(oldest)?)))?;
        deliveries.extend(in_tail);
        let deliveries: Vec<_> = deliveries.into_iter().collect();
        let mut last = None;
        for sessions in sessions.chunks(CARRIED) {
            last = self.carry(|tail| self.carried_sessions(tail, sessions))?.or(last);
        }
        for deliveries in deliveries.chunks(CARRIED) {
            let going = self.with_messages(deliveries)?;
            last = self.carry(|tail| self.carried_deliveries(tail, &going))?.or(last);
        }
        if let Some(position) = last {
            self.wait_until_indexed(position)?;
        }
        // What was passed over because it is settled must be so when its message goes.
        let end = self.tail.lock().end;
        self.wait_until_durable(Reach { end, ..begun })
    }

    /// Fails if something of what was seen is taken back instead.
    fn wait_until_durable(&self, seen: Reach) -> Result<(), Error> {
        match block_on(self.became_durable(seen))? {
            true => Ok(()),
            false => Err(Error::Unavailable { cause: "the end of the log was taken back".into() }),
        }
    }

    /// Appends the frame that `tell` makes, durably; its last position, unless it is empty.
    fn carry(&self, tell: impl FnOnce(&Tail) -> Result<Frame, IndexError>) -> Result<Option<Position>, Error> {
        let staged = {
            let mut tail = self.tail.lock();
            self.check_staging(&tail)?;
            let frame = tell(&tail).map_err(unavailable)?;
            if frame.is_empty() {
                return Ok(None);
            }
            let (stored, durable) = tail.stage(frame, None, &self.index).map_err(unavailable)?;
            stored.last().map(|stored| (stored.position, durable))
        };
        let Some((position, durable)) = staged else { return Ok(None) };
        self.to_write.notify_one();
        durable.blocking_recv().unwrap_or_else(|_| Err(Error::Unavailable { cause: "the store was closed".into() }))?;
        Ok(Some(position))
    }

    fn carried_sessions(&self, tail: &Tail, sessions: &[String]) -> Result<Frame, IndexError> {
        let lookup = self.index.lookup()?;
        let mut frame = Vec::new();
        for id in sessions {
            // What is not indexed yet is young, and stays. It may never get to the disk: then nothing goes.
            if tail.generations().any(|state| state.sessions().contains_key(id)) {
                continue;
            }
            let Some((position, known)) = lookup.session_and_position(id)? else { continue };
            let customer_id = &known.session.customer_id;
            let told = tail.generations().find_map(|state| state.customers().get(customer_id));
            let customer = match told {
                Some(latest) => Some(latest.fact.clone()),
                None => lookup.customer(customer_id)?,
            };
            let carried = known.carried(position, customer.as_deref());
            frame.push(Entry { carried: Some(carried.into()), ..Entry::default() });
        }
        Ok(frame)
    }

    /// The deliveries with their messages, which go with the segment they stand in. What is ephemeral goes, too: it was of no use soon
    /// after it was accepted.
    fn with_messages(&self, deliveries: &[(DeliveryId, Position)]) -> Result<Vec<Going>, Error> {
        let mut going = Vec::with_capacity(deliveries.len());
        for (id, message) in deliveries {
            if let Some(stored) = self.entry(*message)?.filter(|stored| !stored.entry.ephemeral) {
                going.push(Going { id: *id, planned_at: self.planned_at(*id, &stored)?, stored });
            }
        }
        Ok(going)
    }

    /// When a delivery was planned: with its message, or later if it was redriven. `stored` is the entry with the message.
    fn planned_at(&self, id: DeliveryId, stored: &Stored) -> Result<Option<Timestamp>, Error> {
        let planned = if id.planned_at == stored.position { None } else { self.entry(id.planned_at)? };
        Ok(planned.map_or_else(|| planned_at(&stored.entry), |planned| planned.entry.accepted_at))
    }

    /// Those that are still open.
    fn carried_deliveries(&self, tail: &Tail, going: &[Going]) -> Result<Frame, IndexError> {
        let facts = Layers::new(tail, &self.index);
        let mut frame = Vec::new();
        for Going { id, stored, planned_at } in going {
            let Some(delivery) = facts.delivery(*id).filter(|delivery| delivery.progress.is_open()) else { continue };
            let carried = CarriedDelivery {
                delivery: Some(delivery.to_pb()),
                step: Some(delivery.progress.to_pb(*id)),
                message: message_of(&stored.entry).cloned(),
                accepted_at: accepted_at(&stored.entry),
                planned_at: *planned_at,
            };
            let carried = Carried { position: id.planned_at.0, delivery: Some(carried), ..Carried::default() };
            frame.push(Entry { carried: Some(carried.into()), ..Entry::default() });
        }
        facts.into_failure().map_or(Ok(frame), Err)
    }

    /// Waits until the index has taken `position` in.
    pub(super) fn wait_until_indexed(&self, position: Position) -> Result<(), Error> {
        let mut tail = self.tail.lock();
        tail.flush_to(position);
        loop {
            if let Health::Failed { cause } = &*self.health.borrow() {
                return Err(Error::Unavailable { cause: cause.clone() });
            }
            if tail.indexed_up_to() >= position {
                return Ok(());
            }
            // Then the indexer ends without it.
            if self.stopping.load(Ordering::Acquire) && self.index_is_full() {
                return Err(Error::Unavailable { cause: "the store is closed".into() });
            }
            self.to_index.notify_one();
            let _woken = self.flushed.wait_for(&mut tail, Duration::from_millis(100));
        }
    }
}
