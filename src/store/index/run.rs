//! A run of ids as it stands on disk: an immutable file of rows in the order of their keys.
//!
//! It consists of pages of 4096 bytes, numbers little-endian. Each begins with 32 bytes that say what it is, so that a page which is
//! damaged, or at another's place, is found when it is read:
//!
//! | at | what |
//! |---|---|
//! | 0 | CRC32C of the rest of the page |
//! | 4 | number of the page |
//! | 8 | number of the run |
//! | 16 | id of the log |
//!
//! Page 0 goes on with the header: magic, version of this format, first and last position, number of rows; 8 bytes each. Each other
//! page has 127 rows, the last one what is left: hash, content, position and number of the session (0 for none); 8 bytes each.
//!
//! The header is written last, so that a file which was not finished is none. Nobody refers to a file before all of it is durable,
//! and who has it open reads it to the end, although its name is gone.

use super::IndexError;
use crate::store::Position;
use crate::store::bloom::Bloom;
use crate::store::disk::{Disk, File, read_full, write_all};
use crate::store::facts::IdKey;
use crate::store::hash::HashKey;
use std::io;
use std::sync::Arc;

const PAGE: usize = 4096;

/// What each page begins with.
const PREAMBLE: usize = 32;

const ROW: usize = 32;

/// Rows of a page.
const ROWS: u64 = ((PAGE - PREAMBLE) / ROW) as u64;

const MAGIC: [u8; 8] = *b"cim-ids\0";

/// Version of the format.
const VERSION: u64 = 1;

/// Bytes that gather before they are written and synced: while much is being synced at once, the log waits for the disk.
const GATHERED: usize = 64 * PAGE;

/// Guesses at where a key is, before the search goes by halves: hashes lie evenly, so that two are mostly enough.
const GUESSES: usize = 3;

const EXTENSION: &str = ".run";

/// The name of a run's file.
pub(super) fn name_of(number: i64) -> String {
    format!("{number}{EXTENSION}")
}

/// The number of the run that a file is named by; none for another file.
pub(super) fn number_of(name: &str) -> Option<i64> {
    let number = name.strip_suffix(EXTENSION)?.parse().ok()?;
    (number > 0 && name_of(number) == name).then_some(number)
}

/// A row of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Row {
    pub(super) key: IdKey,
    /// Number of its session; none if it has none.
    pub(super) session: Option<i64>,
}

impl Row {
    fn put(self, bytes: &mut Vec<u8>) {
        let numbers = [
            self.key.hash.cast_unsigned(),
            self.key.content.cast_unsigned(),
            self.key.position.0,
            self.session.unwrap_or(0).cast_unsigned(),
        ];
        bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
    }

    fn of(bytes: &[u8]) -> Self {
        let number = |at: usize| u64_at(bytes, 8 * at);
        let key = IdKey { hash: number(0).cast_signed(), content: number(1).cast_signed(), position: Position(number(2)) };
        Self { key, session: Some(number(3).cast_signed()).filter(|session| *session != 0) }
    }
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"))
}

/// Where the files of an index's runs are.
#[derive(Debug, Clone)]
pub(super) struct Folder {
    pub(super) disk: Arc<dyn Disk>,
    /// Its name in errors.
    pub(super) name: String,
    /// Of the log.
    pub(super) key: HashKey,
}

impl Folder {
    pub(super) fn io(&self, number: i64, action: &'static str) -> impl FnOnce(io::Error) -> IndexError {
        let file = self.file(number);
        move |cause| IndexError::Io { file, action, cause }
    }

    fn damaged(&self, number: i64, what: impl Into<String>) -> IndexError {
        IndexError::Damaged { what: format!("{} {}", self.file(number), what.into()) }
    }

    fn file(&self, number: i64) -> String {
        format!("{}/{}", self.name, name_of(number))
    }

    /// Removes the file of a run that nothing refers to any more. One that stays is removed when the index is opened.
    pub(super) fn remove(&self, number: i64) {
        match self.disk.remove(&name_of(number)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(file = self.file(number), %error, "a run of ids that has gone cannot be removed yet");
            }
            _ => {}
        }
    }
}

/// A run, and what tells most ids apart from those in it without reading it.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) number: i64,
    pub(super) first: Position,
    pub(super) last: Position,
    pub(super) entries: u64,
    pub(super) filter: Bloom,
    folder: Folder,
    file: Arc<dyn File>,
}

