//! `restore`: makes a store of a backup.

use super::{data_dir::DataDir, failure::Failure, output, progress::Progress};
use cim_gateway::config::Size;
use cim_gateway::{app, store::care};
use clap::Args;
use std::path::PathBuf;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cim-gateway restore --data-dir data /backups/2026-01-31
  cim-gateway restore --config gateway.toml /backups/today

The store must be new or empty. A new epoch begins after the last position of the backup: cursors that were given out before the \
backup go on, those of what was accepted after it are refused as unknown.")]
pub(super) struct Options {
    #[command(flatten)]
    data_dir: DataDir,
    /// Folder of the backup
    #[arg(value_name = "FOLDER")]
    from: PathBuf,
}

pub(super) fn run(options: &Options) -> Result<(), Failure> {
    let config = options.data_dir.load()?.store.embedded;
    let progress = Progress::new();
    let restored =
        care::restore(&options.from, &config.data_dir, app::embedded_options(&config), &|restoring| match restoring {
            care::Restoring::Copying { done, of } => {
                progress.show(|| format!("copied {} of {}", Size::bytes(done), Size::bytes(of)));
            }
            care::Restoring::Indexing(opening) => progress.opening(opening),
        })?;
    drop(progress);
    let positions = output::positions(restored.oldest.0, restored.last.0);
    output::print(format!("{positions}, {}\n", Size::bytes(restored.bytes)))
}
