//! The format on disk: what was written once can be read for ever, and what a later version wrote is not guessed at.

use super::super::open::{Files, open_on};
use super::callers::Callers;
use super::machine::small;
use super::world::{World, read, scan};
use crate::pb;
use crate::store::disk::Directory;
use crate::store::random::Random;
use crate::store::registry::conformance::channel;
use crate::store::{Filter, Page, Stored, clock};
use futures::FutureExt as _;
use prost::Message as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Stores as versions of the format wrote them, without their index, each in a folder of its own; `entries.txt` tells what is in it.
/// Version 2 has the same log as version 1 and another control file; since version 3 it holds channels, since version 4 bookmarks,
/// and the log has deliveries.
fn samples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/store")
}

/// The version that this gateway writes.
const VERSION: &str = "v4";

const SAMPLED: [&str; 2] = ["control.db", "log"];

fn copy(from: &Path, to: &Path) {
    if from.is_dir() {
        std::fs::create_dir_all(to).expect("can be made");
        for file in std::fs::read_dir(from).expect("can be listed") {
            let file = file.expect("can be listed");
            copy(&file.path(), &to.join(file.file_name()));
        }
    } else {
        std::fs::copy(from, to).expect("can be copied");
    }
}

/// A line of what matters of an entry; a checksum stands for all of it.
fn line(stored: &Stored) -> String {
    let session = stored.entry.session.clone().unwrap_or_default();
    format!(
        "{} {:?} sent as {:?} at {} in {:?} of {:?} after {}, {:08x}\n",
        stored.position,
        stored.id(),
        stored.claimed_id(),
        clock::to_nanos(&stored.entry.accepted_at.unwrap_or_default()),
        session.id,
        session.conversation_id,
        stored.entry.previous_in_conversation,
        // Maps are written in any order: one entry has one number at most.
        crc32c::crc32c(&stored.entry.encode_to_vec()),
    )
}

/// What is in the store in `folder`.
fn told(folder: &Path) -> String {
    let log = Directory::new(&folder.join("log")).expect("can be opened");
    let files = Files { folder: folder.to_owned() };
    let core = open_on(Arc::new(log), &files, small(), &|_| {}).unwrap_or_else(|error| panic!("cannot be opened: {error}"));
    let page = Page { entries: 100, bytes: usize::MAX };
    let mut told: String = read(|after| scan(&core, after, page, &Filter::default())).iter().map(line).collect();
    for channel in core.control.channels().expect("can be read") {
        told.push_str(&format!("{:?} is the channel {:?}\n", channel.service_identifier, channel.id));
        assert_eq!(channel, registered(&channel.id), "its secrets, too");
    }
    told
}

/// A channel of a sample.
fn registered(id: &str) -> pb::Channel {
    channel(id, &format!("the channel {id}"))
}

#[test]
fn a_store_that_an_earlier_version_wrote_reads_as_it_did() {
    let samples = std::fs::read_dir(samples()).expect("they are there").map(|sample| sample.expect("can be listed").path());
    let mut versions = Vec::new();
    for sample in samples {
        let folder = tempfile::tempdir().expect("a folder can be made");
        for name in SAMPLED {
            copy(&sample.join(name), &folder.path().join(name));
        }
        let recorded = std::fs::read_to_string(sample.join("entries.txt")).expect("the sample is whole");
        assert_eq!(told(folder.path()), recorded, "{}", sample.display());
        versions.extend(sample.file_name().map(|name| name.to_string_lossy().into_owned()));
    }
    versions.sort_unstable();
    assert_eq!(versions, ["v1", "v2", "v3", VERSION]);
}

/// Writes the sample: by hand, once for each version of the format.
#[test]
#[ignore = "writes the sample of a new version of the format"]
fn write_the_sample() {
    let random = &mut Random::new(1);
    let folder = tempfile::tempdir().expect("a folder can be made");
    let log = Directory::new(&folder.path().join("log")).expect("can be made");
    let files = Files { folder: folder.path().to_owned() };
    let core = open_on(Arc::new(log), &files, small(), &|_| {}).expect("can be made");
    let mut callers = Callers::new(random);
    for i in 0..12 {
        let frame = callers.frame();
        let staged = core.stage(None, Box::new(|_| Ok(frame))).now_or_never().expect("there is room");
        drop(staged.expect("is accepted"));
        assert!(core.write_next());
        // So that there is room for the next.
        while core.index_next() {}
        if i % 4 == 3 {
            core.seal();
        }
    }
    core.control.put_channel(&registered("1")).expect("can be put");
    drop(core);
    let sample = samples().join(VERSION);
    assert!(!sample.exists(), "{} is there: what is written stays", sample.display());
    std::fs::create_dir_all(&sample).expect("can be made");
    for name in SAMPLED {
        copy(&folder.path().join(name), &sample.join(name));
    }
    std::fs::write(sample.join("entries.txt"), told(folder.path())).expect("can be written");
}

/// Changes a segment of a store that has ended, as a later version might have written it.
fn refusal(change: impl Fn(&mut [u8])) -> String {
    let mut world = World::new(small());
    world.append(vec![crate::store::conformance::said("a")]);
    world.kill();
    world.machine.disk.restart();
    let disk = world.machine.disk.disk();
    let file = disk.open("00000000000000000001.log").expect("is there");
    let mut bytes = world.machine.disk.content("00000000000000000001.log");
    change(&mut bytes);
    crate::store::disk::write_all(&*file, &bytes, 0).expect("can be written");
    world.machine.open().expect_err("is refused").to_string()
}

fn put(bytes: &mut [u8], at: usize, number: u32) {
    bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
}

fn check_up_to(bytes: &mut [u8], from: usize, at: usize) {
    let checksum = crc32c::crc32c(&bytes[from..at]);
    put(bytes, at, checksum);
}

/// Rule 7.
#[test]
fn what_a_later_version_wrote_is_refused() {
    let later_version = refusal(|bytes| {
        put(bytes, 8, 2);
        check_up_to(bytes, 0, 60);
    });
    let flags_of_segment = refusal(|bytes| {
        put(bytes, 12, 4);
        check_up_to(bytes, 0, 60);
    });
    let flags_of_batch = refusal(|bytes| {
        put(bytes, 512 + 36, 1);
        check_up_to(bytes, 512, 512 + 44);
    });
    let flags_of_record = refusal(|bytes| {
        bytes[512 + 48 + 4] |= 8;
        let length = u32::from_le_bytes([bytes[516], bytes[517], bytes[518], bytes[519]]) as usize;
        let checksum = crc32c::crc32c(&bytes[560..560 + length]);
        put(bytes, 512 + 20, checksum);
        check_up_to(bytes, 512, 512 + 44);
    });
    for (refusal, what) in [
        (later_version, "byte 0 on: needs a later version of the gateway: version 2"),
        (flags_of_segment, "byte 0 on: needs a later version of the gateway: flags of a segment 4"),
        (flags_of_batch, "byte 512 on: needs a later version of the gateway: flags of a batch 1"),
        (flags_of_record, "byte 512 on: needs a later version of the gateway: flags of a record 8"),
    ] {
        assert!(refusal.starts_with("00000000000000000001.log cannot be read from") && refusal.contains(what), "{refusal}");
    }
}
