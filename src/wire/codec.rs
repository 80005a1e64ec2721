//! How a value of each type stands in the documented JSON: the three things that can be done with it, side by side.
//!
//! A [`Codec`] reads a value from JSON, writes it, and tidies one that came as protobuf so that it equals what reading its own JSON
//! would give. The tables in [`super::header`] and [`super::body`] name a codec for every key.

use super::instant;
use super::number;
use super::path::Path;
use super::read::Reader;
use super::text::{Json, Members, Node, excerpt};
use super::tidy::Tidier;
use super::write::Writer;
use crate::violation::Reason;
use prost_types::value::Kind;
use prost_types::{Struct, Timestamp, Value};
use std::borrow::Cow;

/// How one type of value stands in the documented JSON.
pub(super) trait Codec {
    /// The type in the generated code.
    type Value: PartialEq;

    /// The value of a key that is missing or null.
    fn unset() -> Self::Value;

    /// Reads a value that is not null. One that cannot be read is a violation, and unset.
    fn read(node: Node<'_>, at: &Path<'_>, reader: &mut Reader) -> Self::Value;

    /// Writes the value.
    fn write(value: &Self::Value, writer: &mut Writer<'_>);

    /// Brings a value that came as protobuf into the form that reading its JSON would give, and says what is wrong with it.
    fn tidy(_value: &mut Self::Value, _at: &Path<'_>, _tidier: &mut Tidier<'_>) {}

    /// True if the key is left out of the JSON when its value is this one.
    fn is_left_out(_value: &Self::Value) -> bool {
        false
    }
}

/// Text. Numbers and booleans become their literal text.
pub(super) struct Text;

impl Codec for Text {
    type Value = Option<String>;

    fn unset() -> Self::Value {
        None
    }

    fn read(node: Node<'_>, at: &Path<'_>, reader: &mut Reader) -> Self::Value {
        match node.json() {
            Json::Text(text) => Some(text.into_owned()),
            Json::Number(literal) => Some(literal.to_owned()),
            Json::Bool(value) => Some(value.to_string()),
            Json::Null | Json::Array(_) | Json::Object(_) => {
                reader.wrong_type(at, "a text", node);
                None
            }
        }
    }

    fn write(value: &Self::Value, writer: &mut Writer<'_>) {
        match value {
            Some(text) => writer.text(text),
            None => writer.null(),
        }
    }
}

/// The text `receipt` where unset: what kind of template a RECEIPT is.
pub(super) struct TemplateType;

impl Codec for TemplateType {
    type Value = Option<String>;

    fn unset() -> Self::Value {
        Some("receipt".into())
    }

    fn read(node: Node<'_>, at: &Path<'_>, reader: &mut Reader) -> Self::Value {
        Text::read(node, at, reader)
    }

    fn write(value: &Self::Value, writer: &mut Writer<'_>) {
        writer.text(value.as_deref().unwrap_or("receipt"));
    }

    fn tidy(value: &mut Self::Value, _at: &Path<'_>, _tidier: &mut Tidier<'_>) {
        if value.is_none() {
            *value = Self::unset();
        }
    }
}

/// Text that is written as a number where it is one of up to 15 digits: the reason code of a delivery notification.
pub(super) struct Code;

impl Code {
    /// True for `0` and for 1 to 15 digits that do not start with 0.
    fn is_number(text: &str) -> bool {
        text == "0"
            || (text.len() <= 15 && !text.starts_with('0') && !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()))
    }
}

impl Codec for Code {
    type Value = Option<String>;

    fn unset() -> Self::Value {
        None
    }

    fn read(node: Node<'_>, at: &Path<'_>, reader: &mut Reader) -> Self::Value {
        Text::read(node, at, reader)
    }

    fn write(value: &Self::Value, writer: &mut Writer<'_>) {
        match value {
            Some(text) if Self::is_number(text) => writer.raw(text),
            other => Text::write(other, writer),
        }
    }
}

