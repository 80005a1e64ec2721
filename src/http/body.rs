//! The body of a request: JSON, whole, within bounds and in time.

use super::problem::Problem;
use super::query::invalid;
use crate::error::Error;
use axum::body::{Body, HttpBody};
use axum::http::{HeaderMap, header};
use http_body_util::BodyExt as _;
use serde::de::DeserializeOwned;
use std::time::Duration;

/// The JSON that a request carries, at most `most` bytes; `too_large` is what a larger one is refused with.
pub(super) async fn json(
    headers: &HeaderMap,
    body: Body,
    timeout: Duration,
    most: usize,
    too_large: Error,
) -> Result<Vec<u8>, Problem> {
    if !is_json(headers) {
        return Err(Problem::UnsupportedMediaType);
    }
    let read = tokio::time::timeout(timeout, read(body, most, too_large));
    read.await.map_err(|_| Problem::BodyTimeout)?
}

/// What the JSON of a request says, of at most `most` bytes.
pub(super) async fn parsed<T: DeserializeOwned>(
    headers: &HeaderMap,
    body: Body,
    timeout: Duration,
    most: usize,
) -> Result<T, Problem> {
    let sent = json(headers, body, timeout, most, Error::MessageTooLarge { limit: most }).await?;
    Ok(serde_json::from_slice(&sent).map_err(|error| invalid("body", format!("{error}")))?)
}

/// True if the body is said to be JSON, as it is. A charset says nothing: JSON is UTF-8.
fn is_json(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let content_type = text(header::CONTENT_TYPE).and_then(|value| value.split(';').next()).unwrap_or_default();
    let content_type = content_type.trim().to_ascii_lowercase();
    let structured = content_type.split_once('/').is_some_and(|(_, subtype)| subtype.len() > 5 && subtype.ends_with("+json"));
    let plain =
        headers.get(header::CONTENT_ENCODING).is_none_or(|encoding| encoding.as_bytes().eq_ignore_ascii_case(b"identity"));
    plain && (structured || content_type == "application/json")
}

/// The whole body. One that is announced to be too long is refused unread. Memory is taken for what arrives, not for what is
/// announced.
async fn read(mut body: Body, most: usize, too_large: Error) -> Result<Vec<u8>, Problem> {
    if body.size_hint().lower() > most as u64 {
        return Err(too_large.into());
    }
    let mut received = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| Problem::BodyCut)?.into_data() else { continue };
        if data.len() > most - received.len() {
            return Err(too_large.into());
        }
        received.extend_from_slice(&data);
    }
    Ok(received)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(content_type: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(header::CONTENT_TYPE, content_type.parse().unwrap())])
    }

    #[test]
    fn every_name_of_json_is_taken() {
        for name in [
            "application/json",
            "application/json; charset=utf-8",
            "application/json;charset=UTF-8",
            "Application/JSON",
            "application/cim+json",
            "application/vnd.cim.v1+json; charset=utf-8",
        ] {
            assert!(is_json(&said(name)), "{name}");
        }
    }

    #[test]
    fn anything_else_is_not() {
        for name in ["", "text/plain", "text/json", "application/jsonp", "+json", "application/+json", "json", "application/xml"]
        {
            assert!(!is_json(&said(name)), "{name}");
        }
        assert!(!is_json(&HeaderMap::new()));
    }

    #[test]
    fn compressed_json_is_not_taken() {
        let mut headers = said("application/json");
        headers.insert(header::CONTENT_ENCODING, "gzip".parse().unwrap());
        assert!(!is_json(&headers));
        headers.insert(header::CONTENT_ENCODING, "identity".parse().unwrap());
        assert!(is_json(&headers));
    }
}
