//! Times of the documented JSON: epoch milliseconds, and the ISO 8601 forms that some clients send.

use prost_types::Timestamp;
use std::time::SystemTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use time::{Date, Month, OffsetDateTime, PrimitiveDateTime, Time, UtcOffset};

/// The first and the last second that a `google.protobuf.Timestamp` may hold: the years 1 to 9999.
const SECONDS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;

const MILLISECONDS: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");

/// The present time, to the millisecond, as every time of the model.
pub fn now() -> Timestamp {
    from_millis(to_millis(&Timestamp::from(SystemTime::now())))
}

/// The time at `millis` since the epoch; any number of them.
pub fn from_millis(millis: i64) -> Timestamp {
    Timestamp { seconds: millis.div_euclid(1000), nanos: (millis.rem_euclid(1000) * 1_000_000) as i32 }
}

/// Milliseconds since the epoch, finer ones cut. A time beyond their 64 bits is the nearest within.
pub fn to_millis(time: &Timestamp) -> i64 {
    let millis = i128::from(time.seconds) * 1000 + i128::from(time.nanos.div_euclid(1_000_000));
    millis.clamp(i64::MIN.into(), i64::MAX.into()) as i64
}

/// The time as RFC 3339, in UTC and to the millisecond. One that is not well-formed is that of the epoch.
pub fn to_rfc3339(time: &Timestamp) -> String {
    let nanos = i128::from(to_millis(time)) * 1_000_000;
    let time = OffsetDateTime::from_unix_timestamp_nanos(nanos).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    time.format(MILLISECONDS).unwrap_or_default()
}

/// True if `time` is well-formed and lies in the years 1 to 9999.
pub(super) fn is_valid(time: &Timestamp) -> bool {
    SECONDS.contains(&time.seconds) && (0..1_000_000_000).contains(&time.nanos)
}

/// Milliseconds since the epoch of an ISO 8601 text: a date, then optionally `T`, a time with or without seconds and fraction, and
/// `Z`, `±hh:mm`, `±hhmm`, `±hh` or nothing for UTC. None for any other form and for a time that does not exist.
pub fn parse_iso(text: &str) -> Option<i64> {
    let mut rest = text.as_bytes();
    let year = i32::try_from(digits(&mut rest, 4)?).ok()?;
    literal(&mut rest, b'-')?;
    let month = Month::try_from(u8::try_from(digits(&mut rest, 2)?).ok()?).ok()?;
    literal(&mut rest, b'-')?;
    let date = Date::from_calendar_date(year, month, digits(&mut rest, 2)? as u8).ok()?;
    if rest.is_empty() {
        return Some(millis(PrimitiveDateTime::new(date, Time::MIDNIGHT), UtcOffset::UTC));
    }
    literal(&mut rest, b'T')?;
    let hour = digits(&mut rest, 2)? as u8;
    literal(&mut rest, b':')?;
    let minute = digits(&mut rest, 2)? as u8;
    let (mut second, mut milli) = (0, 0);
    if literal(&mut rest, b':').is_some() {
        second = digits(&mut rest, 2)? as u8;
        if literal(&mut rest, b'.').is_some() {
            milli = fraction(&mut rest)?;
        }
    }
    let time = Time::from_hms_milli(hour, minute, second, milli).ok()?;
    let offset = offset(&mut rest)?;
    rest.is_empty().then(|| millis(PrimitiveDateTime::new(date, time), offset))
}

fn millis(local: PrimitiveDateTime, offset: UtcOffset) -> i64 {
    let utc = local.assume_utc();
    utc.unix_timestamp() * 1000 + i64::from(utc.millisecond()) - i64::from(offset.whole_seconds()) * 1000
}

/// Exactly `count` decimal digits.
fn digits(rest: &mut &[u8], count: usize) -> Option<u32> {
    let (number, after) = rest.split_at_checked(count)?;
    let value = number.iter().try_fold(0, |value, byte| byte.is_ascii_digit().then(|| value * 10 + u32::from(byte - b'0')))?;
    *rest = after;
    Some(value)
}

fn literal(rest: &mut &[u8], byte: u8) -> Option<()> {
    *rest = rest.strip_prefix(&[byte])?;
    Some(())
}

