//! `health`: asks a gateway whether it serves, as `grpc.health.v1` tells it.

use super::{failure::Failure, output, server::Server, status};
use clap::Args;
use std::time::Duration;
use tonic::Request;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

/// Longest to wait for an answer: one that takes longer is of no use to who asks.
const TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cim-gateway health
  cim-gateway health --server http://gateway:50051 --service cim.v1.MessageService

Exit code 0 if it serves, 1 if it does not or does not answer.")]
pub(super) struct Options {
    #[command(flatten)]
    server: Server,
    /// Service to ask about, as in grpc.health.v1; the gateway as a whole without
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    service: String,
}

pub(super) fn run(options: &Options) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let answer = runtime.map_err(|e| Failure::Failed(format!("no network: {e}")))?.block_on(ask(options))?;
    match answer {
        ServingStatus::Serving => output::print("serving\n"),
        other => Err(Failure::Failed(format!("needs SERVING, found {}", other.as_str_name()))),
    }
}

async fn ask(options: &Options) -> Result<ServingStatus, Failure> {
    let channel = options.server.channel().await.map_err(Failure::Failed)?;
    let mut request = Request::new(HealthCheckRequest { service: options.service.clone() });
    request.set_timeout(TIMEOUT);
    match HealthClient::new(channel).check(request).await {
        Ok(answer) => Ok(answer.into_inner().status()),
        Err(status) => Err(Failure::Failed(status::lines(&status).join("; "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use tokio::net::TcpListener;
    use tokio_stream::wrappers::TcpListenerStream;
    use tonic::transport;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    /// What is found about `service` where only "drained" is known, and does not serve.
    async fn found(service: &str) -> Result<ServingStatus, String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (reporter, health) = tonic_health::server::health_reporter();
        reporter.set_service_status("drained", tonic_health::ServingStatus::NotServing).await;
        tokio::spawn(transport::Server::builder().add_service(health).serve_with_incoming(TcpListenerStream::new(listener)));
        let line = Line::parse_from(["health", "--server", &address, "--service", service]);
        ask(&line.options).await.map_err(|failure| format!("{failure:?}"))
    }

    #[tokio::test]
    async fn what_does_not_serve_is_told_from_what_is_unknown() {
        assert_eq!(found("drained").await, Ok(ServingStatus::NotServing));
        assert!(found("nobody").await.unwrap_err().contains("NOT_FOUND"));
    }
}
