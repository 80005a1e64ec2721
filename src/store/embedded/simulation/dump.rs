//! What stands in an index, to compare two of them row by row. The numbers of sessions and of runs are left out: they tell in which
//! order things came to the index, not what is true.

use super::machine::Machine;
use crate::store::Position;
use rusqlite::Connection;
use rusqlite::types::Value;

const TABLES: [(&str, &str); 7] = [
    ("meta", "SELECT * FROM meta"),
    (
        "session",
        "SELECT id, service_identifier, channel_customer_identifier, channel_type, conversation_id, customer_id, opened_at, ended_at,
             end_reason, last_activity, position, told, key_hash, address_hash FROM session",
    ),
    // A message that is gone is none.
    ("conversation", "SELECT id, iif(newest < ?1, 0, newest) FROM conversation"),
    ("customer", "SELECT * FROM customer"),
    ("delivery", "SELECT * FROM delivery"),
    ("sequel", "SELECT * FROM sequel WHERE of >= ?1 AND position >= ?1"),
    ("block", "SELECT * FROM block"),
];

/// Every row of an index that nobody has open, in an order of their own. Runs are dropped as a whole: what they tell of messages
/// below `oldest` is left out.
pub(super) fn dump(machine: &Machine, oldest: Position) -> Vec<String> {
    let oldest = oldest.0.cast_signed();
    let connection = Connection::open(machine.files().index()).expect("can be opened");
    let mut rows = Vec::new();
    for (table, query) in TABLES {
        rows.extend(read(&connection, table, query, oldest));
    }
    let mut runs = connection.prepare("SELECT number FROM run").expect("is a query");
    let runs: Vec<i64> = runs.query_map([], |row| row.get(0)).and_then(Iterator::collect).expect("can be read");
    for run in runs {
        let query = format!(
            "SELECT hash, content, run.position, id FROM run_{run} run LEFT JOIN session ON number = session
             WHERE run.position >= ?1"
        );
        rows.extend(read(&connection, "ids", &query, oldest));
    }
    rows.sort_unstable();
    rows
}

fn read(connection: &Connection, table: &str, query: &str, oldest: i64) -> Vec<String> {
    let mut statement = connection.prepare(query).expect("is a query");
    let columns = statement.column_count();
    let parameters = if statement.parameter_count() > 0 { vec![oldest] } else { Vec::new() };
    let rows = statement.query_map(rusqlite::params_from_iter(parameters), |row| {
        let values: Vec<Value> = (0..columns).map(|column| row.get(column)).collect::<Result<_, _>>()?;
        Ok(format!("{table}: {values:?}"))
    });
    rows.and_then(Iterator::collect).expect("can be read")
}
