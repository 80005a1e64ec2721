//! The registry, from its use case down: what is accepted, what is shown, what stays.

use super::*;
use crate::pb::store::Endpoint as Which;
use crate::pb::{Attribute, Bot, BotFormat, ChannelMode, DeliveryOrder, DeliverySettings, Endpoint, SigningSecrets, ValueType};
use crate::samples::{self, LIMITS};
use crate::store;
use crate::store::memory::Memory;
use async_trait::async_trait;
use base64::prelude::BASE64_STANDARD as BASE64;
use futures::FutureExt as _;
use prost_types::Timestamp;
use prost_types::{Duration, Value, value};
use std::sync::atomic::{AtomicBool, Ordering};

/// 24 bytes, and 25 others.
const SECRETS: [&str; 2] = ["whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz", "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNA=="];

fn limits() -> Limits {
    *samples::channels(false).limits()
}

fn settings(most: usize) -> Settings {
    Settings { require_registered: false, most, limits: limits() }
}

/// What never waits.
fn now_done<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("memory never waits")
}

fn text(text: &str) -> Option<Value> {
    Some(Value { kind: Some(value::Kind::StringValue(text.into())) })
}

fn attribute(key: &str, r#type: ValueType, value: Option<Value>) -> Attribute {
    Attribute { key: Some(key.into()), r#type: r#type.into(), value, ..Attribute::default() }
}

fn endpoint(uri: &str) -> Endpoint {
    Endpoint { uri: uri.into(), ..Endpoint::default() }
}

fn signed(uri: &str, secrets: &[&str]) -> Endpoint {
    let secrets = SigningSecrets { secrets: secrets.iter().map(|secret| (*secret).to_owned()).collect() };
    Endpoint { signing_secrets: Some(secrets), ..endpoint(uri) }
}

fn simple(service_identifier: &str) -> pb::Channel {
    pb::Channel { service_identifier: service_identifier.into(), channel_type: "WHATSAPP".into(), ..pb::Channel::default() }
}

/// A channel with something in every field.
fn full() -> pb::Channel {
    pb::Channel {
        name: "Support".into(),
        mode: ChannelMode::Agent.into(),
        default_outbound: true,
        connector: Some(signed("https://connector.example", &SECRETS)),
        bot: Some(Bot {
            endpoint: Some(signed("http://bot.example/webhook", &SECRETS[..1])),
            format: BotFormat::Bot.into(),
            id: "bot-1".into(),
            name: "Greeter".into(),
        }),
        customer_activity_timeout: Some(Duration { seconds: 300, nanos: 0 }),
        delivery: Some(DeliverySettings {
            timeout: Some(Duration { seconds: 5, nanos: 0 }),
            order: DeliveryOrder::Strict.into(),
        }),
        attributes: vec![
            attribute("account", ValueType::String100, text("acme")),
            attribute("token", ValueType::Password, text("sesame")),
        ],
        ..simple("support")
    }
}

impl Channels {
    fn creates(&self, channel: pb::Channel) -> pb::Channel {
        now_done(self.create(channel, Violations::default())).expect("it keeps every rule")
    }

    fn refuses(&self, channel: pb::Channel) -> Error {
        let before = self.snapshot();
        let error = now_done(self.create(channel, Violations::default())).expect_err("is refused");
        assert!(Arc::ptr_eq(&before, &self.snapshot()), "nothing is left behind");
        error
    }

    fn changes(&self, update: pb::Channel, paths: &[&str]) -> Result<pb::Channel, Error> {
        let paths: Vec<_> = paths.iter().map(|path| (*path).to_owned()).collect();
        now_done(self.update(update, &paths, None, Violations::default()))
    }

    fn secrets_of(&self, service_identifier: &str) -> Vec<String> {
        let snapshot = self.snapshot();
        let connector = snapshot.get(service_identifier).and_then(|channel| channel.connector.as_ref());
        connector.and_then(|connector| connector.signing_secrets.clone()).unwrap_or_default().secrets
    }

    fn password_of(&self, service_identifier: &str) -> Option<Value> {
        let snapshot = self.snapshot();
        let channel = snapshot.get(service_identifier)?;
        channel.attributes.iter().find(|attribute| rules::is_password(attribute))?.value.clone()
    }
}

fn broken(error: &Error) -> Vec<(&str, Reason)> {
    error.violations().iter().map(|violation| (violation.path.as_str(), violation.reason)).collect()
}

#[test]
fn a_channel_is_registered_as_it_was_sent_and_what_was_left_out_is_filled_in() {
    let channels = samples::channels(false);
    let created = channels.creates(simple("support"));
    assert!(Uuid::parse_str(&created.id).is_ok_and(|id| id.get_version_num() == 7));
    assert_eq!((created.name.as_str(), created.mode()), ("support", ChannelMode::Hybrid));
    assert!(!created.etag.is_empty() && created.create_time.is_some() && created.create_time == created.update_time);
    assert_eq!(channels.channel(Key::Id(&created.id)), Ok(created.clone()));
    assert_eq!(channels.channel(Key::ServiceIdentifier("support")), Ok(created.clone()));
    let snapshot = channels.snapshot();
    assert_eq!(snapshot.get("support").map(|channel| &channel.id), Some(&created.id));
    assert_eq!(snapshot.channel_type("support"), "WHATSAPP");
    assert_eq!(snapshot.channel_type("Support"), "Support", "identifiers are compared byte by byte");
}

#[test]
fn what_only_the_gateway_sets_is_passed_over() {
    let channels = samples::channels(false);
    let forged = pb::Channel {
        id: "mine".into(),
        etag: "mine".into(),
        declared: true,
        create_time: Some(Timestamp { seconds: 1, nanos: 0 }),
        connector: Some(Endpoint {
            signing_secret_digests: vec!["mine".into()],
            disabled: true,
            disabled_reason: DisabledReason::Gone.into(),
            ..endpoint("https://a.example")
        }),
        ..simple("support")
    };
    let created = channels.creates(forged);
    assert!(created.id != "mine" && created.etag != "mine" && !created.declared);
    let connector = created.connector.clone().expect("is there");
    assert_eq!((connector.disabled, connector.disabled_reason()), (true, DisabledReason::Unspecified));
    assert!(created.create_time.is_some_and(|time| time.seconds > 1));
    assert_eq!(created.connector.map(|connector| connector.signing_secret_digests), Some(Vec::new()));
}

#[test]
fn secrets_are_kept_and_never_shown() {
    let channels = samples::channels(false);
    let created = channels.creates(full());
    let page = channels.list(None, None, 10).expect("can be listed");
    for shown in [&created, &channels.channel(Key::Id(&created.id)).expect("is there"), &page.channels[0]] {
        let connector = shown.connector.as_ref().expect("has a connector");
        assert_eq!((connector.signing_secrets.as_ref(), connector.signing_secret_digests.len()), (None, 2));
        assert!(connector.signing_secret_digests.iter().all(|digest| digest.len() == 8));
        assert_ne!(connector.signing_secret_digests[0], connector.signing_secret_digests[1]);
        let told = format!("{shown:?}{}", String::from_utf8_lossy(&wire::encode_channel(shown)));
        assert!(!told.contains("whsec_") && !told.contains("sesame"), "{told}");
        assert!(told.contains("acme"));
    }
    let held = channels.snapshot();
    assert!(!format!("{held:?}").contains("sesame") && !format!("{channels:?}").contains("whsec_"));
    assert_eq!(channels.secrets_of("support"), SECRETS);
    assert_eq!(channels.password_of("support"), text("sesame"));
}

#[test]
fn what_was_shown_can_be_sent_back_and_loses_nothing() {
    let channels = samples::channels(false);
    let created = channels.creates(full());
    let before = channels.snapshot().get("support").cloned().expect("is there");
    let updated = channels.changes(pb::Channel { name: "Help".into(), ..created.clone() }, &[]).expect("can be changed");
    let after = channels.snapshot().get("support").cloned().expect("is there");
    let expected = pb::Channel {
        name: "Help".into(),
        etag: updated.etag.clone(),
        update_time: updated.update_time,
        ..pb::Channel::clone(&before)
    };
    assert_eq!(*after, expected);
    assert_ne!(updated.etag, created.etag);
}

#[test]
fn secrets_go_only_when_they_are_taken_away() {
    let channels = samples::channels(false);
    let created = channels.creates(full());
    let other = signed("https://connector.example", &SECRETS[1..]);
    channels.changes(pb::Channel { connector: Some(other), etag: String::new(), ..created.clone() }, &["connector"]).unwrap();
    assert_eq!(channels.secrets_of("support"), SECRETS[1..]);
    let none = signed("https://connector.example", &[]);
    channels.changes(pb::Channel { connector: Some(none), etag: String::new(), ..created.clone() }, &[]).unwrap();
    assert_eq!(channels.secrets_of("support"), [""; 0]);
    // A password of another key is another password.
    let attributes = vec![attribute("key", ValueType::Password, None)];
    let error = channels.changes(pb::Channel { attributes, etag: String::new(), ..created }, &["attributes"]).unwrap_err();
    assert_eq!(broken(&error), [("attributes[0].value", Reason::Required)]);
    assert_eq!(channels.password_of("support"), text("sesame"));
}

#[test]
fn an_update_changes_the_fields_that_it_names_and_no_others() {
    let channels = samples::channels(false);
    let created = channels.creates(full());
    let update = || pb::Channel {
        id: created.id.clone(),
        connector: Some(Endpoint { disabled: true, ..Endpoint::default() }),
        ..pb::Channel::default()
    };
    let updated = channels.changes(update(), &["connector.disabled", "delivery.timeout"]).expect("can be changed");
    let connector = updated.connector.as_ref().expect("has a connector");
    assert_eq!((connector.uri.as_str(), connector.disabled), ("https://connector.example", true));
    let delivery = updated.delivery.expect("has settings");
    assert_eq!((delivery.timeout, delivery.order()), (None, DeliveryOrder::Strict));
    assert_eq!((&updated.name, &updated.bot, &updated.attributes), (&created.name, &created.bot, &created.attributes));
    channels.changes(update(), &["connector.signing_secrets"]).expect("can be changed");
    assert_eq!(channels.secrets_of("support"), [""; 0]);
}

#[test]
fn every_field_can_be_named_by_itself() {
    let channels = samples::channels(false);
    let other = full();
    for paths in [
        &["name", "mode", "channel_type", "default_outbound", "customer_activity_timeout", "attributes"][..],
        &["connector.uri", "connector.disabled", "connector.signing_secrets"],
        &["bot.endpoint.uri", "bot.endpoint.disabled", "bot.endpoint.signing_secrets", "bot.format", "bot.id", "bot.name"],
        &["bot.endpoint", "bot.format", "bot.id", "bot.name"],
        &["delivery.timeout", "delivery.order"],
        &["service_identifier", "connector", "bot", "delivery"],
    ] {
        let id = channels.creates(simple("support")).id;
        let before = channels.snapshot().by_id(&id).cloned().expect("is there");
        channels.changes(pb::Channel { id: id.clone(), etag: String::new(), ..other.clone() }, paths).expect("can be changed");
        let after = channels.snapshot().by_id(&id).cloned().expect("is there");
        let named = |field: &str| paths.iter().any(|path| path.split('.').next() == Some(field));
        let expected = |field| if named(field) { &other } else { &*before };
        assert_eq!(after.name, expected("name").name);
        assert_eq!(after.mode, expected("mode").mode);
        assert_eq!(after.default_outbound, expected("default_outbound").default_outbound);
        assert_eq!(after.connector, expected("connector").connector);
        assert_eq!(after.bot, expected("bot").bot);
        assert_eq!(after.customer_activity_timeout, expected("customer_activity_timeout").customer_activity_timeout);
        assert_eq!(after.delivery, expected("delivery").delivery);
        assert_eq!(after.attributes, expected("attributes").attributes);
        now_done(channels.delete(&id, None)).expect("can be removed");
    }
}

#[test]
fn a_path_that_names_no_field_is_refused_and_all_such_are_named() {
    let channels = samples::channels(false);
    let created = channels.creates(simple("support"));
    let error = channels.changes(created.clone(), &["name", "etag", "connectors"]).expect_err("is refused");
    let Error::InvalidRequest { field: "update_mask", problem } = &error else { panic!("{error:?}") };
    assert!(problem.starts_with(r#"names no field that can be changed: "etag", "connectors"; known are "#), "{problem}");
    assert_eq!(channels.channel(Key::Id(&created.id)), Ok(created));
}

#[test]
fn a_change_that_names_another_etag_is_refused() {
    let channels = samples::channels(false);
    let created = channels.creates(simple("support"));
    let updated = channels.changes(pb::Channel { name: "A".into(), ..created.clone() }, &[]).expect("has the etag");
    let stale = Err(Error::EtagMismatch { id: created.id.clone() });
    assert_eq!(channels.changes(pb::Channel { name: "B".into(), ..created.clone() }, &[]), stale);
    let by_etag = |etag: &str| {
        now_done(channels.update(pb::Channel { etag: String::new(), ..created.clone() }, &[], Some(etag), Violations::default()))
    };
    assert_eq!(by_etag(&created.etag), stale);
    assert_eq!(now_done(channels.delete(&created.id, Some(&created.etag))), stale.clone().map(drop));
    assert_eq!(channels.channel(Key::Id(&created.id)), Ok(updated.clone()));
    assert_eq!(now_done(channels.delete(&created.id, Some(&updated.etag))), Ok(()));
    let gone = Error::ChannelNotFound { key: "id", name: created.id.clone() };
    assert_eq!(now_done(channels.delete(&created.id, None)), Err(gone.clone()));
    assert_eq!(channels.channel(Key::Id(&created.id)), Err(gone.clone()));
    assert_eq!(channels.changes(created, &[]), Err(gone));
}

#[test]
fn a_service_identifier_has_one_channel_and_keeps_it() {
    let channels = samples::channels(false);
    let created = channels.creates(simple("support"));
    assert_eq!(channels.refuses(simple("support")), Error::ChannelExists { service_identifier: "support".into() });
    channels.creates(simple("Support"));
    let error = channels.changes(pb::Channel { service_identifier: "other".into(), ..created }, &[]).expect_err("is refused");
    assert_eq!(broken(&error), [("serviceIdentifier", Reason::Immutable)]);
}

#[test]
fn a_type_has_one_default() {
    let channels = samples::channels(false);
    let default = |service_identifier: &str| pb::Channel { default_outbound: true, ..simple(service_identifier) };
    let first = channels.creates(default("a"));
    let taken = Error::DefaultOutboundTaken { channel_type: "WHATSAPP".into(), service_identifier: "a".into() };
    assert_eq!(channels.refuses(default("b")), taken);
    let second = channels.creates(simple("b"));
    assert_eq!(channels.changes(pb::Channel { default_outbound: true, ..second.clone() }, &[]), Err(taken));
    let of_another = channels.creates(pb::Channel { channel_type: "SMS".into(), ..default("c") });
    assert!(channels.changes(pb::Channel { channel_type: "WHATSAPP".into(), ..of_another }, &[]).is_err());
    assert_eq!(channels.default_outbound("WHATSAPP").map(|channel| channel.id), Ok(first.id.clone()));
    assert!(channels.changes(pb::Channel { name: "still it".into(), ..first.clone() }, &[]).is_ok());
    now_done(channels.delete(&first.id, None)).expect("can be removed");
    assert_eq!(channels.default_outbound("WHATSAPP"), Err(Error::NoDefaultOutbound { channel_type: "WHATSAPP".into() }));
    assert!(channels.changes(pb::Channel { default_outbound: true, ..second }, &[]).is_ok());
}

#[test]
fn there_are_no_more_channels_than_the_bound() {
    let channels = now_done(Channels::open(Arc::new(Memory::new(1)), Vec::new(), settings(2))).expect("can be opened");
    let first = channels.creates(simple("a"));
    channels.creates(simple("b"));
    assert_eq!(channels.refuses(simple("c")), Error::TooManyChannels { most: 2 });
    assert!(channels.changes(pb::Channel { name: "A".into(), ..first.clone() }, &[]).is_ok());
    now_done(channels.delete(&first.id, None)).expect("can be removed");
    channels.creates(simple("c"));
}

/// What is wrong with a channel, after a change to one that keeps every rule.
fn wrong(change: impl FnOnce(&mut pb::Channel)) -> Vec<(String, Reason)> {
    let mut channel = full();
    change(&mut channel);
    let violations = rules::check(&mut channel, &limits());
    violations.into_vec().into_iter().map(|violation| (violation.path, violation.reason)).collect()
}

#[test]
fn every_rule_is_reported_where_it_is_broken() {
    let long = "x".repeat(LIMITS.id_bytes + 1);
    assert_eq!(wrong(|_| {}), []);
    type Change = Box<dyn FnOnce(&mut pb::Channel)>;
    let connector = |change: fn(&mut Endpoint)| -> Change {
        Box::new(move |channel| change(channel.connector.as_mut().expect("has a connector")))
    };
    let bot = |change: fn(&mut Bot)| -> Change { Box::new(move |channel| change(channel.bot.as_mut().expect("has a bot"))) };
    let timeout =
        |seconds| -> Change { Box::new(move |channel| channel.customer_activity_timeout = Some(Duration { seconds, nanos: 0 })) };
    let attempt = |seconds| -> Change {
        Box::new(move |channel| {
            channel.delivery.get_or_insert_default().timeout = Some(Duration { seconds, nanos: 0 });
        })
    };
    let cases: Vec<(Change, &str, Reason)> = vec![
        (Box::new(|c| c.service_identifier.clear()), "serviceIdentifier", Reason::Required),
        (Box::new(|c| c.service_identifier = " ".into()), "serviceIdentifier", Reason::Required),
        (
            Box::new({
                let long = long.clone();
                |c| c.service_identifier = long
            }),
            "serviceIdentifier",
            Reason::TooLong,
        ),
        (
            Box::new({
                let long = long.clone();
                |c| c.name = long
            }),
            "name",
            Reason::TooLong,
        ),
        (Box::new(|c| c.channel_type.clear()), "channelType", Reason::Required),
        (
            Box::new({
                let long = long.clone();
                |c| c.channel_type = long
            }),
            "channelType",
            Reason::TooLong,
        ),
        (Box::new(|c| c.mode = 9), "mode", Reason::UnknownNumber),
        (connector(|e| e.uri.clear()), "connector.uri", Reason::Required),
        (connector(|e| e.uri = format!("http://a.example/{}", "x".repeat(2048))), "connector.uri", Reason::TooLong),
        (connector(|e| e.uri = "connector.example".into()), "connector.uri", Reason::NotAUri),
        (
            connector(|e| e.signing_secrets = Some(SigningSecrets { secrets: vec![SECRETS[0].into(); 9] })),
            "connector.signingSecrets",
            Reason::TooMany,
        ),
        (
            connector(|e| e.signing_secrets = Some(SigningSecrets { secrets: vec![SECRETS[0].into(), "sesame".into()] })),
            "connector.signingSecrets[1]",
            Reason::NotASecret,
        ),
        (bot(|b| b.endpoint = None), "bot.endpoint", Reason::Required),
        (bot(|b| b.endpoint.get_or_insert_default().uri = "ftp://bot.example".into()), "bot.endpoint.uri", Reason::NotAUri),
        (bot(|b| b.id.clear()), "bot.id", Reason::Required),
        (bot(|b| b.name = "x".repeat(257)), "bot.name", Reason::TooLong),
        (bot(|b| b.format = 7), "bot.format", Reason::UnknownNumber),
        (timeout(-1), "customerActivityTimeout", Reason::OutOfRange),
        (timeout(30 * 24 * 60 * 60 + 1), "customerActivityTimeout", Reason::OutOfRange),
        (attempt(0), "delivery.timeout", Reason::OutOfRange),
        (attempt(121), "delivery.timeout", Reason::OutOfRange),
        (Box::new(|c| c.attributes[1].key = None), "attributes[1].key", Reason::Required),
        (Box::new(|c| c.attributes[1].key = Some("account".into())), "attributes[1].key", Reason::Duplicate),
        (
            Box::new(|c| c.attributes[0].value = Some(Value { kind: Some(value::Kind::NumberValue(f64::NAN)) })),
            "attributes[0].value",
            Reason::NotFinite,
        ),
        (Box::new(|c| c.attributes[1].value = None), "attributes[1].value", Reason::Required),
        (Box::new(|c| c.attributes[0].value = text(&"x".repeat(64 << 10))), "", Reason::TooLarge),
    ];
    for (change, path, reason) in cases {
        assert_eq!(wrong(change), [(path.to_owned(), reason)]);
    }
    let everything = wrong(|channel| *channel = pb::Channel { connector: Some(Endpoint::default()), ..pb::Channel::default() });
    let paths: Vec<_> = everything.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(paths, ["serviceIdentifier", "channelType", "connector.uri"]);
}

#[test]
fn bounds_are_kept_from_both_sides() {
    for (seconds, nanos, fits) in
        [(0, 0, true), (0, 999_999_999, false), (1, 0, true), (2_592_000, 0, true), (2_592_000, 1, false)]
    {
        let found = wrong(|channel| channel.customer_activity_timeout = Some(Duration { seconds, nanos }));
        assert_eq!(found.is_empty(), fits, "{seconds} s {nanos} ns: {found:?}");
    }
    let secret = |bytes: usize| format!("whsec_{}", BASE64.encode(vec![7; bytes]));
    for (bytes, fits) in [(0, false), (23, false), (24, true), (64, true), (65, false)] {
        let secrets = vec![secret(bytes)];
        let found = wrong(|channel| channel.connector.get_or_insert_default().signing_secrets = Some(SigningSecrets { secrets }));
        assert_eq!(found.is_empty(), fits, "{bytes} bytes: {found:?}");
    }
    let found = wrong(|channel| {
        let secrets = vec![SECRETS[0].into(); 8];
        channel.connector.get_or_insert_default().signing_secrets = Some(SigningSecrets { secrets });
    });
    assert_eq!(found, []);
}

#[test]
fn only_what_can_be_called_safely_is_a_uri() {
    let is_uri = |uri: &str| wrong(|channel| channel.connector.get_or_insert_default().uri = uri.into()).is_empty();
    for uri in [
        "https://connector.example",
        "http://connector:8080",
        "HTTPS://Connector.Example/ccm-msg/receive?tenant=1",
        "http://127.0.0.1:1/",
        "http://[::1]:8080/x",
        "http://[::1]",
        "https://a.example/%41@b",
    ] {
        assert!(is_uri(uri), "{uri}");
    }
    for uri in [
        "/message/receive",
        "connector.example:80",
        "//connector.example",
        "https://",
        "https:///path",
        "http://:80",
        "ftp://connector.example",
        "file:///etc/passwd",
        "unix://socket",
        "https://user@connector.example",
        "https://user:sesame@connector.example",
        "https://connector.example/#part",
        "https://connector.example#",
        "https://connector.example:0",
        "https://connector.example:65536",
        "https://connector.example:",
        "https://connector.example:x",
        "https://connector example",
        "https://connector.example/a b",
        "https://[::1",
        " https://connector.example",
        "https://connector.example\n",
    ] {
        assert!(!is_uri(uri), "{uri:?}");
    }
}

#[test]
fn what_is_refused_is_not_repeated_where_it_may_be_a_secret() {
    let channels = samples::channels(false);
    let error = channels.refuses(pb::Channel {
        connector: Some(signed("https://user:sesame@connector.example", &["sesame"])),
        ..simple("support")
    });
    assert_eq!(error.violations().len(), 2);
    assert!(!format!("{error:?}").contains("sesame"), "{error:?}");
}

#[test]
fn channels_are_listed_in_pages_in_the_order_of_their_service_identifiers() {
    let channels = samples::channels(false);
    for service_identifier in ["e", "b", "d", "a", "c"] {
        let channel_type = if service_identifier < "d" { "WHATSAPP" } else { "SMS" };
        samples::register(&channels, service_identifier, channel_type);
    }
    let names = |page: &ChannelPage| page.channels.iter().map(|channel| channel.service_identifier.clone()).collect::<Vec<_>>();
    let first = channels.list(None, None, 2).expect("can be listed");
    assert_eq!(names(&first), ["a", "b"]);
    // What comes or goes meanwhile shifts nothing.
    let a = channels.channel(Key::ServiceIdentifier("a")).expect("is there");
    now_done(channels.delete(&a.id, None)).expect("can be removed");
    samples::register(&channels, "aa", "SMS");
    let second = channels.list(None, first.next.as_deref(), 2).expect("can be listed");
    assert_eq!(names(&second), ["c", "d"]);
    let last = channels.list(None, second.next.as_deref(), 2).expect("can be listed");
    assert_eq!((names(&last), last.next), (vec!["e".to_owned()], None));
    let of_type = channels.list(Some("SMS"), None, 10).expect("can be listed");
    assert_eq!((names(&of_type), of_type.next), (["aa", "d", "e"].map(str::to_owned).to_vec(), None));
    let full = channels.list(Some("WHATSAPP"), None, 2).expect("can be listed");
    assert_eq!(full.next, None, "a last page that is full has no token");
    for token in ["x", "YQ", "", "AmE"] {
        let error = channels.list(None, Some(token), 2).expect_err(token);
        assert!(matches!(error, Error::InvalidRequest { field: "page_token", .. }), "{error:?}");
    }
}

#[test]
fn a_page_of_large_channels_is_shorter() {
    let channels = samples::channels(false);
    for i in 0..50 {
        let attributes = vec![attribute("a", ValueType::String2000, text(&"x".repeat(60_000)))];
        channels.creates(pb::Channel { attributes, ..simple(&format!("{i:02}")) });
    }
    let (mut token, mut found) = (None, 0);
    loop {
        let page = channels.list(None, token.as_deref(), 500).expect("can be listed");
        let bytes: usize = page.channels.iter().map(prost::Message::encoded_len).sum();
        assert!(bytes < 3 << 20 && !page.channels.is_empty());
        found += page.channels.len();
        token = page.next;
        if token.is_none() {
            break;
        }
    }
    assert_eq!(found, 50);
}

#[test]
fn who_watches_sees_every_change() {
    let channels = samples::channels(false);
    let mut changes = channels.watch();
    assert!(!changes.has_changed().expect("the registry is there"));
    let created = channels.creates(simple("support"));
    assert!(changes.borrow_and_update().get("support").is_some());
    channels.refuses(simple("support"));
    assert!(!changes.has_changed().expect("the registry is there"));
    now_done(channels.delete(&created.id, None)).expect("can be removed");
    assert!(changes.borrow_and_update().get("support").is_none());
}

/// A registry that cannot write while it is told so.
#[derive(Debug)]
struct Failing {
    memory: Memory,
    fails: AtomicBool,
}

impl Failing {
    fn check(&self) -> Result<(), store::Error> {
        match self.fails.load(Ordering::Relaxed) {
            true => Err(store::Error::Unavailable { cause: "the test says so".into() }),
            false => Ok(()),
        }
    }
}

#[async_trait]
impl Registry for Failing {
    async fn channels(&self) -> Result<Vec<pb::Channel>, store::Error> {
        self.memory.channels().await
    }

    async fn put_channel(&self, channel: &pb::Channel) -> Result<(), store::Error> {
        self.check()?;
        self.memory.put_channel(channel).await
    }

    async fn remove_channel(&self, id: &str) -> Result<(), store::Error> {
        self.check()?;
        self.memory.remove_channel(id).await
    }
}

#[test]
fn what_is_not_durable_is_not_seen() {
    let failing = Arc::new(Failing { memory: Memory::new(1), fails: AtomicBool::new(false) });
    let channels = now_done(Channels::open(failing.clone(), Vec::new(), settings(9))).expect("can be opened");
    let created = channels.creates(simple("support"));
    failing.fails.store(true, Ordering::Relaxed);
    assert!(matches!(channels.refuses(simple("other")), Error::Store(_)));
    assert!(matches!(channels.changes(pb::Channel { name: "A".into(), ..created.clone() }, &[]), Err(Error::Store(_))));
    assert!(matches!(now_done(channels.delete(&created.id, None)), Err(Error::Store(_))));
    assert_eq!(channels.channel(Key::Id(&created.id)), Ok(created));
}

#[test]
fn channels_are_there_when_the_registry_is_opened_again() {
    let memory = Arc::new(Memory::new(1));
    let channels = now_done(Channels::open(memory.clone(), Vec::new(), settings(9))).expect("can be opened");
    let created = channels.creates(full());
    let again = now_done(Channels::open(memory, Vec::new(), settings(9))).expect("can be opened");
    assert_eq!(again.channel(Key::Id(&created.id)), Ok(created));
    assert_eq!(again.secrets_of("support"), SECRETS);
}

// Declared channels

fn declared(toml: &str) -> Result<Vec<pb::Channel>, Vec<String>> {
    let table: toml::Table = toml.parse().expect("is TOML");
    let tables: Vec<toml::Table> =
        table["declared"].as_array().expect("is a list").iter().filter_map(|t| t.as_table().cloned()).collect();
    let read = super::declared::read(&tables, &limits());
    read.map_err(|problems| problems.into_iter().map(|problem| format!("{} {}", problem.key, problem.sentence)).collect())
}

#[test]
fn a_declared_channel_has_all_that_a_registered_one_has_and_its_secrets_from_files() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let [first, second, token] = ["first", "second", "token"].map(|name| folder.path().join(name));
    std::fs::write(&first, SECRETS[0]).expect("can be written");
    std::fs::write(&second, format!("{}\r\n", SECRETS[1])).expect("can be written");
    std::fs::write(&token, "sesame\n").expect("can be written");
    let toml = format!(
        r#"
        [[declared]]
        service_identifier = "support"
        name = "Support"
        channel_type = "WHATSAPP"
        mode = "AGENT"
        default_outbound = true
        connector = {{ uri = "https://connector.example", signing_secret_files = ["{}", "{}"] }}
        customer_activity_timeout = "5m"
        [declared.bot]
        endpoint = {{ uri = "http://bot.example/webhook", signing_secret_files = ["{}"] }}
        format = "BOT"
        id = "bot-1"
        name = "Greeter"
        [declared.delivery]
        timeout = "5s"
        order = "STRICT"
        [[declared.attributes]]
        key = "account"
        type = "String100"
        value = "acme"
        [[declared.attributes]]
        key = "token"
        type = "Password"
        value_file = "{}"
        "#,
        first.display(),
        second.display(),
        first.display(),
        token.display(),
    );
    let read = declared(&toml).unwrap_or_else(|problems| panic!("{problems:?}"));
    let [channel] = read.as_slice() else { panic!("there is one") };
    assert_eq!(*channel, pb::Channel { id: channel.id.clone(), etag: channel.etag.clone(), declared: true, ..full() });
    let again = declared(&toml).expect("is right");
    assert_eq!(again[0].id, channel.id, "its id lasts");
    assert!(Uuid::parse_str(&channel.id).is_ok());
}

#[test]
fn everything_that_is_wrong_with_declared_channels_is_told_at_once() {
    let problems = declared(
        r#"
        [[declared]]
        service_identifier = "a"
        channel_type = "SMS"
        default_outbound = true
        [[declared]]
        service_identifier = "a"
        channel_type = "SMS"
        default_outbound = true
        [[declared]]
        id = "mine"
        colour = "red"
        channelType = "SMS"
        customer_activity_timeout = 5
        [declared.connector]
        uri = "connector"
        signing_secrets = ["sesame"]
        signing_secret_files = ["/nowhere/secret"]
        [[declared.attributes]]
        key = "token"
        type = "Password"
        value = "sesame"
        "#,
    );
    let problems = problems.expect_err("is wrong").join("\n");
    assert!(!problems.contains("sesame"), "{problems}");
    insta::assert_snapshot!(problems, @r#"
    channels.declared[1].service_identifier is that of channels.declared[0], too
    channels.declared[1].default_outbound is said of channels.declared[0], which is of the same type, too
    channels.declared[2].attributes[0].value of a Password must not stand in a configuration; value_file names a file that holds it
    channels.declared[2].channelType is no key here: keys of the configuration have no capitals
    channels.declared[2].connector.signing_secret_files[0] "/nowhere/secret" cannot be read: No such file or directory (os error 2)
    channels.declared[2].connector.signing_secrets must not stand in a configuration; signing_secret_files names files that hold them
    channels.declared[2].colour is no key here; known are id, service_identifier, name, channel_type, mode, default_outbound, connector, bot, customer_activity_timeout, delivery, attributes, declared, etag, create_time, update_time
    channels.declared[2].customer_activity_timeout needs a time with its unit, such as "30s", found the number 5
    channels.declared[2].id is the gateway's to set
    channels.declared[2].service_identifier is required
    channels.declared[2].channel_type is required
    channels.declared[2].connector.uri needs the scheme http or https
    "#);
}

#[test]
fn a_declared_channel_cannot_be_changed_at_run_time() {
    let declaring =
        declared("[[declared]]\nservice_identifier = \"a\"\nchannel_type = \"SMS\"\ndefault_outbound = true").unwrap();
    let id = declaring[0].id.clone();
    let channels = now_done(Channels::open(Arc::new(Memory::new(1)), declaring, settings(9))).expect("can be opened");
    let declared = Error::ChannelDeclared { service_identifier: "a".into() };
    let shown = channels.channel(Key::ServiceIdentifier("a")).expect("is there");
    assert!(shown.declared && shown.create_time.is_none());
    assert_eq!(channels.changes(shown, &["name"]), Err(declared.clone()));
    assert_eq!(now_done(channels.delete(&id, None)), Err(declared));
    assert_eq!(channels.refuses(simple("a")), Error::ChannelExists { service_identifier: "a".into() });
    let other = pb::Channel { channel_type: "SMS".into(), default_outbound: true, ..simple("b") };
    assert!(matches!(channels.refuses(other), Error::DefaultOutboundTaken { .. }));
}

#[test]
fn what_is_declared_and_registered_too_is_told_at_the_start() {
    let memory = Arc::new(Memory::new(1));
    let channels = now_done(Channels::open(memory.clone(), Vec::new(), settings(9))).expect("can be opened");
    let a = channels.creates(simple("a"));
    let b = channels.creates(pb::Channel { default_outbound: true, ..simple("b") });
    let declaring = declared(
        r#"
        declared = [
            { service_identifier = "a", channel_type = "SMS" },
            { service_identifier = "c", channel_type = "WHATSAPP", default_outbound = true },
            { service_identifier = "d", channel_type = "WHATSAPP" },
        ]"#,
    );
    let error = now_done(Channels::open(memory, declaring.expect("is right"), settings(9))).expect_err("they contradict");
    let expected = format!(
        "channels.declared[0]: \"a\" is registered, too, as the channel {}: declare it no more, or delete that one; \
         channels.declared[1].default_outbound: the default of the type \"WHATSAPP\" is the registered channel {} already",
        a.id, b.id
    );
    assert_eq!(error.to_string(), expected);
}

fn disable(channels: &Channels, channel: &pb::Channel, which: Which) -> Result<bool, Error> {
    now_done(channels.disable(&channel.id, which, &channel.etag, DisabledReason::Gone))
}

fn state_of(channel: &pb::Channel) -> (bool, DisabledReason) {
    channel.connector.as_ref().map(|connector| (connector.disabled, connector.disabled_reason())).expect("has a connector")
}

#[test]
fn an_endpoint_that_is_disabled_stays_so_with_its_reason_until_somebody_enables_it() {
    let registry = Arc::new(Memory::new(1));
    let open = || now_done(Channels::open(registry.clone(), Vec::new(), settings(9))).expect("nothing contradicts it");
    let channels = open();
    let created = channels.creates(full());
    assert_eq!(disable(&channels, &created, Which::Connector), Ok(true));
    let gone = (true, DisabledReason::Gone);
    let shown = |channels: &Channels| channels.channel(Key::Id(&created.id)).expect("is there");
    assert_eq!(state_of(&shown(&channels)), gone);
    assert_ne!(shown(&channels).etag, created.etag);
    assert_eq!(channels.secrets_of("support"), SECRETS);

    let again = open();
    assert_eq!(state_of(&shown(&again)), gone, "it is durable");
    let sent_back = pb::Channel { name: "Help".into(), ..shown(&again) };
    assert_eq!(state_of(&again.changes(sent_back, &[]).expect("can be changed")), gone);
    let elsewhere = pb::Channel { id: created.id.clone(), connector: Some(endpoint("https://b.example")), ..Default::default() };
    assert_eq!(state_of(&again.changes(elsewhere.clone(), &["connector.uri"]).expect("can be changed")), gone);
    let enabled = again.changes(elsewhere, &["connector.disabled"]).expect("can be changed");
    assert_eq!(state_of(&enabled), (false, DisabledReason::Unspecified));
    let by_hand = pb::Channel { connector: Some(Endpoint { disabled: true, ..endpoint("https://b.example") }), ..enabled };
    let by_hand = again.changes(by_hand, &["connector.disabled"]).expect("can be changed");
    assert_eq!(state_of(&by_hand), (true, DisabledReason::Unspecified));
}

#[test]
fn an_endpoint_is_disabled_only_as_it_was_known() {
    let channels = samples::channels(false);
    let created = channels.creates(pb::Channel { bot: None, ..full() });
    assert_eq!(disable(&channels, &created, Which::Bot), Ok(false), "there is none");
    let renamed = channels.changes(pb::Channel { name: "Help".into(), ..created.clone() }, &["name"]).expect("can be changed");
    assert_eq!(disable(&channels, &created, Which::Connector), Ok(false), "it was changed meanwhile");
    assert_eq!(disable(&channels, &renamed, Which::Connector), Ok(true));
    let disabled = channels.channel(Key::Id(&created.id)).expect("is there");
    assert_eq!(disable(&channels, &disabled, Which::Connector), Ok(false), "it is already");
    now_done(channels.delete(&created.id, None)).expect("can be removed");
    assert_eq!(disable(&channels, &disabled, Which::Connector), Ok(false), "it is gone");
}

#[test]
fn an_endpoint_of_a_declared_channel_is_disabled_until_the_next_start() {
    let toml = "[[declared]]\nservice_identifier = \"shop\"\nchannel_type = \"SMS\"\nconnector = { uri = \"https://a.example\" }";
    let registry = Arc::new(Memory::new(1));
    let open = || {
        let channels = declared(toml).expect("keeps every rule");
        now_done(Channels::open(registry.clone(), channels, settings(9))).expect("nothing contradicts it")
    };
    let channels = open();
    let shown = |channels: &Channels| channels.channel(Key::ServiceIdentifier("shop")).expect("is there");
    assert_eq!(disable(&channels, &shown(&channels), Which::Connector), Ok(true));
    assert_eq!((state_of(&shown(&channels)), shown(&channels).update_time), ((true, DisabledReason::Gone), None));
    assert_eq!(state_of(&shown(&open())), (false, DisabledReason::Unspecified));
    let forged = declared(&toml.replace(" }", ", disabled_reason = \"GONE\" }")).expect_err("is not to be said");
    assert_eq!(forged, ["channels.declared[0].connector.disabled_reason is the gateway's to set"]);
}
