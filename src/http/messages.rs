//! The documented way in: POST a message, get told where it belongs.

use super::problem::Problem;
use super::{Routes, Settings, body};
use crate::error::Error;
use crate::inbox::{Accepted, Inbox, Reuse};
use crate::wire;
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
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
    let json = body::json(&headers, body, desk.message_bytes, desk.body_timeout).await?;
    let decoded = wire::decode(&json, desk.json_depth).map_err(Error::InvalidJson)?;
    drop(json);
    let accepted = desk.inbox.accept(decoded.message, decoded.violations, desk.reuse).await?;
    tracing::Span::current().record("message_id", accepted.stored.id());
    Ok((desk.accepted_status, Json(Receipt::of(&accepted))).into_response())
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
