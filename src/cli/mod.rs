//! The commands, one file each, and what they share.

mod backup;
mod check_config;
mod completions;
mod config;
mod data_dir;
mod export;
mod failure;
mod fsck;
mod get;
mod health;
mod import;
mod input;
mod new_key;
mod output;
mod pretty;
mod progress;
mod reindex;
mod restore;
mod send;
mod serve;
mod server;
mod settings;
mod status;
mod tail;
mod transcode;
mod validate;

pub(crate) use failure::explain;

use clap::{Parser, Subcommand};
use failure::Failure;

/// An open, durable customer channel manager: CIM messages over gRPC and the documented JSON.
///
/// Without a command it serves.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: serve::Options,
}

const EXAMPLES: &str = "Examples:
  cim-gateway                                start with the defaults
  cim-gateway --config gateway.toml          start with a configuration
  cim-gateway send hello.json                send a message
  cim-gateway tail --from earliest           watch what was and is accepted
  cim-gateway backup /backups/today          copy the store, while it is in use

Exit codes: 0 done, 1 failed, 64 wrong usage or configuration.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Start the gateway and serve until SIGTERM or SIGINT
    Serve(serve::Options),
    /// Print the configuration in effect as TOML
    Config(config::Options),
    /// Say everything that is wrong with the configuration
    CheckConfig(check_config::Options),
    /// Send messages to a gateway
    Send(send::Options),
    /// Print messages that a gateway keeps
    Get(get::Options),
    /// Watch the messages that a gateway accepts
    Tail(tail::Options),
    /// Ask a gateway whether it serves
    Health(health::Options),
    /// Convert a message between its three forms, without checking or changing it
    Transcode(transcode::Options),
    /// Check messages against every rule, without sending them
    Validate(validate::Options),
    /// Make an API key, and its table in the file of keys
    NewKey(new_key::Options),
    /// Copy the store, while a gateway uses it
    Backup(backup::Options),
    /// Make a store of a backup
    Restore(restore::Options),
    /// Print the messages of the store as JSON lines, while a gateway uses it
    Export(export::Options),
    /// Take exported messages into the store
    Import(import::Options),
    /// Check every byte of the store; salvage what is whole of a damaged one
    Fsck(fsck::Options),
    /// Make the index of the store again from its log
    Reindex(reindex::Options),
    /// Print what makes a shell complete this command line
    Completions(completions::Options),
}

impl Cli {
    /// Does what the command line asks for.
    pub(crate) fn run(self) -> Result<(), Failure> {
        match self.command.unwrap_or(Command::Serve(self.serve)) {
            Command::Serve(options) => serve::run(&options),
            Command::Config(options) => config::run(&options),
            Command::CheckConfig(options) => check_config::run(&options),
            Command::Send(options) => send::run(&options),
            Command::Get(options) => get::run(&options),
            Command::Tail(options) => tail::run(options),
            Command::Health(options) => health::run(&options),
            Command::Transcode(options) => transcode::run(&options),
            Command::Validate(options) => validate::run(&options),
            Command::NewKey(options) => new_key::run(&options),
            Command::Backup(options) => backup::run(&options),
            Command::Restore(options) => restore::run(&options),
            Command::Export(options) => export::run(&options),
            Command::Import(options) => import::run(&options),
            Command::Fsck(options) => fsck::run(&options),
            Command::Reindex(options) => reindex::run(&options),
            Command::Completions(options) => completions::run(&options),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn without_a_command_it_serves() {
        let cli = Cli::try_parse_from(["cim-gateway"]).unwrap();
        assert!(cli.command.is_none());
    }
}
