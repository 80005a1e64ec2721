//! What is simulated does happen. What chance decides is tried with so many seeds that each outcome is met.

use super::content::SECTOR;
use crate::store::disk::{Directory, Disk, File, Simulated, write_all};
use crate::store::random::Random;
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::io;
use std::sync::Arc;

/// All that a power loss can leave.
fn left<T: Ord>(simulated: &Simulated, look: impl Fn(&Simulated) -> T) -> BTreeSet<T> {
    let lose = |seed| {
        let copy = simulated.copy();
        copy.power_loss(&mut Random::new(seed));
        look(&copy)
    };
    (0..300).map(lose).collect()
}

/// A file with this durable content, and a durable name.
fn written(simulated: &Simulated, name: &str, content: &[u8]) -> Arc<dyn File> {
    let disk = simulated.disk();
    let file = disk.create(name).unwrap();
    write_all(&*file, content, 0).unwrap();
    file.sync().unwrap();
    disk.sync().unwrap();
    file
}

/// The error that was asked for; what succeeds is not one.
fn errno<T: Debug>(result: io::Result<T>) -> Option<Errno> {
    Errno::from_io_error(&result.expect_err("it fails"))
}

fn text(simulated: &Simulated, name: &str) -> String {
    String::from_utf8(simulated.content(name)).unwrap()
}

#[test]
fn it_acts_as_a_folder_does() {
    let folder = tempfile::tempdir().unwrap();
    let real = Directory::new(folder.path()).unwrap();
    let disk = Simulated::new().disk();
    let random = &mut Random::seeded_by("DISK_SEED");
    let mut files: Vec<(Arc<dyn File>, Arc<dyn File>)> = Vec::new();
    for _ in 0..500 {
        let (name, other) = (["a", "b", "c"][random.below(3)], ["a", "b", "c"][random.below(3)]);
        let (offset, len) = (random.below(2000) as u64, random.below(1200));
        let outcome = |result: io::Result<()>| result.map_err(|error| error.kind());
        let mut opened = |real: io::Result<Arc<dyn File>>, simulated: io::Result<Arc<dyn File>>| match (real, simulated) {
            (Ok(real), Ok(simulated)) => files.push((real, simulated)),
            (real, simulated) => assert_eq!(outcome(simulated.map(|_| ())), outcome(real.map(|_| ()))),
        };
        match random.below(5) {
            0 => opened(real.create(name), disk.create(name)),
            1 => opened(real.open(name), disk.open(name)),
            2 => assert_eq!(outcome(disk.rename(name, other)), outcome(real.rename(name, other))),
            3 => assert_eq!(outcome(disk.remove(name)), outcome(real.remove(name))),
            _ => assert_eq!(outcome(disk.sync()), outcome(real.sync())),
        }
        let names = |disk: &dyn Disk| BTreeSet::from_iter(disk.list().unwrap());
        assert_eq!(names(&*disk), names(&real));
        if files.is_empty() {
            continue;
        }
        let (real, simulated) = &files[random.below(files.len())];
        if random.coin() {
            let bytes = vec![random.below(256) as u8; len];
            assert_eq!(simulated.write_at(&bytes, offset).unwrap(), real.write_at(&bytes, offset).unwrap());
        } else {
            real.set_len(offset).and_then(|()| simulated.set_len(offset)).unwrap();
        }
        let read = |file: &dyn File, offset| {
            let mut bytes = vec![0; 1500];
            (file.len().unwrap(), file.read_at(&mut bytes, offset).unwrap(), bytes)
        };
        for (real, simulated) in &files {
            assert_eq!(read(&**simulated, offset / 2), read(&**real, offset / 2));
        }
    }
}

#[test]
fn what_was_synced_stays() {
    let simulated = Simulated::new();
    let file = written(&simulated, "a", b"durable");
    file.set_len(3).unwrap();
    file.set_len(5).unwrap();
    file.sync().unwrap();
    assert_eq!(left(&simulated, |disk| text(disk, "a")), BTreeSet::from(["dur\0\0".to_owned()]));
}

#[test]
fn what_was_not_synced_may_be_lost_in_any_order() {
    let simulated = Simulated::new();
    let file = written(&simulated, "a", &[b'o'; 3 * SECTOR]);
    write_all(&*file, &[b'n'; 3 * SECTOR], 0).unwrap();
    let sectors = |disk: &Simulated| -> String {
        let content = disk.content("a");
        let whole = |sector: &[u8]| sector.iter().all(|byte| *byte == sector[0]).then_some(char::from(sector[0]));
        content.chunks(SECTOR).map(|sector| whole(sector).expect("a sector is written whole or not at all")).collect()
    };
    let any = ["ooo", "oon", "ono", "onn", "noo", "non", "nno", "nnn"];
    assert_eq!(left(&simulated, sectors), BTreeSet::from(any.map(str::to_owned)));
}

