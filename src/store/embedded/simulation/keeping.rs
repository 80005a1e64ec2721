//! Rule 9: what is old goes, and what lives on is carried forward. Sessions that have not ended, and their customers, are told as if
//! every message were still there.

use super::super::options::Options;
use super::callers::Callers;
use super::dump::dump;
use super::machine::small;
use super::world::{End, World, scan};
use crate::pb;
use crate::pb::store::{DeliveryState, Endpoint, Entry, Session, Submission};
use crate::sessions;
use crate::store::conformance::{Model, belonging, planning, redriving, said, step};
use crate::store::random::Random;
use crate::store::{
    Delivery, DeliveryId, Error, Facts, Filter, Frame, Name, Page, Position, Progress, SessionKey, Stored, accepted_at,
    message_of, planned_at,
};
use futures::FutureExt as _;
use prost_types::Timestamp;
use std::collections::HashMap;
use std::sync::atomic::Ordering;

fn cramped() -> Options {
    Options { max_bytes: 16 << 10, ..small() }
}

/// A store, and all that was ever in it.
struct Kept {
    world: World,
    all: Vec<Stored>,
    callers: Callers,
}

impl Kept {
    fn new(random: &mut Random) -> Self {
        Self { world: World::new(cramped()), all: Vec::new(), callers: Callers::new(random) }
    }

    fn append(&mut self, frame: Frame) {
        self.world.append(frame);
        self.learn();
    }

    fn learn(&mut self) {
        let end = self.all.last().map_or(Position(0), |last| last.position);
        let known = &self.world.witness.known;
        self.all.extend(known.iter().filter(|stored| stored.position > end).cloned());
    }

    /// A frame in which each message tells its customer, as the gateway has it.
    fn frame(&mut self) -> Frame {
        let end = self.world.core().tail.lock().end;
        let mut frame = self.world.core().look(|facts| self.callers.frame_on(facts, end));
        for entry in frame.iter_mut().filter(|entry| entry.session.is_some()) {
            let customer = || pb::Customer { first_name: Some("unnamed".into()), ..pb::Customer::default() };
            entry.message.get_or_insert_default().header.get_or_insert_default().customer.get_or_insert_with(customer);
        }
        frame
    }

    /// Says something else until what was said first stands two segments before what comes next.
    fn go_on_for_two_segments(&mut self) {
        while self.world.core().segments.firsts().len() < 3 {
            self.append(vec![said(&format!("beside {}", self.all.len()))]);
        }
    }

    /// Appends until so much is there that some of it has to go.
    fn grow(&mut self) {
        let full = |world: &World| {
            let sizes = world.core().segments.sizes();
            sizes.iter().map(|(_, bytes)| bytes).sum::<u64>() > world.machine.options.max_bytes
        };
        while !full(&self.world) {
            let frame = self.frame();
            let first = self.world.core().tail.lock().end.next();
            self.callers.learn(first, &frame);
            self.append(frame);
        }
        self.world.index_all();
    }

    /// Sessions that go on are found in every way as if all entries were kept.
    fn check(&mut self) {
        self.world.look();
        self.learn();
        let mut sessions: HashMap<&str, &Session> = HashMap::new();
        sessions.extend(self.all.iter().filter_map(|stored| stored.entry.session.as_ref()).map(|s| (s.id.as_str(), s)));
        let (model, oldest) = (Model(&self.all), self.world.oldest());
        self.world.core().look(|facts| {
            for session in sessions.values().filter(|session| session.ended_at.is_none()) {
                assert_tells(facts, &model, session);
            }
            for id in model.planned() {
                // Dead letters and what is ephemeral go with the log.
                let open = |delivery: Option<Delivery>| delivery.map(|it| it.progress).filter(Progress::is_open);
                let planned = self.all.iter().find(|stored| stored.position == id.planned_at).expect("is known");
                let is_kept = !planned.entry.ephemeral || planned.position >= oldest;
                let expected = open(model.delivery(id)).filter(|_| is_kept);
                assert_eq!(open(facts.delivery(id)), expected, "{id:?} is open until it is settled");
            }
        });
        // What is to be delivered is still there.
        for id in model.planned() {
            let found = self.world.core().look(|facts| facts.delivery(id)).filter(|delivery| delivery.progress.is_open());
            let Some(delivery) = found else { continue };
            let carrier = self.world.core().entry(delivery.message).expect("can be read").expect("is kept");
            let planned = self.at(id.planned_at);
            let plan = planned.entry.deliveries.iter().find(|plan| plan.endpoint() == id.endpoint).expect("is planned");
            let accepted = if plan.message == 0 { planned } else { self.at(Position(plan.message)) };
            assert_eq!(message_of(&carrier.entry), accepted.entry.message.as_deref(), "{id:?}");
            assert_eq!(accepted_at(&carrier.entry), accepted.entry.accepted_at, "{id:?} is as old as it was");
            if carrier.entry.carried.is_some() {
                assert_eq!(planned_at(&carrier.entry), planned.entry.accepted_at, "{id:?} is as old as its redriving");
            }
        }
    }

