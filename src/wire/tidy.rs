//! The pass that brings a message that came as protobuf into the form that reading its JSON would give.

use super::path::Path;
use super::{Bounds, Exact};
use crate::violation::{Reason, Violations};
use prost_types::value::Kind;
use prost_types::{Struct, Value};

/// What is gathered while a message that came as protobuf is tidied.
#[derive(Debug)]
pub(super) struct Tidier<'b> {
    pub(super) bounds: &'b Bounds,
    /// The literals of the message that count.
    pub(super) exact: &'b Exact,
    pub(super) violations: Violations,
}

impl Tidier<'_> {
    pub(super) fn length(&mut self, length: usize, at: &Path<'_>) {
        let most = self.bounds.list_length;
        if length > most {
            self.violations.add(at, Reason::TooMany, format!("needs at most {most} elements, found {length}"));
        }
    }

    /// Any JSON, `depth` containers deep already.
    pub(super) fn value(&mut self, value: &mut Value, at: &Path<'_>, depth: usize) {
        match &mut value.kind {
            None => value.kind = Some(Kind::NullValue(0)),
            Some(Kind::NullValue(number)) => *number = 0,
            Some(Kind::BoolValue(_) | Kind::StringValue(_)) => {}
            Some(Kind::NumberValue(number)) => {
                if !number.is_finite() {
                    self.violations.add(at, Reason::NotFinite, format!("needs a finite number, found {number}"));
                }
            }
            Some(Kind::ListValue(list)) => {
                if self.may_nest(at, depth) {
                    for (i, element) in list.values.iter_mut().enumerate() {
                        self.value(element, &at.index(i), depth + 1);
                    }
                }
            }
            Some(Kind::StructValue(object)) => self.free_form(object, at, depth),
        }
    }

    pub(super) fn free_form(&mut self, object: &mut Struct, at: &Path<'_>, depth: usize) {
        if self.may_nest(at, depth) {
            for (key, value) in &mut object.fields {
                self.value(value, &at.key(key), depth + 1);
            }
        }
    }

    pub(super) fn may_nest(&mut self, at: &Path<'_>, depth: usize) -> bool {
        let most = self.bounds.free_form_depth;
        if depth >= most {
            self.violations.add(
                at,
                Reason::TooDeep,
                format!("free-form JSON may be nested {most} containers deep, this is deeper"),
            );
        }
        depth < most
    }

    /// The members of an object that the model does not name. `modelled` tells those that it does name.
    pub(super) fn extras(&mut self, extras: &mut Option<Struct>, at: &Path<'_>, modelled: impl Fn(&str, &Value) -> bool) {
        if let Some(object) = extras {
            for (key, value) in &mut object.fields {
                if modelled(key, value) {
                    self.violations.add(
                        at.key(key),
                        Reason::Modelled,
                        "must stand in the field of the model, found in extra_fields",
                    );
                }
                self.value(value, &at.key(key), 0);
            }
        }
        if extras.as_ref().is_some_and(|object| object.fields.is_empty()) {
            *extras = None;
        }
    }
}
