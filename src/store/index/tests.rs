//! What holds while the index is written and read at once, and whatever becomes of its disk.

use super::ids::Merge;
use super::run::tests::{folder, read, rows, written};
use super::run::{Row, Run};
use super::{Index, IndexError};
use crate::store::Position;
use crate::store::disk::Simulated;
use crate::store::facts::State;
use crate::store::hash::HashKey;
use crate::store::random::Random;
use crate::store::{Stored, conformance::said};
use rusqlite::{StatementStatus, params};
use rustix::io::Errno;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tempfile::TempDir;

const KEY: HashKey = HashKey([7; 16]);

/// An index in a folder, with its ids on a simulated disk.
struct Home {
    folder: TempDir,
    ids: Simulated,
}

impl Home {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder can be made"), ids: Simulated::new() }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("index.db")
    }

    fn open(&self) -> Result<Index, IndexError> {
        Index::open_on(&self.path(), self.ids.disk(), KEY)
    }
}

fn id(number: u64) -> String {
    format!("m{number}")
}

/// Takes in the message of a position.
fn write(index: &Index, number: u64) -> Result<(), IndexError> {
    let mut state = State::new(KEY);
    state.apply(&Stored { position: Position(number), entry: Arc::new(said(&id(number))) });
    index.write(&state, &[], (Position(number), Position(number)), &mut || {})
}

#[test]
fn whoever_takes_in_much_may_pause_now_and_then_and_readers_do_not_wait_for_it() {
    let home = Home::new();
    let index = home.open().expect("can be made");
    let mut state = State::new(KEY);
    for number in 1..=1000 {
        state.apply(&Stored { position: Position(number), entry: Arc::new(said(&id(number))) });
    }
    let mut pauses = 0;
    let mut pause = || {
        pauses += 1;
        assert!(found(&index, 1..=1000).expect("can be read").is_empty());
    };
    index.write(&state, &[], (Position(1), Position(1000)), &mut pause).expect("can be written");
    assert!(pauses >= 1000 / 100, "{pauses}");
    assert_eq!(found(&index, 1..=1000).expect("can be read").len(), 1000);
}

fn merge(index: &Index) -> Result<(), IndexError> {
    let mut merge = index.begin_merge()?;
    while let Some(under_way) = merge {
        merge = index.step_merge(under_way)?;
    }
    Ok(())
}

/// The positions that are found by their ids.
fn found(index: &Index, numbers: impl Iterator<Item = u64>) -> Result<Vec<u64>, IndexError> {
    let lookup = index.lookup()?;
    let found: Result<Vec<_>, _> = numbers.map(|number| lookup.having(&id(number))).collect();
    Ok(found?.into_iter().flatten().map(|position| position.0).collect())
}

#[test]
fn ids_are_found_while_runs_are_merged_and_dropped_beside() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let index = Index::open(&folder.path().join("index.db"), KEY).expect("can be made");
    let (done, kept) = (AtomicBool::new(false), std::sync::atomic::AtomicU64::new(1));
    std::thread::scope(|scope| {
        let reader = || {
            while !done.load(Ordering::Acquire) {
                let there = kept.load(Ordering::Acquire);
                let found = found(&index, there..there + 1).expect("can be read");
                assert!(found.len() <= 1, "{found:?}");
                // What was there before is gone only if more was let go of meanwhile.
                assert!(found == [there] || kept.load(Ordering::Acquire) != there || there == 1, "{there} is not found");
            }
        };
        let readers = [scope.spawn(reader), scope.spawn(reader)];
        for i in 1..400 {
            write(&index, i).expect("can be written");
            merge(&index).expect("can be merged");
            if i % 50 == 0 {
                kept.store(i, Ordering::Release);
                index.forget(Position(i)).expect("can be forgotten");
            }
        }
        done.store(true, Ordering::Release);
        for reader in readers {
            reader.join().expect("nothing was missing");
        }
    });
}

