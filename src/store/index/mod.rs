//! The index: what follows from the log, in SQLite, so that it can be looked up without reading the log.
//!
//! It is derived: one indexer writes it, in the order of the log, in large transactions that also say how far it got. It only ever
//! takes what is durable. What it lacks after a crash is replayed from the log; when it is damaged or of another version it is made
//! again from nothing. `sqlite3` reads it, except for the ids of messages: those are in files beside it, see [`run`].

mod deliveries;
mod ids;
mod lookup;
mod run;
mod write;

#[cfg(test)]
mod tests;

pub(crate) use ids::Merge;
pub(crate) use lookup::Lookup;

use super::Position;
use super::disk::{Directory, Disk};
#[cfg(test)]
use super::facts::IdKey;
use super::hash::HashKey;
use parking_lot::{Mutex, RwLock};
use run::{Folder, Run};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension as _, params};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicI64;
use std::sync::{Arc, OnceLock};

/// Version of `schema.sql`. An index of another version is made again.
const SCHEMA: i64 = 3;

/// What the name of the folder ends with that has the runs of ids.
const IDS: &str = "-ids";

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
    /// It is not what was written.
    #[error("the index is damaged: {what}")]
    Damaged {
        /// Where, and what was found there.
        what: String,
    },
    /// The system refused something with one of its files.
    #[error("the index: {file} cannot be {action}: {cause}")]
    Io {
        /// The file.
        file: String,
        /// What was tried.
        action: &'static str,
        /// What the system says.
        #[source]
        cause: io::Error,
    },
}

impl IndexError {
    /// True if it is not what was written, and has to be made again.
    pub(crate) const fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged { .. })
    }

    /// True if there is no room on the disk: then nothing was changed, and it can be tried again.
    pub(crate) fn is_full(&self) -> bool {
        match self {
            Self::Sqlite(error) => error.sqlite_error_code() == Some(ErrorCode::DiskFull),
            Self::Io { cause, .. } => matches!(cause.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded),
            Self::Other { .. } | Self::Damaged { .. } => false,
        }
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
    /// The runs of ids, oldest first. Whoever has this list can read them all, although some were merged or dropped since.
    runs: RwLock<Arc<Vec<Arc<Run>>>>,
    folder: Folder,
    /// The number of the next run.
    numbers: AtomicI64,
    /// What was found damaged since it was opened.
    damage: OnceLock<String>,
}

impl Index {
    /// Opens the index of the log `key` at `path`, or makes an empty one where there is none.
    pub(crate) fn open(path: &Path, key: HashKey) -> Result<Self, IndexError> {
        let folder = beside(path, IDS);
        let disk = Directory::new(&folder).map_err(|cause| IndexError::Io { file: name(&folder), action: "made", cause })?;
        Self::open_on(path, Arc::new(disk), key)
    }

    /// As [`Self::open`], with the files of ids on `disk`.
    fn open_on(path: &Path, disk: Arc<dyn Disk>, key: HashKey) -> Result<Self, IndexError> {
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
        let damage = "SELECT value FROM meta WHERE key = 'damage'";
        if let Some(what) = connection.query_row(damage, [], |row| row.get(0)).optional()? {
            return Err(IndexError::Damaged { what });
        }
        let folder = Folder { disk, name: name(&beside(path, IDS)), key };
        let (runs, next) = ids::open(&connection, &folder)?;
        Ok(Self {
            path: path.to_owned(),
            key,
            writer: Mutex::new(connection),
            idle: Mutex::default(),
            runs: RwLock::new(Arc::new(runs)),
            folder,
            numbers: AtomicI64::new(next),
            damage: OnceLock::new(),
        })
    }

    /// Removes the index at `path`.
    pub(crate) fn remove(path: &Path) -> std::io::Result<()> {
        let or_none = |removed: io::Result<()>| match removed {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        };
        for suffix in ["", "-wal", "-shm"] {
            or_none(std::fs::remove_file(beside(path, suffix)))?;
        }
        or_none(std::fs::remove_dir_all(beside(path, IDS)))
    }

