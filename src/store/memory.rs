//! The engine that keeps everything in memory: nothing survives the process. It is the reference that other engines are held to.
//!
//! It holds a bounded number of bytes. When they are full the oldest entries go, and with them every fact that no younger entry
//! tells: a session that was silent for so long is forgotten, and so are the ids of its messages.

use super::facts::State;
use super::{AppendError, Claim, Error, Page, Position, Span, Stage, Store, Stored};
use crate::pb;
use crate::wire;
use async_trait::async_trait;
use parking_lot::{Mutex, MutexGuard};
use prost::Message as _;
use prost_types::Timestamp;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::SystemTime;
use tokio::sync::{oneshot, watch};

/// What an entry costs in memory beside its message: the structures around it and the facts that follow from it.
const ENTRY_OVERHEAD: usize = 2048;

/// How many times larger a message is in memory than as protobuf, roughly.
const MESSAGE_EXPANSION: usize = 3;

/// A log in memory.
#[derive(Debug, Clone)]
pub struct Memory {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    epoch: u64,
    max_bytes: usize,
    log: Mutex<Log>,
    durable: watch::Sender<Position>,
    /// The ids that are claimed, each with those who wait for it.
    claims: Mutex<HashMap<String, Vec<oneshot::Sender<()>>>>,
}

#[derive(Debug)]
struct Log {
    entries: VecDeque<Stored>,
    bytes: usize,
    end: Position,
    accepted_at: Timestamp,
    state: State,
}

impl Memory {
    /// An empty log that keeps about `max_bytes`, but always the newest frame.
    pub fn new(max_bytes: usize) -> Self {
        let log = Log {
            entries: VecDeque::new(),
            bytes: 0,
            end: Position::default(),
            accepted_at: Timestamp::default(),
            state: State::default(),
        };
        let shared = Shared {
            // Each process begins another history: its start tells them apart.
            epoch: u64::try_from(wire::to_millis(&now())).unwrap_or_default(),
            max_bytes,
            log: Mutex::new(log),
            durable: watch::Sender::new(Position::default()),
            claims: Mutex::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.shared.log.lock()
    }
}

fn now() -> Timestamp {
    Timestamp::from(SystemTime::now())
}

fn cost(entry: &pb::store::Entry) -> usize {
    entry.encoded_len() * MESSAGE_EXPANSION + ENTRY_OVERHEAD
}

impl Log {
    fn oldest(&self) -> Position {
        self.entries.front().map_or_else(|| self.end.next(), |stored| stored.position)
    }

    fn get(&self, position: Position) -> Option<&Stored> {
        let index = position.0.checked_sub(self.oldest().0)?;
        self.entries.get(usize::try_from(index).ok()?)
    }

    fn push(&mut self, mut entry: pb::store::Entry) -> Stored {
        entry.accepted_at = Some(self.accepted_at);
        if let Some(session) = &entry.session {
            entry.previous_in_conversation = self.state.newest_of(&session.conversation_id).unwrap_or_default().0;
        }
        self.end = self.end.next();
        self.bytes += cost(&entry);
        let stored = Stored { position: self.end, entry: Arc::new(entry) };
        self.state.apply(&stored);
        self.entries.push_back(stored.clone());
        stored
    }

