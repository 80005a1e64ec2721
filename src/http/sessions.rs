//! Channel sessions: listed, looked up and ended.

use super::admission::Calling;
use super::problem::Problem;
use super::query::{self, Query, one_of};
use super::{Id, Routes, Settings, body, json, read_id, view};
use crate::auth::Right;
use crate::error::Error;
use crate::pb::SessionEndReason;
use crate::sessions::{Sessions, end_reason};
use crate::store::{SessionFacts, SessionFilter};
use crate::wire;
use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Sessions on a page where the client does not say.
const PAGE: usize = 50;

/// Most bytes of a request to end one.
const END_BYTES: usize = 1024;

#[derive(Debug, Clone)]
struct Desk {
    sessions: Sessions,
    largest_page: usize,
    body_timeout: Duration,
}

pub(super) fn routes(sessions: Sessions, settings: &Settings) -> Routes {
    let desk = Desk { sessions, largest_page: settings.history_page, body_timeout: settings.body_timeout };
    vec![
        ("/v1/sessions", get(list).with_state(desk.clone())),
        ("/v1/sessions/{sessionId}", get(session).with_state(desk.clone())),
        ("/v1/sessions/{sessionId}/end", post(end).with_state(desk)),
    ]
}

async fn list(State(desk): State<Desk>, Extension(caller): Calling, query: query::Raw) -> Result<Response, Problem> {
    let query = Query::read(query, &["serviceIdentifier", "customerId", "conversationId", "active", "pageSize", "pageToken"])?;
    let given = |name| Ok::<_, Error>(query.one(name)?.map(str::to_owned));
    let mut filter = SessionFilter {
        service_identifier: given("serviceIdentifier")?,
        customer_id: given("customerId")?,
        conversation_id: given("conversationId")?,
        active: query.flag("active")?,
    };
    caller.narrow_to_one("serviceIdentifier", &mut filter.service_identifier)?;
    let size = query.number("pageSize", 1..=desk.largest_page)?.unwrap_or(PAGE.min(desk.largest_page));
    let page = desk.sessions.list(&filter, query.one("pageToken")?, size).await?;
    let sessions = page.sessions.iter().map(Shown::of).collect();
    Ok(json(view::json(&Page { sessions, next_page_token: page.next })))
}

async fn session(State(desk): State<Desk>, Extension(caller): Calling, id: Id, query: query::Raw) -> Result<Response, Problem> {
    Query::read(query, &[])?;
    let session = desk.sessions.seen(&caller, &read_id("sessionId", id)?).await?;
    Ok(json(view::json(&Shown::of(&session))))
}

/// Why a session is to end.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct End {
    reason: Option<String>,
}

async fn end(
    State(desk): State<Desk>,
    Extension(caller): Calling,
    id: Id,
    query: query::Raw,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    caller.may(Right::EndSessions)?;
    Query::read(query, &[])?;
    let id = read_id("sessionId", id)?;
    let sent: End = body::parsed(&headers, body, desk.body_timeout, END_BYTES).await?;
    let reason = sent.reason.as_deref().map_or(Ok(SessionEndReason::ForceClosed), reason)?;
    desk.sessions.seen(&caller, &id).await?;
    let ended = desk.sessions.end(&id, reason).await?;
    Ok(json(view::json(&Ended { session: Shown::of(&ended.session), already_ended: ended.notice.is_none() })))
}

fn reason(name: &str) -> Result<SessionEndReason, Error> {
    one_of("reason", name, &end_reason::ALL.map(|reason| (end_reason::name(reason), reason)))
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Page<'p> {
    sessions: Vec<Shown<'p>>,
    next_page_token: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Ended<'s> {
    session: Shown<'s>,
    already_ended: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown<'s> {
    id: &'s str,
    service_identifier: &'s str,
    channel_customer_identifier: &'s str,
    conversation_id: &'s str,
    customer_id: &'s str,
    opened_at: Option<String>,
    ended_at: Option<String>,
    end_reason: Option<&'s str>,
    last_activity: String,
}

impl<'s> Shown<'s> {
    fn of(SessionFacts { session, last_activity }: &'s SessionFacts) -> Self {
        Self {
            id: &session.id,
            service_identifier: &session.service_identifier,
            channel_customer_identifier: &session.channel_customer_identifier,
            conversation_id: &session.conversation_id,
            customer_id: &session.customer_id,
            opened_at: session.opened_at.as_ref().map(wire::to_rfc3339),
            ended_at: session.ended_at.as_ref().map(wire::to_rfc3339),
            end_reason: Some(session.end_reason.as_str()).filter(|reason| !reason.is_empty()),
            last_activity: wire::to_rfc3339(last_activity),
        }
    }
}
