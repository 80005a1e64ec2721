//! What holds for every message and every text, by generated examples.

use cim_gateway::pb;
use cim_gateway::wire::{self, Bounds};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use prost::Message as _;
use prost_reflect::{
    Cardinality, DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, ReflectMessage as _, Value,
};
use prost_types::value::Kind as ValueKind;
use serde::de::IgnoredAny;
use std::collections::BTreeMap;

const BOUNDS: Bounds = Bounds { free_form_depth: 24, list_length: 1_000 };

/// Deep enough for every message within the bounds.
const DEPTH: usize = 64;

fn message_type() -> MessageDescriptor {
    let pool = DescriptorPool::decode(pb::DESCRIPTORS).expect("the descriptors are well-formed");
    pool.get_message_by_name("cim.v1.CimMessage").expect("the model is described")
}

// Arbitrary messages, from the descriptors: a field that is added to the model is covered by that alone.

/// Texts that look like something else, and any other.
fn text() -> BoxedStrategy<String> {
    let tricky = ["", " ", "0", "-0", "007", "200", "1.0", "1e3", "true", "null", "PLAIN", "AGENT", "\u{0}\u{1f}\u{7f}", "\"\\/"];
    prop_oneof![3 => select(tricky.to_vec()).prop_map(str::to_owned), 2 => ".{0,8}", 1 => "[\\PC👩‍👧ä]{0,40}"].boxed()
}

/// Keys that nobody expects. The aliases may stand beside their keys with another value.
fn key() -> BoxedStrategy<String> {
    let odd = ["", " ", "a/b", "~", "~1", "a~0b", "k", "K", "0", "😀", "\u{0}", "\"", "a.b", "exactNumbers", "plain"];
    let alias =
        ["component", "mediaURL", "roomID", "channelsessionId", "replyToMessageId", "paymentMethod", "type", "markdownText"];
    prop_oneof![30 => select(odd.to_vec()).prop_map(str::to_owned), 10 => ".{0,6}", 1 => select(alias.to_vec()).prop_map(str::to_owned)].boxed()
}

fn double() -> BoxedStrategy<f64> {
    let tricky = [0.0, -0.0, 1.0, -7.0, 0.1, 1.5, 1e15, 9_007_199_254_740_992.0, 1e21, 1e-7, 5e-324, f64::MAX, f64::MIN, -1e300];
    let any = any::<f64>().prop_filter("JSON has no such number", |number| number.is_finite());
    prop_oneof![3 => select(tricky.to_vec()), 1 => any, 1 => (-1_000_000_i64..1_000_000).prop_map(|number| number as f64 / 100.0)]
        .boxed()
}

/// Any free-form JSON.
fn free_form() -> BoxedStrategy<prost_types::Value> {
    let leaf = prop_oneof![
        1 => Just(None),
        1 => Just(Some(ValueKind::NullValue(0))),
        1 => any::<bool>().prop_map(|value| Some(ValueKind::BoolValue(value))),
        4 => double().prop_map(|value| Some(ValueKind::NumberValue(value))),
        2 => text().prop_map(|value| Some(ValueKind::StringValue(value))),
    ];
    let leaf = leaf.prop_map(|kind| prost_types::Value { kind });
    let tree = leaf.prop_recursive(4, 16, 4, |inner| {
        let list =
            prop::collection::vec(inner.clone(), 0..4).prop_map(|values| ValueKind::ListValue(prost_types::ListValue { values }));
        let object = prop::collection::btree_map(key(), inner, 0..4)
            .prop_map(|fields| ValueKind::StructValue(prost_types::Struct { fields }));
        prop_oneof![list, object].prop_map(|kind| prost_types::Value { kind: Some(kind) })
    });
    tree.boxed()
}

fn object() -> BoxedStrategy<prost_types::Struct> {
    prop::collection::btree_map(key(), free_form(), 0..3).prop_map(|fields| prost_types::Struct { fields }).boxed()
}

fn time() -> BoxedStrategy<prost_types::Timestamp> {
    (-62_135_596_800_i64..253_402_300_800, 0..1_000_000_000)
        .prop_map(|(seconds, nanos)| prost_types::Timestamp { seconds, nanos })
        .boxed()
}

/// A value of the generated type `T` as one of the described type.
fn described<T: prost::Message>(descriptor: &MessageDescriptor, value: &T) -> Value {
    let mut message = DynamicMessage::new(descriptor.clone());
    message.transcode_from(value).expect("both are the same message");
    Value::Message(message)
}

