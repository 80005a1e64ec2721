//! Signs of life for whoever runs the gateway.

use super::Routes;
use crate::metrics::{self, Metrics};
use crate::readiness::Readiness;
use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use serde::Serialize;
use tokio::sync::watch;

/// Who tells how the gateway is.
#[derive(Debug, Clone)]
pub struct Signs {
    /// What the gateway can do.
    pub readiness: watch::Receiver<Readiness>,
    /// What it counts.
    pub metrics: Metrics,
}

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

/// The paths of probes, and of what a gateway that is full has to tell of itself.
pub(super) const PROBES: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

pub(super) fn routes(Signs { readiness, metrics }: Signs) -> Routes {
    let [alive_at, ready_at, measures_at] = PROBES;
    vec![(alive_at, get(alive)), (ready_at, get(ready).with_state(readiness)), (measures_at, get(measures).with_state(metrics))]
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

async fn measures(State(metrics): State<Metrics>) -> impl IntoResponse {
    let page = tokio::task::spawn_blocking(move || metrics.page());
    let page = page.await.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()));
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], page)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::opening;
    use crate::metrics::present::State as Word;
    use axum::body::Body;
    use axum::http::Request;
    use http_body_util::BodyExt as _;
    use tower::ServiceExt as _;

    #[tokio::test]
    async fn a_gateway_that_opens_its_store_has_metrics() {
        let (_readiness, readiness) = watch::channel(Readiness::Opening);
        let metrics = Metrics::default();
        metrics.ask(|present| present.readiness = Some(Word { all: &Readiness::WORDS, now: Readiness::Opening.word() }));
        let face = opening(Signs { readiness, metrics });
        let ask = async |path: &str| {
            let answer = face.clone().oneshot(Request::get(path).body(Body::empty()).unwrap()).await.unwrap();
            (
                answer.status(),
                answer.headers()[header::CONTENT_TYPE].clone(),
                answer.into_body().collect().await.unwrap().to_bytes(),
            )
        };
        assert_eq!(ask("/v1/messages/m-1").await.0, StatusCode::SERVICE_UNAVAILABLE);
        let (status, content_type, page) = ask("/metrics").await;
        let page = std::str::from_utf8(&page).unwrap();
        assert_eq!((status, content_type.to_str().unwrap()), (StatusCode::OK, metrics::CONTENT_TYPE));
        for line in [
            r#"cim_readiness{state="opening"} 1"#,
            r#"cim_readiness{state="ready"} 0"#,
            r#"cim_requests_total{face="http",method="GET other",code="503"} 1"#,
        ] {
            assert!(page.lines().any(|found| found == line), "{page}");
        }
        assert!(page.contains("cim_build_info{version=") && !page.contains("cim_store_state"), "{page}");
    }
}
