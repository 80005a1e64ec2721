//! Failures as HTTP answers: a status, and a body in the documented shape of a delivery notification that failed.

use crate::error::{Error, Kind};
use crate::store;
use crate::violation::{Reason, Violation};
use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// Seconds after which a client that met a passing trouble may try again.
const RETRY_AFTER: &str = "1";

/// How a client may show its key.
const CHALLENGE: &str = "Bearer realm=\"cim-gateway\"";

/// Why a request gets no answer of its own.
#[derive(Debug)]
pub(super) enum Problem {
    /// The call failed.
    Failed(Error),
    /// The call failed because of the header If-Match.
    PreconditionFailed(Error),
    /// Nothing is under the name that one of the documented look-ups of channels was asked for.
    NotRegistered(Error),
    /// Nothing is served at the path.
    UnknownPath,
    /// The path serves other methods, which the router names in `Allow`.
    MethodNotAllowed,
    /// The body is said to be something else than plain JSON.
    UnsupportedMediaType,
    /// The body did not arrive in time.
    BodyTimeout,
    /// The body ended before its end.
    BodyCut,
    /// A browser asks for a page that may not call.
    ForeignPage,
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl Problem {
    fn status(&self) -> StatusCode {
        match self {
            Self::Failed(error) => match error.kind() {
                Kind::Invalid => StatusCode::BAD_REQUEST,
                Kind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
                Kind::Conflict | Kind::Displaced | Kind::Outdated | Kind::NotAllowed => StatusCode::CONFLICT,
                Kind::NotFound => StatusCode::NOT_FOUND,
                Kind::Gone => StatusCode::GONE,
                Kind::Unauthenticated => StatusCode::UNAUTHORIZED,
                Kind::Forbidden => StatusCode::FORBIDDEN,
                Kind::Exhausted => StatusCode::TOO_MANY_REQUESTS,
                Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
                Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            },
            Self::PreconditionFailed(_) => StatusCode::PRECONDITION_FAILED,
            Self::UnknownPath | Self::NotRegistered(_) => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::BodyCut => StatusCode::BAD_REQUEST,
            Self::ForeignPage => StatusCode::FORBIDDEN,
        }
    }

    /// The machine-readable reason.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Failed(error) | Self::PreconditionFailed(error) | Self::NotRegistered(error) => error.reason_name(),
            Self::UnknownPath => "PATH_NOT_FOUND",
            Self::MethodNotAllowed => "METHOD_NOT_ALLOWED",
            Self::UnsupportedMediaType => "UNSUPPORTED_MEDIA_TYPE",
            Self::BodyTimeout => "BODY_TIMEOUT",
            Self::BodyCut => "BODY_CUT",
            Self::ForeignPage => "FOREIGN_PAGE",
        }
    }

    fn sentence(&self) -> String {
        match self {
            Self::Failed(error) | Self::PreconditionFailed(error) | Self::NotRegistered(error) => error.public_message(),
            Self::UnknownPath => "nothing is served at this path".into(),
            Self::MethodNotAllowed => "the path does not serve this method; the header Allow names those it does".into(),
            Self::UnsupportedMediaType => {
                "needs the content type application/json, or one that ends in +json, without content encoding".into()
            }
            Self::BodyTimeout => "the body did not arrive in time".into(),
            Self::BodyCut => "the body ended before its end".into(),
            Self::ForeignPage => {
                "a page of another origin asks, which may not call; http.cors.allowed_origins says which origins may".into()
            }
        }
    }

    /// Tells the log what the caller is not told.
    pub(super) fn log(&self) {
        match self {
            Self::Failed(error) if error.kind() == Kind::Internal => tracing::error!(%error, "a request failed"),
            Self::Failed(error @ Error::Store(_)) => tracing::warn!(%error, "a request failed"),
            _ => {}
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        self.log();
        let status = self.status();
        let body = Json(Body::new(&self));
        match status {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                (status, [(header::RETRY_AFTER, RETRY_AFTER)], body).into_response()
            }
            StatusCode::UNAUTHORIZED => (status, [(header::WWW_AUTHENTICATE, CHALLENGE)], body).into_response(),
            _ => (status, body).into_response(),
        }
    }
}

