//! The channel and its objects, key by key. The gateway's own JSON in the manner of the documented one, but closed: a key that the
//! model does not name is wrong, because it would be lost.

use super::Bounds;
use super::codec::{Codec, Flag, Many, Name, Names, Object, One, TextList};
use super::instant;
use super::number;
use super::object::{Fields, Slots, fields};
use super::path::Path;
use super::read::Reader;
use super::text::{Json, Members, Node, excerpt};
use super::tidy::Tidier;
use super::write::Writer;
use crate::pb;
use crate::violation::Reason;
use prost_types::{Duration, Timestamp};

fields!(pb::Channel {
    "id" => id: Word;
    "serviceIdentifier" => service_identifier: Word;
    "name" => name: Word;
    "channelType" => channel_type: Word;
    "mode" => mode: Name<pb::ChannelMode>;
    "defaultOutbound" => default_outbound: Flag;
    "connector" => connector: One<pb::Endpoint>;
    "bot" => bot: One<pb::Bot>;
    "customerActivityTimeout" => customer_activity_timeout: Span;
    "delivery" => delivery: One<pb::DeliverySettings>;
    "attributes" => attributes: Many<pb::Attribute>;
    "declared" => declared: Flag;
    "etag" => etag: Word;
    "createTime" => create_time: Moment;
    "updateTime" => update_time: Moment;
});

fields!(pb::Endpoint {
    "uri" => uri: Word;
    "disabled" => disabled: Flag;
    "disabledReason" => disabled_reason: Name<pb::DisabledReason>;
    "signingSecrets" => signing_secrets: Secrets;
    "signingSecretDigests" => signing_secret_digests: TextList;
});

fields!(pb::Bot {
    "endpoint" => endpoint: One<pb::Endpoint>;
    "format" => format: Name<pb::BotFormat>;
    "id" => id: Word;
    "name" => name: Word;
});

fields!(pb::DeliverySettings {
    "timeout" => timeout: Span;
    "order" => order: Name<pb::DeliveryOrder>;
});

/// Objects that have no other keys than those of their tables.
macro_rules! closed {
    ($($type:ty),* $(,)?) => {
        $(
            impl Object for $type {
                fn read(members: Members<'_>, at: &Path<'_>, reader: &mut Reader) -> Self {
                    let slots = Slots::sort(members, Self::KEYS, Self::row, |key, _| {
                        let known: Vec<_> = Self::KEYS.iter().map(|key| key.name).collect();
                        let message = format!("is no key here; known are {}", known.join(", "));
                        reader.violations.add(at.key(&key), Reason::UnknownKey, message);
                    });
                    Self::read_fields(&slots, at, reader, &mut None)
                }

                fn write(&self, writer: &mut Writer<'_>) {
                    writer.begin_object();
                    self.write_fields(writer);
                    writer.end_object();
                }

                fn tidy(&mut self, at: &Path<'_>, tidier: &mut Tidier<'_>) {
                    self.tidy_fields(at, tidier);
                }
            }
        )*
    };
}

closed!(pb::Channel, pb::Endpoint, pb::Bot, pb::DeliverySettings);

impl Names for pb::ChannelMode {
    const NAMES: &'static [(i32, &'static str)] =
        &[(Self::Bot as i32, "BOT"), (Self::Agent as i32, "AGENT"), (Self::Hybrid as i32, "HYBRID")];
}

impl Names for pb::DisabledReason {
    const NAMES: &'static [(i32, &'static str)] = &[(Self::Gone as i32, "GONE")];
}

impl Names for pb::BotFormat {
    const NAMES: &'static [(i32, &'static str)] = &[(Self::Cim as i32, "CIM"), (Self::Bot as i32, "BOT")];
}

impl Names for pb::DeliveryOrder {
    const NAMES: &'static [(i32, &'static str)] = &[(Self::Parking as i32, "PARKING"), (Self::Strict as i32, "STRICT")];
}

/// Text; empty where unset.
struct Word;

impl Codec for Word {
    type Value = String;

    fn unset() -> String {
        String::new()
    }

