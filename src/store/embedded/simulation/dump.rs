//! What stands in an index, to compare two of them row by row. The numbers of sessions and of runs are left out: they tell in which
//! order things came to the index, not what is true.

use super::machine::Machine;
use crate::store::Position;
use crate::store::hash::HashKey;
use crate::store::index::Index;
use rusqlite::Connection;
use rusqlite::types::Value;
use std::collections::HashMap;

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
    let connection = Connection::open(machine.files().index()).expect("can be opened");
    let mut rows = Vec::new();
    for (table, query) in TABLES {
        rows.extend(read(&connection, table, query, oldest.0.cast_signed()));
    }
    let key = connection.query_row("SELECT value FROM meta WHERE key = 'log'", [], |row| row.get(0)).map(HashKey);
    let index = Index::open(&machine.files().index(), key.expect("is there")).expect("can be opened");
    let mut sessions = connection.prepare("SELECT number, id FROM session").expect("is a query");
    let sessions = sessions.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).and_then(Iterator::collect);
    let sessions: HashMap<i64, String> = sessions.expect("can be read");
    for (key, session) in index.ids().expect("can be read") {
        if key.position >= oldest {
            rows.push(format!("ids: {key:?}, {:?}", session.and_then(|number| sessions.get(&number))));
        }
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
