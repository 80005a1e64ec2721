//! Writes what changes, many names at once: each write is synced, which takes as long for a thousand names as for one.

use crate::error::Error;
use crate::store;
use crate::store::bookmarks::{Bookmark, Bookmarks, Changes};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

/// Where changes are handed in.
#[derive(Debug, Clone)]
pub(super) struct Desk(mpsc::UnboundedSender<Change>);

/// A change of one name, and who waits for it.
#[derive(Debug)]
struct Change {
    name: String,
    bookmark: Option<Bookmark>,
    written: oneshot::Sender<Result<(), store::Error>>,
}

/// A change that was handed in.
#[derive(Debug)]
pub(super) struct Written(oneshot::Receiver<Result<(), store::Error>>);

impl Written {
    /// Returns when the change is durable. It becomes so whether or not anybody waits.
    pub(super) async fn wait(self) -> Result<(), Error> {
        // A writer that has ended has been told to, at the end of the grace period.
        Ok(self.0.await.unwrap_or_else(|_| Err(store::Error::Unavailable { cause: "the gateway has ended".into() }))?)
    }
}

impl Desk {
    /// Hands a change in. What is handed in later, for the same name, replaces it.
    pub(super) fn submit(&self, name: &str, bookmark: Option<Bookmark>) -> Written {
        let (written, receiver) = oneshot::channel();
        // There is one entry for each caller that waits, and callers are bounded. If nobody takes it, the receiver tells.
        let _ended = self.0.send(Change { name: name.to_owned(), bookmark, written });
        Written(receiver)
    }
}

/// The one that writes.
#[derive(Debug)]
pub struct Writer {
    bookmarks: Arc<dyn Bookmarks>,
    interval: Duration,
    changes: mpsc::UnboundedReceiver<Change>,
}

pub(super) fn new(bookmarks: Arc<dyn Bookmarks>, interval: Duration) -> (Desk, Writer) {
    let (sender, changes) = mpsc::unbounded_channel();
    (Desk(sender), Writer { bookmarks, interval, changes })
}

impl Writer {
    /// Writes what is handed in, until nobody is left who could hand anything in.
    pub async fn run(mut self) {
        let mut changes = Changes::new();
        let mut next_write = Instant::now();
        while let Some(first) = self.changes.recv().await {
            sleep_until(next_write).await;
            next_write = Instant::now() + self.interval;
            let mut waiting = Vec::new();
            let mut take = |change: Change| {
                changes.insert(change.name, change.bookmark);
                waiting.push(change.written);
            };
            take(first);
            while let Ok(change) = self.changes.try_recv() {
                take(change);
            }
            let outcome = self.bookmarks.write_bookmarks(&changes).await;
            if outcome.is_ok() {
                // Else it is unknown whether they were written: they are written again with the next.
                changes.clear();
            }
            for waiting in waiting {
                let _gone = waiting.send(outcome.clone());
            }
        }
    }
}
