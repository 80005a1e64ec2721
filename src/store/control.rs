//! What a log is, beside its entries: its id, its history and the oldest position that is kept. Every change is synced before it
//! counts, because nothing else could tell it again.

use super::Position;
use super::hash::HashKey;
use rusqlite::{Connection, OptionalExtension as _, params};
use std::path::Path;

/// Version of the control file.
const VERSION: i64 = 1;

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

/// The control file of a log.
#[derive(Debug)]
pub(crate) struct Control {
    connection: parking_lot::Mutex<Connection>,
    /// The id of the log.
    pub(crate) key: HashKey,
    /// The history that is written now.
    pub(crate) epoch: u64,
}

impl Control {
    /// Opens the control file at `path`, or makes one for a new log.
    pub(crate) fn open(path: &Path) -> Result<Self, ControlError> {
        let mut connection = Connection::open(path)?;
        connection.pragma_update(None, "journal_mode", "delete")?;
        connection.pragma_update(None, "synchronous", "extra")?;
        connection.busy_timeout(std::time::Duration::from_secs(10))?;
        let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        match version {
            VERSION => {}
            0 => {
                let transaction = connection.transaction()?;
                transaction
                    .execute_batch("CREATE TABLE meta (key TEXT PRIMARY KEY, value ANY NOT NULL) STRICT, WITHOUT ROWID")?;
                let sql = "INSERT INTO meta VALUES ('log', ?1), ('epoch', ?2), ('oldest', 1)";
                transaction.execute(sql, params![HashKey::fresh().0, fresh_epoch(0).cast_signed()])?;
                transaction.pragma_update(None, "user_version", VERSION)?;
                transaction.commit()?;
            }
            other => return Err(ControlError::Version(other)),
        }
        let key = connection.query_row("SELECT value FROM meta WHERE key = 'log'", [], |row| row.get(0))?;
        let epoch: i64 = connection.query_row("SELECT value FROM meta WHERE key = 'epoch'", [], |row| row.get(0))?;
        Ok(Self { connection: parking_lot::Mutex::new(connection), key: HashKey(key), epoch: epoch.cast_unsigned() })
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

    /// Begins another history: from now on positions may mean other entries than before.
    pub(crate) fn begin_epoch(&mut self) -> Result<(), ControlError> {
        self.epoch = fresh_epoch(self.epoch);
        let sql = "UPDATE meta SET value = ?1 WHERE key = 'epoch'";
        self.connection.lock().execute(sql, [self.epoch.cast_signed()])?;
        Ok(())
    }

    /// Copies the control file, while it may be in use, to a new one at `path`.
    pub(crate) fn back_up(&self, path: &Path) -> Result<(), ControlError> {
        Ok(self.connection.lock().backup("main", path, None::<fn(rusqlite::backup::Progress)>)?)
    }
}

/// A number that no epoch before had, on this machine or on the one that a backup came from: the time, in milliseconds.
fn fresh_epoch(former: u64) -> u64 {
    let millis = super::clock::now_after(0) / 1_000_000;
    millis.cast_unsigned().max(former + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_is_there_when_it_is_opened_again() {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let path = folder.path().join("control.db");
        let mut control = Control::open(&path).expect("can be made");
        assert_eq!(control.oldest().expect("can be read"), Position(1));
        let (key, epoch) = (control.key, control.epoch);
        control.set_oldest(Position(77)).expect("can be written");
        control.begin_epoch().expect("can be written");
        assert!(control.epoch > epoch);
        let copy = folder.path().join("copy.db");
        control.back_up(&copy).expect("can be copied");
        let epoch = control.epoch;
        drop(control);
        for path in [path, copy] {
            let again = Control::open(&path).expect("can be opened");
            assert_eq!((again.key, again.epoch, again.oldest().expect("can be read")), (key, epoch, Position(77)));
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
