//! The process, as Linux shows it in `/proc`. Elsewhere nothing is known of it.

use std::fs;
use std::path::Path;

/// What the system tells of the process.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Process {
    pub(super) cpu_seconds: f64,
    /// Seconds since 1970.
    pub(super) started: Option<f64>,
    pub(super) resident_bytes: u64,
    pub(super) virtual_bytes: u64,
    pub(super) open_fds: Option<u64>,
    pub(super) max_fds: Option<u64>,
}

/// What there is to know of this process.
pub(super) fn read() -> Option<Process> {
    let stat = text("/proc/self/stat")?;
    // The name comes first, in parentheses, and may be anything.
    let (_, rest) = stat.rsplit_once(") ")?;
    let fields: Vec<_> = rest.split_ascii_whitespace().collect();
    // By the numbers of proc_pid_stat(5), of which the first that is left is the third.
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    let ticks = rustix::param::clock_ticks_per_second() as f64;
    Some(Process {
        cpu_seconds: (field(14)? + field(15)?) as f64 / ticks,
        started: field(22).zip(booted()).map(|(after, booted)| booted + after as f64 / ticks),
        virtual_bytes: field(23)?,
        resident_bytes: field(24)? * rustix::param::page_size() as u64,
        open_fds: open_fds(),
        max_fds: max_fds(),
    })
}

fn text(path: impl AsRef<Path>) -> Option<String> {
    fs::read_to_string(path).ok()
}

/// When the machine was booted, in seconds since 1970.
fn booted() -> Option<f64> {
    text("/proc/stat")?.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

fn open_fds() -> Option<u64> {
    let listed = fs::read_dir("/proc/self/fd").ok()?.count();
    // One of them is open for the list.
    Some(listed.saturating_sub(1) as u64)
}

/// None for as many as there can be.
fn max_fds() -> Option<u64> {
    let limits = text("/proc/self/limits")?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}
