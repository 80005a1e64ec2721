//! The hand-over between the log and the tray, at every step that it can be cut into, and with all cores at it.

use super::*;
use proptest::prelude::*;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a reader may want: everything, a channel, a conversation, a session, or a body's type, of which the index knows nothing.
const FILTERS: u8 = 5;

fn narrow(kind: u8) -> Filter {
    let mut wanted: [Vec<u8>; 6] = Default::default();
    if let Some(index) = usize::from(kind).checked_sub(1) {
        wanted[index] = vec![1];
    }
    filter(&wanted)
}

/// A reader, and what it was given.
struct Witness {
    reader: Subscription,
    filter: Filter,
    start: u64,
    seen: Vec<u64>,
    cursor: u64,
}

impl Witness {
    async fn new(gateway: &Gateway, kind: u8, start: Start) -> Self {
        let mut reader = gateway.listen(narrow(kind), start).await;
        let start = reader.heartbeat().await;
        Self { reader, filter: narrow(kind), start, seen: Vec::new(), cursor: start }
    }

    fn hears(&mut self, event: &Event) {
        let (Event::Notification(_, cursor) | Event::Heartbeat(cursor)) = event;
        assert!(cursor.position.0 >= self.cursor, "a cursor went back from {} to {}", self.cursor, cursor.position);
        if let Event::Notification(stored, _) = event {
            assert_eq!(stored.position, cursor.position);
            assert!(stored.position.0 > self.cursor, "{} after the cursor {}", stored.position, self.cursor);
            self.seen.push(stored.position.0);
        }
        self.cursor = cursor.position.0;
    }

    /// Checks that it was given all that it wants up to its cursor, once and in order, and nothing else.
    fn agrees_with(&self, log: &[Stored]) {
        let within = |stored: &&Stored| (self.start + 1..=self.cursor).contains(&stored.position.0);
        let wanted = log.iter().filter(within).filter(|stored| self.filter.matches(&stored.entry));
        let wanted: Vec<_> = wanted.map(|stored| stored.position.0).collect();
        assert_eq!(self.seen, wanted, "from {} to {} with {:?}", self.start, self.cursor, self.filter);
    }
}

#[derive(Debug, Clone)]
enum Step {
    /// Appends so many entries of these traits.
    Append(Traits, usize),
    /// Another reader comes, from the beginning or not.
    Subscribe(u8, bool),
    /// A reader looks whether there is something for it, so many times.
    Poll(usize, usize),
    /// A reader goes, and comes back with its cursor.
    Resume(usize),
    /// The matcher and the looks have their turn, so many times.
    Yield(usize),
    /// Time passes.
    Sleep(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let traits = [0..2_u8, 0..2_u8, 0..2_u8, 0..2_u8, 0..1_u8, 0..2_u8];
    prop_oneof![
        4 => (traits, 1..6_usize).prop_map(|(traits, count)| Step::Append(traits, count)),
        1 => (0..FILTERS, any::<bool>()).prop_map(|(kind, earliest)| Step::Subscribe(kind, earliest)),
        4 => (0..8_usize, 1..6_usize).prop_map(|(reader, times)| Step::Poll(reader, times)),
        1 => (0..8_usize).prop_map(Step::Resume),
        4 => (1..4_usize).prop_map(Step::Yield),
        1 => (0..20_u64).prop_map(Step::Sleep),
    ]
}

async fn walk(steps: &[Step], page: Page) {
    let settings = Settings { max_streams: 1000, heartbeat_skipped: 4, ..SETTINGS };
    let mut gateway = with(settings, Memory::new(64 << 20));
    gateway.feed.page = page;
    let mut witnesses: Vec<Witness> = Vec::new();
    for step in steps {
        match *step {
            Step::Append(traits, count) => {
                for _ in 0..count {
                    gateway.append(entry(traits)).await;
                }
            }
            Step::Subscribe(kind, earliest) => {
                let start = if earliest { Start::Earliest } else { Start::Latest };
                witnesses.push(Witness::new(&gateway, kind, start).await);
            }
            Step::Poll(reader, times) => {
                let Some(witness) = witnesses.get_mut(reader) else { continue };
                for _ in 0..times {
                    if let Some(event) = witness.reader.next().now_or_never() {
                        witness.hears(&event.expect("goes on"));
                    }
                }
                witness.agrees_with(&gateway.log().await);
            }
            Step::Resume(reader) => {
                let Some(witness) = witnesses.get_mut(reader) else { continue };
                let cursor = gateway.cursor(witness.cursor);
                witness.reader = gateway.listen(witness.filter.clone(), Start::After(cursor)).await;
            }
            Step::Yield(times) => {
                for _ in 0..times {
                    tokio::task::yield_now().await;
                }
            }
            Step::Sleep(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
        }
    }
    let log = gateway.log().await;
    let end = log.last().map_or(0, |stored| stored.position.0);
    for witness in &mut witnesses {
        while witness.cursor < end {
            let event = witness.reader.next().await.expect("goes on");
            witness.hears(&event);
        }
        witness.agrees_with(&log);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn whatever_happens_between_them_a_reader_is_given_what_it_wants_once_and_in_order(
        steps in proptest::collection::vec(step(), 1..80),
        entries in 1..4_usize,
        bytes in prop_oneof![Just(1), Just(usize::MAX)],
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("starts");
        runtime.block_on(walk(&steps, Page { entries, bytes }));
    }
}

/// The matcher lays out at full speed; a reader takes, and tells where it is whenever it may.
#[test]
fn a_live_reader_never_tells_a_position_before_it_was_given_what_lies_up_to_it() {
    const ENTRIES: u64 = 300_000;
    let roster = Roster::new(Position(0), u64::MAX);
    let tray = Arc::new(tray::Tray::new(Filter::default(), Page { entries: usize::MAX, bytes: usize::MAX }));
    assert_eq!(roster.join(&tray, Position(0), Position(0)), Ok(true));
    let entry = Arc::new(says("a"));
    let told = AtomicU64::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for first in (1..=ENTRIES).step_by(4) {
                let stored = |position| Stored { position: Position(position), entry: entry.clone() };
                let mut entries = (first..first + 4).map(stored).collect::<Vec<_>>().into_iter();
                roster.lay_out(&mut entries).into_iter().for_each(std::task::Waker::wake);
                // Lest it be done before the reader has begun.
                while told.load(Ordering::Relaxed) < first / 100 {
                    std::thread::yield_now();
                }
            }
        });
        let mut given = Position(0);
        while given < Position(ENTRIES) {
            match roster.tell(&tray, given) {
                Some(position) => {
                    assert_eq!(position, given, "what lies between was not given yet");
                    told.fetch_add(1, Ordering::Relaxed);
                }
                None => match tray.next().now_or_never() {
                    Some(tray::Taken::Entry(stored)) => given = stored.position,
                    other => panic!("what kept it from telling is there: {other:?}"),
                },
            }
        }
    });
}

