//! File systems of their own, whose power can be cut and which can be filled. Mounting them takes root, and on Linux loop devices.

use crate::moods::compile;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// A mounted file system; unmounted when dropped.
#[derive(Debug)]
pub struct Mounted {
    folder: TempDir,
    options: &'static str,
}

impl Mounted {
    /// An ext4 file system in a file.
    pub fn ext4(mebibytes: u64) -> Self {
        let mounted = Self { folder: tempfile::tempdir().expect("a folder can be made"), options: "loop" };
        let image = mounted.image();
        let file = std::fs::File::create(&image).and_then(|file| file.set_len(mebibytes << 20));
        file.expect("the image can be made");
        // Blocks as any disk of today has them; small file systems would get smaller ones than a page. Nothing is kept for root.
        run(Command::new("mkfs.ext4").args(["-q", "-F", "-b", "4096", "-m", "0"]).arg(&image));
        compile("powercut.c", &[], &mounted.folder.path().join("powercut"));
        std::fs::create_dir(mounted.path()).expect("the folder is fresh");
        mounted.mount();
        mounted
    }

    /// A folder for messages on it.
    pub fn data(&self) -> PathBuf {
        self.path().join("data")
    }

    /// Where it is mounted.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("mounted")
    }

    fn image(&self) -> PathBuf {
        self.folder.path().join("image")
    }

    fn mount(&self) {
        run(Command::new("mount").args(["-o", self.options]).arg(self.image()).arg(self.path()));
    }

    /// Mounts it with other options from now on, such as `loop,data=writeback`.
    pub fn with_options(&mut self, options: &'static str) {
        self.options = options;
    }

    /// Cuts its power: what has not reached the device is lost.
    pub fn cut_power(&self) {
        run(Command::new(self.folder.path().join("powercut")).arg(self.path()));
    }

    /// Mounts it again, as after a restart of the machine: its journal is replayed. Nobody may use it.
    pub fn restart(&self) {
        run(Command::new("umount").arg(self.path()));
        self.mount();
    }

    /// Takes this many bytes until they are given back.
    pub fn fill(&self, bytes: u64) -> Ballast {
        let path = self.path().join("ballast");
        run(Command::new("fallocate").args(["-l", &bytes.to_string()]).arg(&path));
        Ballast(path)
    }

    /// Takes every byte that there is, until they are given back. Others may be writing meanwhile.
    pub fn fill_up(&self) -> Ballast {
        let ballast = Ballast(self.path().join("ballast"));
        let mut file = std::fs::File::create(&ballast.0).expect("a file can be made");
        // Smaller and smaller pieces, down to what a file system gives at all.
        for piece in [1 << 20, 1 << 12, 1] {
            while file.write_all(&vec![1; piece]).is_ok() {}
        }
        let flushed = file.sync_all();
        assert!(flushed.is_ok(), "{flushed:?}");
        ballast
    }

    /// Bytes that are free.
    pub fn free(&self) -> u64 {
        let stat = rustix::fs::statvfs(self.path()).expect("it is mounted");
        stat.f_bavail * stat.f_frsize
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Lazily: a gateway of a test that fails may still be there.
        let _without_it = Command::new("umount").arg("--lazy").arg(self.path()).stderr(Stdio::null()).status();
    }
}

/// Bytes that are taken; given back when dropped.
#[derive(Debug)]
pub struct Ballast(PathBuf);

impl Drop for Ballast {
    fn drop(&mut self) {
        let _with_the_disk = std::fs::remove_file(&self.0);
    }
}

fn run(command: &mut Command) {
    let status = command.status().unwrap_or_else(|error| panic!("{command:?} cannot be run: {error}"));
    assert!(status.success(), "{command:?}: {status}; this test mounts file systems, for which it has to be root");
}