    fn at(&self, position: Position) -> &Stored {
        self.all.iter().find(|stored| stored.position == position).expect("is known")
    }
}

fn assert_tells(facts: &dyn Facts, model: &Model<'_>, session: &Session) {
    let (id, key, customer) = (&session.id, SessionKey::of(session), &session.customer_id);
    assert_eq!(facts.session_and_position(id), model.session_and_position(id), "session {id}");
    assert_eq!(facts.latest_session(&key), model.latest_session(&key), "session of {key:?}");
    let conversation = &session.conversation_id;
    assert_eq!(facts.session_of_conversation(conversation), model.session_of_conversation(conversation), "{conversation}");
    assert_eq!(facts.customer(customer), model.customer(customer), "{customer}");
    assert_eq!(facts.active_conversation(customer), model.active_conversation(customer), "conversation of {customer}");
    let (channel_type, address) = (&session.channel_type, &session.channel_customer_identifier);
    assert_eq!(facts.customer_at(channel_type, address), model.customer_at(channel_type, address), "{channel_type} {address}");
}

#[test]
fn sessions_that_go_on_outlive_their_messages_in_their_order() {
    let random = &mut Random::seeded_by("SIMULATION_SEED");
    let mut kept = Kept::new(random);
    for _ in 0..6 {
        kept.grow();
        let oldest = kept.world.oldest();
        kept.world.keep_house();
        assert!(kept.world.oldest() > oldest, "nothing has gone");
        kept.check();
        kept.world.kill();
        kept.world.end(if random.coin() { End::Killed } else { End::PowerLoss }, random);
        kept.world.recover(random);
        kept.check();
    }
    let oldest = kept.world.oldest();
    kept.world.close();
    let live = dump(&kept.world.machine, oldest);
    kept.world.machine.remove_index();
    kept.world.open();
    kept.check();
    kept.world.close();
    assert_eq!(dump(&kept.world.machine, oldest), live, "an index that is made again is another");
}

/// The writer may have ended by then: what is staged after that nobody writes.
#[test]
fn what_is_to_be_carried_forward_while_the_store_is_closed_waits_for_nobody() {
    let random = &mut Random::seeded_by("SIMULATION_SEED");
    let mut kept = Kept::new(random);
    kept.grow();
    let core = kept.world.core().clone();
    core.stopping.store(true, Ordering::Release);
    // It returns, though nobody writes; and what lives on has not gone.
    core.keep_house();
    core.stopping.store(false, Ordering::Release);
    kept.check();
}

/// A session that was carried forward is told late, and its latest message is an early one.
#[test]
fn a_session_that_was_carried_forward_goes_before_none_with_a_later_message() {
    let random = &mut Random::seeded_by("SIMULATION_SEED");
    let mut kept = Kept::new(random);
    let of_one_customer = |conversation: &str| {
        let mut entry = belonging(conversation, conversation);
        entry.session.get_or_insert_default().customer_id = "one".into();
        vec![entry]
    };
    kept.append(of_one_customer("early"));
    // Early goes with its segment, and late stays.
    kept.go_on_for_two_segments();
    kept.append(of_one_customer("late"));
    let late = kept.world.witness.end();
    kept.grow();
    let index = kept.world.machine.index();
    kept.world.keep_house();
    assert!(kept.world.oldest() > Position(1) && kept.world.oldest() <= late, "{} is the oldest", kept.world.oldest());
    kept.world.kill();
    kept.world.end(End::Killed, random);
    // What was carried forward is replayed, and is in the tail.
    kept.world.machine.put_back(&index);
    kept.world.open();
    let meant = kept.world.core().look(|facts| (facts.session("session of early"), facts.active_conversation("one")));
    assert!(meant.0.is_some() && meant.1.as_deref() == Some("late"), "{meant:?}");
}

