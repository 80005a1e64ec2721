//! `tail`: watches the messages that a gateway accepts.

mod line;
mod select;

use super::{
    failure::Failure,
    output,
    server::{Messages, Server},
    status,
};
use cim_gateway::pb::subscribe_notifications_response::Event;
use cim_gateway::pb::{NotificationFilter, SubscribeNotificationsRequest};
use clap::Args;
use line::Style;
use select::{Selection, Start};
use std::{env, io, io::IsTerminal as _, time::Duration};
use tonic::Status;

/// Waits between attempts to reconnect: the first, and the longest to which they double.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(15);

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cim-gateway tail                                        what is accepted from now on
  cim-gateway tail --from earliest --conversation 0198c0de
  cim-gateway tail --from 2026-01-31T08:00:00Z --sender connector --sender bot
  cim-gateway tail --json | jq .message.body

A message is shown if every option that is given has a value that it matches. A lost connection is taken up again where it was \
lost, so that nothing is missed or shown twice; standard error says so. Ends on Ctrl-C.")]
pub(super) struct Options {
    #[command(flatten)]
    server: Server,
    /// Where to start: earliest, latest, a cursor, or the first message accepted at or after a time (RFC 3339)
    #[arg(long, value_name = "START", default_value = "latest")]
    from: Start,
    /// Print JSON lines, as it does when standard output is no terminal
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    selection: Selection,
}

pub(super) fn run(options: Options) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.map_err(|e| Failure::Failed(format!("no network: {e}")))?;
    let watching = runtime.spawn(Watch::new(options).run());
    let outcome = runtime.block_on(async {
        tokio::select! {
            outcome = watching => outcome.unwrap_or_else(|e| Err(Failure::Failed(format!("tail broke: {e}")))),
            _ = tokio::signal::ctrl_c() => Ok(()),
        }
    });
    // Whoever reads the output may have stopped reading without closing it: a line that waits for that must not hold up the end.
    runtime.shutdown_background();
    outcome
}

/// A subscription over any number of connections.
struct Watch {
    server: Server,
    filter: NotificationFilter,
    /// Where the next connection goes on.
    start: Start,
    style: Style,
    wait: Duration,
}

/// Why a connection is over.
enum Ended {
    /// For good.
    Finally(Failure),
    /// For now, for the reason in this sentence.
    Lost(String),
}

impl Watch {
    fn new(options: Options) -> Self {
        let colour = env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let style = match (options.json || !io::stdout().is_terminal(), colour) {
            (true, _) => Style::Json,
            (false, true) => Style::Coloured,
            (false, false) => Style::Plain,
        };
        Self { server: options.server, filter: options.selection.into(), start: options.from, style, wait: FIRST_WAIT }
    }

    async fn run(mut self) -> Result<(), Failure> {
        // A gateway that was never there is a mistake in the address as likely as not.
        let mut client = Some(self.server.connect().await.map_err(Failure::Failed)?);
        loop {
            let connected = match client.take() {
                Some(client) => Ok(client),
                None => self.server.connect().await,
            };
            let ended = match connected {
                Ok(client) => self.follow(client).await,
                Err(reason) => Ended::Lost(reason),
            };
            match ended {
                Ended::Finally(failure) => return Err(failure),
                Ended::Lost(reason) => eprintln!("{reason}; trying again in {}", humantime::format_duration(self.wait)),
            }
            tokio::time::sleep(self.wait).await;
            self.wait = LONGEST_WAIT.min(self.wait * 2);
        }
    }

    /// Prints what comes until the connection is over.
    async fn follow(&mut self, mut client: Messages) -> Ended {
        let request = SubscribeNotificationsRequest {
            filter: Some(self.filter.clone()),
            start: Some(self.start.clone().into()),
            ..SubscribeNotificationsRequest::default()
        };
        let mut responses = match client.subscribe_notifications(request).await {
            Ok(response) => response.into_inner(),
            Err(status) => return ended(&status),
        };
        let mut resumed = self.wait > FIRST_WAIT;
        loop {
            let event = match responses.message().await {
                Ok(Some(response)) => response.event,
                Ok(None) => return Ended::Lost("the gateway ended the stream".into()),
                Err(status) => return ended(&status),
            };
            self.wait = FIRST_WAIT;
            if std::mem::take(&mut resumed) {
                eprintln!("connected again");
            }
            let cursor = match event {
                Some(Event::Heartbeat(heartbeat)) => heartbeat.cursor,
                Some(Event::Notification(accepted)) => {
                    if let Err(failure) = output::print(self.style.line(&accepted)) {
                        return Ended::Finally(failure);
                    }
                    accepted.cursor
                }
                // An event of a newer version.
                None => continue,
            };
            if !cursor.is_empty() {
                self.start = Start::Cursor(cursor);
            }
        }
    }
}

/// What an error means for the subscription.
fn ended(status: &Status) -> Ended {
    let sentence = status::lines(status).join("; ");
    if status::is_final(status.code()) { Ended::Finally(Failure::Failed(sentence)) } else { Ended::Lost(sentence) }
}
