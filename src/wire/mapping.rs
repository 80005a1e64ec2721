//! `docs/mapping.md`: which key of the documented JSON is which field of the protos. It is made of the tables and the descriptors,
//! so it says what the code does; a field that neither a table nor this file knows fails the tests.

use super::body::KINDS;
use super::codec::Names;
use super::object::{Fields, Row};
use crate::pb;
use prost_reflect::{DescriptorPool, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};
use std::fmt::Write as _;
use std::fs;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/mapping.md");

const FILES: [&str; 4] = ["cim/v1/message.proto", "cim/v1/header.proto", "cim/v1/body.proto", "cim/v1/channel.proto"];

const HEAD: &str = "# JSON and protobuf, field by field

Made from `proto/cim/v1` and the tables in `src/wire`; `cargo test --lib wire::mapping -- --ignored` makes it anew. How values are read
and written is in [json.md](json.md). Keys stand in the order in which they are written; a key that is unset is `null`, and a list `[]`,
where nothing else is said. What a message must have is in [accepting.md](accepting.md), and what a channel is in
[channels.md](channels.md): unlike those of a message, objects of a channel have no other keys than those here.
";

/// The table of each message that has one.
macro_rules! tables {
    ($($name:ident),* $(,)?) => {
        fn table(name: &str) -> Option<&'static [Row]> {
            match name {
                $(stringify!($name) => Some(<pb::$name as Fields>::ROWS),)*
                _ => None,
            }
        }
    };
}

tables! {
    CimMessage, Header, Sender, ChannelData, Attribute, Customer, PlainBody, MediaBody, Attachment, StickerBody, LocationBody, Location,
    ContactBody, Contact, ContactName, ContactPhone, UrlBody, ButtonBody, Button, CarouselBody, CarouselElement, DefaultAction,
    ReceiptBody, ReceiptElement, ReceiptAddress, ReceiptSummary, ReceiptAdjustment, TemplateBody, TemplateLanguage, TemplateComponent,
    TemplateParameter, CustomBody, StructuredMessageBody, NotificationBody, DeliveryNotificationBody, DeletedNotificationBody, VoiceBody,
    ActionBody, WrapupBody, CommentBody, EmailBody, FormDataBody, FormSentiment, Channel, Endpoint, Bot, DeliverySettings,
}

/// The names of each closed set.
macro_rules! names {
    ($($name:ident),* $(,)?) => {
        fn names(name: &str) -> Option<&'static [(i32, &'static str)]> {
            match name {
                $(stringify!($name) => Some(<pb::$name as Names>::NAMES),)*
                _ => None,
            }
        }
    };
}

names! {
    SenderType, ValueType, ButtonMessageType, CarouselMessageType, ComponentType, ParameterType, DeliveryStatus, ItemType,
    ChannelMode, DisabledReason, BotFormat, DeliveryOrder,
}

/// How a value stands in JSON, by the name of its codec.
fn form(codec: &str) -> String {
    let inside = |outside: &str| Some(codec.strip_prefix(outside)?.strip_prefix("<pb::")?.strip_suffix('>')?.to_owned());
    let link = |name: String| format!("[{name}](#{})", name.to_lowercase());
    let simple = match codec {
        "Text" => "text",
        "TemplateType" => "text; `\"receipt\"` where unset",
        "Code" => "number if it is one of up to 15 digits, else text",
        "Int32" => "integer of 32 bits; `0` where unset",
        "Int64" => "integer of 64 bits; `0` where unset",
        "Degrees" => "number, always with a fraction",
        "Bool" => "`true` or `false`",
        "Flag" => "`true` or `false`; `false` where unset",
        "Time" => "epoch milliseconds",
        "Any" => "any JSON",
        "AnyList" => "list of any JSON",
        "Map" => "object, free-form",
        "MapOrEmpty" => "object, free-form; `{}` where unset",
        "MapIfSet" => "object, free-form; left out where unset",
        "TextList" => "list of texts",
        "Word" => "text; `\"\"` where unset",
        "Span" => "time with its unit, such as `\"30s\"`; written in seconds",
        "Moment" => "RFC 3339, to the millisecond",
        "Secrets" => "list of texts; never written",
        "Kind" => "one of [SenderType](#sendertype); any other name is `SENDER_TYPE_OTHER` with `type_name`",
        _ => {
            let described = inside("Name")
                .map(|name| format!("one of {}", link(name)))
                .or_else(|| inside("One").map(|name| format!("object, {}", link(name))))
                .or_else(|| inside("Many").map(|name| format!("list of {}", link(name))));
            return described.unwrap_or_else(|| panic!("{codec} is a codec that this page cannot describe yet"));
        }
    };
    simple.to_owned()
}

fn field_type(field: &FieldDescriptor) -> String {
    let single = |kind: Kind| match kind {
        Kind::Message(message) if message.package_name() == "cim.v1" => message.name().to_owned(),
        Kind::Enum(set) => set.name().to_owned(),
        other => match other {
            Kind::Message(message) => message.full_name().to_owned(),
            scalar => format!("{scalar:?}").to_lowercase(),
        },
    };
    if let Kind::Message(entry) = field.kind()
        && field.is_map()
    {
        let (key, value) = (entry.map_entry_key_field().kind(), entry.map_entry_value_field().kind());
        return format!("map<{}, {}>", single(key), single(value));
    }
    if field.is_list() { format!("repeated {}", single(field.kind())) } else { single(field.kind()) }
}

