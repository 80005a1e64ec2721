//! Numbers of the documented JSON: literals to integers and doubles and back, without losing a digit unnoticed.

use std::borrow::Cow;

/// A decimal number as written: `digits` without leading and trailing zeros, the last of them worth 10^`exponent`.
/// Zero has no digits.
#[derive(Debug, PartialEq, Eq)]
struct Decimal<'a> {
    negative: bool,
    digits: Cow<'a, str>,
    exponent: i64,
}

/// Splits `text` by the number grammar of RFC 8259, but lets a leading `+` and leading zeros pass, as clients send them in strings.
fn decimal(text: &str) -> Option<Decimal<'_>> {
    let (negative, unsigned) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (mantissa, exponent) = match unsigned.find(['e', 'E']) {
        Some(e) => (&unsigned[..e], power(&unsigned[e + 1..])?),
        None => (unsigned, 0),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((_, "")) => return None,
        Some(parts) => parts,
        None => (mantissa, ""),
    };
    if whole.is_empty() || !whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let digits = if fraction.is_empty() { Cow::Borrowed(whole) } else { Cow::Owned(format!("{whole}{fraction}")) };
    let kept = digits.trim_end_matches('0').len();
    let start = digits.len() - digits.trim_start_matches('0').len();
    if start >= kept {
        return Some(Decimal { negative, digits: "".into(), exponent: 0 });
    }
    let exponent = exponent.saturating_sub(fraction.len() as i64).saturating_add((digits.len() - kept) as i64);
    let digits = match digits {
        Cow::Borrowed(digits) => Cow::Borrowed(&digits[start..kept]),
        Cow::Owned(digits) => Cow::Owned(digits[start..kept].to_owned()),
    };
    Some(Decimal { negative, digits, exponent })
}

/// The power of ten after `e`. One that no `i64` holds is as good as the largest: no number within reach differs.
fn power(text: &str) -> Option<i64> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let size = digits.parse().unwrap_or(i64::MAX / 4).min(i64::MAX / 4);
    Some(if text.starts_with('-') { -size } else { size })
}

/// Why a text is no integer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoInteger {
    /// It is no number at all.
    NotANumber,
    /// It has a fraction.
    Fraction,
    /// It is beyond 64 bits.
    TooLarge,
}

/// The integer that `text` is exactly, however it is written: `7`, `7.0`, `1.5e3`.
pub(super) fn integer(text: &str) -> Result<i64, NoInteger> {
    if let Ok(integer) = text.parse() {
        return Ok(integer);
    }
    let Decimal { negative, digits, exponent } = decimal(text).ok_or(NoInteger::NotANumber)?;
    if digits.is_empty() {
        return Ok(0);
    }
    if exponent < 0 {
        return Err(NoInteger::Fraction);
    }
    let scale = u32::try_from(exponent).ok().and_then(|exponent| 10_i128.checked_pow(exponent));
    let size = digits.parse::<i128>().ok().zip(scale).and_then(|(digits, scale)| digits.checked_mul(scale));
    let value = size.map(|size| if negative { -size } else { size });
    value.and_then(|value| i64::try_from(value).ok()).ok_or(NoInteger::TooLarge)
}

/// True if `text` is a number as clients send them in strings.
pub(super) fn is_number(text: &str) -> bool {
    decimal(text).is_some()
}

/// True if `literal` is a number by the grammar of RFC 8259.
pub(super) fn is_literal(literal: &str) -> bool {
    let unsigned = literal.strip_prefix('-').unwrap_or(literal);
    let whole = unsigned.find(['.', 'e', 'E']).map_or(unsigned, |end| &unsigned[..end]);
    let plain = !literal.starts_with('+') && (whole == "0" || !whole.starts_with('0'));
    plain && decimal(literal).is_some()
}

/// The finite double nearest to a literal; beyond the double range, the largest of its sign. `-0` is 0, as in every integer.
pub(super) fn nearest_double(literal: &str) -> f64 {
    if literal == "-0" {
        return 0.0;
    }
    literal.parse::<f64>().map_or(0.0, |value| value.clamp(f64::MIN, f64::MAX))
}

/// True if `literal` says exactly what the shortest text of its nearest double says.
pub(super) fn is_exact(literal: &str, double: f64) -> bool {
    // Integers of up to 15 digits fit a double, and most numbers are such.
    if literal.len() <= 15 && literal.bytes().all(|byte| byte.is_ascii_digit()) {
        return true;
    }
    let mut text = Vec::with_capacity(24);
    write_double(&mut text, double);
    let Ok(text) = str::from_utf8(&text) else { return false };
    if text == literal {
        return true;
    }
    match (decimal(literal), decimal(text)) {
        (Some(a), Some(b)) => {
            a.digits == b.digits && (a.digits.is_empty() || (a.exponent == b.exponent && a.negative == b.negative))
        }
        _ => false,
    }
}

