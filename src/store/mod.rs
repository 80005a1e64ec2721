//! The store: one log of accepted messages, and the facts that follow from it.
//!
//! # The promise
//!
//! **Entries and positions.** The log is a sequence of entries. Each has a position; positions rise by one, from 1, and are never
//! used twice within an epoch. An entry never changes.
//!
//! **Frames.** What is appended at once is a frame of one or more entries: they get consecutive positions and become durable
//! together or not at all.
//!
//! **Durable.** [`Store::append`] returns when its frame is as safe as the engine makes it. Nobody sees an entry before: readers,
//! look-ups and repeats see what lies at or below the durable position, and nothing above. An append that fails with
//! [`Error::Unavailable`] may or may not be there later; a repeat with the same id tells.
//!
//! **Order.** Staging order is position order is the order in which everybody reads. A stage sees the facts of every entry staged
//! before it, and none staged after.
//!
//! **Claims.** Whoever holds the claim on a client's id is the only one who may append under it; others wait until the claim is
//! settled: durably appended or dropped. A claim tells whether the id is taken, and by which entry of the same content.
//!
//! **Epochs.** A history that is rewound or begun anew is another epoch. A cursor carries the epoch of its position, so that a
//! reader of a history that is gone is told so, instead of reading on at the same number in another one.
//!
//! **Retention.** Old entries go, oldest first. Reading below [`Span::oldest`] is an error, never a silent gap.

mod ahead;
mod bloom;
pub mod bookmarks;
pub mod care;
mod claims;
pub(crate) mod clock;
mod control;
mod deliveries;
mod disk;
pub mod embedded;
mod facts;
mod filter;
mod hash;
mod index;
mod log;
pub mod memory;
mod pauses;
mod registry;
mod sequel;
mod sessions;
mod tail;

#[cfg(test)]
mod conformance;
#[cfg(test)]
pub(crate) mod double;
#[cfg(test)]
mod random;

pub(crate) use ahead::Ahead;
pub use deliveries::{
    Deliveries, Delivery, DeliveryId, DeliveryName, Progress, Wanted, accepted_at, message_of, planned_at, take_message,
};
pub use facts::{Common, CustomerFacts, Facts, Name, Named, SessionFacts, SessionKey};
use facts::{Rank, is_active, ranked_at};
pub(crate) use facts::{customer_numbers, is_of_customer, last_activity, numbers_of, told_names};
pub use filter::Filter;
pub(crate) use filter::{Whereabouts, is_internal};
pub use registry::Registry;
pub use sessions::{SessionFilter, SessionPage};

use crate::pb;
use crate::violation::Violations;
use async_trait::async_trait;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use futures::future::BoxFuture;
use prost_types::Timestamp;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use tokio::sync::watch;

/// An entry's place in the log: 1 for the first. 0 is before all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position(pub u64);

impl Position {
    /// The position after this one. A log never gets as far as the last number; a forged position may.
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The position so many entries after this one.
    pub(crate) const fn plus(self, entries: u64) -> Self {
        Self(self.0.saturating_add(entries))
    }

    /// The position before this one; 0 has none before it.
    pub const fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where a reader stands: after `position` in the history `epoch`. As text it is opaque to clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cursor {
    /// The history that the position is of.
    pub epoch: u64,
    /// The last position that the reader has seen.
    pub position: Position,
}

impl Cursor {
    /// Number of the text form; the first of its bytes.
    const FORM: u8 = 1;
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = [Self::FORM; 17];
        bytes[1..9].copy_from_slice(&self.epoch.to_be_bytes());
        bytes[9..].copy_from_slice(&self.position.0.to_be_bytes());
        f.write_str(&BASE64_URL_SAFE_NO_PAD.encode(bytes))
    }
}

/// The text is no cursor of this gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is no cursor that this gateway gave out")]
pub struct NotACursor;

impl FromStr for Cursor {
    type Err = NotACursor;

