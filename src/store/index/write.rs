//! Taking the log in, and letting go of what is no longer kept.

use super::ids;
use super::run::Row;
use super::{Index, IndexError, deliveries, position};
use crate::store::facts::{Latest, SessionFacts, SessionKey, State};
use crate::store::log::Block;
use crate::store::pauses::Pauses;
use crate::store::{Position, clock};
use prost::Message as _;
use rusqlite::{Transaction, params};
use std::collections::HashMap;
use std::sync::Arc;

impl Index {
    /// Takes in what `state` tells of the entries `first..=last`, and the blocks that end with them. All or nothing. It takes a while, and
    /// calls `pause` now and then, which may take its time: readers do not wait for it.
    pub(crate) fn write(
        &self,
        state: &State,
        blocks: &[Block],
        (first, last): (Position, Position),
        pause: &mut dyn FnMut(),
    ) -> Result<(), IndexError> {
        let mut pauses = Pauses::new(pause);
        let mut connection = self.writer.lock();
        let transaction = connection.transaction()?;
        let taken = position(&transaction)?;
        let is_new = taken == Position::default();
        debug_assert!(is_new || taken.next() == first, "the index takes the log in without a gap: {first} after {taken}");
        let numbers = self.write_sessions(&transaction, state, &mut pauses)?;
        write_conversations(&transaction, state, &mut pauses)?;
        write_customers(&transaction, state, &mut pauses)?;
        deliveries::write(&transaction, state.deliveries(), &mut pauses)?;
        write_sequel(&transaction, state, &mut pauses)?;
        write_blocks(&transaction, blocks)?;
        let rows = state.ids().iter().map(|(key, session)| Row {
            key: *key,
            session: session.as_ref().and_then(|session| numbers.get(session.id.as_str()).copied()),
        });
        let rows = rows.inspect(|_| pauses.after_row());
        let run = match rows.len() {
            0 => None,
            _ => Some(self.write_run(&transaction, rows, first, last)?),
        };
        transaction.execute("UPDATE meta SET value = ?1 WHERE key = 'position'", [last.0.cast_signed()])?;
        transaction.commit()?;
        if let Some((draft, run)) = run {
            draft.keep();
            let mut runs = Vec::clone(&self.runs());
            runs.push(Arc::new(run));
            self.publish(runs);
        }
        Ok(())
    }

