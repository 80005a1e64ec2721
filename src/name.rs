//! What people may call something that is told in paths and in the log: a subscription, the holder of a key.

use std::fmt;
use std::str::FromStr;

/// Most characters of a name.
const LENGTH: usize = 100;

/// A name: 1 to 100 ASCII letters, digits, dots, dashes and underscores, the first a letter or digit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name(String);

/// The text is no name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("needs 1 to {LENGTH} letters, digits, dots, dashes and underscores, the first a letter or digit")]
pub struct NotAName;

impl Name {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Name {
    type Err = NotAName;

    fn from_str(text: &str) -> Result<Self, NotAName> {
        let is_name = text.len() <= LENGTH
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        if is_name { Ok(Self(text.to_owned())) } else { Err(NotAName) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_can_stand_in_a_path_and_in_a_log_as_it_is() {
        let longest = "x".repeat(100);
        for name in ["a", "0", "whatsapp-connector", "Desk_2.eu", longest.as_str()] {
            assert_eq!(name.parse::<Name>().map(|name| name.to_string()), Ok(name.to_owned()));
        }
        let too_long = "x".repeat(101);
        for text in ["", ".", "..", "-a", "_a", "a b", "a/b", "a%20", "\u{e4}", "a\n", "a:b", too_long.as_str()] {
            assert_eq!(text.parse::<Name>(), Err(NotAName), "{text:?}");
        }
    }
}
