//! What a failure is in gRPC. Nothing else builds a [`Status`] of ours.

use crate::error::{Error, Kind};
use crate::pb;
use crate::violation::Violation;
use std::collections::HashMap;
use std::time::Duration;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

/// Domain of the reasons, as `google.rpc.ErrorInfo` has it.
const DOMAIN: &str = "cim-gateway";

/// Most bytes of violations in a status. It travels in HTTP/2 trailers, of which some clients take no more than 8 KiB.
const MOST_DETAIL: usize = 4096;

/// When to try again what the gateway cannot do now.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The status of a failure. What the log must know of it is logged here, where it stops travelling.
pub(super) fn status(error: &Error) -> Status {
    if let Kind::Internal | Kind::Unavailable = error.kind() {
        log(error);
    }
    let mut metadata = HashMap::new();
    if let Error::CursorExpired { oldest } | Error::CursorUnknown { oldest } = error {
        metadata.insert("oldest_cursor".to_owned(), oldest.to_string());
    }
    let mut details = ErrorDetails::new();
    details.set_error_info(error.reason_name(), DOMAIN, metadata);
    if let Error::InvalidRequest { field, problem } = error {
        details.add_bad_request_violation(*field, problem);
    }
    let violations = reported(error.violations());
    if !violations.is_empty() {
        details.set_bad_request(violations);
    }
    if let Kind::Exhausted | Kind::Unavailable = error.kind() {
        details.set_retry_info(Some(RETRY_AFTER));
    }
    Status::with_error_details(code(error.kind()), sentence(error), details)
}

fn log(error: &Error) {
    match error {
        Error::ShuttingDown => {}
        other => tracing::error!(error = other as &dyn std::error::Error, "a call failed"),
    }
}

const fn code(kind: Kind) -> Code {
    match kind {
        Kind::Invalid => Code::InvalidArgument,
        Kind::TooLarge | Kind::Exhausted => Code::ResourceExhausted,
        Kind::Conflict => Code::AlreadyExists,
        Kind::NotFound => Code::NotFound,
        Kind::Gone => Code::OutOfRange,
        Kind::Unavailable => Code::Unavailable,
        Kind::Internal => Code::Internal,
    }
}

/// The sentence, with the first violation for those who see no details.
fn sentence(error: &Error) -> String {
    match error.violations().first() {
        Some(first) => format!("{}: {first}", error.public_message()),
        None => error.public_message(),
    }
}

/// As many violations as fit.
fn reported(violations: &[Violation]) -> Vec<FieldViolation> {
    let mut bytes = 0;
    let fitting = violations.iter().take_while(|violation| {
        bytes += violation.path.len() + violation.message.len() + violation.reason.as_str().len() + 8;
        bytes <= MOST_DETAIL
    });
    let as_detail = |violation: &Violation| FieldViolation {
        field: violation.path.clone(),
        description: violation.message.clone(),
        reason: violation.reason.as_str().to_owned(),
        localized_message: None,
    };
    fitting.map(as_detail).collect()
}

/// A failure as the answer to one message of a stream.
pub(super) fn refusal(error: &Error) -> pb::Refusal {
    let violations = error.violations().iter().map(|violation| pb::Violation {
        path: violation.path.clone(),
        reason: violation.reason.as_str().to_owned(),
        message: violation.message.clone(),
    });
    pb::Refusal {
        code: code(error.kind()).into(),
        reason: error.reason_name().to_owned(),
        message: error.public_message(),
        violations: violations.collect(),
    }
}