/// Its latest entry is a report, and stays for longer than the one by which it is ranked.
#[test]
fn a_session_that_is_only_reported_on_stays_where_it_stood_although_what_put_it_there_goes() {
    let random = &mut Random::seeded_by("SIMULATION_SEED");
    let mut kept = Kept::new(random);
    let on = |channel: &str, ranked_at: Position| {
        let mut entry = belonging(channel, "c");
        entry.session.get_or_insert_default().id = channel.into();
        entry.session.get_or_insert_default().customer_id = "one".into();
        vec![Entry { ranked_at: ranked_at.0, ..entry }]
    };
    let check = |kept: &Kept, when: &str| {
        let meant = kept.world.core().look(|facts| {
            let position = facts.session_and_position("left").map(|(position, _)| position);
            (facts.session_of_conversation("c").map(|session| session.id.clone()), position)
        });
        assert_eq!(meant, (Some("went on".into()), Some(Position(1))), "{when}");
    };
    kept.append(on("left", Position(0)));
    kept.append(on("went on", Position(0)));
    kept.go_on_for_two_segments();
    kept.append(on("left", Position(1)));
    let reported = kept.world.witness.end();
    check(&kept, "in the tail");
    kept.grow();
    check(&kept, "in the index");
    kept.world.keep_house();
    let oldest = kept.world.oldest();
    assert!(oldest > Position(2) && oldest <= reported, "{oldest} is the oldest");
    check(&kept, "once that has gone");
    kept.world.close();
    let live = dump(&kept.world.machine, oldest);
    kept.world.machine.remove_index();
    kept.world.open();
    check(&kept, "in an index that is made again");
    kept.world.close();
    assert_eq!(dump(&kept.world.machine, oldest), live);
    kept.world.open();
    // Then the report goes, too.
    while kept.world.oldest() <= reported {
        kept.grow();
        kept.world.keep_house();
    }
    check(&kept, "carried forward");
    kept.world.kill();
    kept.world.end(if random.coin() { End::Killed } else { End::PowerLoss }, random);
    kept.world.recover(random);
    check(&kept, "after a crash");
}

/// The step that tells what a provider calls a message has no message of its own, and may be the last that is told of a session.
#[test]
fn a_customer_is_kept_for_as_long_as_the_session_that_only_a_step_has_told_since() {
    let random = &mut Random::seeded_by("SIMULATION_SEED");
    let mut kept = Kept::new(random);
    let mut entry = belonging("said", "c");
    let session = entry.session.get_or_insert_default();
    session.customer_id = "one".into();
    let step = Entry { session: Some(session.clone()), about: 1, ..Entry::default() };
    let customer = pb::Customer { first_name: Some("Ada".into()), ..pb::Customer::default() };
    entry.message.get_or_insert_default().header.get_or_insert_default().customer = Some(customer);
    let check = |kept: &Kept, when: &str| {
        let known = kept.world.core().look(|facts| facts.customer("one"));
        assert_eq!(known.and_then(|known| known.customer.first_name.clone()).as_deref(), Some("Ada"), "{when}");
    };
    kept.append(vec![entry]);
    kept.go_on_for_two_segments();
    // Not through the world: whoever reads the log does not see it.
    let stage = Box::new(|facts: &dyn Facts| {
        let mut step = step;
        sessions::bring_up_to_date(&mut step, facts);
        Ok(vec![step])
    });
    let staged = kept.world.core().stage(None, stage).now_or_never().expect("there is room").expect("is accepted");
    assert!(kept.world.core().write_next());
    let told = staged.durable().now_or_never().expect("is written").expect("is durable")[0].position;
    kept.grow();
    kept.world.keep_house();
    let oldest = kept.world.oldest();
    assert!(oldest > Position(1) && oldest <= told, "{oldest} is the oldest");
    check(&kept, "once the message has gone");
    kept.world.close();
    kept.world.machine.remove_index();
    kept.world.open();
    check(&kept, "in an index that is made again");
    while kept.world.oldest() <= told {
        kept.grow();
        kept.world.keep_house();
    }
    check(&kept, "carried forward");
}

/// What is to be delivered, and of no use soon.
fn typing() -> Entry {
    planning(Entry { ephemeral: true, ..said("typing") }, &[Endpoint::Connector])
}

