//! The rules on a channel, pure: what is filled in, and what is wrong.

use super::Limits;
use crate::pb;
use crate::pb::{BotFormat, ChannelMode, DeliveryOrder, ValueType};
use crate::violation::{Reason, Violations};
use crate::wire;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::Uri;
use prost::Message as _;
use prost_types::{Duration, value};
use std::collections::HashSet;
use std::ops::RangeInclusive;
use std::time;

/// Bounds of [`pb::Channel::customer_activity_timeout`]; 0 is never.
const ACTIVITY_TIMEOUT: RangeInclusive<time::Duration> = seconds(1, 30 * 24 * 60 * 60);

/// Bounds of [`pb::DeliverySettings::timeout`].
const ATTEMPT_TIMEOUT: RangeInclusive<time::Duration> = seconds(1, 120);

/// Most bytes of a URI.
const URI_BYTES: usize = 2048;

/// Most secrets of an endpoint: each adds a signature to every request.
const MOST_SECRETS: usize = 8;

/// What begins a secret, as Standard Webhooks has it.
const SECRET_PREFIX: &str = "whsec_";

/// Bytes of a secret.
const SECRET_BYTES: RangeInclusive<usize> = 24..=64;

const fn seconds(least: u64, most: u64) -> RangeInclusive<time::Duration> {
    time::Duration::from_secs(least)..=time::Duration::from_secs(most)
}

/// Brings a channel into the one form that is kept, and says what is wrong with it: everything at once.
pub(super) fn check(channel: &mut pb::Channel, limits: &Limits) -> Violations {
    let mut check = Check { violations: wire::normalise_channel(channel, &limits.bounds), limits };
    complete(channel);
    check.channel(channel);
    let bytes = channel.encoded_len();
    if bytes > limits.channel_bytes {
        let message = format!("a channel needs at most {} bytes as protobuf, found {bytes}", limits.channel_bytes);
        check.violations.add("", Reason::TooLarge, message);
    }
    check.violations
}

/// Fills in what a client may leave out.
fn complete(channel: &mut pb::Channel) {
    if channel.name.is_empty() {
        channel.name.clone_from(&channel.service_identifier);
    }
    if channel.mode() == ChannelMode::Unspecified {
        channel.set_mode(ChannelMode::Hybrid);
    }
    if channel.customer_activity_timeout.is_some_and(|timeout| timeout == Duration::default()) {
        channel.customer_activity_timeout = None;
    }
    if let Some(bot) = &mut channel.bot {
        if bot.format() == BotFormat::Unspecified {
            bot.set_format(BotFormat::Cim);
        }
        if bot.name.is_empty() {
            bot.name.clone_from(&bot.id);
        }
    }
    if let Some(delivery) = &mut channel.delivery
        && delivery.order() == DeliveryOrder::Unspecified
    {
        delivery.set_order(DeliveryOrder::Parking);
    }
}

struct Check<'l> {
    violations: Violations,
    limits: &'l Limits,
}

