//! `config`: prints the configuration in effect.

use super::{failure::Failure, output, settings::Settings};
use clap::Args;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cim-gateway config > gateway.toml
  CIM_FEED__HEARTBEAT=5s cim-gateway config --config gateway.toml
  cim-gateway config --reference             every key with its default and what it means")]
pub(super) struct Options {
    #[command(flatten)]
    settings: Settings,
    /// Print the commented defaults instead
    #[arg(long)]
    reference: bool,
}

pub(super) fn run(options: &Options) -> Result<(), Failure> {
    if options.reference {
        return output::print(cim_gateway::config::DEFAULTS);
    }
    output::print(options.settings.load()?.to_toml())
}
