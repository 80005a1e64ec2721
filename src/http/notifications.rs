//! Notifications as server-sent events.
//!
//! The stream pulls from the feed when the connection has room: a client that stops reading costs no memory beyond the page that
//! its subscription holds.

mod request;

use super::admission::Calling;
use super::foreign::Pages;
use super::problem::{self, Problem};
use super::{Routes, Settings, query, view};
use crate::feed::Event;
use crate::subscriptions::{Reader, Subscriptions};
use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures::stream;
use serde::Serialize;
use std::convert::Infallible;

/// The header with which a client that was cut off says how far it came.
pub(super) const LAST_EVENT_ID: &str = "last-event-id";

#[derive(Debug, Clone)]
struct Desk {
    subscriptions: Subscriptions,
    filter_values: usize,
    pages: Pages,
}

pub(super) fn routes(subscriptions: Subscriptions, settings: &Settings) -> Routes {
    let pages = Pages::of(&settings.allowed_origins);
    let desk = Desk { subscriptions, filter_values: settings.filter_values, pages };
    vec![("/v1/notifications", get(notifications).head(head).with_state(desk))]
}

/// The headers of a stream.
const HEADERS: [(HeaderName, &str); 2] = [
    (header::CONTENT_TYPE, "text/event-stream"),
    // Proxies of the nginx family would collect events until a buffer is full.
    (HeaderName::from_static("x-accel-buffering"), "no"),
];

async fn notifications(
    State(desk): State<Desk>,
    Extension(caller): Calling,
    uri: Uri,
    headers: HeaderMap,
    query: query::Raw,
) -> Result<Response, Problem> {
    // It takes one of the places for streams, and a named reader over.
    desk.pages.admit(&uri, &headers)?;
    let request = request::read(query, headers.get(LAST_EVENT_ID), desk.filter_values)?;
    let reader = desk.subscriptions.subscribe_for(caller, request).await?;
    let events = stream::unfold(Some(reader), next);
    Ok((HEADERS, Body::from_stream(events)).into_response())
}

/// What a stream would begin with. Nobody is attached: whoever asks for headers alone reads nothing.
async fn head(State(desk): State<Desk>, headers: HeaderMap, query: query::Raw) -> Result<impl IntoResponse, Problem> {
    request::read(query, headers.get(LAST_EVENT_ID), desk.filter_values)?;
    // A stream has no length.
    Ok((HEADERS, Body::from_stream(stream::empty::<Result<Vec<u8>, Infallible>>())))
}

/// The next event as text; the last one says why the stream ends.
async fn next(reader: Option<Reader>) -> Option<(Result<Vec<u8>, Infallible>, Option<Reader>)> {
    let mut reader = reader?;
    let (text, rest) = match reader.next().await {
        Ok(event) => (text(&event, reader.generation()), Some(reader)),
        Err(error) => (end(&Problem::Failed(error)), None),
    };
    Some((Ok(text), rest))
}

#[derive(Serialize)]
struct Heartbeat<'a> {
    cursor: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    generation: Option<u64>,
}

fn text(event: &Event, generation: Option<u64>) -> Vec<u8> {
    match event {
        Event::Notification(stored, cursor) => {
            let mut text = format!("id: {cursor}\nevent: message\ndata: ").into_bytes();
            view::write(&mut text, stored, *cursor);
            text.extend_from_slice(b"\n\n");
            text
        }
        Event::Heartbeat(cursor) => {
            let cursor = cursor.to_string();
            let mut text = format!("id: {cursor}\nevent: heartbeat\ndata: ").into_bytes();
            text.append(&mut view::json(&Heartbeat { cursor: &cursor, generation }));
            text.extend_from_slice(b"\n\n");
            text
        }
    }
}

/// It has no id: where the reader stands is what the event before said.
fn end(problem: &Problem) -> Vec<u8> {
    problem.log();
    let mut text = b"event: end\ndata: ".to_vec();
    text.append(&mut view::json(&problem::Body::new(problem)));
    text.extend_from_slice(b"\n\n");
    text
}
