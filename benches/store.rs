//! The embedded store against what the disk allows.
//!
//! `cargo bench --bench store` prints every figure with the floor that was measured in turns with it; `-- NAME...` measures only the
//! named ones:
//!
//! ```text
//! burst       512 callers against bare append and fdatasync of the same bytes by the same callers
//! alone       one caller against one fdatasync
//! sustained   512 callers for `--seconds` (600): the rate of each minute, what waits for the index, memory
//! open        an open loop at `--rate` messages a second for `--seconds` (30): how long acceptance takes
//! full        the same with `--messages` (10,000,000) stored: rate, restarts, cold scan, narrow readers
//! ```
//!
//! Every message has a client-made random id, and twenty share a session. `--dir` says where to work: a folder on a real disk.

use cim_gateway::feed::{Event, Feed, Settings, Start};
use cim_gateway::pb;
use cim_gateway::pb::store::{Entry, Session, Submission};
use cim_gateway::store::embedded::{self, Embedded, Options};
use cim_gateway::store::{Facts, Filter, Page, Position, SessionKey, Store as _};
use cim_gateway::wire;
use prost::Message as _;
use std::collections::HashSet;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

// As the program does.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Callers at a time.
const CALLERS: usize = 512;

/// Messages of one session.
const SESSION: u64 = 20;

/// Rounds of which the median counts.
const ROUNDS: usize = 5;

/// Messages of one burst: less than one generation, so that the index has nothing to do with it.
const BURST: u64 = 100_000;

struct Setup {
    dir: PathBuf,
    seconds: u64,
    rate: u64,
    messages: u64,
    quick: bool,
    names: HashSet<String>,
}

fn main() {
    let setup = Setup::from_arguments();
    let runtime = Runtime::new().expect("threads can be had");
    type Figure = fn(&Setup, &Runtime);
    if setup.names.contains("write-until-killed") {
        return write_until_killed(&setup, &runtime);
    }
    let figures: [(&str, Figure, bool); 5] = [
        ("burst", burst, true),
        ("alone", alone, true),
        ("open", open_loop, true),
        ("sustained", sustained, false),
        ("full", full, false),
    ];
    for (name, figure, by_default) in figures {
        if setup.names.contains(name) || (setup.names.is_empty() && by_default) {
            figure(&setup, &runtime);
        }
    }
}

impl Setup {
    fn from_arguments() -> Self {
        let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench").peekable();
        let mut setup = Self {
            dir: PathBuf::from(env!("CARGO_TARGET_TMPDIR")),
            seconds: 0,
            rate: 50_000,
            messages: 10_000_000,
            quick: false,
            names: HashSet::new(),
        };
        while let Some(argument) = arguments.next() {
            let mut number = || arguments.next().and_then(|text| text.parse().ok()).expect("needs a number");
            match argument.as_str() {
                "--quick" => setup.quick = true,
                "--seconds" => setup.seconds = number(),
                "--rate" => setup.rate = number(),
                "--messages" => setup.messages = number(),
                "--dir" => setup.dir = arguments.next().expect("needs a folder").into(),
                name => drop(setup.names.insert(name.to_owned())),
            }
        }
        setup
    }

    fn folder(&self) -> tempfile::TempDir {
        tempfile::tempdir_in(&self.dir).expect("a folder can be made")
    }

    fn rounds(&self) -> usize {
        if self.quick { 1 } else { ROUNDS }
    }

    fn seconds(&self, default: u64) -> Duration {
        let asked = if self.seconds > 0 { self.seconds } else { default };
        Duration::from_secs(if self.quick { 2 } else { asked })
    }
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

// What is sent

/// Makes entries as acceptance does: the typical message, another id each, a new session after every twentieth.
struct Sender {
    message: pb::CimMessage,
    session: Session,
    sent: u64,
}

impl Sender {
    fn new() -> Self {
        let json = include_bytes!("plain.json");
        let message = wire::decode(json, 64).expect("the sample is JSON").message;
        Self { message, session: Session::default(), sent: 0 }
    }

