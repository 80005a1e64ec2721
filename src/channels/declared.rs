//! Channels that the configuration declares: tables with the keys of the JSON, spelt as the configuration spells keys. Secrets stand
//! in files, so that whoever shows a configuration shows none.

use super::{Limits, declared_id, rules};
use crate::pb::{self, DisabledReason};
use crate::violation::{Reason, Violation, Violations};
use crate::wire;
use serde_json::{Map, Value as Json};
use std::collections::HashMap;
use std::fs;
use toml::{Table, Value};
use uuid::Uuid;

/// Containers that the JSON of a declared channel may be nested.
const DEPTH: usize = 64;

/// The key of a list of files in place of `signing_secrets`.
const SECRET_FILES: &str = "signing_secret_files";

/// The key of a file in place of the `value` of an attribute.
const VALUE_FILE: &str = "value_file";

/// What is wrong with a declaration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The key, such as `channels.declared[0].connector.uri`.
    pub key: String,
    /// What was needed and what was found, to be read after the key.
    pub sentence: String,
}

/// The channels that are declared, with what their files hold. Either all of them keep every rule, or everything that is wrong is
/// told.
pub fn read(declared: &[Table], limits: &Limits) -> Result<Vec<pb::Channel>, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut channels: Vec<pb::Channel> = Vec::new();
    let mut places = HashMap::new();
    let mut defaults = HashMap::new();
    for (i, table) in declared.iter().enumerate() {
        let place = format!("channels.declared[{i}]");
        let mut reading = Reading { place: &place, problems: &mut problems };
        let channel = reading.channel(table, limits);
        if let Some(earlier) = places.insert(channel.service_identifier.clone(), i)
            && !channel.service_identifier.is_empty()
        {
            reading.wrong("service_identifier", format!("is that of channels.declared[{earlier}], too"));
        }
        if channel.default_outbound
            && let Some(earlier) = defaults.insert(channel.channel_type.clone(), i)
        {
            reading.wrong("default_outbound", format!("is said of channels.declared[{earlier}], which is of the same type, too"));
        }
        channels.push(channel);
    }
    if problems.is_empty() { Ok(channels) } else { Err(problems) }
}

struct Reading<'p> {
    place: &'p str,
    problems: &'p mut Vec<Problem>,
}