#[test]
fn what_is_ephemeral_goes_with_the_log_although_it_is_to_be_delivered() {
    let random = &mut Random::seeded_by("SIMULATION_SEED");
    let mut kept = Kept::new(random);
    kept.append(vec![typing(), planning(said("kept"), &[Endpoint::Connector])]);
    let ids = Model(&kept.all).planned();
    kept.grow();
    kept.world.keep_house();
    assert!(kept.world.oldest() > Position(2), "nothing has gone");
    let found = kept.world.core().look(|facts| [ids[0], ids[1]].map(|id| facts.delivery(id).is_some()));
    assert_eq!(found, [false, true]);
    kept.check();
}

/// A dead letter, the first entry of the log, which has grown since until some of it has to go.
fn with_a_dead_letter(random: &mut Random) -> (Kept, DeliveryId) {
    let mut kept = Kept::new(random);
    // Its session goes on, so that something has to be carried forward whatever happens.
    kept.append(vec![planning(belonging("dead", "c"), &[Endpoint::Connector])]);
    let dead = Model(&kept.all).planned()[0];
    kept.append(vec![Entry { delivery_steps: vec![step(dead, DeliveryState::Failed)], ..said("it failed") }]);
    kept.grow();
    (kept, dead)
}

/// Its plan is a late entry, and its message an early one.
#[test]
fn what_was_redriven_outlives_its_message_and_is_as_old_as_its_redriving() {
    let random = &mut Random::seeded_by("SIMULATION_SEED");
    for is_indexed in [true, false] {
        let (mut kept, dead) = with_a_dead_letter(random);
        kept.append(vec![redriving(dead, dead.planned_at, said("again"))]);
        let redriven = DeliveryId { planned_at: kept.world.witness.end(), ..dead };
        if is_indexed {
            kept.world.index_all();
        }
        kept.world.keep_house();
        let oldest = kept.world.oldest();
        assert!(oldest > dead.planned_at && oldest <= redriven.planned_at, "{oldest} is the oldest");
        kept.check();
        let end = if random.coin() { End::Killed } else { End::PowerLoss };
        kept.world.kill();
        kept.world.end(end, random);
        kept.world.recover(random);
        kept.check();
        // Then the entry goes that has planned it.
        while kept.world.oldest() <= redriven.planned_at {
            kept.grow();
            kept.world.keep_house();
        }
        kept.check();
        let is_open = kept.world.core().look(|facts| facts.is_open(redriven));
        assert!(is_open, "it is open until it is settled");
    }
}

#[test]
fn a_message_that_is_about_to_go_is_not_redriven_any_more() {
    let random = &mut Random::seeded_by("SIMULATION_SEED");
    let (mut kept, dead) = with_a_dead_letter(random);
    let core = kept.world.core().clone();
    std::thread::scope(|scope| {
        let keeper = scope.spawn(|| core.keep_house());
        // What is carried forward waits to be written.
        while core.tail.lock().batches.is_empty() && !keeper.is_finished() {
            std::thread::yield_now();
        }
        let refused = kept.world.stage(None, vec![redriving(dead, dead.planned_at, said("again"))]);
        assert!(matches!(refused, Err(Error::Expired { asked: Position(1), .. })), "{refused:?}");
        while !keeper.is_finished() {
            if !kept.world.write_next() && !core.index_next() {
                std::thread::yield_now();
            }
        }
    });
    assert!(kept.world.oldest() > Position(1), "nothing has gone");
    kept.check();
}

#[test]
fn a_message_is_redriven_after_all_once_what_was_to_let_go_of_it_has_failed() {
    let random = &mut Random::seeded_by("SIMULATION_SEED");
    let (mut kept, dead) = with_a_dead_letter(random);
    let core = kept.world.core().clone();
    // What is to be carried forward is looked for, and cannot be staged.
    core.stopping.store(true, Ordering::Release);
    core.keep_house();
    core.stopping.store(false, Ordering::Release);
    assert_eq!(kept.world.oldest(), Position(1), "something has gone");
    kept.append(vec![redriving(dead, dead.planned_at, said("again"))]);
    let redriven = DeliveryId { planned_at: kept.world.witness.end(), ..dead };
    kept.world.keep_house();
    let oldest = kept.world.oldest();
    assert!(oldest > dead.planned_at && oldest <= redriven.planned_at, "{oldest} is the oldest");
    assert!(kept.world.core().look(|facts| facts.is_open(redriven)), "it is open until it is settled");
    kept.check();
}

