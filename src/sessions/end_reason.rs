//! Why a session ended, by the names that stand in notices and in the log.

use crate::pb::SessionEndReason;

/// Every reason there is.
pub const ALL: [SessionEndReason; 5] = [
    SessionEndReason::Customer,
    SessionEndReason::Inactivity,
    SessionEndReason::Network,
    SessionEndReason::Agent,
    SessionEndReason::ForceClosed,
];

/// The name of a reason: `FORCE_CLOSED`.
pub fn name(reason: SessionEndReason) -> &'static str {
    reason.as_str_name().trim_start_matches("SESSION_END_REASON_")
}

/// The reason of this name; unspecified for any other.
pub fn of(name: &str) -> SessionEndReason {
    ALL.into_iter().find(|reason| self::name(*reason) == name).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_found_by_its_name() {
        assert_eq!(ALL.map(name), ["CUSTOMER", "INACTIVITY", "NETWORK", "AGENT", "FORCE_CLOSED"]);
        assert_eq!(ALL.map(|reason| of(name(reason))), ALL);
        for other in ["", "WHIM", "UNSPECIFIED", "agent"] {
            assert_eq!(of(other), SessionEndReason::Unspecified);
        }
    }
}