    fn from_str(text: &str) -> Result<Self, NotACursor> {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| NotACursor)?;
        let (&[form], rest) = bytes.split_first_chunk::<1>().ok_or(NotACursor)?;
        let (epoch, rest) = rest.split_first_chunk::<8>().ok_or(NotACursor)?;
        let position = <[u8; 8]>::try_from(rest).map_err(|_| NotACursor)?;
        if form != Self::FORM {
            return Err(NotACursor);
        }
        Ok(Self { epoch: u64::from_be_bytes(*epoch), position: Position(u64::from_be_bytes(position)) })
    }
}

/// An entry and its position.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Place in the log.
    pub position: Position,
    /// The entry itself; shared, for it never changes.
    pub entry: Arc<pb::store::Entry>,
}

impl Stored {
    /// The id the client used: the one it sent, or the one the gateway gave where it sent none.
    pub fn claimed_id(&self) -> &str {
        let submitted = self.entry.submission.as_ref().map_or("", |submission| &submission.id);
        if submitted.is_empty() { self.id() } else { submitted }
    }

    /// The id the client sent, where the message got a fresh one because it was taken.
    pub fn submitted_id(&self) -> Option<&str> {
        Some(self.claimed_id()).filter(|claimed| *claimed != self.id())
    }

    /// The id the message has.
    pub fn id(&self) -> &str {
        self.entry.message.as_ref().and_then(|message| message.id.as_deref()).unwrap_or_default()
    }
}

/// What a reader can see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The history.
    pub epoch: u64,
    /// The oldest entry that is kept; [`Span::end`]`.next()` if there is none.
    pub oldest: Position,
    /// The newest durable entry; 0 if there never was one.
    pub end: Position,
}

impl Span {
    /// The cursor of a position in this history.
    pub const fn cursor(&self, position: Position) -> Cursor {
        Cursor { epoch: self.epoch, position }
    }
}

/// The right to append under a client's id. Dropping it without appending lets the next caller try.
#[derive(Debug)]
pub struct Claim {
    /// True if a message was accepted under the id before, and is still kept.
    pub taken: bool,
    /// The latest entry that was accepted under the id with the same content.
    pub same_content: Option<Stored>,
    /// Gives the claim back when dropped.
    _lease: claims::Lease,
}

impl Claim {
    const fn new(taken: bool, same_content: Option<Stored>, lease: claims::Lease) -> Self {
        Self { taken, same_content, _lease: lease }
    }
}

/// Entries to append at once. Positions, times of acceptance, the threads of conversations and the lanes of deliveries that have none
/// are the engine's to fill in.
pub type Frame = Vec<pb::store::Entry>;

/// Makes a frame from the present facts. It runs once and alone: nothing is staged between what it reads and what it returns. It
/// must not block. Its refusal leaves nothing behind.
pub type Stage<'s> = Box<dyn FnOnce(&dyn Facts) -> Result<Frame, Violations> + Send + 's>;

/// A frame that has its place in the log and is on its way to becoming durable. Dropping it does not call the frame back.
pub struct Staged(BoxFuture<'static, Result<Vec<Stored>, Error>>);

impl Staged {
    /// A frame that `durable` tells of.
    pub(crate) fn new(durable: impl Future<Output = Result<Vec<Stored>, Error>> + Send + 'static) -> Self {
        Self(Box::pin(durable))
    }

    /// The frame as stored, once it is durable.
    pub async fn durable(self) -> Result<Vec<Stored>, Error> {
        self.0.await
    }
}

impl fmt::Debug for Staged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Staged").finish_non_exhaustive()
    }
}

/// What a look through the log has found.
#[derive(Debug, Clone)]
pub struct Scan {
    /// The entries that the filter wants, oldest first.
    pub entries: Vec<Stored>,
    /// How far the log was looked through: every entry up to here is in `entries`, was not wanted, or is not for readers.
    pub reached: Position,
}

