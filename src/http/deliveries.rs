//! Deliveries that are not settled: listed, looked up, redriven, discarded and released.

use super::problem::Problem;
use super::query::{self, Query, one_of};
use super::timeline::{ShownAttempt, endpoint, state as name_of};
use super::{Id, Routes, Settings, body, json, read_id, view};
use crate::delivery::{Desk, Shown, Which};
use crate::error::Error;
use crate::pb::DiscardableState;
use crate::pb::store::DeliveryState;
use crate::store::{accepted_at, clock};
use crate::wire;
use axum::extract::{FromRequest, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use prost_types::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Deliveries on a page where the client does not say.
const PAGE: usize = 50;

/// Most bytes of a decision.
const DECISION_BYTES: usize = 4096;

/// The states of what is shown.
const STATES: [DeliveryState; 3] = [DeliveryState::Pending, DeliveryState::Parked, DeliveryState::Failed];

/// The states of what is discarded together.
const DISCARDABLE: [(&str, DiscardableState); 3] =
    [("HELD", DiscardableState::Held), ("OPEN", DiscardableState::Open), ("DEAD", DiscardableState::Dead)];

#[derive(Debug, Clone)]
struct Deliveries {
    desk: Desk,
    largest_page: usize,
    body_timeout: Duration,
}

pub(super) fn routes(desk: Desk, settings: &Settings) -> Routes {
    let deliveries = Deliveries { desk, largest_page: settings.deliveries_page, body_timeout: settings.body_timeout };
    vec![
        ("/v1/deliveries", get(list).with_state(deliveries.clone())),
        ("/v1/deliveries/redrive", post(redrive_all).with_state(deliveries.clone())),
        ("/v1/deliveries/discard", post(discard_all).with_state(deliveries.clone())),
        ("/v1/deliveries/release", post(release).with_state(deliveries.clone())),
        ("/v1/deliveries/{deliveryId}", get(delivery).with_state(deliveries.clone())),
        ("/v1/deliveries/{deliveryId}/redrive", post(redrive).with_state(deliveries.clone())),
        ("/v1/deliveries/{deliveryId}/discard", post(discard).with_state(deliveries)),
    ]
}

async fn list(State(deliveries): State<Deliveries>, query: query::Raw) -> Result<Response, Problem> {
    let query = Query::read(query, &["state", "channelId", "pageSize", "pageToken"])?;
    let states = STATES.map(|state| (name_of(state), state));
    let state = query.one("state")?.map(|name| one_of("state", name, &states)).transpose()?;
    let size = query.number("pageSize", 1..=deliveries.largest_page)?.unwrap_or(PAGE.min(deliveries.largest_page));
    let page =
        deliveries.desk.list(state, query.one("channelId")?, query.one("pageToken")?, size).await.map_err(query::of_page)?;
    let deliveries = page.deliveries.iter().map(Told::of).collect();
    Ok(json(view::json(&Page { deliveries, next_page_token: page.next })))
}

async fn delivery(State(deliveries): State<Deliveries>, id: Id, query: query::Raw) -> Result<Response, Problem> {
    Query::read(query, &[])?;
    let (shown, attempts) = deliveries.desk.get(&read_id("deliveryId", id)?).await?;
    let attempts = attempts.iter().map(ShownAttempt::of).collect();
    Ok(json(view::json(&Found { delivery: Told::of(&shown), attempts })))
}

/// A decision that needs no more words. It is JSON all the same: a page of a browser cannot send that without asking first.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Plain {}

/// Which dead letters are redriven.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Redriving {
    channel_id: Option<String>,
    accepted_since: Option<String>,
    accepted_before: Option<String>,
}

/// Which deliveries are discarded.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Discarding {
    states: Vec<String>,
    channel_id: Option<String>,
    accepted_since: Option<String>,
    accepted_before: Option<String>,
}