    fn read(node: Node<'_>, at: &Path<'_>, reader: &mut Reader) -> String {
        match node.json() {
            Json::Text(text) => text.into_owned(),
            Json::Null | Json::Bool(_) | Json::Number(_) | Json::Array(_) | Json::Object(_) => {
                reader.wrong_type(at, "a text", node);
                String::new()
            }
        }
    }

    fn write(value: &String, writer: &mut Writer<'_>) {
        writer.text(value);
    }
}

/// A span of time as text with its unit; written in seconds.
struct Span;

impl Codec for Span {
    type Value = Option<Duration>;

    fn unset() -> Self::Value {
        None
    }

    fn read(node: Node<'_>, at: &Path<'_>, reader: &mut Reader) -> Self::Value {
        const NEEDED: &str = "a time with its unit, such as \"30s\"";
        let Json::Text(text) = node.json() else {
            reader.wrong_type(at, NEEDED, node);
            return None;
        };
        // A bare 0 would pass for a span.
        let span = humantime::parse_duration(&text).ok().filter(|_| text.contains(char::is_alphabetic));
        let span = span.and_then(|span| Duration::try_from(span).ok());
        if span.is_none() {
            reader.violations.add(at, Reason::NotATime, format!("needs {NEEDED}, found {:?}", excerpt(&text)));
        }
        span
    }

    fn write(value: &Self::Value, writer: &mut Writer<'_>) {
        match value {
            // As the proto JSON has it: seconds, with as many digits as they need.
            Some(span) => writer.text(&span.to_string()),
            None => writer.null(),
        }
    }

    fn tidy(value: &mut Self::Value, at: &Path<'_>, tidier: &mut Tidier<'_>) {
        let valid = |span: &Duration| (0..=315_576_000_000).contains(&span.seconds) && (0..1_000_000_000).contains(&span.nanos);
        if value.as_ref().is_some_and(|span| !valid(span)) {
            tidier.violations.add(at, Reason::OutOfRange, "needs a time that is not negative, and less than 10,000 years");
        }
    }
}

/// A time that only the gateway sets: written as RFC 3339, to the millisecond.
struct Moment;

impl Codec for Moment {
    type Value = Option<Timestamp>;

    fn unset() -> Self::Value {
        None
    }

    fn read(node: Node<'_>, at: &Path<'_>, reader: &mut Reader) -> Self::Value {
        let Json::Text(text) = node.json() else {
            reader.wrong_type(at, "a time", node);
            return None;
        };
        let millis = instant::parse_iso(&text);
        if millis.is_none() {
            reader.violations.add(at, Reason::NotATime, format!("needs an ISO 8601 time, found {:?}", excerpt(&text)));
        }
        millis.map(instant::from_millis)
    }

    fn write(value: &Self::Value, writer: &mut Writer<'_>) {
        match value {
            Some(time) => writer.text(&instant::to_rfc3339(time)),
            None => writer.null(),
        }
    }
}

/// A list of secrets: read, never written.
struct Secrets;

impl Codec for Secrets {
    type Value = Option<pb::SigningSecrets>;

    fn unset() -> Self::Value {
        None
    }

    fn read(node: Node<'_>, at: &Path<'_>, reader: &mut Reader) -> Self::Value {
        let Json::Array(elements) = node.json() else {
            // What was found may be a secret that stands in the wrong place.
            reader.violations.add(at, Reason::WrongType, "needs a list of secrets");
            return None;
        };
        let mut secrets = Vec::new();
        for (i, element) in elements.enumerate() {
            match element.json() {
                Json::Text(text) => secrets.push(text.into_owned()),
                Json::Null | Json::Bool(_) | Json::Number(_) | Json::Array(_) | Json::Object(_) => {
                    reader.violations.add(at.index(i), Reason::WrongType, "needs a text");
                }
            }
        }
        Some(pb::SigningSecrets { secrets })
    }

    fn write(_value: &Self::Value, writer: &mut Writer<'_>) {
        writer.null();
    }

    fn is_left_out(_value: &Self::Value) -> bool {
        true
    }
}

/// Reports every number that would not come back as it was sent: of a channel no exact numbers are kept.
pub(super) fn report_inexact(reader: &mut Reader) {
    for (pointer, literal) in std::mem::take(&mut reader.exact) {
        let path = path_of(&pointer);
        let double = number::nearest_double(&literal);
        let message = format!("needs a number that a double holds, or a text, found {} (read as {double})", excerpt(&literal));
        reader.violations.add(path, Reason::OutOfRange, message);
    }
}

