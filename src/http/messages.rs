//! The documented way in: POST a message, get told where it belongs.

use super::problem::Problem;
use super::{Routes, Settings};
use crate::error::Error;
use crate::inbox::{Accepted, Inbox, Reuse};
use crate::wire;
use axum::Json;
use axum::body::{Body, HttpBody};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use http_body_util::BodyExt as _;
use serde::Serialize;
use std::time::Duration;

/// Where clients post messages: the first is what real clients use, the others what the documentation has said over time.
const PATHS: [&str; 6] =
    ["/ccm/message/receive", "/message/receive", "/cim-messages", "/ccm/cim-messages", "/message", "/ccm/message"];

#[derive(Debug, Clone)]
struct Desk {
    inbox: Inbox,
    accepted_status: StatusCode,
    body_timeout: Duration,
    message_bytes: usize,
    json_depth: usize,
    reuse: Reuse,
}

pub(super) fn routes(inbox: Inbox, settings: &Settings) -> Routes {
    let desk = Desk {
        inbox,
        accepted_status: settings.accepted_status,
        body_timeout: settings.body_timeout,
        message_bytes: settings.message_bytes,
        json_depth: settings.json_depth,
        reuse: settings.reuse,
    };
    PATHS.map(|path| (path, post(receive).with_state(desk.clone()))).into()
}

async fn receive(State(desk): State<Desk>, headers: HeaderMap, body: Body) -> Result<Response, Problem> {
    if !is_json(&headers) {
        return Err(Problem::UnsupportedMediaType);
    }
    let read = tokio::time::timeout(desk.body_timeout, read(body, desk.message_bytes));
    let json = read.await.map_err(|_| Problem::BodyTimeout)??;
    let decoded = wire::decode(&json, desk.json_depth).map_err(Error::InvalidJson)?;
    drop(json);
    let accepted = desk.inbox.accept(decoded.message, decoded.violations, desk.reuse).await?;
    tracing::Span::current().record("message_id", accepted.stored.id());
    Ok((desk.accepted_status, Json(Receipt::of(&accepted))).into_response())
}

/// True if the body is said to be JSON, as it is. A charset says nothing: JSON is UTF-8.
fn is_json(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let content_type = text(header::CONTENT_TYPE).and_then(|value| value.split(';').next()).unwrap_or_default();
    let content_type = content_type.trim().to_ascii_lowercase();
    let structured = content_type.split_once('/').is_some_and(|(_, subtype)| subtype.len() > 5 && subtype.ends_with("+json"));
    let plain =
        headers.get(header::CONTENT_ENCODING).is_none_or(|encoding| encoding.as_bytes().eq_ignore_ascii_case(b"identity"));
    plain && (structured || content_type == "application/json")
}

/// The whole body. One that is announced to be too long is refused unread. Memory is taken for what arrives, not for what is
/// announced.
async fn read(mut body: Body, most: usize) -> Result<Vec<u8>, Problem> {
    let too_large = || Problem::Failed(Error::MessageTooLarge { limit: most });
    if body.size_hint().lower() > most as u64 {
        return Err(too_large());
    }
    let mut received = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| Problem::BodyCut)?.into_data() else { continue };
        if data.len() > most - received.len() {
            return Err(too_large());
        }
        received.extend_from_slice(&data);
    }
    Ok(received)
}

/// What a client learns of its accepted message.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Receipt<'a> {
    message_id: &'a str,
    conversation_id: Option<&'a str>,
    channel_session_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    submitted_id: Option<&'a str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    duplicate: bool,
}

impl<'a> Receipt<'a> {
    fn of(accepted: &'a Accepted) -> Self {
        let session = accepted.stored.entry.session.as_ref();
        Self {
            message_id: accepted.stored.id(),
            conversation_id: session.map(|session| session.conversation_id.as_str()),
            channel_session_id: session.map(|session| session.id.as_str()),
            submitted_id: accepted.stored.submitted_id(),
            duplicate: accepted.duplicate,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(content_type: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(header::CONTENT_TYPE, content_type.parse().unwrap())])
    }

    #[test]
    fn every_name_of_json_is_taken() {
        for name in [
            "application/json",
            "application/json; charset=utf-8",
            "application/json;charset=UTF-8",
            "Application/JSON",
            "application/cim+json",
            "application/vnd.cim.v1+json; charset=utf-8",
        ] {
            assert!(is_json(&said(name)), "{name}");
        }
    }

    #[test]
    fn anything_else_is_not() {
        for name in ["", "text/plain", "text/json", "application/jsonp", "+json", "application/+json", "json", "application/xml"]
        {
            assert!(!is_json(&said(name)), "{name}");
        }
        assert!(!is_json(&HeaderMap::new()));
    }

    #[test]
    fn compressed_json_is_not_taken() {
        let mut headers = said("application/json");
        headers.insert(header::CONTENT_ENCODING, "gzip".parse().unwrap());
        assert!(!is_json(&headers));
        headers.insert(header::CONTENT_ENCODING, "identity".parse().unwrap());
        assert!(is_json(&headers));
    }
}