    /// How far it has taken the log in.
    pub(crate) fn position(&self) -> Result<Position, IndexError> {
        Ok(position(&self.writer.lock())?)
    }

    /// How many bytes its files have.
    pub(crate) fn bytes(&self) -> io::Result<u64> {
        let database = std::fs::metadata(&self.path)?.len();
        // It is not always there.
        let waiting = std::fs::metadata(beside(&self.path, "-wal")).map_or(0, |file| file.len());
        Ok(database + waiting + self.runs().iter().map(|run| run.bytes()).sum::<u64>())
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

    /// Every id that it has, and the number of its session.
    #[cfg(test)]
    pub(crate) fn ids(&self) -> Result<Vec<(IdKey, Option<i64>)>, IndexError> {
        let rows = self.runs().iter().cloned().flat_map(Run::rows).collect::<Result<Vec<_>, _>>()?;
        Ok(rows.into_iter().map(|row| (row.key, row.session)).collect())
    }

    /// Loses the id that comes first, as if it had never been taken in.
    #[cfg(test)]
    pub(crate) fn lose_an_id(&self) -> Result<(), IndexError> {
        let run = self.runs()[0].clone();
        let rows = run.clone().rows().skip(1).collect::<Result<Vec<_>, _>>()?;
        let mut connection = self.writer.lock();
        let transaction = connection.transaction()?;
        ids::unregister(&transaction, std::slice::from_ref(&run))?;
        let (draft, _) = self.write_run(&transaction, rows.into_iter(), run.first, run.last)?;
        transaction.commit()?;
        draft.keep();
        Ok(())
    }

    fn runs(&self) -> Arc<Vec<Arc<Run>>> {
        self.runs.read().clone()
    }

    fn publish(&self, runs: Vec<Arc<Run>>) {
        *self.runs.write() = Arc::new(runs);
    }

    /// Remembers that something is damaged; see [`Self::note_damage`].
    fn noted<T>(&self, found: Result<T, IndexError>) -> Result<T, IndexError> {
        if let Err(IndexError::Damaged { what }) = &found
            && self.damage.set(what.clone()).is_ok()
        {
            tracing::error!(what, "the index is damaged; it is made again at the next start");
        }
        found
    }

    /// True if something was found damaged. Then it writes that into the index: whoever opens it next does not read every page.
    pub(crate) fn note_damage(&self) -> Result<bool, IndexError> {
        let Some(what) = self.damage.get() else { return Ok(false) };
        self.writer.lock().execute("INSERT OR IGNORE INTO meta VALUES ('damage', ?1)", [what])?;
        Ok(true)
    }

    /// Checks the whole database and every run; what is wrong, or nothing.
    pub(crate) fn check(&self) -> Result<Vec<String>, IndexError> {
        let connection = self.writer.lock();
        let mut statement = connection.prepare("PRAGMA integrity_check")?;
        let found = statement.query_map([], |row| row.get::<_, String>(0))?;
        let found: Vec<_> = found.collect::<Result<_, _>>()?;
        let wrong =
            self.runs().iter().filter_map(|run| run.clone().check().err().map(|error| error.to_string())).collect::<Vec<_>>();
        Ok(found.into_iter().filter(|line| line != "ok").chain(wrong).collect())
    }
}

/// A file or folder whose name begins with that of the index.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// The last part of a path, for errors.
fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
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
    // The plan of a statement stays what it is: else SQLite prepares those of sessions again for every value that they are used with.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.busy_timeout(std::time::Duration::from_secs(10))?;
    connection.set_prepared_statement_cache_capacity(256);
    Ok(())
}

fn position(connection: &Connection) -> rusqlite::Result<Position> {
    let position = connection.query_row("SELECT value FROM meta WHERE key = 'position'", [], |row| row.get::<_, i64>(0));
    Ok(Position(position.optional()?.unwrap_or(0).cast_unsigned()))
}