impl Run {
    /// Opens a run that is registered with what it must be. Damage in its pages is found when they are read.
    pub(super) fn open(
        folder: &Folder,
        number: i64,
        (first, last): (Position, Position),
        entries: u64,
        filter: Bloom,
    ) -> Result<Self, IndexError> {
        let file = folder.disk.open(&name_of(number)).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => folder.damaged(number, "is missing"),
            _ => folder.io(number, "opened")(error),
        })?;
        let run = Self { number, first, last, entries, filter, folder: folder.clone(), file };
        let length = run.file.len().map_err(folder.io(number, "read"))?;
        let needed = run.bytes();
        if length != needed {
            return Err(folder.damaged(number, format!("has {length} bytes instead of {needed}")));
        }
        let mut page = Vec::new();
        run.read(0, &mut page)?;
        if page[PREAMBLE..] != header(first, last, entries) {
            return Err(folder.damaged(number, "has another header than the index says"));
        }
        Ok(run)
    }

    const fn pages(&self) -> u64 {
        self.entries.div_ceil(ROWS)
    }

    /// How many bytes its file has.
    pub(super) const fn bytes(&self) -> u64 {
        (self.pages() + 1) * PAGE as u64
    }

    /// Reads a page, and checks that it is what it is said to be.
    fn read(&self, number: u64, page: &mut Vec<u8>) -> Result<(), IndexError> {
        page.resize(PAGE, 0);
        let damaged = |what: String| self.folder.damaged(self.number, what);
        let read = read_full(&*self.file, page, number * PAGE as u64);
        if read.map_err(|error| damaged(format!("cannot be read: {error}")))? < PAGE {
            return Err(damaged(format!("ends within page {number}")));
        }
        if page[4..PREAMBLE] != preamble(number, self.number, self.folder.key) || u32_at(page, 0) != crc32c::crc32c(&page[4..]) {
            return Err(damaged(format!("is damaged in page {number}")));
        }
        Ok(())
    }

    /// Reads all of it. Fails at the first thing that is wrong.
    pub(super) fn check(self: Arc<Self>) -> Result<(), IndexError> {
        let mut last = None;
        for row in self.clone().rows() {
            let key = row?.key;
            if last.replace(key) >= Some(key) || !self.filter.may_hold(key.hash.cast_unsigned()) {
                return Err(self.folder.damaged(self.number, "has a row where it would not be found"));
            }
        }
        Ok(())
    }

    /// Its rows, in the order of their keys.
    pub(super) const fn rows(self: Arc<Self>) -> Rows {
        Rows { run: self, next: 0, page: Vec::new() }
    }

    /// Its rows from the first one on whose key is not below `key`.
    pub(super) fn rows_from(self: Arc<Self>, key: IdKey) -> Result<Rows, IndexError> {
        // Pages below `low` end before the key, those from `high` on begin above it.
        let (mut low, mut high) = (0, self.pages());
        let (mut low_hash, mut high_hash) = (0, u64::MAX);
        let mut page = Vec::new();
        let mut guesses = GUESSES;
        while low < high {
            let middle = if guesses > 0 {
                guesses -= 1;
                let (above, all) = (even(key.hash).saturating_sub(low_hash), high_hash.saturating_sub(low_hash));
                let guess = u128::from(above) * u128::from(high - low) / (u128::from(all) + 1);
                (low + u64::try_from(guess).unwrap_or(u64::MAX)).min(high - 1)
            } else {
                low.midpoint(high)
            };
            self.read(middle + 1, &mut page)?;
            let count = ROWS.min(self.entries - middle * ROWS);
            let [first, last] = [0, count - 1].map(|at| row(&page, at).key);
            if key < first {
                (high, high_hash) = (middle, even(first.hash));
            } else if last < key {
                (low, low_hash) = (middle + 1, even(last.hash));
            } else {
                let (mut from, mut end) = (0, count);
                while from < end {
                    let at = from.midpoint(end);
                    if row(&page, at).key < key { from = at + 1 } else { end = at }
                }
                return Ok(Rows { next: middle * ROWS + from, run: self, page });
            }
        }
        Ok(Rows { next: low * ROWS, run: self, page: Vec::new() })
    }
}

/// A hash as a number that is in the same order and that begins with 0.
const fn even(hash: i64) -> u64 {
    hash.cast_unsigned() ^ (1 << 63)
}

