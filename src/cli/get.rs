//! `get`: reads messages that a gateway keeps.

use super::{
    failure::Failure,
    output,
    server::{Messages, Server},
    status,
};
use cim_gateway::pb::{CimMessage, GetMessageRequest};
use cim_gateway::wire;
use clap::Args;
use std::time::Duration;
use tonic::Request;

/// Longest to wait for an answer.
const TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cim-gateway get 63c0ea05-4878-4d65-b6e0-2564ec29fc89
  cim-gateway get --server http://gateway:50051 m-1 m-2 | jq .body

Prints each message in the documented JSON, one per line. Exit code 1 if any could not be read.")]
pub(super) struct Options {
    #[command(flatten)]
    server: Server,
    /// Ids of messages
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
}

pub(super) fn run(options: &Options) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|e| Failure::Failed(format!("no network: {e}")))?.block_on(get_all(options))
}

async fn get_all(options: &Options) -> Result<(), Failure> {
    let mut client = options.server.connect().await.map_err(Failure::Failed)?;
    let mut all_read = true;
    for id in &options.ids {
        match get(&mut client, id).await {
            Ok(message) => {
                let mut line = wire::encode(&message);
                line.push(b'\n');
                output::print(line)?;
            }
            Err(lines) => {
                all_read = false;
                lines.iter().for_each(|line| eprintln!("{id}: {line}"));
            }
        }
    }
    if all_read { Ok(()) } else { Err(Failure::Told) }
}

/// The message with this id, or in lines why there is none.
async fn get(client: &mut Messages, id: &str) -> Result<CimMessage, Vec<String>> {
    let mut request = Request::new(GetMessageRequest { message_id: id.to_owned() });
    request.set_timeout(TIMEOUT);
    let answer = client.get_message(request).await.map_err(|status| status::lines(&status))?.into_inner();
    answer.message.and_then(|accepted| accepted.message).ok_or_else(|| vec!["the gateway answered without a message".to_owned()])
}