/// A failure as it stands on the wire.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Body {
    r#type: &'static str,
    markdown_text: String,
    /// No message is stored, or it is unknown whether one is.
    message_id: Option<String>,
    status: &'static str,
    reason_code: u16,
    reason: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    violations: Vec<Broken>,
    #[serde(skip_serializing_if = "Option::is_none")]
    oldest_cursor: Option<String>,
}

impl Body {
    pub(super) fn new(problem: &Problem) -> Self {
        Self {
            r#type: "DELIVERYNOTIFICATION",
            markdown_text: problem.sentence(),
            message_id: None,
            // What clients of the look-ups read.
            status: if matches!(problem, Problem::NotRegistered(_)) { "NOT_FOUND" } else { "FAILED" },
            reason_code: reason_code(problem),
            reason: problem.reason(),
            violations: violations(problem),
            oldest_cursor: oldest(problem).map(|cursor| cursor.to_string()),
        }
    }
}

/// The status, but where only the channel of a message is unknown what the documentation has for that.
fn reason_code(problem: &Problem) -> u16 {
    let violations = match problem {
        Problem::Failed(error @ Error::InvalidMessage { .. }) => error.violations(),
        _ => &[],
    };
    let unknown = !violations.is_empty() && violations.iter().all(|violation| violation.reason == Reason::UnknownChannel);
    if unknown { StatusCode::NOT_FOUND.as_u16() } else { problem.status().as_u16() }
}

/// A broken rule; a syntax error says where in the text it stands instead of in which field.
#[derive(Debug, Serialize)]
struct Broken {
    path: String,
    reason: &'static str,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<u32>,
}

fn violations(problem: &Problem) -> Vec<Broken> {
    match problem {
        Problem::Failed(Error::InvalidJson(syntax)) => vec![Broken {
            path: String::new(),
            reason: problem.reason(),
            message: syntax.message.clone(),
            line: Some(syntax.line),
            column: Some(syntax.column),
        }],
        Problem::Failed(error) => error.violations().iter().map(broken).collect(),
        _ => Vec::new(),
    }
}

fn broken(violation: &Violation) -> Broken {
    Broken {
        path: violation.path.clone(),
        reason: violation.reason.as_str(),
        message: violation.message.clone(),
        line: None,
        column: None,
    }
}

/// Where reading can start, for a reader whose cursor is of no use.
fn oldest(problem: &Problem) -> Option<store::Cursor> {
    match problem {
        Problem::Failed(Error::CursorExpired { oldest } | Error::CursorUnknown { oldest }) => Some(*oldest),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;
    use serde_json::{Value, json};

    async fn answer(problem: Problem) -> (u16, bool, Value) {
        let answer = problem.into_response();
        let (status, again) = (answer.status().as_u16(), answer.headers().contains_key(header::RETRY_AFTER));
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, again, serde_json::from_slice(&body).unwrap())
    }

    #[tokio::test]
    async fn what_fails_inside_is_not_told() {
        let unavailable = store::Error::Unavailable { cause: "disk /dev/sdz is full".into() };
        let (status, again, body) = answer(Problem::Failed(unavailable.into())).await;
        assert_eq!((status, again, &body["reason"]), (503, true, &json!("STORE_UNAVAILABLE")));
        assert!(!body.to_string().contains("sdz"), "{body}");

        let expired = store::Error::Expired { asked: store::Position(3), oldest: store::Position(7) };
        let (status, again, body) = answer(Problem::Failed(expired.into())).await;
        assert_eq!((status, again, &body["markdownText"]), (500, false, &json!("internal error")));
    }

    #[tokio::test]
    async fn only_passing_troubles_say_when_to_try_again() {
        for (error, expected) in [
            (Error::ShuttingDown, (503, true)),
            (Error::TooManyStreams { most: 1 }, (429, true)),
            (Error::MessageTooLarge { limit: 1 }, (413, false)),
            (Error::ReusedId { id: "m".into() }, (409, false)),
            (Error::MessageNotFound { id: "m".into() }, (404, false)),
        ] {
            let (status, again, body) = answer(Problem::Failed(error)).await;
            assert_eq!((status, again), expected);
            assert_eq!(body["reasonCode"], json!(status));
        }
    }
}