    fn write_sessions<'s>(
        &self,
        transaction: &Transaction<'_>,
        state: &'s State,
        pauses: &mut Pauses<'_>,
    ) -> Result<HashMap<&'s str, i64>, IndexError> {
        let mut statement = transaction.prepare_cached(
            "INSERT INTO session (id, service_identifier, channel_customer_identifier, channel_type, conversation_id, customer_id,
                                  opened_at, ended_at, end_reason, last_activity, position, told, key_hash, address_hash)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)
             ON CONFLICT (id) DO UPDATE SET
                 service_identifier = excluded.service_identifier,
                 channel_customer_identifier = excluded.channel_customer_identifier,
                 channel_type = excluded.channel_type, conversation_id = excluded.conversation_id,
                 customer_id = excluded.customer_id, opened_at = excluded.opened_at, ended_at = excluded.ended_at,
                 end_reason = excluded.end_reason, last_activity = excluded.last_activity,
                 position = excluded.position, told = excluded.told, key_hash = excluded.key_hash, address_hash = excluded.address_hash
             RETURNING number",
        )?;
        let mut numbers = HashMap::with_capacity(state.sessions().len());
        for (id, Latest { fact: SessionFacts { session: fact, last_activity }, position, told }) in state.sessions() {
            let key_hash = self.key_hash(&SessionKey::of(fact));
            let own_type = fact.channel_type == fact.service_identifier;
            let address_hash = (!own_type).then(|| self.address_hash(&fact.channel_type, &fact.channel_customer_identifier));
            let number = statement.query_row(
                params![
                    id,
                    fact.service_identifier,
                    fact.channel_customer_identifier,
                    fact.channel_type,
                    fact.conversation_id,
                    fact.customer_id,
                    fact.opened_at.as_ref().map(clock::to_nanos),
                    fact.ended_at.as_ref().map(clock::to_nanos),
                    fact.end_reason,
                    clock::to_nanos(last_activity),
                    position.0.cast_signed(),
                    told.0.cast_signed(),
                    key_hash,
                    address_hash,
                ],
                |row| row.get(0),
            )?;
            numbers.insert(id.as_str(), number);
            pauses.after_row();
        }
        Ok(numbers)
    }

    pub(super) fn key_hash(&self, key: &SessionKey) -> i64 {
        self.key.hash_all(&[&key.service_identifier, &key.channel_customer_identifier]).cast_signed()
    }

    pub(super) fn address_hash(&self, channel_type: &str, address: &str) -> i64 {
        self.key.hash_all(&[channel_type, address]).cast_signed()
    }

    /// Lets go of what only entries below `oldest` tell. The log itself still has them.
    pub(crate) fn forget(&self, oldest: Position) -> Result<(), IndexError> {
        let mut connection = self.writer.lock();
        let (gone, kept): (Vec<_>, Vec<_>) = self.runs().iter().cloned().partition(|run| run.last < oldest);
        let below = oldest.0.cast_signed();
        ids::durably(&mut connection, |transaction| {
            // An index that is made again, or that a power loss took back, need not take in what has gone.
            transaction.execute("UPDATE meta SET value = max(value, ?1 - 1) WHERE key = 'position'", [below])?;
            transaction.execute("DELETE FROM session WHERE told < ?1", [below])?;
            transaction.execute("DELETE FROM customer WHERE told < ?1", [below])?;
            transaction.execute(
                "DELETE FROM conversation WHERE newest < ?1
                 AND NOT EXISTS (SELECT 1 FROM session WHERE conversation_id = conversation.id)",
                [below],
            )?;
            transaction.execute("DELETE FROM delivery WHERE told < ?1", [below])?;
            transaction.execute("DELETE FROM sequel WHERE of < ?1", [below])?;
            transaction.execute("DELETE FROM block WHERE end <= ?1", [below])?;
            Ok(ids::unregister(transaction, &gone)?)
        })?;
        self.publish(kept);
        drop(connection);
        gone.iter().for_each(|run| self.folder.remove(run.number));
        Ok(())
    }
}

fn write_conversations(transaction: &Transaction<'_>, state: &State, pauses: &mut Pauses<'_>) -> Result<(), IndexError> {
    let mut statement = transaction.prepare_cached(
        "INSERT INTO conversation VALUES (?1, ?2) ON CONFLICT (id) DO UPDATE SET newest = max(newest, excluded.newest)",
    )?;
    for (id, newest) in state.conversations() {
        statement.execute(params![id, newest.0.cast_signed()])?;
        pauses.after_row();
    }
    Ok(())
}

fn write_customers(transaction: &Transaction<'_>, state: &State, pauses: &mut Pauses<'_>) -> Result<(), IndexError> {
    let mut statement = transaction.prepare_cached(
        "INSERT INTO customer VALUES (?1, ?2, ?3, ?4) ON CONFLICT (id) DO UPDATE SET
             position = excluded.position, told = excluded.told, facts = excluded.facts",
    )?;
    for (id, Latest { fact, position, told }) in state.customers() {
        let facts = fact.to_pb().encode_to_vec();
        statement.execute(params![id, position.0.cast_signed(), told.0.cast_signed(), facts])?;
        pauses.after_row();
    }
    Ok(())
}

fn write_sequel(transaction: &Transaction<'_>, state: &State, pauses: &mut Pauses<'_>) -> Result<(), IndexError> {
    let mut statement = transaction.prepare_cached("INSERT OR IGNORE INTO sequel VALUES (?1, ?2)")?;
    for (of, teller) in state.sequel().pairs() {
        statement.execute([of.0, teller.0].map(u64::cast_signed))?;
        pauses.after_row();
    }
    Ok(())
}

fn write_blocks(transaction: &Transaction<'_>, blocks: &[Block]) -> Result<(), IndexError> {
    let mut statement = transaction.prepare_cached("INSERT INTO block VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?;
    for block in blocks {
        let [first, end, segment, offset, length] =
            [block.first.0, block.end.0, block.place.segment.0, block.place.offset, block.length].map(u64::cast_signed);
        statement.execute(params![first, end, segment, offset, length, block.accepted_at, block.filter.to_bytes()])?;
    }
    Ok(())
}