/// Writes a finite double as free-form JSON has it: integral ones without fraction or exponent, others in the shortest text that
/// reads back to the same double. `-0.0` stays what it is.
pub(super) fn write_double(out: &mut Vec<u8>, value: f64) {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if value == 0.0 {
        out.extend_from_slice(if value.is_sign_negative() { b"-0.0" } else { b"0" });
    } else if value.abs() < EXACT && value.fract() == 0.0 {
        write_integer(out, value as i64);
    } else if value.fract() == 0.0 {
        // Display pads the shortest digits with zeros and has no exponent.
        out.extend_from_slice(value.to_string().as_bytes());
    } else {
        out.extend_from_slice(zmij::Buffer::new().format_finite(value).as_bytes());
    }
}

/// Writes a finite double so that it shows that it is one: always with a fraction.
pub(super) fn write_fraction(out: &mut Vec<u8>, value: f64) {
    let mut buffer = zmij::Buffer::new();
    let text = buffer.format_finite(value);
    match text.split_once('e') {
        Some((mantissa, exponent)) if !mantissa.contains('.') => {
            out.extend_from_slice(mantissa.as_bytes());
            out.extend_from_slice(b".0e");
            out.extend_from_slice(exponent.as_bytes());
        }
        _ => out.extend_from_slice(text.as_bytes()),
    }
}

/// Writes an integer.
pub(super) fn write_integer(out: &mut Vec<u8>, value: i64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(value: f64) -> String {
        let mut out = Vec::new();
        write_double(&mut out, value);
        String::from_utf8(out).expect("a number is ASCII")
    }

    #[test]
    fn integers_are_read_however_they_are_written() {
        for (text, integer_or) in [
            ("7", Ok(7)),
            ("7.0", Ok(7)),
            ("1.5e3", Ok(1500)),
            ("-120e-1", Ok(-12)),
            ("+7", Ok(7)),
            ("007", Ok(7)),
            ("0e99999999999999999999", Ok(0)),
            ("-0", Ok(0)),
            ("9223372036854775807", Ok(i64::MAX)),
            ("-9223372036854775808.00", Ok(i64::MIN)),
            ("9223372036854775808", Err(NoInteger::TooLarge)),
            ("1e99999999999999999999", Err(NoInteger::TooLarge)),
            ("1.99", Err(NoInteger::Fraction)),
            ("1e-1", Err(NoInteger::Fraction)),
            ("seven", Err(NoInteger::NotANumber)),
            ("7.", Err(NoInteger::NotANumber)),
            (".5", Err(NoInteger::NotANumber)),
            ("1e", Err(NoInteger::NotANumber)),
            ("", Err(NoInteger::NotANumber)),
            ("-", Err(NoInteger::NotANumber)),
        ] {
            assert_eq!(integer(text), integer_or, "{text:?}");
        }
    }

    #[test]
    fn free_form_numbers_are_written_short_and_without_needless_fractions() {
        for (value, text) in [
            (1.0, "1"),
            (-7.0, "-7"),
            (0.0, "0"),
            (-0.0, "-0.0"),
            (1.5, "1.5"),
            (1e21, "1000000000000000000000"),
            (9_007_199_254_740_992.0, "9007199254740992"),
            (5e-324, "5e-324"),
            (0.1, "0.1"),
        ] {
            assert_eq!(written(value), text);
        }
    }

    #[test]
    fn only_what_a_double_cannot_say_is_inexact() {
        for (literal, exact) in [
            ("1.0", true),
            ("10.00", true),
            ("1e2", true),
            ("1E+2", true),
            ("-0", true),
            ("-0.0", true),
            ("0.3333333333333333", true),
            ("0.3333333333333333333", false),
            ("9007199254740992", true),
            ("9007199254740993", false),
            ("4.9e-324", false),
            ("5e-324", true),
            ("1e400", false),
            ("1e-400", false),
            ("123456789012345", true),
        ] {
            assert_eq!(is_exact(literal, nearest_double(literal)), exact, "{literal}");
        }
    }

    #[test]
    fn literals_follow_the_grammar_of_rfc_8259() {
        for literal in ["0", "-0", "0.5", "1e5", "1E-5", "-12.50e+3"] {
            assert!(is_literal(literal), "{literal}");
        }
        for literal in ["", "-", "+1", "01", "1.", ".5", "1e", "0x1", "NaN", "Infinity", "1 ", "-01"] {
            assert!(!is_literal(literal), "{literal}");
        }
    }

    proptest! {
        #[test]
        fn a_written_double_reads_back_to_the_same_bits(bits: u64) {
            let value = f64::from_bits(bits);
            prop_assume!(value.is_finite());
            let text = written(value);
            prop_assert_eq!(nearest_double(&text).to_bits(), value.to_bits());
            prop_assert!(is_literal(&text));
            prop_assert!(is_exact(&text, value));
            let mut fraction = Vec::new();
            write_fraction(&mut fraction, value);
            let fraction = String::from_utf8(fraction).expect("a number is ASCII");
            prop_assert_eq!(nearest_double(&fraction).to_bits(), value.to_bits());
            prop_assert!(fraction.contains('.') && is_literal(&fraction));
        }
    }
}
