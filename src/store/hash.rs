//! Hashes that stand on disk: the same on every machine and in every version, and keyed, so that nobody can make ids that collide.

use siphasher::sip::SipHasher13;
use std::hash::Hasher as _;

/// The key of a log's hashes: its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct HashKey(pub(crate) [u8; 16]);

impl HashKey {
    /// A key that no other log has.
    pub(crate) fn fresh() -> Self {
        Self(uuid::Uuid::new_v4().into_bytes())
    }

    /// Tells logs apart where that need not be certain.
    pub(crate) fn number(self) -> u64 {
        self.hash(b"number")
    }

    /// SipHash-1-3 of `bytes`.
    pub(crate) fn hash(self, bytes: &[u8]) -> u64 {
        let mut hasher = SipHasher13::new_with_key(&self.0);
        hasher.write(bytes);
        hasher.finish()
    }

    /// The hash of several texts, each with its length, so that no two lists of texts are one.
    pub(crate) fn hash_all(self, texts: &[&str]) -> u64 {
        let mut hasher = SipHasher13::new_with_key(&self.0);
        for text in texts {
            hasher.write_u64(text.len() as u64);
            hasher.write(text.as_bytes());
        }
        hasher.finish()
    }

    /// 32 bits of the hash of `text`: a hint, for reading past what is not wanted.
    pub(crate) fn hint(self, text: &str) -> u32 {
        (self.hash(text.as_bytes()) >> 32) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_stay_what_they_are_on_disk() {
        let key = HashKey([7; 16]);
        assert_eq!(key.hash(b"63c0ea05-4878-4d65-b6e0-2564ec29fc89"), 7_752_080_997_083_583_664);
        assert_eq!(key.hash_all(&["6655", "4915112345678"]), 12_661_033_084_931_203_504);
        assert_eq!(key.hint("6655"), 3338678991);
    }

    #[test]
    fn lists_that_only_read_alike_differ() {
        let key = HashKey::fresh();
        assert_ne!(key.hash_all(&["ab", "c"]), key.hash_all(&["a", "bc"]));
    }
}
