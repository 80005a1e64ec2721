//! The index: what follows from the log, in SQLite, so that it can be looked up without reading the log.
//!
//! It is derived: one indexer writes it, in the order of the log, in large transactions that also say how far it got. It only ever
//! takes what is durable. What it lacks after a crash is replayed from the log; when it is damaged or of another version it is made
//! again from nothing. `sqlite3` reads it.

mod deliveries;
mod ids;
mod lookup;
mod write;

#[cfg(test)]
mod tests;

pub(crate) use ids::Merge;
pub(crate) use lookup::Lookup;
pub(crate) use write::to_pb;

use super::Position;
use super::hash::HashKey;
use ids::Run;
use parking_lot::{Mutex, RwLock};
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension as _, params};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Version of `schema.sql`. An index of another version is made again.
const SCHEMA: i64 = 3;

/// Why the index cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// SQLite says so.
    #[error("the index: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// It is of another log, or of another version of the gateway.
    #[error("the index is {what}")]
    Other {
        /// What it is.
        what: &'static str,
    },
}

impl IndexError {
    /// True if there is no room on the disk: then nothing was changed, and it can be tried again.
    pub(crate) fn is_full(&self) -> bool {
        matches!(self, Self::Sqlite(error) if error.sqlite_error_code() == Some(ErrorCode::DiskFull))
    }
}

/// The index of a log. Shared by all who look things up; written by one.
#[derive(Debug)]
pub(crate) struct Index {
    path: PathBuf,
    key: HashKey,
    writer: Mutex<Connection>,
    /// Connections that nobody uses at the moment.
    idle: Mutex<Vec<Connection>>,
    /// The runs of ids, oldest first. Published after they are in the database, so that whoever sees one finds its table, unless it
    /// was merged or dropped since.
    runs: RwLock<Arc<Vec<Arc<Run>>>>,
}

impl Index {
    /// Opens the index of the log `key` at `path`, or makes an empty one where there is none.
    pub(crate) fn open(path: &Path, key: HashKey) -> Result<Self, IndexError> {
        let mut connection = Connection::open(path)?;
        configure(&connection)?;
        let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        let empty = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0))? == 0;
        if empty {
            let transaction = connection.transaction()?;
            transaction.execute_batch(include_str!("schema.sql"))?;
            transaction.pragma_update(None, "user_version", SCHEMA)?;
            transaction.execute("INSERT INTO meta VALUES ('log', ?1), ('position', 0)", params![key.0])?;
            transaction.commit()?;
        } else if version != SCHEMA {
            return Err(IndexError::Other { what: "of another version" });
        }
        let log: Vec<u8> = connection.query_row("SELECT value FROM meta WHERE key = 'log'", [], |row| row.get(0))?;
        if log != key.0 {
            return Err(IndexError::Other { what: "of another log" });
        }
        ids::drop_unfinished(&connection)?;
        let runs = ids::load(&connection)?;
        Ok(Self {
            path: path.to_owned(),
            key,
            writer: Mutex::new(connection),
            idle: Mutex::default(),
            runs: RwLock::new(Arc::new(runs)),
        })
    }

    /// Removes the index at `path`.
    pub(crate) fn remove(path: &Path) -> std::io::Result<()> {
        for suffix in ["", "-wal", "-shm"] {
            let mut name = path.as_os_str().to_owned();
            name.push(suffix);
            match std::fs::remove_file(&name) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// How far it has taken the log in.
    pub(crate) fn position(&self) -> Result<Position, IndexError> {
        Ok(position(&self.writer.lock())?)
    }

    /// A view of the index for as long as it is held.
    pub(crate) fn lookup(&self) -> Result<Lookup<'_>, IndexError> {
        let idle = self.idle.lock().pop();
        let connection = match idle {
            Some(connection) => connection,
            None => {
                let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
                let connection = Connection::open_with_flags(&self.path, flags)?;
                configure(&connection)?;
                connection
            }
        };
        Ok(Lookup::new(self, connection))
    }

    /// Bounds how large the index may become, in pages; `None` takes the bound away.
    #[cfg(test)]
    pub(crate) fn bound(&self, pages: Option<u32>) {
        let writer = self.writer.lock();
        let pages = pages.unwrap_or(u32::MAX - 1);
        writer.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(())).expect("SQLite can be bounded");
    }

    fn runs(&self) -> Arc<Vec<Arc<Run>>> {
        self.runs.read().clone()
    }

    /// The runs as the database has them. Tables go from it a moment before they go from [`Self::runs`]: this waits for whoever is in
    /// between.
    fn settled_runs(&self) -> Arc<Vec<Arc<Run>>> {
        let _writer = self.writer.lock();
        self.runs()
    }

    /// Checks the whole database; what SQLite finds wrong, or nothing.
    pub(crate) fn check(&self) -> Result<Vec<String>, IndexError> {
        let connection = self.writer.lock();
        let mut statement = connection.prepare("PRAGMA integrity_check")?;
        let found = statement.query_map([], |row| row.get::<_, String>(0))?;
        let found: Vec<_> = found.collect::<Result<_, _>>()?;
        Ok(found.into_iter().filter(|line| line != "ok").collect())
    }
}

/// A transaction lasts as long as its commit makes it: after a power loss the last ones may be missing, and are replayed. Nothing
/// that is durable depends on this file.
fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(None, "synchronous", "normal")?;
    connection.pragma_update(None, "cache_size", -8 * 1024)?;
    connection.pragma_update(None, "mmap_size", 1_i64 << 30)?;
    connection.pragma_update(None, "temp_store", "memory")?;
    connection.pragma_update(None, "journal_size_limit", 64 << 20)?;
    connection.busy_timeout(std::time::Duration::from_secs(10))?;
    connection.set_prepared_statement_cache_capacity(256);
    Ok(())
}

fn position(connection: &Connection) -> rusqlite::Result<Position> {
    let position = connection.query_row("SELECT value FROM meta WHERE key = 'position'", [], |row| row.get::<_, i64>(0));
    Ok(Position(position.optional()?.unwrap_or(0).cast_unsigned()))
}
