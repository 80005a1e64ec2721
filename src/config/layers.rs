//! The layers of a configuration: the defaults, then a file, then environment variables.
//!
//! The defaults name every key there is, so they are also the schema: a key that they do not have is unknown.

use super::error::Problem;
use std::{collections::BTreeMap, path::Path};
use toml::{Table, Value};

/// Prefix of the environment variables.
const PREFIX: &str = "CIM_";

/// Variables with the prefix that options of the command line read, and not the configuration.
const OTHERS: [&str; 8] = [
    "CIM_CONFIG",
    "CIM_SERVER",
    "CIM_SERVER_NAME",
    "CIM_CA_FILE",
    "CIM_CLIENT_CERTIFICATE",
    "CIM_CLIENT_KEY",
    "CIM_API_KEY",
    "CIM_API_KEY_FILE",
];

/// Everything that the layers set, and where each key that is not at its default was set.
#[derive(Debug)]
pub(super) struct Layers {
    defaults: BTreeMap<String, Value>,
    pub(super) values: BTreeMap<String, Value>,
    pub(super) origins: BTreeMap<String, String>,
    pub(super) problems: Vec<Problem>,
}

impl Layers {
    /// The lowest layer: every key.
    pub(super) fn new(defaults: &str) -> Self {
        let mut layers =
            Self { defaults: BTreeMap::new(), values: BTreeMap::new(), origins: BTreeMap::new(), problems: Vec::new() };
        match defaults.parse::<Table>() {
            Ok(table) => layers.defaults = leaves(table),
            Err(e) => layers.problems.push(Problem::new("the default configuration", syntax(defaults, &e))),
        }
        layers.values.clone_from(&layers.defaults);
        layers
    }

    /// Lays the keys of a TOML file over what there is.
    pub(super) fn file(&mut self, path: &Path) {
        let name = path.display().to_string();
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) => return self.problems.push(Problem::new(name, format!("cannot be read: {e}"))),
        };
        let table = match text.parse::<Table>() {
            Ok(table) => table,
            Err(e) => return self.problems.push(Problem::new(name, syntax(&text, &e))),
        };
        for (key, value) in leaves(table) {
            if self.defaults.contains_key(&key) {
                self.set(key, value, name.clone());
            } else {
                let sentence = match self.section(&key) {
                    Some(_) => format!("is a section, not a value, got {value}"),
                    None => self.unknown(&key, str::to_owned),
                };
                self.problems.push(Problem { origin: Some(name.clone()), ..Problem::new(key, sentence) });
            }
        }
    }

    /// Lays the environment variables that are meant for the configuration over what there is.
    pub(super) fn variables(&mut self, variables: impl Iterator<Item = (String, String)>) {
        for (name, text) in variables {
            let Some(rest) = name.strip_prefix(PREFIX) else { continue };
            if OTHERS.contains(&name.as_str()) || is_service_link(rest, &text) {
                continue;
            }
            let key = rest.to_lowercase().replace("__", ".");
            if let Some(default) = self.defaults.get(&key) {
                let value = read_as(default, text);
                self.set(key, value, name);
            } else {
                let sentence = match self.section(&key) {
                    Some(inner) => format!("is a section, set the keys in it, such as {}", variable(inner)),
                    None => self.unknown(&key, variable),
                };
                self.problems.push(Problem::new(name, sentence));
            }
        }
    }

    fn set(&mut self, key: String, value: Value, origin: String) {
        self.origins.insert(key.clone(), origin);
        self.values.insert(key, value);
    }

    /// A key inside `key`, if that is a section.
    fn section(&self, key: &str) -> Option<&str> {
        let inside = |known: &&String| known.strip_prefix(key).is_some_and(|rest| rest.starts_with('.'));
        self.defaults.keys().find(inside).map(String::as_str)
    }

    /// Says that there is no such key, and which one may be meant, as `spell` writes it.
    fn unknown(&self, key: &str, spell: impl Fn(&str) -> String) -> String {
        let nearest = self.defaults.keys().map(|known| (distance(key, known), known)).min();
        match nearest {
            Some((distance, known)) if distance <= 3 => format!("is not known, did you mean {}?", spell(known)),
            _ => "is not known".into(),
        }
    }
}

