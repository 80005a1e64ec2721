//! Doubles for tests: the memory engine with something about it changed.

use super::memory::Memory;
use super::{
    AppendError, Claim, Deliveries, DeliveryId, Error, Filter, Page, Position, Scan, SessionFacts, SessionFilter, SessionPage,
    Span, Stage, Staged, Store, Stored, Wanted,
};
use async_trait::async_trait;
use prost_types::Timestamp;
use std::fmt::Debug;
use tokio::sync::watch;

/// A store that does as its memory engine does, in all that it does not do otherwise.
#[async_trait]
pub(crate) trait Double: Debug + Send + Sync + 'static {
    /// The engine behind it.
    fn memory(&self) -> &Memory;

    /// As [`Store::scan`].
    async fn scan(&self, after: Position, page: Page, filter: &Filter) -> Result<Scan, Error> {
        self.memory().scan(after, page, filter).await
    }

    /// As [`Store::entry`].
    async fn entry(&self, position: Position) -> Result<Option<Stored>, Error> {
        self.memory().entry(position).await
    }

    /// As [`Store::stage`].
    async fn stage(&self, claim: Option<Claim>, stage: Stage<'_>) -> Result<Staged, AppendError> {
        self.memory().stage(claim, stage).await
    }
}

#[async_trait]
impl<D: Double> Store for D {
    async fn claim(&self, id: &str, fingerprint: &[u8]) -> Result<Claim, Error> {
        self.memory().claim(id, fingerprint).await
    }

    async fn stage(&self, claim: Option<Claim>, stage: Stage<'_>) -> Result<Staged, AppendError> {
        Double::stage(self, claim, stage).await
    }

    async fn scan(&self, after: Position, page: Page, filter: &Filter) -> Result<Scan, Error> {
        Double::scan(self, after, page, filter).await
    }

    async fn entry(&self, position: Position) -> Result<Option<Stored>, Error> {
        Double::entry(self, position).await
    }

    async fn deliveries(&self, after: DeliveryId, wanted: Wanted, limit: usize) -> Result<Deliveries, Error> {
        self.memory().deliveries(after, wanted, limit).await
    }

    async fn sequel(&self, position: Position, limit: usize) -> Result<Vec<Position>, Error> {
        self.memory().sequel(position, limit).await
    }

    fn number(&self) -> u64 {
        self.memory().number()
    }

    async fn message(&self, id: &str) -> Result<Option<Stored>, Error> {
        self.memory().message(id).await
    }

    async fn history(&self, id: &str, before: Option<Position>, limit: usize) -> Result<Option<Vec<Stored>>, Error> {
        self.memory().history(id, before, limit).await
    }

    async fn session(&self, id: &str) -> Result<Option<SessionFacts>, Error> {
        self.memory().session(id).await
    }

    async fn sessions(&self, filter: &SessionFilter, before: Option<&str>, limit: usize) -> Result<SessionPage, Error> {
        self.memory().sessions(filter, before, limit).await
    }

    async fn before(&self, time: Timestamp) -> Result<Position, Error> {
        self.memory().before(time).await
    }

    fn span(&self) -> Span {
        self.memory().span()
    }

    fn durable(&self) -> watch::Receiver<Position> {
        self.memory().durable()
    }
}
