//! Subscriptions: readers of the feed, and those with a name, whose cursor the gateway keeps.
//!
//! A name has one reader at a time. Whoever attaches it gets a *generation* that is higher than every one before, and ends the reader
//! that had it. Only the generation that attached last may acknowledge, so that what a displaced reader says late moves nothing: not
//! after a restart either, for generations are as durable as cursors.
//!
//! All names are in memory; every change of one is written before it is answered ([`writer`]).

mod reader;
#[cfg(test)]
mod tests;
mod writer;

pub use reader::Reader;
pub use writer::Writer;

use crate::auth::Caller;
use crate::error::Error;
use crate::feed::{Feed, Start};
use crate::name::Name;
use crate::store::bookmarks::{Bookmark, Bookmarks};
use crate::store::{self, Cursor, Filter, Span, Store};
use crate::wire;
use parking_lot::Mutex;
use prost_types::Timestamp;
use reader::Attachment;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Bound;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::oneshot;
use writer::{Desk, Written};

/// How named subscriptions are kept.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Most names.
    pub max: usize,
    /// Least time between two writes.
    pub write_interval: Duration,
}

/// What a reader asks for.
#[derive(Debug, Clone)]
pub struct Request {
    /// The name under which its cursor is kept.
    pub name: Option<Name>,
    /// Which notifications.
    pub filter: Filter,
    /// Where to start; where nothing is said after the latest, or after what is acknowledged.
    pub start: Option<Start>,
    /// True if a name that there is is to begin at `start` again.
    pub reset: bool,
    /// Time between heartbeats.
    pub heartbeat: Option<Duration>,
}

/// A named subscription, for those who look after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// How far it is.
    pub bookmark: Bookmark,
    /// True while a reader is attached.
    pub attached: bool,
    /// Entries after its cursor.
    pub behind: u64,
    /// True if its cursor is of no use any more.
    pub expired: bool,
}

/// The named subscriptions at a glance.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// Names.
    pub names: usize,
    /// Those that have a reader.
    pub attached: usize,
    /// Those whose cursor is of no use any more.
    pub expired: usize,
    /// Most entries after the cursor of any that has not expired.
    pub behind: u64,
}

/// A page of the named subscriptions.
#[derive(Debug, Clone)]
pub struct ListPage {
    /// The subscriptions, by their names.
    pub subscriptions: Vec<Listed>,
    /// The name after which the next page goes on; none on the last page.
    pub next: Option<String>,
}

/// Serves readers and keeps the names. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Subscriptions {
    feed: Feed,
    store: Arc<dyn Store>,
    names: Arc<Mutex<Names>>,
    desk: Desk,
    max: usize,
}

/// Every name there is.
#[derive(Debug, Default)]
struct Names {
    by_name: BTreeMap<String, Kept>,
    /// The highest generation of all.
    generation: u64,
}

impl Names {
    /// A generation that is higher than any before: of a name that was deleted and made again, and in a store that was restored, too.
    fn next_generation(&mut self, now: &Timestamp) -> u64 {
        let millis = u64::try_from(wire::to_millis(now)).unwrap_or_default();
        self.generation = millis.max(self.generation + 1);
        self.generation
    }
}

#[derive(Debug)]
struct Kept {
    bookmark: Bookmark,
    /// Ends the reader that is attached.
    reader: Option<oneshot::Sender<Error>>,
}

impl Kept {
    /// Ends the reader that is attached, if there is one.
    fn end_reader(&mut self, why: Error) {
        if let Some(reader) = self.reader.take() {
            // It may have gone by itself.
            let _gone = reader.send(why);
        }
    }
}

impl Subscriptions {
    /// The subscriptions to `feed`, whose log `store` keeps and whose names `bookmarks` does, and the writer that they depend on: run
    /// it. It ends with the last clone of this and the last reader.
    pub async fn open(
        feed: Feed,
        store: Arc<dyn Store>,
        bookmarks: Arc<dyn Bookmarks>,
        settings: Settings,
    ) -> Result<(Self, Writer), store::Error> {
        let mut names = Names::default();
        for (name, bookmark) in bookmarks.bookmarks().await? {
            names.generation = names.generation.max(bookmark.generation);
            names.by_name.insert(name, Kept { bookmark, reader: None });
        }
        let (desk, writer) = writer::new(bookmarks, settings.write_interval);
        Ok((Self { feed, store, names: Arc::new(Mutex::new(names)), desk, max: settings.max }, writer))
    }

