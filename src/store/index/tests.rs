//! What holds while the index is written and read at once.

use super::Index;
use crate::store::Position;
use crate::store::facts::State;
use crate::store::hash::HashKey;
use crate::store::{Stored, conformance::said};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A table goes from the database a moment before its run goes from the list: who looks something up in between must not fail.
#[test]
fn ids_are_found_while_runs_are_merged_and_dropped_beside() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let key = HashKey::fresh();
    let index = Index::open(&folder.path().join("index.db"), key).expect("can be made");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = || {
            while !done.load(Ordering::Acquire) {
                for i in 1..64 {
                    let found = index.lookup().expect("can be read").having(&format!("m{i}"));
                    assert!(found.expect("is found or not").len() <= 1);
                }
            }
        };
        let readers = [scope.spawn(reader), scope.spawn(reader)];
        for i in 1..400 {
            let mut state = State::new(key);
            state.apply(&Stored { position: Position(i), entry: Arc::new(said(&format!("m{i}"))) });
            index.write(&state, &[], Position(i), Position(i)).expect("can be written");
            let mut merge = index.begin_merge().expect("can be merged");
            while let Some(under_way) = merge {
                merge = index.step_merge(under_way).expect("can be merged");
            }
            if i % 50 == 0 {
                index.forget(Position(i)).expect("can be forgotten");
            }
        }
        done.store(true, Ordering::Release);
        for reader in readers {
            reader.join().expect("nothing was missing");
        }
    });
}
