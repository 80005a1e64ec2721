//! The pass that writes a document.

use super::Exact;
use super::number;
use super::path;
use super::read::MOST_POINTER;
use super::text::skip_ordinary;
use prost_types::value::Kind;
use prost_types::{Struct, Value};
use std::collections::BTreeSet;

/// Writes documented JSON: compact, keys in order, deterministic.
#[derive(Debug)]
pub(super) struct Writer<'e> {
    out: Vec<u8>,
    exact: &'e Exact,
    /// Where the writer stands, as a JSON Pointer; followed only while there are exact numbers to look up.
    pointer: String,
    /// The exact numbers that were found at their place.
    used: BTreeSet<&'e str>,
}

impl<'e> Writer<'e> {
    pub(super) fn new(exact: &'e Exact, capacity: usize) -> Self {
        Self { out: Vec::with_capacity(capacity), exact, pointer: String::new(), used: BTreeSet::new() }
    }

    /// A writer of the value that stands at `pointer`.
    pub(super) fn at(exact: &'e Exact, pointer: String) -> Self {
        Self { pointer, ..Self::new(exact, 64) }
    }

    pub(super) fn into_text(self) -> Vec<u8> {
        self.out
    }

    /// Pointers of the exact numbers that were written.
    pub(super) fn into_used(self) -> BTreeSet<&'e str> {
        self.used
    }

    pub(super) fn raw(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    /// Opens an object. Close it with [`Self::end_object`].
    pub(super) fn begin_object(&mut self) {
        self.out.push(b'{');
    }

    pub(super) fn end_object(&mut self) {
        self.out.push(b'}');
    }

    /// A member of the model: `quoted` is `"key":` as it is written.
    #[inline]
    pub(super) fn member(&mut self, key: &str, quoted: &str, value: impl FnOnce(&mut Self)) {
        if self.out.last() != Some(&b'{') {
            self.out.push(b',');
        }
        self.raw(quoted);
        self.within(|pointer| path::push_key(pointer, key), value);
    }

    /// A member with a key that the model does not name.
    pub(super) fn extra(&mut self, key: &str, value: &Value) {
        if self.out.last() != Some(&b'{') {
            self.out.push(b',');
        }
        self.text(key);
        self.out.push(b':');
        self.within(|pointer| path::push_key(pointer, key), |writer| writer.value(value));
    }

    pub(super) fn list<T>(&mut self, elements: &[T], mut write: impl FnMut(&T, &mut Self)) {
        self.out.push(b'[');
        for (i, element) in elements.iter().enumerate() {
            if i > 0 {
                self.out.push(b',');
            }
            self.within(|pointer| path::push_index(pointer, i), |writer| write(element, writer));
        }
        self.out.push(b']');
    }

    fn within(&mut self, step: impl FnOnce(&mut String), write: impl FnOnce(&mut Self)) {
        if self.exact.is_empty() {
            return write(self);
        }
        let outside = self.pointer.len();
        step(&mut self.pointer);
        write(self);
        self.pointer.truncate(outside);
    }

    pub(super) fn null(&mut self) {
        self.raw("null");
    }

    pub(super) fn bool(&mut self, value: bool) {
        self.raw(if value { "true" } else { "false" });
    }

    pub(super) fn integer(&mut self, value: i64) {
        number::write_integer(&mut self.out, value);
    }

    pub(super) fn fraction(&mut self, value: f64) {
        number::write_fraction(&mut self.out, value);
    }

    /// A string, with the escapes that JSON requires and no others.
    pub(super) fn text(&mut self, text: &str) {
        let bytes = text.as_bytes();
        self.out.reserve(bytes.len() + 2);
        self.out.push(b'"');
        let mut start = 0;
        loop {
            let end = skip_ordinary(bytes, start);
            self.out.extend_from_slice(&bytes[start..end]);
            let Some(&byte) = bytes.get(end) else { break };
            match byte {
                b'"' => self.raw("\\\""),
                b'\\' => self.raw("\\\\"),
                b'\n' => self.raw("\\n"),
                b'\r' => self.raw("\\r"),
                b'\t' => self.raw("\\t"),
                0x08 => self.raw("\\b"),
                0x0c => self.raw("\\f"),
                control => self.raw(&format!("\\u{control:04x}")),
            }
            start = end + 1;
        }
        self.out.push(b'"');
    }

    /// Any JSON.
    pub(super) fn value(&mut self, value: &Value) {
        match &value.kind {
            None | Some(Kind::NullValue(_)) => self.null(),
            Some(Kind::BoolValue(value)) => self.bool(*value),
            Some(Kind::NumberValue(value)) => self.free_form_number(*value),
            Some(Kind::StringValue(text)) => self.text(text),
            Some(Kind::ListValue(list)) => self.list(&list.values, |value, writer| writer.value(value)),
            Some(Kind::StructValue(object)) => self.free_form(object),
        }
    }

    pub(super) fn free_form(&mut self, object: &Struct) {
        self.begin_object();
        for (key, value) in &object.fields {
            self.extra(key, value);
        }
        self.end_object();
    }

    fn free_form_number(&mut self, value: f64) {
        let exact: &'e Exact = self.exact;
        if self.pointer.len() <= MOST_POINTER
            && let Some((pointer, literal)) = exact.get_key_value(&self.pointer)
            && number::is_literal(literal)
            && number::nearest_double(literal).to_bits() == value.to_bits()
        {
            self.used.insert(pointer);
            self.raw(literal);
        } else if value.is_finite() {
            number::write_double(&mut self.out, value);
        } else {
            // JSON has no such number. Acceptance refuses it; only `transcode` of foreign protobuf comes here.
            self.null();
        }
    }
}
