-- The index of the log: everything here follows from the log and can be made again from it (`cim-gateway reindex`).
-- Positions are places in the log; times are nanoseconds since 1970; hashes are keyed with the id of the log.

CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value ANY NOT NULL
) STRICT, WITHOUT ROWID;

-- Channel sessions, each as its latest entry tells it.
CREATE TABLE session (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    service_identifier TEXT NOT NULL,
    channel_customer_identifier TEXT NOT NULL,
    channel_type TEXT NOT NULL,
    conversation_id TEXT NOT NULL,
    customer_id TEXT NOT NULL,
    opened_at INTEGER,
    ended_at INTEGER,
    end_reason TEXT NOT NULL,
    -- When its customer was last active.
    last_activity INTEGER NOT NULL,
    -- Its latest message, but for reports on earlier ones: its place among the sessions that could be meant.
    position INTEGER NOT NULL,
    -- The entry that tells it: a later one if that is a report, or if it was carried forward.
    told INTEGER NOT NULL,
    -- Hash of service_identifier and channel_customer_identifier.
    key_hash INTEGER NOT NULL,
    -- Hash of channel_type and channel_customer_identifier; unset where the channel is a type of its own: then key_hash serves.
    address_hash INTEGER
) STRICT;
CREATE INDEX session_key ON session (key_hash);
CREATE INDEX session_address ON session (address_hash) WHERE address_hash IS NOT NULL;
CREATE INDEX session_conversation ON session (conversation_id);
CREATE INDEX session_customer ON session (customer_id);

-- Conversations, and the newest message of each one's history; 0 for none.
CREATE TABLE conversation (
    id TEXT PRIMARY KEY,
    newest INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Customers as known so far: a cim.store.v1.CustomerFacts each.
CREATE TABLE customer (
    id TEXT PRIMARY KEY,
    position INTEGER NOT NULL,
    told INTEGER NOT NULL,
    facts BLOB NOT NULL
) STRICT;

-- Stretches of segments, to find a position or a time in, and to pass over what a reader does not want.
CREATE TABLE block (
    first INTEGER PRIMARY KEY,
    end INTEGER NOT NULL,
    segment INTEGER NOT NULL,
    offset INTEGER NOT NULL,
    length INTEGER NOT NULL,
    accepted_at INTEGER NOT NULL,
    filter BLOB NOT NULL
) STRICT;
CREATE INDEX block_accepted_at ON block (accepted_at);

-- Runs of ids: each is a file index.db-ids/NUMBER.run of rows (hash, content, position, session) in the order of the hashes, for the
-- messages of one stretch of the log. The filter tells of most ids that are not in a run that they are not.
CREATE TABLE run (
    number INTEGER PRIMARY KEY,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    entries INTEGER NOT NULL,
    filter BLOB NOT NULL
) STRICT;

-- Entries that tell something of earlier ones: delivery notifications of messages, steps of deliveries of the entry that plans them, later
-- plans of a message.
CREATE TABLE sequel (
    of INTEGER NOT NULL,
    position INTEGER NOT NULL,
    PRIMARY KEY (of, position)
) STRICT, WITHOUT ROWID;

-- Deliveries that are not settled, and dead letters.
CREATE TABLE delivery (
    planned_at INTEGER NOT NULL,
    -- 1 for the connector, 2 for the bot.
    endpoint INTEGER NOT NULL,
    channel_id TEXT NOT NULL,
    -- Deliveries of one endpoint that have it in common are made one after the other.
    lane INTEGER NOT NULL,
    -- The entry that has the message.
    message INTEGER NOT NULL,
    -- The entry that tells it: a later one if it was carried forward.
    told INTEGER NOT NULL,
    -- A cim.store.v1.DeliveryState: 1 and 2 are open, 5 is a dead letter.
    state INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    due INTEGER NOT NULL,
    PRIMARY KEY (planned_at, endpoint)
) STRICT, WITHOUT ROWID;
CREATE INDEX delivery_lane ON delivery (lane) WHERE state IN (1, 2);
CREATE INDEX delivery_dead ON delivery (planned_at, endpoint) WHERE state = 5;
