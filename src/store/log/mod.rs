//! The log on disk: segment files of checksummed batches, written by one writer, each batch synced before the next is begun.
//!
//! Why a batch that was acknowledged is there after any crash:
//!
//! - A batch is acknowledged after its sync returned, and the next one is written only then. So whatever has a valid successor was
//!   durable, and what is damaged in front of a valid successor was damaged later: that is corruption, never to be passed over.
//! - At most the last batch is in doubt. Opening writes it again, into a new segment, and syncs it before anything is served: after a
//!   sync that failed, the system may show a batch that the disk does not have.
//! - A segment ends where the next one begins. So what a torn write left behind is never read, and is cut off only once the next
//!   segment is durable: opening can itself be cut short anywhere, any number of times.

mod block;
mod follow;
mod format;
mod recovery;
mod reserve;
mod segment;
mod spare;
mod survey;
mod writer;

pub(crate) use block::{Block, BlockBuilder};
pub(crate) use follow::Follower;
pub(crate) use format::{
    BATCH_HEADER, BatchHeader, Hints, Malformed, RECORD_HEADER, Record, SEGMENT_HEADER, SegmentHeader, Sieve, record_at, records,
    starts,
};
pub(crate) use recovery::{Known, Opened, open, replay};
pub(crate) use segment::{Buffer, Look, Segments, look, name_of, position_of, read_into};
pub(crate) use spare::Spare;
pub(crate) use survey::{Expected, Piece, Survey, Surveyed, headers, survey};
pub(crate) use writer::{Place, WriteError, Writer};

use super::Position;
use std::io;

/// Why the log cannot be opened or read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The system refused.
    #[error("{file} cannot be {action}: {cause}")]
    Io {
        /// The file.
        file: String,
        /// What was tried.
        action: &'static str,
        /// What the system says.
        #[source]
        cause: io::Error,
    },
    /// What was durable is damaged.
    #[error("{file} is damaged at byte {offset}: {what}")]
    Damaged {
        /// The file.
        file: String,
        /// Where.
        offset: u64,
        /// How.
        what: String,
    },
    /// A later version of the gateway wrote it.
    #[error("{file} cannot be read from byte {offset} on: {what}")]
    TooNew {
        /// The file.
        file: String,
        /// Where.
        offset: u64,
        /// What this version does not understand.
        what: String,
    },
    /// A part of the log is not there.
    #[error("the log goes on at position {found}, needs position {needed}: {what}")]
    Missing {
        /// The position that should be there.
        needed: Position,
        /// The position that is.
        found: Position,
        /// What that means.
        what: String,
    },
    /// A file is of another log.
    #[error("{file} is of another log")]
    Foreign {
        /// The file.
        file: String,
    },
}

impl LogError {
    fn io(file: impl Into<String>, action: &'static str) -> impl FnOnce(io::Error) -> Self {
        let file = file.into();
        move |cause| Self::Io { file, action, cause }
    }

    /// What is not as it has to be: damaged, or of a later version.
    pub(crate) fn malformed(file: impl Into<String>, offset: u64, what: Malformed) -> Self {
        match what {
            Malformed::TooNew { .. } => Self::TooNew { file: file.into(), offset, what: what.to_string() },
            _ => Self::damaged(file, offset, what),
        }
    }

    fn damaged(file: impl Into<String>, offset: u64, what: impl ToString) -> Self {
        Self::Damaged { file: file.into(), offset, what: what.to_string() }
    }
}
