//! What an attempt's outcome means.
//!
//! The classes follow from one question: whose fault is it? If the endpoint's, nothing else will get through either, so that all of
//! its lanes wait. If the message's, only what follows it in its lane waits, and not for ever.

use crate::webhook::{Answer, Failure};
use std::time::Duration;

/// What became of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The receiver has it.
    Delivered,
    /// The receiver has it, and will tell the outcome itself.
    Accepted,
    /// The endpoint cannot be used at the moment. It says nothing about the message.
    EndpointFailed {
        /// How long the receiver asks to be left alone.
        retry_after: Option<Duration>,
    },
    /// This message did not get through; another may.
    MessageFailed {
        /// How long the receiver asks to be left alone.
        retry_after: Option<Duration>,
    },
    /// The receiver will never take the message.
    Refused,
    /// The receiver says that it is gone for good: never this message, and perhaps no other.
    Gone,
    /// Nobody was called, and nobody will be: the message is not worth telling any more, or there is nobody to tell. It says nothing
    /// about the endpoint.
    NotCalled,
}

impl Verdict {
    /// The word for it.
    pub(super) const fn word(&self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Accepted => "accepted",
            Self::EndpointFailed { .. } => "endpoint_failed",
            Self::MessageFailed { .. } => "message_failed",
            Self::Refused => "refused",
            Self::Gone => "gone",
            Self::NotCalled => "not_called",
        }
    }

    /// What an answer or the lack of one means.
    pub(super) fn of(outcome: &Result<Answer, Failure>) -> Self {
        match outcome {
            Ok(answer) => Self::of_status(answer.status, answer.retry_after),
            Err(failure) => Self::of_failure(failure),
        }
    }

    fn of_status(status: u16, retry_after: Option<Duration>) -> Self {
        match status {
            202 => Self::Accepted,
            200..=299 => Self::Delivered,
            300..=399 | 401 | 403 | 404 | 405 | 407 | 429 | 502 | 503 | 504 => Self::EndpointFailed { retry_after },
            408 | 425 | 500..=599 => Self::MessageFailed { retry_after },
            410 => Self::Gone,
            400..=499 => Self::Refused,
            // No HTTP status that has a meaning.
            _ => Self::MessageFailed { retry_after },
        }
    }

    fn of_failure(failure: &Failure) -> Self {
        match failure {
            Failure::Refused(_)
            | Failure::Dns { .. }
            | Failure::Connect { .. }
            | Failure::Tls { .. }
            | Failure::ConnectTimeout { .. } => Self::EndpointFailed { retry_after: None },
            // It had begun to answer, and its status says what it did; the rest of the answer is lost.
            Failure::ResponseTimeout { status: Some(status), .. }
            | Failure::Reset { status: Some(status), .. }
            | Failure::TooLarge { status: Some(status), .. }
            | Failure::Malformed { status: Some(status), .. } => Self::of_status(*status, None),
            Failure::ResponseTimeout { .. } | Failure::Reset { .. } | Failure::TooLarge { .. } | Failure::Malformed { .. } => {
                Self::MessageFailed { retry_after: None }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(status: u16) -> Verdict {
        Verdict::of_status(status, None)
    }

    #[test]
    fn a_status_tells_whose_fault_it_is() {
        for status in [200, 201, 204, 206, 299] {
            assert_eq!(of(status), Verdict::Delivered, "{status}");
        }
        assert_eq!(of(202), Verdict::Accepted);
        for status in [300, 301, 302, 307, 308, 401, 403, 404, 405, 407, 429, 502, 503, 504] {
            assert_eq!(of(status), Verdict::EndpointFailed { retry_after: None }, "{status}");
        }
        for status in [408, 425, 500, 501, 505, 507, 599, 600, 999] {
            assert_eq!(of(status), Verdict::MessageFailed { retry_after: None }, "{status}");
        }
        for status in [400, 402, 406, 409, 411, 413, 414, 415, 418, 422, 431, 451, 499] {
            assert_eq!(of(status), Verdict::Refused, "{status}");
        }
        assert_eq!(of(410), Verdict::Gone);
    }

    #[test]
    fn what_the_receiver_cannot_have_got_is_the_endpoints_fault() {
        let cause = || "x".to_owned();
        let after = Duration::from_secs(1);
        for failure in [
            Failure::Dns { cause: cause() },
            Failure::Connect { cause: cause() },
            Failure::Tls { cause: cause() },
            Failure::ConnectTimeout { after },
        ] {
            assert_eq!(Verdict::of_failure(&failure), Verdict::EndpointFailed { retry_after: None }, "{failure}");
        }
        for failure in [
            Failure::ResponseTimeout { after, status: None },
            Failure::Reset { cause: cause(), status: None },
            Failure::Malformed { cause: cause(), status: None },
        ] {
            assert_eq!(Verdict::of_failure(&failure), Verdict::MessageFailed { retry_after: None }, "{failure}");
        }
    }

    #[test]
    fn an_answer_of_which_the_end_is_lost_counts_by_its_status() {
        let reset = |status| Failure::Reset { cause: "x".to_owned(), status: Some(status) };
        assert_eq!(Verdict::of_failure(&reset(200)), Verdict::Delivered);
        assert_eq!(Verdict::of_failure(&reset(202)), Verdict::Accepted);
        assert_eq!(Verdict::of_failure(&reset(400)), Verdict::Refused);
    }
}
