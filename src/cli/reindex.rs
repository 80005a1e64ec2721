//! `reindex`: makes the index of the store again.

use super::{data_dir::DataDir, failure::Failure, output, progress::Progress};
use cim_gateway::{app, store::embedded};
use clap::Args;

#[derive(Debug, Args)]
#[command(after_help = "Example:
  cim-gateway reindex --data-dir data

The store must not be in use. The index follows from the log, so nothing can be lost by this: it helps where fsck finds the index \
damaged.")]
pub(super) struct Options {
    #[command(flatten)]
    data_dir: DataDir,
}

pub(super) fn run(options: &Options) -> Result<(), Failure> {
    let config = options.data_dir.load()?.store.embedded;
    let progress = Progress::new();
    let last = embedded::reindex(&config.data_dir, app::embedded_options(&config), &|opening| progress.opening(opening))?;
    drop(progress);
    output::print(format!("indexed up to position {last}\n"))
}
