//! The matcher: follows the log for all live readers.

use super::roster::Roster;
use super::tray::Left;
use crate::error::Error;
use crate::store::{self, Filter, Page, Position, Scan, Store};
use std::sync::Arc;
use std::task::Waker;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// What is read at once.
const PAGE: Page = Page { entries: 1024, bytes: 1024 * 1024 };

/// Reads each new entry once and lays it out for the live readers that want it. Whoever drops it ends their subscriptions.
#[derive(Debug)]
#[must_use = "live readers get what it lays out: run it"]
pub struct Matcher {
    store: Arc<dyn Store>,
    roster: Arc<Roster>,
    shutdown: CancellationToken,
}

impl Matcher {
    pub(super) fn new(store: Arc<dyn Store>, roster: Arc<Roster>, shutdown: CancellationToken) -> Self {
        Self { store, roster, shutdown }
    }

    /// Follows the log until the shutdown. A store that fails ends the subscriptions that are live then, not the matcher.
    pub async fn run(self) {
        tokio::select! {
            biased;
            () = self.shutdown.cancelled() => {}
            () = self.follow() => {}
        }
        wake(self.roster.end(Error::ShuttingDown));
    }

    /// Returns when the store is gone.
    async fn follow(&self) {
        let mut durable = self.store.durable();
        loop {
            let end = *durable.borrow_and_update();
            let round = self.roster.next_round();
            if round.is_some_and(|round| round <= Instant::now()) {
                wake(self.roster.make_round());
            } else if self.roster.matched() < end {
                self.advance(end).await;
            } else {
                tokio::select! {
                    risen = durable.changed() => if risen.is_err() { return },
                    () = sleep_until(round.unwrap_or_else(Instant::now)), if round.is_some() => {}
                }
            }
        }
    }

    /// Lays out the next page of what is durable up to `end`.
    async fn advance(&self, end: Position) {
        if self.roster.pass_alone(end) {
            return;
        }
        match self.store.scan(self.roster.matched(), PAGE, &Filter::default()).await {
            Ok(Scan { entries, reached }) => {
                let mut entries = entries.into_iter();
                while entries.len() > 0 {
                    wake(self.roster.lay_out(&mut entries));
                    // Others get their turn, those above all that now have something to take.
                    tokio::task::yield_now().await;
                }
                self.roster.pass(reached);
                tokio::task::coop::consume_budget().await;
            }
            // Retention was faster. Each reader finds by itself what is gone, and says so.
            Err(store::Error::Expired { .. }) => wake(self.roster.dismiss(Left::Behind, end)),
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "what was accepted cannot be read for the streams");
                wake(self.roster.dismiss(|_| Left::Ended(Error::Store(error)), end));
            }
        }
    }
}

impl Drop for Matcher {
    fn drop(&mut self) {
        let cause = "nobody follows the log for its readers".to_owned();
        wake(self.roster.end(Error::Store(store::Error::Unavailable { cause })));
    }
}

fn wake(wakers: Vec<Waker>) {
    wakers.into_iter().for_each(Waker::wake);
}
