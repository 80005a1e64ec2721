//! The disk fails, or is full.

use super::callers::Callers;
use super::crashes::live;
use super::machine::small;
use super::world::{End, World};
use crate::store::conformance::{belonging, said};
use crate::store::random::Random;
use crate::store::{Error, Health, SessionFilter};
use prost_types::Timestamp;
use rustix::io::Errno;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;
use tokio::time::timeout;

const ROOMY: u64 = 1 << 40;

/// After a failure: nothing is accepted any more, and what is seen is what was durable.
fn assert_ended(world: &mut World) {
    let durable = world.core().tail.lock().durable;
    assert!(!world.is_awaited(), "a caller was not told");
    let refused = world.stage(None, vec![said("late")]);
    assert!(matches!(refused, Err(Error::Unavailable { .. })), "{refused:?}");
    let known = world.witness.end();
    world.look();
    assert_eq!((world.witness.end(), durable), (known, known), "what is not durable is seen");
}

/// Rule 6, and the last batch that is written again (rule 5): a system that was only restarted shows what the disk does not have.
fn fail_and_begin_anew(mut world: World, random: &mut Random) {
    assert_ended(&mut world);
    world.kill();
    world.end(End::Killed, random);
    // What is served now must outlast the power.
    world.recover(random);
    world.kill();
    world.end(End::PowerLoss, random);
    world.recover(random);
    world.append(vec![said("and on")]);
}

fn count(disturb: impl Fn(&World, usize)) -> usize {
    let random = &mut Random::seeded_by("SIMULATION_SEED");
    let mut failures = 0;
    for nth in 1..60 {
        let mut world = World::new(small());
        disturb(&world, nth);
        live(&mut world, random);
        if world.has_failed() {
            failures += 1;
            fail_and_begin_anew(world, random);
        }
    }
    failures
}

#[test]
fn a_sync_that_fails_ends_the_store_and_loses_nothing_that_was_acknowledged() {
    for error in [Errno::IO, Errno::NOSPC] {
        let failures = count(|world, nth| world.machine.disk.fail_sync(nth, error));
        assert!(failures > 20, "{failures} failures are too few to tell anything");
    }
}

#[test]
fn a_write_that_fails_ends_the_store_and_loses_nothing_that_was_acknowledged() {
    let failures = count(|world, nth| world.machine.disk.fail_write(nth, Errno::IO));
    assert!(failures > 20, "{failures} failures are too few to tell anything");
}

#[test]
fn short_writes_are_written_on() {
    let random = &mut Random::seeded_by("SIMULATION_SEED");
    let mut world = World::new(small());
    for nth in (1..200).step_by(2) {
        world.machine.disk.shorten_write(nth, 1 + random.below(600));
    }
    live(&mut world, random);
    assert!(!world.has_failed());
    world.look();
    world.kill();
    world.end(End::PowerLoss, random);
    world.recover(random);
}

/// The disk is full wherever it may be: within a batch, and where a segment begins. Nothing of what is refused is ever there, and
/// with room the store goes on.
#[test]
fn a_full_disk_takes_back_what_it_refuses_and_goes_on_with_room() {
    let random = &mut Random::seeded_by("SIMULATION_SEED");
    let mut refused = 0;
    for free in (0..8_000).step_by(331) {
        let mut world = World::new(small());
        let mut callers = Callers::new(random);
        world.append(callers.frame());
        if random.coin() {
            world.core().keep_house();
        }
        world.machine.disk.limit(free);
        while *world.core().health.borrow() == Health::Serving {
            for _ in 0..1 + random.below(4) {
                if let Err(error) = world.stage_next(&mut callers) {
                    assert!(matches!(error, Error::Full { .. }), "{error}");
                }
            }
            if random.coin() {
                // The index takes what is durable while more is on its way.
                world.index_all();
            }
            world.write_next();
        }
        assert!(!world.has_failed() && !world.is_awaited(), "{:?}", world.core().health.borrow());
        refused += 1;
        let full = world.stage(None, callers.frame());
        assert!(matches!(full, Err(Error::Full { .. })), "{full:?}");
        world.look();
        if random.coin() {
            world.kill();
            world.end(if random.coin() { End::Killed } else { End::PowerLoss }, random);
            world.machine.disk.limit(ROOMY);
            world.recover(random);
        } else {
            world.machine.disk.limit(ROOMY);
            world.core().keep_house();
            let was_rejected = world.core().rejected.lock().take().is_some();
            let still = matches!(*world.core().health.borrow(), Health::Full { .. });
            assert_eq!(still, was_rejected, "who sends in order hears of it first");
            world.core().keep_house();
            assert_eq!(*world.core().health.borrow(), Health::Serving);
        }
        live_on(&mut world, random);
    }
    assert!(refused > 20);
}

