//! The pass that reads a document: free-form JSON, and what is gathered on the way.

use super::Exact;
use super::number;
use super::path::{self, Path};
use super::text::{Json, Members, Node};
use crate::violation::{Reason, Violations};
use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};
use std::borrow::Cow;
use std::collections::btree_map::Entry;

/// Most bytes that the pointers to exact numbers may take together. Each repeats the keys that lead to it, so that a document of
/// one long key and many such numbers would grow by its square.
const MOST_POINTER_BYTES: usize = 8 << 20;

/// Most bytes of one such pointer. Each number of free-form JSON is looked up by its own.
pub(super) const MOST_POINTER: usize = 16 << 10;

/// What is gathered while a document is read.
#[derive(Debug, Default)]
pub(super) struct Reader {
    /// What cannot be read.
    pub(super) violations: Violations,
    /// Literals that a double cannot hold, by pointer.
    pub(super) exact: Exact,
    pointer_bytes: usize,
}

impl Reader {
    pub(super) fn wrong_type(&mut self, at: &Path<'_>, needed: &str, found: Node<'_>) {
        self.violations.add(at, Reason::WrongType, format!("needs {needed}, found {}", found.describe()));
    }

    /// Any JSON, null included.
    pub(super) fn value(&mut self, node: Node<'_>, at: &Path<'_>) -> Value {
        let kind = match node.json() {
            Json::Null => Kind::NullValue(0),
            Json::Bool(value) => Kind::BoolValue(value),
            Json::Text(text) => Kind::StringValue(text.into_owned()),
            Json::Number(literal) => {
                let double = number::nearest_double(literal);
                if !number::is_exact(literal, double) {
                    self.keep_exact(literal, at);
                }
                Kind::NumberValue(double)
            }
            Json::Array(elements) => {
                let values = elements.enumerate().map(|(i, element)| self.value(element, &at.index(i))).collect();
                Kind::ListValue(ListValue { values })
            }
            Json::Object(members) => Kind::StructValue(self.free_form(members, at)),
        };
        Value { kind: Some(kind) }
    }

    fn keep_exact(&mut self, literal: &str, at: &Path<'_>) {
        if self.pointer_bytes > MOST_POINTER_BYTES {
            return;
        }
        let Some(pointer) = at.pointer(MOST_POINTER) else {
            let message = format!("a number beyond a double needs a place whose JSON Pointer takes at most {MOST_POINTER} bytes");
            return self.violations.add(at, Reason::TooLong, message);
        };
        self.pointer_bytes += pointer.len();
        if self.pointer_bytes > MOST_POINTER_BYTES {
            let message =
                format!("the pointers to exact numbers take at most {MOST_POINTER_BYTES} bytes, with this one they take more");
            self.violations.add(at, Reason::TooLarge, message);
        } else {
            self.exact.insert(pointer, literal.to_owned());
        }
    }

    /// An object of any JSON.
    pub(super) fn free_form(&mut self, members: Members<'_>, at: &Path<'_>) -> Struct {
        let mut object = Struct::default();
        for (key, node) in members {
            self.insert(&mut object, key, node, at);
        }
        object
    }

    /// Puts a member into `object`, in place of an earlier one of the same key.
    pub(super) fn insert(&mut self, object: &mut Struct, key: Cow<'_, str>, node: Node<'_>, at: &Path<'_>) {
        match object.fields.entry(key.into_owned()) {
            Entry::Vacant(entry) => {
                let value = self.value(node, &at.key(entry.key()));
                entry.insert(value);
            }
            Entry::Occupied(mut entry) => {
                let place = at.key(entry.key());
                if !self.exact.is_empty()
                    && let Some(pointer) = place.pointer(MOST_POINTER)
                {
                    let gone: Vec<_> = path::within(&self.exact, &pointer).map(|(pointer, _)| pointer.clone()).collect();
                    for pointer in gone {
                        self.exact.remove(&pointer);
                    }
                }
                let value = self.value(node, &place);
                entry.insert(value);
            }
        }
    }
}
