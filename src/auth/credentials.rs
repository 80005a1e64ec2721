//! The key that a call shows.

use crate::error::Error;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::AUTHORIZATION;

/// The key of `Authorization: Bearer KEY`, or the password of `Authorization: Basic`, which is what clients that can be given no more
/// than a URL make of `https://NAME:KEY@HOST`. The name counts for nothing.
pub(super) fn key(headers: &HeaderMap) -> Result<String, Error> {
    let wrong = |problem| Error::Unauthenticated { problem };
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next().ok_or(wrong("the call needs an API key, as Authorization: Bearer KEY"))?;
    if values.next().is_some() {
        return Err(wrong("the header Authorization may stand once only"));
    }
    let unreadable = wrong("the header Authorization needs Bearer and an API key, or Basic and an API key as the password");
    let (scheme, rest) = value.to_str().ok().and_then(|text| text.split_once(' ')).ok_or_else(|| unreadable.clone())?;
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Ok(rest.to_owned());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return Err(unreadable);
    }
    let decoded = STANDARD.decode(rest).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    decoded.as_deref().and_then(|text| text.split_once(':')).map(|(_, key)| key.to_owned()).ok_or(unreadable)
}
