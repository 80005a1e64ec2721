//! The bytes of the log. All numbers are little-endian.
//!
//! ```text
//! segment = header, padding, batch, padding, batch, padding ...     each part begins at a multiple of 512
//! header  = "CIMGWLOG"  version:u32  flags:u32  log:[16]  epoch:u64  first position:u64  run:u64  link:u32  checksum:u32
//! batch   = "CIMB"  length:u32  first position:u64  count:u32  checksum of the records:u32  run:u64  link:u32  flags:u32
//!           zero:u32  checksum:u32, records
//! record  = length:u32  flags:u16  key:u16  kind:u8  audiences:u8  sender:u8  zero:u8
//!           channel:u32  session:u32  conversation:u32  accepted at:i64, entry
//! ```
//!
//! A *run* is a number drawn at random each time the log is opened, so that what an earlier run left behind is never taken for what
//! this one wrote. A *link* is the checksum of the header of the batch before, so that batches can only follow each other as they
//! were written. A batch without records is a *seal*: it says that everything before it is durable. An entry is a
//! `cim.store.v1.Entry`; what stands before it in its record is what a reader can tell of it without decoding it: hashes of 32 bits
//! of its channel, session and conversation, and when it was accepted, in nanoseconds since 1970.
//!
//! Reserved for later, and refused by this version: flags of segments and batches, and the flags of records below.

use crate::pb::store::Entry;
use crate::pb::{Audience, SenderType};
use crate::store::hash::HashKey;
use crate::store::{Position, clock};
use crate::wire;
use prost::Message as _;
use std::collections::HashSet;

/// Parts begin at multiples of this: the most that a disk writes whole or not at all.
pub(crate) const SECTOR: usize = 512;

/// Bytes of a segment before its first batch.
pub(crate) const SEGMENT_HEADER: usize = SECTOR;

/// Bytes of a batch before its records.
pub(crate) const BATCH_HEADER: usize = 48;

/// Bytes of a record before its entry.
pub(crate) const RECORD_HEADER: usize = 32;

const SEGMENT_MAGIC: &[u8; 8] = b"CIMGWLOG";
const BATCH_MAGIC: &[u8; 4] = b"CIMB";
const VERSION: u32 = 1;

/// The record is the last of its frame.
const LAST_OF_FRAME: u16 = 1;
/// The entry is the gateway's own bookkeeping: no reader sees it.
const INTERNAL: u16 = 1 << 1;
/// The entry is only worth streaming while it is fresh.
const EPHEMERAL: u16 = 1 << 2;
/// Reserved: the entry is compressed, encrypted under the record's key, or erased.
const UNDERSTOOD: u16 = LAST_OF_FRAME | INTERNAL | EPHEMERAL;

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(number)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(number)
}

/// The least multiple of [`SECTOR`] that is not below `length`.
pub(crate) const fn padded(length: u64) -> u64 {
    length.next_multiple_of(SECTOR as u64)
}

/// What a segment says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    /// The log that it is of; the key of its hashes.
    pub(crate) log: HashKey,
    /// The history that it was written in.
    pub(crate) epoch: u64,
    /// Position of its first entry.
    pub(crate) first: Position,
    /// The run that wrote it.
    pub(crate) run: u64,
    /// Checksum of the header of the batch before its first one.
    pub(crate) link: u32,
}

/// Why bytes are no part of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    /// Nothing was written here.
    #[error("nothing was written here")]
    Blank,
    /// The checksum does not fit.
    #[error("its checksum does not fit its content")]
    Checksum,
    /// A later version wrote it.
    #[error("needs a later version of the gateway: {what} {found}")]
    TooNew {
        /// What this version does not understand.
        what: &'static str,
        /// What it is.
        found: u32,
    },
    /// It ends early.
    #[error("ends early")]
    Short,
    /// The entry is no protobuf of one.
    #[error("is no entry")]
    NoEntry,
}

