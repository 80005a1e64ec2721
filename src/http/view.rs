//! An accepted message as the face shows it.

use crate::pb::Audience;
use crate::store::{Cursor, Stored};
use crate::wire;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use prost_types::Timestamp;
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

const MILLISECONDS: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");

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
        accepted_at: rfc3339(stored.entry.accepted_at.unwrap_or_default()),
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

/// An answer of this JSON text.
pub(super) fn json_answer(body: Vec<u8>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// `value` as an answer.
pub(super) fn answer(value: &impl Serialize) -> Response {
    json_answer(json(value))
}

/// The name of an audience as JSON has it.
pub(super) fn audience_name(audience: Audience) -> &'static str {
    audience.as_str_name().trim_start_matches("AUDIENCE_")
}

/// A time, to the millisecond.
pub(super) fn rfc3339(time: Timestamp) -> String {
    let nanos = i128::from(wire::to_millis(&time)) * 1_000_000;
    let time = OffsetDateTime::from_unix_timestamp_nanos(nanos).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    time.format(MILLISECONDS).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_milliseconds_and_are_utc() {
        assert_eq!(rfc3339(wire::from_millis(1_677_151_053_950)), "2023-02-23T11:17:33.950Z");
        assert_eq!(rfc3339(wire::from_millis(0)), "1970-01-01T00:00:00.000Z");
    }
}