    /// Opens a subscription for a caller: to what the caller may know of, and for as long as its key is good. Fails as
    /// [`Self::subscribe`] does, and for what the caller may not.
    pub async fn subscribe_for(&self, caller: Caller, mut request: Request) -> Result<Reader, Error> {
        if let Some(name) = &request.name {
            caller.may_use_subscription(name.as_str())?;
        }
        caller.narrow(&mut request.filter)?;
        Ok(self.subscribe(request).await?.of(caller))
    }

    /// Opens a subscription. Its first event is a heartbeat with the cursor of the start.
    ///
    /// A name that is attached already changes its reader: the one before ends with [`Error::TakenOver`]. That is durable when this
    /// returns. Fails as [`Feed::subscribe`] does, then without touching the name; for a start that the name may not have; and for a
    /// name too many.
    pub async fn subscribe(&self, request: Request) -> Result<Reader, Error> {
        let Request { name, filter, start, reset, heartbeat } = request;
        if reset && (name.is_none() || start.is_none()) {
            return Err(invalid("reset", "needs a subscription and a start"));
        }
        let Some(name) = name else {
            let subscription = self.feed.subscribe(filter, start.unwrap_or(Start::Latest), heartbeat).await?;
            return Ok(Reader::new(subscription, None));
        };
        loop {
            let known = self.names.lock().by_name.get(name.as_str()).map(|kept| kept.bookmark);
            let begins = begins(&name, known.as_ref(), start, reset)?;
            let subscription = self.feed.subscribe(filter.clone(), begins.start, heartbeat).await?;
            let moved = begins.moves.then(|| subscription.cursor());
            if let Some((attachment, written)) = self.attach(&name, known.as_ref(), moved)? {
                written.wait().await?;
                return Ok(Reader::new(subscription, Some(attachment)));
            }
            // Another attached the name meanwhile; what was true of it may be so no more.
        }
    }

    /// Attaches a name whose bookmark was `known`, and moves it to `moved` if given. None if it was attached or deleted since.
    fn attach(
        &self,
        name: &Name,
        known: Option<&Bookmark>,
        moved: Option<Cursor>,
    ) -> Result<Option<(Attachment, Written)>, Error> {
        let now = now();
        let mut names = self.names.lock();
        let count = names.by_name.len();
        let generation = names.next_generation(&now);
        let generation_of = |bookmark: &Bookmark| bookmark.generation;
        let (reader, ended) = oneshot::channel();
        let kept = match (names.by_name.entry(name.as_str().to_owned()), moved) {
            (Entry::Occupied(entry), _) if known.map(generation_of) == Some(entry.get().bookmark.generation) => entry.into_mut(),
            (Entry::Vacant(_), Some(_)) if known.is_none() && count >= self.max => {
                return Err(Error::TooManySubscriptions { most: self.max });
            }
            (Entry::Vacant(entry), Some(cursor)) if known.is_none() => {
                let bookmark = Bookmark { cursor, generation: 0, created_at: now, acknowledged_at: None };
                entry.insert(Kept { bookmark, reader: None })
            }
            _ => return Ok(None),
        };
        if let Some(cursor) = moved {
            kept.bookmark = Bookmark { cursor, acknowledged_at: None, ..kept.bookmark };
        }
        kept.bookmark.generation = generation;
        kept.end_reader(Error::TakenOver { name: name.to_string() });
        kept.reader = Some(reader);
        let attachment = Attachment::new(self.names.clone(), name.clone(), generation, ended);
        Ok(Some((attachment, self.desk.submit(name.as_str(), Some(kept.bookmark)))))
    }

    /// Notes that everything up to `cursor` is processed, and returns up to where it is now: a cursor that lies before what is
    /// acknowledged changes nothing. That is durable when this returns.
    ///
    /// Only the reader that attached last may say so, and it may after its stream has ended, too.
    pub async fn acknowledge(&self, name: &str, generation: u64, cursor: Cursor) -> Result<Cursor, Error> {
        let (now, written) = self.advance(name, generation, cursor)?;
        written.wait().await?;
        Ok(now)
    }