/// How much to read at once.
#[derive(Debug, Clone, Copy)]
pub struct Page {
    /// Most entries.
    pub entries: usize,
    /// Most bytes of their messages as protobuf; one entry is given even if it is larger.
    pub bytes: usize,
}

/// Why an append came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The stage refused.
    #[error("refused by the stage")]
    Refused(Violations),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] Error),
}

/// Why the store could not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It cannot write or read now. A failed append may or may not have been written.
    #[error("the store is unavailable: {cause}")]
    Unavailable {
        /// What failed, for the log.
        cause: String,
    },
    /// It cannot keep up at the moment. Nothing was stored.
    #[error("the store cannot keep up at the moment; nothing was stored")]
    Busy,
    /// It has no room left. Nothing was stored.
    #[error("the store has no room left: {what}; nothing was stored")]
    Full {
        /// What is full, for the log.
        what: String,
    },
    /// What was asked for is no longer kept.
    #[error("position {asked} is no longer kept; the oldest is {oldest}")]
    Expired {
        /// The position asked for.
        asked: Position,
        /// The oldest position kept.
        oldest: Position,
    },
}

/// Whether an engine can do its work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// It accepts and reads.
    Serving,
    /// It has no room: it only reads, and accepts again once there is room.
    Full {
        /// What is full.
        what: String,
    },
    /// It can do nothing more; the process has to end.
    Failed {
        /// Why.
        cause: String,
    },
}

impl Health {
    /// Every word that there is for it.
    pub const WORDS: [&'static str; 3] = ["serving", "full", "failed"];

    /// The word for it.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::Full { .. } => "full",
            Self::Failed { .. } => "failed",
        }
    }

    /// Fails unless something can be accepted.
    fn accepting(&self) -> Result<(), Error> {
        match self {
            Self::Serving => Ok(()),
            Self::Full { what } => Err(Error::Full { what: what.clone() }),
            Self::Failed { cause } => Err(Error::Unavailable { cause: cause.clone() }),
        }
    }
}

/// What an engine takes up, as far as it knows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// Bytes of the log, as they count for the bound that it has.
    pub log_bytes: u64,
    /// Bytes of the index.
    pub index_bytes: Option<u64>,
    /// Bytes that are free on the disk of the log.
    pub free_bytes: Option<u64>,
    /// Entries that the index has not taken in yet.
    pub not_indexed: Option<u64>,
}

