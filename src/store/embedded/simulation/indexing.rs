//! The index follows the log, whenever it takes it in, and whatever becomes of it.

use super::super::OpenError;
use super::super::options::Options;
use super::callers::Callers;
use super::crashes::live;
use super::dump::dump;
use super::machine::small;
use super::world::{End, World};
use crate::pb::store::Submission;
use crate::store::conformance::{belonging, said};
use crate::store::log::LogError;
use crate::store::random::Random;
use crate::store::{Error, Frame, Name, Position};
use rusqlite::Connection;
use std::sync::atomic::Ordering;

fn lived(random: &mut Random) -> World {
    let mut world = World::new(small());
    live(&mut world, random);
    world
}

/// Rule 3.
#[test]
fn an_index_made_again_is_row_for_row_the_live_one() {
    let random = &mut Random::seeded_by("SIMULATION_SEED");
    for _ in 0..6 {
        let mut world = lived(random);
        for end in [End::Killed, End::PowerLoss] {
            world.kill();
            world.end(end, random);
            world.recover(random);
            world.append(vec![said(&format!("after {end:?}"))]);
            world.seal();
        }
        world.close();
        let live = dump(&world.machine, Position(1));
        world.machine.remove_index();
        world.open();
        world.close();
        assert_eq!(dump(&world.machine, Position(1)), live);
    }
}

#[test]
fn an_index_that_is_behind_takes_in_what_it_lacks() {
    let random = &mut Random::seeded_by("SIMULATION_SEED");
    let mut world = World::new(small());
    let mut callers = Callers::new(random);
    let mut indexes = Vec::new();
    for _ in 0..12 {
        world.append_next(&mut callers);
        if random.coin() {
            world.seal();
        }
        world.index_all();
        indexes.push(world.machine.index());
    }
    world.close();
    let live = dump(&world.machine, Position(1));
    for index in indexes {
        world.machine.put_back(&index);
        world.open();
        world.close();
        assert_eq!(dump(&world.machine, Position(1)), live);
    }
}

/// Rule 5: what the index has seen was durable; a log that ends before has lost it.
#[test]
fn an_index_that_is_ahead_of_the_log_is_refused() {
    let random = &mut Random::seeded_by("SIMULATION_SEED");
    let mut world = lived(random);
    world.close();
    let older = world.future();
    world.open();
    world.append(vec![said("later")]);
    world.close();
    older.machine.put_back(&world.machine.index());
    let refused = older.machine.open().expect_err("is refused");
    assert!(matches!(refused, OpenError::Log(LogError::Missing { .. })), "{refused}");
    assert!(refused.to_string().contains("acknowledged messages are missing"), "{refused}");
}

#[test]
fn an_index_that_cannot_be_used_is_made_again() {
    let random = &mut Random::seeded_by("SIMULATION_SEED");
    let mut world = lived(random);
    world.close();
    let live = dump(&world.machine, Position(1));
    let change = |sql: &str| {
        let sql = sql.to_owned();
        move |world: &World| {
            let connection = Connection::open(world.machine.files().index()).expect("can be opened");
            connection.execute_batch(&sql).expect("can be changed");
        }
    };
    let write =
        |bytes: &'static [u8]| move |world: &World| std::fs::write(world.machine.files().index(), bytes).expect("can be written");
    let cut = |world: &World| {
        let file = std::fs::File::options().write(true).open(world.machine.files().index()).expect("can be opened");
        file.set_len(5_000).expect("can be cut");
    };
    let spoil: [&dyn Fn(&World); 5] = [
        &change("UPDATE meta SET value = x'00112233445566778899aabbccddeeff' WHERE key = 'log'"),
        &change("PRAGMA user_version = 77"),
        &change("DELETE FROM run; UPDATE run SET filter = x''; DROP TABLE meta"),
        &write(b"this is no database, and it is long enough for nobody to take it for an empty one"),
        &cut,
    ];
    for spoil in spoil {
        spoil(&world);
        world.open();
        world.close();
        assert_eq!(dump(&world.machine, Position(1)), live);
    }
}

/// A run of ids that is not what it was: found when the store is opened, or when it is read.
#[test]
fn a_store_whose_ids_are_damaged_makes_its_index_again() {
    let random = &mut Random::seeded_by("SIMULATION_SEED");
    let mut world = World::new(Options { generation_entries: 2, ..small() });
    let mut callers = Callers::new(random);
    for _ in 0..40 {
        world.append_next(&mut callers);
        world.index_all();
    }
    world.close();
    let live = dump(&world.machine, Position(1));
    let run = |world: &World| {
        let ids = world.machine.files().folder.join("index.db-ids");
        let mut runs: Vec<_> =
            std::fs::read_dir(ids).expect("is there").map(|file| file.expect("can be listed").path()).collect();
        runs.sort_unstable();
        runs.swap_remove(runs.len() / 2)
    };
    let change = |world: &World, change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = std::fs::read(run(world)).expect("can be read");
        change(&mut bytes);
        std::fs::write(run(world), bytes).expect("can be written");
    };
    let spoil: [&dyn Fn(&World); 4] = [
        &|world| std::fs::remove_file(run(world)).expect("can be removed"),
        &|world| std::fs::remove_dir_all(run(world).parent().expect("is in a folder")).expect("can be removed"),
        &|world| change(world, &|bytes| bytes.truncate(bytes.len() - 1)),
        &|world| change(world, &|bytes| bytes[60] ^= 1),
    ];
    for spoil in spoil {
        spoil(&world);
        world.open();
        world.close();
        assert_eq!(dump(&world.machine, Position(1)), live);
    }

    change(&world, &|bytes| bytes[4096 + 60] ^= 1);
    world.read();
    let known = world.witness.known.clone();
    let failed: Vec<_> = known.iter().filter_map(|stored| world.core().message(stored.id()).err()).collect();
    assert!(!failed.is_empty(), "the damage is not found");
    for error in failed {
        assert!(matches!(&error, Error::Unavailable { cause } if cause.contains("is damaged in page 1")), "{error}");
    }
    assert!(!world.has_failed(), "what is whole is told");
    assert!(!world.core().merge_next());
    world.kill();
    world.open();
    world.close();
    assert_eq!(dump(&world.machine, Position(1)), live);
}