fn live_on(world: &mut World, random: &mut Random) {
    for i in 0..6 {
        world.append(vec![said(&format!("later {i}"))]);
    }
    world.look();
    world.kill();
    world.end(End::PowerLoss, random);
    world.recover(random);
}

/// A claim that was refused for want of room is free again.
#[test]
fn a_claim_that_finds_no_room_is_settled() {
    let mut world = World::new(small());
    let claim = world.claim("a", b"").expect("nobody holds it");
    world.machine.disk.limit(0);
    // More than the rest of the segment, which may have its room already.
    let frame = std::iter::once(said("a")).chain((0..400).map(|i| said(&format!("beside {i}")))).collect();
    world.stage(Some(claim), frame).expect("is accepted");
    world.write_next();
    assert!(matches!(&*world.core().health.borrow(), Health::Full { .. }));
    world.machine.disk.limit(ROOMY);
    world.core().keep_house();
    let again = world.claim("a", b"").expect("nobody holds it");
    assert!(!again.taken);
}

/// Who writes the index rests now and then, and looks into the tail before: whoever has the tail must not wait for the index.
#[test]
fn a_disk_that_is_full_is_told_while_the_index_is_written() {
    let mut world = World::new(small());
    world.append((0..100).map(|i| said(&format!("old {i}"))).collect());
    let core = world.core().clone();
    let old = {
        let mut tail = core.tail.lock();
        tail.freeze();
        tail.old.clone().expect("it has entries")
    };
    world.machine.disk.limit(0);
    // More than the rest of the segment, which may have its room already.
    world.stage(None, (0..400).map(|i| said(&format!("young {i}"))).collect()).expect("is accepted");
    let mut is_told = None;
    let mut pause = || {
        is_told.get_or_insert_with(|| {
            let (told, hears) = mpsc::channel();
            let core = core.clone();
            thread::spawn(move || told.send(core.write_next()));
            hears.recv_timeout(Duration::from_secs(20)).is_ok()
        });
    };
    core.index.write(&old.state, &[], (old.first, old.last), &mut pause).expect("has room");
    assert_eq!(is_told, Some(true));
    assert!(matches!(&*core.health.borrow(), Health::Full { .. }));
}

/// Whoever looks a session up waits until what it sees is durable, and sees nothing of what is refused.
#[tokio::test(start_paused = true)]
async fn a_look_at_sessions_tells_what_is_durable_only() {
    const WHILE: Duration = Duration::from_secs(1);
    let mut world = World::new(small());
    world.append(vec![belonging("a", "c")]);
    let core = world.core().clone();
    let id = core.look(|facts| facts.session_of_conversation("c")).expect("was opened").id.clone();
    let active = SessionFilter { active: true, ..SessionFilter::default() };
    let ending = || {
        let mut entry = belonging("b", "c");
        entry.session.as_mut().expect("has one").ended_at = Some(Timestamp { seconds: 1, nanos: 0 });
        entry
    };
    // More than the rest of the segment, which may have its room already.
    let frame = std::iter::once(ending()).chain((0..400).map(|i| said(&format!("beside {i}")))).collect();
    world.machine.disk.limit(0);
    world.stage(None, frame).expect("is accepted");
    let (mut look, mut list) = (Box::pin(core.session(&id)), Box::pin(core.sessions(&active, None, 9)));
    assert!(timeout(WHILE, &mut look).await.is_err(), "it is not durable that the session has ended");
    assert!(timeout(WHILE, &mut list).await.is_err());
    world.write_next();
    assert!(matches!(&*core.health.borrow(), Health::Full { .. }));
    let found = timeout(WHILE, look).await.expect("is told").expect("can be read").expect("is there");
    assert_eq!(found.session.ended_at, None, "it was refused");
    assert_eq!(timeout(WHILE, list).await.expect("is told").expect("can be read").sessions.len(), 1);

    world.machine.disk.limit(ROOMY);
    *core.rejected.lock() = None;
    core.keep_house();
    world.stage(None, vec![ending()]).expect("is accepted");
    let mut look = Box::pin(core.session(&id));
    assert!(timeout(WHILE, &mut look).await.is_err());
    world.write_next();
    let found = timeout(WHILE, look).await.expect("is told").expect("can be read").expect("is there");
    assert!(found.session.ended_at.is_some());
    assert_eq!(core.sessions(&active, None, 9).await.expect("can be read").sessions.len(), 0);
}