impl SegmentHeader {
    /// The header as it is written.
    pub(crate) fn encode(&self) -> [u8; SEGMENT_HEADER] {
        let mut bytes = [0; SEGMENT_HEADER];
        bytes[..8].copy_from_slice(SEGMENT_MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.log.0);
        bytes[32..40].copy_from_slice(&self.epoch.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.first.0.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.run.to_le_bytes());
        bytes[56..60].copy_from_slice(&self.link.to_le_bytes());
        let checksum = crc32c::crc32c(&bytes[..60]);
        bytes[60..64].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// Reads a header.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() < 64 || bytes[..64].iter().all(|byte| *byte == 0) {
            return Err(Malformed::Blank);
        }
        if bytes[..8] != *SEGMENT_MAGIC || crc32c::crc32c(&bytes[..60]) != u32_at(bytes, 60) {
            return Err(Malformed::Checksum);
        }
        let (version, flags) = (u32_at(bytes, 8), u32_at(bytes, 12));
        if version != VERSION {
            return Err(Malformed::TooNew { what: "version", found: version });
        }
        if flags != 0 {
            return Err(Malformed::TooNew { what: "flags of a segment", found: flags });
        }
        let mut log = [0; 16];
        log.copy_from_slice(&bytes[16..32]);
        Ok(Self {
            log: HashKey(log),
            epoch: u64_at(bytes, 32),
            first: Position(u64_at(bytes, 40)),
            run: u64_at(bytes, 48),
            link: u32_at(bytes, 56),
        })
    }
}

/// What a batch says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BatchHeader {
    /// Position of its first entry; of a seal, the position that the next entry will have.
    pub(crate) first: Position,
    /// How many entries it has; none in a seal.
    pub(crate) count: u32,
    /// Bytes of its records.
    pub(crate) length: u32,
    /// Checksum of its records.
    pub(crate) records: u32,
    /// The run that wrote it.
    pub(crate) run: u64,
    /// Checksum of the header of the batch before.
    pub(crate) link: u32,
    /// Checksum of this header.
    pub(crate) checksum: u32,
}

impl BatchHeader {
    /// Completes a batch whose records stand in `bytes` after room for the header: writes the header, and fills up with zeros.
    pub(crate) fn seal_up(bytes: &mut Vec<u8>, first: Position, count: u32, run: u64, link: u32) -> Self {
        let records = &bytes[BATCH_HEADER..];
        let length = u32::try_from(records.len()).expect("a batch is bounded far below 4 GiB");
        let records = crc32c::crc32c(records);
        bytes[..4].copy_from_slice(BATCH_MAGIC);
        bytes[4..8].copy_from_slice(&length.to_le_bytes());
        bytes[8..16].copy_from_slice(&first.0.to_le_bytes());
        bytes[16..20].copy_from_slice(&count.to_le_bytes());
        bytes[20..24].copy_from_slice(&records.to_le_bytes());
        bytes[24..32].copy_from_slice(&run.to_le_bytes());
        bytes[32..36].copy_from_slice(&link.to_le_bytes());
        bytes[36..44].fill(0);
        let checksum = crc32c::crc32c(&bytes[..44]);
        bytes[44..48].copy_from_slice(&checksum.to_le_bytes());
        bytes.resize(padded(bytes.len() as u64) as usize, 0);
        Self { first, count, length, records, run, link, checksum }
    }

    /// Reads a header.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() < BATCH_HEADER {
            return Err(Malformed::Short);
        }
        if bytes[..BATCH_HEADER].iter().all(|byte| *byte == 0) {
            return Err(Malformed::Blank);
        }
        let checksum = u32_at(bytes, 44);
        if bytes[..4] != *BATCH_MAGIC || crc32c::crc32c(&bytes[..44]) != checksum {
            return Err(Malformed::Checksum);
        }
        let flags = u32_at(bytes, 36);
        if flags != 0 {
            return Err(Malformed::TooNew { what: "flags of a batch", found: flags });
        }
        Ok(Self {
            first: Position(u64_at(bytes, 8)),
            count: u32_at(bytes, 16),
            length: u32_at(bytes, 4),
            records: u32_at(bytes, 20),
            run: u64_at(bytes, 24),
            link: u32_at(bytes, 32),
            checksum,
        })
    }

    /// Bytes that the batch takes in its segment.
    pub(crate) const fn size(&self) -> u64 {
        padded(BATCH_HEADER as u64 + self.length as u64)
    }

    /// The position after its last entry.
    pub(crate) const fn end(&self) -> Position {
        Position(self.first.0 + self.count as u64)
    }

    /// True if `bytes`, which begin with this header, hold the records that it was written with.
    pub(crate) fn holds(&self, bytes: &[u8]) -> bool {
        let end = BATCH_HEADER + self.length as usize;
        bytes.get(BATCH_HEADER..end).is_some_and(|records| crc32c::crc32c(records) == self.records)
    }
}

/// What can be told of an entry without decoding it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hints {
    flags: u16,
    kind: u8,
    audiences: u8,
    sender: u8,
    channel: u32,
    session: u32,
    conversation: u32,
    /// When the entry was accepted, in nanoseconds since 1970.
    pub(crate) accepted_at: i64,
}

