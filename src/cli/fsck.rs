//! `fsck`: checks every byte of the store, and salvages what is whole of a damaged one.

use super::{data_dir::DataDir, failure::Failure, output, progress::Progress};
use cim_gateway::config::Size;
use cim_gateway::store::care::{Closed, Finding, Report};
use clap::Args;
use output::counted;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cim-gateway fsck --data-dir data
  cim-gateway fsck --data-dir /backups/today        a backup is a store, too
  cim-gateway fsck --data-dir data --salvage

The store must not be in use. Every checksum, every entry and the whole index are looked at; nothing is changed without --salvage. \
What is found is printed with its place and what it means. Exit code 0 for a sound store, 1 for a damaged one.

--salvage keeps every batch that is whole, marks lost positions as lost, begins a new epoch and removes the index, which the next \
start makes again. The files that it replaces are moved to log/salvaged-TIME, never deleted.")]
pub(super) struct Options {
    #[command(flatten)]
    data_dir: DataDir,
    /// Keep what is whole of a damaged store
    #[arg(long)]
    salvage: bool,
}

pub(super) fn run(options: &Options) -> Result<(), Failure> {
    let closed = Closed::lock(&options.data_dir.load()?.store.embedded.data_dir)?;
    let report = check(&closed)?;
    if report.is_sound() {
        return Ok(());
    }
    if !options.salvage {
        return Err(Failure::Told);
    }
    let salvaged = closed.salvage()?;
    let mut text = String::from("salvaged:\n");
    for lost in &salvaged.lost {
        text.push_str(&format!("    {lost}\n"));
    }
    if salvaged.lost.is_empty() {
        text.push_str("    no position is lost\n");
    }
    for file in &salvaged.written {
        text.push_str(&format!("    {file} is written anew\n"));
    }
    if let Some(folder) = &salvaged.kept_in {
        text.push_str(&format!("    the former files are in {}\n", folder.display()));
    }
    text.push_str(&format!("    a new epoch begins at position {}; the next start makes the index again\n", salvaged.begins));
    output::print(text)?;
    if check(&closed)?.is_sound() { Ok(()) } else { Err(Failure::Told) }
}

/// Checks everything and prints what is found.
fn check(closed: &Closed) -> Result<Report, Failure> {
    let progress = Progress::new();
    let report = closed.check(&|entries| progress.show(|| format!("checked {entries} entries")))?;
    drop(progress);
    let mut text: String = report.findings.iter().map(lines).collect();
    let verdict = if report.is_sound() { "sound" } else { "damaged" };
    let positions = output::positions(report.oldest.0, report.end.0);
    let (files, size) = (counted(report.segments, "file"), Size::bytes(report.bytes));
    text.push_str(&format!("{verdict}: {positions}, {files}, {size}\n"));
    output::print(text)?;
    Ok(report)
}

/// Where, what, and what it means.
fn lines(finding: &Finding) -> String {
    let Finding { file, offset, what, means, is_damage } = finding;
    let place = offset.map_or_else(|| file.clone(), |offset| format!("{file}, byte {offset}"));
    let kind = if *is_damage { "damage" } else { "note" };
    format!("{kind}: {place}: {what}\n    {means}\n")
}
