//! Looking things up.

use super::run::{Row, Run};
use super::{Index, IndexError};
use crate::pb;
use crate::pb::store::Session;
use crate::store::bloom::Bloom;
use crate::store::facts::{Common, CustomerFacts, IdKey, Name, Named, Rank, SessionFacts, SessionKey, WAITS, content, id_hash};
use crate::store::log::{Block, Place};
use crate::store::{Position, SessionFilter, clock};
use prost::Message as _;
use rusqlite::types::ToSql;
use rusqlite::{Connection, OptionalExtension as _, params};
use std::ops::RangeInclusive;
use std::sync::Arc;

/// A connection to look things up with. It goes back to the others when dropped.
#[derive(Debug)]
pub(crate) struct Lookup<'i> {
    index: &'i Index,
    /// None only while it is given back.
    connection: Option<Connection>,
}

/// Most connections that wait to be used again.
const IDLE: usize = 4;

impl Drop for Lookup<'_> {
    fn drop(&mut self) {
        let mut idle = self.index.idle.lock();
        if idle.len() < IDLE {
            idle.extend(self.connection.take());
        }
    }
}

/// Messages of one run with one id, of which one is asked for: more than one, because hashes may be alike.
const ENOUGH: usize = 4;

/// Most sessions that are looked at for a message of one channel among those that go by the same id: everybody else waits meanwhile.
const LOOKED_AT: usize = 64;

/// Most sessions that one look at the list of them passes: what comes after it can be asked for.
const LISTED: usize = 50_000;

/// The columns that make a session.
const SESSION: &str =
    "id, service_identifier, channel_customer_identifier, channel_type, conversation_id, customer_id, opened_at,
    ended_at, end_reason, position, last_activity";

fn session(row: &rusqlite::Row<'_>) -> rusqlite::Result<(Rank, Arc<Session>)> {
    let time = |at| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(at)?.map(clock::from_nanos));
    let session = Session {
        id: row.get(0)?,
        service_identifier: row.get(1)?,
        channel_customer_identifier: row.get(2)?,
        channel_type: row.get(3)?,
        conversation_id: row.get(4)?,
        customer_id: row.get(5)?,
        opened_at: time(6)?,
        ended_at: time(7)?,
        end_reason: row.get(8)?,
    };
    let position = Position(row.get::<_, i64>(9)?.cast_unsigned());
    Ok((Rank::of(&session, position), Arc::new(session)))
}

fn block(row: &rusqlite::Row<'_>) -> rusqlite::Result<Block> {
    let number = |at| Ok::<_, rusqlite::Error>(row.get::<_, i64>(at)?.cast_unsigned());
    // A filter that cannot be read passes everything over to the reader.
    let everything = || Bloom::from_bytes(&[0xff; 32]);
    let filter = Bloom::from_bytes(row.get_ref(6)?.as_blob()?).or_else(everything);
    Ok(Block {
        first: Position(number(0)?),
        end: Position(number(1)?),
        place: Place { segment: Position(number(2)?), offset: number(3)? },
        length: number(4)?,
        accepted_at: row.get(5)?,
        filter: filter.expect("32 bytes are a filter"),
    })
}

/// The rows of a run with a hash and one of some contents.
fn rows_of(
    run: &Arc<Run>,
    hash: i64,
    contents: RangeInclusive<i64>,
) -> Result<impl Iterator<Item = Result<Row, IndexError>>, IndexError> {
    let from = IdKey { hash, content: *contents.start(), position: Position(0) };
    let is_within = move |key: IdKey| key.hash == hash && key.content <= *contents.end();
    Ok(run.clone().rows_from(from)?.take_while(move |row| row.as_ref().map_or(true, |row| is_within(row.key))))
}

