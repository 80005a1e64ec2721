//! A disk with moods: between the gateway and the system stands a small library, which can be told how it is.

use crate::gateway::Start;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// How the disk is at the moment.
#[derive(Debug, Clone, Copy)]
pub enum Mood {
    /// Syncing says that it is done, and does nothing.
    Forgetful,
    /// Syncing fails.
    Broken,
    /// Whatever is read takes a while.
    Slow,
}

/// What stands between a gateway and its disk.
#[derive(Debug)]
pub struct Moods {
    folder: TempDir,
}

impl Moods {
    /// Built, and in no mood.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder can be made");
        compile("moods.c", &["-shared", "-fPIC"], &folder.path().join("moods.so"));
        Self { folder }
    }

    /// The start of a gateway behind it.
    pub fn between(&self, start: Start) -> Start {
        let library = self.folder.path().join("moods.so");
        start.variable("LD_PRELOAD", library.display()).variable("DISK_MOODS", self.folder.path().display())
    }

    /// From now on the disk is like this.
    pub fn set(&self, mood: Mood) {
        std::fs::write(self.file(mood), "").expect("the folder can be written");
    }

    /// From now on it is not.
    pub fn unset(&self, mood: Mood) {
        std::fs::remove_file(self.file(mood)).expect("the mood was set");
    }

    fn file(&self, mood: Mood) -> PathBuf {
        self.folder.path().join(match mood {
            Mood::Forgetful => "forgetful",
            Mood::Broken => "broken",
            Mood::Slow => "slow",
        })
    }
}

/// Compiles a source of this folder; the compiler is there, for SQLite is built by it.
pub fn compile(source: &str, options: &[&str], out: &Path) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/crash").join(source);
    let compiled = Command::new("cc").args(options).arg("-O1").arg("-o").arg(out).arg(source).status();
    assert!(compiled.expect("cc, which builds SQLite, is there").success());
}
