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
backup go on, those of what was accepted after it are refused as unknown.

What was to be delivered to webhooks when the backup was made is held, for it may have gone out since, and with it what follows to \
the same customers: until it is discarded or released by DeliveryService or at /v1/deliveries.")]
pub(super) struct Options {
    #[command(flatten)]
    data_dir: DataDir,
    /// Folder of the backup
    #[arg(value_name = "FOLDER")]
    from: PathBuf,
    /// Deliver what was to be delivered when the backup was made, at once: say so where nothing of it went out since, or where
    /// that does no harm
    #[arg(long)]
    deliver: bool,
}

pub(super) fn run(options: &Options) -> Result<(), Failure> {
    let config = options.data_dir.load()?.store.embedded;
    let open_deliveries = if options.deliver { care::OpenDeliveries::GoOn } else { care::OpenDeliveries::AreHeld };
    let progress = Progress::new();
    let restored =
        care::restore(&options.from, &config.data_dir, app::embedded_options(&config), open_deliveries, &|restoring| {
            match restoring {
                care::Restoring::Copying { done, of } => {
                    progress.show(|| format!("copied {} of {}", Size::bytes(done), Size::bytes(of)));
                }
                care::Restoring::Indexing(opening) => progress.opening(opening),
            }
        })?;
    drop(progress);
    let positions = output::positions(restored.oldest.0, restored.last.0);
    let held = if restored.held { "what was to be delivered is held until it is released or discarded\n" } else { "" };
    output::print(format!("{positions}, {}\n{held}", Size::bytes(restored.bytes)))
}
