//! The documented JSON and the messages that it means, byte for byte.
//!
//! `tests/fixtures/json/GROUP/` has, for each case:
//!
//! - `NAME.in.json`: what a client sends, or `NAME.in.jsonl`: one spelling of it a line;
//! - `NAME.json`: the canonical text, which the gateway writes;
//! - `NAME.pb.json`: the message as proto JSON; missing where proto JSON has no such time.
//!
//! `tests/fixtures/refused_json.txt` and `refused_protobuf.txt` have what is refused, each followed by the complaints.
//! With `UPDATE_GOLDEN=1` the expected texts are written anew, to be reviewed like code.

use cim_gateway::pb;
use cim_gateway::violation::Violations;
use cim_gateway::wire::{self, Bounds};
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};
use prost_types::value::Kind;
use prost_types::{Struct, Timestamp, Value};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::{env, fs};

const BOUNDS: Bounds = Bounds { free_form_depth: 24, list_length: 1_000 };
const DEPTH: usize = 64;

// Both directions.

#[test]
fn every_fixture_is_read_as_its_message_and_written_as_its_canonical_text() {
    let cases = cases();
    assert!(cases.len() > 150, "found {} cases only", cases.len());
    let mut wrong = String::new();
    for case in &cases {
        for (place, input) in case.inputs() {
            if let Err(difference) = case.check(&input) {
                let _ = writeln!(wrong, "\n{place}\n{difference}");
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn every_type_of_body_has_a_fixture_with_all_and_one_with_nothing_set() {
    let body = POOL.get_message_by_name("cim.v1.Body").expect("the model is described");
    let kinds = body.oneofs().find(|oneof| oneof.name() == "kind").expect("a body has a kind");
    for kind in kinds.fields().filter(|kind| kind.name() != "generic") {
        for group in ["body", "unset"] {
            let path = format!("tests/fixtures/json/{group}/{}.in.json", kind.name());
            let read = wire::decode(&fs::read(&path).unwrap_or_else(|e| panic!("{path}: {e}")), DEPTH).expect("it is JSON");
            let (dynamic, _) = described(&read.message);
            let body = dynamic.get_field_by_name("body").expect("a message has a body");
            assert!(body.as_message().is_some_and(|body| body.has_field(&kind)), "{path} has no {}", kind.name());
        }
    }
}

struct Case {
    /// The path of the case without `.json`.
    stem: PathBuf,
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for group in fs::read_dir("tests/fixtures/json").expect("the fixtures are there") {
        for file in fs::read_dir(group.expect("a folder").path()).expect("a folder of cases") {
            let path = file.expect("a file").path();
            let name = path.to_string_lossy();
            if let Some(stem) = name.strip_suffix(".in.json").or_else(|| name.strip_suffix(".in.jsonl")) {
                cases.push(Case { stem: stem.into() });
            }
        }
    }
    cases.sort_by(|a, b| a.stem.cmp(&b.stem));
    cases
}

impl Case {
    fn file(&self, suffix: &str) -> PathBuf {
        PathBuf::from(format!("{}{suffix}", self.stem.display()))
    }

    /// Each input, with its file and line.
    fn inputs(&self) -> Vec<(String, Vec<u8>)> {
        let one = self.file(".in.json");
        if let Ok(input) = fs::read(&one) {
            return vec![(one.display().to_string(), input)];
        }
        let spellings = self.file(".in.jsonl");
        let lines = fs::read_to_string(&spellings).expect("a file of spellings");
        let place = |line| format!("{}:{line}", spellings.display());
        lines.lines().enumerate().map(|(i, line)| (place(i + 1), line.as_bytes().to_vec())).collect()
    }

    fn check(&self, input: &[u8]) -> Result<(), String> {
        let read = wire::decode(input, DEPTH).map_err(|e| e.to_string())?;
        complaints(&read.violations)?;
        let message = read.message;
        same(&self.file(".pb.json"), &described(&message).1)?;
        same(&self.file(".json"), &format!("{}\n", String::from_utf8_lossy(&wire::encode(&message))))?;

        let canonical = fs::read(self.file(".json")).map_err(|e| e.to_string())?;
        let again = wire::decode(&canonical, DEPTH).map_err(|e| format!("the canonical text: {e}"))?;
        complaints(&again.violations)?;
        if again.message.encode_to_vec() != message.encode_to_vec() {
            return Err(format!(
                "the canonical text means something else:\n{}",
                difference(&described(&message).1, &described(&again.message).1)
            ));
        }
        let mut tidied = message.clone();
        wire::normalise(&mut tidied, &BOUNDS);
        if tidied.encode_to_vec() != message.encode_to_vec() {
            return Err(format!("normalising changes it:\n{}", difference(&described(&message).1, &described(&tidied).1)));
        }
        Ok(())
    }
}

fn complaints(violations: &Violations) -> Result<(), String> {
    let complaints: Vec<_> = violations.as_slice().iter().map(ToString::to_string).collect();
    if complaints.is_empty() { Ok(()) } else { Err(complaints.join("\n")) }
}

static POOL: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(pb::DESCRIPTORS).expect("the descriptors are well-formed"));

fn message_type() -> MessageDescriptor {
    POOL.get_message_by_name("cim.v1.CimMessage").expect("the model is described")
}

/// A message by its descriptor, and as proto JSON; empty where it has a time that proto JSON cannot say.
fn described(message: &pb::CimMessage) -> (DynamicMessage, String) {
    let mut dynamic = DynamicMessage::new(message_type());
    dynamic.transcode_from(message).expect("both are the same message");
    // By way of a tree, which sorts the keys of maps.
    let json = serde_json::to_value(&dynamic).map(|tree| format!("{tree:#}\n")).unwrap_or_default();
    (dynamic, json)
}

fn updating() -> bool {
    env::var_os("UPDATE_GOLDEN").is_some_and(|value| value == "1")
}

/// Compares a text with a file, or makes the file have it. No file is as good as an empty one.
fn same(file: &Path, actual: &str) -> Result<(), String> {
    let expected = fs::read_to_string(file).unwrap_or_default();
    if expected == actual {
        return Ok(());
    }
    if updating() {
        return fs::write(file, actual).map_err(|e| format!("{}: {e}", file.display()));
    }
    Err(format!("differs from {}\n{}", file.display(), difference(&expected, actual)))
}

/// Where two texts part, with what stands around.
fn difference(expected: &str, actual: &str) -> String {
    let common = expected.chars().zip(actual.chars()).take_while(|(a, b)| a == b).count();
    let around = |text: &str| -> String { text.chars().skip(common.saturating_sub(60)).take(160).collect() };
    format!("at character {}\n  expected ...{}\n  actual   ...{}", common + 1, around(expected), around(actual))
}

// What is refused.

#[test]
fn json_is_refused_with_all_its_complaints() {
    check_refused("tests/fixtures/refused_json.txt", |input| match wire::decode(input.as_bytes(), 32) {
        Err(error) => vec![error.to_string()],
        Ok(read) => read.violations.as_slice().iter().map(ToString::to_string).collect(),
    });
}

#[test]
fn a_protobuf_message_is_refused_with_all_its_complaints() {
    check_refused("tests/fixtures/refused_protobuf.txt", |input| {
        let violations = wire::normalise(&mut from_proto_json(input), &BOUNDS);
        violations.as_slice().iter().map(ToString::to_string).collect()
    });
}

/// A block of the file is a line `# ...` that says why, the lines of the input, and a line `=> ...` for each complaint.
fn check_refused(file: &str, complaints: impl Fn(&str) -> Vec<String>) {
    let text = fs::read_to_string(file).expect("a file of blocks");
    let mut checked = String::new();
    let mut blocks = 0;
    for block in text.split_inclusive("\n\n") {
        let (why, rest) = block.trim_end_matches('\n').split_once('\n').expect("a reason and an input");
        let input: Vec<_> = rest.lines().take_while(|line| !line.starts_with("=> ")).collect();
        let complaints = complaints(&input.join("\n"));
        assert!(!complaints.is_empty(), "{file}: {why}: not refused");
        let complaints: String = complaints.iter().map(|complaint| format!("=> {complaint}\n")).collect();
        let separator = if checked.is_empty() { "" } else { "\n" };
        let _ = write!(checked, "{separator}{why}\n{}\n{complaints}", input.join("\n"));
        blocks += 1;
    }
    assert!(blocks > 10, "{file} has {blocks} blocks only");
    same(Path::new(file), &checked).unwrap_or_else(|difference| panic!("{difference}"));
}

fn from_proto_json(text: &str) -> pb::CimMessage {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let message = DynamicMessage::deserialize(message_type(), &mut deserializer).unwrap_or_else(|e| panic!("{text}: {e}"));
    message.transcode_to().expect("the generated type is the described one")
}

#[test]
fn invalid_utf_8_is_refused_where_it_stands() {
    let error = wire::decode(b"\xEF\xBB\xBF{\n\"\xC3\xA4\": \"\xC3\"}", DEPTH).expect_err("it is no UTF-8");
    assert_eq!(error.to_string(), "line 2, column 7: invalid UTF-8");
}

#[test]
fn no_more_than_a_hundred_complaints_are_made() {
    let wrong = vec!["[]"; 150].join(",");
    let read = wire::decode(format!(r#"{{"header": {{"stamps": [{wrong}]}}}}"#).as_bytes(), DEPTH).expect("it is JSON");
    assert_eq!(read.violations.as_slice().len(), 100);
}

#[test]
fn exact_numbers_under_a_long_key_cannot_multiply_it() {
    let numbers = vec!["9007199254740993"; 1_000].join(",");
    let text = format!(r#"{{"{}": [{numbers}]}}"#, "k".repeat(10_000));
    let read = wire::decode(text.as_bytes(), DEPTH).expect("it is JSON");
    let complaints: Vec<_> = read.violations.as_slice().iter().map(ToString::to_string).collect();
    let place = format!(r#"["{}..."][838]"#, "k".repeat(40));
    let complaint =
        format!("{place}: the pointers to exact numbers take at most 8388608 bytes, with this one they take more (TOO_LARGE)");
    assert_eq!(complaints, [complaint]);
}

#[test]
fn an_exact_number_far_from_the_root_is_refused_not_rounded() {
    let at = |length| {
        let text = format!(r#"{{"{}": 9007199254740993}}"#, "k".repeat(length));
        let read = wire::decode(text.as_bytes(), DEPTH).expect("it is JSON");
        read.violations.as_slice().iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(at(16_383), [""; 0]);
    let place = format!(r#"["{}..."]"#, "k".repeat(40));
    let complaint = "a number beyond a double needs a place whose JSON Pointer takes at most 16384 bytes (TOO_LONG)";
    assert_eq!(at(16_384), [format!("{place}: {complaint}")]);
}

// What comes as protobuf.

#[test]
fn normalising_gives_what_reading_the_json_gives() {
    let from = |text| {
        let mut message = from_proto_json(text);
        let violations = wire::normalise(&mut message, &BOUNDS);
        assert!(violations.is_empty(), "{violations:?}");
        message
    };
    for (sent, meant) in [
        // Finer than a millisecond is cut, before 1970 too.
        (r#"{"header": {"timestamp": "2023-02-23T11:17:33.951999999Z"}}"#, r#"{"header": {"timestamp": 1677151053951}}"#),
        (r#"{"header": {"timestamp": "1969-12-31T23:59:59.999999999Z"}}"#, r#"{"header": {"timestamp": -1}}"#),
        // What has no value of its own in JSON is unset.
        (r#"{"extraFields": {}, "header": {"extraFields": {}}, "body": {"extraFields": {}}}"#, r#"{"header": {}, "body": {}}"#),
        (r#"{"body": {"custom": {"jsonNode": null}}}"#, r#"{"body": {"type": "CUSTOM"}}"#),
        (r#"{"body": {"receipt": {}}}"#, r#"{"body": {"type": "RECEIPT", "templateType": "receipt"}}"#),
        (r#"{"body": {"notification": {}}}"#, r#"{"body": {"type": "NOTIFICATION", "notificationData": {}}}"#),
        // A name that the model knows is the model's.
        (
            r#"{"header": {"sender": {"type": "SENDER_TYPE_OTHER", "typeName": " agent "}}}"#,
            r#"{"header": {"sender": {"type": "AGENT"}}}"#,
        ),
        // An alias may stand beside its key with another value.
        (r#"{"header": {"roomId": "r", "extraFields": {"roomID": "s"}}}"#, r#"{"header": {"roomId": "r", "roomID": "s"}}"#),
        (
            r#"{"header": {"customer": {"id": "c", "extraFields": {"id": 5}}}}"#,
            r#"{"header": {"customer": {"_id": "c", "id": 5}}}"#,
        ),
        // Exact numbers that count stay; one that is stale, needless or nowhere goes.
        (
            r#"{"extraFields": {"a": 9007199254740992, "b": 1, "c": 0.5}, "exactNumbers": {"/a": "9007199254740993", "/b": "9007199254740993", "/c": "5e-1", "/d": "9007199254740993"}}"#,
            r#"{"a": 9007199254740993, "b": 1, "c": 0.5}"#,
        ),
        (
            r#"{"header": {"timestamp": "1970-01-01T00:00:00.001Z"}, "exactNumbers": {"/header/timestamp": "1.0000000000000000001"}}"#,
            r#"{"header": {"timestamp": 1}}"#,
        ),
    ] {
        let meant = wire::decode(meant.as_bytes(), DEPTH).expect("it is JSON").message;
        assert_eq!(from(sent), meant, "{sent}");
    }
}

#[test]
fn an_alias_that_only_its_exact_number_tells_from_its_key_stays() {
    let customer = |id: &str| {
        let extra_fields = Struct { fields: BTreeMap::from([("id".into(), 9_007_199_254_740_992.0.into())]) };
        let customer = pb::Customer { id: Some(id.into()), extra_fields: Some(extra_fields), ..Default::default() };
        let header = pb::Header { customer: Some(customer), ..Default::default() };
        let exact_numbers = BTreeMap::from([("/header/customer/id".into(), "9007199254740993".into())]);
        pb::CimMessage { header: Some(header), exact_numbers, ..Default::default() }
    };
    let mut other = customer("9007199254740992");
    assert!(wire::normalise(&mut other, &BOUNDS).is_empty());
    assert_eq!(wire::decode(&wire::encode(&other), DEPTH).expect("it is JSON").message, other);
    let violations = wire::normalise(&mut customer("9007199254740993"), &BOUNDS);
    assert_eq!(violations.as_slice()[0].path, "header.customer.id");
}

#[test]
fn a_value_without_a_kind_is_null() {
    let list = Value { kind: Some(Kind::ListValue(prost_types::ListValue { values: vec![Value { kind: None }] })) };
    let body = pb::Body {
        kind: Some(pb::body::Kind::Custom(pb::CustomBody { json_node: Some(list) })),
        extra_fields: Some(Struct { fields: BTreeMap::from([("k".into(), Value { kind: None })]) }),
        ..Default::default()
    };
    let mut message = pb::CimMessage { body: Some(body), ..Default::default() };
    assert!(wire::normalise(&mut message, &BOUNDS).is_empty());
    let text = br#"{"id":null,"header":null,"body":{"type":"CUSTOM","markdownText":null,"jsonNode":[null],"k":null}}"#;
    assert_eq!(wire::encode(&message), text);
    assert_eq!(wire::decode(text, DEPTH).expect("it is JSON").message, message);
}

#[test]
fn what_is_no_number_of_json_is_refused_and_never_written() {
    for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let location = pb::Location { latitude: Some(number), ..Default::default() };
        let location = pb::LocationBody { location: Some(location), additional_details: Some(number.into()) };
        let body = pb::Body { kind: Some(pb::body::Kind::Location(location)), ..Default::default() };
        let mut message = pb::CimMessage { body: Some(body), ..Default::default() };
        let violations = wire::normalise(&mut message, &BOUNDS);
        let complaints: Vec<_> = violations.as_slice().iter().map(ToString::to_string).collect();
        assert_eq!(
            complaints,
            [
                format!("body.location.latitude: needs a finite number, found {number} (NOT_FINITE)"),
                format!("body.additionalDetails: needs a finite number, found {number} (NOT_FINITE)"),
            ]
        );
        assert!(!String::from_utf8_lossy(&wire::encode(&message)).contains(&number.to_string()));
    }
}

#[test]
fn a_time_that_is_none_or_beyond_the_year_9999_is_refused() {
    for (seconds, nanos) in
        [(0, -1), (0, 1_000_000_000), (253_402_300_800, 0), (-62_135_596_801, 0), (i64::MAX, 0), (i64::MIN, 0)]
    {
        let header = pb::Header { timestamp: Some(Timestamp { seconds, nanos }), ..Default::default() };
        let mut message = pb::CimMessage { header: Some(header), ..Default::default() };
        let violations = wire::normalise(&mut message, &BOUNDS);
        assert_eq!(violations.as_slice()[0].to_string(), "header.timestamp: needs a time in the years 1 to 9999 (OUT_OF_RANGE)");
        serde_json::from_slice::<serde_json::Value>(&wire::encode(&message)).expect("what is written is JSON");
    }
}

#[test]
fn bounds_are_kept_to_the_last_element_and_the_last_container() {
    let with = |stamps: usize, depth: usize| {
        let stamps = vec![String::new(); stamps];
        let mut value = Value::from(true);
        for _ in 0..depth {
            value = Value { kind: Some(Kind::ListValue(prost_types::ListValue { values: vec![value] })) };
        }
        let extra_fields = Some(Struct { fields: BTreeMap::from([("k".into(), value)]) });
        let mut message =
            pb::CimMessage { header: Some(pb::Header { stamps, ..Default::default() }), extra_fields, ..Default::default() };
        let violations = wire::normalise(&mut message, &BOUNDS);
        violations.as_slice().iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(with(1_000, 24), Vec::<String>::new());
    let deepest = format!("k{}", "[0]".repeat(24));
    assert_eq!(
        with(1_001, 25),
        [
            "header.stamps: needs at most 1000 elements, found 1001 (TOO_MANY)".to_owned(),
            format!("{deepest}: free-form JSON may be nested 24 containers deep, this is deeper (TOO_DEEP)"),
        ]
    );
}
