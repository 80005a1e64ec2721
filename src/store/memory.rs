//! The engine that keeps everything in memory: nothing survives the process. It is the reference that other engines are held to.
//!
//! It holds a bounded number of bytes. When they are full the oldest entries go, and with them every fact that no younger entry
//! tells: a session that was silent for so long is forgotten, and so are the ids of its messages.

use super::bookmarks::{Bookmark, Bookmarks, Changes};
use super::claims::Claims;
use super::deliveries::{self, Deliveries, DeliveryId, Stack, Wanted};
use super::facts::State;
use super::hash::HashKey;
use super::{AppendError, Claim, Error, Figures, Filter, Page, Position, Registry, Scan, Span, Stage, Staged, Store, Stored};
use super::{Facts as _, SessionFacts, SessionFilter, SessionPage};
use crate::pb;
use crate::wire;
use async_trait::async_trait;
use parking_lot::{Mutex, MutexGuard};
use prost::Message as _;
use prost_types::Timestamp;
use std::collections::{BTreeMap, VecDeque};
use std::future::ready;
use std::sync::Arc;
use std::time::SystemTime;
use tokio::sync::watch;

/// What an entry costs in memory beside its bytes: the structures that hold it, and the facts that follow from it.
const ENTRY_OVERHEAD: usize = 4096;

/// How many times larger an entry is in memory than as protobuf, roughly. Free-form JSON of very many small objects is larger still:
/// each takes some 700 bytes.
const ENTRY_EXPANSION: usize = 3;

/// Most entries that one scan looks at: the lock is held meanwhile.
const SCANNED: usize = 1024;

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
    claims: Claims,
    bookmarks: Mutex<BTreeMap<String, Bookmark>>,
    /// Channels by their ids.
    channels: Mutex<BTreeMap<String, pb::Channel>>,
}

#[derive(Debug)]
struct Log {
    entries: VecDeque<Kept>,
    /// What the entries cost in memory, roughly.
    bytes: usize,
    end: Position,
    accepted_at: Timestamp,
    state: State,
}

#[derive(Debug)]
struct Kept {
    stored: Stored,
    /// Size of its message as protobuf.
    message_bytes: usize,
    /// What it costs in memory, roughly.
    cost: usize,
}

