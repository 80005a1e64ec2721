//! Looks at the log: how readers that are behind go on by themselves.
//!
//! A look is a task of its own. So it comes to its end whether or not its reader waits: what it needs, a turn among the cold ones
//! above all, is never held by a client that has stopped reading.
//!
//! A look is **cold** if the filter names anything and the reader is more than [`COLD`] entries behind the end: it may have to go
//! through much of what only the disk holds for little. Cold looks take turns, a given number at a time, first come first served;
//! a reader that goes on lines up again after each. A reader that wants everything never waits for a turn, however far behind: its
//! page is full at once.
//!
//! A turn **rests** after its look for as long as the look took; the reader has its page meanwhile. So all cold looks together take
//! half as many cores as there are turns, however many readers line up, and leave the rest to accepting messages. Looks with a filter
//! that are not cold are short; they take turns of their own, as many at a time, and rest not: a thousand readers that come near the
//! end together would hold up accepting messages for as long as all of their looks take.

use super::tray::Tray;
use crate::store::{Error, Position, Scan, Store};
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio::task::JoinError;
use tokio::time::{Instant, sleep};
use tokio_util::task::AbortOnDropHandle;

/// Entries behind the end from which on a look with a filter is cold. What is nearer is in memory or soon read.
pub(super) const COLD: u64 = 10_000;

/// Where looks are asked for. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Desk {
    store: Arc<dyn Store>,
    cold: Arc<Semaphore>,
    near: Arc<Semaphore>,
}

/// A look under way. Dropping it gives up.
pub(super) type Look = AbortOnDropHandle<Result<Scan, Error>>;

impl Desk {
    /// A desk that lets `turns` cold looks have their turn at a time, and as many others with a filter.
    pub(super) fn new(store: Arc<dyn Store>, turns: usize) -> Self {
        Self { store, cold: Arc::new(Semaphore::new(turns)), near: Arc::new(Semaphore::new(turns)) }
    }

    /// Looks for the next page of what a reader wants after `after`.
    pub(super) fn look(&self, tray: Arc<Tray>, after: Position) -> Look {
        let store = self.store.clone();
        let behind = store.span().end.0.saturating_sub(after.0);
        let is_cold = behind > COLD;
        let turns = (!tray.filter.wants_everything()).then(|| if is_cold { self.cold.clone() } else { self.near.clone() });
        AbortOnDropHandle::new(tokio::spawn(async move {
            let turn = match turns {
                // It is never closed.
                Some(turns) => turns.acquire_owned().await.ok(),
                None => None,
            };
            let began = Instant::now();
            let scan = store.scan(after, tray.most(), &tray.filter).await;
            if let Some(turn) = turn.filter(|_| is_cold) {
                let rest = began.elapsed();
                tokio::spawn(async move {
                    sleep(rest).await;
                    drop(turn);
                });
            }
            scan
        }))
    }
}

/// What came of a look.
pub(super) fn outcome(look: Result<Result<Scan, Error>, JoinError>) -> Result<Scan, Error> {
    look.unwrap_or_else(|error| Err(Error::Unavailable { cause: format!("a look at the log did not end: {error}") }))
}