#[test]
fn a_length_that_was_not_synced_may_be_any_on_the_way() {
    let simulated = Simulated::new();
    let file = written(&simulated, "a", b"o");
    write_all(&*file, b"nnn", 0).unwrap();
    file.set_len(2).unwrap();
    let any = ["o", "o\0", "o\0\0", "n", "nn", "nn\0"];
    assert_eq!(left(&simulated, |disk| text(disk, "a")), BTreeSet::from(any.map(str::to_owned)));
}

#[test]
fn a_cut_that_was_not_synced_may_not_have_happened() {
    let simulated = Simulated::new();
    let file = written(&simulated, "a", b"old");
    file.set_len(0).unwrap();
    file.set_len(3).unwrap();
    let whole: BTreeSet<_> = left(&simulated, |disk| text(disk, "a")).into_iter().filter(|text| text.len() == 3).collect();
    assert_eq!(whole, BTreeSet::from(["old", "\0\0\0"].map(str::to_owned)));
}

#[test]
fn a_name_that_was_not_synced_may_be_gone() {
    let simulated = Simulated::new();
    let disk = simulated.disk();
    let file = disk.create("new").unwrap();
    write_all(&*file, b"durable", 0).unwrap();
    file.sync().unwrap();
    assert_eq!(left(&simulated, Simulated::names), BTreeSet::from([vec![], vec!["new".to_owned()]]));
    disk.sync().unwrap();
    assert_eq!(left(&simulated, |disk| text(disk, "new")), BTreeSet::from(["durable".to_owned()]));
}

#[test]
fn changes_of_names_that_were_not_synced_happen_in_any_order_but_of_one_name() {
    let simulated = Simulated::new();
    written(&simulated, "log", b"old");
    let new = written(&simulated, "new", b"new");
    let disk = simulated.disk();
    disk.rename("new", "log").unwrap();
    disk.remove("log").unwrap();
    disk.create("other").unwrap();
    assert_eq!(new.len().unwrap(), 3, "who has a file open can read it when its name is gone");
    let files = |disk: &Simulated| disk.names().iter().map(|name| format!("{name}={} ", text(disk, name))).collect::<String>();
    let any = ["", "other= ", "log=new ", "log=new other= ", "log=old new=new ", "log=old new=new other= "];
    assert_eq!(left(&simulated, files), BTreeSet::from(any.map(str::to_owned)));
}

#[test]
fn after_a_failed_sync_the_content_is_seen_but_a_power_loss_takes_it() {
    let simulated = Simulated::new();
    let (old, new) = ([b'o'; 2 * SECTOR], [b'n'; 2 * SECTOR]);
    let file = written(&simulated, "a", &old);
    write_all(&*file, &new, 0).unwrap();
    simulated.fail_sync(1, Errno::IO);
    assert_eq!(errno(file.sync()), Some(Errno::IO));
    simulated.restart();
    let again = simulated.disk().open("a").unwrap();
    again.sync().unwrap();
    assert_eq!(simulated.content("a"), new);
    assert_eq!(left(&simulated, |disk| disk.content("a")), BTreeSet::from([old.to_vec()]));
    // Only what is written anew is synced.
    write_all(&*again, &new[SECTOR..], SECTOR as u64).unwrap();
    again.sync().unwrap();
    assert_eq!(simulated.content("a"), new);
    assert_eq!(left(&simulated, |disk| disk.content("a")), BTreeSet::from([[&old[SECTOR..], &new[SECTOR..]].concat()]));
}

#[test]
fn after_a_failed_sync_of_names_a_later_one_keeps_them() {
    let simulated = Simulated::new();
    let disk = simulated.disk();
    disk.create("a").unwrap();
    simulated.fail_sync(1, Errno::NOSPC);
    assert_eq!(errno(disk.sync()), Some(Errno::NOSPC));
    assert_eq!(left(&simulated, Simulated::names).len(), 2);
    disk.sync().unwrap();
    assert_eq!(left(&simulated, Simulated::names).len(), 1);
}

#[test]
fn a_sync_that_lies_loses_what_it_promised() {
    let simulated = Simulated::new();
    let file = written(&simulated, "a", b"old");
    let lost = || left(&simulated, |disk| text(disk, "a")).contains("old");
    write_all(&*file, b"new", 0).unwrap();
    simulated.lie_at_sync(1);
    file.sync().unwrap();
    assert!(lost());
    file.sync().unwrap();
    assert!(!lost());

    simulated.lie(true);
    simulated.disk().create("b").unwrap();
    simulated.disk().sync().unwrap();
    assert_eq!(left(&simulated, Simulated::names).len(), 2);
}

