//! What a log is, beside its entries: its id, its histories, the oldest position that is kept, and how far named subscriptions are.
//! Every change is synced before it counts, because nothing else could tell it again.

use super::bookmarks::{Bookmark, Changes};
use super::hash::HashKey;
use super::{Cursor, Position, clock};
use rusqlite::{Connection, ErrorCode, OptionalExtension as _, Row, Transaction, params};
use std::collections::BTreeMap;
use std::path::Path;

/// Version of the control file. In version 1 a log had one epoch, from its first position on. Up to version 3 there
/// were no bookmarks.
const VERSION: i64 = 4;

/// The table of epochs.
const EPOCHS: &str = "CREATE TABLE epoch (number INTEGER PRIMARY KEY, first INTEGER NOT NULL) STRICT";

/// The table of bookmarks. Times are nanoseconds since 1970.
const BOOKMARKS: &str = "CREATE TABLE bookmark (name TEXT PRIMARY KEY, epoch INTEGER NOT NULL, position INTEGER NOT NULL,
    generation INTEGER NOT NULL, created_at INTEGER NOT NULL, acknowledged_at INTEGER) STRICT, WITHOUT ROWID";

/// Why the control file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// SQLite says so.
    #[error("control.db: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// It was written by a later version of the gateway.
    #[error("control.db is of version {0}, this gateway reads {VERSION}")]
    Version(i64),
}

impl From<ControlError> for super::Error {
    fn from(error: ControlError) -> Self {
        match &error {
            ControlError::Sqlite(sqlite) if sqlite.sqlite_error_code() == Some(ErrorCode::DiskFull) => {
                Self::Full { what: error.to_string() }
            }
            _ => Self::Unavailable { cause: error.to_string() },
        }
    }
}

/// The histories of a log: each epoch, and the first position that was written in it. They outlive what retention drops.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Epochs(BTreeMap<u64, Position>);

impl Epochs {
    /// The histories with these numbers, each with its first position.
    pub(crate) fn new(epochs: impl IntoIterator<Item = (u64, Position)>) -> Self {
        Self(epochs.into_iter().collect())
    }

    /// The history that is written now; 0 if there is none.
    pub(crate) fn current(&self) -> u64 {
        self.0.keys().next_back().copied().unwrap_or_default()
    }

    /// True for the number of a history of this log.
    pub(crate) fn contains(&self, epoch: u64) -> bool {
        self.0.contains_key(&epoch)
    }

    /// True if a cursor stands at an entry of this log, which ends with `end`: a position lasts until the next epoch begins.
    pub(crate) fn know(&self, cursor: Cursor, end: Position) -> bool {
        let next = self.0.range(cursor.epoch.saturating_add(1)..).next();
        self.contains(cursor.epoch) && cursor.position <= end && next.is_none_or(|(_, first)| cursor.position < *first)
    }
}

/// The control file of a log.
#[derive(Debug)]
pub(crate) struct Control {
    connection: parking_lot::Mutex<Connection>,
    /// The id of the log.
    pub(crate) key: HashKey,
    /// Its histories.
    pub(crate) epochs: Epochs,
}

impl Control {
    /// Opens the control file at `path`, or makes one for a new log.
    pub(crate) fn open(path: &Path) -> Result<Self, ControlError> {
        let new = || (HashKey::fresh(), Epochs::new([(fresh_epoch(0), Position(1))]), Position(1));
        Self::open_or(path, new)
    }

    /// Makes the control file of a log that has lost its own.
    pub(crate) fn make(path: &Path, key: HashKey, epochs: &Epochs, oldest: Position) -> Result<Self, ControlError> {
        Self::open_or(path, || (key, epochs.clone(), oldest))
    }

    fn open_or(path: &Path, new: impl FnOnce() -> (HashKey, Epochs, Position)) -> Result<Self, ControlError> {
        let mut connection = Connection::open(path)?;
        connection.pragma_update(None, "journal_mode", "delete")?;
        connection.pragma_update(None, "synchronous", "extra")?;
        connection.busy_timeout(std::time::Duration::from_secs(10))?;
        let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        match version {
            VERSION => {}
            0 => {
                let (key, epochs, oldest) = new();
                let transaction = connection.transaction()?;
                transaction
                    .execute_batch("CREATE TABLE meta (key TEXT PRIMARY KEY, value ANY NOT NULL) STRICT, WITHOUT ROWID")?;
                transaction.execute_batch(EPOCHS)?;
                transaction.execute_batch(BOOKMARKS)?;
                let sql = "INSERT INTO meta VALUES ('log', ?1), ('oldest', ?2)";
                transaction.execute(sql, params![key.0, oldest.0.cast_signed()])?;
                for (number, first) in &epochs.0 {
                    insert_epoch(&transaction, *number, *first)?;
                }
                transaction.pragma_update(None, "user_version", VERSION)?;
                transaction.commit()?;
            }
            1..VERSION => {
                let transaction = connection.transaction()?;
                bring_up(&transaction, version)?;
                transaction.pragma_update(None, "user_version", VERSION)?;
                transaction.commit()?;
            }
            other => return Err(ControlError::Version(other)),
        }
        let key = connection.query_row("SELECT value FROM meta WHERE key = 'log'", [], |row| row.get(0))?;
        let epochs = read_epochs(&connection)?;
        Ok(Self { connection: parking_lot::Mutex::new(connection), key: HashKey(key), epochs })
    }

