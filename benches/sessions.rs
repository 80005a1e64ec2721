//! What it costs to watch a million open sessions for their expiry: `cargo bench --bench sessions -- [--dir FOLDER]`, a folder on a
//! real disk.

use cim_gateway::pb::CimMessage;
use cim_gateway::pb::store::{Entry, Session};
use cim_gateway::sessions::{Expiry, Timeouts};
use cim_gateway::store::Store as _;
use cim_gateway::store::embedded::{self, Options};
use prost_types::Timestamp;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio_util::sync::CancellationToken;

// As the program does.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SESSIONS: usize = 1_000_000;

/// Sessions that are opened at once.
const FRAME: usize = 1000;

/// Time without growth after which all sessions are watched.
const SETTLED: Duration = Duration::from_secs(3);

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime can be built");
    if let Some(folder) = argument("--watch") {
        return runtime.block_on(watch(&folder));
    }
    let folder = tempfile::tempdir_in(argument("--dir").unwrap_or_else(std::env::temp_dir)).expect("a folder can be made");
    println!("Watching {SESSIONS} open sessions, embedded store");
    let engine = embedded::open(folder.path(), Options::default(), &|_| {}).expect("can be opened");
    runtime.block_on(open_all(&engine));
    engine.close();
    let index = std::fs::metadata(folder.path().join("index.db")).expect("is there").len();
    println!("  index.db, of each session                 {:>9} bytes", index as usize / SESSIONS);
    drop(engine);
    // In a process of its own: this one has memory to use again.
    let own = std::env::current_exe().expect("is known");
    let watched = std::process::Command::new(own).arg("--watch").arg(folder.path()).status().expect("can be run");
    assert!(watched.success());
}

/// The value of an option.
fn argument(name: &str) -> Option<PathBuf> {
    std::env::args().skip_while(|argument| argument != name).nth(1).map(PathBuf::from)
}

async fn watch(folder: &Path) {
    let engine = embedded::open(folder, Options::default(), &|_| {}).expect("can be opened");
    let timeouts: Timeouts = Arc::new(|_| Some(Duration::from_secs(24 * 60 * 60)));
    let Some(before) = resident() else { return };
    let began = Instant::now();
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(Expiry::new(Arc::new(engine.clone()), timeouts, shutdown.clone()).run());
    let (mut most, mut grown) = (before, began);
    while grown.elapsed() < SETTLED {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = resident().unwrap_or_default();
        if now > most {
            (most, grown) = (now, Instant::now());
        }
    }
    println!("  until all are watched                     {:>9.2} s", (grown - began).as_secs_f64());
    println!("  memory for all, at most                   {:>9} MiB", (most - before) >> 20);
    shutdown.cancel();
    running.await.expect("does not panic");
    engine.close();
}

async fn open_all(engine: &embedded::Embedded) {
    let mut staged = Vec::new();
    for number in 0..SESSIONS / FRAME {
        let frame = (0..FRAME).map(|i| opened(number * FRAME + i)).collect();
        let frame = loop {
            let again: Vec<Entry> = Vec::clone(&frame);
            match engine.stage(None, Box::new(|_| Ok(again))).await {
                Ok(staged) => break staged,
                // The index has to catch up.
                Err(cim_gateway::store::AppendError::Store(cim_gateway::store::Error::Busy)) => {}
                Err(error) => panic!("{error}"),
            }
        };
        staged.push(frame);
    }
    for frame in staged {
        frame.durable().await.expect("can be written");
    }
}

fn opened(number: usize) -> Entry {
    let now = Timestamp::from(SystemTime::now());
    let id = || cim_gateway::message::fresh_id();
    let session = Session {
        id: id(),
        service_identifier: "6655".into(),
        channel_customer_identifier: format!("49151{number:08}"),
        conversation_id: id(),
        customer_id: id(),
        channel_type: "6655".into(),
        opened_at: Some(now),
        ..Session::default()
    };
    let message = CimMessage { id: Some(id()), ..CimMessage::default() };
    Entry { message: Some(message.into()), session: Some(session), last_activity: Some(now), ..Entry::default() }
}

/// Bytes of memory of this process, without what it has of files; none where the system does not tell.
fn resident() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    line.trim().trim_end_matches("kB").trim().parse::<usize>().ok().map(|kib| kib * 1024)
}