/// Whoever starts next may find the mark, and lets go of what is below it.
#[test]
fn a_message_below_a_mark_that_may_have_been_set_is_not_redriven_any_more() {
    let random = &mut Random::seeded_by("SIMULATION_SEED");
    let (mut kept, dead) = with_a_dead_letter(random);
    let control = rusqlite::Connection::open(kept.world.machine.files().control()).expect("can be opened");
    let refuses = "CREATE TRIGGER refuses BEFORE UPDATE ON meta BEGIN SELECT RAISE(ABORT, 'refused'); END";
    control.execute_batch(refuses).expect("can be changed");
    kept.world.keep_house();
    // Nor after another failure.
    kept.world.core().stopping.store(true, Ordering::Release);
    kept.world.core().keep_house();
    kept.world.core().stopping.store(false, Ordering::Release);
    assert_eq!(kept.world.oldest(), Position(1), "something has gone");
    let refused = kept.world.stage(None, vec![redriving(dead, dead.planned_at, said("again"))]);
    assert!(matches!(refused, Err(Error::Expired { asked: Position(1), .. })), "{refused:?}");
    control.execute_batch("DROP TRIGGER refuses").expect("can be changed");
    kept.world.keep_house();
    assert!(kept.world.oldest() > Position(1), "nothing has gone");
    kept.check();
}

/// What was staged may be refused by the disk: then it has not settled anything.
#[test]
fn what_is_settled_by_what_is_not_durable_keeps_its_message() {
    let mut kept = Kept::new(&mut Random::seeded_by("SIMULATION_SEED"));
    kept.append(vec![planning(said("open"), &[Endpoint::Connector])]);
    let open = Model(&kept.all).planned()[0];
    let bytes = |world: &World| world.core().segments.sizes().iter().map(|(_, bytes)| bytes).sum::<u64>();
    for i in 0.. {
        if bytes(&kept.world) > kept.world.machine.options.max_bytes {
            break;
        }
        kept.append(vec![said(&format!("beside {i}"))]);
    }
    kept.world.index_all();
    let settled = Entry { delivery_steps: vec![step(open, DeliveryState::Delivered)], ..said("settled") };
    // More than the rest of the segment, which may have its room already.
    let frame = std::iter::once(settled).chain((0..400).map(|i| said(&format!("refused {i}")))).collect();
    kept.world.machine.disk.limit(0);
    kept.world.stage(None, frame).expect("is accepted");
    kept.world.keep_house();
    assert_eq!(kept.world.oldest(), Position(1), "its message has gone");
    kept.world.machine.disk.limit(1 << 40);
    *kept.world.core().rejected.lock() = None;
    kept.world.keep_house();
    assert!(kept.world.oldest() > Position(1), "nothing has gone");
    assert!(kept.world.core().look(|facts| facts.is_open(open)));
    kept.check();
}

/// What retention does is cut short in each of its operations: carrying forward, the mark, the files. An index from before may come
/// back with a power loss.
#[test]
fn a_crash_while_old_messages_go_loses_nothing_that_lives_on() {
    let random = &mut Random::seeded_by("SIMULATION_SEED");
    let seed = random.below(usize::MAX) as u64;
    let mut crashes = 0;
    for nth in 1.. {
        let mut kept = Kept::new(&mut Random::new(seed));
        kept.append(vec![typing()]);
        kept.grow();
        kept.world.machine.disk.crash_after(nth);
        kept.world.keep_house();
        if !kept.world.machine.disk.crashed() {
            break;
        }
        crashes += 1;
        kept.learn();
        kept.world.kill();
        for end in [End::Killed, End::PowerLoss, End::PowerLoss] {
            let mut future = Kept { world: kept.world.future(), all: kept.all.clone(), callers: Callers::new(random) };
            future.world.end(end, random);
            future.world.recover(random);
            future.check();
            future.world.keep_house();
            future.check();
        }
    }
    assert!(crashes >= 4, "{crashes} operations are too few to tell anything");
}