/// One or more digits of a fraction, of which the first three count.
fn fraction(rest: &mut &[u8]) -> Option<u16> {
    let length = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (number, after) = rest.split_at(length);
    *rest = after;
    let counted = number.iter().chain(b"00").take(3);
    (length > 0).then(|| counted.fold(0, |value, byte| value * 10 + u16::from(byte - b'0')))
}

fn offset(rest: &mut &[u8]) -> Option<UtcOffset> {
    let sign = match rest.first() {
        None => return Some(UtcOffset::UTC),
        Some(b'Z') => {
            *rest = &rest[1..];
            return Some(UtcOffset::UTC);
        }
        Some(b'+') => 1,
        Some(b'-') => -1,
        Some(_) => return None,
    };
    *rest = &rest[1..];
    let hours = digits(rest, 2)? as i8;
    let minutes = if rest.is_empty() {
        0
    } else {
        let _colon = literal(rest, b':');
        digits(rest, 2)? as i8
    };
    if hours > 23 || minutes > 59 {
        return None;
    }
    UtcOffset::from_hms(sign * hours, sign * minutes, 0).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_iso_form_that_clients_send_is_read() {
        for (text, millis) in [
            ("2023-02-23T11:17:33.951Z", 1_677_151_053_951),
            ("2023-02-23T11:17:33.951+00:00", 1_677_151_053_951),
            ("2023-02-23T16:17:33.951+05:00", 1_677_151_053_951),
            ("2023-02-23T16:17:33.951+0500", 1_677_151_053_951),
            ("2023-02-23T16:17:33.951+05", 1_677_151_053_951),
            ("2023-02-23T06:47:33.951-04:30", 1_677_151_053_951),
            ("2023-02-23T11:17:33.951", 1_677_151_053_951),
            ("2023-02-23T11:17:33.9Z", 1_677_151_053_900),
            ("2023-02-23T11:17:33.951999Z", 1_677_151_053_951),
            ("2023-02-23T11:17:33Z", 1_677_151_053_000),
            ("2023-02-23T11:17Z", 1_677_151_020_000),
            ("2023-02-23", 1_677_110_400_000),
            ("1969-12-31T23:59:59.999Z", -1),
            ("2024-02-29", 1_709_164_800_000),
        ] {
            assert_eq!(parse_iso(text), Some(millis), "{text}");
        }
    }

    #[test]
    fn other_forms_and_impossible_times_are_refused() {
        for text in [
            "2023-02-23 11:17:33",
            "Thu, 23 Feb 2023 11:17:33 GMT",
            "2023-02-29",
            "2023-13-01",
            "2023-02-23T24:00:00Z",
            "2023-02-23T11:60Z",
            "2023-02-23T11:17:60Z",
            "2023-02-23T11:17:33.Z",
            "2023-02-23T11:17:33+5",
            "2023-02-23T11:17:33+24:00",
            "2023-02-23T11:17:33+00:60",
            "2023-02-23T11:17:33Zx",
            "2023-02-23T",
            "2023-2-3",
            "today",
        ] {
            assert_eq!(parse_iso(text), None, "{text}");
        }
    }

    #[test]
    fn times_are_written_with_milliseconds_in_utc() {
        assert_eq!(to_rfc3339(&from_millis(1_677_151_053_950)), "2023-02-23T11:17:33.950Z");
        assert_eq!(to_rfc3339(&from_millis(0)), "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn the_first_and_the_last_millisecond_survive_the_round_trip() {
        for millis in [i64::MIN, i64::MIN + 1, i64::MAX - 1, i64::MAX] {
            assert_eq!(to_millis(&from_millis(millis)), millis);
        }
        assert_eq!(to_millis(&Timestamp { seconds: i64::MIN, nanos: 0 }), i64::MIN);
        assert_eq!(to_millis(&Timestamp { seconds: i64::MAX, nanos: 0 }), i64::MAX);
    }

    proptest! {
        #[test]
        fn milliseconds_survive_the_round_trip(millis: i64) {
            prop_assert_eq!(to_millis(&from_millis(millis)), millis);
        }
    }
}
