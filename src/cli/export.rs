//! `export`: prints the messages of the store.

use super::{data_dir::DataDir, failure::Failure, output::counted};
use cim_gateway::exported;
use cim_gateway::store::care::{self, ExportError, From};
use cim_gateway::store::{Cursor, NotACursor};
use clap::Args;
use prost_types::Timestamp;
use std::io::{self, BufWriter, Write as _};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cim-gateway export --data-dir data > messages.jsonl
  cim-gateway export --since 2026-01-31T08:00:00Z | jq .body.markdownText
  cim-gateway export --from AQAAAZwR...                       what came after an earlier export

One message a line, in the documented JSON and in the order of acceptance. Works while a gateway uses the store: only its files are \
read, up to the last whole batch, which may be on its way to the disk. Where who a message is for does not follow from who says it, the \
line has a last key that tells it, gatewayAudiences. Typing notifications are left out. The last line on standard \
error tells the cursor from which a later export goes on.")]
pub(super) struct Options {
    #[command(flatten)]
    data_dir: DataDir,
    /// Begin after the message with this cursor
    #[arg(long, value_name = "CURSOR", value_parser = cursor, conflicts_with = "since")]
    from: Option<Cursor>,
    /// Begin with the first message accepted at or after this time (RFC 3339)
    #[arg(long, value_name = "TIME")]
    since: Option<Timestamp>,
}

fn cursor(text: &str) -> Result<Cursor, NotACursor> {
    text.parse()
}

pub(super) fn run(options: &Options) -> Result<(), Failure> {
    let folder = options.data_dir.load()?.store.embedded.data_dir;
    let from = match (options.from, options.since) {
        (Some(cursor), _) => From::After(cursor),
        (None, Some(time)) => From::Since(time),
        (None, None) => From::Earliest,
    };
    let mut out = BufWriter::new(io::stdout().lock());
    let exported = care::export(&folder, from, |entry| {
        let mut line = exported::write(entry).unwrap_or_default();
        line.push(b'\n');
        out.write_all(&line)
    });
    out.flush().map_err(|e| Failure::of_output(&e))?;
    match exported {
        Ok(export) => {
            eprintln!("{}; go on with --from {}", counted(export.messages, "message"), export.cursor);
            Ok(())
        }
        Err(ExportError::Taker(error)) => Err(Failure::of_output(&error)),
        Err(error) => Err(Failure::Failed(error.to_string())),
    }
}
