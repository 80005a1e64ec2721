//! The HTTP face: the documented JSON in, notifications out as server-sent events.
//!
//! Each file decodes, calls a use case and encodes. [`problem`] is the only place that turns a failure into an answer.

mod body;
mod health;
mod history;
mod messages;
mod notifications;
mod observe;
mod openapi;
mod problem;
mod query;
mod sessions;
mod subscriptions;
mod view;

use crate::error::Error;
use crate::inbox::{Inbox, Reuse};
use crate::readiness::Readiness;
use crate::sessions::Sessions;
use crate::subscriptions::Subscriptions;
use axum::Router;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware;
use axum::routing::MethodRouter;
use problem::Problem;
use std::time::Duration;
use tokio::sync::watch;
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
    /// What becomes of a message whose id is taken by other content.
    pub reuse: Reuse,
}

/// Every path and what it serves.
type Routes = Vec<(&'static str, MethodRouter)>;

/// The face of these use cases. `/readyz` tells what `readiness` says.
pub fn router(
    inbox: Inbox,
    subscriptions: Subscriptions,
    sessions: Sessions,
    readiness: watch::Receiver<Readiness>,
    settings: &Settings,
) -> Router {
    let router = routes(inbox, subscriptions, sessions, readiness, settings)
        .into_iter()
        .fold(Router::new(), |router, (path, methods)| router.route(path, methods))
        .fallback(async || Problem::UnknownPath)
        .method_not_allowed_fallback(async || Problem::MethodNotAllowed);
    let router = match cors(&settings.allowed_origins) {
        Some(cors) => router.layer(cors),
        None => router,
    };
    router.layer(middleware::from_fn(observe::observe))
}

/// The face while the store is being opened: it tells how far that is, and asks everybody else to come again.
pub fn opening(readiness: watch::Receiver<Readiness>) -> Router {
    health::routes(readiness)
        .into_iter()
        .fold(Router::new(), |router, (path, methods)| router.route(path, methods))
        .fallback(async || Problem::Failed(Error::Opening))
        .layer(middleware::from_fn(observe::observe))
}

fn routes(
    inbox: Inbox,
    subscriptions: Subscriptions,
    sessions: Sessions,
    readiness: watch::Receiver<Readiness>,
    settings: &Settings,
) -> Routes {
    [
        messages::routes(inbox.clone(), settings),
        history::routes(inbox, settings),
        notifications::routes(subscriptions.clone(), settings),
        subscriptions::routes(subscriptions, settings),
        sessions::routes(sessions, settings),
        health::routes(readiness),
        openapi::routes(),
    ]
    .concat()
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
        .allow_methods([Method::GET, Method::HEAD, Method::POST, Method::DELETE])
        .allow_headers([header::CONTENT_TYPE, HeaderName::from_static(notifications::LAST_EVENT_ID)])
        .expose_headers([header::RETRY_AFTER])
        .max_age(Duration::from_secs(60 * 60));
    Some(layer)
}
