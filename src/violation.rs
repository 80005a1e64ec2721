//! Broken rules of a message or a channel: where, which, and what was needed and found.

use std::fmt;

/// Most violations that are reported for one message. A message that breaks more is wrong enough.
pub const MOST_REPORTED: usize = 100;

/// One broken rule of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Path in the documented JSON, such as `header.sender.senderName`; empty for the message as a whole.
    pub path: String,
    /// Which rule.
    pub reason: Reason,
    /// What was needed and what was found, as a sentence without a full stop.
    pub message: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            write!(f, "{} ({})", self.message, self.reason)
        } else {
            write!(f, "{}: {} ({})", self.path, self.message, self.reason)
        }
    }
}

/// Which rule a violation breaks: the machine-readable side of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// A required value is missing or empty.
    Required,
    /// A JSON value of another type was needed.
    WrongType,
    /// The name is none of a closed set.
    UnknownName,
    /// The enum number is none that the model knows.
    UnknownNumber,
    /// The number has a fraction where an integer is needed.
    NotAnInteger,
    /// The value lies outside its bounds.
    OutOfRange,
    /// The text is no time that can be read, or no time that exists.
    NotATime,
    /// The number is NaN or infinite.
    NotFinite,
    /// The text is no number of RFC 8259.
    NotANumber,
    /// The text is longer than its bound.
    TooLong,
    /// The list is longer than its bound.
    TooMany,
    /// Free-form JSON is nested deeper than its bound.
    TooDeep,
    /// The message is larger than its bound.
    TooLarge,
    /// A key or type that the model names stands where only unnamed ones may.
    Modelled,
    /// Two fields contradict each other.
    Contradiction,
    /// The session, conversation and channel named do not belong together.
    ConflictingRoute,
    /// The session or conversation is unknown, and nothing else says where the message belongs.
    UnknownRoute,
    /// No channel is registered under the service identifier, and channels have to be.
    UnknownChannel,
    /// The model has no such key here.
    UnknownKey,
    /// The text is no URI that the gateway may call.
    NotAUri,
    /// The text is no signing secret.
    NotASecret,
    /// The same stands elsewhere already.
    Duplicate,
    /// What is there cannot be changed.
    Immutable,
}

impl Reason {
    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Required => "REQUIRED",
            Self::WrongType => "WRONG_TYPE",
            Self::UnknownName => "UNKNOWN_NAME",
            Self::UnknownNumber => "UNKNOWN_NUMBER",
            Self::NotAnInteger => "NOT_AN_INTEGER",
            Self::OutOfRange => "OUT_OF_RANGE",
            Self::NotATime => "NOT_A_TIME",
            Self::NotFinite => "NOT_FINITE",
            Self::NotANumber => "NOT_A_NUMBER",
            Self::TooLong => "TOO_LONG",
            Self::TooMany => "TOO_MANY",
            Self::TooDeep => "TOO_DEEP",
            Self::TooLarge => "TOO_LARGE",
            Self::Modelled => "MODELLED",
            Self::Contradiction => "CONTRADICTION",
            Self::ConflictingRoute => "CONFLICTING_ROUTE",
            Self::UnknownRoute => "UNKNOWN_ROUTE",
            Self::UnknownChannel => "UNKNOWN_CHANNEL",
            Self::UnknownKey => "UNKNOWN_KEY",
            Self::NotAUri => "NOT_A_URI",
            Self::NotASecret => "NOT_A_SECRET",
            Self::Duplicate => "DUPLICATE",
            Self::Immutable => "IMMUTABLE",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The violations found so far, in the order found, [`MOST_REPORTED`] at most.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Violations {
    found: Vec<Violation>,
}

impl Violations {
    /// Records that the value at `path` breaks a rule.
    pub fn add(&mut self, path: impl fmt::Display, reason: Reason, message: impl Into<String>) {
        if self.found.len() < MOST_REPORTED {
            self.found.push(Violation { path: path.to_string(), reason, message: message.into() });
        }
    }

    /// Appends what another pass found, except at places that are already known to be wrong or lie inside one: a value that
    /// could not be read is not also reported as missing.
    pub fn follow_up(&mut self, later: Self) {
        let known = self.found.len();
        for violation in later.found {
            let explained = self.found[..known].iter().any(|earlier| covers(&earlier.path, &violation.path));
            if !explained && self.found.len() < MOST_REPORTED {
                self.found.push(violation);
            }
        }
    }

    /// Which rules are broken where, without what was found: that may be content, which is for the client and not for the log.
    pub fn rules(&self) -> String {
        let rules = self.found.iter().map(|Violation { path, reason, .. }| format!("{path} {reason}").trim_start().to_owned());
        rules.collect::<Vec<_>>().join(", ")
    }

    /// True if no rule is broken.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// The violations, in the order found.
    pub fn as_slice(&self) -> &[Violation] {
        &self.found
    }

    /// The violations, in the order found.
    pub fn into_vec(self) -> Vec<Violation> {
        self.found
    }
}

/// True if `inner` is the place `outer` or lies inside it.
fn covers(outer: &str, inner: &str) -> bool {
    inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_could_not_be_read_is_not_also_missing() {
        let mut violations = Violations::default();
        violations.add("header.sender", Reason::WrongType, "needs an object, found a list");
        let mut later = Violations::default();
        later.add("header.sender.id", Reason::Required, "is required");
        later.add("header.senderName", Reason::Required, "is required");
        violations.follow_up(later);
        let paths: Vec<_> = violations.as_slice().iter().map(|v| v.path.as_str()).collect();
        assert_eq!(paths, ["header.sender", "header.senderName"]);
    }

    #[test]
    fn no_more_are_reported_than_the_bound() {
        let mut violations = Violations::default();
        for i in 0..MOST_REPORTED + 7 {
            violations.add(format_args!("body.buttons[{i}]"), Reason::Required, "is required");
        }
        assert_eq!(violations.as_slice().len(), MOST_REPORTED);
    }
}
