//! What is so at the moment. Whoever looks at the page has it asked; what nobody knows is not on the page.

/// What is so at the moment, as far as somebody knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Present {
    /// What the gateway can do.
    pub readiness: Option<State>,
    /// The store.
    pub store: Option<Store>,
    /// Streams of notifications.
    pub streams: Option<Streams>,
    /// Named subscriptions.
    pub subscriptions: Option<Subscriptions>,
}

/// One of a few states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    /// The words for all of them.
    pub all: &'static [&'static str],
    /// The word for the present one.
    pub now: &'static str,
}

/// The store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Store {
    /// Whether it can do its work.
    pub state: State,
    /// Bytes of the log.
    pub log_bytes: u64,
    /// Bytes of the index.
    pub index_bytes: Option<u64>,
    /// Bytes that are free on the disk.
    pub free_bytes: Option<u64>,
    /// Position of the oldest entry that is kept.
    pub oldest: u64,
    /// Position of the newest durable entry.
    pub newest: u64,
    /// Entries that the index lacks.
    pub not_indexed: Option<u64>,
}

/// Streams of notifications.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Streams {
    /// Those that are open.
    pub open: u64,
    /// Most that may be.
    pub most: u64,
}

/// Named subscriptions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subscriptions {
    /// Names.
    pub names: u64,
    /// Those that have a reader.
    pub attached: u64,
    /// Those whose cursor is of no use any more.
    pub expired: u64,
    /// Most entries after the cursor of any that has not expired.
    pub behind: u64,
}
