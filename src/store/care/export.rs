//! Reads messages out of the log, while a gateway may be writing it. Only files are read, and nothing is locked.

use super::io;
use crate::pb::store::Entry;
use crate::store::control::Control;
use crate::store::disk::{Directory, Disk};
use crate::store::embedded::{Files, OpenError};
use crate::store::log::{self, Follower, LogError};
use crate::store::{Cursor, Position, clock};
use prost_types::Timestamp;
use std::path::Path;

/// Where to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// With the oldest message that is kept.
    Earliest,
    /// After the message with this cursor.
    After(Cursor),
    /// With the first message accepted at or after this time.
    Since(Timestamp),
}

/// Why nothing more is exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError<E> {
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The cursor is of another store, or of a history that was rewound.
    #[error("the cursor is unknown: it is of another store, or of a history that was rewound; the oldest cursor is {oldest}")]
    CursorUnknown {
        /// The oldest cursor.
        oldest: Cursor,
    },
    /// What was asked for is no longer kept.
    #[error("position {asked} is no longer kept; the oldest cursor is {oldest}")]
    Expired {
        /// The position.
        asked: Position,
        /// The oldest cursor.
        oldest: Cursor,
    },
    /// Whoever takes the messages cannot take more.
    #[error("the messages cannot be passed on")]
    Taker(E),
}

impl<E> std::convert::From<LogError> for ExportError<E> {
    fn from(error: LogError) -> Self {
        Self::Store(error.into())
    }
}

/// What was exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Export {
    /// How many messages.
    pub messages: u64,
    /// The cursor after the last entry: from here a later export goes on.
    pub cursor: Cursor,
}

/// Gives every entry with a message of the store in `folder` from a place on to `take`, in the order of the log, up to the last whole batch.
/// Typing notifications and the gateway's own bookkeeping are left out.
pub fn export<E>(folder: &Path, from: From, mut take: impl FnMut(&Entry) -> Result<(), E>) -> Result<Export, ExportError<E>> {
    let files = Files::existing(folder)?;
    let control = Control::open(&files.control()).map_err(OpenError::from)?;
    let oldest = control.oldest().map_err(OpenError::from)?;
    let disk = Directory::new(&files.log()).map_err(io(&files.log(), "opened"))?;
    let cursor = |position| Cursor { epoch: control.epochs.current(), position };
    let oldest_cursor = cursor(oldest.previous());
    let after = match from {
        From::After(after) if !control.epochs.know(after, Position(u64::MAX)) => {
            return Err(ExportError::CursorUnknown { oldest: oldest_cursor });
        }
        From::After(after) => after.position,
        From::Earliest | From::Since(_) => oldest.previous(),
    };
    let since = if let From::Since(time) = from { clock::to_nanos(&time) } else { i64::MIN };
    let mut export = Export { messages: 0, cursor: cursor(after) };
    let mut at = after.next();
    let mut end = oldest;
    if at < oldest {
        return Err(ExportError::Expired { asked: at, oldest: oldest_cursor });
    }
    let mut segments = segments(&disk, &files)?;
    loop {
        let gone = segments.partition_point(|first| *first <= at).saturating_sub(1);
        segments.drain(..gone);
        let Some(first) = segments.first().copied() else { break };
        let next = segments.get(1).copied();
        let follower = if first <= at { Follower::open(&disk, first, control.key)? } else { None };
        let Some(mut follower) = follower else { return Err(ExportError::Expired { asked: at, oldest: oldest_cursor }) };
        if let (From::Since(_), Some(next)) = (from, next)
            && begins_before(&disk, next, &control, since)?
        {
            at = next;
            continue;
        }
        while let Some((place, header, bytes)) = follower.next(next)? {
            for record in log::records(&header, bytes) {
                let damaged = |malformed: log::Malformed| LogError::Damaged {
                    file: log::name_of(place.segment),
                    offset: place.offset,
                    what: malformed.to_string(),
                };
                let record = record.map_err(damaged)?;
                if record.position < at || record.hints.is_internal() || record.hints.accepted_at < since {
                    continue;
                }
                let entry = record.entry().map_err(damaged)?;
                if entry.message.is_some() && !entry.ephemeral {
                    take(&entry).map_err(ExportError::Taker)?;
                    export.messages += 1;
                }
            }
        }
        end = follower.at;
        at = at.max(end);
        // Another segment may have been begun meanwhile.
        segments = self::segments(&disk, &files)?;
        if !segments.iter().any(|later| *later > first) {
            break;
        }
    }
    if end <= after {
        // A cursor beyond the end is of a history that is gone.
        return Err(ExportError::CursorUnknown { oldest: oldest_cursor });
    }
    export.cursor = cursor(at.previous());
    Ok(export)
}

fn segments(disk: &Directory, files: &Files) -> Result<Vec<Position>, OpenError> {
    let names = disk.list().map_err(io(&files.log(), "listed"))?;
    let mut firsts: Vec<_> = names.iter().filter_map(|name| log::position_of(name)).collect();
    firsts.sort_unstable();
    Ok(firsts)
}

/// True if the first entry of a segment was accepted before `time`; it has none if it was just begun.
fn begins_before(disk: &Directory, first: Position, control: &Control, time: i64) -> Result<bool, LogError> {
    let Some(mut follower) = Follower::open(disk, first, control.key)? else { return Ok(false) };
    let Some((_, header, bytes)) = follower.next(None)? else { return Ok(false) };
    let first = log::records(&header, bytes).next().and_then(Result::ok);
    Ok(first.is_some_and(|record| record.hints.accepted_at < time))
}
