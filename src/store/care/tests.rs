//! What an operator does to a store, and what disks do to it.

use super::*;
use crate::pb::store::{DeliveryState, Endpoint, Entry};
use crate::store::conformance::{Life, Model, append, belonging, history, live, log as read, look, planning};
use crate::store::embedded::{self, Embedded};
use crate::store::index::Index;
use crate::store::random::Random;
use crate::store::registry::conformance::channel;
use crate::store::{DeliveryId, Progress, Registry as _, Store as _, Stored};
use std::fs;
use std::time::Duration;
use tempfile::TempDir;

/// Many small segments.
fn options() -> Options {
    Options {
        segment_bytes: 4 << 10,
        batch_bytes: 1 << 10,
        generation_entries: 16,
        min_age: Duration::ZERO,
        min_free: 0,
        ..Options::default()
    }
}

fn open(folder: &TempDir) -> Embedded {
    embedded::open(folder.path(), options(), &|_| {}).expect("can be opened")
}

/// Closes a store in order and gives its lock back.
fn close(store: Embedded) {
    store.close();
}

/// A store in which so many frames of a life were appended, closed in order, and its log.
async fn lived(frames: usize) -> (TempDir, Vec<Stored>) {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let store = open(&folder);
    let mut life = Life::new();
    for _ in 0..frames {
        live(&store, &mut life).await;
    }
    let stored = read(&store).await;
    close(store);
    (folder, stored)
}

/// The files of the log, oldest first.
fn segments(folder: &TempDir) -> Vec<PathBuf> {
    let files = fs::read_dir(folder.path().join("log")).expect("is there").map(|file| file.expect("can be read").path());
    let mut files: Vec<_> = files.filter(|file| file.extension().is_some_and(|extension| extension == "log")).collect();
    files.sort();
    files
}

fn check(folder: &TempDir) -> Report {
    Closed::lock(folder.path()).and_then(|closed| closed.check(&|_| {})).expect("can be checked")
}

/// Salvages a damaged store, and checks all that it promises.
async fn salvage(folder: &TempDir, before: &[Stored]) -> Salvaged {
    let closed = Closed::lock(folder.path()).expect("nobody uses it");
    let report = closed.check(&|_| {}).expect("can be checked");
    assert!(!report.is_sound(), "the damage is found");
    let salvaged = closed.salvage().expect("can be salvaged");
    let after = closed.check(&|_| {}).expect("can be checked");
    assert!(after.is_sound(), "{report:#?}\n{salvaged:#?}\n{after:#?}");
    drop(closed);

    let store = open(folder);
    let kept = read(&store).await;
    let is_lost = |position| salvaged.lost.iter().any(|lost| lost.first <= position && position <= lost.last);
    let expected: Vec<_> = before.iter().filter(|stored| !is_lost(stored.position)).collect();
    assert_eq!(kept.len(), expected.len(), "{report:#?}\n{salvaged:#?}");
    for (kept, expected) in kept.iter().zip(&expected) {
        assert_eq!((kept.position, &kept.entry), (expected.position, &expected.entry));
    }
    look(&store, |facts| Model(&kept).assert_agrees(facts)).await;
    for conversation in Model(&kept).conversations() {
        let found = history(&store, &conversation, None, usize::MAX).await.expect("is known");
        assert_eq!(found, Model(&kept).history(&conversation), "{conversation}");
    }
    // Life goes on, in an epoch of its own.
    let span = store.span();
    assert_eq!(span.end.next(), salvaged.begins);
    append(&store, vec![belonging("after", "c")]).await;
    close(store);
    assert!(check(folder).is_sound());
    salvaged
}

fn flip(path: &Path, offset: u64) {
    let mut bytes = fs::read(path).expect("can be read");
    bytes[offset as usize] ^= 1;
    fs::write(path, bytes).expect("can be written");
}

#[tokio::test]
async fn a_store_that_nothing_happened_to_is_sound() {
    let (folder, stored) = lived(120).await;
    assert!(segments(&folder).len() > 5, "there are several segments");
    let report = check(&folder);
    assert_eq!(report.findings, []);
    assert_eq!((report.oldest, report.end.0), (Position(1), stored.len() as u64));
}