#[test]
fn readers_of_what_goes_are_told_and_never_meet_a_gap() {
    let random = &mut Random::seeded_by("SIMULATION_SEED");
    let mut kept = Kept::new(random);
    kept.grow();
    let all = kept.all.clone();
    let page = Page { entries: 3, bytes: usize::MAX };
    let everything = Filter::default();
    let mut readers: Vec<_> = (0..all.len() as u64).map(Position).collect();
    kept.world.keep_house();
    let oldest = kept.world.oldest();
    for after in &mut readers {
        match scan(kept.world.core(), *after, page, &everything) {
            Ok(scan) => {
                assert!(after.next() >= oldest);
                assert_eq!(scan.entries[0].position, after.next(), "a gap after {after}");
            }
            Err(error) => assert_eq!(error, Error::Expired { asked: after.next(), oldest }),
        }
    }
    // What was looked up before it went.
    for gone in 1..oldest.0 {
        assert!(kept.world.core().entry(Position(gone)).expect("can be asked for").is_none());
    }
}

/// The session was told last by a message that is on its way while old messages go.
#[test]
fn a_session_whose_latest_message_is_lost_is_carried_forward_all_the_same() {
    let random = &mut Random::seeded_by("SIMULATION_SEED");
    for lose in [0, 1] {
        let mut kept = Kept::new(random);
        let mut entry = belonging("first", "c");
        entry.session.get_or_insert_default().customer_id = "nobody".into();
        kept.append(vec![entry.clone()]);
        kept.grow();
        // It is staged behind what retention stages, or before it, and it never gets to the disk.
        entry.message.get_or_insert_default().id = Some("second".into());
        kept.world.stage(None, vec![entry]).expect("is accepted");
        if lose == 0 {
            kept.world.machine.disk.crash_after(1);
        } else {
            kept.world.machine.disk.fail_write(1, rustix::io::Errno::NOSPC);
        }
        kept.world.keep_house();
        if lose == 0 {
            kept.world.kill();
            kept.world.end(End::PowerLoss, random);
            kept.world.recover(random);
        }
        kept.world.keep_house();
        assert!(kept.world.oldest() > Position(1), "nothing has gone");
        let goes_on = kept.world.core().look(|facts| facts.session("session of c").is_some());
        assert!(goes_on, "the session is lost");
    }
}

/// A client that sends one id with every message: its id stays taken while any of them is kept, and what is gone is not meant.
#[test]
fn an_id_stays_taken_while_one_of_its_messages_is_kept() {
    let mut world = World::new(Options { generation_entries: 64, ..cramped() });
    let sent = |i: usize| {
        let submission = Submission { id: "always".into(), fingerprint: vec![1, i as u8, 0, 0, 0], ..Submission::default() };
        let session = Session {
            ended_at: Some(Timestamp { seconds: i as i64 + 1, nanos: 0 }),
            ..belonging("", "c").session.unwrap_or_default()
        };
        Entry { submission: Some(submission.into()), session: Some(session), ..said(&format!("m{i}")) }
    };
    let mut i = 0;
    while world.core().segments.sizes().iter().map(|(_, bytes)| bytes).sum::<u64>() <= 16 << 10 {
        world.append(vec![sent(i)]);
        i += 1;
    }
    world.index_all();
    world.keep_house();
    assert!(world.oldest() > Position(8), "too little has gone");
    world.look();
    let (taken, _) = world.core().look_up_claim("always", &[1, 255, 0, 0, 0]).expect("can be read");
    assert!(taken, "the id is said to be free");
    world.core().look(|facts| {
        assert!(facts.named(Name::Message("m0")).is_none(), "a message that is gone is found");
        assert!(facts.named(Name::Message("always")).is_some_and(|named| named.session.is_some()));
    });
}

/// Runs of ids go while they are being merged.
#[test]
fn a_merge_whose_runs_go_meanwhile_is_given_up() {
    let random = &mut Random::seeded_by("SIMULATION_SEED");
    let mut kept = Kept {
        world: World::new(Options { generation_entries: 1, ..cramped() }),
        all: Vec::new(),
        callers: Callers::new(random),
    };
    for i in 0.. {
        let sizes = kept.world.core().segments.sizes();
        if sizes.iter().map(|(_, bytes)| bytes).sum::<u64>() > 16 << 10 {
            break;
        }
        kept.append(vec![said(&format!("m{i}"))]);
        kept.world.index_all();
    }
    assert!(kept.world.core().merge_next(), "there is nothing to merge");
    kept.world.keep_house();
    assert!(kept.world.oldest() > Position(1), "nothing has gone");
    while kept.world.core().merge_next() {}
    assert!(!kept.world.has_failed(), "{:?}", kept.world.core().health.borrow());
    kept.check();
    kept.world.close();
    kept.world.open();
    kept.check();
}
