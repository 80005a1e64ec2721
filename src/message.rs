//! Stands in for the rules on a message until they are merged.

use crate::{config, pb, violation::Violations};

/// Bounds of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes of an id.
    pub id: usize,
}

impl From<&config::Limits> for Limits {
    fn from(limits: &config::Limits) -> Self {
        Self { id: limits.id.as_usize() }
    }
}

/// Every rule that `message` breaks.
pub fn check(message: &pb::CimMessage, _limits: &Limits) -> Violations {
    let mut violations = Violations::default();
    if message.header.is_none() {
        violations.add("header", crate::violation::Reason::Required, "is required");
    }
    violations
}
