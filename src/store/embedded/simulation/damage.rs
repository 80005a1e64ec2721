//! What was durable is damaged later, by whatever does such things to disks. Damage is told with the file and the place, or it is
//! harmless; nothing is ever passed over in silence.
//!
//! The one exception: the last batch, as long as neither a seal, nor a later batch, nor the index tells of it. Its damage looks like
//! a write that was cut short.

use super::callers::Callers;
use super::crashes::live;
use super::machine::{Machine, small};
use super::world::{End, World, positions};
use crate::store::random::Random;
use crate::store::{Error, Filter, Page, Position, Scan, Stored};

/// Bytes between the lengths that are tried; with `SIMULATION_CASES` each is.
const STEP: usize = 61;

/// A store that has ended, and how many of its entries are beyond doubt.
struct Victim {
    world: World,
    certain: usize,
}

/// Closed: its index and its seal tell of everything.
fn closed(random: &mut Random) -> Victim {
    let mut world = World::new(small());
    live(&mut world, random);
    world.close();
    let certain = world.witness.known.len();
    Victim { world, certain }
}

/// Killed after it has written a batch, and its index is lost.
fn killed(random: &mut Random) -> Victim {
    let mut world = World::new(small());
    live(&mut world, random);
    world.seal();
    let certain = world.witness.known.len();
    world.append(Callers::new(random).frame());
    world.kill();
    world.end(End::Killed, random);
    world.machine.remove_index();
    Victim { world, certain }
}

/// What can be read before something is refused, and the refusal.
fn read(machine: &Machine) -> (Vec<Stored>, Option<String>) {
    let core = match machine.open() {
        Ok(core) => core,
        Err(error) => return (Vec::new(), Some(error.to_string())),
    };
    let (mut after, mut all) = (Position(0), Vec::new());
    loop {
        match core.scan_log(after, Page { entries: 1, bytes: usize::MAX }, &Filter::default()) {
            Ok(Scan { entries, reached }) => {
                all.extend(entries);
                if reached == after {
                    return (all, None);
                }
                after = reached;
            }
            Err(Error::Unavailable { cause }) => return (all, Some(cause)),
            Err(other) => panic!("{other}"),
        }
    }
}

/// Checks what became of a damaged copy of `victim`. True if it is refused.
fn check(victim: &Victim, copy: &Machine, what: &str) -> bool {
    let (read, refusal) = read(copy);
    let known = &victim.world.witness.known;
    let unchanged = read.iter().zip(known).all(|(found, known)| found.position == known.position && found.entry == known.entry);
    assert!(unchanged && read.len() <= known.len(), "{what}: what is read is not what was written: {:?}", positions(&read));
    let Some(refusal) = refusal else {
        let all = read.len() == known.len() || read.len() == victim.certain;
        assert!(all, "{what}: {} of {} entries are there, and nothing is said", read.len(), known.len());
        return false;
    };
    let is_told = refusal.contains(".log") && refusal.contains("at byte") || refusal.contains("needs position");
    assert!(is_told, "{what}: it is not told where: {refusal}");
    true
}

/// Rule 5.
#[test]
fn a_flipped_bit_is_refused_with_its_place_or_changes_nothing() {
    let random = &mut Random::seeded_by("SIMULATION_SEED");
    for victim in [closed(random), killed(random)] {
        let (mut refused, mut harmless) = (0, 0);
        for name in victim.world.machine.disk.names() {
            let sectors = victim.world.machine.disk.content(&name).len() / 512;
            for sector in 0..sectors {
                for within in [16 * 8, 48 * 8, 64 * 8, 512 * 8] {
                    let bit = sector * 512 * 8 + random.below(within);
                    let copy = victim.world.machine.copy();
                    copy.disk.flip(&name, bit);
                    let is_refused = check(&victim, &copy, &format!("bit {bit} of {name}"));
                    *(if is_refused { &mut refused } else { &mut harmless }) += 1;
                }
            }
        }
        assert!(refused > 20 && harmless > 0, "{refused} are refused, {harmless} are harmless");
    }
}

#[test]
fn a_cut_segment_never_loses_what_the_index_or_a_later_segment_tells() {
    let random = &mut Random::seeded_by("SIMULATION_SEED");
    let step = if std::env::var_os("SIMULATION_CASES").is_some() { 1 } else { STEP };
    let victim = closed(random);
    let mut refused = 0;
    for name in victim.world.machine.disk.names() {
        let length = victim.world.machine.disk.content(&name).len();
        for cut in (0..length).step_by(step) {
            let copy = victim.world.machine.copy();
            copy.disk.truncate(&name, cut);
            refused += usize::from(check(&victim, &copy, &format!("{name} cut to {cut}")));
        }
    }
    assert!(refused > 50, "{refused} are refused");
}

/// Without its index, what a segment lacks at its end is told by the next one.
#[test]
fn a_cut_segment_is_told_by_the_next_one() {
    let random = &mut Random::seeded_by("SIMULATION_SEED");
    let victim = closed(random);
    victim.world.machine.remove_index();
    let names = victim.world.machine.disk.names();
    let segments: Vec<_> = names.iter().filter(|name| name.ends_with(".log")).collect();
    for pair in segments.windows(2) {
        let length = victim.world.machine.disk.content(pair[0]).len();
        for cut in (0..length.saturating_sub(512)).step_by(STEP * 5) {
            let copy = victim.world.machine.copy();
            copy.disk.truncate(pair[0], cut);
            check(&victim, &copy, &format!("{} cut to {cut}", pair[0]));
        }
    }
}

#[test]
fn a_segment_that_is_missing_is_told() {
    let random = &mut Random::seeded_by("SIMULATION_SEED");
    let victim = closed(random);
    let names = victim.world.machine.disk.names();
    for name in names.iter().filter(|name| name.ends_with(".log")) {
        let copy = victim.world.machine.copy();
        copy.disk.disk().remove(name).expect("can be removed");
        check(&victim, &copy, &format!("{name} is removed"));
    }
}

/// Whatever sectors of a batch were written when the power went, in whatever order: the batch is there as a whole or not at all.
#[test]
fn a_batch_of_which_some_sectors_are_written_is_whole_or_absent() {
    let random = &mut Random::seeded_by("SIMULATION_SEED");
    let mut world = World::new(super::super::options::Options { segment_bytes: 64 << 10, batch_bytes: 64 << 10, ..small() });
    let mut callers = Callers::new(random);
    world.append(callers.frame());
    for _ in 0..12 {
        world.stage(None, callers.frame()).expect("is accepted");
    }
    // It is written, and the power goes while it is synced.
    world.machine.disk.crash_after(2);
    world.write_next();
    assert!(world.has_failed() && world.machine.disk.crashed());
    world.kill();
    let (mut whole, mut absent) = (0, 0);
    for _ in 0..150 {
        let mut future = world.future();
        let known = future.witness.known.len();
        future.end(End::PowerLoss, random);
        future.read();
        *(if future.witness.known.len() > known { &mut whole } else { &mut absent }) += 1;
    }
    assert!(whole > 0 && absent > 0, "{whole} times it is whole, {absent} times absent");
}
