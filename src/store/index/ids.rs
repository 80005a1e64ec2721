//! Runs of ids: sorted tables that are written once and merged, because one table keyed by hashes gets slower the more it holds.

use super::{Index, IndexError};
use crate::store::Position;
use crate::store::bloom::Bloom;
use crate::store::facts::IdKey;
use rusqlite::{Connection, Transaction, params};
use std::sync::Arc;

/// So many runs of one size are merged into one of the next.
const MERGED: usize = 8;

/// Runs of at least so many entries are not merged any more: a merge holds up the indexer, and retention drops whole runs.
const LARGEST: u64 = 4_000_000;

/// Entries that one step of a merge moves.
const STEP: u64 = 65_536;

/// A run, and what tells most ids apart from those in it without reading it.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) number: i64,
    pub(super) first: Position,
    pub(super) last: Position,
    pub(super) entries: u64,
    pub(super) filter: Bloom,
}

impl Run {
    /// The name of its table.
    pub(super) fn table(&self) -> String {
        table(self.number)
    }

    /// Runs of one size are merged; each size is eight times the one before.
    const fn size(&self) -> u32 {
        (self.entries / 150_000 + 1).ilog2() / 3
    }
}

fn table(number: i64) -> String {
    format!("run_{number}")
}

/// A row of a run.
pub(super) struct Row {
    pub(super) key: IdKey,
    /// Number of its session; none if it has none.
    pub(super) session: Option<i64>,
}

/// Removes tables that a merge had begun and not finished.
pub(super) fn drop_unfinished(connection: &Connection) -> rusqlite::Result<()> {
    let mut statement = connection.prepare(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name GLOB 'run_*'
         AND name NOT IN (SELECT 'run_' || number FROM run)",
    )?;
    let names: Vec<String> = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    for name in names {
        connection.execute_batch(&format!("DROP TABLE {name}"))?;
    }
    Ok(())
}

/// The runs that there are, oldest first.
pub(super) fn load(connection: &Connection) -> Result<Vec<Arc<Run>>, IndexError> {
    let mut statement = connection.prepare("SELECT number, first, last, entries, filter FROM run ORDER BY first")?;
    let mut rows = statement.query([])?;
    let mut runs = Vec::new();
    while let Some(row) = rows.next()? {
        let filter = row.get_ref(4)?.as_blob().ok().and_then(Bloom::from_bytes);
        runs.push(Arc::new(Run {
            number: row.get(0)?,
            first: Position(row.get::<_, i64>(1)?.cast_unsigned()),
            last: Position(row.get::<_, i64>(2)?.cast_unsigned()),
            entries: row.get::<_, i64>(3)?.cast_unsigned(),
            filter: filter.ok_or(IndexError::Other { what: "damaged: a run has no filter" })?,
        }));
    }
    Ok(runs)
}

fn create(connection: &Connection, number: i64) -> rusqlite::Result<()> {
    connection.execute_batch(&format!(
        "CREATE TABLE {} (hash INTEGER NOT NULL, content INTEGER NOT NULL, position INTEGER NOT NULL, session INTEGER,
         PRIMARY KEY (hash, content, position)) STRICT, WITHOUT ROWID",
        table(number)
    ))
}

fn register(connection: &Connection, run: &Run) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached("INSERT INTO run VALUES (?1, ?2, ?3, ?4, ?5)")?;
    let numbers = [run.first.0, run.last.0, run.entries].map(u64::cast_signed);
    statement.execute(params![run.number, numbers[0], numbers[1], numbers[2], run.filter.to_bytes()])?;
    Ok(())
}

fn next_number(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("SELECT coalesce(max(number), 0) + 1 FROM run", [], |row| row.get(0))
}

/// Writes a run of `rows`, which come in the order of their keys, for the messages `first..=last`.
pub(super) fn write(
    transaction: &Transaction<'_>,
    rows: impl ExactSizeIterator<Item = Row>,
    first: Position,
    last: Position,
) -> Result<Run, IndexError> {
    let number = next_number(transaction)?;
    create(transaction, number)?;
    let mut run = Run { number, first, last, entries: rows.len() as u64, filter: Bloom::with_room(rows.len()) };
    let mut statement = transaction.prepare(&format!("INSERT INTO {} VALUES (?1, ?2, ?3, ?4)", run.table()))?;
    for Row { key, session } in rows {
        run.filter.insert(key.hash.cast_unsigned());
        statement.execute(params![key.hash, key.content, key.position.0.cast_signed(), session])?;
    }
    register(transaction, &run)?;
    Ok(run)
}