    /// The next entry, its id, and whether it is the first of its session.
    fn next(&mut self) -> (String, Entry, bool) {
        let opens = self.sent.is_multiple_of(SESSION);
        if opens {
            let id = || uuid::Uuid::now_v7().to_string();
            self.session = Session {
                id: id(),
                service_identifier: "6655".into(),
                channel_customer_identifier: uuid::Uuid::new_v4().to_string(),
                conversation_id: id(),
                customer_id: id(),
                channel_type: "6655".into(),
                opened_at: Some(std::time::SystemTime::now().into()),
                ..Session::default()
            };
        }
        self.sent += 1;
        let id = uuid::Uuid::new_v4();
        let mut message = self.message.clone();
        message.id = Some(id.to_string());
        let header = message.header.get_or_insert_default();
        header.channel_session_id = Some(self.session.id.clone());
        header.conversation_id = Some(self.session.conversation_id.clone());
        let channel = header.channel_data.get_or_insert_default();
        channel.channel_customer_identifier = Some(self.session.channel_customer_identifier.clone());
        let fingerprint = [&[1], &id.as_bytes()[..]].concat();
        let submission = Submission { id: id.to_string(), fingerprint, ..Submission::default() };
        let entry = Entry {
            message: Some(message.into()),
            session: Some(self.session.clone()),
            submission: Some(submission.into()),
            audiences: vec![pb::Audience::Platform.into()],
            ..Entry::default()
        };
        (id.to_string(), entry, opens)
    }
}

/// Sends the next message of a sender, as acceptance does: claims the id, looks the session up, appends.
async fn send(store: &Embedded, sender: &mut Sender) {
    let (id, entry, opens) = sender.next();
    let fingerprint = entry.submission.as_ref().map(|submission| submission.fingerprint.clone()).unwrap_or_default();
    let claim = store.claim(&id, &fingerprint).await.expect("the store is well");
    assert!(!claim.taken);
    let stage = Box::new(move |facts: &dyn Facts| {
        let session = entry.session.as_ref().expect("every message here has one");
        let known = facts.latest_session(&SessionKey::of(session));
        assert_eq!(known.is_none(), opens, "a session is there once it was opened");
        if opens {
            let _nobody = facts.customer_at(&session.channel_type, &session.channel_customer_identifier);
        } else {
            let _facts = facts.customer(&session.customer_id);
        }
        Ok(vec![entry])
    });
    store.append(Some(claim), stage).await.expect("is accepted");
}

fn open(folder: &Path, options: Options) -> Embedded {
    embedded::open(folder, options, &|_| {}).expect("the store opens")
}

/// Messages per second of all callers together, `count` in all.
fn closed_loop(runtime: &Runtime, store: &Embedded, count: u64) -> f64 {
    let left = Arc::new(AtomicU64::new(count));
    let began = Instant::now();
    runtime.block_on(async {
        let callers = (0..CALLERS).map(|_| {
            let (store, left) = (store.clone(), left.clone());
            tokio::spawn(async move {
                let mut sender = Sender::new();
                while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
                    send(&store, &mut sender).await;
                }
            })
        });
        for caller in callers.collect::<Vec<_>>() {
            caller.await.expect("a caller does not panic");
        }
    });
    count as f64 / began.elapsed().as_secs_f64()
}

// The floor

/// Appends and syncs what callers give it, as many at once as have come: nothing else.
struct Floor {
    sender: mpsc::Sender<(Vec<u8>, oneshot::Sender<()>)>,
}

