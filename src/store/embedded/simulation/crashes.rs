//! The machine crashes in each operation that the log does, and in those that recovery does.

use super::callers::Callers;
use super::machine::small;
use super::world::{End, World};
use crate::store::conformance::said;
use crate::store::random::Random;
use rustix::io::Errno;

/// Futures that are tried of each crash with a power loss.
const FUTURES: usize = 1;

/// What a store lives through: frames and batches of all sizes, seals, spare segments, new segments, and the index on its way. It
/// is cut short by a crash, or by a failure of the store.
pub(super) fn live(world: &mut World, random: &mut Random) {
    let mut callers = Callers::new(random);
    for hour in 0..22 {
        for _ in 0..1 + hour % 3 {
            let _refused = world.stage_next(&mut callers);
            if hour % 2 == 0 {
                world.write_next();
            }
        }
        world.write_all();
        if hour % 4 == 1 {
            world.seal();
        }
        if hour % 5 == 2 {
            world.core().keep_house();
        }
        if world.has_failed() || world.machine.disk.crashed() {
            return;
        }
        if hour % 6 == 3 {
            world.index_all();
        }
        if hour % 7 == 6 {
            world.look();
        }
    }
}

/// Ends a life in its `nth` operation. None if it has no more.
fn cut_short(seed: u64, nth: usize) -> Option<World> {
    let mut world = World::new(small());
    world.machine.disk.crash_after(nth);
    live(&mut world, &mut Random::new(seed));
    world.machine.disk.crashed().then_some(world)
}

fn futures(mut world: World, random: &mut Random, mut then: impl FnMut(World, &mut Random)) {
    world.kill();
    for end in std::iter::once(End::Killed).chain([End::PowerLoss; FUTURES]) {
        let mut future = world.future();
        future.end(end, random);
        then(future, random);
    }
}

/// Rule 5, and the promise: what was acknowledged is there, and frames are there whole or not at all.
#[test]
fn a_crash_in_any_operation_loses_nothing_that_was_acknowledged() {
    let random = &mut Random::seeded_by("SIMULATION_SEED");
    let seed = random.below(usize::MAX) as u64;
    let mut crashes = 0;
    while let Some(world) = cut_short(seed, crashes + 1) {
        crashes += 1;
        futures(world, random, |mut future, random| {
            future.recover(random);
            // It goes on, and is found as it was left.
            future.append(vec![said("and on")]);
            future.close();
            future.open();
        });
    }
    assert!(crashes > 100, "{crashes} operations are too few to tell anything");
}

/// A life with a failure of its `nth` sync, if that is one of those without which nothing goes on. None if it has no more syncs.
fn unsynced(seed: u64, nth: usize) -> Option<World> {
    let mut world = World::new(small());
    world.machine.disk.fail_sync(nth, Errno::IO);
    live(&mut world, &mut Random::new(seed));
    world.machine.disk.failed().then_some(world)
}

/// What one process has left unsynced is seen by the next one, which goes on after it, and goes with the power.
#[test]
fn what_is_lost_after_it_was_gone_on_with_is_not_missed() {
    let random = &mut Random::seeded_by("SIMULATION_SEED");
    let seed = random.below(usize::MAX) as u64;
    for cut in [cut_short, unsynced] {
        let mut lives = 0;
        while let Some(mut world) = cut(seed, lives + 1) {
            lives += 1;
            world.end(End::Killed, random);
            world.open();
            for i in 0..=random.below(3) {
                world.append(vec![said(&format!("and on {i}"))]);
            }
            world.end(End::PowerLoss, random);
            world.open();
        }
        assert!(lives > 50, "{lives} lives are too few to tell anything");
    }
}

/// Opening a store is cut short in each of its operations, and again in each operation of the next opening.
#[test]
fn a_crash_in_any_operation_of_a_recovery_loses_nothing() {
    let random = &mut Random::seeded_by("SIMULATION_SEED");
    for nth in (1..).step_by(23) {
        let seed = random.below(usize::MAX) as u64;
        let Some(world) = cut_short(seed, nth) else { break };
        futures(world, random, |future, random| relapse(&future, 2, random));
    }
}

/// Crashes in each operation that opening does, `depth` times in a row.
fn relapse(world: &World, depth: usize, random: &mut Random) {
    for nth in 1.. {
        let mut future = world.future();
        future.machine.disk.crash_after(nth);
        let opened = future.machine.open();
        if !future.machine.disk.crashed() {
            drop(opened);
            future.end(End::Killed, random);
            future.read();
            return;
        }
        drop(opened);
        future.end(if random.coin() { End::Killed } else { End::PowerLoss }, random);
        if depth > 1 {
            relapse(&future, depth - 1, random);
        } else {
            future.read();
        }
    }
}
