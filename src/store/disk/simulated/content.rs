//! The content of a simulated file: what is seen of it, and what is durable.

use crate::store::random::Random;
use std::collections::BTreeSet;

/// What reaches the disk whole or not at all.
pub(super) const SECTOR: usize = 512;

/// A file, whatever its name.
#[derive(Debug, Clone, Default)]
pub(super) struct Content {
    seen: Vec<u8>,
    durable: Vec<u8>,
    /// The sectors that the next sync has to write.
    dirty: BTreeSet<usize>,
    /// The least and the greatest length since the last sync.
    shortest: usize,
    longest: usize,
}

impl Content {
    pub(super) fn seen(&self) -> &[u8] {
        &self.seen
    }

    pub(super) fn len(&self) -> u64 {
        self.seen.len() as u64
    }

    pub(super) fn write(&mut self, bytes: &[u8], offset: usize) {
        if bytes.is_empty() {
            return;
        }
        let end = offset + bytes.len();
        self.set_len(self.seen.len().max(end));
        self.seen[offset..end].copy_from_slice(bytes);
        self.dirty.extend(offset / SECTOR..end.div_ceil(SECTOR));
    }

    pub(super) fn set_len(&mut self, len: usize) {
        self.seen.resize(len, 0);
        self.shortest = self.shortest.min(len);
        self.longest = self.longest.max(len);
    }

    pub(super) fn sync(&mut self) {
        // What was cut off does not come back, even if the file has grown again.
        self.durable.truncate(self.shortest);
        self.durable.resize(self.seen.len(), 0);
        for sector in std::mem::take(&mut self.dirty) {
            self.persist(sector);
        }
        (self.shortest, self.longest) = (self.seen.len(), self.seen.len());
    }

    fn persist(&mut self, sector: usize) {
        let end = ((sector + 1) * SECTOR).min(self.seen.len()).min(self.durable.len());
        if let (Some(to), Some(from)) = (self.durable.get_mut(sector * SECTOR..end), self.seen.get(sector * SECTOR..end)) {
            to.copy_from_slice(from);
        }
    }

    /// What a sync does that fails: nothing is written, and nobody will write it any more.
    pub(super) fn forget_dirty(&mut self) {
        self.dirty.clear();
    }

    /// What a power loss does.
    pub(super) fn lose(&mut self, random: &mut Random) {
        let len = match random.below(3) {
            0 => self.durable.len(),
            1 => self.seen.len(),
            _ => self.shortest + random.below(self.longest - self.shortest + 1),
        };
        if random.coin() {
            self.durable.truncate(self.shortest);
        }
        self.durable.resize(len, 0);
        let dirty = std::mem::take(&mut self.dirty);
        for (sector, survives) in dirty.iter().zip(survivors(random, dirty.len())) {
            if survives {
                self.persist(*sector);
            }
        }
        self.seen = self.durable.clone();
        (self.shortest, self.longest) = (len, len);
    }

    pub(super) fn flip(&mut self, bit: usize) {
        assert!(bit / 8 < self.seen.len(), "bit {bit} lies behind the end");
        for view in [&mut self.seen, &mut self.durable] {
            if let Some(byte) = view.get_mut(bit / 8) {
                *byte ^= 1 << (bit % 8);
            }
        }
    }

    pub(super) fn truncate(&mut self, len: usize) {
        self.seen.truncate(len);
        self.durable.truncate(len);
        self.shortest = self.shortest.min(len);
        self.longest = self.longest.min(len);
    }
}

/// Which of so many unsynced things a power loss leaves. Any can be; none, all, the first and the last are what disks like to do.
pub(super) fn survivors(random: &mut Random, count: usize) -> Vec<bool> {
    let (pattern, border) = (random.below(6), random.below(count + 1));
    let survives = |i| match pattern {
        0 => false,
        1 => true,
        2 => i < border,
        3 => i >= border,
        _ => random.coin(),
    };
    (0..count).map(survives).collect()
}
