//! A store on a machine, its callers, and a witness.

use super::super::core::Core;
use super::super::options::Options;
use super::callers::Callers;
use super::machine::{Machine, Snapshot};
use super::witness::Witness;
use crate::store::conformance::Model;
use crate::store::random::Random;
use crate::store::{AppendError, Claim, Error, Filter, Frame, Page, Position, Scan, Staged, Stored, clock};
use futures::FutureExt as _;
use std::sync::Arc;

/// Most crashes while a store recovers from a crash.
const RELAPSES: usize = 3;

/// Entries that are looked up one by one in a check.
const LOOKED_UP: usize = 8;

/// See the module.
#[derive(Debug)]
pub(super) struct World {
    pub(super) machine: Machine,
    pub(super) witness: Witness,
    core: Option<Arc<Core>>,
    /// Who waits for a frame, with the position of its first entry.
    waiting: Vec<(Position, Staged)>,
    /// States that the index was in, of which a power loss may bring one back; the oldest first.
    indexes: Vec<Snapshot>,
}

/// How a process ends that does not close its store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// It is killed: the system still has what it wrote.
    Killed,
    /// The machine loses power.
    PowerLoss,
}

impl World {
    /// A new store.
    pub(super) fn new(options: Options) -> Self {
        Self::on(Machine::new(options), Witness::default())
    }

    /// The store of a machine, of which the witness knows.
    pub(super) fn on(machine: Machine, witness: Witness) -> Self {
        let mut world = Self { machine, witness, core: None, waiting: Vec::new(), indexes: Vec::new() };
        world.open();
        world
    }

    pub(super) fn core(&self) -> &Arc<Core> {
        self.core.as_ref().expect("the store is open")
    }

    pub(super) fn has_failed(&self) -> bool {
        self.core().has_failed()
    }

    // What is done with a store

    /// Stages the next frame of callers, made of what the store tells, if it takes it; which, and where its first entry is.
    pub(super) fn stage_next(&mut self, callers: &mut Callers) -> Result<(Position, Frame), Error> {
        // What is told must not change any more until it is staged.
        self.make_room();
        let end = self.core().tail.lock().end;
        let frame = self.core().look(|facts| callers.frame_on(facts, end));
        let first = self.stage(None, frame.clone())?;
        callers.learn(first, &frame);
        Ok((first, frame))
    }

    /// As [`Self::append`], the next frame of callers.
    pub(super) fn append_next(&mut self, callers: &mut Callers) {
        self.stage_next(callers).expect("is accepted");
        self.write_staged();
    }

    fn make_room(&mut self) {
        while !self.core().tail.lock().has_room() && !self.has_failed() {
            let wrote = self.write_next();
            if !self.core().index_next() && !wrote {
                break;
            }
        }
    }

    /// Stages a frame, if the store takes it, and tells where its first entry is. Makes room for it before, if there is none.
    pub(super) fn stage(&mut self, claim: Option<Claim>, frame: Frame) -> Result<Position, Error> {
        self.make_room();
        let first = self.core().tail.lock().end.next();
        let staged = {
            let frame = frame.clone();
            self.core().stage(claim, Box::new(|_| Ok(frame))).now_or_never().expect("there is room")
        };
        match staged {
            Ok(staged) => {
                self.witness.staged(first, frame);
                self.waiting.push((first, staged));
                Ok(first)
            }
            Err(AppendError::Store(error)) => Err(error),
            Err(AppendError::Refused(violations)) => panic!("nobody refused: {violations:?}"),
        }
    }

    /// Claims an id, if nobody has it.
    pub(super) fn claim(&self, id: &str, fingerprint: &[u8]) -> Option<Claim> {
        let lease = self.core().claims.take(id).now_or_never()?;
        let (taken, same_content) = self.core().look_up_claim(id, fingerprint).expect("can be read");
        assert!(!taken || !self.core().is_certainly_new(id), "{id} is taken, and is said to be new");
        Some(Claim::new(taken, same_content, lease))
    }

    /// Writes the next batch, and hears what its callers are told.
    pub(super) fn write_next(&mut self) -> bool {
        let wrote = self.core().write_next();
        self.hear();
        wrote
    }

    /// Writes all that is staged. True if there was anything.
    pub(super) fn write_all(&mut self) -> bool {
        let mut wrote = false;
        while self.write_next() {
            wrote = true;
        }
        wrote
    }

    /// Notes that all is durable.
    pub(super) fn seal(&self) {
        if !self.has_failed() {
            self.core().seal();
        }
    }

    /// Takes all that is durable into the index.
    pub(super) fn index_all(&mut self) {
        let durable = self.core().tail.lock().durable;
        self.core().tail.lock().flush_to(durable);
        while self.core().index_next() {}
        self.indexes.push(self.machine.index());
    }

