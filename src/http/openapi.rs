//! The description of this face, for tools.

use super::Routes;
use axum::http::header;
use axum::routing::get;

const DOCUMENT: &str = include_str!("openapi.json");

pub(super) fn routes() -> Routes {
    vec![("/openapi.json", get(async || ([(header::CONTENT_TYPE, "application/json")], DOCUMENT)))]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Gate;
    use crate::delivery::Desk;
    use crate::feed::{self, Feed};
    use crate::http::{Settings, Signs, router, routes};
    use crate::inbox::{Inbox, Reuse};
    use crate::metrics::Metrics;
    use crate::samples;
    use crate::sessions::Sessions;
    use crate::store::memory::Memory;
    use crate::subscriptions::{self, Subscriptions};
    use axum::body::Body;
    use axum::http::{Request, StatusCode};
    use serde_json::Value;
    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::Arc;
    use std::time::Duration;
    use tokio::sync::watch;
    use tokio_util::sync::CancellationToken;
    use tower::ServiceExt as _;

    type Methods = BTreeMap<String, BTreeSet<String>>;

    /// The methods of every path, as the document has them. It leaves out HEAD, which goes with GET.
    fn documented() -> Methods {
        let document: Value = serde_json::from_str(DOCUMENT).unwrap();
        let methods = |item: &Value| item.as_object().unwrap().keys().map(|method| method.to_uppercase()).collect();
        document["paths"].as_object().unwrap().iter().map(|(path, item)| (path.clone(), methods(item))).collect()
    }

    /// The methods of every path, as the router answers a method that no path serves.
    async fn served() -> Methods {
        let store = Arc::new(Memory::new(1 << 20));
        let inbox = Inbox::new(store.clone(), samples::channels(false), samples::LIMITS, Duration::from_secs(60));
        let feed = feed::Settings { heartbeat: Duration::from_secs(15), heartbeat_skipped: 1, max_streams: 1, cold_scans: 1 };
        let (feed, _matcher) = Feed::new(store.clone(), feed, CancellationToken::new());
        let subscriptions = subscriptions::Settings { max: 1, write_interval: Duration::ZERO };
        let opened = Subscriptions::open(feed, store.clone(), store.clone(), subscriptions).await;
        let (subscriptions, _writer) = opened.expect("memory can be read");
        let desk = Desk::alone(store.clone());
        let sessions = Sessions::new(store);
        let (_readiness, readiness) = watch::channel(crate::readiness::Readiness::Ready);
        let signs = Signs { readiness, metrics: Metrics::default() };
        let settings = Settings {
            accepted_status: StatusCode::ACCEPTED,
            body_timeout: Duration::from_secs(30),
            allowed_origins: Vec::new(),
            message_bytes: 1 << 20,
            json_depth: 64,
            filter_values: 1000,
            history_page: 500,
            channels_page: 500,
            deliveries_page: 500,
            delivery_wait: Duration::ZERO,
            reuse: Reuse::Renew,
        };
        let gate = Gate::open();
        let router =
            router(inbox.clone(), subscriptions.clone(), sessions.clone(), desk.clone(), &gate, signs.clone(), &settings);
        let mut served = Methods::new();
        for (path, _) in routes(inbox, subscriptions, sessions, desk, &gate, signs, &settings) {
            let request = Request::builder().method("TRACE").uri(path.replace(['{', '}'], "")).body(Body::empty()).unwrap();
            let answer = router.clone().oneshot(request).await.unwrap();
            let allow = answer.headers()[header::ALLOW].to_str().unwrap();
            let methods = allow.split(',').filter(|method| *method != "HEAD").map(str::to_owned).collect();
            served.insert(path.to_owned(), methods);
        }
        served
    }

    #[tokio::test]
    async fn every_route_is_documented_and_every_documented_one_is_served() {
        assert_eq!(served().await, documented());
    }
}
