//! Times of acceptance: nanoseconds since 1970, never falling.

use prost_types::Timestamp;
use std::time::SystemTime;

/// Nanoseconds since 1970; a time beyond their 64 bits is the nearest within.
pub(crate) fn to_nanos(time: &Timestamp) -> i64 {
    let nanos = i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanos);
    nanos.clamp(i64::MIN.into(), i64::MAX.into()) as i64
}

/// The time of so many nanoseconds since 1970.
pub(crate) fn from_nanos(nanos: i64) -> Timestamp {
    Timestamp { seconds: nanos.div_euclid(1_000_000_000), nanos: nanos.rem_euclid(1_000_000_000) as i32 }
}

/// The present time, but never before `latest`: the system's clock may be set back, the log's may not.
pub(crate) fn now_after(latest: i64) -> i64 {
    to_nanos(&Timestamp::from(SystemTime::now())).max(latest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn nanoseconds_survive_the_round_trip(nanos: i64) {
            prop_assert_eq!(to_nanos(&from_nanos(nanos)), nanos);
        }
    }

    #[test]
    fn the_time_never_falls() {
        assert_eq!(now_after(i64::MAX), i64::MAX);
        assert!(now_after(0) > 0);
    }
}
