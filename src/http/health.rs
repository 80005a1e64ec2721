//! Signs of life for whoever runs the gateway.

use super::Routes;
use crate::readiness::Readiness;
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
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<Progress>,
}

/// How far a rebuild is, in messages.
#[derive(Serialize)]
struct Progress {
    done: u64,
    of: u64,
}

pub(super) fn routes(readiness: watch::Receiver<Readiness>) -> Routes {
    vec![("/healthz", get(alive)), ("/readyz", get(ready).with_state(readiness))]
}

/// The process answers: that is all.
async fn alive() -> impl IntoResponse {
    Json(Health { status: "alive", progress: None })
}

async fn ready(State(readiness): State<watch::Receiver<Readiness>>) -> impl IntoResponse {
    let readiness = *readiness.borrow();
    let status = if readiness.serves() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let progress = match readiness {
        Readiness::Rebuilding { done, of } => Some(Progress { done, of }),
        _ => None,
    };
    (status, Json(Health { status: readiness.word(), progress }))
}
