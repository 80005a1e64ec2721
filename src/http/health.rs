//! Signs of life for whoever runs the gateway.

use super::Routes;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::get;
use serde::Serialize;
use tokio::sync::watch;

#[derive(Serialize)]
struct Health {
    status: &'static str,
}

pub(super) fn routes(readiness: watch::Receiver<bool>) -> Routes {
    vec![("/healthz", get(alive)), ("/readyz", get(ready).with_state(readiness))]
}

/// The process answers: that is all.
async fn alive() -> impl IntoResponse {
    Json(Health { status: "alive" })
}

async fn ready(State(readiness): State<watch::Receiver<bool>>) -> impl IntoResponse {
    if *readiness.borrow() {
        (StatusCode::OK, Json(Health { status: "ready" }))
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, Json(Health { status: "not ready" }))
    }
}
