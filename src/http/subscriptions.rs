//! Named subscriptions: acknowledged, listed and deleted.

use super::admission::Calling;
use super::problem::Problem;
use super::query::{self, Query, invalid};
use super::{Id, Routes, Settings, body, json, read_id, view};
use crate::auth::Right;
use crate::store::Cursor;
use crate::subscriptions::{Listed, Subscriptions};
use crate::wire;
use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Subscriptions on a page where the client does not say.
const PAGE: usize = 50;

/// Most bytes of an acknowledgement.
const ACKNOWLEDGEMENT_BYTES: usize = 1024;

#[derive(Debug, Clone)]
struct Desk {
    subscriptions: Subscriptions,
    largest_page: usize,
    body_timeout: Duration,
}

pub(super) fn routes(subscriptions: Subscriptions, settings: &Settings) -> Routes {
    let desk = Desk { subscriptions, largest_page: settings.history_page, body_timeout: settings.body_timeout };
    vec![
        ("/v1/subscriptions", get(list).with_state(desk.clone())),
        ("/v1/subscriptions/{subscription}", delete(forget).with_state(desk.clone())),
        ("/v1/subscriptions/{subscription}/acknowledge", post(acknowledge).with_state(desk)),
    ]
}

async fn list(State(desk): State<Desk>, Extension(caller): Calling, query: query::Raw) -> Result<Response, Problem> {
    caller.may(Right::ManageSubscriptions)?;
    let query = Query::read(query, &["pageSize", "pageToken"])?;
    let size = query.number("pageSize", 1..=desk.largest_page)?.unwrap_or(PAGE.min(desk.largest_page));
    let page = desk.subscriptions.list(query.one("pageToken")?, size);
    let subscriptions = page.subscriptions.iter().map(Shown::of).collect();
    Ok(json(view::json(&Page { subscriptions, next_page_token: page.next })))
}

async fn forget(State(desk): State<Desk>, Extension(caller): Calling, name: Id, query: query::Raw) -> Result<Response, Problem> {
    caller.may(Right::ManageSubscriptions)?;
    Query::read(query, &[])?;
    desk.subscriptions.delete(&read_id("subscription", name)?).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// How far a reader is.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Acknowledgement {
    generation: u64,
    cursor: String,
}

async fn acknowledge(
    State(desk): State<Desk>,
    Extension(caller): Calling,
    name: Id,
    query: query::Raw,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    Query::read(query, &[])?;
    let name = read_id("subscription", name)?;
    caller.may_use_subscription(&name)?;
    let sent: Acknowledgement = body::parsed(&headers, body, desk.body_timeout, ACKNOWLEDGEMENT_BYTES).await?;
    let cursor: Cursor = sent.cursor.parse().map_err(|error| invalid("cursor", format!("{error}")))?;
    let now = desk.subscriptions.acknowledge(&name, sent.generation, cursor).await?;
    Ok(json(view::json(&Acknowledged { cursor: now.to_string() })))
}

#[derive(Debug, Serialize)]
struct Acknowledged {
    cursor: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Page<'p> {
    subscriptions: Vec<Shown<'p>>,
    next_page_token: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown<'s> {
    name: &'s str,
    cursor: String,
    created_at: String,
    acknowledged_at: Option<String>,
    attached: bool,
    behind: u64,
    expired: bool,
}

impl<'s> Shown<'s> {
    fn of(listed: &'s Listed) -> Self {
        Self {
            name: &listed.name,
            cursor: listed.bookmark.cursor.to_string(),
            created_at: wire::to_rfc3339(&listed.bookmark.created_at),
            acknowledged_at: listed.bookmark.acknowledged_at.as_ref().map(wire::to_rfc3339),
            attached: listed.attached,
            behind: listed.behind,
            expired: listed.expired,
        }
    }
}