fn row(page: &[u8], at: u64) -> Row {
    let start = PREAMBLE + at as usize * ROW;
    Row::of(&page[start..start + ROW])
}

/// What a page begins with, after its checksum.
fn preamble(page: u64, run: i64, key: HashKey) -> [u8; PREAMBLE - 4] {
    let mut bytes = [0; PREAMBLE - 4];
    bytes[..4].copy_from_slice(&(page as u32).to_le_bytes());
    bytes[4..12].copy_from_slice(&run.to_le_bytes());
    bytes[12..].copy_from_slice(&key.0);
    bytes
}

/// What page 0 has.
fn header(first: Position, last: Position, entries: u64) -> [u8; PAGE - PREAMBLE] {
    let mut bytes = [0; PAGE - PREAMBLE];
    bytes[..8].copy_from_slice(&MAGIC);
    for (i, number) in [VERSION, first.0, last.0, entries].into_iter().enumerate() {
        bytes[8 * (i + 1)..][..8].copy_from_slice(&number.to_le_bytes());
    }
    bytes
}

/// Rows of a run, one after the other. It holds one page of them.
#[derive(Debug)]
pub(super) struct Rows {
    run: Arc<Run>,
    /// How many are before the next one.
    next: u64,
    /// The page of the row before the next one, or of the next one; empty if none was read.
    page: Vec<u8>,
}

impl Rows {
    fn read(&mut self) -> Result<Row, IndexError> {
        let at = self.next % ROWS;
        if at == 0 || self.page.is_empty() {
            self.run.read(self.next / ROWS + 1, &mut self.page)?;
        }
        self.next += 1;
        Ok(row(&self.page, at))
    }
}

impl Iterator for Rows {
    type Item = Result<Row, IndexError>;

    fn next(&mut self) -> Option<Self::Item> {
        (self.next < self.run.entries).then(|| self.read())
    }
}

/// A run that is being written. Its file goes with it, unless it is kept.
#[derive(Debug)]
pub(super) struct Draft {
    folder: Folder,
    number: i64,
    file: Arc<dyn File>,
    /// What is not written yet: whole pages, and the one that gets the next row.
    bytes: Vec<u8>,
    /// Pages that are written, the header included, although it comes last.
    written: u64,
    entries: u64,
    filter: Bloom,
    is_kept: bool,
}

impl Draft {
    /// Begins the file of run `number`, with a filter for so many rows.
    pub(super) fn begin(folder: &Folder, number: i64, room: usize) -> Result<Self, IndexError> {
        let file = folder.disk.create(&name_of(number)).map_err(folder.io(number, "made"))?;
        Ok(Self {
            folder: folder.clone(),
            number,
            file,
            bytes: Vec::with_capacity(GATHERED),
            written: 1,
            entries: 0,
            filter: Bloom::with_room(room),
            is_kept: false,
        })
    }

    /// Adds a row, whose key is above those before.
    pub(super) fn push(&mut self, row: Row) -> Result<(), IndexError> {
        if self.entries.is_multiple_of(ROWS) {
            if self.bytes.len() == GATHERED {
                self.write()?;
                self.sync()?;
            }
            self.bytes.extend([0; PREAMBLE]);
        }
        row.put(&mut self.bytes);
        self.filter.insert(row.key.hash.cast_unsigned());
        self.entries += 1;
        Ok(())
    }

    /// Writes what has gathered.
    fn write(&mut self) -> Result<(), IndexError> {
        self.bytes.resize(self.bytes.len().next_multiple_of(PAGE), 0);
        let offset = self.written * PAGE as u64;
        for page in self.bytes.chunks_exact_mut(PAGE) {
            seal(page, self.written, self.number, self.folder.key);
            self.written += 1;
        }
        write_all(&*self.file, &self.bytes, offset).map_err(self.folder.io(self.number, "written"))?;
        self.bytes.clear();
        Ok(())
    }

    fn sync(&self) -> Result<(), IndexError> {
        self.file.sync().map_err(self.folder.io(self.number, "synced"))
    }