impl Reading<'_> {
    fn channel(&mut self, table: &Table, limits: &Limits) -> pb::Channel {
        let json = self.object("", table);
        let text = Json::Object(json).to_string();
        let (mut channel, mut violations) = match wire::decode_channel(text.as_bytes(), DEPTH) {
            Ok(read) => read,
            Err(error) => {
                self.wrong("", format!("cannot be read: {error}"));
                return pb::Channel::default();
            }
        };
        let mut output = Violations::default();
        for (path, set) in [
            ("id", !channel.id.is_empty()),
            ("etag", !channel.etag.is_empty()),
            ("declared", channel.declared),
            ("createTime", channel.create_time.is_some()),
            ("updateTime", channel.update_time.is_some()),
            ("connector.disabledReason", is_reasoned(channel.connector.as_ref())),
            ("bot.endpoint.disabledReason", is_reasoned(channel.bot.as_ref().and_then(|bot| bot.endpoint.as_ref()))),
        ] {
            if set {
                output.add(path, Reason::Immutable, "is the gateway's to set");
            }
        }
        violations.follow_up(output);
        violations.follow_up(rules::check(&mut channel, limits));
        for Violation { path, message, reason } in violations.into_vec() {
            // It names keys.
            let message = if reason == Reason::UnknownKey { snake_case(&message) } else { message };
            self.wrong(&snake_case(&path), message);
        }
        channel.id = declared_id(&channel.service_identifier);
        channel.etag = Uuid::new_v4().simple().to_string();
        channel.declared = true;
        channel
    }

    fn wrong(&mut self, path: &str, sentence: impl Into<String>) {
        let dot = if path.is_empty() || path.starts_with('[') { "" } else { "." };
        self.problems.push(Problem { key: format!("{}{dot}{path}", self.place), sentence: sentence.into() });
    }

    /// A table as JSON: its keys as JSON spells them, and files replaced by what they hold.
    fn object(&mut self, path: &str, table: &Table) -> Map<String, Json> {
        let mut object = Map::new();
        for (key, value) in table {
            let at = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            match (key.as_str(), value) {
                (SECRET_FILES, Value::Array(files)) => {
                    let secrets = files.iter().enumerate().filter_map(|(i, file)| self.file(&format!("{at}[{i}]"), file));
                    object.insert("signingSecrets".into(), secrets.collect());
                }
                (VALUE_FILE, file) => {
                    let value = self.file(&at, file).unwrap_or_else(|| Json::String(String::new()));
                    object.insert("value".into(), value);
                }
                (SECRET_FILES, _) => self.wrong(&at, "needs a list of the paths of files"),
                ("signing_secrets", _) => {
                    self.wrong(&at, format!("must not stand in a configuration; {SECRET_FILES} names files that hold them"));
                }
                ("value", value) => {
                    if table.get("type").and_then(Value::as_str).is_some_and(|name| name.eq_ignore_ascii_case("Password")) {
                        let needed =
                            format!("of a Password must not stand in a configuration; {VALUE_FILE} names a file that holds it");
                        self.wrong(&at, needed);
                    }
                    object.insert("value".into(), plain(value));
                }
                (key, _) if key.contains(|character: char| character.is_ascii_uppercase()) => {
                    // JSON may spell it so.
                    self.wrong(&at, "is no key here: keys of the configuration have no capitals");
                }
                (_, Value::Table(inner)) => {
                    let inner = self.object(&at, inner);
                    object.insert(camel_case(key), Json::Object(inner));
                }
                (_, Value::Array(elements)) => {
                    let elements = elements.iter().enumerate().map(|(i, element)| match element {
                        Value::Table(inner) => Json::Object(self.object(&format!("{at}[{i}]"), inner)),
                        other => plain(other),
                    });
                    object.insert(camel_case(key), elements.collect());
                }
                (_, value) => {
                    object.insert(camel_case(key), plain(value));
                }
            }
        }
        object
    }

    /// What a file holds, without the end of its last line.
    fn file(&mut self, path: &str, file: &Value) -> Option<Json> {
        let Some(name) = file.as_str() else {
            self.wrong(path, "needs the path of a file");
            return None;
        };
        match fs::read_to_string(name) {
            Ok(text) => Some(Json::String(text.trim_end_matches(['\r', '\n']).to_owned())),
            Err(error) => {
                self.wrong(path, format!("{name:?} cannot be read: {error}"));
                None
            }
        }
    }
}

/// True if it is said why the gateway has disabled an endpoint.
fn is_reasoned(endpoint: Option<&pb::Endpoint>) -> bool {
    endpoint.is_some_and(|endpoint| endpoint.disabled_reason() != DisabledReason::Unspecified)
}

/// A value as JSON, its keys as they are.
fn plain(value: &Value) -> Json {
    match value {
        Value::String(text) => Json::String(text.clone()),
        Value::Integer(number) => Json::from(*number),
        Value::Float(number) => Json::from(*number),
        Value::Boolean(flag) => Json::Bool(*flag),
        Value::Datetime(time) => Json::String(time.to_string()),
        Value::Array(elements) => elements.iter().map(plain).collect(),
        Value::Table(table) => table.iter().map(|(key, value)| (key.clone(), plain(value))).collect(),
    }
}

/// `service_identifier` as JSON spells it: `serviceIdentifier`.
fn camel_case(key: &str) -> String {
    let mut spelt = String::with_capacity(key.len());
    let mut characters = key.chars();
    while let Some(character) = characters.next() {
        match character {
            '_' => spelt.extend(characters.next().map(|next| next.to_ascii_uppercase())),
            other => spelt.push(other),
        }
    }
    spelt
}

/// The path of a violation as the configuration spells it.
fn snake_case(path: &str) -> String {
    let mut spelt = String::with_capacity(path.len());
    for character in path.chars() {
        if character.is_ascii_uppercase() {
            spelt.push('_');
        }
        spelt.push(character.to_ascii_lowercase());
    }
    spelt.replace("signing_secrets", SECRET_FILES)
}
