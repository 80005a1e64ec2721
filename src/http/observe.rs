//! What is true of every request: it is traced and counted, and its answer is not stored or guessed at by others.

use super::Routes;
use crate::metrics::{Call, Method, Requests};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{self, HeaderValue, StatusCode, Version, header};
use axum::middleware::Next;
use axum::response::Response;
use std::collections::HashMap;
use std::sync::Arc;
use tracing::Instrument as _;

/// The methods that are told apart; the last one stands for any other.
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "OTHER"];

type ByMethod = [Arc<Method>; METHODS.len()];

/// Counts requests by their methods and routes.
#[derive(Debug)]
pub(super) struct Observer {
    routes: HashMap<&'static str, ByMethod>,
    /// Requests of paths where nothing is served.
    elsewhere: ByMethod,
}

impl Observer {
    pub(super) fn new(requests: &Requests, routes: &Routes) -> Arc<Self> {
        let by_method = |route: &str| METHODS.map(|method| requests.method(format!("{method} {route}")));
        let routes = routes.iter().map(|(route, _)| (*route, by_method(route))).collect();
        Arc::new(Self { routes, elsewhere: by_method("other") })
    }

    fn begin(&self, method: &http::Method, route: &str) -> Call {
        let method = METHODS.iter().position(|known| *known == method.as_str()).unwrap_or(METHODS.len() - 1);
        self.routes.get(route).unwrap_or(&self.elsewhere)[method].begin()
    }
}

/// Runs a request in a span of its own. The path itself is not logged: it may carry what a client mistook for one.
pub(super) async fn observe(State(observer): State<Arc<Observer>>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
    let mut call = observer.begin(request.method(), route);
    let span = tracing::debug_span!(
        "request",
        method = request.method().as_str(),
        route,
        status = tracing::field::Empty,
        message_id = tracing::field::Empty,
        caller = tracing::field::Empty,
    );
    let version = request.version();
    let mut response = next.run(request).instrument(span.clone()).await;
    if response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == "text/event-stream") {
        call.streams();
    }
    call.ends(response.status().as_u16());
    span.record("status", response.status().as_u16());
    span.in_scope(|| tracing::debug!("answered"));

    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // The rest of such a body is not read, so no other request can follow on the connection.
    let is_cut = matches!(response.status(), StatusCode::PAYLOAD_TOO_LARGE | StatusCode::REQUEST_TIMEOUT);
    if is_cut && version <= Version::HTTP_11 {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}