impl Check<'_> {
    fn channel(&mut self, channel: &pb::Channel) {
        self.name("serviceIdentifier", &channel.service_identifier, true);
        self.name("name", &channel.name, false);
        self.name("channelType", &channel.channel_type, true);
        if let Some(connector) = &channel.connector {
            self.endpoint("connector", connector);
        }
        if let Some(bot) = &channel.bot {
            self.bot(bot);
        }
        self.span("customerActivityTimeout", channel.customer_activity_timeout, ACTIVITY_TIMEOUT);
        self.span("delivery.timeout", channel.delivery.as_ref().and_then(|delivery| delivery.timeout), ATTEMPT_TIMEOUT);
        self.attributes(&channel.attributes);
    }

    fn name(&mut self, path: &str, text: &str, required: bool) {
        let most = self.limits.id_bytes;
        if required && text.trim().is_empty() {
            self.violations.add(path, Reason::Required, "is required");
        } else if text.len() > most {
            self.violations.add(path, Reason::TooLong, format!("needs at most {most} bytes, found {}", text.len()));
        }
    }

    fn bot(&mut self, bot: &pb::Bot) {
        match &bot.endpoint {
            Some(endpoint) => self.endpoint("bot.endpoint", endpoint),
            None => self.violations.add("bot.endpoint", Reason::Required, "is required"),
        }
        self.name("bot.id", &bot.id, bot.format() == BotFormat::Bot);
        self.name("bot.name", &bot.name, false);
    }

    fn endpoint(&mut self, path: &str, endpoint: &pb::Endpoint) {
        let at = format!("{path}.uri");
        if endpoint.uri.is_empty() {
            self.violations.add(at, Reason::Required, "is required");
        } else if endpoint.uri.len() > URI_BYTES {
            let message = format!("needs at most {URI_BYTES} bytes, found {}", endpoint.uri.len());
            self.violations.add(at, Reason::TooLong, message);
        } else if let Err(needed) = callable(&endpoint.uri) {
            // The text itself is not repeated: it may hold a password.
            self.violations.add(at, Reason::NotAUri, format!("needs {needed}"));
        }
        let secrets = endpoint.signing_secrets.as_ref().map_or(&[][..], |secrets| &secrets.secrets);
        if secrets.len() > MOST_SECRETS {
            let message = format!("needs at most {MOST_SECRETS} secrets, found {}", secrets.len());
            self.violations.add(format_args!("{path}.signingSecrets"), Reason::TooMany, message);
        }
        for (i, _) in secrets.iter().enumerate().filter(|(_, secret)| !is_secret(secret)) {
            let (least, most) = (SECRET_BYTES.start(), SECRET_BYTES.end());
            let message = format!("needs {SECRET_PREFIX} and the base64 of {least} to {most} bytes");
            self.violations.add(format_args!("{path}.signingSecrets[{i}]"), Reason::NotASecret, message);
        }
    }

    fn span(&mut self, path: &str, span: Option<Duration>, bounds: RangeInclusive<time::Duration>) {
        // A negative one is reported already.
        let Some(span) = span.and_then(|span| time::Duration::try_from(span).ok()) else { return };
        if !bounds.contains(&span) {
            let [least, most, found] = [*bounds.start(), *bounds.end(), span].map(humantime::format_duration);
            let message = format!("must be between {least} and {most}, found {found}");
            self.violations.add(path, Reason::OutOfRange, message);
        }
    }

    fn attributes(&mut self, attributes: &[pb::Attribute]) {
        let mut keys = HashSet::new();
        for (i, attribute) in attributes.iter().enumerate() {
            let path = format!("attributes[{i}].key");
            let key = attribute.key.as_deref().unwrap_or_default();
            self.name(&path, key, true);
            if !key.is_empty() && !keys.insert(key) {
                self.violations.add(path, Reason::Duplicate, "is the key of an attribute before it");
            }
            if is_password(attribute) && attribute.value.is_none() {
                let message = "is required: there is none of this key that could stay";
                self.violations.add(format_args!("attributes[{i}].value"), Reason::Required, message);
            }
        }
    }
}

/// True for an attribute whose value is never shown.
pub(super) fn is_password(attribute: &pb::Attribute) -> bool {
    attribute.r#type() == ValueType::Password
}

/// True for a value that says nothing.
pub(super) fn is_unset(value: Option<&prost_types::Value>) -> bool {
    matches!(value.map(|value| &value.kind), None | Some(None | Some(value::Kind::NullValue(_))))
}

/// Fails with what is needed if the gateway cannot call a text, or must not.
fn callable(text: &str) -> Result<(), &'static str> {
    let uri: Uri = text.parse().map_err(|_| "an absolute URI, such as https://connector.example.org")?;
    let http = matches!(uri.scheme_str(), Some("http" | "https"));
    let authority = uri.authority().filter(|_| http).ok_or("the scheme http or https")?;
    if authority.as_str().contains('@') {
        return Err("no user information; requests are signed instead");
    }
    // What parses a URI drops a fragment without a word.
    if text.contains('#') {
        return Err("no fragment");
    }
    let host = authority.host();
    let port = authority.as_str().strip_prefix(host).unwrap_or_default();
    let is_port = match port.strip_prefix(':') {
        Some(number) => number.parse::<u16>().is_ok_and(|number| number > 0),
        None => port.is_empty(),
    };
    match (host.trim_matches(['[', ']']).is_empty(), is_port) {
        (true, _) => Err("a host"),
        (false, false) => Err("a port from 1 to 65535, or none"),
        (false, true) => Ok(()),
    }
}

fn is_secret(text: &str) -> bool {
    let encoded = text.strip_prefix(SECRET_PREFIX);
    encoded.and_then(|encoded| BASE64_STANDARD.decode(encoded).ok()).is_some_and(|secret| SECRET_BYTES.contains(&secret.len()))
}
