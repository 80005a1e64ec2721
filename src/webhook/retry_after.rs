//! How long a receiver asks to be left alone: the header `Retry-After` (RFC 9110, 10.2.3).

use hyper::header::HeaderValue;
use std::time::{Duration, SystemTime};

/// No receiver is left alone for longer, whatever it asks.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// Reads a number of seconds or a date, which is zero once it has passed; nothing for what is neither.
pub(super) fn parse(value: &HeaderValue, now: SystemTime) -> Option<Duration> {
    let text = value.to_str().ok()?.trim();
    let time = if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        text.parse().map_or(LONGEST, Duration::from_secs)
    } else {
        httpdate::parse_http_date(text).ok()?.duration_since(now).unwrap_or(Duration::ZERO)
    };
    Some(time.min(LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(value: &'static str) -> Option<u64> {
        // 1994-11-06T08:49:00Z
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_740);
        parse(&HeaderValue::from_static(value), now).map(|time| time.as_secs())
    }

    #[test]
    fn seconds_and_dates_in_all_their_forms_are_read() {
        assert_eq!(seconds("120"), Some(120));
        assert_eq!(seconds(" 0 "), Some(0));
        for date in ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"] {
            assert_eq!(seconds(date), Some(37), "{date}");
        }
        assert_eq!(seconds("Sun, 06 Nov 1994 08:48:59 GMT"), Some(0));
    }

    #[test]
    fn nobody_is_left_alone_for_more_than_a_day() {
        for long in ["86400", "86401", "99999999999999999999999", "Sat, 06 Nov 2094 08:49:37 GMT"] {
            assert_eq!(seconds(long), Some(86_400), "{long}");
        }
    }

    #[test]
    fn what_is_neither_is_as_if_it_was_not_there() {
        for other in ["", "-1", "1.5", "+5", "soon", "1994-11-06"] {
            assert_eq!(seconds(other), None, "{other}");
        }
    }
}
