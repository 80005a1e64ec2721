//! Lives at random: the same is done to the durable store and to the one in memory, with crashes of every kind in between, and both
//! tell the same.

use super::super::options::Options;
use super::callers::{Callers, filter};
use super::machine::small;
use super::world::{End, World, positions, read, scan};
use crate::store::conformance::Model;
use crate::store::memory::Memory;
use crate::store::random::Random;
use crate::store::{Frame, Health, Page, Position, Store as _, Stored};
use crate::violation::Violations;
use futures::FutureExt as _;
use rustix::io::Errno;

const ROOMY: u64 = 1 << 40;

/// Lives, unless `SIMULATION_CASES` says otherwise.
const CASES: usize = 400;

/// What happens in a life at most.
const EVENTS: usize = 40;

#[test]
fn any_life_with_any_crashes_tells_what_memory_tells() {
    let mut seeds = Random::seeded_by("SIMULATION_SEED");
    let mut random = seeds.clone();
    let cases = match std::env::var("SIMULATION_CASES") {
        Ok(cases) => cases.parse().expect("SIMULATION_CASES is a number"),
        Err(_) => CASES,
    };
    for _ in 0..cases {
        Life::begin(random).go_by();
        let seed = seeds.below(usize::MAX) as u64;
        // The last that is shown is the one that failed: SIMULATION_CASES=1 brings it alone.
        println!("SIMULATION_SEED={seed}");
        random = Random::new(seed);
    }
}

fn options(random: &mut Random) -> Options {
    let mut one_of = |choices: [usize; 3]| choices[random.below(3)];
    Options {
        segment_bytes: one_of([2 << 10, 4 << 10, 16 << 10]) as u64,
        batch_bytes: one_of([1, 700, 4_000]),
        generation_entries: one_of([1, 5, 20]) as u64,
        window_bytes: one_of([1, 800, 1 << 20]),
        ..small()
    }
}

struct Life {
    world: World,
    memory: Memory,
    callers: Callers,
    random: Random,
}

impl Life {
    fn begin(mut random: Random) -> Self {
        let world = World::new(options(&mut random));
        Self { world, memory: Memory::new(1 << 30), callers: Callers::new(&mut random), random }
    }

    fn go_by(mut self) {
        for _ in 0..1 + self.random.below(EVENTS) {
            self.happen();
            if self.is_over() {
                self.end_somehow();
            }
        }
        self.world.write_all();
        if !self.is_over() {
            self.compare();
        }
        self.end_somehow();
        self.world.close();
        self.world.open();
        self.remember();
        self.compare();
    }

    /// True once the store has failed, or its machine has crashed, be it in what the store does not need.
    fn is_over(&self) -> bool {
        self.world.has_failed() || self.world.machine.disk.crashed()
    }

    fn happen(&mut self) {
        match self.random.below(24) {
            0..=8 => self.stage(),
            9..=13 => {
                self.world.write_next();
            }
            14 => self.world.seal(),
            15 => self.world.index_all(),
            16 => {
                self.world.core().index_next();
            }
            17 => {
                self.world.core().merge_next();
            }
            18 => self.world.core().keep_house(),
            19 if !self.is_over() => self.world.look(),
            19 => {}
            20 => {
                self.world.write_all();
                if !self.is_over() {
                    self.compare();
                }
            }
            21 => self.trouble(),
            22 => self.fill_up(),
            _ => self.end_somehow(),
        }
    }

    fn stage(&mut self) {
        let health = self.world.core().health.borrow().clone();
        match self.world.stage_next(&mut self.callers) {
            Ok((_, frame)) => {
                self.in_memory(frame);
            }
            Err(error) => assert_ne!(*self.world.core().health.borrow(), Health::Serving, "{error}, and it was {health:?}"),
        }
    }

    fn in_memory(&self, frame: Frame) -> Vec<Stored> {
        let appended = self.memory.append(None, Box::new(|_| Ok(frame))).now_or_never();
        appended.expect("it never waits").expect("it takes everything")
    }

    /// Something goes wrong soon.
    fn trouble(&mut self) {
        let (disk, nth) = (&self.world.machine.disk, 1 + self.random.below(6));
        match self.random.below(5) {
            0 => disk.crash_after(nth),
            1 => disk.fail_sync(nth, Errno::IO),
            2 => disk.fail_sync(nth, Errno::NOSPC),
            3 => disk.fail_write(nth, Errno::IO),
            _ => disk.shorten_write(nth, self.random.below(700).max(1)),
        }
    }

    /// The disk is full for a while.
    fn fill_up(&mut self) {
        self.world.machine.disk.limit(self.random.below(4_000) as u64);
        for _ in 0..self.random.below(8) {
            self.stage();
            self.world.write_next();
        }
        self.world.machine.disk.limit(ROOMY);
        if !self.is_over() {
            self.world.look();
            self.world.core().keep_house();
        }
        // What was refused is not in memory either.
        self.remember();
    }

    /// The process ends in one way or another, and begins anew.
    fn end_somehow(&mut self) {
        match self.random.below(3) {
            0 if !self.is_over() => {
                self.world.write_all();
                if self.is_over() {
                    return;
                }
                self.world.close();
                self.world.machine.disk.restart();
                self.world.open();
            }
            way => {
                self.world.kill();
                self.world.end(if way == 1 { End::Killed } else { End::PowerLoss }, &mut self.random);
                self.world.recover(&mut self.random);
            }
        }
        self.remember();
    }

    /// The memory knows what the log has, and nothing else.
    fn remember(&mut self) {
        self.memory = Memory::new(1 << 30);
        for stored in self.world.witness.with_staged() {
            self.in_memory(vec![(*stored.entry).clone()]);
        }
    }

    /// Both tell the same of what is durable.
    fn compare(&mut self) {
        if self.world.is_awaited() || *self.world.core().health.borrow() != Health::Serving {
            return;
        }
        let core = self.world.core().clone();
        let page = Page { entries: 1 + self.random.below(9), bytes: [1, 300, usize::MAX][self.random.below(3)] };
        for _ in 0..4 {
            let filter = filter(&mut self.random);
            let of_memory = read(|after| self.memory.scan(after, page, &filter).now_or_never().expect("it never waits"));
            let live = read(|after| scan(&core, after, page, &filter));
            let from_disk = read(|after| core.scan_log(after, page, &filter));
            assert_eq!(positions(&live), positions(&of_memory), "{filter:?}");
            assert_eq!(positions(&from_disk), positions(&of_memory), "{filter:?}");
            for (a, b) in live.iter().zip(&of_memory) {
                assert_eq!(a.entry.message, b.entry.message);
                assert_eq!(a.entry.previous_in_conversation, b.entry.previous_in_conversation);
            }
        }
        let known = read(|after| scan(&core, after, page, &crate::store::Filter::default()));
        let told = self.memory.append(
            None,
            Box::new(|facts| {
                Model(&known).assert_agrees(facts);
                Err(Violations::default())
            }),
        );
        told.now_or_never().expect("it never waits").expect_err("the stage refuses");
        for conversation in Model(&known).conversations() {
            let before = known.get(self.random.below(known.len())).map(|stored| stored.position);
            for before in [None, before, Some(Position(self.random.below(99) as u64))] {
                let of_memory = self.memory.history(&conversation, before, 5).now_or_never().expect("it never waits");
                let of_memory = of_memory.expect("can be read").map(|page| positions(&page));
                let found = core.history(&conversation, before, 5).expect("can be read").map(|page| positions(&page));
                assert_eq!(found, of_memory, "the history of {conversation} before {before:?}");
            }
        }
    }
}