#[tokio::test]
async fn a_store_is_sound_after_every_way_to_end() {
    let (folder, _) = lived(40).await;
    for _ in 0..4 {
        let store = open(&folder);
        append(&store, vec![belonging("a", "c")]).await;
        // Without the seal: the process was killed.
        let copy = tempfile::tempdir().expect("a folder can be made");
        fs::create_dir(copy.path().join("log")).expect("can be made");
        for file in segments(&folder) {
            let to = copy.path().join("log").join(file.file_name().expect("has a name"));
            fs::copy(&file, to).expect("can be copied");
        }
        fs::copy(folder.path().join("control.db"), copy.path().join("control.db")).expect("can be copied");
        assert_eq!(check(&copy).findings, []);
        let again = open(&copy);
        close(again);
        assert_eq!(check(&copy).findings, []);
        close(store);
    }
}

#[tokio::test]
async fn whatever_bit_is_flipped_is_found_and_the_rest_is_salvaged() {
    let mut random = Random::seeded_by("CARE_SEED");
    let mut lost = 0;
    for _ in 0..24 {
        let (folder, before) = lived(60).await;
        let files = segments(&folder);
        let file = &files[random.below(files.len())];
        let length = fs::metadata(file).expect("is there").len();
        let offset = random.below(length as usize) as u64;
        println!("{} byte {offset} of {length}", file.display());
        flip(file, offset);
        if check(&folder).is_sound() {
            // Where nothing stands, or in the seal at the end, which only says what the index says, too.
            let store = open(&folder);
            let after = read(&store).await;
            assert_eq!(after.len(), before.len());
            assert!(after.iter().zip(&before).all(|(after, before)| after.entry == before.entry));
            close(store);
        } else {
            let salvaged = salvage(&folder, &before).await;
            lost += salvaged.lost.len();
            let kept_in = salvaged.kept_in.expect("the former file is kept");
            assert!(kept_in.join(file.file_name().expect("has a name")).is_file());
        }
    }
    assert!(lost > 0, "some damage costs entries");
}

#[tokio::test]
async fn a_segment_without_entries_and_with_a_damaged_header_is_found_and_moved_away() {
    let (folder, _) = lived(20).await;
    // Opening begins a segment.
    close(open(&folder));
    let store = open(&folder);
    let before = read(&store).await;
    close(store);
    let last = segments(&folder).pop().expect("there are some");
    assert_eq!(fs::metadata(&last).expect("is there").len(), 512);
    flip(&last, 20);
    assert!(embedded::open(folder.path(), options(), &|_| {}).is_err());
    assert_eq!(salvage(&folder, &before).await.lost, []);
}

#[tokio::test]
async fn a_seal_tells_of_the_entries_before_it_although_none_is_left() {
    for with_index in [true, false] {
        let (folder, mut before) = lived(20).await;
        let store = open(&folder);
        before.extend(append(&store, vec![belonging("a", "c")]).await);
        close(store);
        let last = segments(&folder).pop().expect("there are some");
        assert_eq!(fs::metadata(&last).expect("is there").len(), 3 * 512, "a header, a batch and a seal");
        flip(&last, 520);
        if !with_index {
            Index::remove(&folder.path().join("index.db")).expect("can be removed");
        }
        let salvaged = salvage(&folder, &before).await;
        let position = before.last().expect("there are some").position;
        assert_eq!(salvaged.lost, [Lost { first: position, last: position }]);
    }
}

#[tokio::test]
async fn much_damage_is_salvaged_at_once() {
    let mut random = Random::seeded_by("CARE_SEED");
    for _ in 0..6 {
        let (folder, before) = lived(80).await;
        let files = segments(&folder);
        for _ in 0..5 {
            let file = &files[random.below(files.len())];
            let mut bytes = fs::read(file).expect("can be read");
            let from = random.below(bytes.len());
            let to = bytes.len().min(from + 700);
            bytes[from..to].fill(0xa5);
            fs::write(file, bytes).expect("can be written");
        }
        salvage(&folder, &before).await;
    }
}