impl Floor {
    fn start(folder: &Path) -> Self {
        let (sender, receiver) = mpsc::channel::<(Vec<u8>, oneshot::Sender<()>)>();
        let path = folder.join("floor");
        let (segment, most) = (Options::default().segment_bytes, Options::default().batch_bytes);
        let fill = move |number: u64| {
            let file = File::create(path.with_extension(number.to_string())).expect("a file can be made");
            let zeros = vec![0; 1 << 20];
            (0..segment).step_by(zeros.len()).for_each(|at| file.write_all_at(&zeros, at).expect("can be written"));
            file.sync_all().expect("can be synced");
            file
        };
        // Spare files are made beside, as ours are.
        let (spare, spares) = mpsc::sync_channel(1);
        std::thread::spawn(move || (0..).map(fill).all(|file| spare.send(file).is_ok()));
        std::thread::spawn(move || {
            let mut file = spares.recv().expect("one comes");
            let (mut offset, mut bytes, mut waiting) = (0, Vec::new(), Vec::new());
            while let Ok((first, caller)) = receiver.recv() {
                bytes.extend_from_slice(&first);
                waiting.push(caller);
                while bytes.len() < most
                    && let Ok((more, caller)) = receiver.try_recv()
                {
                    bytes.extend_from_slice(&more);
                    waiting.push(caller);
                }
                if offset + bytes.len() as u64 > segment {
                    file = spares.recv().expect("one comes");
                    offset = 0;
                }
                file.write_all_at(&bytes, offset).expect("can be written");
                file.sync_data().expect("can be synced");
                offset += bytes.len() as u64;
                bytes.clear();
                waiting.drain(..).for_each(|caller| {
                    let _gone = caller.send(());
                });
            }
        });
        Self { sender }
    }

    fn closed_loop(&self, runtime: &Runtime, count: u64) -> f64 {
        let left = Arc::new(AtomicU64::new(count));
        let began = Instant::now();
        runtime.block_on(async {
            let callers = (0..CALLERS).map(|_| {
                let (floor, left) = (self.sender.clone(), left.clone());
                tokio::spawn(async move {
                    let mut sender = Sender::new();
                    while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
                        // The same bytes, made by the same work.
                        let (_, entry, _) = sender.next();
                        let (done, told) = oneshot::channel();
                        floor.send((entry.encode_to_vec(), done)).expect("the floor is there");
                        told.await.expect("is written");
                    }
                })
            });
            for caller in callers.collect::<Vec<_>>() {
                caller.await.expect("a caller does not panic");
            }
        });
        count as f64 / began.elapsed().as_secs_f64()
    }
}

// The figures

fn burst(setup: &Setup, runtime: &Runtime) {
    let mut rounds = Vec::new();
    for _ in 0..=setup.rounds() {
        let folder = setup.folder();
        let store = open(&folder.path().join("ours"), Options::default());
        // The spare is there: as in a gateway that has been up for a second.
        std::thread::park_timeout(Duration::from_secs(1));
        let ours = closed_loop(runtime, &store, BURST);
        store.close();
        drop(store);
        let floor = Floor::start(folder.path());
        floor.closed_loop(runtime, CALLERS as u64);
        rounds.push((ours, floor.closed_loop(runtime, BURST)));
    }
    // The first warms up.
    rounds.remove(0);
    println!("burst of {BURST}, {CALLERS} callers");
    println!("  accepted per second                   {:>9.0}", median(rounds.iter().map(|round| round.0).collect()));
    println!("  bare append and fdatasync (floor)     {:>9.0}", median(rounds.iter().map(|round| round.1).collect()));
    println!("  x floor                               {:>9.2}", median(rounds.iter().map(|round| round.0 / round.1).collect()));
}

