//! Bookmarks: how far each named subscription has come. They are no part of the log, and outlive what retention drops.

use super::{Cursor, Error};
use async_trait::async_trait;
use prost_types::Timestamp;
use std::collections::BTreeMap;
use std::fmt;

/// How far a named subscription has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bookmark {
    /// Everything up to here is acknowledged; where the subscription started, as long as nothing is.
    pub cursor: Cursor,
    /// Number of its latest attachment.
    pub generation: u64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last acknowledged; none as long as it stands where it started.
    pub acknowledged_at: Option<Timestamp>,
}

/// What is to be written at once: for each name its bookmark from now on, or none to forget it.
pub type Changes = BTreeMap<String, Option<Bookmark>>;

/// An engine that keeps bookmarks, as safe as it keeps its log.
#[async_trait]
pub trait Bookmarks: fmt::Debug + Send + Sync + 'static {
    /// All of them, by their names.
    async fn bookmarks(&self) -> Result<BTreeMap<String, Bookmark>, Error>;

    /// Writes all changes or none, and returns when they are durable. A failure with [`Error::Unavailable`] may have written them.
    async fn write_bookmarks(&self, changes: &Changes) -> Result<(), Error>;
}

/// The promise as rules that every engine must keep.
#[cfg(test)]
pub(super) mod conformance {
    use super::*;
    use crate::store::Position;

    /// A bookmark that tells one number from another in every field.
    pub(crate) fn bookmark(number: u64) -> Bookmark {
        let time = |seconds: u64| Timestamp { seconds: seconds.cast_signed(), nanos: 1_000_000 };
        Bookmark {
            cursor: Cursor { epoch: u64::MAX - number, position: Position(number) },
            generation: number + 1,
            created_at: time(number + 2),
            acknowledged_at: (number % 2 == 1).then(|| time(number + 3)),
        }
    }

    pub(crate) async fn what_is_written_is_there_whole_and_replaces_what_was(engine: &dyn Bookmarks) {
        assert_eq!(engine.bookmarks().await, Ok(BTreeMap::new()));
        let named = |numbers: &[(&str, Option<u64>)]| -> Changes {
            numbers.iter().map(|(name, number)| ((*name).to_owned(), number.map(bookmark))).collect()
        };
        let there = async || {
            let bookmarks = engine.bookmarks().await.expect("can be read");
            bookmarks.into_iter().map(|(name, bookmark)| (name, Some(bookmark))).collect::<Changes>()
        };
        engine.write_bookmarks(&named(&[("b", Some(1)), ("a", Some(2)), ("none", None)])).await.expect("can be written");
        assert_eq!(there().await, named(&[("a", Some(2)), ("b", Some(1))]));
        engine.write_bookmarks(&named(&[("a", None), ("b", Some(4)), ("c", Some(3))])).await.expect("can be written");
        assert_eq!(there().await, named(&[("b", Some(4)), ("c", Some(3))]));
        engine.write_bookmarks(&Changes::new()).await.expect("nothing can be written");
        assert_eq!(there().await, named(&[("b", Some(4)), ("c", Some(3))]));
    }
}
