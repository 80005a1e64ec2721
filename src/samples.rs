//! Messages and channels to test with.

use crate::channels::{self, Channels};
use crate::message::{self, Limits};
use crate::pb;
use crate::store::memory::Memory;
use crate::violation::Violations;
use crate::wire::{self, Bounds};
use futures::FutureExt as _;
use serde_json::{Value, json};
use std::sync::Arc;

/// The bounds that messages are tested with.
pub(crate) const LIMITS: Limits =
    Limits { message_bytes: 1 << 20, id_bytes: 256, bounds: Bounds { free_form_depth: 24, list_length: 1000 } };

/// A registry in memory that keeps no more than 100 channels.
pub(crate) fn channels(require_registered: bool) -> Channels {
    let limits = channels::Limits { channel_bytes: 64 << 10, id_bytes: LIMITS.id_bytes, bounds: LIMITS.bounds };
    let settings = channels::Settings { require_registered, most: 100, limits };
    let opened = Channels::open(Arc::new(Memory::new(1)), Vec::new(), settings);
    opened.now_or_never().expect("memory never waits").expect("there is nothing to contradict")
}

/// Registers a channel of this type.
pub(crate) fn register(channels: &Channels, service_identifier: &str, channel_type: &str) -> pb::Channel {
    let channel = pb::Channel {
        service_identifier: service_identifier.into(),
        channel_type: channel_type.into(),
        ..pb::Channel::default()
    };
    let created = channels.create(channel, Violations::default());
    created.now_or_never().expect("memory never waits").expect("it keeps every rule")
}

/// A message that keeps every rule: what the customer +49 1 says on the channel `support`, changed by a patch.
pub(crate) fn json(patch: Value) -> Value {
    let mut json = json!({
        "header": {
            "sender": { "id": "connector-1", "type": "CONNECTOR", "senderName": "Connector" },
            "channelData": { "channelCustomerIdentifier": "+49 1", "serviceIdentifier": "support" },
            "timestamp": 1_700_000_000_000_u64,
        },
        "body": { "type": "PLAIN", "markdownText": "Hello" },
    });
    self::patch(&mut json, &patch);
    json
}

/// [`json`] as a message, normalised and checked.
pub(crate) fn message(patch: Value) -> pb::CimMessage {
    let json = json(patch);
    let mut message = decoded(&json);
    let violations = message::check(&mut message, &LIMITS);
    assert!(violations.is_empty(), "{json}: {violations:?}");
    message
}

/// Any JSON that can be read as a message.
pub(crate) fn decoded(json: &Value) -> pb::CimMessage {
    let decoded = wire::decode(json.to_string().as_bytes(), 100).expect("is JSON");
    assert!(decoded.violations.is_empty(), "{json}: {:?}", decoded.violations);
    decoded.message
}

/// Applies an RFC 7396 merge patch: objects are patched member by member, null removes, all else replaces.
pub(crate) fn patch(target: &mut Value, patch: &Value) {
    let Value::Object(members) = patch else {
        target.clone_from(patch);
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in members {
        match value {
            Value::Null => {
                target.as_object_mut().map(|target| target.remove(key));
            }
            value => self::patch(&mut target[key], value),
        }
    }
}