/// An entry that is sent as `id`, with a content.
fn sent(id: &str, content: u8) -> Frame {
    let mut entry = said(id);
    let submission = Submission { id: id.to_owned(), fingerprint: vec![1, content, 0, 0, 0], ..Submission::default() };
    entry.submission = Some(submission.into());
    vec![entry]
}

/// Rule 1: claim, stage, write, answer; the index may take in what is durable between any two of them, and merge its runs. A
/// repeat is found however far that is.
#[test]
fn a_repeat_is_found_wherever_the_index_stands() {
    for commits in 0..1_u32 << 5 {
        let mut world = World::new(Options { generation_entries: 1, ..small() });
        let step = |world: &mut World, step: u32| {
            if commits & 1 << step != 0 {
                world.index_all();
                while world.core().merge_next() {}
            }
        };
        for round in 0..12 {
            let (id, content) = (format!("m{round}"), round as u8);
            let fingerprint = [1, content, 0, 0, 0];
            step(&mut world, 0);
            let claim = world.claim(&id, &fingerprint).expect("nobody holds it");
            assert!(!claim.taken);
            step(&mut world, 1);
            world.stage(Some(claim), sent(&id, content)).expect("is accepted");
            assert!(world.claim(&id, &fingerprint).is_none(), "a repeat does not wait for the answer");
            assert!(!world.core().look_up_claim(&id, &fingerprint).expect("can be read").0, "it is seen too early");
            step(&mut world, 2);
            world.write_all();
            step(&mut world, 3);
            for earlier in 0..=round {
                let (id, fingerprint) = (format!("m{earlier}"), [1, earlier as u8, 0, 0, 0]);
                let (taken, same) = world.core().look_up_claim(&id, &fingerprint).expect("can be read");
                assert!(taken, "{id} is not found");
                assert_eq!(same.expect("is found").position.0, earlier as u64 + 1);
                let (taken, same) = world.core().look_up_claim(&id, &[1, 99, 0, 0, 0]).expect("can be read");
                assert!(taken && same.is_none(), "another content of {id}");
            }
            step(&mut world, 4);
        }
        world.look();
    }
}

/// Retention does so under load. If the index went on to take in little at a time, each time would cost it a run with its syncs.
#[test]
fn little_goes_to_the_index_only_until_it_has_what_somebody_waits_for() {
    let mut world = World::new(Options { generation_entries: 4, ..small() });
    let position = Position(6);
    for number in 1..=position.0 {
        world.append(vec![said(&number.to_string())]);
    }
    let core = world.core().clone();
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| core.wait_until_indexed(position));
        while !waits.is_finished() {
            if !core.index_next() {
                std::thread::yield_now();
            }
        }
        waits.join().expect("does not panic").expect("the store is open");
    });
    for number in 1..4 {
        world.append(vec![said(&format!("later {number}"))]);
        assert!(!world.core().index_next(), "nobody waits for it");
    }
    world.append(vec![said("the last of a generation")]);
    assert!(world.core().index_next(), "it is full");
}

#[test]
fn the_indexer_may_rest_unless_somebody_waits_for_what_is_there() {
    let mut world = World::new(small());
    world.append(vec![said("a")]);
    assert!(world.core().may_rest());
    world.core().tail.lock().flush_to(Position(1));
    assert!(!world.core().may_rest());
    assert!(world.core().index_next());
    world.append(vec![said("b")]);
    assert!(world.core().may_rest());
    world.core().stopping.store(true, Ordering::Release);
    assert!(!world.core().may_rest());
    assert!(world.core().index_next(), "who closes the store waits for all of it");
}

#[test]
fn facts_are_the_same_while_runs_are_merged() {
    let random = &mut Random::seeded_by("SIMULATION_SEED");
    let mut world = World::new(Options { generation_entries: 2, ..small() });
    let mut callers = Callers::new(random);
    let mut merges = 0;
    for _ in 0..40 {
        world.append_next(&mut callers);
        world.index_all();
        while world.core().merge_next() {
            merges += 1;
            world.check();
        }
    }
    assert!(merges > 4, "{merges} merges are too few to tell anything");
    world.close();
    let live = dump(&world.machine, Position(1));
    world.machine.remove_index();
    world.open();
    world.close();
    assert_eq!(dump(&world.machine, Position(1)), live);
}

/// The facts of a stage are those of one time, while runs are merged beside it.
#[test]
fn facts_that_are_being_looked_up_do_not_go_with_a_merge() {
    let mut world = World::new(Options { generation_entries: 1, ..small() });
    for i in 0..8 {
        world.append(vec![belonging(&format!("m{i}"), &format!("c{i}"))]);
        world.index_all();
    }
    assert!(world.core().merge_next(), "there is nothing to merge");
    world.core().look(|facts| {
        for i in 0..8 {
            let session = facts.named(Name::Message(&format!("m{i}"))).and_then(|named| named.session);
            assert_eq!(session.map(|session| session.conversation_id.clone()), Some(format!("c{i}")));
            world.core().merge_next();
        }
    });
}