fn alone(setup: &Setup, runtime: &Runtime) {
    const COUNT: u32 = 2_000;
    let folder = setup.folder();
    let store = open(&folder.path().join("ours"), Options::default());
    let file = File::create(folder.path().join("floor")).expect("a file can be made");
    let zeros = vec![0; 1 << 20];
    (0..64).for_each(|at| file.write_all_at(&zeros, at << 20).expect("can be written"));
    file.sync_all().expect("can be synced");
    let bytes = Sender::new().next().1.encode_to_vec();
    let mut offset = 0;
    let mut rounds = Vec::new();
    for _ in 0..=setup.rounds() {
        let began = Instant::now();
        runtime.block_on(async {
            let mut sender = Sender::new();
            for _ in 0..COUNT {
                send(&store, &mut sender).await;
            }
        });
        let ours = began.elapsed() / COUNT;
        let began = Instant::now();
        for _ in 0..COUNT {
            file.write_all_at(&bytes, offset % (60 << 20)).expect("can be written");
            file.sync_data().expect("can be synced");
            offset += bytes.len() as u64;
        }
        rounds.push((ours.as_secs_f64() * 1e6, (began.elapsed() / COUNT).as_secs_f64() * 1e6));
    }
    rounds.remove(0);
    println!("one caller alone");
    println!("  accepted within, us                   {:>9.0}", median(rounds.iter().map(|round| round.0).collect()));
    println!("  one write and fdatasync, us (floor)   {:>9.0}", median(rounds.iter().map(|round| round.1).collect()));
    println!("  x floor                               {:>9.2}", median(rounds.iter().map(|round| round.0 / round.1).collect()));
}

/// `/proc/self/status`, in MiB.
fn memory(field: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("this is Linux");
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).expect("the field is there");
    line.trim().trim_end_matches("kB").trim().parse::<f64>().expect("a number") / 1024.0
}

fn anonymous() -> f64 {
    memory("RssAnon") + memory("RssShmem")
}

fn sustained(setup: &Setup, runtime: &Runtime) {
    let folder = setup.folder();
    // Old messages go, so that the disk need not hold everything that is sent.
    let options = Options { max_bytes: 8 << 30, min_age: Duration::ZERO, ..Options::default() };
    let store = open(&folder.path().join("ours"), options);
    let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    println!("sustained, {CALLERS} callers");
    println!("  {:>8} {:>12} {:>16} {:>12}", "second", "per second", "not indexed yet", "memory, MiB");
    let seconds = setup.seconds(600);
    runtime.block_on(async {
        let callers = (0..CALLERS).map(|_| {
            let (store, stop, sent) = (store.clone(), stop.clone(), sent.clone());
            tokio::spawn(async move {
                let mut sender = Sender::new();
                while !stop.load(Ordering::Relaxed) {
                    send(&store, &mut sender).await;
                    sent.fetch_add(1, Ordering::Relaxed);
                }
            })
        });
        let callers: Vec<_> = callers.collect();
        let began = Instant::now();
        let every = if seconds > Duration::from_secs(60) { Duration::from_secs(30) } else { Duration::from_secs(1) };
        let mut clock = tokio::time::interval(every);
        clock.tick().await;
        let mut before = 0;
        while began.elapsed() < seconds {
            clock.tick().await;
            let now = sent.load(Ordering::Relaxed);
            let rate = (now - before) as f64 / every.as_secs_f64();
            let (second, waiting) = (began.elapsed().as_secs(), store.not_indexed());
            println!("  {second:>8} {rate:>12.0} {waiting:>16} {:>12.0}", anonymous());
            before = now;
        }
        stop.store(true, Ordering::Relaxed);
        for caller in callers {
            caller.await.expect("a caller does not panic");
        }
        let rate = sent.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64();
        println!("  accepted per second, all in all       {rate:>9.0}");
    });
    store.close();
}