/// The exact integer of a literal or a text; none for a blank text. `None` after a violation too.
fn read_integer(node: Node<'_>, at: &Path<'_>, reader: &mut Reader) -> Option<i64> {
    let text = match node.json() {
        Json::Number(literal) => Cow::Borrowed(literal),
        Json::Text(text) => text,
        Json::Null | Json::Bool(_) | Json::Array(_) | Json::Object(_) => {
            reader.wrong_type(at, "an integer", node);
            return None;
        }
    };
    let text = text.trim();
    if text.is_empty() {
        return None;
    }
    match number::integer(text) {
        Ok(integer) => Some(integer),
        Err(number::NoInteger::NotANumber) => {
            reader.wrong_type(at, "an integer", node);
            None
        }
        Err(number::NoInteger::Fraction) => {
            reader.violations.add(at, Reason::NotAnInteger, format!("needs an integer, found {}", excerpt(text)));
            None
        }
        Err(number::NoInteger::TooLarge) => {
            reader.violations.add(at, Reason::OutOfRange, format!("needs an integer of 64 bits, found {}", excerpt(text)));
            None
        }
    }
}

/// An integer of 32 bits; 0 where unset.
pub(super) struct Int32;

impl Codec for Int32 {
    type Value = i32;

    fn unset() -> i32 {
        0
    }

    fn read(node: Node<'_>, at: &Path<'_>, reader: &mut Reader) -> i32 {
        let integer = read_integer(node, at, reader).unwrap_or_default();
        i32::try_from(integer).unwrap_or_else(|_| {
            reader.violations.add(at, Reason::OutOfRange, format!("needs an integer of 32 bits, found {integer}"));
            0
        })
    }

    fn write(value: &i32, writer: &mut Writer<'_>) {
        writer.integer(i64::from(*value));
    }
}

/// An integer of 64 bits; 0 where unset.
pub(super) struct Int64;

impl Codec for Int64 {
    type Value = i64;

    fn unset() -> i64 {
        0
    }

    fn read(node: Node<'_>, at: &Path<'_>, reader: &mut Reader) -> i64 {
        read_integer(node, at, reader).unwrap_or_default()
    }

    fn write(value: &i64, writer: &mut Writer<'_>) {
        writer.integer(*value);
    }
}

/// A finite double that shows its fraction: a coordinate.
pub(super) struct Degrees;

impl Codec for Degrees {
    type Value = Option<f64>;

    fn unset() -> Self::Value {
        None
    }

    fn read(node: Node<'_>, at: &Path<'_>, reader: &mut Reader) -> Self::Value {
        let text = match node.json() {
            Json::Number(literal) => Cow::Borrowed(literal),
            Json::Text(text) if text.trim().is_empty() => return None,
            Json::Text(text) if number::is_number(text.trim()) => text,
            Json::Null | Json::Bool(_) | Json::Text(_) | Json::Array(_) | Json::Object(_) => {
                reader.wrong_type(at, "a number", node);
                return None;
            }
        };
        let value = text.trim().parse::<f64>().ok().filter(|value| value.is_finite());
        if value.is_none() {
            reader.violations.add(
                at,
                Reason::NotFinite,
                format!("needs a number within the double range, found {}", excerpt(&text)),
            );
        }
        value
    }

    fn write(value: &Self::Value, writer: &mut Writer<'_>) {
        match value {
            Some(value) if value.is_finite() => writer.fraction(*value),
            _ => writer.null(),
        }
    }

    fn tidy(value: &mut Self::Value, at: &Path<'_>, tidier: &mut Tidier<'_>) {
        if let Some(value) = value.filter(|value| !value.is_finite()) {
            tidier.violations.add(at, Reason::NotFinite, format!("needs a finite number, found {value}"));
        }
    }
}

/// A boolean or nothing.
pub(super) struct Bool;

impl Codec for Bool {
    type Value = Option<bool>;

    fn unset() -> Self::Value {
        None
    }

    fn read(node: Node<'_>, at: &Path<'_>, reader: &mut Reader) -> Self::Value {
        let value = match node.json() {
            Json::Bool(value) => Some(value),
            Json::Text(text) if text.trim().is_empty() => return None,
            Json::Text(text) if text.trim().eq_ignore_ascii_case("true") => Some(true),
            Json::Text(text) if text.trim().eq_ignore_ascii_case("false") => Some(false),
            Json::Number(literal) => match number::integer(literal) {
                Ok(0) => Some(false),
                Ok(1) => Some(true),
                _ => None,
            },
            Json::Null | Json::Text(_) | Json::Array(_) | Json::Object(_) => None,
        };
        if value.is_none() {
            reader.wrong_type(at, "true or false", node);
        }
        value
    }

