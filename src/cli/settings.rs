//! Where the configuration comes from.

use super::failure::Failure;
use cim_gateway::config::Config;
use clap::Args;
use std::{env, ffi::OsString, path::PathBuf};

#[derive(Debug, Args)]
pub(super) struct Settings {
    /// TOML file with the settings that differ from the defaults; CIM_* variables override it
    #[arg(long, value_name = "FILE", env = "CIM_CONFIG")]
    config: Option<PathBuf>,
}

impl Settings {
    /// The configuration in effect.
    pub(super) fn load(&self) -> Result<Config, Failure> {
        // What is no Unicode is no setting either, and is refused as such by name.
        let readable = |text: OsString| text.to_string_lossy().into_owned();
        let variables = env::vars_os().map(|(name, value)| (readable(name), readable(value)));
        Config::load(self.config.as_deref(), variables).map_err(Failure::Config)
    }
}