#[test]
fn a_merge_is_one_sort_of_all() {
    let random = &mut Random::seeded_by("RUN_SEED");
    let simulated = Simulated::new();
    let folder = folder(&simulated);
    for sources in 1..12 {
        let counts: Vec<_> = (0..sources).map(|_| 1 + random.below(700)).collect();
        let hashes = 1 + random.below(2_000);
        let mut all = rows(random, counts.iter().sum(), hashes);
        let mut left = all.clone();
        let runs: Vec<Arc<Run>> = (1..)
            .zip(counts)
            .map(|(number, count)| {
                let mut some: Vec<Row> = (0..count).map(|_| left.swap_remove(random.below(left.len()))).collect();
                some.sort_unstable();
                written(&folder, number, &some)
            })
            .collect();
        let mut merge = Merge::begin(runs, &folder, 100).expect("can be begun");
        let most = 1 + random.below(900);
        while merge.go_on(most).expect("can be moved on") {}
        all.sort_unstable();
        assert_eq!(read(Arc::new(merge.finish().expect("can be written")).rows()), all);
        drop(merge);
        assert!(!simulated.names().contains(&"100.run".to_owned()));
        (1..=sources).for_each(|number| folder.remove(number));
    }
}

#[test]
fn runs_that_are_merged_or_forgotten_leave_no_files() {
    let home = Home::new();
    let index = home.open().expect("can be made");
    for i in 1..=8 {
        write(&index, i).expect("can be written");
    }
    assert_eq!(home.ids.names().len(), 8);
    merge(&index).expect("can be merged");
    assert_eq!(home.ids.names(), ["9.run"]);
    index.forget(Position(9)).expect("can be forgotten");
    assert!(home.ids.names().is_empty());
}

#[test]
fn files_that_are_not_registered_are_removed_and_their_numbers_are_not_given_again() {
    let home = Home::new();
    written(&folder(&home.ids), 40, &rows(&mut Random::new(1), 3, 9));
    let index = home.open().expect("can be made");
    assert!(home.ids.names().is_empty());
    write(&index, 1).expect("can be written");
    assert_eq!(home.ids.names(), ["41.run"]);
    drop(index);
    let index = home.open().expect("can be opened");
    assert_eq!(found(&index, 1..3).expect("can be read"), [1]);
    write(&index, 2).expect("can be written");
    assert_eq!(home.ids.names(), ["41.run", "42.run"]);
}

#[test]
fn a_merge_that_retention_is_faster_than_is_given_up() {
    let home = Home::new();
    let index = home.open().expect("can be made");
    for i in 1..=8 {
        write(&index, i).expect("can be written");
    }
    let begun = index.begin_merge().expect("can be begun").expect("there are enough");
    index.forget(Position(3)).expect("can be forgotten");
    let mut merge = Some(begun);
    while let Some(under_way) = merge {
        merge = index.step_merge(under_way).expect("can be given up");
    }
    assert_eq!(home.ids.names().len(), 6);
    assert_eq!(found(&index, 1..9).expect("can be read"), [3, 4, 5, 6, 7, 8]);
}

/// Whoever has no room tries again.
#[test]
fn without_room_nothing_changes() {
    let home = Home::new();
    let index = home.open().expect("can be made");
    for i in 1..=7 {
        write(&index, i).expect("can be written");
    }
    let names = home.ids.names();
    home.ids.limit(100);
    let error = write(&index, 8).expect_err("there is no room");
    assert!(error.is_full() && error.to_string().contains("index.db-ids/8.run"), "{error}");
    assert_eq!((home.ids.names(), index.position().expect("can be read")), (names, Position(7)));
    home.ids.limit(1 << 20);
    write(&index, 8).expect("there is room");
    let names = home.ids.names();
    home.ids.limit(100);
    assert!(merge(&index).expect_err("there is no room").is_full());
    assert_eq!(home.ids.names(), names);
    assert_eq!(found(&index, 1..10).expect("can be read").len(), 8);
    home.ids.limit(1 << 20);
    merge(&index).expect("there is room");
    assert_eq!(home.ids.names().len(), 1);
    home.ids.fail_write(1, Errno::IO);
    assert!(!write(&index, 9).expect_err("the disk refuses").is_full());
    drop(index);
    assert_eq!(found(&home.open().expect("can be opened"), 1..10).expect("can be read").len(), 8);
}