/// One value of a field, an element of it if it is repeated.
fn element(field: &FieldDescriptor) -> BoxedStrategy<Value> {
    match field.kind() {
        Kind::String => text().prop_map(Value::String).boxed(),
        Kind::Bool => any::<bool>().prop_map(Value::Bool).boxed(),
        Kind::Double => double().prop_map(Value::F64).boxed(),
        Kind::Int32 => any::<i32>().prop_map(Value::I32).boxed(),
        Kind::Int64 => any::<i64>().prop_map(Value::I64).boxed(),
        Kind::Enum(names) => {
            let numbers: Vec<_> = names.values().map(|name| name.number()).collect();
            prop_oneof![200 => select(numbers), 1 => Just(99)].prop_map(Value::EnumNumber).boxed()
        }
        Kind::Message(message) => match message.full_name() {
            "google.protobuf.Value" => free_form().prop_map(move |value| described(&message, &value)).boxed(),
            "google.protobuf.Struct" => object().prop_map(move |value| described(&message, &value)).boxed(),
            "google.protobuf.Timestamp" => time().prop_map(move |value| described(&message, &value)).boxed(),
            _ => any_of(&message).prop_map(Value::Message).boxed(),
        },
        other => panic!("the model has no {other:?}"),
    }
}

/// True for the fields of a `oneof`.
fn is_alternative(field: &FieldDescriptor) -> bool {
    field.containing_oneof().is_some_and(|oneof| !oneof.is_synthetic())
}

fn any_of(descriptor: &MessageDescriptor) -> BoxedStrategy<DynamicMessage> {
    let presence = |field: FieldDescriptor| {
        let often = match field.name() {
            "extra_fields" => 0.2,
            "header" | "body" | "kind" => 0.95,
            _ => 0.5,
        };
        let value = if field.cardinality() == Cardinality::Repeated {
            prop::collection::vec(element(&field), 0..3).prop_map(Value::List).boxed()
        } else {
            element(&field)
        };
        prop::option::weighted(often, value.prop_map(move |value| (field.clone(), value))).boxed()
    };
    let (alternatives, fields): (Vec<_>, Vec<_>) =
        descriptor.fields().filter(|field| field.name() != "exact_numbers").partition(is_alternative);
    let mut parts: Vec<_> = fields.into_iter().map(presence).collect();
    if !alternatives.is_empty() {
        let alternatives = alternatives.into_iter().map(|field| {
            let value = element(&field);
            value.prop_map(move |value| Some((field.clone(), value))).boxed()
        });
        parts.push(prop::strategy::Union::new(alternatives).boxed());
    }
    let descriptor = descriptor.clone();
    let set = move |values: Vec<Option<(FieldDescriptor, Value)>>| {
        let mut message = DynamicMessage::new(descriptor.clone());
        for (field, value) in values.into_iter().flatten() {
            message.set_field(&field, value);
        }
        message
    };
    parts.prop_map(set).boxed()
}

/// What a literal of `exact_numbers` has to do with the number that it stands for.
#[derive(Debug, Clone, Copy)]
enum Literal {
    /// More digits of the same double.
    Right,
    /// The digits that the double has anyway.
    Needless,
    /// Digits of another number.
    Stale,
    /// No number.
    Malformed,
}

impl Literal {
    fn of(self, number: f64) -> String {
        match self {
            Self::Right if number == f64::MAX => "1e400".into(),
            Self::Right => format!("{number:.30}1"),
            Self::Needless => format!("{number:?}").replace("e", ".0E").replace(".0.0", ".0"),
            Self::Stale => "9007199254740993".into(),
            Self::Malformed => "+1".into(),
        }
    }
}