    /// Checks the whole file; what SQLite finds wrong, or nothing.
    pub(crate) fn check(&self) -> Result<Vec<String>, ControlError> {
        let connection = self.connection.lock();
        let mut statement = connection.prepare("PRAGMA integrity_check")?;
        let found: Vec<String> = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
        Ok(found.into_iter().filter(|line| line != "ok").collect())
    }

    /// The oldest position that is kept. What lies below may be there in part.
    pub(crate) fn oldest(&self) -> Result<Position, ControlError> {
        let connection = self.connection.lock();
        let oldest: Option<i64> =
            connection.query_row("SELECT value FROM meta WHERE key = 'oldest'", [], |row| row.get(0)).optional()?;
        Ok(Position(oldest.unwrap_or(1).cast_unsigned()))
    }

    /// Notes, durably, that nothing below `oldest` is kept any more.
    pub(crate) fn set_oldest(&self, oldest: Position) -> Result<(), ControlError> {
        let sql = "UPDATE meta SET value = ?1 WHERE key = 'oldest'";
        self.connection.lock().execute(sql, [oldest.0.cast_signed()])?;
        Ok(())
    }

    /// Begins another history at `first`: from there on positions may mean other entries than before.
    pub(crate) fn begin_epoch(&mut self, first: Position) -> Result<(), ControlError> {
        let number = fresh_epoch(self.epochs.current());
        insert_epoch(&self.connection.lock(), number, first)?;
        self.epochs.0.insert(number, first);
        Ok(())
    }

    /// Every bookmark, by its name.
    pub(crate) fn bookmarks(&self) -> Result<BTreeMap<String, Bookmark>, ControlError> {
        let connection = self.connection.lock();
        let mut statement =
            connection.prepare_cached("SELECT name, epoch, position, generation, created_at, acknowledged_at FROM bookmark")?;
        Ok(statement.query_map([], bookmark)?.collect::<Result<_, _>>()?)
    }

    /// Writes all changes of bookmarks durably, or none.
    pub(crate) fn write_bookmarks(&self, changes: &Changes) -> Result<(), ControlError> {
        let mut connection = self.connection.lock();
        let transaction = connection.transaction()?;
        for (name, change) in changes {
            let Some(Bookmark { cursor, generation, created_at, acknowledged_at }) = change else {
                transaction.prepare_cached("DELETE FROM bookmark WHERE name = ?1")?.execute([name])?;
                continue;
            };
            let [epoch, position, generation] = [cursor.epoch, cursor.position.0, *generation].map(u64::cast_signed);
            let [created_at, acknowledged_at] =
                [Some(created_at), acknowledged_at.as_ref()].map(|time| time.map(clock::to_nanos));
            transaction.prepare_cached("INSERT OR REPLACE INTO bookmark VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?.execute(params![
                name,
                epoch,
                position,
                generation,
                created_at,
                acknowledged_at
            ])?;
        }
        Ok(transaction.commit()?)
    }

    /// Copies the control file, while it may be in use, to a new one at `path`.
    pub(crate) fn back_up(&self, path: &Path) -> Result<(), ControlError> {
        Ok(self.connection.lock().backup("main", path, None::<fn(rusqlite::backup::Progress)>)?)
    }
}

/// Gives a file of an earlier version what it lacks.
fn bring_up(transaction: &Transaction<'_>, version: i64) -> rusqlite::Result<()> {
    if version < 2 {
        transaction.execute_batch(EPOCHS)?;
        transaction.execute("INSERT INTO epoch SELECT value, 1 FROM meta WHERE key = 'epoch'", [])?;
        transaction.execute("DELETE FROM meta WHERE key = 'epoch'", [])?;
    }
    if version < 4 {
        transaction.execute_batch(BOOKMARKS)?;
    }
    Ok(())
}

