//! Attacks on a gateway that is a process of its own, with its messages on a disk. The promise that is attacked:
//!
//! - **What is acknowledged stays.** It is there exactly once, whole, at the cursor that the acknowledgement named, whatever becomes
//!   of the process, and of the machine's power.
//! - **What is not acknowledged is there whole or not at all**, and a repeat with the same id settles which.
//! - **A repeat of what is acknowledged is told as one**, after any number of restarts.
//! - **Order and cursors last.** One client's messages stand in its order; a reader that resumes with its last cursor misses nothing
//!   and hears nothing twice.
//! - **A gateway that cannot keep its promise says so**: it refuses, or it ends. It never acknowledges.
//!
//! `CRASH_GATEWAY` names the executable to attack, instead of the one that was built with the tests; `CRASH_ROUNDS` says how many
//! rounds, and `CRASH_SEED` which. `.ci/crash` runs all of it on the release build, with the tests that have to mount file systems
//! and are ignored otherwise.

mod chance;
mod delivery;
mod disks;
mod expected;
mod failing;
mod full;
mod gateway;
mod kill;
mod life;
mod moods;
mod power;
mod readers;
mod starting;
#[allow(dead_code, reason = "what the tests of the services need of it is not all needed here")]
#[path = "../it/support/mod.rs"]
mod support;
mod writers;