/// A merge under way.
#[derive(Debug)]
pub(crate) struct Merge {
    sources: Vec<Arc<Run>>,
    into: Run,
    /// The last row that was moved.
    reached: Option<(i64, i64, i64)>,
}

impl Index {
    /// Begins to merge the youngest runs of one size, if there are enough of them.
    pub(crate) fn begin_merge(&self) -> Result<Option<Merge>, IndexError> {
        let runs = self.runs();
        let Some(size) = runs.last().map(|run| run.size()) else { return Ok(None) };
        let alike = runs.iter().rev().take_while(|run| run.size() == size && run.entries < LARGEST).count();
        if alike < MERGED {
            return Ok(None);
        }
        let sources: Vec<_> = runs[runs.len() - alike..].to_vec();
        let entries = sources.iter().map(|run| run.entries).sum();
        let connection = self.writer.lock();
        // A merge that was given up may have left its table behind.
        drop_unfinished(&connection)?;
        let into = Run {
            // Above all that are registered; nothing is registered before this one is done or given up.
            number: next_number(&connection)? + 1_000_000,
            first: sources[0].first,
            last: sources[alike - 1].last,
            entries,
            filter: Bloom::with_room(usize::try_from(entries).unwrap_or(usize::MAX)),
        };
        create(&connection, into.number)?;
        Ok(Some(Merge { sources, into, reached: None }))
    }

    /// Moves a merge on by one step. It is done, or given up, when this returns none.
    pub(crate) fn step_merge(&self, mut merge: Merge) -> Result<Option<Merge>, IndexError> {
        let mut connection = self.writer.lock();
        let runs = self.runs();
        if !merge.sources.iter().all(|source| runs.iter().any(|run| run.number == source.number)) {
            // Retention was faster. What is left of them is merged another time.
            connection.execute_batch(&format!("DROP TABLE {}", merge.into.table()))?;
            return Ok(None);
        }
        let transaction = connection.transaction()?;
        let sources: Vec<_> = merge
            .sources
            .iter()
            .map(|run| {
                let after = if merge.reached.is_some() { "WHERE (hash, content, position) > (?1, ?2, ?3)" } else { "" };
                format!("SELECT hash, content, position, session FROM {} {after}", run.table())
            })
            .collect();
        let query = format!("{} ORDER BY hash, content, position LIMIT {STEP}", sources.join(" UNION ALL "));
        let mut moved = 0;
        {
            let mut read = transaction.prepare(&query)?;
            let mut insert = transaction.prepare(&format!("INSERT INTO {} VALUES (?1, ?2, ?3, ?4)", merge.into.table()))?;
            let mut rows = match merge.reached {
                Some((hash, content, position)) => read.query(params![hash, content, position])?,
                None => read.query([])?,
            };
            while let Some(row) = rows.next()? {
                let key: (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
                insert.execute(params![key.0, key.1, key.2, row.get::<_, Option<i64>>(3)?])?;
                merge.into.filter.insert(key.0.cast_unsigned());
                merge.reached = Some(key);
                moved += 1;
            }
        }
        if moved == STEP {
            transaction.commit()?;
            return Ok(Some(merge));
        }
        for run in &merge.sources {
            transaction.execute("DELETE FROM run WHERE number = ?1", [run.number])?;
            transaction.execute_batch(&format!("DROP TABLE {}", run.table()))?;
        }
        register(&transaction, &merge.into)?;
        transaction.commit()?;
        let mut runs: Vec<_> =
            self.runs().iter().filter(|run| !merge.sources.iter().any(|gone| gone.number == run.number)).cloned().collect();
        runs.push(Arc::new(merge.into));
        runs.sort_by_key(|run| run.first);
        *self.runs.write() = Arc::new(runs);
        Ok(None)
    }
}