fn bookmark(row: &Row<'_>) -> rusqlite::Result<(String, Bookmark)> {
    let number = |at| Ok::<_, rusqlite::Error>(row.get::<_, i64>(at)?.cast_unsigned());
    let bookmark = Bookmark {
        cursor: Cursor { epoch: number(1)?, position: Position(number(2)?) },
        generation: number(3)?,
        created_at: clock::from_nanos(row.get(4)?),
        acknowledged_at: row.get::<_, Option<i64>>(5)?.map(clock::from_nanos),
    };
    Ok((row.get(0)?, bookmark))
}

fn insert_epoch(connection: &Connection, number: u64, first: Position) -> rusqlite::Result<()> {
    let numbers = [number, first.0].map(u64::cast_signed);
    connection.execute("INSERT INTO epoch VALUES (?1, ?2)", numbers).map(drop)
}

fn read_epochs(connection: &Connection) -> rusqlite::Result<Epochs> {
    let mut statement = connection.prepare("SELECT number, first FROM epoch")?;
    let epochs = statement.query_map([], |row| {
        let numbers: [i64; 2] = [row.get(0)?, row.get(1)?];
        Ok((numbers[0].cast_unsigned(), Position(numbers[1].cast_unsigned())))
    })?;
    Ok(Epochs(epochs.collect::<Result<_, _>>()?))
}

/// A number that no epoch before had, on this machine or on the one that a backup came from: the time, in milliseconds.
fn fresh_epoch(former: u64) -> u64 {
    let millis = super::clock::now_after(0) / 1_000_000;
    millis.cast_unsigned().max(former + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::bookmarks::conformance::bookmark;

    #[test]
    fn what_is_noted_is_there_when_it_is_opened_again() {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let path = folder.path().join("control.db");
        let mut control = Control::open(&path).expect("can be made");
        assert_eq!(control.oldest().expect("can be read"), Position(1));
        let (key, epoch) = (control.key, control.epochs.current());
        control.set_oldest(Position(77)).expect("can be written");
        control.begin_epoch(Position(99)).expect("can be written");
        let changes = [("a", 1), ("b", 2)].map(|(name, number)| (name.to_owned(), Some(bookmark(number))));
        control.write_bookmarks(&Changes::from(changes)).expect("can be written");
        assert!(control.epochs.current() > epoch && control.epochs.contains(epoch));
        let copy = folder.path().join("copy.db");
        control.back_up(&copy).expect("can be copied");
        let epochs = control.epochs.clone();
        drop(control);
        for path in [path, copy] {
            let again = Control::open(&path).expect("can be opened");
            assert_eq!((again.key, again.oldest().expect("can be read")), (key, Position(77)));
            assert_eq!(again.epochs, epochs);
            let bookmarks = again.bookmarks().expect("can be read");
            assert_eq!(bookmarks, BTreeMap::from([("a".to_owned(), bookmark(1)), ("b".to_owned(), bookmark(2))]));
            assert_eq!(again.check().expect("can be read"), [""; 0]);
        }
    }

    #[test]
    fn a_position_lasts_until_the_next_epoch_begins() {
        // The second epoch has no entries.
        let epochs = Epochs::new([(10, Position(1)), (20, Position(8)), (30, Position(8))]);
        let know = |epoch, position| epochs.know(Cursor { epoch, position: Position(position) }, Position(12));
        assert!(know(10, 0) && know(10, 7) && know(20, 7) && know(30, 7) && know(30, 12));
        assert!(!know(10, 8) && !know(20, 8) && !know(30, 13) && !know(9, 1) && !know(15, 1) && !know(31, 1));
    }

    #[test]
    fn a_control_file_of_version_1_has_one_epoch_from_the_first_position_on() {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let path = folder.path().join("control.db");
        let former = Connection::open(&path).expect("can be made");
        let sql = "CREATE TABLE meta (key TEXT PRIMARY KEY, value ANY NOT NULL) STRICT, WITHOUT ROWID; PRAGMA user_version = 1;
                   INSERT INTO meta VALUES ('log', x'07070707070707070707070707070707'), ('epoch', 77), ('oldest', 5)";
        former.execute_batch(sql).expect("can be written");
        drop(former);
        for _ in 0..2 {
            let control = Control::open(&path).expect("can be opened");
            assert_eq!((control.key, &control.epochs), (HashKey([7; 16]), &Epochs::new([(77, Position(1))])));
            assert_eq!(control.oldest().expect("can be read"), Position(5));
            assert_eq!(control.bookmarks().expect("can be read"), BTreeMap::new());
        }
    }

    #[test]
    fn a_control_file_of_a_later_version_is_refused() {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let path = folder.path().join("control.db");
        drop(Control::open(&path).expect("can be made"));
        Connection::open(&path).and_then(|c| c.pragma_update(None, "user_version", 9)).expect("can be written");
        assert!(matches!(Control::open(&path), Err(ControlError::Version(9))));
    }
}
