//! What a log is, beside its entries: its id, its histories and the oldest position that is kept; and what is registered beside it.
//! Every change is synced before it counts, because nothing else could tell it again.

use super::bookmarks::{Bookmark, Changes};
use super::hash::HashKey;
use super::{Cursor, Error, Position, clock};
use crate::pb;
use prost::Message as _;
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// Version of the control file. In version 1 a log had one epoch, from its first position on; up to version 2 there were no channels,
/// up to version 3 no bookmarks.
const VERSION: i64 = 4;

/// The table of epochs.
const EPOCHS: &str = "CREATE TABLE epoch (number INTEGER PRIMARY KEY, first INTEGER NOT NULL) STRICT";

/// The table of channels. A record is the whole channel as protobuf, with its secrets.
const CHANNELS: &str = "CREATE TABLE channel (
    id TEXT PRIMARY KEY, service_identifier TEXT NOT NULL UNIQUE, record BLOB NOT NULL
) STRICT, WITHOUT ROWID";

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
    /// The system refused.
    #[error("control.db cannot be made: {0}")]
    Io(#[from] io::Error),
    /// A channel in it cannot be read.
    #[error("control.db has a channel that cannot be read, {id}: {cause}")]
    Channel {
        /// Its id.
        id: String,
        /// Why.
        #[source]
        cause: prost::DecodeError,
    },
}