    fn write(value: &Self::Value, writer: &mut Writer<'_>) {
        match value {
            Some(value) => writer.bool(*value),
            None => writer.null(),
        }
    }
}

/// A boolean; false where unset.
pub(super) struct Flag;

impl Codec for Flag {
    type Value = bool;

    fn unset() -> bool {
        false
    }

    fn read(node: Node<'_>, at: &Path<'_>, reader: &mut Reader) -> bool {
        Bool::read(node, at, reader).unwrap_or_default()
    }

    fn write(value: &bool, writer: &mut Writer<'_>) {
        writer.bool(*value);
    }
}

/// A time: epoch milliseconds as number or digits, or ISO 8601.
pub(super) struct Time;

impl Codec for Time {
    type Value = Option<Timestamp>;

    fn unset() -> Self::Value {
        None
    }

    fn read(node: Node<'_>, at: &Path<'_>, reader: &mut Reader) -> Self::Value {
        const NEEDED: &str = "epoch milliseconds or an ISO 8601 time";
        match node.json() {
            Json::Number(_) => read_integer(node, at, reader).map(instant::from_millis),
            Json::Text(text) => {
                let text = text.trim();
                if text.is_empty() {
                    return None;
                }
                let unsigned = text.strip_prefix('-').unwrap_or(text);
                if !unsigned.is_empty() && unsigned.bytes().all(|byte| byte.is_ascii_digit()) {
                    return read_integer(node, at, reader).map(instant::from_millis);
                }
                let millis = instant::parse_iso(text);
                if millis.is_none() {
                    reader.violations.add(at, Reason::NotATime, format!("needs {NEEDED} that exists, found {:?}", excerpt(text)));
                }
                millis.map(instant::from_millis)
            }
            Json::Null | Json::Bool(_) | Json::Array(_) | Json::Object(_) => {
                reader.wrong_type(at, NEEDED, node);
                None
            }
        }
    }

    fn write(value: &Self::Value, writer: &mut Writer<'_>) {
        match value {
            Some(time) => writer.integer(instant::to_millis(time)),
            None => writer.null(),
        }
    }

    fn tidy(value: &mut Self::Value, at: &Path<'_>, tidier: &mut Tidier<'_>) {
        if let Some(time) = value {
            if instant::is_valid(time) {
                *time = instant::from_millis(instant::to_millis(time));
            } else {
                tidier.violations.add(at, Reason::OutOfRange, "needs a time in the years 1 to 9999");
            }
        }
    }
}

/// Any JSON; null is unset.
pub(super) struct Any;

impl Codec for Any {
    type Value = Option<Value>;

    fn unset() -> Self::Value {
        None
    }

    fn read(node: Node<'_>, at: &Path<'_>, reader: &mut Reader) -> Self::Value {
        Some(reader.value(node, at))
    }

    fn write(value: &Self::Value, writer: &mut Writer<'_>) {
        match value {
            Some(value) => writer.value(value),
            None => writer.null(),
        }
    }

    fn tidy(value: &mut Self::Value, at: &Path<'_>, tidier: &mut Tidier<'_>) {
        if let Some(any) = value {
            tidier.value(any, at, 0);
        }
        if matches!(value, Some(Value { kind: Some(Kind::NullValue(_)) })) {
            *value = None;
        }
    }
}

/// A list of any JSON, nulls included.
pub(super) struct AnyList;

impl Codec for AnyList {
    type Value = Vec<Value>;

    fn unset() -> Self::Value {
        Vec::new()
    }

    fn read(node: Node<'_>, at: &Path<'_>, reader: &mut Reader) -> Self::Value {
        let Json::Array(elements) = node.json() else {
            reader.wrong_type(at, "a list", node);
            return Vec::new();
        };
        elements.enumerate().map(|(i, element)| reader.value(element, &at.index(i))).collect()
    }

    fn write(value: &Self::Value, writer: &mut Writer<'_>) {
        writer.list(value, |value, writer| writer.value(value));
    }

    fn tidy(value: &mut Self::Value, at: &Path<'_>, tidier: &mut Tidier<'_>) {
        tidier.length(value.len(), at);
        for (i, element) in value.iter_mut().enumerate() {
            tidier.value(element, &at.index(i), 0);
        }
    }
}

