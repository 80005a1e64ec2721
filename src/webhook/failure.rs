//! What can go wrong with an attempt, told apart by what to do next.

use super::guard::Refused;
use std::error::Error;
use std::io;
use std::time::Duration;

/// Why there is no answer. After the first five the receiver has certainly not acted upon the request, of whose body it got nothing;
/// after the others it may have got all of it. `status` is there where an answer had begun: a receiver that said 200 has taken the
/// request, though the rest of its answer is lost.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// No address of the host is one that webhooks may go to.
    #[error("the address is refused: {0}")]
    Refused(Refused),
    /// The name of the host leads to no address.
    #[error("the name of the host cannot be resolved: {cause}")]
    Dns {
        /// What the system says.
        cause: String,
    },
    /// No connection could be made, or it ended before anything of the request was written.
    #[error("the receiver cannot be reached: {cause}")]
    Connect {
        /// What the system says.
        cause: String,
    },
    /// The two sides do not agree on TLS. A receiver that wants another certificate of ours may say so only after it has read the
    /// request, of which it then makes no use.
    #[error("TLS fails: {cause}")]
    Tls {
        /// What rustls says.
        cause: String,
    },
    /// The name was not looked up, the connection not made or TLS not agreed on in time.
    #[error("the receiver cannot be reached within {}", humantime::format_duration(*after))]
    ConnectTimeout {
        /// The time that there was.
        after: Duration,
    },
    /// The answer was not complete in time.
    #[error("the receiver did not answer within {}", humantime::format_duration(*after))]
    ResponseTimeout {
        /// The time that there was for the whole attempt.
        after: Duration,
        /// The status, where it came.
        status: Option<u16>,
    },
    /// The connection ended before the answer did.
    #[error("the connection broke before the answer was complete: {cause}")]
    Reset {
        /// What the system or the receiver says.
        cause: String,
        /// The status, where it came.
        status: Option<u16>,
    },
    /// The answer is larger than it may be. The rest of it was not read.
    #[error("the {part} of the answer is larger than {}", part.setting())]
    TooLarge {
        /// What of it.
        part: Part,
        /// The status, where it came.
        status: Option<u16>,
    },
    /// What came is no HTTP.
    #[error("the answer is not HTTP: {cause}")]
    Malformed {
        /// What is wrong with it.
        cause: String,
        /// The status, where it came.
        status: Option<u16>,
    },
}

/// A part of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The status line and the headers. Too large a head over HTTP/2 is [`Failure::Malformed`], as the protocol has it.
    Head,
    /// What follows.
    Body,
}

impl Part {
    const fn setting(self) -> &'static str {
        match self {
            Self::Head => "webhook.max_response_head or webhook.max_response_headers",
            Self::Body => "webhook.max_response",
        }
    }
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Head => "head",
            Self::Body => "body",
        })
    }
}

impl Failure {
    /// Finds out what an error of the HTTP client means: `written` tells whether the receiver may have got anything, `status` what it
    /// has answered so far.
    pub(super) fn of(error: &(dyn Error + 'static), written: bool, status: Option<u16>) -> Self {
        // Its last cause says it best; those before name the layers of the client.
        let cause = chain(error).last().unwrap_or(error).to_string();
        if let Some(known) = find::<Self>(error) {
            return known.clone();
        }
        if let Some(tls) = find::<rustls::Error>(error) {
            return Self::Tls { cause: tls.to_string() };
        }
        if let Some(http) = find::<hyper::Error>(error) {
            if http.is_parse_too_large() {
                return Self::TooLarge { part: Part::Head, status };
            }
            if http.is_parse() {
                return Self::Malformed { cause, status };
            }
        }
        if find::<h2::Error>(error).is_some_and(h2::Error::is_library) {
            return Self::Malformed { cause, status };
        }
        let is_unreadable = |e: &io::Error| matches!(e.kind(), io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput);
        if find::<io::Error>(error).is_some_and(is_unreadable) {
            // Before there is an answer, only TLS reads what it does not understand: HTTP/2 keeps no more of its error than the words.
            return if status.is_none() { Self::Tls { cause } } else { Self::Malformed { cause, status } };
        }
        if written { Self::Reset { cause, status } } else { Self::Connect { cause } }
    }
}

/// The error and its causes.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| cause(*error))
}

fn cause<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    // An `io::Error` passes for the error that it wraps, and names the cause of that one as its own.
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(wrapped) => Some(wrapped),
        None => error.source(),
    }
}

fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    chain(error).find_map(|error| error.downcast_ref())
}