fn which(channel_id: Option<String>, since: Option<&str>, before: Option<&str>) -> Result<Which, Error> {
    let time = |field, text: Option<&str>| text.map(|text| query::time(field, text)).transpose();
    Ok(Which { channel_id, since: time("acceptedSince", since)?, before: time("acceptedBefore", before)? })
}

async fn redrive(State(deliveries): State<Deliveries>, id: Id, Decision(Plain {}): Decision<Plain>) -> Result<Response, Problem> {
    let shown = deliveries.desk.redrive(&read_id("deliveryId", id)?).await?;
    Ok(json(view::json(&Told::of(&shown))))
}

async fn redrive_all(State(deliveries): State<Deliveries>, Decision(meant): Decision<Redriving>) -> Result<Response, Problem> {
    let Redriving { channel_id, accepted_since, accepted_before } = meant;
    let which = which(channel_id, accepted_since.as_deref(), accepted_before.as_deref())?;
    let (redriven, more) = deliveries.desk.redrive_all(&which).await?;
    Ok(json(view::json(&Redriven { redriven, more })))
}

async fn discard_all(State(deliveries): State<Deliveries>, Decision(meant): Decision<Discarding>) -> Result<Response, Problem> {
    let Discarding { states, channel_id, accepted_since, accepted_before } = meant;
    let states = states.iter().map(|name| one_of("states", name, &DISCARDABLE)).collect::<Result<Vec<_>, _>>()?;
    let which = which(channel_id, accepted_since.as_deref(), accepted_before.as_deref())?;
    let (discarded, more) = deliveries.desk.discard_all(&states, &which).await?;
    Ok(json(view::json(&Discarded { discarded, more })))
}

async fn release(State(deliveries): State<Deliveries>, Decision(Plain {}): Decision<Plain>) -> Result<Response, Problem> {
    deliveries.desk.release().await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn discard(State(deliveries): State<Deliveries>, id: Id, Decision(Plain {}): Decision<Plain>) -> Result<Response, Problem> {
    deliveries.desk.discard(&read_id("deliveryId", id)?).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// The decision that a request carries.
#[derive(Debug)]
struct Decision<D>(D);

impl<D: DeserializeOwned> FromRequest<Deliveries> for Decision<D> {
    type Rejection = Problem;

    async fn from_request(request: Request, deliveries: &Deliveries) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        Query::read(axum::extract::Query::try_from_uri(&parts.uri), &[])?;
        body::parsed(&parts.headers, body, deliveries.body_timeout, DECISION_BYTES).await.map(Self)
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Page<'p> {
    deliveries: Vec<Told<'p>>,
    next_page_token: Option<String>,
}

/// A delivery that was looked up.
#[derive(Debug, Serialize)]
struct Found<'f> {
    delivery: Told<'f>,
    attempts: Vec<ShownAttempt<'f>>,
}

#[derive(Debug, Serialize)]
struct Redriven {
    redriven: usize,
    more: bool,
}

#[derive(Debug, Serialize)]
struct Discarded {
    discarded: usize,
    more: bool,
}

/// A delivery as the face shows it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Told<'s> {
    id: String,
    message_id: Option<&'s str>,
    channel_id: &'s str,
    endpoint: &'static str,
    state: &'static str,
    attempts: u32,
    due_time: Option<String>,
    accepted_at: Option<String>,
    held: bool,
}

impl<'s> Told<'s> {
    fn of(shown: &'s Shown) -> Self {
        let delivery = &shown.delivery;
        let time = |time: Timestamp| wire::to_rfc3339(&time);
        Self {
            id: shown.name.to_string(),
            message_id: Some(shown.message_id()).filter(|id| !id.is_empty()),
            channel_id: &delivery.channel_id,
            endpoint: endpoint(delivery.id.endpoint),
            state: name_of(delivery.progress.state),
            attempts: delivery.progress.attempts,
            due_time: Some(delivery.progress.due).filter(|due| *due != 0).map(clock::from_nanos).map(time),
            accepted_at: shown.message.as_ref().and_then(|stored| accepted_at(&stored.entry)).map(time),
            held: shown.held,
        }
    }
}
