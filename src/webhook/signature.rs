//! Signatures as Standard Webhooks 1.0.0 has them: HMAC-SHA256 over `{id}.{timestamp}.{body}`, one for each secret, so that a
//! receiver can be given a new secret while the old one still counts.

use super::Id;
use base64::Engine;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::fmt;
use std::ops::RangeInclusive;

/// What a secret as text begins with.
const PREFIX: &str = "whsec_";

/// Bytes of a secret.
const LENGTH: RangeInclusive<usize> = 24..=64;

/// Secrets come with and without the padding of base64.
const SECRETS: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A secret that a receiver shares with the gateway. It is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Reads `whsec_` and 24 to 64 bytes in base64. The error does not repeat the text.
    pub fn parse(text: &str) -> Result<Self, NotASecret> {
        let encoded = text.strip_prefix(PREFIX).ok_or(NotASecret::Prefix)?;
        let bytes = SECRETS.decode(encoded).map_err(|_| NotASecret::Base64)?;
        if LENGTH.contains(&bytes.len()) { Ok(Self(bytes)) } else { Err(NotASecret::Length(bytes.len())) }
    }

    fn sign(&self, id: &Id, timestamp: u64, body: &[u8]) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes a key of any length");
        mac.update(format!("{id}.{timestamp}.").as_bytes());
        mac.update(body);
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// The value of `webhook-signature`: one signature for each secret, in their order, with a space between. `timestamp` is in seconds
/// since 1970 and has to be the value of `webhook-timestamp`. Without secrets it is empty.
pub fn sign(secrets: &[Secret], id: &Id, timestamp: u64, body: &[u8]) -> String {
    secrets.iter().map(|secret| secret.sign(id, timestamp, body)).collect::<Vec<_>>().join(" ")
}

/// Why a text is no secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotASecret {
    /// It begins otherwise.
    #[error("needs {PREFIX} before its base64")]
    Prefix,
    /// What follows the prefix is no base64.
    #[error("needs base64 after {PREFIX}")]
    Base64,
    /// It has too few or too many bytes.
    #[error("needs {least} to {most} bytes in base64, got {0}", least = LENGTH.start(), most = LENGTH.end())]
    Length(usize),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret_of(length: usize) -> String {
        format!("{PREFIX}{}", STANDARD.encode(vec![7; length]))
    }

    /// The example of the specification's reference libraries.
    #[test]
    fn what_is_signed_is_what_the_specification_signs() {
        let secret = Secret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let id = Id::new("msg_p5jXN8AQM9LWM0D4loKWxJek").unwrap();
        let signature = sign(&[secret], &id, 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn each_secret_signs_in_its_turn() {
        let [a, b] = [24, 64].map(|length| Secret::parse(&secret_of(length)).unwrap());
        let id = Id::new("x").unwrap();
        let [of_a, of_b] = [&a, &b].map(|secret| sign(std::slice::from_ref(secret), &id, 1, b"{}"));
        assert_ne!(of_a, of_b);
        assert_eq!(sign(&[a, b], &id, 1, b"{}"), format!("{of_a} {of_b}"));
        assert_eq!(sign(&[], &id, 1, b"{}"), "");
    }

    #[test]
    fn id_time_and_body_are_all_signed() {
        let secret = [Secret::parse(&secret_of(32)).unwrap()];
        let [x, y] = ["x", "y"].map(|id| Id::new(id).unwrap());
        let signature = sign(&secret, &x, 1, b"{}");
        for other in [sign(&secret, &y, 1, b"{}"), sign(&secret, &x, 2, b"{}"), sign(&secret, &x, 1, b"{ }")] {
            assert_ne!(other, signature);
        }
    }

    #[test]
    fn a_secret_has_its_prefix_and_24_to_64_bytes() {
        for length in [24, 25, 26, 64] {
            let padded = secret_of(length);
            assert_eq!(Secret::parse(&padded), Secret::parse(padded.trim_end_matches('=')));
            assert_eq!(Secret::parse(&padded).unwrap().0.len(), length);
        }
        for length in [0, 23, 65] {
            assert_eq!(Secret::parse(&secret_of(length)), Err(NotASecret::Length(length)));
        }
        assert_eq!(Secret::parse("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), Err(NotASecret::Prefix));
        assert_eq!(Secret::parse("whsec_!!!!"), Err(NotASecret::Base64));
    }

    #[test]
    fn nothing_shows_a_secret() {
        let text = secret_of(24);
        let encoded = text.strip_prefix(PREFIX).unwrap();
        let shown = format!("{:?}", Secret::parse(&text).unwrap());
        assert_eq!(shown, "Secret(..)");
        for broken in [encoded.to_owned(), format!("{text}!"), format!("{text}{encoded}{encoded}")] {
            let error = Secret::parse(&broken).unwrap_err();
            assert!(!format!("{error} {error:?}").contains(encoded), "{error}");
        }
    }
}
