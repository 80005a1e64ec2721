//! The file of keys: who holds one, what it is good for, and its digest.
//!
//! ```toml
//! [[keys]]
//! name = "whatsapp"
//! role = "connector"
//! service_identifiers = ["4915112345678"]
//! sha256 = ["9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"]
//! ```
//!
//! A name may have several digests, so that a key can be changed without a moment in which neither the old nor the new one is good.

use super::caller::{Caller, Holder, Identity};
use super::key::Digest;
use super::role::Role;
use crate::name::Name;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use subtle::ConstantTimeEq as _;
use tokio_util::sync::CancellationToken;
use toml::{Table, Value};

/// Most keys of a file.
const MOST: usize = 10_000;

/// What is wrong with a file of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where, such as `keys[0].role`; empty for the whole file.
    pub path: String,
    /// What was needed and what was found, to be read after that. It repeats no value that may be a key.
    pub sentence: String,
}

/// The keys that are good.
#[derive(Default)]
pub struct Keys {
    /// By the first half of the digest. Who looks for a key by how long that takes learns of digests, which are of no use to them.
    known: HashMap<[u8; 16], Known>,
}

struct Known {
    digest: Digest,
    holder: Holder,
}

impl Keys {
    /// Reads the text of a file. Either all of it is right, or everything that is wrong is told.
    pub fn read(text: &str) -> Result<Self, Vec<Problem>> {
        let table = text.parse::<Table>().map_err(|error| {
            let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
            // What TOML says of a value may repeat it.
            vec![Problem { path: String::new(), sentence: format!("is no TOML: it cannot be read from line {line} on") }]
        })?;
        let mut reading = Reading::default();
        reading.file(&table);
        if reading.problems.is_empty() { Ok(Self { known: reading.known }) } else { Err(reading.problems) }
    }

    /// Who holds the key; none if nobody does.
    pub(super) fn caller(&self, key: &str) -> Option<Caller> {
        let digest = Digest::of(key);
        let known = self.known.get(&half(&digest))?;
        let same = bool::from(known.digest.0.ct_eq(&digest.0));
        same.then(|| Caller(Some(known.holder.clone())))
    }

    /// Becomes `renewed`. Keys that stay as they are go on; the others are told that they are revoked.
    pub(super) fn renew(&mut self, mut renewed: Self) {
        for (half, former) in self.known.drain() {
            match renewed.known.get_mut(&half) {
                Some(known) if known.digest == former.digest && known.holder.identity == former.holder.identity => {
                    known.holder = former.holder;
                }
                _ => former.holder.revoked.cancel(),
            }
        }
        *self = renewed;
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys({})", self.known.len())
    }
}

fn half(digest: &Digest) -> [u8; 16] {
    std::array::from_fn(|i| digest.0[i])
}

/// A file as far as it is read.
#[derive(Default)]
struct Reading {
    known: HashMap<[u8; 16], Known>,
    names: HashSet<String>,
    problems: Vec<Problem>,
}

impl Reading {
    fn wrong(&mut self, path: impl Into<String>, sentence: impl Into<String>) {
        self.problems.push(Problem { path: path.into(), sentence: sentence.into() });
    }

    fn file(&mut self, table: &Table) {
        for unknown in table.keys().filter(|key| *key != "keys") {
            self.wrong(unknown, "is no key of this file; it has [[keys]] only");
        }
        let tables = table.get("keys").map_or(Some(Vec::new()), |keys| keys.as_array()?.iter().map(Value::as_table).collect());
        let Some(tables) = tables else { return self.wrong("keys", "needs tables, each under [[keys]]") };
        if tables.len() > MOST {
            return self.wrong("keys", format!("may have {MOST} tables, found {}", tables.len()));
        }
        for (i, table) in tables.into_iter().enumerate() {
            self.holder(&format!("keys[{i}]"), table);
        }
        self.subscriptions();
    }