    fn advance(&self, name: &str, generation: u64, cursor: Cursor) -> Result<(Cursor, Written), Error> {
        let mut names = self.names.lock();
        let kept = names.by_name.get_mut(name).ok_or_else(|| Error::SubscriptionNotFound { name: name.to_owned() })?;
        if generation != kept.bookmark.generation {
            return Err(Error::TakenOver { name: name.to_owned() });
        }
        if !self.store.knows(cursor) {
            return Err(Error::CursorUnknown { oldest: self.oldest() });
        }
        let former = kept.bookmark.cursor;
        // Positions of two histories of one log can be compared, as long as the log knows both.
        if cursor.position > former.position || !self.store.knows(former) {
            kept.bookmark.cursor = cursor;
        }
        // The start that is acknowledged is acknowledged as well. What changes nothing is still not answered before what it repeats
        // is durable.
        if kept.bookmark.acknowledged_at.is_none() || kept.bookmark.cursor != former {
            kept.bookmark.acknowledged_at = Some(now());
        }
        Ok((kept.bookmark.cursor, self.desk.submit(name, Some(kept.bookmark))))
    }

    /// A page of at most `size` named subscriptions, from the name after `after` on.
    pub fn list(&self, after: Option<&str>, size: usize) -> ListPage {
        let names = self.names.lock();
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut rest = names.by_name.range::<str, _>((from, Bound::Unbounded));
        let subscriptions: Vec<_> = rest.by_ref().take(size).map(|(name, kept)| self.listed(name, kept)).collect();
        let next = rest.next().and_then(|_| subscriptions.last()).map(|last| last.name.clone());
        ListPage { subscriptions, next }
    }

    fn listed(&self, name: &str, kept: &Kept) -> Listed {
        let (span, cursor) = (self.store.span(), kept.bookmark.cursor);
        Listed {
            name: name.to_owned(),
            bookmark: kept.bookmark,
            attached: kept.reader.is_some(),
            behind: behind(&span, cursor),
            expired: self.has_expired(&span, cursor),
        }
    }

    fn has_expired(&self, span: &Span, cursor: Cursor) -> bool {
        !self.store.knows(cursor) || cursor.position < span.oldest.previous()
    }

    /// All of them at a glance.
    pub fn figures(&self) -> Figures {
        let span = self.store.span();
        let names = self.names.lock();
        names.by_name.values().fold(Figures::default(), |figures, kept| {
            let cursor = kept.bookmark.cursor;
            let expired = self.has_expired(&span, cursor);
            let behind = if expired { 0 } else { behind(&span, cursor) };
            Figures {
                names: figures.names + 1,
                attached: figures.attached + usize::from(kept.reader.is_some()),
                expired: figures.expired + usize::from(expired),
                behind: figures.behind.max(behind),
            }
        })
    }

    /// Forgets a name, and ends its reader. That is durable when this returns.
    pub async fn delete(&self, name: &str) -> Result<(), Error> {
        self.remove(name)?.wait().await
    }

    fn remove(&self, name: &str) -> Result<Written, Error> {
        let unknown = || Error::SubscriptionNotFound { name: name.to_owned() };
        let mut names = self.names.lock();
        names.by_name.remove(name).ok_or_else(unknown)?.end_reader(unknown());
        Ok(self.desk.submit(name, None))
    }

    /// Where reading can start.
    fn oldest(&self) -> Cursor {
        let span = self.store.span();
        span.cursor(span.oldest.previous())
    }
}

/// Entries after a cursor.
const fn behind(span: &Span, cursor: Cursor) -> u64 {
    span.end.0.saturating_sub(cursor.position.0)
}

/// Where the next reader of a name begins.
struct Begins {
    start: Start,
    /// True if the name is there from now on.
    moves: bool,
}

fn begins(name: &Name, known: Option<&Bookmark>, start: Option<Start>, reset: bool) -> Result<Begins, Error> {
    match (known, start) {
        (None, start) => Ok(Begins { start: start.unwrap_or(Start::Latest), moves: true }),
        // Until something is acknowledged the first attachment may be repeated: its answer may have been lost.
        (Some(bookmark), Some(start)) if reset || bookmark.acknowledged_at.is_none() => Ok(Begins { start, moves: true }),
        (Some(_), Some(_)) => Err(invalid(
            "start",
            format!(
                "is not for {:?}, which goes on after what it has acknowledged: leave it out, or reset the subscription",
                name.as_str()
            ),
        )),
        (Some(bookmark), None) => Ok(Begins { start: Start::After(bookmark.cursor), moves: false }),
    }
}

fn invalid(field: &'static str, problem: impl Into<String>) -> Error {
    Error::InvalidRequest { field, problem: problem.into() }
}

fn now() -> Timestamp {
    Timestamp::from(SystemTime::now())
}
