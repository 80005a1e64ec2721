//! The registry of channels at `/v1/channels`: read, register, change, remove.

use super::admission::Calling;
use super::problem::Problem;
use super::query::{self, Query, invalid};
use super::{Id, Routes, Settings, body, json, read_id, view};
use crate::auth::Right;
use crate::channels::{Channels, Key};
use crate::error::Error;
use crate::pb;
use crate::violation::Violations;
use crate::wire;
use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use std::time::Duration;

/// Channels on a page where the client does not say.
const PAGE: usize = 50;

#[derive(Debug, Clone)]
struct Desk {
    channels: Channels,
    largest_page: usize,
    body_timeout: Duration,
    json_depth: usize,
}

pub(super) fn routes(channels: Channels, settings: &Settings) -> Routes {
    let desk = Desk {
        channels,
        largest_page: settings.channels_page,
        body_timeout: settings.body_timeout,
        json_depth: settings.json_depth,
    };
    vec![
        ("/v1/channels", get(list).post(create).with_state(desk.clone())),
        ("/v1/channels/{channelId}", get(channel).put(replace).delete(remove).with_state(desk)),
    ]
}

async fn list(State(desk): State<Desk>, Extension(caller): Calling, query: query::Raw) -> Result<Response, Problem> {
    let query = Query::read(query, &["pageSize", "pageToken", "channelType", "serviceIdentifier"])?;
    let size = query.number("pageSize", 1..=desk.largest_page)?.unwrap_or(PAGE.min(desk.largest_page));
    let page = match query.one("serviceIdentifier")? {
        None => {
            caller.may_read_all("all channels")?;
            desk.channels.list(query.one("channelType")?, query.one("pageToken")?, size).map_err(query::of_page)?
        }
        Some(service_identifier) => {
            caller.may_ask_for(service_identifier)?;
            desk.channels.only(service_identifier, query.one("channelType")?)
        }
    };
    let mut body = b"{\"channels\":[".to_vec();
    for (i, channel) in page.channels.iter().enumerate() {
        if i > 0 {
            body.push(b',');
        }
        body.append(&mut wire::encode_channel(channel));
    }
    body.extend_from_slice(b"],\"nextPageToken\":");
    body.append(&mut view::json(&page.next));
    body.push(b'}');
    Ok(json(body))
}

async fn channel(State(desk): State<Desk>, Extension(caller): Calling, id: Id, query: query::Raw) -> Result<Response, Problem> {
    Query::read(query, &[])?;
    Ok(shown(StatusCode::OK, &desk.channels.seen(&caller, Key::Id(&read_id("channelId", id)?))?))
}

async fn create(
    State(desk): State<Desk>,
    Extension(caller): Calling,
    query: query::Raw,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    caller.may(Right::ChangeChannels)?;
    Query::read(query, &[])?;
    let (channel, violations) = desk.read(&headers, body).await?;
    let created = desk.channels.create(channel, violations).await?;
    let location =
        HeaderValue::from_str(&format!("/v1/channels/{}", created.id)).expect("an id that the gateway makes is a UUID");
    let mut answer = shown(StatusCode::CREATED, &created);
    answer.headers_mut().insert(header::LOCATION, location);
    Ok(answer)
}

async fn replace(
    State(desk): State<Desk>,
    Extension(caller): Calling,
    id: Id,
    query: query::Raw,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    caller.may(Right::ChangeChannels)?;
    Query::read(query, &[])?;
    let id = read_id("channelId", id)?;
    let etag = if_match(&headers)?;
    let (channel, violations) = desk.read(&headers, body).await?;
    if !channel.id.is_empty() && channel.id != id {
        return Err(invalid("id", format!("must be that of the path, {id:?}, or left out")).into());
    }
    let update = pb::Channel { id, ..channel };
    let updated = desk.channels.update(update, &[], etag.as_deref(), violations).await;
    Ok(shown(StatusCode::OK, &updated.map_err(|error| precondition(error, etag.is_some()))?))
}

async fn remove(
    State(desk): State<Desk>,
    Extension(caller): Calling,
    id: Id,
    query: query::Raw,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    caller.may(Right::ChangeChannels)?;
    Query::read(query, &[])?;
    let etag = if_match(&headers)?;
    let removed = desk.channels.delete(&read_id("channelId", id)?, etag.as_deref()).await;
    removed.map_err(|error| precondition(error, etag.is_some()))?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

impl Desk {
    /// The channel that a request carries, and what of it could not be read.
    async fn read(&self, headers: &HeaderMap, body: Body) -> Result<(pb::Channel, Violations), Problem> {
        let most = self.channels.limits().channel_bytes;
        let json = body::json(headers, body, self.body_timeout, most, Error::ChannelTooLarge { limit: most }).await?;
        Ok(wire::decode_channel(&json, self.json_depth).map_err(Error::InvalidJson)?)
    }
}

/// A channel as an answer, with its etag.
fn shown(status: StatusCode, channel: &pb::Channel) -> Response {
    let mut answer = (status, json(wire::encode_channel(channel))).into_response();
    let etag = HeaderValue::from_str(&format!("\"{}\"", channel.etag)).expect("an etag is made of hexadecimal digits");
    answer.headers_mut().insert(header::ETAG, etag);
    answer
}

/// The one etag of the header If-Match; none without the header, and for `*`, which every channel matches.
fn if_match(headers: &HeaderMap) -> Result<Option<String>, Error> {
    let mut values = headers.get_all(header::IF_MATCH).iter();
    let wrong = || invalid("If-Match", "needs one etag, as the header ETag has it, or *");
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(wrong());
    }
    let text = value.to_str().map_err(|_| wrong())?.trim();
    if text == "*" {
        return Ok(None);
    }
    let etag = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).filter(|etag| !etag.contains('"'));
    etag.map(|etag| Some(etag.to_owned())).ok_or_else(wrong)
}

/// An etag that no longer is the channel's, where the header named it.
fn precondition(error: Error, by_header: bool) -> Problem {
    match error {
        Error::EtagMismatch { .. } if by_header => Problem::PreconditionFailed(error),
        other => other.into(),
    }
}
