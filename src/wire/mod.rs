//! The documented JSON of CIM messages, exact to the last field.
//!
//! [`decode`] reads what real clients send, liberally; [`encode`] writes one canonical form, deterministically; nothing is lost in
//! between. [`normalise`] brings a message that came as protobuf into the very form that decoding its JSON would give, so that a
//! message means the same on both faces of the gateway. On normalised messages decoding what was encoded is the identity.
//!
//! There is no second model: [`header`] and [`body`] are tables that say, for each key, which field of the generated type it is
//! and which [`codec`] knows its JSON. A codec does three things, each with a pass of its own: [`read`], [`mod@write`] and [`tidy`].

mod body;
mod channel;
mod codec;
mod header;
mod instant;
#[cfg(test)]
mod mapping;
mod number;
mod object;
mod path;
mod read;
mod text;
mod tidy;
mod write;

pub use body::type_name;
pub use header::sender_type;
pub use instant::{from_millis, now, parse_iso, to_millis, to_rfc3339};
pub use text::SyntaxError;
pub(crate) use text::{Document, Json, Node};

use crate::pb;
use crate::violation::{Reason, Violations};
use codec::Object;
use path::Path;
use read::{MOST_POINTER, Reader};
use std::collections::BTreeMap;
use tidy::Tidier;
use write::Writer;

/// Literals of free-form numbers that a double cannot hold, by JSON Pointer.
pub type Exact = BTreeMap<String, String>;

/// Bounds that keep every message readable to every client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Most containers that free-form JSON may be nested: protobuf runtimes refuse to decode what is nested too deep.
    pub free_form_depth: usize,
    /// Most elements of a list of the model.
    pub list_length: usize,
}

/// A message as read from JSON, and what of it could not be read. Only without violations is it what the client sent.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Decoded {
    /// The message, normalised. What could not be read is unset.
    pub message: pb::CimMessage,
    /// What could not be read.
    pub violations: Violations,
}

/// Reads a message from documented JSON, nested at most `depth` containers deep. Invents nothing: no id, no time.
///
/// ```
/// use cim_gateway::wire;
///
/// let read = wire::decode(br#"{"id": 7, "body": {"type": "PLAIN", "markdownText": "hi", "mood": "good"}}"#, 64)?;
/// assert!(read.violations.is_empty());
/// assert_eq!(read.message.id.as_deref(), Some("7"));
///
/// let written = wire::encode(&read.message);
/// let expected = br#"{"id":"7","header":null,"body":{"type":"PLAIN","markdownText":"hi","mood":"good"}}"#;
/// assert_eq!(written, expected);
/// # Ok::<(), wire::SyntaxError>(())
/// ```
pub fn decode(json: &[u8], depth: usize) -> Result<Decoded, SyntaxError> {
    let document = Document::parse(json, depth)?;
    let mut reader = Reader::default();
    let root = document.root();
    let mut message = match root.json() {
        Json::Object(members) => pb::CimMessage::read(members, &Path::ROOT, &mut reader),
        _ => {
            reader.violations.add("", Reason::WrongType, format!("a message is an object, found {}", root.describe()));
            pb::CimMessage::default()
        }
    };
    message.exact_numbers = reader.exact;
    Ok(Decoded { message, violations: reader.violations })
}

/// Writes a message as documented JSON: every documented key in its order, then the others; UTF-8 without needless white space.
pub fn encode(message: &pb::CimMessage) -> Vec<u8> {
    let mut writer = Writer::new(&message.exact_numbers, 1536);
    message.write(&mut writer);
    writer.into_text()
}

/// Writes a body alone, as the documented answer 200 carries one.
pub fn encode_body(body: &pb::Body) -> Vec<u8> {
    let exact = Exact::new();
    let mut writer = Writer::new(&exact, 256);
    body.write(&mut writer);
    writer.into_text()
}

