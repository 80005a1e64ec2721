//! `backup`: copies the store.

use super::{data_dir::DataDir, failure::Failure, output, progress::Progress};
use cim_gateway::config::Size;
use cim_gateway::store::care;
use clap::Args;
use output::counted;
use std::path::PathBuf;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cim-gateway backup /backups/2026-01-31
  cim-gateway backup --data-dir data /backups/today && rsync -a /backups/today elsewhere:

Works while a gateway uses the store. Files that are complete are shared with the store where the file system can do that, so that \
the backup costs little; it protects from mistakes, and from a broken disk only once it is copied to another one. What was \
acknowledged before the command began is in the backup.")]
pub(super) struct Options {
    #[command(flatten)]
    data_dir: DataDir,
    /// Folder of the backup, new or empty
    #[arg(value_name = "FOLDER")]
    to: PathBuf,
}

pub(super) fn run(options: &Options) -> Result<(), Failure> {
    let config = options.data_dir.load()?.store.embedded;
    let progress = Progress::new();
    let done = |done, of| progress.show(|| format!("copied {} of {}", Size::bytes(done), Size::bytes(of)));
    let backup = care::back_up(&config.data_dir, &options.to, &done)?;
    drop(progress);
    let positions = output::positions(backup.oldest.0, backup.last.0);
    let care::Backup { linked, copied, bytes, .. } = backup;
    output::print(format!("{positions}, {}: {} shared, {copied} copied\n", Size::bytes(bytes), counted(linked, "file")))
}
