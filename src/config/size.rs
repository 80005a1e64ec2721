//! A number of bytes, written with its unit.

use serde::{Serialize, Serializer};
use std::{fmt, str::FromStr};

/// A number of bytes. Displayed in the largest unit that says it exactly: `1 MiB`, `1536 KiB`, `300 B`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size(u64);

const UNITS: [(&str, u64); 5] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

impl Size {
    /// `n` bytes.
    pub const fn bytes(n: u64) -> Self {
        Self(n)
    }

    /// `n` KiB.
    pub const fn kib(n: u64) -> Self {
        Self(n << 10)
    }

    /// `n` MiB.
    pub const fn mib(n: u64) -> Self {
        Self(n << 20)
    }

    /// `n` TiB.
    pub const fn tib(n: u64) -> Self {
        Self(n << 40)
    }

    /// The number of bytes.
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// The number of bytes, or the most that fits.
    pub fn as_u32(self) -> u32 {
        u32::try_from(self.0).unwrap_or(u32::MAX)
    }

    /// The number of bytes, or the most that fits.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = UNITS.iter().find(|(_, bytes)| self.0 >= *bytes && self.0.is_multiple_of(*bytes));
        let (unit, bytes) = exact.unwrap_or(&("B", 1));
        write!(f, "{} {unit}", self.0 / bytes)
    }
}

impl FromStr for Size {
    type Err = NotASize;

    /// Reads a whole number and a unit in any case, with or without a space between.
    fn from_str(text: &str) -> Result<Self, NotASize> {
        let text = text.trim();
        let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or(NotASize)?;
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().map_err(|_| NotASize)?;
        let (_, bytes) = UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit.trim_start())).ok_or(NotASize)?;
        number.checked_mul(*bytes).map(Self).ok_or(NotASize)
    }
}

/// A text that is no number of bytes with a unit, or more of them than 64 bits hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("needs a whole number and B, KiB, MiB, GiB or TiB")]
pub struct NotASize;

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_displayed_in_the_largest_unit_that_says_it_exactly() {
        let sizes = [Size::bytes(0), Size::bytes(300), Size::kib(16), Size::kib(1536), Size::mib(1024), Size::tib(1)];
        assert_eq!(sizes.map(|size| size.to_string()), ["0 B", "300 B", "16 KiB", "1536 KiB", "1 GiB", "1 TiB"]);
    }

    #[test]
    fn what_is_displayed_is_read_as_the_same_size() {
        for size in [Size::bytes(0), Size::bytes(1025), Size::kib(3), Size::mib(256), Size::tib(2), Size::bytes(u64::MAX)] {
            assert_eq!(size.to_string().parse(), Ok(size));
        }
    }

    #[test]
    fn a_size_is_read_in_any_case_and_without_the_space() {
        assert_eq!("2mib".parse(), Ok(Size::mib(2)));
        assert_eq!(" 2  KIB ".parse(), Ok(Size::kib(2)));
    }

    #[test]
    fn a_size_without_a_unit_a_number_or_within_64_bits_is_refused() {
        for text in ["1048576", "MiB", "", "-1 B", "1.5 MiB", "1 MB", "1 M", "1 MiB 2", "99999999 TiB", "99999999999999999999 B"]
        {
            assert_eq!(text.parse::<Size>(), Err(NotASize), "{text}");
        }
    }
}