/// The latest row of each session, of the `most` sessions whose that is the latest; the latest one first. A client may send one id with every
/// message: all are looked through, and few are gathered.
fn latest_of_sessions(rows: impl Iterator<Item = Result<Row, IndexError>>, most: usize) -> Result<Vec<Row>, IndexError> {
    let later = |row: &Row| (row.key.position, row.key.content);
    let mut latest: Vec<Row> = Vec::new();
    for row in rows {
        let row = row?;
        let is_full = latest.len() == most;
        let known = latest.iter().position(|known| known.session == row.session);
        let replaced = known.or_else(|| (0..latest.len()).filter(|_| is_full).min_by_key(|at| later(&latest[*at])));
        match replaced {
            Some(at) if later(&row) > later(&latest[at]) => latest[at] = row,
            Some(_) => {}
            None => latest.push(row),
        }
    }
    latest.sort_unstable_by_key(|row| std::cmp::Reverse(later(row)));
    Ok(latest)
}

fn position(row: Result<Row, IndexError>) -> Result<Position, IndexError> {
    row.map(|row| row.key.position)
}

fn session_facts(row: &rusqlite::Row<'_>) -> rusqlite::Result<(Position, SessionFacts)> {
    let (rank, session) = session(row)?;
    let last_activity = clock::from_nanos(row.get(10)?);
    Ok((rank.position(), SessionFacts { session, last_activity }))
}

impl<'i> Lookup<'i> {
    pub(super) const fn new(index: &'i Index, connection: Connection) -> Self {
        Self { index, connection: Some(connection) }
    }

    pub(super) fn connection(&self) -> &Connection {
        self.connection.as_ref().expect("it is only taken when this is dropped")
    }

    /// A session by its id, and the position by which it is ranked.
    pub(crate) fn session_and_position(&self, id: &str) -> Result<Option<(Position, SessionFacts)>, IndexError> {
        let mut statement = self.connection().prepare_cached(&format!("SELECT {SESSION} FROM session WHERE id = ?1"))?;
        Ok(statement.query_row([id], session_facts).optional()?)
    }

    /// Sessions that `filter` wants with ids below `before`, at most `limit`, and the id down to which all were looked at: none for
    /// all there are.
    pub(crate) fn listed(
        &self,
        filter: &SessionFilter,
        before: Option<&str>,
        limit: usize,
    ) -> Result<(Vec<SessionFacts>, Option<String>), IndexError> {
        let narrow = match filter {
            SessionFilter { conversation_id: Some(_), .. } => "AND conversation_id = ?2",
            SessionFilter { customer_id: Some(_), .. } => "AND customer_id = ?2",
            _ => "AND ?2 IS NULL",
        };
        let query = format!("SELECT {SESSION} FROM session WHERE id < ?1 {narrow} ORDER BY id DESC");
        let mut statement = self.connection().prepare_cached(&query)?;
        // No text is greater than this.
        let before = before.unwrap_or("\u{10ffff}");
        let mut rows = statement.query(params![before, filter.conversation_id.as_ref().or(filter.customer_id.as_ref())])?;
        let (mut found, mut looked_at) = (Vec::new(), 0);
        while let Some(row) = rows.next()? {
            let (_, facts) = session_facts(row)?;
            looked_at += 1;
            let reached = (looked_at == LISTED).then(|| facts.session.id.clone());
            if filter.matches(&facts.session) {
                found.push(facts);
            }
            if reached.is_some() || found.len() == limit {
                let reached = reached.or_else(|| found.last().map(|last| last.session.id.clone()));
                return Ok((found, reached));
            }
        }
        Ok((found, None))
    }

