//! How a command fails, and its exit code.

use cim_gateway::config::ConfigError;
use cim_gateway::store::embedded::OpenError;
use std::{io, process::ExitCode};

/// Wrong usage or configuration: EX_USAGE of sysexits.h.
const USAGE: u8 = 64;

/// Why a command did not do what it was asked for.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The configuration is wrong.
    Config(ConfigError),
    /// It failed, for the reason in this sentence.
    Failed(String),
    /// It failed, and everything about it is said already.
    Told,
    /// Nobody reads what it prints.
    ClosedPipe,
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        Self::Failed(error.to_string())
    }
}

impl Failure {
    /// Says on standard error what is not said yet, and returns the exit code.
    pub(crate) fn report(self) -> ExitCode {
        match self {
            Self::Config(e) => {
                for problem in &e.problems {
                    eprintln!("invalid configuration: {problem}");
                }
                ExitCode::from(USAGE)
            }
            Self::Failed(sentence) => {
                eprintln!("cim-gateway: {sentence}");
                ExitCode::FAILURE
            }
            Self::Told => ExitCode::FAILURE,
            Self::ClosedPipe => ExitCode::SUCCESS,
        }
    }

    /// The failure to write what a command prints.
    pub(crate) fn of_output(e: &io::Error) -> Self {
        match e.kind() {
            io::ErrorKind::BrokenPipe => Self::ClosedPipe,
            _ => Self::Failed(format!("standard output cannot be written: {e}")),
        }
    }
}

/// Prints help, version or what is wrong with the command line, and returns the exit code.
pub(crate) fn explain(usage: &clap::Error) -> ExitCode {
    // Where even this cannot be written, the exit code still tells.
    let _ = usage.print();
    if usage.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS }
}
