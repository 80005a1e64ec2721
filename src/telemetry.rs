//! Sets up the log: to standard error, as lines to read or as one JSON object per line. It never holds the content of messages.

use crate::config::{Format, Log};
use std::io::{self, IsTerminal};
use tracing::Subscriber;
use tracing_subscriber::{EnvFilter, Layer, fmt::MakeWriter, layer::SubscriberExt, registry};

/// Sends what the process logs from now on to standard error, as `log` says. Only the first call of a process counts.
pub fn init(log: &Log) {
    let terminal = io::stderr().is_terminal();
    // A process that already logs, as a test may, goes on as it does.
    let _ = tracing::subscriber::set_global_default(subscriber(log, terminal, io::stderr));
}

/// What writes the log to `writer`, which is a `terminal` or not.
fn subscriber<W>(log: &Log, terminal: bool, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let text = match log.format {
        Format::Auto => terminal,
        Format::Text => true,
        Format::Json => false,
    };
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    let lines = if text {
        // https://no-color.org: any value but the empty one.
        let colour = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        lines.with_ansi(colour).boxed()
    } else {
        lines.json().flatten_event(true).with_span_list(false).boxed()
    };
    // The configuration was checked; where it was made by hand, what can be read of it counts.
    registry().with(lines.with_filter(EnvFilter::builder().parse_lossy(&log.level)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;
    use std::sync::Arc;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(level: &str, format: Format, terminal: bool) -> String {
        let written = Written::default();
        let writer = written.clone();
        let log = Log { level: level.into(), format };
        tracing::subscriber::with_default(subscriber(&log, terminal, move || writer.clone()), || {
            tracing::info!(address = "127.0.0.1:8080", "listening");
            tracing::debug!("details");
        });
        String::from_utf8(std::mem::take(&mut *written.0.lock())).unwrap()
    }

    #[test]
    fn elsewhere_than_on_a_terminal_each_line_is_a_json_object() {
        for (format, terminal) in [(Format::Auto, false), (Format::Json, true)] {
            let lines = logged("info", format, terminal);
            let line: serde_json::Value = serde_json::from_str(&lines).unwrap();
            assert_eq!(line["level"], "INFO");
            assert_eq!(line["message"], "listening");
            assert_eq!(line["address"], "127.0.0.1:8080");
        }
    }

    #[test]
    fn text_is_coloured_on_a_terminal_only() {
        assert!(logged("info", Format::Text, false).ends_with("listening address=\"127.0.0.1:8080\"\n"));
        assert_eq!(logged("info", Format::Auto, true).contains('\x1b'), std::env::var_os("NO_COLOR").is_none());
    }

    #[test]
    fn the_level_decides_what_is_logged() {
        assert_eq!(logged("off", Format::Text, false), "");
        assert!(!logged("info", Format::Text, false).contains("details"));
        assert!(logged("info,cim_gateway::telemetry=debug", Format::Text, false).contains("details"));
    }
}
