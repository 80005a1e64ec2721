//! A filter that tells of most things that are not in a set that they are not.
//!
//! It is a split block Bloom filter as Apache Parquet specifies it: one probe touches one block of 32 bytes. At 16 bits for each
//! member about one in a thousand that are not in the set passes; none that is in the set is ever held back.

/// Bits for each member.
const BITS: usize = 16;

/// Odd numbers that choose one bit in each word of a block, as Parquet has them.
const SALTS: [u32; 8] = [0x47b6_137b, 0x4497_4d91, 0x8824_ad5b, 0xa2b7_289d, 0x7054_95c7, 0x2df1_424b, 0x9efc_4947, 0x5c6b_fb31];

type Block = [u32; 8];

/// A set of hashes, told approximately.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bloom {
    blocks: Vec<Block>,
}

impl Bloom {
    /// An empty set that has room for `members`.
    pub(crate) fn with_room(members: usize) -> Self {
        let blocks = (members * BITS).div_ceil(256).max(1);
        Self { blocks: vec![[0; 8]; blocks] }
    }

    fn block(&self, hash: u64) -> usize {
        (((hash >> 32) * self.blocks.len() as u64) >> 32) as usize
    }

    /// Takes `hash` in.
    pub(crate) fn insert(&mut self, hash: u64) {
        let block = self.block(hash);
        for (word, bit) in self.blocks[block].iter_mut().zip(bits(hash)) {
            *word |= bit;
        }
    }

    /// False if `hash` is certainly not in the set.
    pub(crate) fn may_hold(&self, hash: u64) -> bool {
        self.blocks[self.block(hash)].iter().zip(bits(hash)).all(|(word, bit)| word & bit != 0)
    }

    /// The filter as bytes.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        self.blocks.iter().flatten().flat_map(|word| word.to_le_bytes()).collect()
    }

    /// A filter from its bytes; none if they are not those of one.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        if bytes.is_empty() || !bytes.len().is_multiple_of(32) {
            return None;
        }
        let (words, _) = bytes.as_chunks::<4>();
        let (blocks, _) = words.as_chunks::<8>();
        Some(Self { blocks: blocks.iter().map(|block| block.map(u32::from_le_bytes)).collect() })
    }
}

fn bits(hash: u64) -> impl Iterator<Item = u32> {
    let low = hash as u32;
    SALTS.iter().map(move |salt| 1 << (low.wrapping_mul(*salt) >> 27))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::hash::HashKey;

    fn members(from: u64, count: u64) -> impl Iterator<Item = u64> {
        let key = HashKey([1; 16]);
        (from..from + count).map(move |number| key.hash(&number.to_le_bytes()))
    }

    #[test]
    fn no_member_is_held_back_and_few_strangers_pass() {
        for count in [1, 7, 1_000, 100_000] {
            let mut bloom = Bloom::with_room(count as usize);
            members(0, count).for_each(|hash| bloom.insert(hash));
            assert!(members(0, count).all(|hash| bloom.may_hold(hash)));
            let passed = members(1 << 40, 100_000).filter(|hash| bloom.may_hold(*hash)).count();
            assert!(passed < 500, "{passed} of 100000 strangers pass a filter of {count}");
        }
    }

    #[test]
    fn it_survives_its_bytes() {
        let mut bloom = Bloom::with_room(1_000);
        members(0, 1_000).for_each(|hash| bloom.insert(hash));
        assert_eq!(Bloom::from_bytes(&bloom.to_bytes()), Some(bloom));
        for length in [0, 1, 31, 33] {
            assert_eq!(Bloom::from_bytes(&vec![0; length]), None, "{length} bytes");
        }
    }
}