/// The values of a table and of the tables in it, by dotted key.
fn leaves(table: Table) -> BTreeMap<String, Value> {
    fn descend(path: &str, table: Table, found: &mut BTreeMap<String, Value>) {
        for (key, value) in table {
            let path = if path.is_empty() { key } else { format!("{path}.{key}") };
            match value {
                Value::Table(inner) => descend(&path, inner, found),
                value => drop(found.insert(path, value)),
            }
        }
    }
    let mut found = BTreeMap::new();
    descend("", table, &mut found);
    found
}

/// The text of a variable as a value of the kind that the key has. Text that is none stays text, which the reader then refuses.
fn read_as(default: &Value, text: String) -> Value {
    let read = match default {
        Value::Integer(_) => text.trim().parse().ok().map(Value::Integer),
        Value::Boolean(_) => text.trim().parse().ok().map(Value::Boolean),
        Value::Array(_) => format!("list = {text}").parse::<Table>().ok().and_then(|mut table| table.remove("list")),
        Value::String(_) | Value::Float(_) | Value::Datetime(_) | Value::Table(_) => None,
    };
    read.unwrap_or(Value::String(text))
}

/// The variable that sets `key`.
fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.replace('.', "__").to_uppercase())
}

/// True for what Kubernetes sets for every service in a pod's namespace, as in `CIM_GATEWAY_PORT=tcp://10.0.0.7:50051`. Where a
/// service is called cim or cim-something, its variables carry our prefix.
fn is_service_link(rest: &str, text: &str) -> bool {
    let rest = rest.strip_prefix('_').unwrap_or(rest);
    let named = |mark: &str| rest.starts_with(&mark[1..]) || rest.contains(mark);
    let is_url = ["tcp://", "udp://", "sctp://"].iter().any(|scheme| text.starts_with(scheme));
    let is_port = || rest.split('_').any(|part| matches!(part, "TCP" | "UDP" | "SCTP")) && named("_PORT_");
    !rest.contains("__") && (named("_SERVICE_HOST") || named("_SERVICE_PORT") || (is_url && named("_PORT")) || is_port())
}

/// Where and why a text is no TOML.
fn syntax(text: &str, error: &toml::de::Error) -> String {
    let reason = error.message().replace('\n', ", ");
    let Some(before) = error.span().and_then(|span| text.get(..span.start)) else { return format!("is not TOML: {reason}") };
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    format!("is not TOML at line {line}, column {column}: {reason}")
}

/// How many characters have to be put in, taken out or replaced to make `b` of `a`.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, to) in b.chars().enumerate() {
            let replaced = diagonal + usize::from(from != to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[row.len() - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_count_single_changes() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("http_listen", "http.listen"), 1);
        assert_eq!(distance("limits.mesage", "limits.message"), 1);
        assert_eq!(distance("kitten", "sitting"), 3);
    }

    #[test]
    fn variables_of_kubernetes_services_are_told_from_settings() {
        let links = [
            ("GATEWAY_SERVICE_HOST", "10.0.0.7"),
            ("GATEWAY_SERVICE_PORT", "50051"),
            ("GATEWAY_SERVICE_PORT_GRPC", "50051"),
            ("GATEWAY_PORT", "tcp://10.0.0.7:50051"),
            ("GATEWAY_PORT_50051_TCP", "tcp://10.0.0.7:50051"),
            ("GATEWAY_PORT_50051_TCP_PROTO", "tcp"),
            ("GATEWAY_PORT_50051_TCP_PORT", "50051"),
            ("GATEWAY_PORT_50051_TCP_ADDR", "10.0.0.7"),
            ("SERVICE_HOST", "10.0.0.7"),
            ("PORT", "tcp://10.0.0.7:50051"),
            ("PORT_50051_TCP_ADDR", "10.0.0.7"),
        ];
        for (name, text) in links {
            assert!(is_service_link(name, text), "{name}");
        }
        for (name, text) in [("HTTP__LISTEN", "tcp://1.2.3.4:5"), ("HTTP_LISTEN", "127.0.0.1:8080"), ("PORT", "8080")] {
            assert!(!is_service_link(name, text), "{name}");
        }
    }
}
