//! The HTTP face: the documented JSON in, notifications out as server-sent events.
//!
//! Each file decodes, calls a use case and encodes. [`problem`] is the only place that turns a failure into an answer.

mod admission;
mod body;
mod channels;
mod deliveries;
mod foreign;
mod health;
mod history;
mod lookups;
mod messages;
mod notifications;
mod observe;
mod openapi;
mod prefer;
mod problem;
mod query;
mod sessions;
mod subscriptions;
mod timeline;
mod view;

pub use health::Signs;

use crate::auth::{Gate, Right};
use crate::delivery::Desk;
use crate::error::Error;
use crate::inbox::{Inbox, Reuse};
use crate::listener::Face;
use crate::metrics::Requests;
use crate::sessions::Sessions;
use crate::subscriptions::Subscriptions;
use admission::admitting;
use axum::Router;
use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::MethodRouter;
use observe::{Observer, observe};
use problem::Problem;
use std::sync::Arc;
use std::time::Duration;
use tower_http::cors::{AllowOrigin, CorsLayer};

/// How the face serves.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Status that answers an accepted message.
    pub accepted_status: StatusCode,
    /// Longest that the body of a request may take to arrive.
    pub body_timeout: Duration,
    /// Origins whose pages may call, or `*` alone for any; empty for none.
    pub allowed_origins: Vec<String>,
    /// Most bytes of a message as received.
    pub message_bytes: usize,
    /// Most containers that JSON may be nested.
    pub json_depth: usize,
    /// Most values of a notification filter, all lists together.
    pub filter_values: usize,
    /// Most messages on a page of history.
    pub history_page: usize,
    /// Most channels on a page.
    pub channels_page: usize,
    /// Most deliveries on a page.
    pub deliveries_page: usize,
    /// What becomes of a message whose id is taken by other content.
    pub reuse: Reuse,
    /// How long a client that does not say waits for the outcome of its message.
    pub delivery_wait: Duration,
}

/// Every path and what it serves.
type Routes = Vec<(&'static str, MethodRouter)>;

/// The face of these use cases, for those whom `gate` lets in. `signs` tell how the gateway is; its requests are counted there.
pub fn router(
    inbox: Inbox,
    subscriptions: Subscriptions,
    sessions: Sessions,
    desk: Desk,
    gate: &Gate,
    signs: Signs,
    settings: &Settings,
) -> Router {
    let requests = signs.metrics.http.clone();
    let routes = routes(inbox, subscriptions, sessions, desk, gate, signs, settings);
    let observer = Observer::new(&requests, &routes);
    let router = routes
        .into_iter()
        .fold(Router::new(), |router, (path, methods)| router.route(path, methods))
        .fallback(async || Problem::UnknownPath)
        .method_not_allowed_fallback(async || Problem::MethodNotAllowed);
    framed(router, observer, &settings.allowed_origins)
}

/// What is true of every request comes around a router.
fn framed(router: Router, observer: Arc<Observer>, allowed_origins: &[String]) -> Router {
    let router = match cors(allowed_origins) {
        Some(cors) => router.layer(cors),
        None => router,
    };
    router.layer(middleware::from_fn_with_state(observer, observe))
}

/// The face while the store is being opened: it tells how far that is, and asks everybody else to come again.
pub fn opening(signs: Signs) -> Router {
    let requests = signs.metrics.http.clone();
    let routes = health::routes(signs);
    let observer = Observer::new(&requests, &routes);
    let router = routes
        .into_iter()
        .fold(Router::new(), |router, (path, methods)| router.route(path, methods))
        .fallback(async || Problem::Failed(Error::Opening));
    framed(router, observer, &[])
}

/// What a listener serves with this router, which is that of the face. Whom it has no place for is counted among `requests`, too, and pages
/// of allowed origins may read that.
pub fn face(router: Router, requests: &Requests, allowed_origins: &[String]) -> Face {
    let full = Router::new().fallback(async || Problem::Failed(Error::TooManyConnections));
    let full = framed(full, Observer::new(requests, &Routes::new()), allowed_origins);
    Face { router, probes: &health::PROBES, full }
}

fn routes(
    inbox: Inbox,
    subscriptions: Subscriptions,
    sessions: Sessions,
    desk: Desk,
    gate: &Gate,
    signs: Signs,
    settings: &Settings,
) -> Routes {
    let everybody = [health::routes(signs), openapi::routes()].concat();
    let known = [
        messages::routes(inbox.clone(), settings),
        channels::routes(inbox.channels().clone(), settings),
        lookups::routes(inbox.channels().clone()),
        history::routes(inbox, settings),
        notifications::routes(subscriptions.clone(), settings),
        subscriptions::routes(subscriptions, settings),
        sessions::routes(sessions, settings),
    ]
    .concat();
    let managing = deliveries::routes(desk, settings);
    [everybody, admitting(known, gate, None), admitting(managing, gate, Some(Right::ManageDeliveries))].concat()
}

/// An id from the path.
type Id = Result<Path<String>, PathRejection>;

fn read_id(field: &'static str, id: Id) -> Result<String, Error> {
    let Path(id) = id.map_err(|rejection| query::invalid(field, format!("cannot be read: {}", rejection.body_text())))?;
    Ok(id)
}

/// An answer of JSON.
fn json(body: Vec<u8>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// Origins as the layer for CORS knows them: `*` is any.
pub fn origins(allowed: &[String]) -> AllowOrigin {
    if allowed.iter().any(|origin| origin == "*") {
        return AllowOrigin::any();
    }
    AllowOrigin::list(allowed.iter().filter_map(|origin| HeaderValue::from_str(origin).ok()))
}

/// What pages of these origins may do; none if there are no origins.
fn cors(allowed: &[String]) -> Option<CorsLayer> {
    if allowed.is_empty() {
        return None;
    }
    let layer = CorsLayer::new()
        .allow_origin(origins(allowed))
        .allow_methods([Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::DELETE])
        .allow_headers([
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            header::IF_MATCH,
            HeaderName::from_static(notifications::LAST_EVENT_ID),
            prefer::PREFER,
        ])
        .expose_headers([header::RETRY_AFTER, header::ETAG, header::LOCATION])
        .max_age(Duration::from_secs(60 * 60));
    Some(layer)
}
