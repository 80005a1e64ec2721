//! Deliveries that are not settled, and dead letters.

use super::{IndexError, Lookup};
use crate::pb::store::{DeliveryState, Endpoint};
use crate::store::Position;
use crate::store::deliveries::{Below, Delivery, DeliveryId, Progress, Told, Wanted};
use crate::store::pauses::Pauses;
use rusqlite::types::ToSql;
use rusqlite::{OptionalExtension as _, Row, Transaction, params};
use std::collections::BTreeMap;

const COLUMNS: &str = "planned_at, endpoint, channel_id, lane, message, state, attempts, due";

/// Takes in what a stretch of the log tells of deliveries. What was planned and settled within it leaves no trace.
pub(super) fn write(transaction: &Transaction<'_>, told: &Told, pauses: &mut Pauses<'_>) -> Result<(), IndexError> {
    let mut insert = transaction.prepare_cached(
        "INSERT INTO delivery (planned_at, endpoint, channel_id, lane, message, told, state, attempts, due)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
         ON CONFLICT (planned_at, endpoint) DO UPDATE SET message = excluded.message, told = excluded.told,
             state = excluded.state, attempts = excluded.attempts, due = excluded.due",
    )?;
    let sql = "UPDATE delivery SET state = ?3, attempts = ?4, due = ?5 WHERE planned_at = ?1 AND endpoint = ?2";
    let mut update = transaction.prepare_cached(sql)?;
    let mut delete = transaction.prepare_cached("DELETE FROM delivery WHERE planned_at = ?1 AND endpoint = ?2")?;
    for (id, plan, step) in told.each() {
        let (planned_at, endpoint) = (id.planned_at.0.cast_signed(), id.endpoint as i32);
        let progress = step.unwrap_or(Progress::PLANNED);
        let state = progress.state as i32;
        match plan {
            Some(plan) if progress.is_kept() => {
                let [lane, message, told] = [plan.lane, plan.message.0, plan.told.0].map(u64::cast_signed);
                let values =
                    params![planned_at, endpoint, plan.channel_id, lane, message, told, state, progress.attempts, progress.due];
                insert.execute(values)?;
            }
            None if progress.is_kept() => {
                update.execute(params![planned_at, endpoint, state, progress.attempts, progress.due])?;
            }
            // It was never written.
            Some(plan) if plan.told == id.planned_at => {}
            _ => {
                delete.execute(params![planned_at, endpoint])?;
            }
        }
        pauses.after_row();
    }
    Ok(())
}

fn delivery(row: &Row<'_>) -> rusqlite::Result<Delivery> {
    let number = |at| Ok::<_, rusqlite::Error>(row.get::<_, i64>(at)?.cast_unsigned());
    let endpoint = Endpoint::try_from(row.get::<_, i32>(1)?).unwrap_or_default();
    let state = DeliveryState::try_from(row.get::<_, i32>(5)?).unwrap_or_default();
    Ok(Delivery {
        id: DeliveryId { planned_at: Position(number(0)?), endpoint },
        channel_id: row.get(2)?,
        lane: number(3)?,
        message: Position(number(4)?),
        progress: Progress { state, attempts: row.get(6)?, due: row.get(7)? },
    })
}

impl Below for Lookup<'_> {
    type Error = IndexError;

    fn deliveries(&self, after: DeliveryId, wanted: Wanted, limit: usize) -> Result<Vec<Delivery>, IndexError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let (planned_at, endpoint) = (after.planned_at.0.min(i64::MAX as u64).cast_signed(), after.endpoint as i32);
        let of_lane;
        let (condition, values): (_, &[&dyn ToSql]) = match wanted {
            Wanted::Open => ("state IN (1, 2)", &[&planned_at, &endpoint, &limit]),
            Wanted::Dead => ("state = 5", &[&planned_at, &endpoint, &limit]),
            Wanted::Lane(lane) => {
                of_lane = lane.cast_signed();
                ("state IN (1, 2) AND lane = ?4", &[&planned_at, &endpoint, &limit, &of_lane])
            }
        };
        let query = format!(
            "SELECT {COLUMNS} FROM delivery WHERE {condition} AND (planned_at, endpoint) > (?1, ?2)
             ORDER BY planned_at, endpoint LIMIT ?3"
        );
        let mut statement = self.connection().prepare_cached(&query)?;
        let found = statement.query_map(values, delivery)?;
        Ok(found.collect::<Result<_, _>>()?)
    }

    fn delivery(&self, id: DeliveryId) -> Result<Option<Delivery>, IndexError> {
        let query = format!("SELECT {COLUMNS} FROM delivery WHERE planned_at = ?1 AND endpoint = ?2");
        let mut statement = self.connection().prepare_cached(&query)?;
        let id = params![id.planned_at.0.cast_signed(), id.endpoint as i32];
        Ok(statement.query_row(id, delivery).optional()?)
    }
}

impl Lookup<'_> {
    /// Deliveries that are open, and that only entries below `oldest` tell or have the message of; each with the entry that has it.
    pub(crate) fn deliveries_to_carry(&self, oldest: Position) -> Result<BTreeMap<DeliveryId, Position>, IndexError> {
        let query = format!("SELECT {COLUMNS} FROM delivery WHERE (told < ?1 OR message < ?1) AND state IN (1, 2)");
        let mut statement = self.connection().prepare_cached(&query)?;
        let found = statement.query_map([oldest.0.cast_signed()], delivery)?;
        Ok(found.map(|delivery| delivery.map(|delivery| (delivery.id, delivery.message))).collect::<Result<_, _>>()?)
    }
}