    /// Subscriptions of a bound key are called as it is, or begin with that and a dot: no other key may be called so.
    fn subscriptions(&mut self) {
        let bound = self.known.values().map(|known| &*known.holder.identity).filter(|own| own.service_identifiers.is_some());
        let bound: BTreeSet<_> = bound.map(|identity| identity.name.clone()).collect();
        for own in bound {
            let begins = |name: &&String| name.strip_prefix(&*own).is_some_and(|rest| rest.starts_with('.'));
            if let Some(other) = self.names.iter().find(begins).cloned() {
                self.wrong(
                    "keys",
                    format!("{other:?} begins as the subscriptions of the bound key {own:?} do: call one of them otherwise"),
                );
            }
        }
    }

    fn holder(&mut self, place: &str, table: &Table) {
        const FIELDS: [&str; 4] = ["name", "role", "service_identifiers", "sha256"];
        for unknown in table.keys().filter(|key| !FIELDS.contains(&key.as_str())) {
            self.wrong(format!("{place}.{unknown}"), format!("is not known; known are {}", FIELDS.join(", ")));
        }
        let name = self.name(place, table.get("name"));
        let role = table.get("role").and_then(Value::as_str).and_then(Role::of);
        if role.is_none() {
            self.wrong(format!("{place}.role"), format!("needs one of {}", Role::ALL.map(Role::word).join(", ")));
        }
        let service_identifiers = self.service_identifiers(place, table.get("service_identifiers"), role);
        let digests = self.digests(&format!("{place}.sha256"), table.get("sha256"));
        let (Some(name), Some(role)) = (name, role) else { return };
        let identity = Arc::new(Identity { name, role, service_identifiers });
        for (at, digest) in digests {
            let holder = Holder { identity: identity.clone(), revoked: CancellationToken::new() };
            let known = Known { digest, holder };
            if let Some(former) = self.known.insert(half(&digest), known) {
                self.wrong(at, format!("is the digest of a key of {:?}, too", former.holder.identity.name));
            }
        }
    }

    fn name(&mut self, place: &str, name: Option<&Value>) -> Option<String> {
        let Some(name) = name.and_then(Value::as_str).filter(|name| name.parse::<Name>().is_ok()) else {
            let needed = "needs 1 to 100 letters, digits, dots, dashes and underscores, a letter or digit first";
            self.wrong(format!("{place}.name"), needed);
            return None;
        };
        if !self.names.insert(name.to_owned()) {
            self.wrong(format!("{place}.name"), format!("is {name:?} twice; give all digests of a holder in one table"));
        }
        Some(name.to_owned())
    }

    fn service_identifiers(&mut self, place: &str, list: Option<&Value>, role: Option<Role>) -> Option<BTreeSet<String>> {
        let path = format!("{place}.service_identifiers");
        let Some(list) = list else {
            if role == Some(Role::Connector) {
                self.wrong(path, "is required: a connector's key is bound to them");
            }
            return None;
        };
        if role == Some(Role::Admin) {
            self.wrong(path.as_str(), "must be left out: an admin's key is bound to none");
        }
        let texts = texts(list).filter(|texts| !texts.is_empty() && texts.iter().all(|text| !text.trim().is_empty()));
        let Some(texts) = texts else {
            self.wrong(path, "needs a list of texts that are not empty, at least one");
            return None;
        };
        Some(texts.into_iter().map(str::to_owned).collect())
    }

    /// The digests, each with its place.
    fn digests(&mut self, path: &str, list: Option<&Value>) -> Vec<(String, Digest)> {
        let Some(texts) = list.and_then(texts).filter(|texts| !texts.is_empty()) else {
            self.wrong(path, "needs a list of digests, at least one; `cim-gateway new-key` makes a key and its digest");
            return Vec::new();
        };
        let mut digests = Vec::new();
        for (i, text) in texts.into_iter().enumerate() {
            let at = format!("{path}[{i}]");
            match Digest::read(text) {
                Some(digest) => digests.push((at, digest)),
                // It may be the key itself.
                None => self.wrong(at, "needs the SHA-256 of a key: 64 hexadecimal digits"),
            }
        }
        digests
    }
}

/// The texts of a list of nothing else.
fn texts(value: &Value) -> Option<Vec<&str>> {
    value.as_array()?.iter().map(Value::as_str).collect()
}