/// Brings a message into the form that decoding its JSON would give, and says what is wrong with it. Of a message that
/// [`decode`] gave without violations nothing changes, and only the bounds can be wrong.
pub fn normalise(message: &mut pb::CimMessage, bounds: &Bounds) -> Violations {
    let sent = std::mem::take(&mut message.exact_numbers);
    let live = live_exact_numbers(message, &sent);
    let mut tidier = Tidier { bounds, exact: &live, violations: Violations::default() };
    message.tidy(&Path::ROOT, &mut tidier);
    let mut violations = tidier.violations;
    for (pointer, literal) in sent.iter().filter(|(_, literal)| !number::is_literal(literal)) {
        let message =
            format!("exact_numbers needs a JSON number for {:?}, found {:?}", text::excerpt(pointer), text::excerpt(literal));
        violations.add("", Reason::NotANumber, message);
    }
    for pointer in sent.keys().filter(|pointer| pointer.len() > MOST_POINTER) {
        let message = format!("exact_numbers needs pointers of at most {} bytes, found {}", MOST_POINTER, pointer.len());
        violations.add("", Reason::TooLong, message);
    }
    message.exact_numbers = live;
    violations
}

/// Reads a channel from the gateway's JSON, nested at most `depth` containers deep, and tells what of it could not be read. Unlike a
/// message it has no keys but those of the model.
pub fn decode_channel(json: &[u8], depth: usize) -> Result<(pb::Channel, Violations), SyntaxError> {
    let document = Document::parse(json, depth)?;
    let mut reader = Reader::default();
    let root = document.root();
    let channel = match root.json() {
        Json::Object(members) => pb::Channel::read(members, &Path::ROOT, &mut reader),
        _ => {
            reader.violations.add("", Reason::WrongType, format!("a channel is an object, found {}", root.describe()));
            pb::Channel::default()
        }
    };
    channel::report_inexact(&mut reader);
    Ok((channel, reader.violations))
}

/// Writes a channel in the gateway's JSON, every key in its order, secrets left out.
pub fn encode_channel(channel: &pb::Channel) -> Vec<u8> {
    let exact = Exact::new();
    let mut writer = Writer::new(&exact, 1024);
    channel.write(&mut writer);
    writer.into_text()
}

/// Writes attributes as the documented JSON has them: a list.
pub fn encode_attributes(attributes: &[pb::Attribute]) -> Vec<u8> {
    let exact = Exact::new();
    let mut writer = Writer::new(&exact, 256);
    writer.list(attributes, pb::Attribute::write);
    writer.into_text()
}

/// Writes what a connector is told of a channel, as it is documented, with the values of passwords: they are for it.
pub fn encode_connector_configuration(service_identifier: &str, attributes: &[pb::Attribute]) -> Vec<u8> {
    let exact = Exact::new();
    let mut writer = Writer::new(&exact, 256);
    writer.begin_object();
    writer.member("serviceIdentifier", "\"serviceIdentifier\":", |writer| writer.text(service_identifier));
    writer.member("connectorConfigurations", "\"connectorConfigurations\":", |writer| {
        writer.list(attributes, pb::Attribute::write);
    });
    writer.end_object();
    writer.into_text()
}

/// As [`normalise`], for a channel.
pub fn normalise_channel(channel: &mut pb::Channel, bounds: &Bounds) -> Violations {
    channel::tidy(channel, bounds)
}

/// Drops the literals that the JSON does not use.
pub(crate) fn drop_stale_exact_numbers(message: &mut pb::CimMessage) {
    let sent = std::mem::take(&mut message.exact_numbers);
    message.exact_numbers = live_exact_numbers(message, &sent);
}

/// The literals that the JSON of `message` uses. Of the others the number is gone, has changed, or says the same by itself.
fn live_exact_numbers(message: &pb::CimMessage, sent: &Exact) -> Exact {
    if sent.is_empty() {
        return Exact::new();
    }
    let mut writer = Writer::new(sent, 1536);
    message.write(&mut writer);
    let used = writer.into_used();
    let live = sent.iter().filter(|(pointer, literal)| {
        used.contains(pointer.as_str()) && !number::is_exact(literal, number::nearest_double(literal))
    });
    live.map(|(pointer, literal)| (pointer.clone(), literal.clone())).collect()
}
