//! `transcode`: converts a message between its three forms. Pure: it checks no rule and invents no id and no time.

use super::{failure::Failure, input::Input, output, pretty};
use cim_gateway::pb;
use cim_gateway::wire::{self, Bounds};
use clap::{Args, ValueEnum};
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};
use std::{panic, thread};

/// Deepest JSON that is converted.
const DEPTH: usize = 10_000;

/// Enough for the recursion into a message of that depth. It is only reserved, and used as far as a message needs it.
const STACK_BYTES: usize = 1 << 29;

/// What cannot be said in JSON is wrong, and nothing else.
const BOUNDS: Bounds = Bounds { free_form_depth: DEPTH, list_length: usize::MAX };

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cim-gateway transcode hello.json                     the canonical form of the documented JSON
  cim-gateway transcode --pretty --to protojson hello.json
  cim-gateway transcode --to proto hello.json | cim-gateway transcode --from proto")]
pub(super) struct Options {
    /// Form to read
    #[arg(long, value_enum, default_value = "json")]
    from: Form,
    /// Form to write
    #[arg(long, value_enum, default_value = "json")]
    to: Form,
    /// Indent the JSON
    #[arg(long)]
    pretty: bool,
    /// File with one message; - for standard input
    #[arg(value_name = "FILE", default_value = "-")]
    file: Input,
}

/// A form of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// The documented JSON
    Json,
    /// Protobuf, binary
    Proto,
    /// The JSON that protobuf defines for every message
    Protojson,
}

pub(super) fn run(options: &Options) -> Result<(), Failure> {
    let converted =
        options.file.read().map_err(|reason| vec![reason]).and_then(|bytes| on_deep_stack(|| convert(options, &bytes)));
    match converted {
        Ok(bytes) => output::print(bytes),
        Err(lines) => {
            lines.iter().for_each(|line| eprintln!("{}: {line}", options.file));
            Err(Failure::Told)
        }
    }
}

/// Does `work` on a thread of its own with a stack for the deepest message.
fn on_deep_stack<T: Send>(work: impl FnOnce() -> Result<T, Vec<String>> + Send) -> Result<T, Vec<String>> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, work);
        let thread = thread.map_err(|e| vec![format!("no stack to convert with: {e}")])?;
        thread.join().unwrap_or_else(|panicked| panic::resume_unwind(panicked))
    })
}

/// The message in `bytes` in its other form, or every reason why not.
fn convert(options: &Options, bytes: &[u8]) -> Result<Vec<u8>, Vec<String>> {
    let message = read(options.from, bytes)?;
    let json = match options.to {
        Form::Proto => return Ok(message.encode_to_vec()),
        Form::Json => wire::encode(&message),
        Form::Protojson => to_protojson(&message).map_err(|reason| vec![reason])?,
    };
    let mut json = String::from_utf8(json).expect("JSON is written as UTF-8");
    if options.pretty {
        json = pretty::indented(&json);
    }
    json.push('\n');
    Ok(json.into_bytes())
}

/// The normalised message in `bytes`.
fn read(form: Form, bytes: &[u8]) -> Result<pb::CimMessage, Vec<String>> {
    let mut message = match form {
        Form::Json => {
            let decoded = wire::decode(bytes, DEPTH).map_err(|e| vec![e.to_string()])?;
            return if decoded.violations.is_empty() { Ok(decoded.message) } else { Err(lines(&decoded.violations)) };
        }
        Form::Proto => pb::CimMessage::decode(bytes).map_err(|e| vec![format!("is no message in protobuf: {e}")])?,
        Form::Protojson => from_protojson(bytes).map_err(|reason| vec![reason])?,
    };
    let violations = wire::normalise(&mut message, &BOUNDS);
    if violations.is_empty() { Ok(message) } else { Err(lines(&violations)) }
}

fn lines(violations: &cim_gateway::violation::Violations) -> Vec<String> {
    violations.as_slice().iter().map(ToString::to_string).collect()
}

fn from_protojson(bytes: &[u8]) -> Result<pb::CimMessage, String> {
    let wrong = |e: serde_json::Error| format!("is no message in protobuf's JSON: {e}");
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let message = DynamicMessage::deserialize(descriptor(), &mut deserializer).map_err(wrong)?;
    deserializer.end().map_err(wrong)?;
    message.transcode_to().map_err(|e| format!("is no message in protobuf's JSON: {e}"))
}

fn to_protojson(message: &pb::CimMessage) -> Result<Vec<u8>, String> {
    let message = DynamicMessage::decode(descriptor(), message.encode_to_vec().as_slice());
    let json = message.map_err(|e| e.to_string()).and_then(|message| serde_json::to_vec(&message).map_err(|e| e.to_string()));
    json.map_err(|e| format!("cannot be said in protobuf's JSON: {e}"))
}

fn descriptor() -> MessageDescriptor {
    let pool = DescriptorPool::decode(pb::DESCRIPTORS).expect("the build writes descriptors that can be read");
    pool.get_message_by_name("cim.v1.CimMessage").expect("the descriptors are those of the model")
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORMS: [Form; 3] = [Form::Json, Form::Proto, Form::Protojson];

    fn converted(from: Form, to: Form, bytes: &[u8]) -> Result<Vec<u8>, Vec<String>> {
        on_deep_stack(|| convert(&Options { from, to, pretty: false, file: Input::Stdin }, bytes))
    }

    #[test]
    fn every_form_holds_all_of_a_message() {
        let json = br#"{"id":"1","header":{"sender":{"id":"s","type":"BOT","senderName":"n"},"mine":9007199254740993},
            "body":{"type":"PLAIN","markdownText":"Hi"},"more":[null,{"a":1.5}]}"#;
        for from in FORMS {
            let start = converted(Form::Json, from, json).unwrap();
            for to in FORMS {
                let end = converted(from, to, &start).unwrap();
                assert_eq!(end, converted(Form::Json, to, json).unwrap(), "{from:?} to {to:?}");
            }
        }
    }

    #[test]
    fn what_cannot_be_said_in_json_is_named() {
        let protojson = br#"{"body":{"location":{"location":{"latitude":"NaN","longitude":"Infinity"}}}}"#;
        let lines = converted(Form::Protojson, Form::Json, protojson).unwrap_err();
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[0].starts_with("body.location.latitude: ") && lines[0].ends_with("(NOT_FINITE)"), "{lines:?}");
    }

    #[test]
    fn what_is_no_message_is_one_sentence_in_every_form() {
        for (form, bytes) in [(Form::Json, &b"{"[..]), (Form::Proto, b"\xff"), (Form::Protojson, b"{\"nope\":1}")] {
            assert_eq!(converted(form, Form::Json, bytes).unwrap_err().len(), 1);
        }
    }

    #[test]
    fn the_deepest_json_is_converted_and_what_a_form_cannot_hold_refused() {
        let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth - 1), "]".repeat(depth - 1));
        let deepest = converted(Form::Json, Form::Json, nested(DEPTH).as_bytes()).unwrap();
        assert!(String::from_utf8(deepest).unwrap().contains(&"[".repeat(DEPTH - 1)));
        assert!(converted(Form::Json, Form::Json, nested(DEPTH + 1).as_bytes()).is_err());
        let sentence = converted(Form::Json, Form::Protojson, nested(200).as_bytes()).unwrap_err();
        assert!(sentence[0].starts_with("cannot be said in protobuf's JSON: "), "{sentence:?}");
    }
}