    /// The session that is meant among those with something in common, those that `passed_over` names excepted.
    pub(crate) fn meant(
        &self,
        common: Common<'_>,
        passed_over: &dyn Fn(&str) -> bool,
    ) -> Result<Option<(Rank, Arc<Session>)>, IndexError> {
        match common {
            Common::Key(key) => self.best(
                "key_hash = ?1 AND service_identifier = ?2 AND channel_customer_identifier = ?3",
                params![self.index.key_hash(key), key.service_identifier, key.channel_customer_identifier],
                passed_over,
            ),
            Common::Customer(id) => self.best("customer_id = ?1", params![id], passed_over),
            Common::Conversation(id) => self.best("conversation_id = ?1", params![id], passed_over),
            Common::Address { channel_type, address } => {
                let hash = self.index.address_hash(channel_type, address);
                let typed = self.best(
                    "address_hash = ?1 AND channel_type = ?2 AND channel_customer_identifier = ?3",
                    params![hash, channel_type, address],
                    passed_over,
                )?;
                // The channel that is this type by itself.
                let own =
                    SessionKey { service_identifier: channel_type.to_owned(), channel_customer_identifier: address.to_owned() };
                let own = self.best(
                    "key_hash = ?1 AND channel_type = ?2 AND channel_customer_identifier = ?3 AND service_identifier = ?2",
                    params![self.index.key_hash(&own), channel_type, address],
                    passed_over,
                )?;
                Ok([typed, own].into_iter().flatten().max_by_key(|(rank, _)| *rank))
            }
        }
    }

    fn best(
        &self,
        condition: &str,
        values: &[&dyn ToSql],
        passed_over: &dyn Fn(&str) -> bool,
    ) -> Result<Option<(Rank, Arc<Session>)>, IndexError> {
        let query = format!(
            "SELECT {SESSION} FROM session WHERE {condition} ORDER BY ended_at IS NULL DESC, ended_at DESC, position DESC"
        );
        let mut statement = self.connection().prepare_cached(&query)?;
        let mut rows = statement.query(values)?;
        while let Some(row) = rows.next()? {
            if !passed_over(row.get_ref(0)?.as_str().unwrap_or_default()) {
                return Ok(Some(session(row)?));
            }
        }
        Ok(None)
    }

    /// A customer by id.
    pub(crate) fn customer(&self, id: &str) -> Result<Option<Arc<CustomerFacts>>, IndexError> {
        let mut statement = self.connection().prepare_cached("SELECT facts FROM customer WHERE id = ?1")?;
        let facts: Option<Vec<u8>> = statement.query_row([id], |row| row.get(0)).optional()?;
        let Some(bytes) = facts else { return Ok(None) };
        let damaged = IndexError::Damaged { what: format!("customer {id} cannot be read") };
        let facts = pb::store::CustomerFacts::decode(&*bytes).map_err(|_| damaged)?;
        Ok(Some(Arc::new(CustomerFacts::from_pb(facts))))
    }

    /// The newest message of a conversation's history, 0 if it has none; none for an unknown conversation.
    pub(crate) fn newest_of(&self, conversation: &str) -> Result<Option<Position>, IndexError> {
        let mut statement = self.connection().prepare_cached("SELECT newest FROM conversation WHERE id = ?1")?;
        let newest: Option<i64> = statement.query_row([conversation], |row| row.get(0)).optional()?;
        Ok(newest.map(|newest| Position(newest.cast_unsigned())))
    }

    /// Messages from `oldest` on that seem to have `id` now, or to have been sent with it: one of them at least if there are any.
    pub(crate) fn with_id(&self, id: &str, oldest: Position) -> Result<Vec<Position>, IndexError> {
        let hash = id_hash(self.index.key, id);
        self.each_run(hash, |run| {
            let rows = rows_of(run, hash, i64::MIN..=i64::MAX)?;
            let kept = rows.filter(|row| !row.as_ref().is_ok_and(|row| row.key.position < oldest));
            kept.take(ENOUGH).map(position).collect()
        })
    }

    /// Messages that seem to have `id` now.
    pub(crate) fn having(&self, id: &str) -> Result<Vec<Position>, IndexError> {
        let hash = id_hash(self.index.key, id);
        self.each_run(hash, |run| rows_of(run, hash, 0..=i64::from(u32::MAX))?.map(position).collect())
    }

