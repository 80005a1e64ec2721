//! The documented way in: POST a message, get told where it belongs.

use super::admission::Calling;
use super::problem::Problem;
use super::{Routes, Settings, body, prefer};
use crate::auth::Caller;
use crate::error::Error;
use crate::inbox::{Accepted, Inbox, Reuse};
use crate::outcomes::{Outcome, Patience};
use crate::pb::{self, DeliveryStatus};
use crate::wire::{self, Decoded};
use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Extension, Json};
use prost_types::{Struct, Value, value};
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
    delivery_wait: Duration,
}

pub(super) fn routes(inbox: Inbox, settings: &Settings) -> Routes {
    let desk = Desk {
        inbox,
        accepted_status: settings.accepted_status,
        body_timeout: settings.body_timeout,
        message_bytes: settings.message_bytes,
        json_depth: settings.json_depth,
        reuse: settings.reuse,
        delivery_wait: settings.delivery_wait,
    };
    PATHS.map(|path| (path, post(receive).with_state(desk.clone()))).into()
}

async fn receive(
    State(desk): State<Desk>,
    Extension(caller): Calling,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let read = read(&desk, &caller, &headers, body).await;
    let decoded = read.inspect_err(|problem| desk.inbox.refused(problem.reason()))?;
    let accepted = desk.inbox.of(&caller).accept(decoded.message, decoded.violations, desk.reuse).await?;
    tracing::Span::current().record("message_id", accepted.stored.id());
    let patience = prefer::patience(&headers).unwrap_or(Patience::usual(desk.delivery_wait));
    Ok(match desk.inbox.outcome(&accepted, patience).await? {
        Some(outcome) => told(&accepted, outcome),
        None => (desk.accepted_status, Json(Receipt::of(&accepted))).into_response(),
    })
}

/// The message that a request carries, as far as it can be read, if its caller may send it.
async fn read(desk: &Desk, caller: &Caller, headers: &HeaderMap, body: Body) -> Result<Decoded, Problem> {
    let too_large = Error::MessageTooLarge { limit: desk.message_bytes };
    let json = body::json(headers, body, desk.body_timeout, desk.message_bytes, too_large).await?;
    let decoded = wire::decode(&json, desk.json_depth).map_err(Error::InvalidJson)?;
    caller.may_send(&decoded.message)?;
    Ok(decoded)
}

/// The answer that tells what became of a message: a delivery notification.
fn told(accepted: &Accepted, Outcome { status, reason_code, text: said }: Outcome) -> Response {
    let code = if status == DeliveryStatus::Failed { StatusCode::BAD_REQUEST } else { StatusCode::OK };
    let notification = pb::DeliveryNotificationBody {
        message_id: Some(accepted.stored.id().to_owned()),
        status: status.into(),
        reason_code: Some(reason_code),
    };
    let kind = Some(pb::body::Kind::DeliveryNotification(notification));
    let text = |text: &str| Value { kind: Some(value::Kind::StringValue(text.to_owned())) };
    let mut extras = Struct::default();
    extras.fields.extend(accepted.stored.submitted_id().map(|id| ("submittedId".to_owned(), text(id))));
    if accepted.duplicate {
        extras.fields.insert("duplicate".into(), Value { kind: Some(value::Kind::BoolValue(true)) });
    }
    let extra_fields = (!extras.fields.is_empty()).then_some(extras);
    let body = pb::Body { markdown_text: said, kind, extra_fields };
    (code, [(CONTENT_TYPE, "application/json")], wire::encode_body(&body)).into_response()
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
