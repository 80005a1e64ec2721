//! An accepted message as the face shows it.

use crate::pb::Audience;
use crate::store::{Cursor, Stored};
use crate::wire;
use serde::Serialize;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Circumstances<'s> {
    cursor: String,
    accepted_at: String,
    audiences: Vec<&'static str>,
    submitted_id: Option<&'s str>,
}

/// Appends `{"message": .., "cursor": .., ..}`, the message in the documented JSON; no line breaks.
pub(super) fn write(out: &mut Vec<u8>, stored: &Stored, cursor: Cursor) {
    let circumstances = Circumstances {
        cursor: cursor.to_string(),
        accepted_at: wire::to_rfc3339(&stored.entry.accepted_at.unwrap_or_default()),
        audiences: stored.entry.audiences().map(audience_name).collect(),
        submitted_id: stored.submitted_id(),
    };
    out.extend_from_slice(b"{\"message\":");
    match &stored.entry.message {
        Some(message) => out.append(&mut wire::encode(message)),
        None => out.extend_from_slice(b"null"),
    }
    out.push(b',');
    // The rest of the object: its text without the opening brace.
    out.extend_from_slice(&json(&circumstances)[1..]);
}

/// `value` as JSON.
pub(super) fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("texts, numbers and lists of them always have a JSON form")
}

/// The name of an audience as JSON has it.
pub(super) fn audience_name(audience: Audience) -> &'static str {
    audience.as_str_name().trim_start_matches("AUDIENCE_")
}