/// Sends `rate` messages a second, whatever becomes of those before; how long each took, sorted.
async fn open_at(store: &Embedded, rate: u64, time: Duration) -> Vec<Duration> {
    let began = Instant::now();
    let total = rate * time.as_secs();
    let next = Arc::new(AtomicU64::new(0));
    // Each message has its time, and who is free sends it then. If nobody is, it is late, and that counts.
    let callers = (0..CALLERS).map(|_| {
        let (store, next) = (store.clone(), next.clone());
        tokio::spawn(async move {
            let (mut sender, mut took) = (Sender::new(), Vec::new());
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= total {
                    return took;
                }
                let meant = began + Duration::from_secs_f64(number as f64 / rate as f64);
                tokio::time::sleep_until(meant.into()).await;
                send(&store, &mut sender).await;
                took.push(meant.elapsed());
            }
        })
    });
    let callers: Vec<_> = callers.collect();
    let mut took = Vec::new();
    for caller in callers {
        took.extend(caller.await.expect("nobody panics"));
    }
    took.sort_unstable();
    took
}

fn tell_times(took: &[Duration]) {
    let at = |part: f64| took[((took.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e3;
    println!("  accepted within, ms: p50 {:.2}, p99 {:.2}, p999 {:.2}, most {:.2}", at(0.5), at(0.99), at(0.999), at(1.0));
}

fn open_loop(setup: &Setup, runtime: &Runtime) {
    let folder = setup.folder();
    let options = Options { max_bytes: 8 << 30, min_age: Duration::ZERO, ..Options::default() };
    let store = open(&folder.path().join("ours"), options);
    runtime.block_on(open_at(&store, setup.rate, Duration::from_secs(2)));
    let took = runtime.block_on(open_at(&store, setup.rate, setup.seconds(30)));
    println!("open loop, {} a second", setup.rate);
    tell_times(&took);
    store.close();
}

fn full(setup: &Setup, runtime: &Runtime) {
    let folder = setup.folder();
    let ours = folder.path().join("ours");
    let options = Options::default();
    let store = open(&ours, options);
    let empty = closed_loop(runtime, &store, 500_000);
    let rest = if setup.quick { 100_000 } else { setup.messages - 1_000_000 };
    closed_loop(runtime, &store, rest);
    let filled = closed_loop(runtime, &store, 500_000);
    println!("with {} messages stored", setup.messages);
    println!("  accepted per second, empty            {empty:>9.0}");
    println!("  accepted per second, full             {filled:>9.0}");
    println!("  full / empty                          {:>9.2}", filled / empty);
    println!("  memory, MiB                           {:>9.0}", anonymous());
    store.close();
    drop(store);

    let began = Instant::now();
    let store = open(&ours, options);
    println!("  open after a clean stop, s            {:>9.2}", began.elapsed().as_secs_f64());
    store.close();
    drop(store);
    killed(setup, &ours);
    let began = Instant::now();
    let store = open(&ours, options);
    println!("  open after kill -9, s                 {:>9.2}", began.elapsed().as_secs_f64());

    cold_scan(runtime, &store, &ours);
    narrow_readers(setup, runtime, &store);
    store.close();
    drop(store);

    for suffix in ["", "-wal", "-shm"] {
        let _may_be_gone = std::fs::remove_file(ours.join(format!("index.db{suffix}")));
    }
    std::fs::remove_dir_all(ours.join("index.db-ids")).expect("is there");
    let began = Instant::now();
    let store = open(&ours, options);
    let rate = store.span().end.0 as f64 / began.elapsed().as_secs_f64();
    println!("  index made again, messages a second   {rate:>9.0}");
    store.close();
}

/// Another process writes to the store and is killed.
fn killed(setup: &Setup, ours: &Path) {
    let this = std::env::current_exe().expect("this program has a path");
    let mut child = Command::new(this).arg("write-until-killed").arg("--dir").arg(ours).spawn().expect("it runs");
    std::thread::park_timeout(Duration::from_secs(if setup.quick { 2 } else { 5 }));
    child.kill().expect("can be killed");
    child.wait().expect("can be waited for");
}

fn write_until_killed(setup: &Setup, runtime: &Runtime) {
    let store = open(&setup.dir, Options::default());
    loop {
        closed_loop(runtime, &store, 100_000);
    }
}

/// Reads everything once; the floor is what `cat` needs for the same files. Neither finds them in the memory of the system.
fn cold_scan(runtime: &Runtime, store: &Embedded, ours: &Path) {
    let log = ours.join("log");
    let drop_caches = || {
        let _synced = Command::new("sync").status();
        std::fs::write("/proc/sys/vm/drop_caches", "3").is_ok()
    };
    let cold = drop_caches();
    let began = Instant::now();
    let cat = Command::new("sh").arg("-c").arg(format!("cat {}/*.log > /dev/null", log.display())).status();
    assert!(cat.is_ok_and(|status| status.success()), "cat reads the log");
    let floor = began.elapsed();
    drop_caches();
    let began = Instant::now();
    let page = Page { entries: 4096, bytes: 4 << 20 };
    let read = runtime.block_on(async {
        let (mut after, mut read) = (store.span().oldest.previous(), 0);
        loop {
            let scan = store.scan(after, page, &Filter::default()).await.expect("can be read");
            if scan.reached == after {
                return read;
            }
            read += scan.entries.len();
            after = scan.reached;
        }
    });
    let ours = began.elapsed();
    let temperature = if cold { "cold" } else { "warm (caches cannot be dropped here)" };
    println!("  scan of {read} messages, {temperature}, s  {:>9.2}", ours.as_secs_f64());
    println!("  cat of the files, s (floor)           {:>9.2}", floor.as_secs_f64());
    println!("  x floor                               {:>9.2}", floor.as_secs_f64() / ours.as_secs_f64());
}

/// A thousand readers who each want one conversation, from the beginning, while messages are accepted.
fn narrow_readers(setup: &Setup, runtime: &Runtime, store: &Embedded) {
    let rate = setup.rate;
    let took = runtime.block_on(async {
        let done = Arc::new(AtomicU64::new(0));
        let settings = Settings {
            heartbeat: Duration::from_secs(15),
            heartbeat_skipped: 10_000,
            max_streams: 1_000,
            // As many at a time as a gateway lets through.
            cold_scans: 2,
        };
        let (feed, matcher) = Feed::new(Arc::new(store.clone()), settings, CancellationToken::new());
        let matcher = tokio::spawn(matcher.run());
        let end = store.span().end;
        // Looked up before anything is measured: it is no part of what a reader does.
        let mut conversations = Vec::new();
        for reader in 0..1_000 {
            let position = Position(1 + reader * end.0 / 1_000);
            let page = Page { entries: 1, bytes: 0 };
            let one = store.read(position.previous(), page).await.expect("can be read");
            let session = one.first().and_then(|stored| stored.entry.session.as_ref()).expect("has one");
            conversations.push(session.conversation_id.clone());
        }
        let readers = conversations.into_iter().map(|conversation| {
            let (feed, done) = (feed.clone(), done.clone());
            tokio::spawn(async move {
                let filter = Filter { conversation_ids: [conversation].into(), ..Filter::default() };
                let mut reader = feed.subscribe(filter, Start::Earliest, None).await.expect("there is a place");
                let mut found = 0;
                while reader.cursor().position < end {
                    found += usize::from(matches!(reader.next().await, Ok(Event::Notification(..))));
                }
                assert!(found > 0, "a conversation is found");
                done.fetch_add(1, Ordering::Relaxed);
            })
        });
        let readers: Vec<_> = readers.collect();
        let began = Instant::now();
        let took = open_at(store, rate, setup.seconds(30)).await;
        println!(
            "  narrow readers from earliest: {} of 1000 done after {:.0} s",
            done.load(Ordering::Relaxed),
            began.elapsed().as_secs_f64()
        );
        readers.iter().for_each(tokio::task::JoinHandle::abort);
        matcher.abort();
        took
    });
    println!("  meanwhile at {rate} a second:");
    tell_times(&took);
}