/// The files of SQLite as they are.
fn database(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let paths = ["index.db", "index.db-wal"].map(|name| folder.join(name)).into_iter().filter(|path| path.is_file());
    paths.map(|path| (path.clone(), std::fs::read(path).expect("can be read"))).collect()
}

/// A power loss takes what was not synced: bytes and names of runs, and transactions after the last one that was durable.
#[test]
fn whatever_a_power_loss_takes_every_registered_run_has_its_file() {
    let random = &mut Random::seeded_by("RUN_SEED");
    for _ in 0..60 {
        let home = Home::new();
        let mut index = home.open().expect("can be made");
        let mut states = vec![database(home.folder.path())];
        for _ in 0..4 {
            home.ids.crash_after(1 + random.below(40));
            while !home.ids.crashed() {
                let end = index.position().expect("can be read").0;
                let _may_fail = write(&index, end + 1);
                if random.coin() {
                    states.push(database(home.folder.path()));
                }
                let before = index.runs();
                if index.begin_merge().is_ok_and(|begun| begun.is_some()) {
                    let _may_fail = merge(&index);
                }
                if random.below(12) == 0 {
                    let _may_fail = index.forget(Position(end));
                }
                if before.iter().any(|run| !index.runs().iter().any(|now| now.number == run.number)) {
                    states = vec![database(home.folder.path())];
                }
            }
            drop(index);
            home.ids.power_loss(random);
            for suffix in ["", "-wal", "-shm"] {
                let _was_there = std::fs::remove_file(super::beside(&home.path(), suffix));
            }
            states.truncate(1 + random.below(states.len()));
            for (path, content) in states.last().expect("one is left") {
                std::fs::write(path, content).expect("can be written");
            }
            index = home.open().expect("every run is there");
            assert_eq!(index.check().expect("can be read"), Vec::<String>::new());
            assert_eq!(home.ids.names().len(), index.runs().len());
        }
    }
}

#[test]
fn damage_that_is_read_is_noted_for_the_next_start() {
    let home = Home::new();
    let index = home.open().expect("can be made");
    write(&index, 1).expect("can be written");
    write(&index, 2).expect("can be written");
    assert!(!index.note_damage().expect("can be written"));
    home.ids.flip("1.run", 8 * (4096 + 40));
    assert_eq!(found(&index, 2..3).expect("is in another run"), [2]);
    let error = found(&index, 1..2).expect_err("is damaged");
    assert_eq!(error.to_string(), "the index is damaged: index.db-ids/1.run is damaged in page 1");
    let wrong = index.check().expect("can be read");
    assert_eq!(wrong, [error.to_string()]);
    assert!(index.note_damage().expect("can be written"));
    drop(index);
    home.ids.flip("1.run", 8 * (4096 + 40));
    assert_eq!(home.open().expect_err("is damaged").to_string(), error.to_string());
}

/// To prepare a statement takes several times as long as to look something up with it.
#[test]
fn a_statement_is_prepared_once_for_all_values() {
    let home = Home::new();
    let index = home.open().expect("can be made");
    let lookup = index.lookup().expect("can be read");
    let query = "SELECT id FROM session WHERE key_hash = ?1 AND service_identifier = ?2 AND channel_customer_identifier = ?3";
    let mut statement = lookup.connection().prepare(query).expect("is a query");
    for number in 1..10_i64 {
        assert!(!statement.exists(params![number << 40, id(1), id(number.cast_unsigned())]).expect("can be read"));
    }
    assert_eq!(statement.get_status(StatementStatus::RePrepare), 0);
}