/// An object of any JSON.
pub(super) struct Map;

impl Codec for Map {
    type Value = Option<Struct>;

    fn unset() -> Self::Value {
        None
    }

    fn read(node: Node<'_>, at: &Path<'_>, reader: &mut Reader) -> Self::Value {
        let Json::Object(members) = node.json() else {
            reader.wrong_type(at, "an object", node);
            return None;
        };
        Some(reader.free_form(members, at))
    }

    fn write(value: &Self::Value, writer: &mut Writer<'_>) {
        match value {
            Some(object) => writer.free_form(object),
            None => writer.null(),
        }
    }

    fn tidy(value: &mut Self::Value, at: &Path<'_>, tidier: &mut Tidier<'_>) {
        if let Some(object) = value {
            tidier.free_form(object, at, 0);
        }
    }
}

/// An object of any JSON; the empty one where unset.
pub(super) struct MapOrEmpty;

impl Codec for MapOrEmpty {
    type Value = Option<Struct>;

    fn unset() -> Self::Value {
        Some(Struct::default())
    }

    fn read(node: Node<'_>, at: &Path<'_>, reader: &mut Reader) -> Self::Value {
        Map::read(node, at, reader).or_else(Self::unset)
    }

    fn write(value: &Self::Value, writer: &mut Writer<'_>) {
        match value {
            Some(object) => writer.free_form(object),
            None => writer.raw("{}"),
        }
    }

    fn tidy(value: &mut Self::Value, at: &Path<'_>, tidier: &mut Tidier<'_>) {
        tidier.free_form(value.get_or_insert_default(), at, 0);
    }
}

/// An object of any JSON that is written only when it is set.
pub(super) struct MapIfSet;

impl Codec for MapIfSet {
    type Value = Option<Struct>;

    fn unset() -> Self::Value {
        None
    }

    fn read(node: Node<'_>, at: &Path<'_>, reader: &mut Reader) -> Self::Value {
        Map::read(node, at, reader)
    }

    fn write(value: &Self::Value, writer: &mut Writer<'_>) {
        Map::write(value, writer);
    }

    fn tidy(value: &mut Self::Value, at: &Path<'_>, tidier: &mut Tidier<'_>) {
        Map::tidy(value, at, tidier);
    }

    fn is_left_out(value: &Self::Value) -> bool {
        value.is_none()
    }
}

/// The non-null elements of a list, each with its place.
fn elements(node: Node<'_>, at: &Path<'_>, reader: &mut Reader, mut read: impl FnMut(Node<'_>, &Path<'_>, &mut Reader) -> bool) {
    let Json::Array(elements) = node.json() else {
        reader.wrong_type(at, "a list", node);
        return;
    };
    let mut kept = 0;
    for (found, element) in elements.enumerate().filter(|(_, element)| !element.is_null()) {
        kept += usize::from(read(element, &at.element(found, kept), reader));
    }
}

/// A list of texts. Nulls in it are dropped.
pub(super) struct TextList;

impl Codec for TextList {
    type Value = Vec<String>;

    fn unset() -> Self::Value {
        Vec::new()
    }

    fn read(node: Node<'_>, at: &Path<'_>, reader: &mut Reader) -> Self::Value {
        let mut texts = Vec::new();
        elements(node, at, reader, |element, at, reader| {
            let text = Text::read(element, at, reader);
            let read = text.is_some();
            texts.extend(text);
            read
        });
        texts
    }

    fn write(value: &Self::Value, writer: &mut Writer<'_>) {
        writer.list(value, |text, writer| writer.text(text));
    }

    fn tidy(value: &mut Self::Value, at: &Path<'_>, tidier: &mut Tidier<'_>) {
        tidier.length(value.len(), at);
    }
}

/// A closed set of names.
pub(super) trait Names {
    /// Every number of the enum but 0 with its name in JSON.
    const NAMES: &'static [(i32, &'static str)];

    /// The name of a number.
    fn name(number: i32) -> Option<&'static str> {
        Self::NAMES.iter().find(|(other, _)| *other == number).map(|(_, name)| *name)
    }

    /// The number of a name, in any case.
    fn number(name: &str) -> Option<i32> {
        Self::NAMES.iter().find(|(_, other)| other.eq_ignore_ascii_case(name)).map(|(number, _)| *number)
    }
}