    fn trim(&mut self, max_bytes: usize, keep: usize) {
        while self.bytes > max_bytes && self.entries.len() > keep {
            if let Some(oldest) = self.entries.pop_front() {
                self.bytes -= cost(&oldest.entry);
                self.state.forget(&oldest);
            }
        }
    }
}

/// A claim on an id, given back when dropped.
struct Lease {
    shared: Arc<Shared>,
    id: String,
}

impl Drop for Lease {
    fn drop(&mut self) {
        // Dropping the senders wakes those who wait.
        self.shared.claims.lock().remove(&self.id);
    }
}

#[async_trait]
impl Store for Memory {
    async fn claim(&self, id: &str) -> Result<Claim, Error> {
        loop {
            let settled = {
                let mut claims = self.shared.claims.lock();
                match claims.get_mut(id) {
                    None => {
                        claims.insert(id.to_owned(), Vec::new());
                        break;
                    }
                    Some(waiting) => {
                        let (sender, settled) = oneshot::channel();
                        waiting.push(sender);
                        settled
                    }
                }
            };
            // It never sends: it is dropped with the claim.
            let _dropped = settled.await;
        }
        let lease = Lease { shared: self.shared.clone(), id: id.to_owned() };
        let log = self.log();
        let earlier = log.state.positions(id).filter_map(|position| log.get(position).cloned()).collect();
        drop(log);
        Ok(Claim { earlier, _lease: Box::new(lease) })
    }

    async fn append(&self, claim: Option<Claim>, stage: Stage<'_>) -> Result<Vec<Stored>, AppendError> {
        let mut log = self.log();
        let frame = stage(log.state.facts()).map_err(AppendError::Refused)?;
        // The clock may be set back; the log's may not.
        let clock = now();
        if (clock.seconds, clock.nanos) > (log.accepted_at.seconds, log.accepted_at.nanos) {
            log.accepted_at = clock;
        }
        let stored: Vec<_> = frame.into_iter().map(|entry| log.push(entry)).collect();
        log.trim(self.shared.max_bytes, stored.len());
        let end = log.end;
        // Under the lock, so that the durable position never falls.
        self.shared.durable.send_replace(end);
        drop(log);
        drop(claim);
        Ok(stored)
    }

    async fn read(&self, after: Position, page: Page) -> Result<Vec<Stored>, Error> {
        let log = self.log();
        let (asked, oldest) = (after.next(), log.oldest());
        if asked < oldest {
            return Err(Error::Expired { asked, oldest });
        }
        let start = usize::try_from(asked.0 - oldest.0).unwrap_or(usize::MAX).min(log.entries.len());
        let mut bytes = 0;
        let read = log.entries.range(start..).take(page.entries).take_while(|stored| {
            let first = bytes == 0;
            bytes += stored.entry.message.as_ref().map_or(0, prost::Message::encoded_len).max(1);
            first || bytes <= page.bytes
        });
        Ok(read.cloned().collect())
    }

    async fn message(&self, id: &str) -> Result<Option<Stored>, Error> {
        let log = self.log();
        let found = log.state.positions(id).rev().filter_map(|position| log.get(position)).find(|stored| stored.id() == id);
        Ok(found.cloned())
    }

    async fn history(&self, conversation: &str, before: Option<Position>, limit: usize) -> Result<Option<Vec<Stored>>, Error> {
        let log = self.log();
        let Some(newest) = log.state.newest_of(conversation) else { return Ok(None) };
        let in_thread =
            |stored: &&Stored| stored.entry.session.as_ref().is_some_and(|session| session.conversation_id == conversation);
        let older = |stored: &Stored| log.get(Position(stored.entry.previous_in_conversation));
        let first = match before {
            None => log.get(newest),
            Some(before) => log.get(before).filter(in_thread).and_then(older),
        };
        let thread = std::iter::successors(first, |stored| older(stored));
        let page = thread.take(limit).cloned().collect();
        Ok(Some(page))
    }

    async fn before(&self, time: Timestamp) -> Result<Position, Error> {
        let log = self.log();
        let at = |stored: &Stored| stored.entry.accepted_at.map(|time| (time.seconds, time.nanos));
        let earlier = log.entries.partition_point(|stored| at(stored) < Some((time.seconds, time.nanos)));
        Ok(Position(log.oldest().previous().0 + earlier as u64))
    }

    fn span(&self) -> Span {
        let log = self.log();
        Span { epoch: self.shared.epoch, oldest: log.oldest(), end: log.end }
    }

    fn durable(&self) -> watch::Receiver<Position> {
        self.shared.durable.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::conformance::conforms;

    conforms!(Memory::new(64 << 20));
}