#[test]
fn after_a_restart_all_is_seen_and_may_still_be_lost() {
    let simulated = Simulated::new();
    let file = written(&simulated, "a", b"old");
    write_all(&*file, b"new", 0).unwrap();
    simulated.restart();
    assert_eq!(text(&simulated, "a"), "new");
    assert_eq!(left(&simulated, |disk| text(disk, "a")), BTreeSet::from(["old", "new"].map(str::to_owned)));
}

#[test]
fn what_was_opened_in_an_earlier_life_is_dead() {
    for end_life in [Simulated::restart, |disk: &Simulated| disk.power_loss(&mut Random::new(0))] {
        let simulated = Simulated::new();
        let (disk, file) = (simulated.disk(), written(&simulated, "a", b"a"));
        end_life(&simulated);
        assert_eq!(errno(disk.list()), Some(Errno::IO));
        assert_eq!(errno(disk.remove("a")), Some(Errno::IO));
        assert_eq!(errno(file.len()), Some(Errno::IO));
        assert_eq!(errno(file.write_at(b"b", 0)), Some(Errno::IO));
        assert_eq!(errno(file.sync()), Some(Errno::IO));
        assert_eq!(simulated.disk().open("a").unwrap().len().unwrap(), 1);
        assert_eq!(text(&simulated, "a"), "a");
    }
}

#[test]
fn a_write_can_fail_or_be_short() {
    let simulated = Simulated::new();
    let file = written(&simulated, "a", b"......");
    simulated.shorten_write(1, 2);
    simulated.fail_write(2, Errno::IO);
    simulated.shorten_write(3, 1);
    assert_eq!(errno(write_all(&*file, b"first", 0)), Some(Errno::IO));
    assert_eq!(text(&simulated, "a"), "fi....");
    write_all(&*file, b"second", 0).unwrap();
    assert_eq!(text(&simulated, "a"), "second");
}

#[test]
fn a_full_disk_takes_what_fits() {
    let simulated = Simulated::new();
    let file = written(&simulated, "a", b"old");
    let disk = simulated.disk();
    simulated.limit(2);
    assert_eq!(disk.free().unwrap(), 2);
    assert_eq!(file.write_at(b"new...", 0).unwrap(), 5);
    assert_eq!(disk.free().unwrap(), 0);
    assert_eq!(errno(file.write_at(b".", 5)), Some(Errno::NOSPC));
    assert_eq!(errno(file.set_len(6)), Some(Errno::NOSPC));
    assert_eq!(file.write_at(b"newer", 0).unwrap(), 5, "what is there can be overwritten");
    disk.remove("a").unwrap();
    assert_eq!(disk.free().unwrap(), 5);
}

#[test]
fn damage_is_on_the_disk() {
    let simulated = Simulated::new();
    written(&simulated, "a", b"aaa");
    simulated.flip("a", 8 + 1);
    simulated.truncate("a", 2);
    assert_eq!(text(&simulated, "a"), "ac");
    assert_eq!(left(&simulated, |disk| text(disk, "a")), BTreeSet::from(["ac".to_owned()]));
}

#[test]
fn from_a_crash_on_everything_fails() {
    let live = |simulated: &Simulated| -> io::Result<()> {
        let disk = simulated.disk();
        let file = disk.create("new")?;
        write_all(&*file, b"text", 0)?;
        file.set_len(2)?;
        file.sync()?;
        disk.rename("new", "old")?;
        disk.sync()?;
        disk.remove("old")
    };
    let whole = Simulated::new();
    live(&whole).unwrap();
    assert_eq!(whole.operations(), 7);
    let seen = ["new=", "new=text", "new=te", "new=te", "old=te", "old=te", ""];
    for (nth, seen) in (1..).zip(seen) {
        let simulated = Simulated::new();
        let disk = simulated.disk();
        simulated.crash_after(nth);
        assert_eq!(errno(live(&simulated)), Some(Errno::IO));
        assert!(simulated.crashed());
        assert_eq!((errno(disk.list()), simulated.operations()), (Some(Errno::IO), nth));
        let survives = left(&simulated, |disk| disk.names() == ["old"]);
        // The rename is the fifth, and the sixth makes it durable; a sync that crashed has not.
        assert_eq!(survives, [BTreeSet::from([false]), BTreeSet::from([false, true])][usize::from(nth >= 5)]);
        simulated.restart();
        assert!(!simulated.crashed());
        let files: String = simulated.names().iter().map(|name| format!("{name}={}", text(&simulated, name))).collect();
        assert_eq!(files, seen);
    }
}
