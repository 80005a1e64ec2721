//! Stands in for the composition root until it is merged.

use crate::config::Config;

/// Why the gateway could not start or did not end well.
#[derive(Debug, thiserror::Error)]
#[error("the gateway is not part of this build")]
pub struct Error;

/// Serves until `shutdown` completes.
pub async fn serve(_config: Config, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
    shutdown.await;
    Ok(())
}