#[tokio::test]
async fn a_file_that_is_missing_anywhere_is_found_and_the_rest_is_salvaged() {
    for at in [0, 1, 3] {
        let (folder, before) = lived(80).await;
        let file = segments(&folder).remove(at);
        fs::remove_file(&file).expect("can be removed");
        let refused = embedded::open(folder.path(), options(), &|_| {});
        assert!(refused.is_err(), "{} is missing", file.display());
        let salvaged = salvage(&folder, &before).await;
        assert_eq!(salvaged.lost.len(), 1);
    }
}

#[tokio::test]
async fn an_end_that_is_missing_is_told_from_what_the_index_knows() {
    let (folder, before) = lived(80).await;
    let files = segments(&folder);
    for file in &files[files.len() - 3..] {
        fs::remove_file(file).expect("can be removed");
    }
    let salvaged = salvage(&folder, &before).await;
    assert_eq!(salvaged.lost.last().map(|lost| lost.last), before.last().map(|last| last.position));
}

#[tokio::test]
async fn a_control_file_that_is_missing_or_damaged_is_made_again() {
    for damage in [None, Some(&b"not a database, but long enough to be looked at as one"[..])] {
        let (folder, before) = lived(20).await;
        let path = folder.path().join("control.db");
        let former = Control::open(&path).expect("can be opened");
        let (key, epochs) = (former.key, former.epochs.clone());
        drop(former);
        match damage {
            None => fs::remove_file(&path).expect("can be removed"),
            Some(bytes) => fs::write(&path, bytes).expect("can be written"),
        }
        let salvaged = salvage(&folder, &before).await;
        assert_eq!((salvaged.lost.len(), salvaged.written), (0, vec!["control.db".to_owned()]));
        let again = Control::open(&path).expect("can be opened");
        assert_eq!(again.key, key);
        assert!(again.epochs.contains(epochs.current()) && again.epochs.current() > epochs.current());
    }
}

#[tokio::test]
async fn a_control_file_that_is_made_again_keeps_the_channels_that_can_be_read() {
    let (folder, before) = lived(20).await;
    let path = folder.path().join("control.db");
    let control = Control::open(&path).expect("can be opened");
    control.put_channel(&channel("1", "shop")).expect("can be put");
    drop(control);
    let damaged = rusqlite::Connection::open(&path).expect("can be opened");
    damaged.execute("INSERT INTO channel VALUES ('2', 'lost', x'ff')", []).expect("can be written");
    drop(damaged);
    let salvaged = salvage(&folder, &before).await;
    assert_eq!((salvaged.lost.len(), salvaged.written), (0, vec!["control.db".to_owned()]));
    let again = Control::open(&path).expect("can be opened");
    assert_eq!(again.channels().expect("can be read"), [channel("1", "shop")]);
}

#[tokio::test]
async fn an_index_that_differs_from_the_log_is_found_and_made_again() {
    let damages = [
        "UPDATE block SET offset = offset + 512 WHERE first = (SELECT min(first) FROM block)",
        "DELETE FROM block WHERE first = (SELECT min(first) FROM block WHERE first > 20)",
        "UPDATE meta SET value = value + 1000 WHERE key = 'position'",
    ];
    for damage in damages {
        let (folder, before) = lived(80).await;
        let index = rusqlite::Connection::open(folder.path().join("index.db")).expect("can be opened");
        assert_eq!(index.execute(damage, []).expect("can be changed"), 1, "{damage}");
        drop(index);
        let report = check(&folder);
        assert!(!report.is_sound(), "{damage}");
        if damage.contains("position") {
            // Acknowledged messages seem to be missing: that is no matter of the index.
            let refused = embedded::reindex(folder.path(), options(), &|_| {});
            assert!(matches!(refused, Err(OpenError::Log(_))), "{refused:?}");
            continue;
        }
        let last = embedded::reindex(folder.path(), options(), &|_| {}).expect("can be made");
        assert_eq!(last, before.last().expect("there are some").position);
        assert_eq!(check(&folder).findings, [], "{damage}");
    }
}

#[tokio::test]
async fn the_index_of_a_log_that_has_let_go_of_old_entries_is_made_again() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let store = embedded::open(folder.path(), Options { max_bytes: 32 << 10, ..options() }, &|_| {}).expect("can be opened");
    let mut life = Life::new();
    while store.span().oldest < Position(100) {
        live(&store, &mut life).await;
    }
    close(store);
    let last = embedded::reindex(folder.path(), options(), &|_| {}).expect("can be made");
    let store = open(&folder);
    assert_eq!(store.span().end, last);
    // What is kept tells less than the facts: sessions that go on are carried forward.
    assert!(!read(&store).await.is_empty());
    close(store);
    assert_eq!(check(&folder).findings, []);
}

