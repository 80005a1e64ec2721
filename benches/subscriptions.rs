//! What it costs to acknowledge, with the embedded store: `cargo bench --bench subscriptions -- [--dir FOLDER]`, a folder on a real
//! disk.
//!
//! The floor is one write of a page and its `fdatasync` in the same folder.

use cim_gateway::feed::{self, Feed};
use cim_gateway::pb::store::Entry;
use cim_gateway::store::bookmarks::Bookmarks;
use cim_gateway::store::embedded::{self, Options};
use cim_gateway::store::{Cursor, Filter, Position, Store as _};
use cim_gateway::subscriptions::{Reader, Request, Settings, Subscriptions};
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

// As the program does.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Names that acknowledge at a time.
const NAMES: usize = 1000;

/// How long each figure is measured.
const WHILE: Duration = Duration::from_secs(5);

fn main() {
    let mut arguments = std::env::args().skip_while(|argument| argument != "--dir").skip(1);
    let dir = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = tempfile::tempdir_in(dir).expect("a folder can be made");
    println!("Acknowledging, embedded store");
    println!("  one fdatasync (floor)                     {:>9.3} ms", floor(folder.path()).as_secs_f64() * 1000.0);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime can be built");
    for (names, interval) in [(1, 0), (NAMES, 0), (1, 50), (NAMES, 50)] {
        let data = folder.path().join(format!("{names}-{interval}"));
        let (acknowledged, each) = runtime.block_on(measure(&data, names, Duration::from_millis(interval)));
        let label = format!("{names} {}, a write in {interval} ms at most", if names == 1 { "name" } else { "names" });
        println!("  {label:<41} {acknowledged:>9.0} a second, {:>7.3} ms each", each.as_secs_f64() * 1000.0);
    }
}

/// The median of many.
fn floor(folder: &Path) -> Duration {
    let file = File::create(folder.join("floor")).expect("can be made");
    let mut times: Vec<_> = (0..200)
        .map(|_| {
            let began = Instant::now();
            file.write_all_at(&[1; 4096], 0).expect("can be written");
            file.sync_data().expect("can be synced");
            began.elapsed()
        })
        .collect();
    times.sort_unstable();
    times[times.len() / 2]
}

/// How many acknowledgements a second are durable, of names that each wait for one before the next; and how long one takes.
async fn measure(data: &Path, names: usize, write_interval: Duration) -> (f64, Duration) {
    let options = Options { segment_bytes: 1 << 20, min_free: 0, ..Options::default() };
    let engine = embedded::open(data, options, &|_| {}).expect("can be opened");
    let store = Arc::new(engine.clone());
    let entries = (0..1000).map(|_| Entry { message: Some(Box::default()), ..Entry::default() }).collect();
    store.append(None, Box::new(|_| Ok(entries))).await.expect("can be appended");
    let settings = feed::Settings { heartbeat: Duration::MAX, heartbeat_skipped: u64::MAX, max_streams: names, cold_scans: 2 };
    let (feed, _matcher) = Feed::new(store.clone(), settings, CancellationToken::new());
    let bookmarks: Arc<dyn Bookmarks> = store.clone();
    let opened = Subscriptions::open(feed, store.clone(), bookmarks, Settings { max: names, write_interval }).await;
    let (subscriptions, writer) = opened.expect("can be read");
    tokio::spawn(writer.run());
    let attaching = (0..names).map(|number| subscriptions.subscribe(request(&format!("name-{number}"))));
    let readers: Vec<Reader> =
        futures::future::join_all(attaching).await.into_iter().map(|reader| reader.expect("can be attached")).collect();
    let span = store.span();
    let began = Instant::now();
    let acknowledging = readers.iter().enumerate().map(|(number, reader)| {
        let (name, generation) = (format!("name-{number}"), reader.generation().expect("has a name"));
        let subscriptions = subscriptions.clone();
        tokio::spawn(async move {
            let mut count = 0_usize;
            while began.elapsed() < WHILE {
                let cursor = Cursor { epoch: span.epoch, position: Position(1 + count as u64 % span.end.0) };
                subscriptions.acknowledge(&name, generation, cursor).await.expect("is the reader");
                count += 1;
            }
            count
        })
    });
    let counts = futures::future::join_all(acknowledging).await;
    let count: usize = counts.into_iter().map(|count| count.expect("does not panic")).sum();
    let elapsed = began.elapsed();
    engine.close();
    (count as f64 / elapsed.as_secs_f64(), elapsed.mul_f64(names as f64 / count as f64))
}

fn request(name: &str) -> Request {
    let name = Some(name.parse().expect("is a name"));
    Request { name, filter: Filter::default(), start: None, reset: false, heartbeat: None }
}