/// Messages as a gRPC client may send them: of any kind, few of them against the rules.
fn message() -> BoxedStrategy<pb::CimMessage> {
    let literal = prop_oneof![
        40 => Just(Literal::Right),
        20 => Just(Literal::Needless),
        20 => Just(Literal::Stale),
        1 => Just(Literal::Malformed),
    ];
    let literals = prop::collection::vec((any::<Index>(), literal), 0..6);
    let named = prop_oneof![100 => Just(true), 1 => Just(false)];
    (any_of(&message_type()), literals, named, text())
        .prop_map(|(message, literals, named, name)| {
            let mut numbers = Vec::new();
            collect_numbers(&message, "", &mut numbers);
            let mut message: pb::CimMessage = message.transcode_to().expect("the generated type is the described one");
            // A sender's type is named exactly when it is another.
            if let Some(sender) = message.header.as_mut().and_then(|header| header.sender.as_mut()).filter(|_| named) {
                sender.type_name = (sender.r#type == i32::from(pb::SenderType::Other)).then_some(name);
            }
            for (index, literal) in literals.into_iter().filter(|_| !numbers.is_empty()) {
                let (pointer, number) = index.get(&numbers);
                message.exact_numbers.insert(pointer.clone(), literal.of(*number));
            }
            message
        })
        .boxed()
}

/// The free-form numbers of a message by their pointers into its JSON, which the descriptors tell: the fields of a body's kind stand
/// beside those of the body, extra fields beside those of their object.
fn collect_numbers(message: &DynamicMessage, at: &str, numbers: &mut Vec<(String, f64)>) {
    for (field, value) in message.fields() {
        let flat = field.name() == "extra_fields" || is_alternative(&field);
        let at = if flat { at.to_owned() } else { format!("{at}/{}", field.json_name()) };
        match value {
            Value::Message(inside) => collect_numbers_of(inside, &at, numbers),
            Value::List(list) => {
                for (i, inside) in list.iter().filter_map(Value::as_message).enumerate() {
                    collect_numbers_of(inside, &format!("{at}/{i}"), numbers);
                }
            }
            _ => {}
        }
    }
}

fn collect_numbers_of(message: &DynamicMessage, at: &str, numbers: &mut Vec<(String, f64)>) {
    match message.descriptor().full_name() {
        "google.protobuf.Value" => collect_free_form(&message.transcode_to().expect("a value"), at.to_owned(), numbers),
        "google.protobuf.Struct" => {
            let object: prost_types::Struct = message.transcode_to().expect("an object");
            collect_free_form(&prost_types::Value { kind: Some(ValueKind::StructValue(object)) }, at.to_owned(), numbers);
        }
        _ => collect_numbers(message, at, numbers),
    }
}

fn collect_free_form(value: &prost_types::Value, at: String, numbers: &mut Vec<(String, f64)>) {
    match &value.kind {
        Some(ValueKind::NumberValue(number)) => numbers.push((at, *number)),
        Some(ValueKind::ListValue(list)) => {
            for (i, element) in list.values.iter().enumerate() {
                collect_free_form(element, format!("{at}/{i}"), numbers);
            }
        }
        Some(ValueKind::StructValue(object)) => {
            for (key, value) in &object.fields {
                collect_free_form(value, format!("{at}/{}", key.replace('~', "~0").replace('/', "~1")), numbers);
            }
        }
        _ => {}
    }
}

// Arbitrary documents.

/// A JSON value with its numbers as literals and its keys as they come, repeated ones included.
#[derive(Debug, Clone, PartialEq)]
enum Json {
    Null,
    Bool(bool),
    Number(String),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl Json {
    fn of(value: &serde_json::Value) -> Self {
        match value {
            serde_json::Value::Null => Self::Null,
            serde_json::Value::Bool(value) => Self::Bool(*value),
            serde_json::Value::Number(number) => Self::Number(number.to_string()),
            serde_json::Value::String(text) => Self::Text(text.clone()),
            serde_json::Value::Array(list) => Self::List(list.iter().map(Self::of).collect()),
            serde_json::Value::Object(object) => {
                Self::Object(object.iter().map(|(key, value)| (key.clone(), Self::of(value))).collect())
            }
        }
    }

    fn write(&self, out: &mut String) {
        match self {
            Self::Null => out.push_str("null"),
            Self::Bool(value) => out.push_str(&value.to_string()),
            Self::Number(literal) => out.push_str(literal),
            Self::Text(text) => out.push_str(&serde_json::Value::from(text.as_str()).to_string()),
            Self::List(list) => {
                out.push('[');
                for (i, element) in list.iter().enumerate() {
                    out.push_str(if i > 0 { ", " } else { "" });
                    element.write(out);
                }
                out.push(']');
            }
            Self::Object(members) => {
                out.push('{');
                for (i, (key, value)) in members.iter().enumerate() {
                    out.push_str(if i > 0 { ",\n" } else { "" });
                    out.push_str(&serde_json::Value::from(key.as_str()).to_string());
                    out.push(':');
                    value.write(out);
                }
                out.push('}');
            }
        }
    }

    fn to_text(&self) -> String {
        let mut out = String::new();
        self.write(&mut out);
        out
    }

    /// Paths of all members and elements, as steps.
    fn places(&self, at: &[usize], places: &mut Vec<Vec<usize>>) {
        let mut visit = |i: usize, value: &Self| {
            let place = [at, &[i]].concat();
            value.places(&place, places);
            places.push(place);
        };
        match self {
            Self::List(list) => list.iter().enumerate().for_each(|(i, value)| visit(i, value)),
            Self::Object(members) => members.iter().enumerate().for_each(|(i, (_, value))| visit(i, value)),
            _ => {}
        }
    }

    /// Puts `new` in the place of what stands at `place`, and returns the path of it as violations spell it.
    fn replace(&mut self, place: &[usize], new: Self) -> String {
        let mut path = String::new();
        let mut here = self;
        for &step in place {
            here = match here {
                Self::List(list) => {
                    path.push_str(&format!("[{step}]"));
                    &mut list[step]
                }
                Self::Object(members) => {
                    let (key, value) = &mut members[step];
                    let plain = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
                    match (plain, path.is_empty()) {
                        (true, true) => path.push_str(key),
                        (true, false) => path.push_str(&format!(".{key}")),
                        (false, _) => path.push_str(&format!("[{key:?}]")),
                    }
                    value
                }
                leaf => panic!("{leaf:?} has no places"),
            };
        }
        *here = new;
        path
    }
}

/// Any JSON value, with the model's own keys among those of its objects.
fn json() -> BoxedStrategy<Json> {
    let literals =
        ["0", "-0", "-0.0", "1", "1.0", "1e2", "2.50", "9007199254740993", "1e400", "-1e400", "1e-400", "0.3333333333333333333"];
    let keys = [
        "type",
        "id",
        "_id",
        "header",
        "body",
        "sender",
        "customer",
        "markdownText",
        "channelsessionId",
        "channelSessionId",
        "mediaURL",
        "mediaUrl",
        "component",
        "components",
        "timestamp",
        "k",
        "a/b",
        "",
        "entities",
        "additionalDetails",
        "name",
        "language",
        "buttons",
    ];
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::Bool),
        select(literals.to_vec()).prop_map(|literal| Json::Number(literal.to_owned())),
        any::<i64>().prop_map(|number| Json::Number(number.to_string())),
        text().prop_map(Json::Text),
    ];
    let tree = leaf.prop_recursive(4, 24, 5, move |inner| {
        let key = prop_oneof![4 => select(keys.to_vec()).prop_map(str::to_owned), 1 => key()];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Json::List),
            prop::collection::vec((key, inner), 0..5).prop_map(Json::Object),
        ]
    });
    tree.boxed()
}

