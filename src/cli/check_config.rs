//! `check-config`: says everything that is wrong with the configuration.

use super::{failure::Failure, output, settings::Settings};
use cim_gateway::app;
use cim_gateway::renewal::Credentials;
use clap::Args;

#[derive(Debug, Args)]
#[command(after_help = "Example:
  cim-gateway check-config --config gateway.toml

Exit codes: 0 for a configuration that can be served, 64 with one line per problem for any other.")]
pub(super) struct Options {
    #[command(flatten)]
    settings: Settings,
}

pub(super) fn run(options: &Options) -> Result<(), Failure> {
    let config = options.settings.load()?;
    app::declared_channels(&config).map_err(Failure::Config)?;
    Credentials::read(&config).map_err(Failure::Config)?;
    output::print("the configuration is valid\n")
}