impl Hints {
    /// What is told of `entry`.
    fn of(entry: &Entry, key: HashKey) -> Self {
        let message = entry.message.as_ref();
        let header = message.and_then(|message| message.header.as_ref());
        let hint = |text: Option<&str>| text.map_or(0, |text| key.hint(text));
        let channel = header.and_then(|header| header.channel_data.as_ref());
        let type_name = message.and_then(|message| message.body.as_ref()).and_then(wire::type_name);
        let internal = if message.is_none() { INTERNAL } else { 0 };
        let ephemeral = if entry.ephemeral { EPHEMERAL } else { 0 };
        Self {
            flags: internal | ephemeral,
            kind: hint(type_name) as u8,
            audiences: entry.audiences().fold(0, |set, audience| set | audience_bit(audience)),
            sender: header.and_then(|header| header.sender.as_ref()).map_or(0, |sender| sender_number(sender.r#type())),
            channel: hint(channel.and_then(|channel| channel.service_identifier.as_deref())),
            session: hint(header.and_then(|header| header.channel_session_id.as_deref())),
            conversation: hint(header.and_then(|header| header.conversation_id.as_deref())),
            accepted_at: entry.accepted_at.as_ref().map_or(0, clock::to_nanos),
        }
    }

    /// True for the gateway's own bookkeeping.
    pub(crate) const fn is_internal(&self) -> bool {
        self.flags & INTERNAL != 0
    }

    /// The hints that a block's filter is made of.
    pub(crate) const fn keys(&self) -> [u64; 3] {
        [key_of(Key::Channel, self.channel), key_of(Key::Session, self.session), key_of(Key::Conversation, self.conversation)]
    }
}

#[derive(Clone, Copy)]
enum Key {
    Channel,
    Session,
    Conversation,
}

/// A hint with its kind, spread over 64 bits.
const fn key_of(kind: Key, hint: u32) -> u64 {
    let mixed = ((hint as u64) << 2 | kind as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ (mixed >> 29)
}

const fn audience_bit(audience: Audience) -> u8 {
    1 << (audience as u8 % 8)
}

const fn sender_number(sender: SenderType) -> u8 {
    sender as u8
}

/// What a filter wants, in the terms of [`Hints`]. It lets pass whatever the filter could want; the filter itself has the last word.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sieve {
    channels: HashSet<u32>,
    sessions: HashSet<u32>,
    conversations: HashSet<u32>,
    kinds: HashSet<u8>,
    senders: HashSet<u8>,
    audiences: u8,
}

impl Sieve {
    /// The sieve of `filter` for logs whose hashes have this key.
    pub(crate) fn of(filter: &crate::store::Filter, key: HashKey) -> Self {
        let hints = |texts: &HashSet<String>| texts.iter().map(|text| key.hint(text)).collect();
        Self {
            channels: hints(&filter.service_identifiers),
            sessions: hints(&filter.channel_session_ids),
            conversations: hints(&filter.conversation_ids),
            kinds: filter.body_types.iter().map(|name| key.hint(name) as u8).collect(),
            senders: filter.sender_types.iter().map(|sender| sender_number(*sender)).collect(),
            audiences: filter.audiences.iter().fold(0, |set, audience| set | audience_bit(*audience)),
        }
    }

    /// False if the filter does not want an entry with these hints.
    pub(crate) fn passes(&self, hints: &Hints) -> bool {
        fn wants<T: Eq + std::hash::Hash>(wanted: &HashSet<T>, found: &T) -> bool {
            wanted.is_empty() || wanted.contains(found)
        }
        !hints.is_internal()
            && wants(&self.channels, &hints.channel)
            && wants(&self.sessions, &hints.session)
            && wants(&self.conversations, &hints.conversation)
            && wants(&self.kinds, &hints.kind)
            && wants(&self.senders, &hints.sender)
            && (self.audiences == 0 || self.audiences & hints.audiences != 0)
    }

    /// False if the filter wants no entry of a block, of whose keys `may_hold` tells which it may have.
    pub(crate) fn passes_block(&self, may_hold: impl Fn(u64) -> bool) -> bool {
        let wants =
            |wanted: &HashSet<u32>, kind: Key| wanted.is_empty() || wanted.iter().any(|hint| may_hold(key_of(kind, *hint)));
        wants(&self.channels, Key::Channel)
            && wants(&self.sessions, Key::Session)
            && wants(&self.conversations, Key::Conversation)
    }
}

/// A record in the bytes of its batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Record<'b> {
    /// Its entry's place in the log.
    pub(crate) position: Position,
    /// What can be told of its entry.
    pub(crate) hints: Hints,
    entry: &'b [u8],
}

impl Record<'_> {
    /// Appends a record to a batch; returns what can be told of its entry.
    pub(crate) fn encode(entry: &Entry, last_of_frame: bool, key: HashKey, bytes: &mut Vec<u8>) -> Hints {
        let mut hints = Hints::of(entry, key);
        if last_of_frame {
            hints.flags |= LAST_OF_FRAME;
        }
        let start = bytes.len();
        bytes.resize(start + RECORD_HEADER, 0);
        entry.encode_raw(bytes);
        let length = u32::try_from(bytes.len() - start - RECORD_HEADER).expect("an entry is bounded far below 4 GiB");
        let header = &mut bytes[start..start + RECORD_HEADER];
        header[..4].copy_from_slice(&length.to_le_bytes());
        header[4..6].copy_from_slice(&hints.flags.to_le_bytes());
        header[8..12].copy_from_slice(&[hints.kind, hints.audiences, hints.sender, 0]);
        header[12..16].copy_from_slice(&hints.channel.to_le_bytes());
        header[16..20].copy_from_slice(&hints.session.to_le_bytes());
        header[20..24].copy_from_slice(&hints.conversation.to_le_bytes());
        header[24..32].copy_from_slice(&hints.accepted_at.to_le_bytes());
        hints
    }

