//! The simulation catches what is broken: with a disk that lies, or a store that answers or shows what is not durable yet, the checks
//! that pass otherwise fail.

use super::callers::Callers;
use super::crashes::live;
use super::machine::small;
use super::world::{End, World};
use crate::store::random::Random;

/// More power losses than are needed to lose something that was not synced.
const LOSSES: u64 = 40;

/// Loses power again and again in worlds that `breaks` makes. What survives each of them would prove nothing.
fn lose_power(breaks: impl Fn(&mut World, &mut Random)) {
    for seed in 0..LOSSES {
        let random = &mut Random::new(seed);
        let mut world = World::new(small());
        breaks(&mut world, random);
        world.kill();
        world.end(End::PowerLoss, random);
        world.open();
    }
}

#[test]
#[should_panic(expected = "lost: position")]
fn a_disk_that_lies_is_found_out_where_nothing_else_knows_better() {
    lose_power(|world, random| {
        world.machine.disk.lie(true);
        world.append(Callers::new(random).frame());
    });
}

#[test]
#[should_panic(expected = "acknowledged messages are missing")]
fn a_disk_that_lies_is_refused_where_the_index_knows_better() {
    lose_power(|world, random| {
        world.machine.disk.lie(true);
        world.append(Callers::new(random).frame());
        world.index_all();
    });
}

#[test]
#[should_panic(expected = "is damaged at byte")]
fn a_disk_that_lies_is_refused_where_a_later_batch_knows_better() {
    lose_power(|world, random| {
        world.machine.disk.lie(true);
        let mut callers = Callers::new(random);
        for _ in 0..5 {
            world.append(callers.frame());
        }
    });
}

#[test]
#[should_panic(expected = "lost: position")]
fn a_sync_that_lies_once_is_found_out() {
    lose_power(|world, random| {
        let mut callers = Callers::new(random);
        world.append(callers.frame());
        // A batch is written with one sync.
        world.machine.disk.lie_at_sync(1);
        world.append(callers.frame());
    });
}

#[test]
#[should_panic(expected = "lost: position")]
fn a_store_that_shows_what_is_not_durable_is_found_out() {
    lose_power(|world, random| {
        live(world, random);
        world.stage(None, Callers::new(random).frame()).expect("is accepted");
        let end = {
            let mut tail = world.core().tail.lock();
            tail.durable = tail.end;
            tail.end
        };
        world.core().durable.send_replace(end);
        world.see_up_to(end);
    });
}

#[test]
#[should_panic(expected = "lost: position")]
fn a_store_that_acknowledges_what_is_not_durable_is_found_out() {
    lose_power(|world, random| {
        let mut callers = Callers::new(random);
        world.append(callers.frame());
        world.stage(None, callers.frame()).expect("is accepted");
        let batch = world.core().tail.lock().next_batch().expect("a batch waits");
        for waiting in batch.waiting {
            waiting.told.send(Ok(())).expect("its caller waits");
        }
        world.hear();
    });
}

#[test]
fn the_same_lives_are_survived_when_nothing_is_broken() {
    lose_power(|world, random| {
        live(world, random);
        world.stage(None, vec![crate::store::conformance::said("staged")]).expect("is accepted");
    });
}