#[tokio::test]
async fn an_id_that_the_index_lacks_is_found() {
    let (folder, _) = lived(80).await;
    let key = Control::open(&folder.path().join("control.db")).expect("is there").key;
    let index = Index::open(&folder.path().join("index.db"), key).expect("can be opened");
    index.lose_an_id().expect("can be changed");
    drop(index);
    let report = check(&folder);
    assert!(report.findings.iter().any(|finding| finding.what.contains("is not found by its id")), "{report:?}");
}

#[tokio::test]
async fn a_store_in_use_is_neither_checked_nor_salvaged() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let store = open(&folder);
    assert!(matches!(Closed::lock(folder.path()), Err(OpenError::InUse(_))));
    close(store);
    assert!(Closed::lock(folder.path()).is_ok());
    let empty = tempfile::tempdir().expect("a folder can be made");
    assert!(matches!(Closed::lock(empty.path()), Err(OpenError::NoStore(_))));
}

#[tokio::test]
async fn a_backup_has_what_was_acknowledged_and_cursors_of_what_came_later_are_unknown() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let store = open(&folder);
    let mut life = Life::new();
    for _ in 0..60 {
        live(&store, &mut life).await;
    }
    store.put_channel(&channel("1", "shop")).await.expect("can be put");
    let backed_up = read(&store).await;
    let span = store.span();
    let to = tempfile::tempdir().expect("a folder can be made");
    let backup = back_up(folder.path(), to.path(), &|_, _| {}).expect("works while it is in use");
    assert_eq!((backup.oldest, backup.last, backup.copied), (Position(1), span.end, 1));
    assert!(backup.linked > 3, "{backup:?}");
    let later = append(&store, vec![belonging("later", "c"), belonging("later still", "c")]).await;
    close(store);

    let restored = tempfile::tempdir().expect("a folder can be made");
    let told = restore(to.path(), restored.path(), options(), OpenDeliveries::AreHeld, &|_| {}).expect("can be restored");
    assert_eq!((told.oldest, told.last), (Position(1), span.end));
    let again = open(&restored);
    let there = read(&again).await;
    assert_eq!(there.len(), backed_up.len());
    assert!(there.iter().zip(&backed_up).all(|(there, then)| there.entry == then.entry));
    assert_eq!(again.channels().await.expect("can be read"), [channel("1", "shop")]);
    let known = |store: &Embedded, position| store.knows(span.cursor(position));
    assert!(known(&again, Position(0)) && known(&again, Position(7)) && known(&again, span.end));
    assert!(!later.iter().any(|stored| known(&again, stored.position)));
    // Not even once there are other entries at these positions.
    append(&again, vec![belonging("other", "c"), belonging("another", "c"), belonging("more", "c")]).await;
    assert!(!later.iter().any(|stored| known(&again, stored.position)));
    assert!(known(&again, span.end) && again.knows(again.span().cursor(again.span().end)));
    close(again);
    // Nor after another start.
    let again = open(&restored);
    assert!(!later.iter().any(|stored| known(&again, stored.position)) && known(&again, span.end));
    close(again);
    assert!(check(&restored).is_sound() && check(&to).is_sound());
}

