//! A gateway's error, in lines to read.

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// The error as a sentence, then every violation that it names.
pub(super) fn lines(status: &Status) -> Vec<String> {
    let mut first = match status.get_details_error_info() {
        Some(info) => format!("{} ({}): {}", name(status.code()), info.reason, status.message()),
        None => format!("{}: {}", name(status.code()), status.message()),
    };
    if let Some(oldest) = status.get_details_error_info().and_then(|mut info| info.metadata.remove("oldest_cursor")) {
        first.push_str(&format!("; the oldest that can be read is at --from {oldest}"));
    }
    let violations = status.get_details_bad_request().map(|request| request.field_violations).unwrap_or_default();
    let rest = violations.into_iter().map(|violation| {
        let place = if violation.field.is_empty() { String::new() } else { format!("{}: ", violation.field) };
        let reason = if violation.reason.is_empty() { String::new() } else { format!(" ({})", violation.reason) };
        format!("{place}{}{reason}", violation.description)
    });
    std::iter::once(first).chain(rest).collect()
}

/// True if the same call cannot succeed later either.
pub(super) fn is_final(code: Code) -> bool {
    match code {
        Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::DataLoss
        | Code::Unauthenticated => true,
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::ResourceExhausted
        | Code::Aborted
        | Code::Internal
        | Code::Unavailable => false,
    }
}

/// The name of a code on the wire.
fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic_types::{ErrorDetails, FieldViolation};

    #[test]
    fn every_violation_is_named() {
        let mut details = ErrorDetails::new();
        details.set_error_info("INVALID_MESSAGE", "cim-gateway", [("ignored".into(), "x".into())]);
        let sender = FieldViolation { reason: "REQUIRED".into(), ..FieldViolation::new("header.sender.id", "is required") };
        details.set_bad_request([sender, FieldViolation::new("", "is larger than 1 MiB")]);
        let status = Status::with_error_details(Code::InvalidArgument, "the message breaks 2 rules", details);
        let expected = [
            "INVALID_ARGUMENT (INVALID_MESSAGE): the message breaks 2 rules",
            "header.sender.id: is required (REQUIRED)",
            "is larger than 1 MiB",
        ];
        assert_eq!(lines(&status), expected);
    }

    #[test]
    fn an_expired_cursor_says_where_to_read_on() {
        let mut details = ErrorDetails::new();
        details.set_error_info("CURSOR_EXPIRED", "cim-gateway", [("oldest_cursor".into(), "k7".into())]);
        let status = Status::with_error_details(Code::OutOfRange, "the cursor is older than what is kept", details);
        let expected =
            "OUT_OF_RANGE (CURSOR_EXPIRED): the cursor is older than what is kept; the oldest that can be read is at --from k7";
        assert_eq!(lines(&status), [expected]);
    }

    #[test]
    fn an_error_without_details_is_a_sentence() {
        assert_eq!(lines(&Status::unavailable("the gateway shuts down")), ["UNAVAILABLE: the gateway shuts down"]);
    }
}
