//! What entries tell of earlier ones: what became of a message, and of its deliveries.

use super::pauses::Pauses;
use super::{Position, Stored};
use std::collections::BTreeSet;

/// Which entries of a stretch of the log tell something of which earlier ones.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Sequel(BTreeSet<(Position, Position)>);

impl Sequel {
    pub(super) fn drop_slowly(self, pauses: &mut Pauses<'_>) {
        pauses.drop_each(self.0);
    }

    pub(super) fn apply(&mut self, stored: &Stored) {
        self.0.extend(pairs(stored));
    }

    pub(super) fn forget(&mut self, stored: &Stored) {
        for pair in pairs(stored) {
            self.0.remove(&pair);
        }
    }

    /// The entries that tell something of the one at `position`.
    pub(super) fn of(&self, position: Position) -> impl Iterator<Item = Position> {
        self.0.range((position, Position(0))..=(position, Position(u64::MAX))).map(|(_, teller)| *teller)
    }

    /// Every entry of which something is told, with the one that tells it.
    pub(super) fn pairs(&self) -> impl ExactSizeIterator<Item = (Position, Position)> {
        self.0.iter().copied()
    }
}

/// Every earlier entry that an entry tells something of, each with the one that tells it. No two entries give the same pair.
fn pairs(stored: &Stored) -> impl Iterator<Item = (Position, Position)> {
    let Stored { position, entry } = stored;
    let steps = entry.delivery_steps.iter().map(|step| step.planned_at);
    let redriven = entry.deliveries.iter().map(|delivery| delivery.message);
    let told = steps.chain(redriven).chain([entry.about]).filter(|of| *of != 0 && *of != position.0);
    // Both are about one message; while that is unknown they hang together.
    let of = if entry.about == 0 { position.0 } else { entry.about };
    let earlier = Some(entry.earlier).filter(|earlier| *earlier != 0).map(|earlier| (Position(of), Position(earlier)));
    told.map(|of| (Position(of), *position)).chain(earlier)
}