    /// Ends the file, for messages `first..=last`. All of it is durable then, its name too.
    pub(super) fn finish(&mut self, first: Position, last: Position) -> Result<Run, IndexError> {
        self.write()?;
        let mut page = [0; PAGE];
        page[PREAMBLE..].copy_from_slice(&header(first, last, self.entries));
        seal(&mut page, 0, self.number, self.folder.key);
        write_all(&*self.file, &page, 0).map_err(self.folder.io(self.number, "written"))?;
        self.sync()?;
        self.folder.disk.sync().map_err(self.folder.io(self.number, "synced"))?;
        Ok(Run {
            number: self.number,
            first,
            last,
            entries: self.entries,
            filter: std::mem::replace(&mut self.filter, Bloom::with_room(0)),
            folder: self.folder.clone(),
            file: self.file.clone(),
        })
    }

    /// The file stays: something refers to it.
    pub(super) fn keep(mut self) {
        self.is_kept = true;
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.is_kept {
            self.folder.remove(self.number);
        }
    }
}

fn seal(page: &mut [u8], number: u64, run: i64, key: HashKey) {
    page[4..PREAMBLE].copy_from_slice(&preamble(number, run, key));
    let checksum = crc32c::crc32c(&page[4..]);
    page[..4].copy_from_slice(&checksum.to_le_bytes());
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::store::disk::Simulated;
    use crate::store::random::Random;
    use std::collections::BTreeMap;

    pub(in super::super) fn folder(disk: &Simulated) -> Folder {
        Folder { disk: disk.disk(), name: "ids".into(), key: HashKey([7; 16]) }
    }

    /// Rows in order, of which many have one of `hashes` different hashes.
    pub(in super::super) fn rows(random: &mut Random, count: usize, hashes: usize) -> Vec<Row> {
        let mut rows = BTreeMap::new();
        while rows.len() < count {
            let hash = Random::new(random.below(hashes) as u64).below(usize::MAX) as i64;
            let (content, position) = (random.below(3) as i64, Position(random.below(1 << 20) as u64 + 1));
            let session = Some(random.below(9) as i64).filter(|session| *session > 0);
            rows.insert(IdKey { hash, content, position }, session);
        }
        rows.into_iter().map(|(key, session)| Row { key, session }).collect()
    }

    pub(in super::super) fn written(folder: &Folder, number: i64, rows: &[Row]) -> Arc<Run> {
        let mut draft = Draft::begin(folder, number, rows.len()).expect("can be made");
        rows.iter().for_each(|row| draft.push(*row).expect("can be written"));
        let run = draft.finish(Position(1), Position(1 << 20)).expect("can be written");
        draft.keep();
        Arc::new(run)
    }

    fn opened(folder: &Folder, run: &Run) -> Result<Arc<Run>, IndexError> {
        Run::open(folder, run.number, (run.first, run.last), run.entries, run.filter.clone()).map(Arc::new)
    }

    pub(in super::super) fn read(rows: Rows) -> Vec<Row> {
        rows.collect::<Result<_, _>>().expect("can be read")
    }

    #[test]
    fn rows_are_read_as_they_were_written() {
        let random = &mut Random::seeded_by("RUN_SEED");
        let folder = folder(&Simulated::new());
        let counts = [1, 2, 126, 127, 128, 254, 255, 16 * 127 - 1, 16 * 127, 16 * 127 + 1, 17 * 127, 5_000];
        for (number, count) in (1..).zip(counts) {
            let rows = rows(random, count, 1 << 30);
            let run = written(&folder, number, &rows);
            assert_eq!(read(run.clone().rows()), rows, "{count} rows");
            let opened = opened(&folder, &run).expect("can be opened");
            opened.clone().check().expect("is whole");
            assert_eq!(read(opened.rows()), rows, "{count} rows");
        }
    }

    /// One hash may have rows on many pages, and all may have one.
    #[test]
    fn a_search_leads_to_the_first_row_that_is_not_below_its_key() {
        let random = &mut Random::seeded_by("RUN_SEED");
        let folder = folder(&Simulated::new());
        let mut number = 0;
        for hashes in [1, 2, 9, 1_000, 1 << 40] {
            for count in [1, 127, 128, 4_000] {
                number += 1;
                let rows = rows(random, count, hashes);
                let run = written(&folder, number, &rows);
                let probe = |key: IdKey| {
                    let found = run.clone().rows_from(key).expect("can be read").next().transpose().expect("can be read");
                    let wanted = rows.iter().find(|row| row.key >= key).copied();
                    assert_eq!(found, wanted, "{key:?} among {count} rows of {hashes} hashes");
                };
                for _ in 0..200 {
                    let IdKey { hash, content, position } = rows[random.below(count)].key;
                    probe(IdKey { hash, content, position });
                    probe(IdKey { hash, content, position: position.next() });
                    probe(IdKey { hash, content: i64::MIN, position: Position(0) });
                    probe(IdKey { hash, content: i64::MAX, position });
                    probe(IdKey { hash: random.below(usize::MAX) as i64, content, position });
                }
                for hash in [i64::MIN, -1, 0, i64::MAX] {
                    probe(IdKey { hash, content: 0, position: Position(0) });
                }
            }
        }
    }

    #[test]
    fn rows_from_a_key_go_on_to_the_end() {
        let random = &mut Random::seeded_by("RUN_SEED");
        let folder = folder(&Simulated::new());
        let rows = rows(random, 1_000, 20);
        let run = written(&folder, 1, &rows);
        for at in 0..rows.len() {
            let from = run.clone().rows_from(rows[at].key).expect("can be read");
            assert_eq!(read(from), rows[at..]);
        }
    }

    #[test]
    fn every_bit_that_flips_is_found() {
        let random = &mut Random::seeded_by("RUN_SEED");
        let simulated = Simulated::new();
        let folder = folder(&simulated);
        let run = written(&folder, 1, &rows(random, 300, 1 << 30));
        for page in 0..4 {
            for at in [0, 3, 4, 8, 15, 16, 31, 32, 40, 63, 64, 4095].into_iter().chain([random.below(PAGE)]) {
                let bit = 8 * (page * PAGE + at) + random.below(8);
                simulated.flip("1.run", bit);
                let found = opened(&folder, &run).and_then(Run::check);
                let error = found.expect_err("is found");
                assert!(error.is_damage() && error.to_string().contains("ids/1.run"), "{error}");
                simulated.flip("1.run", bit);
            }
        }
        opened(&folder, &run).and_then(Run::check).expect("is whole again");
    }

    #[test]
    fn a_file_that_is_not_the_one_that_is_registered_is_not_taken_for_it() {
        let random = &mut Random::seeded_by("RUN_SEED");
        let simulated = Simulated::new();
        let folder = folder(&simulated);
        let run = written(&folder, 1, &rows(random, 300, 1 << 30));
        let refused = |folder: &Folder, run: &Run, says: &str| {
            let error = opened(folder, run).expect_err("is refused").to_string();
            assert!(error.contains(says), "{error} instead of {says}");
        };
        refused(&Folder { key: HashKey([8; 16]), ..folder.clone() }, &run, "1.run is damaged in page 0");
        let other = Run::open(&folder, 1, (run.first, run.last.next()), run.entries, run.filter.clone());
        assert!(other.expect_err("is refused").to_string().contains("another header"));

        written(&folder, 2, &rows(random, 300, 1 << 30));
        folder.disk.rename("2.run", "1.run").expect("can be renamed");
        refused(&folder, &run, "1.run is damaged in page 0");
        simulated.truncate("1.run", 3 * PAGE);
        refused(&folder, &run, "1.run has 12288 bytes instead of 16384");
        folder.disk.remove("1.run").expect("can be removed");
        refused(&folder, &run, "1.run is missing");
    }

    #[test]
    fn a_file_that_is_not_kept_is_gone() {
        let random = &mut Random::seeded_by("RUN_SEED");
        let simulated = Simulated::new();
        let folder = folder(&simulated);
        let mut draft = Draft::begin(&folder, 1, 5_000).expect("can be made");
        rows(random, 5_000, 1 << 30).into_iter().for_each(|row| draft.push(row).expect("can be written"));
        assert_eq!(simulated.names(), ["1.run"]);
        drop(draft);
        let mut draft = Draft::begin(&folder, 2, 5_000).expect("can be made");
        draft.finish(Position(1), Position(2)).expect("can be written");
        drop(draft);
        assert!(simulated.names().is_empty());
    }

    #[test]
    fn only_names_of_runs_are_taken_for_them() {
        assert_eq!(number_of(&name_of(17)), Some(17));
        for name in ["17", "run", ".run", "0.run", "-1.run", "+1.run", "01.run", "1.run.tmp", "99999999999999999999.run"] {
            assert_eq!(number_of(name), None, "{name}");
        }
    }
}
