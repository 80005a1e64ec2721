//! Whether the gateway can serve, for those who ask before they send.

/// What the gateway can do at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// The store is being opened.
    Opening,
    /// The index of the store is being made from the log.
    Rebuilding {
        /// Entries that are read.
        done: u64,
        /// Entries that have to be read.
        of: u64,
    },
    /// It accepts messages and serves readers.
    Ready,
    /// It has no room for more messages; it serves readers, and accepts again once there is room.
    ReadOnly,
    /// The store has failed: the process is about to end.
    Failed,
    /// It was asked to end.
    Stopping,
}

impl Readiness {
    /// Every word that there is for it.
    pub const WORDS: [&'static str; 6] = ["opening", "rebuilding", "ready", "read-only", "failed", "stopping"];

    /// True if readers are served.
    pub const fn serves(self) -> bool {
        matches!(self, Self::Ready | Self::ReadOnly)
    }

    /// True if messages are accepted.
    pub const fn accepts(self) -> bool {
        matches!(self, Self::Ready)
    }

    /// True once the store has been opened.
    pub const fn is_started(self) -> bool {
        !matches!(self, Self::Opening | Self::Rebuilding { .. })
    }

    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Opening => "opening",
            Self::Rebuilding { .. } => "rebuilding",
            Self::Ready => "ready",
            Self::ReadOnly => "read-only",
            Self::Failed => "failed",
            Self::Stopping => "stopping",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Readiness::{self, Failed, Opening, ReadOnly, Ready, Rebuilding, Stopping};

    #[test]
    fn the_words_are_all_there_are() {
        let all = [Opening, Rebuilding { done: 0, of: 1 }, Ready, ReadOnly, Failed, Stopping];
        assert_eq!(all.map(Readiness::word), Readiness::WORDS);
    }
}