/// The path to where a JSON Pointer leads: `/attributes/0/value` is `attributes[0].value`.
fn path_of(pointer: &str) -> String {
    let mut path = String::new();
    for step in pointer.split('/').skip(1) {
        let step = step.replace("~1", "/").replace("~0", "~");
        match step.parse::<usize>() {
            Ok(index) => path.push_str(&format!("[{index}]")),
            Err(_) if path.is_empty() => path.push_str(&step),
            Err(_) => path.push_str(&format!(".{step}")),
        }
    }
    path
}

/// Brings a channel that came as protobuf into the form that reading its JSON would give, and says what is wrong with it.
pub(super) fn tidy(channel: &mut pb::Channel, bounds: &Bounds) -> crate::violation::Violations {
    let exact = super::Exact::new();
    let mut tidier = Tidier { bounds, exact: &exact, violations: Default::default() };
    channel.tidy(&Path::ROOT, &mut tidier);
    tidier.violations
}

#[cfg(test)]
mod tests {
    use crate::pb;
    use crate::violation::Reason;
    use crate::wire::{decode_channel, encode_channel};
    use proptest::prelude::*;
    use serde_json::{Value as Json, json};

    fn read(json: &Json) -> pb::Channel {
        let (channel, violations) = decode_channel(json.to_string().as_bytes(), 64).expect("is JSON");
        assert!(violations.is_empty(), "{violations:?}");
        channel
    }

    fn wrong(json: &Json) -> Vec<(String, Reason)> {
        let (_, violations) = decode_channel(json.to_string().as_bytes(), 64).expect("is JSON");
        violations.into_vec().into_iter().map(|violation| (violation.path, violation.reason)).collect()
    }

    fn full() -> Json {
        json!({
            "id": "1", "serviceIdentifier": "shop", "name": "Shop", "channelType": "SMS", "mode": "AGENT", "defaultOutbound": true,
            "connector": { "uri": "https://a.example", "disabled": true, "disabledReason": "GONE", "signingSecretDigests": ["9f86d081"] },
            "bot": {
                "endpoint": { "uri": "https://b.example", "disabled": false, "disabledReason": null, "signingSecretDigests": [] },
                "format": "BOT", "id": "b", "name": "Bot",
            },
            "customerActivityTimeout": "300s", "delivery": { "timeout": "1.500s", "order": "STRICT" },
            "attributes": [{ "key": "k", "type": "Number", "value": { "n": [1, null] }, "more": 1 }],
            "declared": true, "etag": "e", "createTime": "2026-11-22T18:12:14.661Z", "updateTime": "2026-11-22T18:12:15.000Z",
        })
    }

    #[test]
    fn every_key_is_read_and_written_and_in_its_order() {
        let written = encode_channel(&read(&full()));
        assert_eq!(serde_json::from_slice::<Json>(&written).expect("is JSON"), full());
        let written = String::from_utf8(encode_channel(&pb::Channel::default())).expect("is UTF-8");
        let expected = concat!(
            r#"{"id":"","serviceIdentifier":"","name":"","channelType":"","mode":null,"defaultOutbound":false,"connector":null,"#,
            r#""bot":null,"customerActivityTimeout":null,"delivery":null,"attributes":[],"declared":false,"etag":"","#,
            r#""createTime":null,"updateTime":null}"#
        );
        assert_eq!(written, expected);
    }

    #[test]
    fn null_is_as_if_the_key_were_missing() {
        let mut nulls = full();
        nulls.as_object_mut().into_iter().flatten().for_each(|(_, value)| *value = Json::Null);
        assert_eq!(read(&nulls), pb::Channel::default());
        assert_eq!(read(&json!({})), pb::Channel::default());
    }

