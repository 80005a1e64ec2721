//! What must be found in a store after whatever has happened to it.

use crate::pb::store::Entry;
use crate::store::{Frame, Position, Stored};
use std::sync::Arc;

/// Remembers what was staged, and what anybody was told or saw.
#[derive(Debug, Clone, Default)]
pub(super) struct Witness {
    /// Every entry that somebody was told of or saw, from position 1 on.
    pub(super) known: Vec<Stored>,
    /// Frames that were staged since, each with the position of its first entry. They may become durable, whole and in this order.
    staged: Vec<(Position, Frame)>,
}

/// The entry without what the engine fills in.
fn bare(entry: &Entry) -> Entry {
    Entry { accepted_at: None, previous_in_conversation: 0, ..entry.clone() }
}

impl Witness {
    /// A frame was staged, and its first entry has this position.
    pub(super) fn staged(&mut self, first: Position, frame: Frame) {
        self.staged.push((first, frame));
    }

    /// A frame was refused after it was staged: it must never be seen.
    pub(super) fn rejected(&mut self, first: Position) {
        assert!(first > self.end(), "an entry that was seen was taken back: {first}");
        self.staged.retain(|(staged, _)| *staged != first);
    }

    /// The last position that is known.
    pub(super) fn end(&self) -> Position {
        Position(self.known.len() as u64)
    }

    /// All that is known, and then all that is staged, as it will be if it becomes durable.
    pub(super) fn with_staged(&self) -> Vec<Stored> {
        let mut all = self.known.clone();
        for (first, frame) in self.staged.iter().filter(|(first, _)| *first > self.end()) {
            let stored =
                |(i, entry): (usize, &Entry)| Stored { position: Position(first.0 + i as u64), entry: Arc::new(entry.clone()) };
            all.extend(frame.iter().enumerate().map(stored));
        }
        all
    }

    /// The whole log was read: all that is known is there unchanged; after it there are staged frames, whole and in order, and
    /// nothing else.
    pub(super) fn saw(&mut self, log: &[Stored]) {
        for known in &self.known {
            let found = log.get(known.position.0 as usize - 1);
            let found =
                found.unwrap_or_else(|| panic!("lost: position {} was acknowledged or seen, and is gone", known.position));
            assert!(
                found.position == known.position && found.entry == known.entry,
                "changed: position {} was {:?} and is {:?}",
                known.position,
                known.entry,
                found.entry
            );
        }
        while let Some(found) = log.get(self.known.len()) {
            let first = self.end().next();
            let frame = self.staged.iter().find(|(staged, _)| *staged == first).map(|(_, frame)| frame);
            let frame =
                frame.unwrap_or_else(|| panic!("invented: nothing was staged as {first}, and {:?} is there", found.entry));
            let there = log[self.known.len()..].get(..frame.len());
            let there =
                there.unwrap_or_else(|| panic!("torn: a frame of {} entries from {first} on is there in part", frame.len()));
            for (stored, (staged, position)) in there.iter().zip(frame.iter().zip(first.0..)) {
                assert_eq!(stored.position.0, position);
                assert_eq!(bare(&stored.entry), bare(staged), "changed: position {position}");
                assert!(stored.entry.accepted_at.is_some());
            }
            let there = there.to_vec();
            self.known.extend(there);
        }
    }

    /// A frame was acknowledged.
    pub(super) fn was_told(&mut self, frame: &[Stored]) {
        let first = frame.first().expect("a frame is not empty").position;
        assert!(first <= self.end().next(), "acknowledged out of order: {first} after {}", self.end());
        let mut log = self.known.clone();
        log.truncate(first.0 as usize - 1);
        log.extend(frame.iter().cloned());
        if log.len() < self.known.len() {
            log.extend(self.known[log.len()..].iter().cloned());
        }
        self.saw(&log);
    }

    /// The process has ended, and what it left was read: what was staged and is not known will never be.
    pub(super) fn began_anew(&mut self) {
        self.staged.clear();
    }
}