impl From<ControlError> for Error {
    fn from(error: ControlError) -> Self {
        match &error {
            ControlError::Sqlite(sqlite) if sqlite.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull) => {
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
    /// As [`Self::held`]; 0 for none.
    held: AtomicU64,
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
        keep_from_others(path)?;
        let mut connection = Connection::open(path)?;
        connection.pragma_update(None, "journal_mode", "delete")?;
        connection.pragma_update(None, "synchronous", "extra")?;
        connection.busy_timeout(std::time::Duration::from_secs(10))?;
        let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        if !(0..=VERSION).contains(&version) {
            return Err(ControlError::Version(version));
        }
        if version < VERSION {
            let transaction = connection.transaction()?;
            if version == 0 {
                let (key, epochs, oldest) = new();
                transaction
                    .execute_batch("CREATE TABLE meta (key TEXT PRIMARY KEY, value ANY NOT NULL) STRICT, WITHOUT ROWID")?;
                transaction.execute_batch(EPOCHS)?;
                let sql = "INSERT INTO meta VALUES ('log', ?1), ('oldest', ?2)";
                transaction.execute(sql, params![key.0, oldest.0.cast_signed()])?;
                for (number, first) in &epochs.0 {
                    insert_epoch(&transaction, *number, *first)?;
                }
            }
            if version == 1 {
                transaction.execute_batch(EPOCHS)?;
                transaction.execute("INSERT INTO epoch SELECT value, 1 FROM meta WHERE key = 'epoch'", [])?;
                transaction.execute("DELETE FROM meta WHERE key = 'epoch'", [])?;
            }
            if version < 3 {
                transaction.execute_batch(CHANNELS)?;
            }
            transaction.execute_batch(BOOKMARKS)?;
            transaction.pragma_update(None, "user_version", VERSION)?;
            transaction.commit()?;
        }
        let key = connection.query_row("SELECT value FROM meta WHERE key = 'log'", [], |row| row.get(0))?;
        let epochs = read_epochs(&connection)?;
        let held: Option<i64> =
            connection.query_row("SELECT value FROM meta WHERE key = 'held'", [], |row| row.get(0)).optional()?;
        let held = AtomicU64::new(held.unwrap_or_default().cast_unsigned());
        Ok(Self { connection: parking_lot::Mutex::new(connection), key: HashKey(key), epochs, held })
    }

    /// Checks the whole file; what SQLite finds wrong, or nothing.
    pub(crate) fn check(&self) -> Result<Vec<String>, ControlError> {
        let connection = self.connection.lock();
        let mut statement = connection.prepare("PRAGMA integrity_check")?;
        let found: Vec<String> = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
        let mut wrong: Vec<_> = found.into_iter().filter(|line| line != "ok").collect();
        wrong.extend(records(&connection)?.into_iter().filter_map(Result::err).map(|error| error.to_string()));
        Ok(wrong)
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

    /// Deliveries that were planned before this position are held; none are if there is none.
    pub(crate) fn held(&self) -> Option<Position> {
        Some(Position(self.held.load(Ordering::Acquire))).filter(|before| *before != Position::default())
    }

    /// Notes, durably, which deliveries are held.
    pub(crate) fn hold(&self, before: Option<Position>) -> Result<(), ControlError> {
        let before = before.unwrap_or_default();
        let sql = "INSERT INTO meta VALUES ('held', ?1) ON CONFLICT (key) DO UPDATE SET value = excluded.value";
        self.connection.lock().execute(sql, [before.0.cast_signed()])?;
        self.held.store(before.0, Ordering::Release);
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

    /// Every channel.
    pub(crate) fn channels(&self) -> Result<Vec<pb::Channel>, ControlError> {
        records(&self.connection.lock())?.into_iter().collect()
    }

    /// The channels of a control file that is damaged, as far as they can be read.
    pub(crate) fn rescued_channels(path: &Path) -> Vec<pb::Channel> {
        let records = Connection::open(path).and_then(|connection| records(&connection));
        records.unwrap_or_default().into_iter().filter_map(Result::ok).collect()
    }

    /// Puts a channel in place of the one with its id.
    pub(crate) fn put_channel(&self, channel: &pb::Channel) -> Result<(), ControlError> {
        let sql = "INSERT INTO channel VALUES (?1, ?2, ?3)
                   ON CONFLICT (id) DO UPDATE SET service_identifier = excluded.service_identifier, record = excluded.record";
        let values = params![channel.id, channel.service_identifier, channel.encode_to_vec()];
        self.connection.lock().execute(sql, values)?;
        Ok(())
    }

    /// Removes the channel with this id.
    pub(crate) fn remove_channel(&self, id: &str) -> Result<(), ControlError> {
        self.connection.lock().execute("DELETE FROM channel WHERE id = ?1", [id])?;
        Ok(())
    }

    /// Copies the control file, while it may be in use, to a new one at `path`.
    pub(crate) fn back_up(&self, path: &Path) -> Result<(), ControlError> {
        keep_from_others(path)?;
        Ok(self.connection.lock().backup("main", path, None::<fn(rusqlite::backup::Progress)>)?)
    }
}

/// Makes the file that is at `path`, or will be, one that only its owner can read: there are secrets in it. What SQLite makes beside
/// it has the same permissions.
fn keep_from_others(path: &Path) -> io::Result<()> {
    match File::options().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => return made.map(drop),
    }
    // As an earlier version made it, or a mount did.
    let mode = fs::metadata(path)?.permissions().mode();
    if mode & 0o077 != 0
        && let Err(error) = fs::set_permissions(path, Permissions::from_mode(mode & 0o700))
    {
        tracing::warn!(%error, path = %path.display(), "others may read the secrets in control.db");
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

/// Every channel, or why it cannot be read.
fn records(connection: &Connection) -> rusqlite::Result<Vec<Result<pb::Channel, ControlError>>> {
    let mut statement = connection.prepare("SELECT id, record FROM channel")?;
    let records = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    // Where the file is damaged some rows may be read nevertheless.
    let decode = |record: rusqlite::Result<(String, Vec<u8>)>| {
        let (id, record) = record?;
        pb::Channel::decode(record.as_slice()).map_err(|cause| ControlError::Channel { id, cause })
    };
    Ok(records.map(decode).collect())
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
    use crate::store::registry::conformance::channel;

    #[test]
    fn what_is_noted_is_there_when_it_is_opened_again() {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let path = folder.path().join("control.db");
        let mut control = Control::open(&path).expect("can be made");
        assert_eq!(control.oldest().expect("can be read"), Position(1));
        let (key, epoch) = (control.key, control.epochs.current());
        control.set_oldest(Position(77)).expect("can be written");
        assert_eq!(control.held(), None);
        control.hold(Some(Position(99))).expect("can be written");
        control.begin_epoch(Position(99)).expect("can be written");
        control.put_channel(&channel("1", "shop")).expect("can be put");
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
            assert_eq!((&again.epochs, again.held()), (&epochs, Some(Position(99))));
            again.hold(None).expect("can be written");
            assert_eq!((again.held(), Control::open(&path).expect("can be opened").held()), (None, None));
            assert_eq!(again.channels().expect("can be read"), [channel("1", "shop")]);
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
    fn a_control_file_of_version_2_has_no_channels_and_takes_them() {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let path = folder.path().join("control.db");
        let former = Connection::open(&path).expect("can be made");
        let sql = "CREATE TABLE meta (key TEXT PRIMARY KEY, value ANY NOT NULL) STRICT, WITHOUT ROWID; PRAGMA user_version = 2;
                   CREATE TABLE epoch (number INTEGER PRIMARY KEY, first INTEGER NOT NULL) STRICT;
                   INSERT INTO epoch VALUES (77, 1), (99, 8);
                   INSERT INTO meta VALUES ('log', x'07070707070707070707070707070707'), ('oldest', 5)";
        former.execute_batch(sql).expect("can be written");
        drop(former);
        let control = Control::open(&path).expect("can be opened");
        assert_eq!((control.key, control.oldest().expect("can be read")), (HashKey([7; 16]), Position(5)));
        assert_eq!(control.epochs, Epochs::new([(77, Position(1)), (99, Position(8))]));
        assert_eq!(control.channels().expect("can be read"), []);
        control.put_channel(&channel("1", "shop")).expect("can be put");
        drop(control);
        let again = Control::open(&path).expect("can be opened");
        assert_eq!(again.channels().expect("can be read"), [channel("1", "shop")]);
    }

    #[test]
    fn only_its_owner_can_read_a_control_file_and_its_copies() {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let [path, copy] = ["control.db", "copy.db"].map(|name| folder.path().join(name));
        drop(Control::open(&path).expect("can be made"));
        let mode = |path: &Path| fs::metadata(path).expect("is there").permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        // As an earlier version made it.
        fs::set_permissions(&path, Permissions::from_mode(0o644)).expect("can be set");
        Control::open(&path).and_then(|control| control.back_up(&copy)).expect("can be copied");
        assert_eq!((mode(&path), mode(&copy)), (0o600, 0o600));
    }

    #[test]
    fn a_channel_that_cannot_be_read_is_named() {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let control = Control::open(&folder.path().join("control.db")).expect("can be made");
        control.connection.lock().execute("INSERT INTO channel VALUES ('c-7', 's', x'ff')", []).expect("can be written");
        let error = control.channels().expect_err("is damaged").to_string();
        assert!(error.starts_with("control.db has a channel that cannot be read, c-7: "), "{error}");
        assert_eq!(control.check().expect("can be read"), [error]);
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
