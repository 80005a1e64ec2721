//! The engine that keeps messages on the disk of this machine: the log is the truth, the index follows from it.
//!
//! A frame is staged under one lock: its facts are looked up, its place in the log is taken, and it joins the batch that waits to be
//! written. The writer takes that batch, writes and syncs it, and only then is anything of it answered or seen. The indexer follows
//! what is durable. Nothing here is retried as if nothing had happened: a sync that failed ends the engine.

mod core;
mod open;
mod options;
mod pace;
mod reading;
mod retention;
mod sessions;
mod shelf;
mod threads;

#[cfg(test)]
mod simulation;

#[cfg(test)]
mod tests;

pub(crate) use open::{Files, reindex_locked};
pub use open::{OpenError, Opening, open, reindex};
pub use options::Options;

use self::core::{Core, Seen, unavailable};
use super::bookmarks::{Bookmark, Bookmarks, Changes};
use super::{
    AppendError, Claim, Cursor, Deliveries, DeliveryId, Error, Figures, Filter, Health, Page, Position, Registry, Scan,
    SessionFacts, SessionFilter, SessionPage, Span, Stage, Staged, Store, Stored, Wanted,
};
use crate::metrics;
use crate::pb;
use async_trait::async_trait;
use prost_types::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;
use threads::Threads;
use tokio::sync::watch;

/// A log on the disk of this machine. Cheap to clone; every clone is the same log. It is closed by [`Self::close`], or with its last
/// clone.
#[derive(Debug, Clone)]
pub struct Embedded {
    core: Arc<Core>,
    threads: Arc<Threads>,
}

impl Embedded {
    /// The same, whose writes are counted by `metrics` from now on. Only the first ones that are given count.
    pub fn counting(self, metrics: Arc<metrics::Log>) -> Self {
        let _kept = self.core.metrics.set(metrics);
        self
    }

    /// How many entries the index has not taken in yet.
    pub fn not_indexed(&self) -> u64 {
        let tail = self.core.tail.lock();
        tail.end.0 - tail.indexed_up_to().0
    }

    /// Writes what is staged, notes that all is durable, brings the index up to date, and ends. Blocks meanwhile. What is asked of
    /// it later fails.
    pub fn close(&self) {
        self.threads.stop(&self.core);
    }
}

#[async_trait]
impl Store for Embedded {
    async fn claim(&self, id: &str, fingerprint: &[u8]) -> Result<Claim, Error> {
        self.core.claim(id, fingerprint).await
    }

    async fn stage(&self, claim: Option<Claim>, stage: Stage<'_>) -> Result<Staged, AppendError> {
        self.core.stage(claim, stage).await
    }

    async fn scan(&self, after: Position, page: Page, filter: &Filter) -> Result<Scan, Error> {
        if let Some(scan) = self.core.scan_window(after, page, filter)? {
            return Ok(scan);
        }
        let filter = filter.clone();
        self.core.apart(move |core| core.scan_log(after, page, &filter)).await
    }

    async fn entry(&self, position: Position) -> Result<Option<Stored>, Error> {
        self.core.entry_or_apart(position).await
    }

    async fn deliveries(&self, after: DeliveryId, wanted: Wanted, limit: usize) -> Result<Deliveries, Error> {
        self.core.check_working()?;
        if let Some(found) = self.core.tail.lock().recent_deliveries(after, wanted, limit) {
            return Ok(found);
        }
        self.core.apart(move |core| core.tail.lock().deliveries(after, wanted, limit, &core.index).map_err(unavailable)).await
    }

    async fn sequel(&self, position: Position, limit: usize) -> Result<Vec<Position>, Error> {
        self.core.apart(move |core| core.sequel(position, limit)).await
    }

    fn number(&self) -> u64 {
        self.core.key.number()
    }

    fn held_before(&self) -> Option<Position> {
        self.core.control.held()
    }

    async fn release(&self) -> Result<(), Error> {
        self.core.apart(|core| core.changing(|control| control.hold(None))).await
    }

    async fn message(&self, id: &str) -> Result<Option<Stored>, Error> {
        let id = id.to_owned();
        self.core.apart(move |core| core.message(&id)).await
    }

    async fn history(&self, conversation: &str, before: Option<Position>, limit: usize) -> Result<Option<Vec<Stored>>, Error> {
        let conversation = conversation.to_owned();
        self.core.apart(move |core| core.history(&conversation, before, limit)).await
    }

    async fn session(&self, id: &str) -> Result<Option<SessionFacts>, Error> {
        self.core.session(id).await
    }

    async fn sessions(&self, filter: &SessionFilter, before: Option<&str>, limit: usize) -> Result<SessionPage, Error> {
        self.core.sessions(filter, before, limit).await
    }

    async fn before(&self, time: Timestamp) -> Result<Position, Error> {
        let time = Core::nanos(&time);
        self.core.apart(move |core| core.before(time)).await
    }

    fn span(&self) -> Span {
        let tail = self.core.tail.lock();
        Span { epoch: self.core.epoch, oldest: tail.oldest, end: tail.durable }
    }

    fn knows(&self, cursor: Cursor) -> bool {
        let end = self.core.tail.lock().durable;
        self.core.control.epochs.know(cursor, end)
    }

    fn durable(&self) -> watch::Receiver<Position> {
        self.core.durable.subscribe()
    }

    fn figures(&self) -> Figures {
        let Seen { index_bytes, free_bytes } = *self.core.seen.lock();
        Figures { log_bytes: self.core.segments.bytes(), index_bytes, free_bytes, not_indexed: Some(self.not_indexed()) }
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.core.health.subscribe()
    }
}

#[async_trait]
impl Bookmarks for Embedded {
    async fn bookmarks(&self) -> Result<BTreeMap<String, Bookmark>, Error> {
        self.core.apart(|core| Ok(core.control.bookmarks()?)).await
    }

    async fn write_bookmarks(&self, changes: &Changes) -> Result<(), Error> {
        let changes = changes.clone();
        self.core
            .apart(move |core| {
                core.check_working()?;
                Ok(core.control.write_bookmarks(&changes)?)
            })
            .await
    }
}

#[async_trait]
impl Registry for Embedded {
    async fn channels(&self) -> Result<Vec<pb::Channel>, Error> {
        self.core.apart(|core| Ok(core.control.channels()?)).await
    }

    async fn put_channel(&self, channel: &pb::Channel) -> Result<(), Error> {
        let channel = channel.clone();
        self.core.apart(move |core| core.changing(|control| control.put_channel(&channel))).await
    }

    async fn remove_channel(&self, id: &str) -> Result<(), Error> {
        let id = id.to_owned();
        self.core.apart(move |core| core.changing(|control| control.remove_channel(&id))).await
    }
}