fn line(page: &mut String, key: &str, field: &FieldDescriptor, form: &str) {
    writeln!(page, "| {key} | `{}` = {} | `{}` | {form} |", field.name(), field.number(), field_type(field)).unwrap();
}

fn message(page: &mut String, message: &MessageDescriptor) {
    writeln!(page, "\n## {}\n", message.name()).unwrap();
    if message.name() == "Body" {
        return body(page, message);
    }
    if message.name() == "SigningSecrets" {
        return page.push_str("Read as the list of its `secrets` = 1.\n");
    }
    if message.name() == "GenericBody" {
        return page.push_str("`type` = 1 is the JSON key `type`; every other key is in `Body.extra_fields`.\n");
    }
    let table = table(message.name()).unwrap_or_else(|| panic!("{} has no table", message.name()));
    if table.is_empty() {
        assert_eq!(message.fields().len(), 0, "{} has fields and no table", message.name());
        return page.push_str("No fields.\n");
    }
    page.push_str("| JSON | field | type | value in JSON |\n|---|---|---|---|\n");
    let mut told = Vec::new();
    for row in table {
        let name = match (row.field.trim_start_matches("r#"), row.codec) {
            // The one part of a message that stands for two fields.
            (_, "Kind") => "type",
            (name, _) => name,
        };
        let field = message.get_field_by_name(name).unwrap_or_else(|| panic!("{} has no {name}", message.name()));
        let key = match row.alias {
            Some(alias) => format!("`{}`, read also as `{alias}`", row.key),
            None => format!("`{}`", row.key),
        };
        line(page, &key, &field, &form(row.codec));
        told.push(name.to_owned());
    }
    for field in message.fields().filter(|field| !told.iter().any(|name| name == field.name())) {
        match field.name() {
            "extra_fields" => line(page, "any other", &field, "any JSON"),
            "type_name" => line(page, "`type`", &field, "text, where it is no [SenderType](#sendertype)"),
            "exact_numbers" => line(page, "", &field, "the digits of free-form numbers that no double holds"),
            name => panic!("{}.{name} is in no table", message.name()),
        }
    }
}

fn body(page: &mut String, body: &MessageDescriptor) {
    page.push_str("| JSON | field | type | value in JSON |\n|---|---|---|---|\n");
    for field in body.fields().filter(|field| field.containing_oneof().is_none_or(|oneof| oneof.name() != "kind")) {
        match field.name() {
            "markdown_text" => line(page, "`markdownText`", &field, "text"),
            "extra_fields" => line(page, "any other", &field, "any JSON"),
            name => panic!("Body.{name} is not told"),
        }
    }
    page.push_str("\nThe fields of a kind stand flat beside these, and `type` says which kind it is:\n\n");
    page.push_str("| `type` | field | type |\n|---|---|---|\n");
    let oneof = body.oneofs().find(|oneof| oneof.name() == "kind").expect("a body has a kind");
    for field in oneof.fields() {
        let known = KINDS.iter().find(|(_, variant)| variant.to_lowercase() == field.name().replace('_', ""));
        let name = match (known, field.name()) {
            (Some((name, _)), _) => format!("`{name}`"),
            (None, "generic") => "any other".into(),
            (None, name) => panic!("Body.{name} has no type in JSON"),
        };
        let kind = field_type(&field);
        writeln!(page, "| {name} | `{}` = {} | [{kind}](#{}) |", field.name(), field.number(), kind.to_lowercase()).unwrap();
    }
}

fn closed_set(page: &mut String, set: &EnumDescriptor) {
    let names = names(set.name()).unwrap_or_else(|| panic!("{} has no names in JSON", set.name()));
    writeln!(page, "\n## {}\n\n| JSON | value |\n|---|---|", set.name()).unwrap();
    for value in set.values() {
        let name = match names.iter().find(|(number, _)| *number == value.number()) {
            Some((_, name)) => format!("`\"{name}\"`"),
            None if value.number() == 0 => "`null`".into(),
            None if value.name() == "SENDER_TYPE_OTHER" => "any other".into(),
            None => panic!("{} has no name in JSON", value.name()),
        };
        writeln!(page, "| {name} | `{}` = {} |", value.name(), value.number()).unwrap();
    }
}

fn page() -> String {
    let pool = DescriptorPool::decode(pb::DESCRIPTORS).expect("the descriptors are valid");
    let files = FILES.map(|name| pool.get_file_by_name(name).unwrap_or_else(|| panic!("there is no {name}")));
    let mut page = HEAD.to_owned();
    files.iter().flat_map(prost_reflect::FileDescriptor::messages).for_each(|described| message(&mut page, &described));
    files.iter().flat_map(prost_reflect::FileDescriptor::enums).for_each(|set| closed_set(&mut page, &set));
    page
}

#[test]
fn the_page_is_current() {
    let written = fs::read_to_string(PAGE).expect("docs/mapping.md is there");
    assert!(written == page(), "docs/mapping.md is out of date: cargo test --lib wire::mapping -- --ignored makes it anew");
}

#[test]
#[ignore = "it does not check docs/mapping.md, but makes it"]
fn the_page_is_made() {
    fs::write(PAGE, page()).expect("docs/ can be written");
}
