//! What must be found in a store after whatever has happened to it.

use crate::pb::store::Entry;
use crate::store::{Frame, Position, Stored};
use std::sync::Arc;

/// Remembers what was staged, and what anybody was told or saw.
#[derive(Debug, Clone, Default)]
pub(super) struct Witness {
    /// Every entry that somebody was told of or saw and that is still kept, in order. Positions are left out where the store keeps
    /// its own books.
    pub(super) known: Vec<Stored>,
    /// Frames that were staged since, each with the position of its first entry. They may become durable, whole and in this order.
    staged: Vec<(Position, Frame)>,
}

/// The entry without what the engine fills in.
fn bare(entry: &Entry) -> Entry {
    let mut entry = Entry { accepted_at: None, previous_in_conversation: 0, ..entry.clone() };
    entry.deliveries.iter_mut().for_each(|delivery| delivery.lane = 0);
    entry
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
        self.known.last().map_or(Position(0), |last| last.position)
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

    /// What lies below `oldest` need not be there any more.
    pub(super) fn let_go(&mut self, oldest: Position) {
        self.known.retain(|stored| stored.position >= oldest);
    }

    /// The whole log was read: all that is known is there unchanged; after it there are staged frames, whole and in order, and
    /// nothing else.
    pub(super) fn saw(&mut self, log: &[Stored]) {
        for (i, known) in self.known.iter().enumerate() {
            let found = log.get(i).filter(|found| found.position <= known.position);
            let found =
                found.unwrap_or_else(|| panic!("lost: position {} was acknowledged or seen, and is gone", known.position));
            assert!(
                found.position == known.position && found.entry == known.entry,
                "changed: position {} was {:?}, and {} is {:?}",
                known.position,
                known.entry,
                found.position,
                found.entry
            );
        }
        while let Some(found) = log.get(self.known.len()) {
            let (end, first) = (self.end(), found.position);
            let passed = self.staged.iter().find(|(staged, _)| *staged > end && *staged < first);
            assert!(passed.is_none(), "out of order: {first} is there, and what was staged as {passed:?} is not");
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
        if first > self.end() {
            let log = [&self.known, frame].concat();
            self.saw(&log);
        }
        for stored in frame {
            let seen = self.known.iter().find(|seen| seen.position == stored.position);
            assert!(seen.is_some_and(|seen| seen.entry == stored.entry), "{} was seen otherwise", stored.position);
        }
    }

    /// The process has ended, and what it left was read: what was staged and is not known will never be.
    pub(super) fn began_anew(&mut self) {
        self.staged.clear();
    }
}