impl Memory {
    /// An empty log that keeps about `max_bytes`, but always the newest frame.
    pub fn new(max_bytes: usize) -> Self {
        let log = Log {
            entries: VecDeque::new(),
            bytes: 0,
            end: Position::default(),
            accepted_at: Timestamp::default(),
            state: State::new(HashKey::fresh()),
        };
        let shared = Shared {
            // Each process begins another history: its start tells them apart.
            epoch: u64::try_from(wire::to_millis(&now())).unwrap_or_default(),
            max_bytes,
            log: Mutex::new(log),
            durable: watch::Sender::new(Position::default()),
            claims: Claims::default(),
            bookmarks: Mutex::default(),
            channels: Mutex::default(),
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

impl Log {
    fn oldest(&self) -> Position {
        self.entries.front().map_or_else(|| self.end.next(), |kept| kept.stored.position)
    }

    fn get(&self, position: Position) -> Option<&Stored> {
        let index = position.0.checked_sub(self.oldest().0)?;
        self.entries.get(usize::try_from(index).ok()?).map(|kept| &kept.stored)
    }

    fn push(&mut self, mut entry: pb::store::Entry) -> Stored {
        entry.accepted_at = Some(self.accepted_at);
        if let Some(session) = &entry.session {
            entry.previous_in_conversation = self.state.newest_of(&session.conversation_id).unwrap_or_default().0;
        }
        deliveries::fill_lanes(&mut entry, self.state.key());
        self.end = self.end.next();
        let message_bytes = entry.message.as_deref().map_or(0, pb::CimMessage::encoded_len);
        let cost = entry.encoded_len() * ENTRY_EXPANSION + ENTRY_OVERHEAD;
        let stored = Stored { position: self.end, entry: Arc::new(entry) };
        self.state.apply(&stored);
        self.bytes += cost;
        self.entries.push_back(Kept { stored: stored.clone(), message_bytes, cost });
        stored
    }

    fn trim(&mut self, max_bytes: usize, keep: usize) {
        while self.bytes > max_bytes && self.entries.len() > keep {
            if let Some(oldest) = self.entries.pop_front() {
                self.bytes -= oldest.cost;
                self.state.forget(&oldest.stored);
            }
        }
    }
}

#[async_trait]
impl Store for Memory {
    async fn claim(&self, id: &str, fingerprint: &[u8]) -> Result<Claim, Error> {
        let lease = self.shared.claims.take(id).await;
        let log = self.log();
        let under_it = |stored: &&Stored| stored.claimed_id() == id || stored.id() == id;
        let of_content = |stored: &&Stored| stored.entry.submission.as_ref().is_some_and(|sent| sent.fingerprint == fingerprint);
        let found = |position| log.get(position).filter(under_it);
        let taken = log.state.with_id(id).any(|position| found(position).is_some());
        let same_content = log.state.with_content(id, fingerprint).filter_map(found).find(of_content).cloned();
        drop(log);
        Ok(Claim::new(taken, same_content, lease))
    }

    async fn stage(&self, claim: Option<Claim>, stage: Stage<'_>) -> Result<Staged, AppendError> {
        let mut log = self.log();
        let frame = stage(log.state.facts()).map_err(AppendError::Refused)?;
        deliveries::check_messages(&frame, log.oldest())?;
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
        Ok(Staged::new(ready(Ok(stored))))
    }

    async fn scan(&self, after: Position, page: Page, filter: &Filter) -> Result<Scan, Error> {
        let log = self.log();
        let (asked, oldest) = (after.next(), log.oldest());
        if asked < oldest {
            return Err(Error::Expired { asked, oldest });
        }
        let start = usize::try_from(asked.0 - oldest.0).unwrap_or(usize::MAX).min(log.entries.len());
        let mut bytes = 0;
        let mut scan = Scan { entries: Vec::new(), reached: after };
        for kept in log.entries.range(start..).take(SCANNED) {
            if filter.matches(&kept.stored.entry) && kept.stored.entry.message.is_some() {
                bytes += kept.message_bytes;
                if scan.entries.len() == page.entries || (bytes > page.bytes && !scan.entries.is_empty()) {
                    break;
                }
                scan.entries.push(kept.stored.clone());
            }
            scan.reached = kept.stored.position;
        }
        Ok(scan)
    }

    async fn entry(&self, position: Position) -> Result<Option<Stored>, Error> {
        Ok(self.log().get(position).cloned())
    }

    async fn deliveries(&self, after: DeliveryId, wanted: Wanted, limit: usize) -> Result<Deliveries, Error> {
        let log = self.log();
        let stack = Stack { above: &[log.state.deliveries()], below: &() };
        let Ok(found) = stack.deliveries(after, wanted, limit, log.end);
        Ok(found)
    }

    async fn sequel(&self, position: Position, limit: usize) -> Result<Vec<Position>, Error> {
        let log = self.log();
        if position < log.oldest() {
            return Ok(Vec::new());
        }
        Ok(log.state.sequel().of(position).filter(|teller| *teller >= log.oldest()).take(limit).collect())
    }

    fn number(&self) -> u64 {
        self.log().state.key().number()
    }

    async fn message(&self, id: &str) -> Result<Option<Stored>, Error> {
        let log = self.log();
        let found = log.state.having(id).filter_map(|position| log.get(position)).find(|stored| stored.id() == id);
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

    async fn session(&self, id: &str) -> Result<Option<SessionFacts>, Error> {
        Ok(self.log().state.session_facts(id))
    }

    async fn sessions(&self, filter: &SessionFilter, before: Option<&str>, limit: usize) -> Result<SessionPage, Error> {
        let found = self.log().state.listed(filter, before).cloned().collect();
        Ok(SessionPage::of(found, None, limit))
    }

    async fn before(&self, time: Timestamp) -> Result<Position, Error> {
        let log = self.log();
        let at = |kept: &Kept| kept.stored.entry.accepted_at.map(|time| (time.seconds, time.nanos));
        let earlier = log.entries.partition_point(|kept| at(kept) < Some((time.seconds, time.nanos)));
        Ok(Position(log.oldest().previous().0 + earlier as u64))
    }

    fn span(&self) -> Span {
        let log = self.log();
        Span { epoch: self.shared.epoch, oldest: log.oldest(), end: log.end }
    }

    fn durable(&self) -> watch::Receiver<Position> {
        self.shared.durable.subscribe()
    }

    fn figures(&self) -> Figures {
        Figures { log_bytes: self.log().bytes as u64, ..Figures::default() }
    }
}

#[async_trait]
impl Bookmarks for Memory {
    async fn bookmarks(&self) -> Result<BTreeMap<String, Bookmark>, Error> {
        Ok(self.shared.bookmarks.lock().clone())
    }

    async fn write_bookmarks(&self, changes: &Changes) -> Result<(), Error> {
        let mut bookmarks = self.shared.bookmarks.lock();
        for (name, change) in changes {
            match change {
                Some(bookmark) => drop(bookmarks.insert(name.clone(), *bookmark)),
                None => drop(bookmarks.remove(name)),
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Registry for Memory {
    async fn channels(&self) -> Result<Vec<pb::Channel>, Error> {
        Ok(self.shared.channels.lock().values().cloned().collect())
    }

    async fn put_channel(&self, channel: &pb::Channel) -> Result<(), Error> {
        let mut channels = self.shared.channels.lock();
        let is_taken = |other: &pb::Channel| other.id != channel.id && other.service_identifier == channel.service_identifier;
        if channels.values().any(is_taken) {
            return Err(Error::Unavailable { cause: "two channels of one service identifier".into() });
        }
        channels.insert(channel.id.clone(), channel.clone());
        Ok(())
    }

    async fn remove_channel(&self, id: &str) -> Result<(), Error> {
        self.shared.channels.lock().remove(id);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::bookmarks::conformance;
    use crate::store::conformance::{Life, Model, append, belonging, conforms, live, log, look, said};
    use crate::store::registry::conformance::registers;

    #[tokio::test]
    async fn bookmarks_are_kept() {
        conformance::what_is_written_is_there_whole_and_replaces_what_was(&Memory::new(1)).await;
    }

    conforms!(roomy: Memory::new(64 << 20), cramped: Memory::new(40 * ENTRY_OVERHEAD));

    registers!(Memory::new(1));

    #[tokio::test]
    async fn the_newest_frame_is_kept_however_large_it_is() {
        let memory = Memory::new(1);
        append(&memory, vec![said("a")]).await;
        append(&memory, (0..9).map(|i| said(&i.to_string())).collect()).await;
        let span = memory.span();
        assert_eq!((span.oldest, span.end), (Position(2), Position(10)));
        append(&memory, vec![said("z")]).await;
        assert_eq!(memory.span().oldest, Position(11));
    }

    #[tokio::test]
    async fn no_more_is_kept_than_the_bound() {
        let memory = Memory::new(40 * ENTRY_OVERHEAD);
        for i in 0..200 {
            append(&memory, vec![belonging(&i.to_string(), "c")]).await;
            assert!(memory.log().bytes <= 40 * ENTRY_OVERHEAD);
        }
        let kept = log(&memory).await.len();
        assert!((30..40).contains(&kept), "{kept} entries are kept");
    }

    #[tokio::test]
    async fn facts_follow_from_what_is_kept() {
        for entries in [1, 5, 30] {
            let memory = Memory::new(entries * (ENTRY_OVERHEAD + 500));
            let mut life = Life::new();
            for i in 0..300 {
                live(&memory, &mut life).await;
                if i % 7 == 0 {
                    let kept = log(&memory).await;
                    look(&memory, |facts| Model(&kept).assert_agrees(facts)).await;
                }
            }
        }
    }

    #[tokio::test]
    async fn a_log_that_is_empty_again_forgets_everything() {
        let memory = Memory::new(64 << 20);
        let mut life = Life::new();
        for _ in 0..100 {
            live(&memory, &mut life).await;
        }
        let mut log = memory.log();
        log.trim(0, 0);
        assert_eq!(log.state, State::new(log.state.key()));
        assert_eq!(log.bytes, 0);
    }
}