    /// Messages that seem to have been accepted under `id` with a content, latest first.
    pub(crate) fn with_content(&self, id: &str, fingerprint: &[u8]) -> Result<Vec<Position>, IndexError> {
        let hash = id_hash(self.index.key, id);
        let contents = [false, true].map(|renewed| content(renewed, fingerprint));
        let mut found = self.each_run(hash, |run| {
            let [kept, renewed] = contents.map(|content| rows_of(run, hash, content..=content));
            kept?.chain(renewed?).map(position).collect()
        })?;
        found.sort_unstable_by(|a, b| b.cmp(a));
        Ok(found)
    }

    /// The latest message from `oldest` on that seems to go by a name. The session of an older one may be gone, and its number be
    /// another's. Where the name is of a channel, the latest ones of [`LOOKED_AT`] sessions are looked at.
    pub(crate) fn latest(&self, name: Name<'_>, oldest: Position) -> Result<Option<Named>, IndexError> {
        let hash = name.hash(self.index.key);
        let most = if let Name::MessageOn { .. } = name { LOOKED_AT } else { 1 };
        let mut found = self.each_run(hash, |run| latest_of_sessions(rows_of(run, hash, i64::MIN..=i64::MAX)?, most))?;
        found.retain(|row| row.key.position >= oldest);
        let found = latest_of_sessions(found.into_iter().map(Ok), most)?;
        let mut statement = self.connection().prepare_cached(&format!("SELECT {SESSION} FROM session WHERE number = ?1"))?;
        for Row { key, session: number } in found {
            let session = statement.query_row([number], session).optional()?.map(|(_, session)| session);
            if name.admits(session.as_deref()) {
                return Ok(Some(Named { position: key.named(), session, waits: key.content == WAITS }));
            }
        }
        Ok(None)
    }

    /// At most `limit` entries that tell something of the one at `position`, the oldest first.
    pub(crate) fn sequel(&self, position: Position, limit: usize) -> Result<Vec<Position>, IndexError> {
        let mut statement =
            self.connection().prepare_cached("SELECT position FROM sequel WHERE of = ?1 ORDER BY position LIMIT ?2")?;
        let values = params![position.0.min(i64::MAX as u64).cast_signed(), i64::try_from(limit).unwrap_or(i64::MAX)];
        let told = statement.query_map(values, |row| Ok(Position(row.get::<_, i64>(0)?.cast_unsigned())))?;
        Ok(told.collect::<Result<_, _>>()?)
    }

    /// True if a message is found under one of its ids.
    pub(crate) fn holds(&self, key: &IdKey) -> Result<bool, IndexError> {
        let runs = self.index.runs();
        let Some(run) = runs.iter().find(|run| run.first <= key.position && key.position <= run.last) else { return Ok(false) };
        let found = run.clone().rows_from(*key)?.next().transpose()?;
        Ok(found.is_some_and(|row| row.key == *key) && run.filter.may_hold(key.hash.cast_unsigned()))
    }

    /// What `find` finds in the runs that may hold `hash`.
    fn each_run<T>(&self, hash: i64, find: impl Fn(&Arc<Run>) -> Result<Vec<T>, IndexError>) -> Result<Vec<T>, IndexError> {
        let mut found = Vec::new();
        for run in self.index.runs().iter().filter(|run| run.filter.may_hold(hash.cast_unsigned())) {
            found.extend(self.index.noted(find(run))?);
        }
        Ok(found)
    }

    /// True if no run holds `hash`, as far as can be told without reading.
    pub(crate) fn is_certainly_new(index: &Index, id: &str) -> bool {
        let hash = id_hash(index.key, id).cast_unsigned();
        !index.runs().iter().any(|run| run.filter.may_hold(hash))
    }