/// An engine that keeps the log. See the module for what it promises.
#[async_trait]
pub trait Store: fmt::Debug + Send + Sync + 'static {
    /// Claims a client's id, once every earlier claim on it is settled. `fingerprint` is the content that it wants to append.
    async fn claim(&self, id: &str, fingerprint: &[u8]) -> Result<Claim, Error>;

    /// Gives the frame that `stage` makes its place in the log. Once it is durable `claim` is settled, whether or not anybody waits
    /// for that. A frame must not be empty. One that plans to deliver an earlier message, which is gone or about to go, fails with
    /// [`Error::Expired`].
    async fn stage(&self, claim: Option<Claim>, stage: Stage<'_>) -> Result<Staged, AppendError>;

    /// Appends the frame that `stage` makes, durably, and settles `claim`. Returns the frame as stored. A frame must not be empty.
    async fn append(&self, claim: Option<Claim>, stage: Stage<'_>) -> Result<Vec<Stored>, AppendError> {
        Ok(self.stage(claim, stage).await?.durable().await?)
    }

    /// Looks through the log after `after` for entries that `filter` wants, for at most a page of them. It may stop before the page
    /// is full: [`Scan::reached`] tells where to go on. Only at the durable end is that `after` itself.
    async fn scan(&self, after: Position, page: Page, filter: &Filter) -> Result<Scan, Error>;

    /// The entries after `after`, oldest first, at most a page. Empty if there are none yet.
    async fn read(&self, after: Position, page: Page) -> Result<Vec<Stored>, Error> {
        let (mut after, everything) = (after, Filter::default());
        loop {
            let scan = self.scan(after, page, &everything).await?;
            if !scan.entries.is_empty() || scan.reached <= after || page.entries == 0 {
                return Ok(scan.entries);
            }
            after = scan.reached;
        }
    }

    /// The entry at a position, if it is durable and kept. Entries that are no messages are there, too.
    async fn entry(&self, position: Position) -> Result<Option<Stored>, Error>;

    /// At most `limit` deliveries after `after`, in the order in which they were planned. It may stop before it has as many:
    /// [`Deliveries::reached`] tells where to go on.
    async fn deliveries(&self, after: DeliveryId, wanted: Wanted, limit: usize) -> Result<Deliveries, Error>;

    /// The entries that tell something of the one at `position`: delivery notifications about its message, steps of deliveries that it
    /// plans, and later plans of its message. The oldest first, at most `limit`, and only those that are durable and kept.
    async fn sequel(&self, position: Position, limit: usize) -> Result<Vec<Position>, Error>;

    /// Tells this log apart from others, in the names of its deliveries.
    fn number(&self) -> u64;

    /// Deliveries that were planned before this position are held: the log was restored from a backup, and some of them may have been
    /// made since. None if none are.
    fn held_before(&self) -> Option<Position> {
        None
    }

    /// Holds no deliveries any more, durably. A repeat does nothing.
    async fn release(&self) -> Result<(), Error> {
        Ok(())
    }

    /// The message that has this id now. Ephemeral entries have no look-up.
    async fn message(&self, id: &str) -> Result<Option<Stored>, Error>;

    /// A conversation's messages, newest first, `limit` at most, that stand before its message at `before`; none for an unknown
    /// conversation.
    async fn history(&self, conversation: &str, before: Option<Position>, limit: usize) -> Result<Option<Vec<Stored>>, Error>;

    /// A session by its id, as the durable entries tell it.
    async fn session(&self, id: &str) -> Result<Option<SessionFacts>, Error>;

    /// The sessions that `filter` wants with ids below `before`, the greatest first, `limit` at most, as the durable entries tell
    /// them. It may stop early: the page tells where to go on.
    async fn sessions(&self, filter: &SessionFilter, before: Option<&str>, limit: usize) -> Result<SessionPage, Error>;

    /// The position before the first kept entry that was accepted at or after `time`.
    async fn before(&self, time: Timestamp) -> Result<Position, Error>;

    /// What can be read now.
    fn span(&self) -> Span;

    /// True if the entry that a cursor stands at is still the one that it was given out for: its history was not rewound since.
    fn knows(&self, cursor: Cursor) -> bool {
        let span = self.span();
        cursor.epoch == span.epoch && cursor.position <= span.end
    }

    /// The durable position as it rises. A receiver that looks away sees the latest.
    fn durable(&self) -> watch::Receiver<Position>;

    /// What it takes up. It waits for no disk: what only that can tell may be a second old.
    fn figures(&self) -> Figures {
        Figures::default()
    }

    /// Whether it can do its work, as that changes.
    fn health(&self) -> watch::Receiver<Health> {
        watch::Sender::new(Health::Serving).subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_cursor_survives_its_text(epoch: u64, position: u64) {
            let cursor = Cursor { epoch, position: Position(position) };
            prop_assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }

        #[test]
        fn no_text_makes_a_cursor_panic(text: String) {
            let _cursor: Result<Cursor, NotACursor> = text.parse();
        }
    }

    #[test]
    fn the_words_for_health_are_all_there_are() {
        let [what, cause] = [String::new(), String::new()];
        let all = [Health::Serving, Health::Full { what }, Health::Failed { cause }];
        assert_eq!(all.each_ref().map(Health::word), Health::WORDS);
    }

    #[test]
    fn another_text_is_no_cursor() {
        for text in ["", "AQ", "0", "{}", "AgAAAAAAAAABAAAAAAAAAAE", "AQAAAAAAAAABAAAAAAAAAAEA"] {
            assert_eq!(text.parse::<Cursor>(), Err(NotACursor), "{text}");
        }
    }
}
