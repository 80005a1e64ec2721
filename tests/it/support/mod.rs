//! What the tests are written in: gateways, clients, messages, and connections that misbehave.

pub mod client;
pub mod gateway;
pub mod http;
pub mod messages;
pub mod page;
pub mod process;
pub mod proxy;
pub mod raw;
pub mod receiver;

use std::future::Future;
use std::time::Duration;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// Far more than anything awaited here takes, also on a busy machine.
const BOUND: Duration = Duration::from_secs(60);

/// What `future` gives. Fails if it takes far too long, saying what was awaited.
pub async fn soon<T>(awaited: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(BOUND, future).await {
        Ok(value) => value,
        Err(_) => panic!("nothing came in {BOUND:?}; awaited: {awaited}"),
    }
}

/// What `attempt` gives once it gives something. For what tells nobody when it happens.
pub async fn eventually<T>(awaited: &str, mut attempt: impl AsyncFnMut() -> Option<T>) -> T {
    const PAUSE: Duration = Duration::from_millis(10);
    soon(awaited, async {
        loop {
            match attempt().await {
                Some(value) => return value,
                None => tokio::time::sleep(PAUSE).await,
            }
        }
    })
    .await
}

/// Checks that a status is one of the gateway's own, with this code and reason.
#[track_caller]
pub fn assert_refused(status: &Status, code: Code, reason: &str) {
    let info = status.get_details_error_info().unwrap_or_else(|| panic!("no reason in {status:?}"));
    assert_eq!((status.code(), info.reason.as_str(), info.domain.as_str()), (code, reason, "cim-gateway"), "{status:?}");
}

/// The fields that a status complains about, with the reasons.
pub fn complaints(status: &Status) -> Vec<(String, String)> {
    let violations = status.get_details_bad_request().map(|details| details.field_violations).unwrap_or_default();
    violations.into_iter().map(|violation| (violation.field, violation.reason)).collect()
}
