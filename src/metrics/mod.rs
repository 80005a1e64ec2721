//! Metrics: what is counted while the gateway works, what is so at the moment, and the page that tells both.
//!
//! Each part counts for itself, by a handle of its own ([`parts`]): atomics, so that counting waits for nobody. What can be read from
//! how things are is counted by nobody: it is asked when somebody looks ([`Present`]). All names stand in one place ([`page`]).
//!
//! This module knows no other part. Labels come from small sets that are known before anything is counted: never an id, an address or a
//! text of anybody.

mod histogram;
mod page;
mod parts;
pub mod present;
mod process;
mod requests;
#[cfg(test)]
mod tests;

pub use page::CONTENT_TYPE;
pub use parts::{Backlog, Delivery, Expiry, Feed, Inbox, Log};
pub use present::Present;
pub use requests::{Call, Method, Requests};

use parking_lot::Mutex;
use std::fmt;
use std::sync::Arc;

/// Everything that is counted, and whom to ask for the rest. Cheap to clone; every clone is the same.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// Requests of the gRPC face.
    pub grpc: Requests,
    /// Requests of the HTTP face.
    pub http: Requests,
    /// Messages.
    pub inbox: Arc<Inbox>,
    /// Writes of the log.
    pub log: Arc<Log>,
    /// Attempts, and what they come to.
    pub delivery: Arc<Delivery>,
    /// Notifications.
    pub feed: Arc<Feed>,
    /// Sessions that may expire.
    pub expiry: Arc<Expiry>,
    sources: Arc<Mutex<Sources>>,
}

type Source = Box<dyn Fn(&mut Present) + Send>;

#[derive(Default)]
struct Sources(Vec<Source>);

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources").field("count", &self.0.len()).finish()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            grpc: Requests::grpc(),
            http: Requests::http(),
            inbox: Arc::default(),
            log: Arc::default(),
            delivery: Arc::default(),
            feed: Arc::default(),
            expiry: Arc::default(),
            sources: Arc::default(),
        }
    }
}

impl Metrics {
    /// Asks `source` too, from now on, for what it knows of the present.
    pub fn ask(&self, source: impl Fn(&mut Present) + Send + 'static) {
        self.sources.lock().0.push(Box::new(source));
    }

    /// The page, of the media type [`CONTENT_TYPE`]. It reads files of the system: not for a thread that others wait for.
    pub fn page(&self) -> String {
        let mut present = Present::default();
        for source in &self.sources.lock().0 {
            source(&mut present);
        }
        page::write(self.clone(), present)
    }
}