    /// Takes a frame in and has it acknowledged.
    pub(super) fn append(&mut self, frame: Frame) {
        self.stage(None, frame).expect("is accepted");
        self.write_staged();
    }

    fn write_staged(&mut self) {
        self.write_all();
        assert!(self.waiting.is_empty() && !self.has_failed(), "the frame was not written");
    }

    /// Looks after the house as its thread does, with the other threads at work meanwhile.
    pub(super) fn keep_house(&mut self) {
        let core = self.core().clone();
        std::thread::scope(|scope| {
            let keeper = scope.spawn(|| core.keep_house());
            while !keeper.is_finished() {
                if !self.write_next() && !core.index_next() {
                    std::thread::yield_now();
                }
            }
        });
    }

    /// True if callers wait for an answer.
    pub(super) fn is_awaited(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Each caller that waits hears its answer, if there is one.
    pub(super) fn hear(&mut self) {
        let failed = self.has_failed();
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting.retain_mut(|(first, staged)| {
            match (&mut staged.0).now_or_never() {
                None => {
                    assert!(!failed, "the store has failed, and the caller of {first} was not told");
                    return true;
                }
                Some(Ok(frame)) => {
                    assert!(frame[0].position == *first, "{first} was staged, {} was acknowledged", frame[0].position);
                    self.witness.was_told(&frame);
                }
                Some(Err(Error::Full { .. })) => self.witness.rejected(*first),
                Some(Err(Error::Unavailable { .. })) => assert!(failed, "unavailable, although nothing has failed"),
                Some(Err(other)) => panic!("an unexpected answer: {other}"),
            }
            false
        });
        self.waiting = waiting;
    }

    // How it ends, and begins again

    /// Closes the store in order: all is written, sealed and indexed.
    pub(super) fn close(&mut self) {
        self.write_all();
        self.seal();
        self.index_all();
        self.kill();
    }

    /// The process ends; a power loss may also take the index back.
    pub(super) fn end(&mut self, end: End, random: &mut Random) {
        self.kill();
        match end {
            End::Killed => self.machine.disk.restart(),
            End::PowerLoss => {
                self.machine.disk.power_loss(random);
                if random.coin() && !self.indexes.is_empty() {
                    // What came after it has never been.
                    self.indexes.truncate(random.below(self.indexes.len()) + 1);
                    self.machine.put_back(self.indexes.last().expect("one is left"));
                }
            }
        }
    }

    /// The process ends; what becomes of the machine is told by [`Self::end`].
    pub(super) fn kill(&mut self) {
        self.waiting.clear();
        self.core = None;
    }

    /// The world as it is after the process has ended, to try more than one future.
    pub(super) fn future(&self) -> Self {
        assert!(self.core.is_none(), "the process has not ended");
        Self {
            machine: self.machine.copy(),
            witness: self.witness.clone(),
            core: None,
            waiting: Vec::new(),
            indexes: self.indexes.clone(),
        }
    }

    /// Opens the store. All that must be there is, and it is as if nothing had happened.
    pub(super) fn open(&mut self) {
        self.read();
        self.check();
    }

    /// Opens the store and reads the log. What can be opened is sound, before and after.
    pub(super) fn read(&mut self) {
        let found = self.machine.survey();
        self.core = Some(self.machine.open().unwrap_or_else(|error| panic!("cannot be opened: {error}")));
        let left = self.machine.survey();
        assert!(found.damages.is_empty(), "fsck calls a sound store damaged: {:?}", found.damages);
        assert!(left.damages.is_empty(), "opening has damaged it: {:?}", left.damages);
        assert_eq!(left.unfinished, None, "opening leaves nothing that was cut short");
        self.see();
        self.witness.began_anew();
    }

    /// Opens the store, while the machine crashes some times more.
    pub(super) fn recover(&mut self, random: &mut Random) {
        for _ in 0..random.below(RELAPSES + 1) {
            self.machine.disk.crash_after(1 + random.below(8));
            match self.machine.open() {
                // Whatever it has, it has to keep.
                Ok(core) => {
                    self.core = Some(core);
                    if !self.machine.disk.crashed() {
                        self.see();
                        self.witness.began_anew();
                    }
                }
                Err(error) => assert!(self.machine.disk.crashed(), "cannot be opened: {error}"),
            }
            let end = if random.coin() { End::Killed } else { End::PowerLoss };
            self.end(end, random);
        }
        self.open();
    }

    // What is found in it

    /// The oldest position that is kept.
    pub(super) fn oldest(&self) -> Position {
        self.core().tail.lock().oldest
    }

    /// The log as a reader sees it.
    fn log(&self) -> Vec<Stored> {
        let page = Page { entries: 7, bytes: usize::MAX };
        let core = self.core();
        let everything = Filter::default();
        let live = read_from(self.oldest(), |after| scan(core, after, page, &everything));
        let from_disk = read_from(self.oldest(), |after| core.scan_log(after, page, &everything));
        assert_eq!(positions(&live), positions(&from_disk), "the window and the log differ");
        assert!(live.iter().zip(&from_disk).all(|(a, b)| a.entry == b.entry), "the window and the log differ");
        live
    }

    fn see(&mut self) {
        let log = self.log();
        let durable = *self.core().durable.borrow();
        assert!(log.last().is_none_or(|last| last.position <= durable), "readers see more than is durable");
        self.witness.let_go(self.oldest());
        self.witness.saw(&log);
    }

    /// Looks at all that can be seen now, and remembers it.
    pub(super) fn look(&mut self) {
        self.see();
        self.check();
    }

    /// Somebody is shown the entries up to `end`, one by one.
    pub(super) fn see_up_to(&mut self, end: Position) {
        let mut log = self.witness.known.clone();
        let shown = (self.witness.end().next().0..=end.0).map(|position| self.core().entry(Position(position)));
        log.extend(shown.map(|entry| entry.expect("can be read").expect("is shown")));
        self.witness.saw(&log);
    }

    /// What can be looked up follows from the log.
    pub(super) fn check(&self) {
        let core = self.core();
        if core.has_failed() {
            return;
        }
        let (known, all) = (&self.witness.known, self.witness.with_staged());
        if self.oldest() == Position(1) {
            // What was carried forward is told without a message; see `keeping`.
            core.look(|facts| Model(&all).assert_agrees(facts));
        }
        for conversation in Model(known).conversations() {
            match core.history(&conversation, None, usize::MAX) {
                Ok(history) => {
                    let history = positions(&history.expect("is known"));
                    assert_eq!(history, Model(known).history(&conversation), "the history of {conversation}");
                }
                // More is on its way than the window holds.
                Err(error) => assert!(error == Error::Busy && all.len() > known.len(), "no history: {error}"),
            }
        }
        for stored in known.iter().rev().step_by(known.len() / LOOKED_UP + 1) {
            let named = |id: &str| {
                let of_id = known.iter().find(|stored| stored.id() == id && !stored.entry.ephemeral);
                of_id.map(|stored| stored.position)
            };
            let id = stored.id();
            assert_eq!(core.message(id).expect("can be read").map(|found| found.position), named(id), "message {id}");
            self.check_claims(stored);
            let at = |stored: &Stored| clock::to_nanos(&stored.entry.accepted_at.expect("is filled in"));
            let before = core.before(at(stored)).expect("can be read");
            for other in known {
                assert_eq!(other.position <= before, at(other) < at(stored), "before {}: {before}", stored.position);
            }
        }
    }

    /// Who sends what was sent before is told so.
    fn check_claims(&self, sent: &Stored) {
        let fingerprint = sent.entry.submission.as_ref().map_or(&[][..], |submission| &submission.fingerprint);
        for id in [sent.id(), sent.claimed_id()] {
            let under = |stored: &&Stored| !stored.entry.ephemeral && (stored.id() == id || stored.claimed_id() == id);
            let taken = self.witness.known.iter().any(|stored| under(&stored));
            let same =
                self.witness.known.iter().rev().filter(under).find(|stored| {
                    stored.entry.submission.as_ref().is_some_and(|submission| submission.fingerprint == fingerprint)
                });
            let (found_taken, found_same) = self.core().look_up_claim(id, fingerprint).expect("can be read");
            assert_eq!(found_taken, taken, "whether {id} is taken");
            assert_eq!(found_same.map(|found| found.position), same.map(|same| same.position), "who has {id}");
        }
    }
}

/// One look through the log, as readers take it.
pub(super) fn scan(core: &Core, after: Position, page: Page, filter: &Filter) -> Result<Scan, Error> {
    match core.scan_window(after, page, filter)? {
        Some(scan) => Ok(scan),
        None => core.scan_log(after, page, filter),
    }
}

/// All entries that a reader gets who begins with the first.
pub(super) fn read(scan: impl Fn(Position) -> Result<Scan, Error>) -> Vec<Stored> {
    read_from(Position(1), scan)
}

fn read_from(oldest: Position, scan: impl Fn(Position) -> Result<Scan, Error>) -> Vec<Stored> {
    let (mut after, mut all) = (oldest.previous(), Vec::new());
    loop {
        let Scan { entries, reached } = scan(after).unwrap_or_else(|error| panic!("cannot be read after {after}: {error}"));
        all.extend(entries);
        if reached == after {
            return all;
        }
        after = reached;
    }
}

pub(super) fn positions(entries: &[Stored]) -> Vec<u64> {
    entries.iter().map(|stored| stored.position.0).collect()
}
