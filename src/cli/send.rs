//! `send`: sends messages to a gateway.

use super::{
    failure::Failure,
    input::Input,
    output,
    server::{Messages, Server},
    status,
};
use cim_gateway::pb::{CimMessage, SendMessageRequest, SendMessageResponse};
use cim_gateway::wire;
use clap::Args;
use std::time::Duration;
use tonic::Request;

/// Longest to wait for an answer.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Deepest JSON that is read: what any gateway may be set to accept.
const DEPTH: usize = 128;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cim-gateway send hello.json
  cim-gateway send --to http://gateway:50051 one.json two.json
  jq '.body.markdownText = \"Hello\"' template.json | cim-gateway send -

Prints one line per accepted message. Exit code 1 if any was not accepted.")]
pub(super) struct Options {
    #[command(flatten)]
    server: Server,
    /// Files with one message each in the documented JSON; - for standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<Input>,
}

pub(super) fn run(options: &Options) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|e| Failure::Failed(format!("no network: {e}")))?.block_on(send_all(options))
}

async fn send_all(options: &Options) -> Result<(), Failure> {
    let mut client = options.server.connect().await.map_err(Failure::Failed)?;
    let mut all_accepted = true;
    for file in &options.files {
        match send(&mut client, file).await {
            Ok(answer) => output::print(format!("{file}: {}\n", told(&answer)))?,
            Err(lines) => {
                all_accepted = false;
                lines.iter().for_each(|line| eprintln!("{file}: {line}"));
            }
        }
    }
    if all_accepted { Ok(()) } else { Err(Failure::Told) }
}

/// Sends the message in `file`, or says in lines why it was not accepted.
async fn send(client: &mut Messages, file: &Input) -> Result<SendMessageResponse, Vec<String>> {
    let mut request = Request::new(SendMessageRequest { message: Some(read(file)?), ..SendMessageRequest::default() });
    request.set_timeout(TIMEOUT);
    client.send_message(request).await.map(tonic::Response::into_inner).map_err(|status| status::lines(&status))
}

fn read(file: &Input) -> Result<CimMessage, Vec<String>> {
    let json = file.read().map_err(|reason| vec![reason])?;
    let decoded = wire::decode(&json, DEPTH).map_err(|e| vec![e.to_string()])?;
    if decoded.violations.is_empty() {
        Ok(decoded.message)
    } else {
        Err(decoded.violations.as_slice().iter().map(ToString::to_string).collect())
    }
}

/// What became of an accepted message.
fn told(answer: &SendMessageResponse) -> String {
    let mut told = format!("accepted as {}", answer.message_id);
    for (what, id) in [
        ("instead of", &answer.submitted_id),
        ("conversation", &answer.conversation_id),
        ("channel session", &answer.channel_session_id),
        ("cursor", &answer.cursor),
    ] {
        if !id.is_empty() {
            told.push_str(&format!(", {what} {id}"));
        }
    }
    if answer.duplicate {
        told.push_str(", a repeat");
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_told_on_one_line() {
        let mut answer = SendMessageResponse { message_id: "m1".into(), cursor: "k7".into(), ..Default::default() };
        assert_eq!(told(&answer), "accepted as m1, cursor k7");
        answer.submitted_id = "m0".into();
        answer.conversation_id = "c1".into();
        answer.channel_session_id = "s1".into();
        answer.duplicate = true;
        assert_eq!(told(&answer), "accepted as m1, instead of m0, conversation c1, channel session s1, cursor k7, a repeat");
    }
}