    /// Bytes of its entry.
    pub(crate) const fn len(&self) -> usize {
        self.entry.len()
    }

    /// Its entry.
    pub(crate) fn entry(&self) -> Result<Entry, Malformed> {
        let foreign = self.hints.flags & !UNDERSTOOD;
        if foreign != 0 {
            return Err(Malformed::TooNew { what: "flags of a record", found: foreign.into() });
        }
        Entry::decode(self.entry).map_err(|_| Malformed::NoEntry)
    }
}

/// The records of a batch whose checksum holds.
pub(crate) fn records<'b>(header: &BatchHeader, bytes: &'b [u8]) -> Records<'b> {
    let end = BATCH_HEADER + header.length as usize;
    Records { bytes: &bytes[BATCH_HEADER..end], next: header.first, left: header.count }
}

/// Where each record of a batch whose checksum holds begins.
pub(crate) fn starts(header: &BatchHeader, bytes: &[u8]) -> Result<Vec<usize>, Malformed> {
    let mut records = records(header, bytes);
    let end = BATCH_HEADER + header.length as usize;
    let mut starts = Vec::new();
    loop {
        let start = end - records.bytes.len();
        match records.next() {
            Some(record) => _ = record?,
            None => return Ok(starts),
        }
        starts.push(start);
    }
}

/// The record of a batch that begins at one of its [`starts`], the one with this number.
pub(crate) fn record_at<'b>(header: &BatchHeader, bytes: &'b [u8], start: usize, number: usize) -> Result<Record<'b>, Malformed> {
    let next = header.first.plus(number as u64);
    let mut records = Records { bytes: bytes.get(start..).unwrap_or_default(), next, left: 1 };
    records.next().unwrap_or(Err(Malformed::Short))
}

/// See [`records`].
#[derive(Debug)]
pub(crate) struct Records<'b> {
    bytes: &'b [u8],
    next: Position,
    left: u32,
}

impl<'b> Iterator for Records<'b> {
    type Item = Result<Record<'b>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        self.left -= 1;
        if self.bytes.len() < RECORD_HEADER {
            self.left = 0;
            return Some(Err(Malformed::Short));
        }
        let (header, rest) = self.bytes.split_at(RECORD_HEADER);
        let length = u32_at(header, 0) as usize;
        let Some((entry, rest)) = rest.split_at_checked(length) else {
            self.left = 0;
            return Some(Err(Malformed::Short));
        };
        self.bytes = rest;
        let hints = Hints {
            flags: u16_at(header, 4),
            kind: header[8],
            audiences: header[9],
            sender: header[10],
            channel: u32_at(header, 12),
            session: u32_at(header, 16),
            conversation: u32_at(header, 20),
            accepted_at: u64_at(header, 24).cast_signed(),
        };
        let position = self.next;
        self.next = position.next();
        Some(Ok(Record { position, hints, entry }))
    }
}
