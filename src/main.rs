//! The command line: starts the gateway, and talks to one.

mod cli;

use clap::Parser as _;
use cli::Cli;
use std::process::ExitCode;

/// Messages are made by one thread and dropped by another, which costs the system's allocator much.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match Cli::try_parse() {
        Ok(cli) => match cli.run() {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => failure.report(),
        },
        Err(usage) => cli::explain(&usage),
    }
}
