//! Reads checked values out of the layers, noting every one that is wrong.

use super::{error::Problem, layers::Layers, size::Size};
use std::fmt::Display;
use std::net::{Ipv4Addr, SocketAddr};
use std::{ops::RangeInclusive, str::FromStr, time::Duration};
use toml::{Table, Value};

/// Reads the values of the layers. A value that is wrong is noted, and something of its type stands in for it.
#[derive(Debug)]
pub(super) struct Reader {
    layers: Layers,
}

impl Reader {
    pub(super) fn new(layers: Layers) -> Self {
        Self { layers }
    }

    /// Everything that was wrong.
    pub(super) fn into_problems(self) -> Vec<Problem> {
        self.layers.problems
    }

    /// Notes that the value of `key` is wrong.
    pub(super) fn refuse(&mut self, key: &str, sentence: impl Into<String>) {
        let origin = self.layers.origins.get(key).cloned();
        self.layers.problems.push(Problem { origin, ..Problem::new(key, sentence) });
    }

    pub(super) fn text(&mut self, key: &str) -> String {
        match self.take(key) {
            Value::String(text) => text,
            other => {
                self.refuse(key, format!("needs a text, got {}", shown(&other)));
                String::new()
            }
        }
    }

    pub(super) fn flag(&mut self, key: &str) -> bool {
        match self.take(key) {
            Value::Boolean(flag) => flag,
            other => {
                self.refuse(key, format!("must be true or false, got {}", shown(&other)));
                false
            }
        }
    }

    pub(super) fn number<N>(&mut self, key: &str, bounds: RangeInclusive<N>) -> N
    where
        N: TryFrom<i64> + PartialOrd + Display + Copy,
    {
        match self.take(key) {
            Value::Integer(number) => {
                let fitting = N::try_from(number).ok();
                self.within(key, bounds, fitting, number, |n| n.to_string())
            }
            other => {
                self.refuse(key, format!("needs a whole number, got {}", shown(&other)));
                *bounds.start()
            }
        }
    }

    pub(super) fn size(&mut self, key: &str, bounds: RangeInclusive<Size>) -> Size {
        match self.read::<Size>(key, "a size with its unit, such as \"1 MiB\"", |text| text.parse().ok()) {
            Some((size, given)) => self.within(key, bounds, Some(size), given, |size| size.to_string()),
            None => *bounds.start(),
        }
    }

    pub(super) fn duration(&mut self, key: &str, bounds: RangeInclusive<Duration>) -> Duration {
        // A bare 0 would pass for a duration.
        let parse = |text: &str| humantime::parse_duration(text).ok().filter(|_| text.contains(char::is_alphabetic));
        match self.read(key, "a time with its unit, such as \"30s\"", parse) {
            Some((time, given)) => {
                self.within(key, bounds, Some(time), given, |time| humantime::format_duration(time).to_string())
            }
            None => *bounds.start(),
        }
    }

    /// A list of times, of which there is one at least.
    pub(super) fn durations(&mut self, key: &str, bounds: RangeInclusive<Duration>) -> Vec<Duration> {
        let value = self.take(key);
        let parse = |text: &str| humantime::parse_duration(text).ok().filter(|time| bounds.contains(time));
        let times: Option<Vec<_>> = value.as_array().and_then(|list| list.iter().map(|item| parse(item.as_str()?)).collect());
        times.filter(|times| !times.is_empty()).unwrap_or_else(|| {
            let (least, most) = (humantime::format_duration(*bounds.start()), humantime::format_duration(*bounds.end()));
            self.refuse(
                key,
                format!("needs a list of times between {least} and {most}, such as [\"1s\", \"5s\"], got {}", shown(&value)),
            );
            vec![*bounds.end()]
        })
    }

    pub(super) fn address(&mut self, key: &str) -> SocketAddr {
        let read = self.read(key, "an address and a port, such as \"127.0.0.1:8080\"", |text| SocketAddr::from_str(text).ok());
        read.map_or(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), |(address, _)| address)
    }

    /// One of a closed set: what the value of each choice is called, and what it means.
    pub(super) fn choice<N: Into<Value> + Copy, T: Copy, const COUNT: usize>(
        &mut self,
        key: &str,
        choices: [(N, T); COUNT],
    ) -> Option<T> {
        let value = self.take(key);
        let chosen = choices.iter().find(|(name, _)| (*name).into() == value);
        if chosen.is_none() {
            let names = choices.map(|(name, _)| shown(&name.into())).join(" or ");
            self.refuse(key, format!("must be {names}, got {}", shown(&value)));
        }
        chosen.map(|(_, meaning)| *meaning)
    }

    pub(super) fn texts(&mut self, key: &str, example: &str) -> Vec<String> {
        let value = self.take(key);
        let texts = value.as_array().and_then(|list| list.iter().map(|item| item.as_str().map(String::from)).collect());
        texts.unwrap_or_else(|| {
            self.refuse(key, format!("needs a list, such as [{example:?}], got {}", shown(&value)));
            Vec::new()
        })
    }

    /// A list of tables, whatever is in them.
    pub(super) fn tables(&mut self, key: &str) -> Vec<Table> {
        let value = self.take(key);
        let tables = value.as_array().and_then(|list| list.iter().map(|item| item.as_table().cloned()).collect());
        tables.unwrap_or_else(|| {
            // What is there instead may hold a secret.
            self.refuse(key, format!("needs a list of tables, got {}", value.type_str()));
            Vec::new()
        })
    }

    /// A value that is written as text, with that text.
    fn read<T>(&mut self, key: &str, needed: &str, parse: impl Fn(&str) -> Option<T>) -> Option<(T, String)> {
        let value = self.take(key);
        let read = value.as_str().and_then(|text| Some((parse(text)?, text.to_owned())));
        if read.is_none() {
            self.refuse(key, format!("needs {needed}, got {}", shown(&value)));
        }
        read
    }

    fn within<T: PartialOrd + Copy>(
        &mut self,
        key: &str,
        bounds: RangeInclusive<T>,
        value: Option<T>,
        given: impl Display,
        show: impl Fn(T) -> String,
    ) -> T {
        value.filter(|value| bounds.contains(value)).unwrap_or_else(|| {
            let (least, most) = (show(*bounds.start()), show(*bounds.end()));
            self.refuse(key, format!("must be between {least} and {most}, got {given}"));
            *bounds.start()
        })
    }

    fn take(&mut self, key: &str) -> Value {
        // Only a key that the defaults lack is not there; the tests read them all. No reader takes an empty table.
        self.layers.values.remove(key).unwrap_or_else(|| Value::Table(Table::new()))
    }
}

/// A value as it may be written in TOML.
fn shown(value: &Value) -> String {
    value.to_string()
}