/// One name of a closed set.
pub(super) struct Name<N>(std::marker::PhantomData<N>);

impl<N: Names> Codec for Name<N> {
    type Value = i32;

    fn unset() -> i32 {
        0
    }

    fn read(node: Node<'_>, at: &Path<'_>, reader: &mut Reader) -> i32 {
        let Json::Text(text) = node.json() else {
            reader.wrong_type(at, "a name", node);
            return 0;
        };
        N::number(text.trim()).unwrap_or_else(|| {
            let names: Vec<_> = N::NAMES.iter().map(|(_, name)| *name).collect();
            let message = format!("needs one of {}, found {:?}", names.join(", "), excerpt(&text));
            reader.violations.add(at, Reason::UnknownName, message);
            0
        })
    }

    fn write(value: &i32, writer: &mut Writer<'_>) {
        match N::name(*value) {
            // Names are made of letters, digits and underscores: nothing to escape.
            Some(name) => {
                writer.raw("\"");
                writer.raw(name);
                writer.raw("\"");
            }
            None => writer.null(),
        }
    }

    fn tidy(value: &mut i32, at: &Path<'_>, tidier: &mut Tidier<'_>) {
        if *value != 0 && N::name(*value).is_none() {
            tidier.violations.add(at, Reason::UnknownNumber, format!("needs an enum value of the model, found {value}"));
        }
    }
}

/// An object of the model.
pub(super) trait Object: Default + PartialEq {
    /// Reads the members of an object.
    fn read(members: Members<'_>, at: &Path<'_>, reader: &mut Reader) -> Self;

    /// Reads what may stand in the place of the object; None if nothing may.
    fn read_short(_node: Node<'_>, _at: &Path<'_>, _reader: &mut Reader) -> Option<Self> {
        None
    }

    /// Writes the object.
    fn write(&self, writer: &mut Writer<'_>);

    /// Tidies the object.
    fn tidy(&mut self, at: &Path<'_>, tidier: &mut Tidier<'_>);
}

fn read_object<O: Object>(node: Node<'_>, at: &Path<'_>, reader: &mut Reader) -> Option<O> {
    if let Json::Object(members) = node.json() {
        return Some(O::read(members, at, reader));
    }
    let short = O::read_short(node, at, reader);
    if short.is_none() {
        reader.wrong_type(at, "an object", node);
    }
    short
}

/// An object of the model, or nothing.
pub(super) struct One<O>(std::marker::PhantomData<O>);

impl<O: Object> Codec for One<O> {
    type Value = Option<O>;

    fn unset() -> Self::Value {
        None
    }

    fn read(node: Node<'_>, at: &Path<'_>, reader: &mut Reader) -> Self::Value {
        read_object(node, at, reader)
    }

    fn write(value: &Self::Value, writer: &mut Writer<'_>) {
        match value {
            Some(object) => object.write(writer),
            None => writer.null(),
        }
    }

    fn tidy(value: &mut Self::Value, at: &Path<'_>, tidier: &mut Tidier<'_>) {
        if let Some(object) = value {
            object.tidy(at, tidier);
        }
    }
}

/// A list of objects of the model. Nulls in it are dropped.
pub(super) struct Many<O>(std::marker::PhantomData<O>);

impl<O: Object> Codec for Many<O> {
    type Value = Vec<O>;

    fn unset() -> Self::Value {
        Vec::new()
    }

    fn read(node: Node<'_>, at: &Path<'_>, reader: &mut Reader) -> Self::Value {
        let mut objects = Vec::new();
        elements(node, at, reader, |element, at, reader| {
            let object = read_object(element, at, reader);
            let read = object.is_some();
            objects.extend(object);
            read
        });
        objects
    }

    fn write(value: &Self::Value, writer: &mut Writer<'_>) {
        writer.list(value, O::write);
    }

    fn tidy(value: &mut Self::Value, at: &Path<'_>, tidier: &mut Tidier<'_>) {
        tidier.length(value.len(), at);
        for (i, object) in value.iter_mut().enumerate() {
            object.tidy(&at.index(i), tidier);
        }
    }
}