#[tokio::test]
async fn what_was_to_be_delivered_is_held_in_a_restored_store_until_it_is_released() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let store = open(&folder);
    let stored = append(&store, vec![planning(belonging("m", "c"), &[Endpoint::Connector])]).await;
    assert_eq!(store.held_before(), None);
    let [open_ones, none] = [(); 2].map(|()| tempfile::tempdir().expect("a folder can be made"));
    back_up(folder.path(), open_ones.path(), &|_, _| {}).expect("works while it is in use");
    let id = DeliveryId { planned_at: stored[0].position, endpoint: Endpoint::Connector };
    let settled = Progress { state: DeliveryState::Delivered, ..Progress::PLANNED }.to_pb(id);
    append(&store, vec![Entry { delivery_steps: vec![settled], ..Entry::default() }]).await;
    back_up(folder.path(), none.path(), &|_, _| {}).expect("works while it is in use");
    close(store);

    let restored = |from: &TempDir, open_deliveries| {
        let to = tempfile::tempdir().expect("a folder can be made");
        let told = restore(from.path(), to.path(), options(), open_deliveries, &|_| {}).expect("can be restored");
        assert_eq!(told.held, open(&to).held_before().is_some());
        (to, told.held)
    };
    assert!(!restored(&open_ones, OpenDeliveries::GoOn).1);
    assert!(!restored(&none, OpenDeliveries::AreHeld).1, "there are none");
    let (to, held) = restored(&open_ones, OpenDeliveries::AreHeld);
    assert!(held);
    let again = open(&to);
    assert_eq!(again.held_before(), Some(Position(2)));
    for _ in 0..2 {
        again.release().await.expect("can be written");
        assert_eq!(again.held_before(), None);
    }
    close(again);
    assert_eq!(open(&to).held_before(), None, "it is durable");
    assert!(check(&to).is_sound());
}

#[tokio::test]
async fn backups_are_whole_while_the_store_is_written_and_old_files_go() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let cramped = Options { max_bytes: 64 << 10, ..options() };
    let store = embedded::open(folder.path(), cramped, &|_| {}).expect("can be opened");
    let writing = tokio::spawn({
        let store = store.clone();
        async move {
            let mut life = Life::new();
            // Until retention has let go of much.
            while store.span().oldest < Position(400) {
                live(&store, &mut life).await;
            }
        }
    });
    let mut backups = 0;
    while !writing.is_finished() {
        let to = tempfile::tempdir().expect("a folder can be made");
        let acknowledged = store.span().end;
        let source = folder.path().to_owned();
        let target = to.path().to_owned();
        let backup = tokio::task::spawn_blocking(move || back_up(&source, &target, &|_, _| {})).await.expect("does not panic");
        let backup = backup.expect("can be backed up");
        assert!(backup.last >= acknowledged);
        let report = check(&to);
        assert_eq!((&report.findings[..], report.end, report.oldest), (&[][..], backup.last, backup.oldest));
        backups += 1;
    }
    writing.await.expect("does not panic");
    assert!(backups > 3);
    close(store);
}

#[tokio::test]
async fn nothing_is_overwritten() {
    let (folder, _) = lived(5).await;
    let full = tempfile::tempdir().expect("a folder can be made");
    fs::write(full.path().join("thesis.txt"), "mine").expect("can be written");
    assert!(matches!(back_up(folder.path(), full.path(), &|_, _| {}), Err(OpenError::NotEmpty(_))));
    assert!(matches!(
        restore(folder.path(), full.path(), options(), OpenDeliveries::AreHeld, &|_| {}),
        Err(OpenError::NotEmpty(_))
    ));
    let empty = tempfile::tempdir().expect("a folder can be made");
    assert!(matches!(back_up(empty.path(), full.path(), &|_, _| {}), Err(OpenError::NoStore(_))));
    assert!(matches!(
        restore(empty.path(), full.path(), options(), OpenDeliveries::AreHeld, &|_| {}),
        Err(OpenError::NoStore(_))
    ));
    assert_eq!(fs::read_dir(full.path()).expect("is there").count(), 1);
}

#[tokio::test]
async fn an_epoch_begins_at_the_end_and_only_if_there_is_one() {
    let empty = tempfile::tempdir().expect("a folder can be made");
    assert_eq!(begin_epoch(empty.path(), &options()).expect("can be looked at"), None);
    close(open(&empty));
    assert_eq!(begin_epoch(empty.path(), &options()).expect("can be looked at"), None);
    let (folder, stored) = lived(5).await;
    let end = stored.last().expect("there are some").position.next();
    assert_eq!(begin_epoch(folder.path(), &options()).expect("can be begun"), Some(end));
    assert!(check(&folder).is_sound());
    let index =
        Index::open(&folder.path().join("index.db"), Control::open(&folder.path().join("control.db")).expect("is there").key);
    assert_eq!(index.expect("stays").position().expect("can be read").next(), end);
}
