//! `completions`: prints what makes a shell complete the command line.

use super::{Cli, failure::Failure, output};
use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  source <(cim-gateway completions bash)
  cim-gateway completions fish > ~/.config/fish/completions/cim-gateway.fish")]
pub(super) struct Options {
    /// The shell
    shell: Shell,
}

pub(super) fn run(options: &Options) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut Cli::command(), "cim-gateway", &mut script);
    output::print(script)
}
