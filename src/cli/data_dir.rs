//! The folder of the store.

use super::{failure::Failure, settings::Settings};
use cim_gateway::config::Config;
use clap::Args;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(super) struct DataDir {
    #[command(flatten)]
    settings: Settings,
    /// Folder of the embedded store; overrides store.embedded.data_dir
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

impl DataDir {
    /// The configuration in effect, which names the folder.
    pub(super) fn load(&self) -> Result<Config, Failure> {
        let mut config = self.settings.load()?;
        if let Some(folder) = &self.data_dir {
            config.store.embedded.data_dir.clone_from(folder);
        }
        Ok(config)
    }
}
