//! `import`: takes exported messages into the store.

use super::{data_dir::DataDir, failure::Failure, input::Input, output, output::counted, progress::Progress};
use cim_gateway::app;
use cim_gateway::channels::Channels;
use cim_gateway::config::Config;
use cim_gateway::exported;
use cim_gateway::import::{Import, ImportError, Imported};
use cim_gateway::inbox::Inbox;
use cim_gateway::store::care;
use cim_gateway::store::embedded;
use clap::Args;
use std::io::BufRead;
use std::sync::Arc;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cim-gateway import --data-dir data messages.jsonl
  cim-gateway export --data-dir old | cim-gateway import --data-dir new -

One message a line, in the documented JSON. A message that has an id, a channel session, a conversation, a customer and the data of \
its channel keeps them all, and who it is for as the key gatewayAudiences of an export tells it; any other is routed like a new one. A message that is there already, with the same content, is \
skipped. Each line that cannot be taken is told with its number and every rule it breaks, and nothing of it is stored; the exit \
code is 1 then. Times of acceptance are those of the import.

The store must not be in use. If it has messages already, a new epoch begins.")]
pub(super) struct Options {
    #[command(flatten)]
    data_dir: DataDir,
    /// File with one message a line; - for standard input
    #[arg(value_name = "FILE")]
    file: Input,
}

pub(super) fn run(options: &Options) -> Result<(), Failure> {
    let config = options.data_dir.load()?;
    let declared = app::declared_channels(&config).map_err(Failure::Config)?;
    let lines = options.file.lines().map_err(|reason| Failure::Failed(format!("{}: {reason}", options.file)))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Failure::Failed(format!("no threads to import with: {e}")))?;
    let folder = &config.store.embedded.data_dir;
    let engine = app::embedded_options(&config.store.embedded);
    care::begin_epoch(folder, &engine)?;
    let progress = Progress::new();
    let store = embedded::open(folder, engine, &|opening| progress.opening(opening))?;
    let taken = runtime.block_on(async {
        let opened = Channels::open(Arc::new(store.clone()), declared, app::channels_settings(&config)).await;
        let channels = opened.map_err(|error| Failure::Failed(error.to_string()))?;
        let inbox = Inbox::new(Arc::new(store.clone()), channels, app::limits(&config.limits), config.inbox.repeat_window);
        take_all(options, &config, lines, Import::new(inbox), &progress).await
    });
    store.close();
    drop(progress);
    let (imported, bad) = taken?;
    let Imported { stored, skipped, passed_over } = imported;
    let mut told = format!("{} imported, {skipped} skipped that were there already", counted(stored, "message"));
    if passed_over > 0 {
        told.push_str(&format!(", {} passed over", counted(passed_over, "typing notification")));
    }
    output::print(format!("{told}, {}\n", counted(bad, "bad line")))?;
    if bad == 0 { Ok(()) } else { Err(Failure::Told) }
}

/// Takes every line; returns what was imported, and how many lines could not be.
async fn take_all(
    options: &Options,
    config: &Config,
    mut lines: Box<dyn BufRead>,
    mut import: Import,
    progress: &Progress,
) -> Result<(Imported, u64), Failure> {
    let (mut number, mut bad) = (0_u64, 0);
    let mut line = Vec::new();
    loop {
        line.clear();
        number += 1;
        let read = lines.read_until(b'\n', &mut line);
        let read = read.map_err(|e| Failure::Failed(format!("{}:{number}: cannot be read: {e}", options.file)))?;
        if read == 0 {
            break;
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        progress.show(|| format!("line {number}"));
        let reasons = match exported::read(&line, config.limits.json_depth) {
            Err(error) => vec![error.to_string()],
            Ok(line) => match import.take(line).await {
                Ok(()) => continue,
                Err(ImportError::Refused(violations)) => violations.as_slice().iter().map(ToString::to_string).collect(),
                Err(ImportError::Taken { id }) => vec![format!("id: {id:?} is the id of another message")],
                Err(ImportError::Store(error)) => {
                    return Err(Failure::Failed(format!("{}:{number}: {error}; import it again", options.file)));
                }
            },
        };
        bad += 1;
        reasons.iter().for_each(|reason| eprintln!("{}:{number}: {reason}", options.file));
    }
    let imported = import.finish().await.map_err(|error| Failure::Failed(format!("{error}; import it again")))?;
    Ok((imported, bad))
}
