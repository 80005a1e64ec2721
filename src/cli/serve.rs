//! `serve`: starts the gateway and serves until a signal.

use super::{data_dir::DataDir, failure::Failure};
use cim_gateway::{app, telemetry};
use clap::Args;
use std::{error::Error, io};
use tokio::signal::unix::{Signal, SignalKind, signal};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cim-gateway serve --config gateway.toml
  CIM_HTTP__LISTEN=127.0.0.1:9090 CIM_LOG__LEVEL=debug cim-gateway serve

The first SIGTERM or SIGINT ends it in order, within shutdown.grace; the second ends it at once.")]
pub(super) struct Options {
    #[command(flatten)]
    data_dir: DataDir,
}

pub(super) fn run(options: &Options) -> Result<(), Failure> {
    let config = options.data_dir.load()?;
    telemetry::init(&config.log);
    let runtime = tokio::runtime::Runtime::new().map_err(|e| Failure::Failed(format!("no threads to serve with: {e}")))?;
    let served = runtime.block_on(async {
        let signals = Signals::listen().map_err(|e| Failure::Failed(format!("signals cannot be listened to: {e}")))?;
        app::serve(config, shutdown(signals)).await.map_err(|e| {
            if let app::Error::Declared(error) = e {
                return Failure::Config(error);
            }
            // In the log, so that what collects it sees the reason.
            tracing::error!(error = &e as &dyn Error, "the gateway failed");
            Failure::Told
        })
    });
    // A rebuild of the index that was called off goes on with the next start; nothing waits for it to end.
    runtime.shutdown_background();
    served
}

/// Completes at the first signal; from then on the next one ends the process.
async fn shutdown(mut signals: Signals) {
    let name = signals.next().await;
    tracing::info!(signal = name, "shutting down; a second signal ends at once");
    tokio::spawn(async move {
        let name = signals.next().await;
        tracing::warn!(signal = name, "ended before everything was in order");
        std::process::exit(1);
    });
}

/// The signals that ask the process to end.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// Waits for the next one and returns its name.
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}