/// The canonical texts of all fixtures: valid documents of every kind.
fn valid_documents() -> Vec<Json> {
    let mut documents = Vec::new();
    for group in std::fs::read_dir("tests/fixtures/json").expect("the fixtures are there") {
        for file in std::fs::read_dir(group.expect("a folder").path()).expect("a folder of cases") {
            let path = file.expect("a file").path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name.ends_with(".json") && !name.ends_with(".in.json") && !name.ends_with(".pb.json") {
                let text = std::fs::read(&path).expect("a fixture");
                // serde_json has no numbers beyond the double range: those fixtures are not for it.
                documents.extend(serde_json::from_slice(&text).ok().map(|value| Json::of(&value)));
            }
        }
    }
    assert!(documents.len() > 30, "found {} fixtures only", documents.len());
    documents
}

// The claims.

/// What is read, is written and read back the same, and needs no normalising.
fn assert_settled(decoded: &wire::Decoded) {
    let text = wire::encode(&decoded.message);
    serde_json::from_slice::<IgnoredAny>(&text).expect("what is written is JSON in UTF-8");
    let again = wire::decode(&text, DEPTH + 1).expect("what is written can be read");
    assert_eq!(String::from_utf8_lossy(&wire::encode(&again.message)), String::from_utf8_lossy(&text));
    if decoded.violations.is_empty() {
        assert!(again.violations.is_empty(), "{:?}", again.violations);
        assert_same(&again.message, &decoded.message);
        let mut tidied = decoded.message.clone();
        wire::normalise(&mut tidied, &BOUNDS);
        assert_same(&tidied, &decoded.message);
    }
}

