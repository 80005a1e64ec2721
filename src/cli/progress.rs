//! How far a command is, on a terminal only.

use cim_gateway::store::embedded::Opening;
use std::cell::Cell;
use std::io::{self, IsTerminal as _};
use std::time::{Duration, Instant};

/// Least time between two lines: whoever reads them is no faster.
const PAUSE: Duration = Duration::from_millis(100);

/// A line on standard error that is written over, and gone at the end.
#[derive(Debug)]
pub(super) struct Progress {
    is_terminal: bool,
    told: Cell<Option<Instant>>,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self { is_terminal: io::stderr().is_terminal(), told: Cell::new(None) }
    }

    /// Shows a line, unless it is too soon for another one.
    pub(super) fn show(&self, line: impl FnOnce() -> String) {
        let soon = self.told.get().is_some_and(|told| told.elapsed() < PAUSE);
        if self.is_terminal && !soon {
            self.told.set(Some(Instant::now()));
            eprint!("\r{}\x1b[K", line());
        }
    }

    /// Shows how far the store is with being opened.
    pub(super) fn opening(&self, opening: Opening) {
        self.show(|| match opening {
            Opening::Recovering => "opening the log".into(),
            Opening::Indexing { done, of } => format!("indexed {done} of {of} entries"),
        });
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.told.get().is_some() {
            eprint!("\r\x1b[K");
        }
    }
}