    #[test]
    fn secrets_are_read_and_never_written() {
        let secrets = |secrets: Json| read(&json!({ "connector": { "signingSecrets": secrets } })).connector.unwrap_or_default();
        let two = secrets(json!(["whsec_1", "whsec_2"]));
        assert_eq!(two.signing_secrets.as_ref().map(|secrets| secrets.secrets.len()), Some(2));
        assert_eq!(secrets(json!([])).signing_secrets, Some(pb::SigningSecrets::default()), "none from then on");
        assert_eq!(secrets(Json::Null).signing_secrets, None, "those that there are");
        let written = encode_channel(&pb::Channel { connector: Some(two), ..pb::Channel::default() });
        assert!(!String::from_utf8(written).expect("is UTF-8").contains("igningSecrets\""));
    }

    #[test]
    fn spans_have_a_unit() {
        for (text, expected) in
            [("5m", (300, 0)), ("1m 30s", (90, 0)), ("1.5s", (1, 500_000_000)), ("0s", (0, 0)), ("3 days", (259_200, 0))]
        {
            let span = read(&json!({ "customerActivityTimeout": text })).customer_activity_timeout.expect("is set");
            assert_eq!((span.seconds, span.nanos), expected, "{text}");
        }
        for (value, reason) in [
            (json!("300"), Reason::NotATime),
            (json!("0"), Reason::NotATime),
            (json!("soon"), Reason::NotATime),
            (json!("-5s"), Reason::NotATime),
            (json!(300), Reason::WrongType),
            (json!({}), Reason::WrongType),
        ] {
            let found = wrong(&json!({ "customerActivityTimeout": value }));
            assert_eq!(found, [("customerActivityTimeout".to_owned(), reason)], "{value}");
        }
    }

    #[test]
    fn everything_that_cannot_be_read_is_told_with_its_place() {
        let found = wrong(&json!({
            "colour": "red", "name": 5, "mode": "ROBOT", "defaultOutbound": "perhaps", "createTime": "yesterday",
            "connector": { "url": "https://a.example", "signingSecrets": "whsec_1" },
            "bot": "https://b.example",
            "delivery": { "order": 1, "retries": 7 },
            "attributes": [{ "type": "Secret", "value": 9_007_199_254_740_993_u64 }, 5],
        }));
        let expected = [
            ("attributes[0].type", Reason::UnknownName),
            ("attributes[0].value", Reason::OutOfRange),
            ("attributes[1]", Reason::WrongType),
            ("bot", Reason::WrongType),
            ("colour", Reason::UnknownKey),
            ("connector.signingSecrets", Reason::WrongType),
            ("connector.url", Reason::UnknownKey),
            ("createTime", Reason::NotATime),
            ("defaultOutbound", Reason::WrongType),
            ("delivery.order", Reason::WrongType),
            ("delivery.retries", Reason::UnknownKey),
            ("mode", Reason::UnknownName),
            ("name", Reason::WrongType),
        ];
        let mut found: Vec<_> = found.iter().map(|(path, reason)| (path.as_str(), *reason)).collect();
        found.sort_unstable_by_key(|(path, _)| *path);
        assert_eq!(found, expected);
        assert_eq!(wrong(&json!([])), [(String::new(), Reason::WrongType)]);
    }

    proptest! {
        #[test]
        fn no_text_makes_reading_panic(text in r#"[\[\]{}":, a-z0-9\\.-]{0,60}"#, key in "[a-zA-Z]{1,12}") {
            let _read = decode_channel(text.as_bytes(), 8);
            let _read = decode_channel(format!("{{\"{key}\": {text}}}").as_bytes(), 8);
        }

        #[test]
        fn what_is_written_is_read_as_the_same(
            [id, name, uri, key] in [".*", ".*", ".*", ".*"],
            mode in 0..4,
            seconds in 0..315_576_000_000_i64,
            nanos in 0..1_000_000_000,
            millis in 0..4_102_444_800_000_i64,
        ) {
            let channel = pb::Channel {
                id,
                name,
                mode,
                connector: Some(pb::Endpoint { uri, ..pb::Endpoint::default() }),
                customer_activity_timeout: Some(prost_types::Duration { seconds, nanos }),
                attributes: vec![pb::Attribute { key: Some(key), ..pb::Attribute::default() }],
                create_time: Some(crate::wire::from_millis(millis)),
                ..pb::Channel::default()
            };
            let (read, violations) = decode_channel(&encode_channel(&channel), 8).expect("is JSON");
            prop_assert!(violations.is_empty(), "{violations:?}");
            prop_assert_eq!(read, channel);
        }
    }
}