/// The same to the last bit: `==` does not tell 0.0 from -0.0.
fn assert_same(left: &pb::CimMessage, right: &pb::CimMessage) {
    assert_eq!(left, right);
    assert_eq!(left.encode_to_vec(), right.encode_to_vec());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, max_global_rejects: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_normalised_message_survives_its_json_and_its_protobuf(mut message in message()) {
        prop_assume!(wire::normalise(&mut message, &BOUNDS).is_empty());
        let mut twice = message.clone();
        prop_assert!(wire::normalise(&mut twice, &BOUNDS).is_empty());
        assert_same(&twice, &message);

        let text = wire::encode(&message);
        let decoded = wire::decode(&text, DEPTH).expect("what is written can be read");
        prop_assert!(decoded.violations.is_empty(), "{:?}", decoded.violations);
        assert_same(&decoded.message, &message);

        let bytes = message.encode_to_vec();
        assert_same(&pb::CimMessage::decode(bytes.as_slice()).expect("what is encoded can be decoded"), &message);
    }

    #[test]
    fn a_message_against_the_rules_is_still_written_as_json(mut message in message(), number in any::<f64>(), literal in text()) {
        let exact = [("/header/entities/n".to_owned(), literal), ("/header/entities/m".to_owned(), "inf".to_owned())];
        message.exact_numbers.extend(exact);
        let entities = message.header.get_or_insert_default().entities.get_or_insert_default();
        entities.fields.insert("n".into(), number.into());
        entities.fields.insert("m".into(), f64::MAX.into());
        let text = wire::encode(&message);
        serde_json::from_slice::<IgnoredAny>(&text).expect("what is written is JSON in UTF-8");
        prop_assert!(wire::decode(&text, DEPTH).is_ok());
        wire::normalise(&mut message, &BOUNDS);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_document_that_is_read_is_settled(document in json()) {
        let text = Json::Object(vec![("body".into(), document.clone()), ("header".into(), document)]).to_text();
        assert_settled(&wire::decode(text.as_bytes(), DEPTH).expect("it is JSON"));
    }

    #[test]
    fn a_complaint_names_the_member_that_is_wrong(
        (document, place) in select(valid_documents()).prop_flat_map(|document| {
            let mut places = Vec::new();
            document.places(&[], &mut places);
            (Just(document), select(places))
        }),
        new in json(),
    ) {
        let mut document = document;
        let mutated = document.replace(&place, new);
        let decoded = wire::decode(document.to_text().as_bytes(), DEPTH).expect("it is JSON");
        // The type decides what the rest of a body must be, and beside a key that is unset its alias is read.
        let decisive = ["type", "_id", "channelSessionId", "originalMessageId", "roomId", "mediaUrl", "paymentMethode", "components"];
        let answerable = match mutated.rsplit_once('.') {
            Some((object, key)) if decisive.contains(&key) => object,
            _ => &mutated,
        };
        for violation in decoded.violations.as_slice() {
            prop_assert!(!violation.path.is_empty(), "{}", violation);
            prop_assert!(lies_in(&violation.path, answerable) || lies_in(answerable, &violation.path), "{} for {}", violation, mutated);
        }
        assert_settled(&decoded);
    }

    #[test]
    fn no_bytes_are_too_odd(
        document in select(valid_documents()),
        edits in prop::collection::vec((any::<Index>(), 0..4_usize, prop::collection::vec(any::<u8>(), 0..3)), 1..4),
    ) {
        let mut bytes = document.to_text().into_bytes();
        for (index, removed, inserted) in edits {
            let at = index.index(bytes.len());
            let end = (at + removed).min(bytes.len() - 1);
            bytes.splice(at..end.max(at), inserted);
        }
        if let Ok(decoded) = wire::decode(&bytes, DEPTH) {
            assert_settled(&decoded);
        }
    }

    #[test]
    fn no_noise_is_read_without_a_complaint(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        if let Ok(decoded) = wire::decode(&bytes, DEPTH) {
            assert_settled(&decoded);
        }
    }
}

/// True if `inner` is the place `outer` or lies inside it.
fn lies_in(inner: &str, outer: &str) -> bool {
    inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

// At the bound of nesting.

/// `depth` containers around a number, objects and lists by turns or only objects, which protobuf nests deepest.
fn nested(depth: usize, lists_too: bool) -> prost_types::Value {
    let mut value = prost_types::Value::from(1.5);
    for level in 0..depth {
        // The outermost is an object in any case, so that it may stand where an object must.
        let list = lists_too && level % 2 == 0 && level + 1 != depth;
        value.kind = Some(if list {
            ValueKind::ListValue(prost_types::ListValue { values: vec![value.clone()] })
        } else {
            ValueKind::StructValue(prost_types::Struct { fields: BTreeMap::from([("k".to_owned(), value.clone())]) })
        });
    }
    value
}

/// Every chain of fields from `descriptor` to a place where free-form JSON can stand.
fn free_form_places(descriptor: &MessageDescriptor) -> Vec<Vec<FieldDescriptor>> {
    let inside = |field: FieldDescriptor| match field.kind() {
        Kind::Message(message) if matches!(message.full_name(), "google.protobuf.Value" | "google.protobuf.Struct") => {
            vec![vec![field]]
        }
        Kind::Message(message) if message.full_name().starts_with("cim.") && !message.is_map_entry() => {
            let chain = |rest: Vec<FieldDescriptor>| [vec![field.clone()], rest].concat();
            free_form_places(&message).into_iter().map(chain).collect()
        }
        _ => Vec::new(),
    };
    descriptor.fields().flat_map(inside).collect()
}

/// The message that has `value` at the end of a chain of fields and nothing else.
fn message_with(descriptor: &MessageDescriptor, chain: &[FieldDescriptor], value: &prost_types::Value) -> DynamicMessage {
    let (field, rest) = chain.split_first().expect("a chain has a field");
    let Kind::Message(inner) = field.kind() else { panic!("{} is no message", field.full_name()) };
    let inside = match (inner.full_name(), &value.kind) {
        ("google.protobuf.Value", _) => described(&inner, value),
        // Extra members nest from where they stand; every other object is free-form itself.
        ("google.protobuf.Struct", _) if field.name() == "extra_fields" => {
            described(&inner, &prost_types::Struct { fields: BTreeMap::from([("k".to_owned(), value.clone())]) })
        }
        ("google.protobuf.Struct", Some(ValueKind::StructValue(object))) => described(&inner, object),
        _ => Value::Message(message_with(&inner, rest, value)),
    };
    let mut message = DynamicMessage::new(descriptor.clone());
    message.set_field(field, if field.is_list() { Value::List(vec![inside]) } else { inside });
    message
}

#[test]
fn free_form_json_nested_at_the_bound_decodes_inside_every_wrapper_wherever_it_stands() {
    let descriptor = message_type();
    let places = free_form_places(&descriptor);
    assert!(places.len() > 60, "found {} places only", places.len());
    for chain in places {
        for lists_too in [true, false] {
            let at = |depth| {
                let message = message_with(&descriptor, &chain, &nested(depth, lists_too));
                message.transcode_to::<pb::CimMessage>().expect("the generated type is the described one")
            };
            let place: Vec<_> = chain.iter().map(FieldDescriptor::name).collect();
            let place = place.join(".");

            let mut message = at(BOUNDS.free_form_depth);
            let violations = wire::normalise(&mut message, &BOUNDS);
            assert!(violations.is_empty(), "{place}: {violations:?}");
            assert_same(&wire::decode(&wire::encode(&message), DEPTH).expect("it is JSON").message, &message);

            let accepted = pb::AcceptedMessage { message: Some(message.clone()), ..Default::default() };
            let event = pb::subscribe_notifications_response::Event::Notification(accepted.clone());
            assert_decodes(&pb::SubscribeNotificationsResponse { event: Some(event) }, &place);
            assert_decodes(&pb::ListMessagesResponse { messages: vec![accepted], ..Default::default() }, &place);
            assert_decodes(&pb::store::Entry { message: Some(message.into()), ..Default::default() }, &place);

            let violations = wire::normalise(&mut at(BOUNDS.free_form_depth + 1), &BOUNDS);
            let reasons: Vec<_> = violations.as_slice().iter().map(|violation| violation.reason.as_str()).collect();
            assert_eq!(reasons, ["TOO_DEEP"], "{place}");
        }
    }
}

fn assert_decodes<M: prost::Message + Default + PartialEq>(message: &M, place: &str) {
    let decoded = M::decode(message.encode_to_vec().as_slice()).unwrap_or_else(|e| panic!("{place}: {e}"));
    assert!(decoded == *message, "{place} comes back changed");
}
