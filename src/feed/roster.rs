//! The roster: who is live, and how far the matcher has come. One lock holds both together; see [`super`] for why.

use super::readers::Readers;
use super::tray::{Left, Tray};
use crate::error::Error;
use crate::pb::CimMessage;
use crate::store::{Position, Stored};
use parking_lot::Mutex;
use prost::Message as _;
use std::cell::LazyCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Waker;
use std::time::Duration;
use std::vec;
use tokio::time::Instant;

/// Least time between two rounds that remind live readers of what they passed over. With many quiet streams beside a flood each
/// round costs a heartbeat on each of them.
pub(super) const ROUND: Duration = Duration::from_secs(5);

/// Readers that are looked at in one turn of the matcher: the lock is held meanwhile.
const TURN: usize = 1024;

/// The live readers. Shared by the matcher and all subscriptions.
#[derive(Debug)]
pub(super) struct Roster {
    heartbeat_skipped: u64,
    state: Mutex<State>,
    /// [`State::matched`], for those who need not exclude the matcher. Written after the trays, read before them.
    matched: AtomicU64,
}

#[derive(Debug)]
struct State {
    /// Every entry up to here lies on the trays of those who want it.
    matched: Position,
    readers: Readers,
    /// Nobody is to be reminded before the matcher is here.
    due: Position,
    latest_round: Option<Instant>,
    /// Why there is no matcher any more.
    ended: Option<Error>,
}

impl State {
    /// Takes everybody off the roster.
    fn dismiss(&mut self, left: &Left) -> Vec<Waker> {
        let mut wakers = Vec::new();
        for tray in std::mem::take(&mut self.readers).all() {
            tray.leave(left.clone(), &mut wakers);
        }
        wakers
    }
}

impl Roster {
    /// A roster of nobody, with the matcher at `matched`.
    pub(super) fn new(matched: Position, heartbeat_skipped: u64) -> Self {
        let readers = Readers::default();
        let state = State { matched, readers, due: Position(u64::MAX), latest_round: None, ended: None };
        Self { heartbeat_skipped, state: Mutex::new(state), matched: AtomicU64::new(matched.0) }
    }

    // The readers' side.

    /// Joins, if a reader that was given everything up to `after` has caught up with the matcher. `told` is where its latest event
    /// was.
    pub(super) fn join(&self, tray: &Arc<Tray>, after: Position, told: Position) -> Result<bool, Error> {
        let mut state = self.state.lock();
        if let Some(error) = &state.ended {
            return Err(error.clone());
        }
        if after < state.matched {
            return Ok(false);
        }
        tray.open(after, told);
        state.readers.insert(tray);
        state.due = state.due.min(told.plus(self.heartbeat_skipped));
        Ok(true)
    }

    /// Leaves, if the reader is on the roster.
    pub(super) fn leave(&self, tray: &Arc<Tray>) {
        self.state.lock().readers.remove(tray);
    }

    /// Before which position nothing is left for a live reader that was given everything up to `position`, and notes that it tells
    /// so. None if something lies on its tray, or it is no longer live.
    pub(super) fn tell(&self, tray: &Tray, position: Position) -> Option<Position> {
        // In this order: what lies on the tray by the time that it is looked at is all that there is up to here.
        let position = self.matched().max(position);
        tray.tell(position).then_some(position)
    }

    /// How far the matcher has come. Whoever looks at a tray after that finds all that it holds up to there.
    pub(super) fn matched(&self) -> Position {
        Position(self.matched.load(Ordering::Acquire))
    }

    // The matcher's side. Only it moves `matched`.

    /// Moves on to `position` if nobody is there who could want anything.
    pub(super) fn pass_alone(&self, position: Position) -> bool {
        let mut state = self.state.lock();
        let alone = state.readers.is_empty();
        if alone {
            self.move_to(&mut state, position);
        }
        alone
    }

    /// Moves on to `position`: nobody wants what lies between.
    pub(super) fn pass(&self, position: Position) {
        self.move_to(&mut self.state.lock(), position);
    }

    fn move_to(&self, state: &mut State, position: Position) {
        state.matched = state.matched.max(position);
        self.matched.store(state.matched.0, Ordering::Release);
    }

    /// Lays out the next entries: as many as one turn allows, and one at least. Who does not have room for one leaves. Returns whom
    /// to wake.
    pub(super) fn lay_out(&self, entries: &mut vec::IntoIter<Stored>) -> Vec<Waker> {
        let mut wakers = Vec::new();
        let mut state = self.state.lock();
        let mut looked_at = 0;
        while looked_at < TURN
            && let Some(stored) = entries.next()
        {
            let bytes = LazyCell::new(|| stored.entry.message.as_deref().map_or(0, CimMessage::encoded_len));
            let mut full = Vec::new();
            for tray in state.readers.candidates(&stored.entry) {
                looked_at += 1;
                if tray.filter.matches(&stored.entry) && !tray.lay(&stored, *bytes, &mut wakers) {
                    full.push(tray.clone());
                }
            }
            looked_at += 1;
            for tray in full {
                state.readers.remove(&tray);
            }
            state.matched = stored.position;
        }
        let matched = state.matched;
        self.move_to(&mut state, matched);
        wakers
    }

    /// When to make a round; none while nobody has passed over enough.
    pub(super) fn next_round(&self) -> Option<Instant> {
        let state = self.state.lock();
        let now = Instant::now();
        (state.matched >= state.due).then(|| state.latest_round.map_or(now, |latest| latest + ROUND))
    }

    /// Reminds everybody who has passed over enough. Returns whom to wake.
    pub(super) fn make_round(&self) -> Vec<Waker> {
        let mut wakers = Vec::new();
        let mut state = self.state.lock();
        let remind = |tray: &Arc<Tray>| tray.remind(state.matched, self.heartbeat_skipped, &mut wakers);
        let due = state.readers.all().map(remind).min();
        state.due = due.unwrap_or(Position(u64::MAX));
        state.latest_round = Some(Instant::now());
        wakers
    }

    /// Sends everybody away from where the matcher is, which moves on to `position`. Returns whom to wake.
    pub(super) fn dismiss(&self, left: impl FnOnce(Position) -> Left, position: Position) -> Vec<Waker> {
        let mut state = self.state.lock();
        let left = left(state.matched);
        let wakers = state.dismiss(&left);
        self.move_to(&mut state, position);
        wakers
    }

    /// Ends every subscription, the future ones too. Returns whom to wake. Only the first end counts.
    pub(super) fn end(&self, error: Error) -> Vec<Waker> {
        let mut state = self.state.lock();
        let error = state.ended.get_or_insert(error).clone();
        state.dismiss(&Left::Ended(error))
    }
}
