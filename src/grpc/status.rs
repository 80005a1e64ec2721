//! What a failure is in gRPC. Nothing else builds a [`Status`] of ours.

use crate::error::{Error, Kind};
use crate::pb;
use crate::store;
use crate::violation::Violation;
use std::borrow::Cow;
use std::collections::HashMap;
use std::time::Duration;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

/// Domain of the reasons, as `google.rpc.ErrorInfo` has it.
const DOMAIN: &str = "cim-gateway";

/// Most bytes of violations in a status. It travels in HTTP/2 trailers, of which some clients take no more than 8 KiB.
const MOST_DETAIL: usize = 4096;

/// Most bytes of one sentence in a status or a refusal: some quote what a client sent, at whatever length. In a status it stands
/// twice, beside the details and in them.
const MOST_SENTENCE: usize = 384;

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
        details.add_bad_request_violation(*field, cut(problem));
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
        // Passing, expected, and told in the log where it begins.
        Error::TooManyConnections
        | Error::ShuttingDown
        | Error::Opening
        | Error::Store(store::Error::Busy | store::Error::Full { .. }) => {}
        other => tracing::error!(error = other as &dyn std::error::Error, "a call failed"),
    }
}

const fn code(kind: Kind) -> Code {
    match kind {
        Kind::Invalid => Code::InvalidArgument,
        Kind::TooLarge | Kind::Exhausted => Code::ResourceExhausted,
        Kind::Conflict => Code::AlreadyExists,
        Kind::Displaced => Code::Aborted,
        Kind::Outdated => Code::Aborted,
        Kind::NotAllowed => Code::FailedPrecondition,
        Kind::NotFound => Code::NotFound,
        Kind::Gone => Code::OutOfRange,
        Kind::Unauthenticated => Code::Unauthenticated,
        Kind::Forbidden => Code::PermissionDenied,
        Kind::Unavailable => Code::Unavailable,
        Kind::Internal => Code::Internal,
    }
}

/// A status as the gateway would put it: what tonic refuses before a call reaches its method has no details yet. `limit` is the
/// bound of a message.
pub(super) fn in_our_words(tonics: Status, limit: usize) -> Status {
    if !tonics.details().is_empty() {
        return tonics;
    }
    match tonics.code() {
        // In tonic's words: "decoded message length too large". Nothing else of tonic's has this code.
        Code::OutOfRange => status(&Error::MessageTooLarge { limit }),
        Code::InvalidArgument => {
            status(&Error::InvalidRequest { field: "request", problem: format!("cannot be read: {}", tonics.message()) })
        }
        _ => tonics,
    }
}

/// The sentence, with the first violation for those who see no details.
fn sentence(error: &Error) -> String {
    let sentence = match error.violations().first() {
        Some(first) => format!("{}: {first}", error.public_message()),
        None => error.public_message(),
    };
    cut(&sentence).into_owned()
}

/// A text without what it has beyond [`MOST_SENTENCE`].
fn cut(text: &str) -> Cow<'_, str> {
    if text.len() <= MOST_SENTENCE {
        return text.into();
    }
    format!("{}...", &text[..text.floor_char_boundary(MOST_SENTENCE - 3)]).into()
}

/// As many violations as fit.
fn reported(violations: &[Violation]) -> Vec<FieldViolation> {
    let mut bytes = 0;
    let as_detail = |violation: &Violation| FieldViolation {
        field: cut(&violation.path).into_owned(),
        description: cut(&violation.message).into_owned(),
        reason: violation.reason.as_str().to_owned(),
        localized_message: None,
    };
    let fits = |detail: &FieldViolation| {
        bytes += detail.field.len() + detail.description.len() + detail.reason.len() + 12;
        bytes <= MOST_DETAIL
    };
    violations.iter().map(as_detail).take_while(fits).collect()
}

/// A failure as the answer to one message of a stream.
pub(super) fn refusal(error: &Error) -> pb::Refusal {
    let violations = error.violations().iter().map(|violation| pb::Violation {
        path: cut(&violation.path).into_owned(),
        reason: violation.reason.as_str().to_owned(),
        message: cut(&violation.message).into_owned(),
    });
    pb::Refusal {
        code: code(error.kind()).into(),
        reason: error.reason_name().to_owned(),
        message: cut(&error.public_message()).into_owned(),
        violations: violations.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::violation::{Reason, Violations};

    /// What a client's transport has to take in one block of headers, by the count of RFC 9113.
    fn header_bytes(status: &Status) -> usize {
        let headers = status.clone().into_http::<tonic::body::Body>().into_parts().0.headers;
        headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum()
    }

    #[test]
    fn the_largest_status_is_one_that_every_client_takes() {
        for character in ["x", "\u{fc}", "\u{1}", "\u{10ffff}"] {
            let long = character.repeat(100_000);
            let mut violations = Violations::default();
            violations.add(&long, Reason::Required, long.clone());
            for i in 0..200 {
                violations.add(format_args!("body.buttons[{i}].title"), Reason::Required, &long[..character.len() * (i % 90)]);
            }
            for error in [
                Error::InvalidMessage { violations },
                Error::MessageNotFound { id: long.clone() },
                Error::InvalidRequest { field: "filter", problem: long },
            ] {
                let bytes = header_bytes(&status(&error));
                assert!(bytes < 8192, "{bytes} bytes");
            }
        }
    }

    #[test]
    fn what_tonic_refuses_gets_a_reason() {
        let too_large = in_our_words(Status::out_of_range("too large"), 7);
        assert_eq!(too_large.get_details_error_info().map(|info| info.reason), Some("MESSAGE_TOO_LARGE".into()));
        assert_eq!((too_large.code(), too_large.message()), (Code::ResourceExhausted, "the message is larger than 7 bytes"));
        let unreadable = in_our_words(Status::invalid_argument("buffer underflow"), 7);
        assert_eq!(unreadable.message(), "request cannot be read: buffer underflow");
        let ours = status(&Error::CursorUnknown { oldest: crate::store::Cursor { epoch: 1, position: Default::default() } });
        assert_eq!(in_our_words(ours.clone(), 7).code(), Code::OutOfRange);
        assert_eq!(in_our_words(Status::unimplemented(""), 7).code(), Code::Unimplemented);
    }
}
