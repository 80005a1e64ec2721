//! Messages to test with.

use crate::message::{self, Limits};
use crate::pb;
use crate::wire::{self, Bounds};
use serde_json::{Value, json};

/// The bounds that messages are tested with.
pub(crate) const LIMITS: Limits =
    Limits { message_bytes: 1 << 20, id_bytes: 256, bounds: Bounds { free_form_depth: 24, list_length: 1000 } };

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