    /// The block that holds `position`.
    pub(crate) fn block_of(&self, position: Position) -> Result<Option<Block>, IndexError> {
        let query = "SELECT first, end, segment, offset, length, accepted_at, filter FROM block WHERE first <= ?1
                     ORDER BY first DESC LIMIT 1";
        let mut statement = self.connection().prepare_cached(query)?;
        let found = statement.query_row([position.0.cast_signed()], block).optional()?;
        Ok(found.filter(|block| block.end > position))
    }

    /// At most `most` blocks from the one that holds `position` on.
    pub(crate) fn blocks_from(&self, position: Position, most: usize) -> Result<Vec<Block>, IndexError> {
        let query = "SELECT first, end, segment, offset, length, accepted_at, filter FROM block WHERE first >=
                     coalesce((SELECT max(first) FROM block WHERE first <= ?1), 0) AND end > ?1 ORDER BY first LIMIT ?2";
        let mut statement = self.connection().prepare_cached(query)?;
        let values = params![position.0.cast_signed(), i64::try_from(most).unwrap_or(i64::MAX)];
        Ok(statement.query_map(values, block)?.collect::<Result<_, _>>()?)
    }

    /// The last block whose first entry was accepted before `time`, in nanoseconds since 1970.
    pub(crate) fn block_before(&self, time: i64) -> Result<Option<Block>, IndexError> {
        let query = "SELECT first, end, segment, offset, length, accepted_at, filter FROM block WHERE accepted_at < ?1
                     ORDER BY accepted_at DESC, first DESC LIMIT 1";
        let mut statement = self.connection().prepare_cached(query)?;
        Ok(statement.query_row([time], block).optional()?)
    }

    /// The last block.
    pub(crate) fn last_block(&self) -> Result<Option<Block>, IndexError> {
        let query = "SELECT first, end, segment, offset, length, accepted_at, filter FROM block ORDER BY first DESC LIMIT 1";
        Ok(self.connection().query_row(query, [], block).optional()?)
    }

    /// When the first entry of a segment was accepted.
    pub(crate) fn accepted_at(&self, segment: Position) -> Result<Option<i64>, IndexError> {
        let mut statement = self.connection().prepare_cached("SELECT accepted_at FROM block WHERE first = ?1")?;
        Ok(statement.query_row([segment.0.cast_signed()], |row| row.get(0)).optional()?)
    }

    /// The segments that the blocks are of.
    pub(crate) fn segments(&self) -> Result<Vec<Position>, IndexError> {
        let mut statement = self.connection().prepare_cached("SELECT DISTINCT segment FROM block ORDER BY segment")?;
        let segments = statement.query_map([], |row| Ok(Position(row.get::<_, i64>(0)?.cast_unsigned())))?;
        Ok(segments.collect::<Result<_, _>>()?)
    }

    /// Ids of sessions that have not ended, and that only entries below `oldest` tell.
    pub(crate) fn to_carry(&self, oldest: Position) -> Result<Vec<String>, IndexError> {
        let query = "SELECT id FROM session WHERE told < ?1 AND ended_at IS NULL ORDER BY position";
        let mut statement = self.connection().prepare_cached(query)?;
        Ok(statement.query_map([oldest.0.cast_signed()], |row| row.get(0))?.collect::<Result<_, _>>()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_rows_the_latest_of_each_session_are_kept_and_no_more_than_asked_for() {
        let row = |position: u64, session: u64| Row {
            key: IdKey { hash: 7, content: 0, position: Position(position) },
            session: Some(session.cast_signed()).filter(|session| *session != 0),
        };
        // Neither in the order of their positions nor against it.
        let rows = || (0..300_u64).map(|i| i * 7 % 300 + 1).map(|position| Ok(row(position, position % 5)));
        for (most, kept) in [(1, 1), (3, 3), (5, 5), (9, 5)] {
            let latest = latest_of_sessions(rows(), most).expect("can be read");
            let positions: Vec<_> = latest.iter().map(|row| row.key.position.0).collect();
            assert_eq!(positions, (301 - kept..=300).rev().collect::<Vec<_>>(), "{most}");
        }
    }
}
