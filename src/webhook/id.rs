//! The id of a delivery as its receiver sees it.

use hyper::header::HeaderValue;
use std::fmt;

/// Longest id, in bytes.
const LONGEST: usize = 256;

/// What `webhook-id` carries: equal over all attempts of a delivery, so that its receiver can tell a repeat.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Id(String);

impl Id {
    /// Takes 1 to 256 visible ASCII characters but `.`, which separates the id from what is signed with it.
    pub fn new(text: impl Into<String>) -> Result<Self, NotAnId> {
        let text = text.into();
        let fits = (1..=LONGEST).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic() && b != b'.');
        if fits { Ok(Self(text)) } else { Err(NotAnId) }
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn to_header(&self) -> HeaderValue {
        HeaderValue::from_str(&self.0).expect("visible ASCII is a header's value")
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text that cannot be the id of a webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("needs 1 to {LONGEST} visible ASCII characters, none of them a full stop")]
pub struct NotAnId;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_visible_ascii_without_a_full_stop() {
        for text in ["x", "6f9619ff-8b86-d011-b42d-00c04fc964ff", "msg_1:2/3", &"x".repeat(256)] {
            assert_eq!(Id::new(text).unwrap().as_str(), text);
        }
        for text in ["", "a.b", "a b", "a\nb", "a\u{7f}", "ä", &"x".repeat(257)] {
            assert_eq!(Id::new(text), Err(NotAnId), "{text:?}");
        }
    }
}
