//! A tray: what the matcher has laid out for one reader, and the reader has not taken yet.

use crate::error::Error;
use crate::store::{Filter, Page, Position, Stored};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Context, Poll, Waker};

/// The tray of one reader, for as long as it is subscribed. The matcher lays on it while the reader is on the roster.
#[derive(Debug)]
pub(super) struct Tray {
    /// What the reader wants.
    pub(super) filter: Filter,
    most: Page,
    contents: Mutex<Contents>,
}

#[derive(Debug, Default)]
struct Contents {
    /// Oldest first, each with the bytes of its message.
    entries: VecDeque<(Stored, usize)>,
    bytes: usize,
    /// The reader was given everything up to here before it joined.
    after: Position,
    /// Where the latest event was, be it given already or still here.
    told: Position,
    /// True if the reader is to tell how far it is.
    reminded: bool,
    left: Option<Left>,
    /// Wakes the reader, if it waits.
    waker: Option<Waker>,
}

/// Why a reader is no longer on the roster.
#[derive(Debug, Clone)]
pub(super) enum Left {
    /// It has to read on by itself after this position: up to it the tray had everything.
    Behind(Position),
    /// Nothing more comes.
    Ended(Error),
}

/// What a reader takes from its tray.
#[derive(Debug)]
pub(super) enum Taken {
    /// The next entry.
    Entry(Stored),
    /// A reminder to tell how far the reader is.
    Reminder,
    /// Nothing more will be laid here.
    Left(Left),
}

impl Tray {
    /// An empty tray that holds at most a page.
    pub(super) fn new(filter: Filter, most: Page) -> Self {
        Self { filter, most, contents: Mutex::default() }
    }

    /// How much it holds at most.
    pub(super) const fn most(&self) -> Page {
        self.most
    }

    // The roster's side. Wakers are collected, to be woken when no lock is held.

    /// Takes entries from now on, those after `after`; `told` is where the reader's latest event was.
    pub(super) fn open(&self, after: Position, told: Position) {
        *self.contents.lock() = Contents { after, told, ..Contents::default() };
    }

    /// Lays down an entry. False if there is no room: then the reader is behind.
    pub(super) fn lay(&self, stored: &Stored, bytes: usize, wakers: &mut Vec<Waker>) -> bool {
        let mut contents = self.contents.lock();
        if stored.position <= contents.after {
            return true;
        }
        let fits = contents.entries.len() < self.most.entries && contents.bytes + bytes <= self.most.bytes;
        if fits || contents.entries.is_empty() {
            contents.entries.push_back((stored.clone(), bytes));
            contents.bytes += bytes;
            contents.told = stored.position;
            wakers.extend(contents.waker.take());
            return true;
        }
        contents.left = Some(Left::Behind(stored.position.previous()));
        false
    }

    /// Reminds the reader if it had no event for `skipped` entries up to `matched`. Returns where to look again.
    pub(super) fn remind(&self, matched: Position, skipped: u64, wakers: &mut Vec<Waker>) -> Position {
        let mut contents = self.contents.lock();
        let due = contents.told.plus(skipped);
        if due > matched {
            return due;
        }
        if contents.entries.is_empty() {
            contents.reminded = true;
            wakers.extend(contents.waker.take());
        }
        matched.plus(skipped)
    }

    /// Says that nothing more comes.
    pub(super) fn leave(&self, left: Left, wakers: &mut Vec<Waker>) {
        let mut contents = self.contents.lock();
        contents.left = Some(left);
        wakers.extend(contents.waker.take());
    }

    // The reader's side.

    /// The next from the tray; waits for it. Dropping the future takes nothing.
    pub(super) async fn next(&self) -> Taken {
        poll_fn(|context| self.poll_next(context)).await
    }

    fn poll_next(&self, context: &Context<'_>) -> Poll<Taken> {
        let mut contents = self.contents.lock();
        if let Some((stored, bytes)) = contents.entries.pop_front() {
            contents.bytes -= bytes;
            return Poll::Ready(Taken::Entry(stored));
        }
        // What a burst needed is given back: most trays are empty most of the time.
        contents.entries = VecDeque::new();
        if let Some(left) = &contents.left {
            return Poll::Ready(Taken::Left(left.clone()));
        }
        if std::mem::take(&mut contents.reminded) {
            return Poll::Ready(Taken::Reminder);
        }
        match &mut contents.waker {
            Some(waker) => waker.clone_from(context.waker()),
            none => *none = Some(context.waker().clone()),
        }
        Poll::Pending
    }

    /// Notes that the reader tells that it is at `position`. False if something is here that comes first.
    pub(super) fn tell(&self, position: Position) -> bool {
        let mut contents = self.contents.lock();
        if !contents.entries.is_empty() || contents.left.is_some() {
            return false;
        }
        contents.told = position;
        contents.reminded = false;
        true
    }
}
