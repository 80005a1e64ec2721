//! `Prefer` (RFC 7240): how long a client wants to wait for the outcome of its message.

use crate::outcomes::{LONGEST_DELIVERY_WAIT, Patience};
use axum::http::{HeaderMap, HeaderName};
use std::time::Duration;

pub(super) const PREFER: HeaderName = HeaderName::from_static("prefer");

/// How long a client wants to wait: `respond-async` not at all, `wait=N` for so many seconds, as far as that is allowed. None if it
/// does not say; of several wishes the first counts. What is not understood is passed over, as the RFC has it.
pub(super) fn patience(headers: &HeaderMap) -> Option<Patience> {
    let values = headers.get_all(PREFER).into_iter().filter_map(|value| value.to_str().ok());
    let mut wishes = values.flat_map(|value| value.split(',')).filter_map(wish);
    wishes.next().map(Patience::asked)
}

fn wish(preference: &str) -> Option<Duration> {
    let preference = preference.split(';').next().unwrap_or_default().trim();
    if preference.eq_ignore_ascii_case("respond-async") {
        return Some(Duration::ZERO);
    }
    let (name, value) = preference.split_once('=')?;
    let seconds = value.trim().trim_matches('"').parse::<u32>().ok().filter(|_| name.trim().eq_ignore_ascii_case("wait"))?;
    Some(Duration::from_secs(seconds.into()).min(LONGEST_DELIVERY_WAIT))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(values: &[&'static str]) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(PREFER, value.parse().expect("is a header"));
        }
        patience(&headers).map(|patience| patience.time)
    }

    #[test]
    fn a_wish_is_read_wherever_it_stands() {
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        for (values, patience) in [
            (&["wait=5"][..], seconds(5)),
            (&["Wait = \"5\""], seconds(5)),
            (&["return=minimal, wait=7; foo=bar"], seconds(7)),
            (&["return=minimal", "wait=0"], seconds(0)),
            (&["respond-async"], seconds(0)),
            (&["respond-async, wait=5"], seconds(0)),
            (&["wait=9999"], seconds(30)),
            (&[], None),
            (&["return=representation"], None),
            (&["wait"], None),
            (&["wait=soon"], None),
            (&["wait=-1"], None),
            (&[",;=,"], None),
        ] {
            assert_eq!(asked(values), patience, "{values:?}");
        }
    }
}