/// Numbers that look random, the same for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

const WRITERS: u64 = 4;
const EACH: u64 = 1500;

/// Readers that stall at random, go and come back, beside writers at full speed.
async fn storm(seed: u64) {
    let settings = Settings { heartbeat: Duration::from_millis(20), heartbeat_skipped: 100, max_streams: 1000, cold_scans: 2 };
    let mut gateway = with(settings, Memory::new(256 << 20));
    // Small, so that it overflows often.
    gateway.feed.page = Page { entries: 16, ..PAGE };
    let gateway = Arc::new(gateway);
    let waits = Arc::new(AtomicU64::new(0));
    let readers: Vec<_> = (0..20_u8)
        .map(|number| {
            let (gateway, waits) = (gateway.clone(), waits.clone());
            let mut dice = Dice(seed ^ (u64::from(number) << 32) ^ 0x9e37_79b9_7f4a_7c15);
            tokio::spawn(async move {
                let mut durable = gateway.store.durable();
                let mut witness = Witness::new(&gateway, number % FILTERS, Start::Latest).await;
                while witness.cursor < WRITERS * EACH {
                    match dice.below(40) {
                        0 => {
                            let target = (durable.borrow().0 + dice.below(300)).min(WRITERS * EACH);
                            durable.wait_for(|durable| durable.0 >= target).await.expect("the store is there");
                        }
                        1 => {
                            let cursor = gateway.cursor(witness.cursor);
                            witness.reader = gateway.listen(witness.filter.clone(), Start::After(cursor)).await;
                        }
                        2 => tokio::task::yield_now().await,
                        3 => {
                            if let Some(event) = witness.reader.next().now_or_never() {
                                witness.hears(&event.expect("goes on"));
                            }
                        }
                        _ => {
                            let event = witness.reader.next().await.expect("goes on");
                            waits.fetch_add(1, Ordering::Relaxed);
                            witness.hears(&event);
                        }
                    }
                }
                witness
            })
        })
        .collect();
    let writers: Vec<_> = (0..WRITERS)
        .map(|number| {
            let gateway = gateway.clone();
            let mut dice = Dice(seed.wrapping_mul(number + 3) | 1);
            tokio::spawn(async move {
                for _ in 0..EACH {
                    let mut bit = || u8::try_from(dice.below(2)).expect("is a bit");
                    let traits = [bit(), bit(), bit(), bit(), 0, bit()];
                    gateway.append(entry(traits)).await;
                    if dice.below(8) == 0 {
                        tokio::task::yield_now().await;
                    }
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.expect("is content");
    }
    let log = gateway.log().await;
    assert_eq!(log.len() as u64, WRITERS * EACH);
    for reader in readers {
        let witness = tokio::time::timeout(Duration::from_secs(60), reader).await;
        let witness = witness.unwrap_or_else(|_| panic!("a reader never came to the end, with the seed {seed}"));
        witness.unwrap_or_else(|error| panic!("with the seed {seed}: {error}")).agrees_with(&log);
    }
    assert!(waits.load(Ordering::Relaxed) > WRITERS * EACH);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn with_all_cores_at_it_a_reader_is_given_what_it_wants_once_and_in_order() {
    for seed in 1..=6 {
        storm(seed).await;
    }
}
