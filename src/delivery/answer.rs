//! What a receiver's answer says beyond its status.

use crate::pb::DeliveryStatus;
use crate::wire::{Document, Json, Node};
use std::borrow::Cow;

/// Deepest JSON of receivers that is read: what any gateway may be set to accept.
pub(super) const DEPTH: usize = 128;

/// What an answer reports of the message that it answers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Report {
    /// What became of it, if the answer is a delivery notification.
    pub(super) status: Option<DeliveryStatus>,
    /// Why.
    pub(super) reason_code: Option<String>,
    /// More about it.
    pub(super) text: Option<String>,
    /// What the provider of the channel calls the message.
    pub(super) provider_id: Option<String>,
}

/// Most bytes of a provider's id.
const LONGEST_ID: usize = 256;

impl Report {
    /// Reads a delivery notification, bare or as a whole message. Anything else reports nothing: receivers answer what they like.
    pub(super) fn read(body: &[u8]) -> Self {
        // Most receivers say no more than their status; what is wrong with nothing need not be worked out.
        if body.is_empty() {
            return Self::default();
        }
        let Ok(answer) = Document::parse(body, DEPTH) else { return Self::default() };
        let answer = answer.root();
        let provider_id = answer.member("header").and_then(|header| header.member("providerMessageId")).and_then(Node::text);
        let body = answer.member("body").filter(|body| matches!(body.json(), Json::Object(_))).unwrap_or(answer);
        if body.member("type").and_then(Node::text).as_deref() != Some("DELIVERYNOTIFICATION") {
            return Self::default();
        }
        let status = body.member("status").and_then(Node::text).and_then(|name| status(&name));
        let text = |key| match body.member(key)?.json() {
            Json::Text(text) if !text.is_empty() => Some(text.into_owned()),
            Json::Number(literal) => Some(literal.to_owned()),
            _ => None,
        };
        let provider_id = provider_id.filter(|id| !id.is_empty() && id.len() <= LONGEST_ID).map(Cow::into_owned);
        Self { status, reason_code: text("reasonCode"), text: text("markdownText"), provider_id }
    }

    /// True if it says that the message has failed, whatever the HTTP status was.
    pub(super) fn failed(&self) -> bool {
        self.status == Some(DeliveryStatus::Failed)
    }
}

fn status(name: &str) -> Option<DeliveryStatus> {
    DeliveryStatus::from_str_name(&format!("DELIVERY_STATUS_{}", name.to_ascii_uppercase()))
        .filter(|status| *status != DeliveryStatus::Unspecified)
}

/// The beginning of an answer, for people to read: at most `most` bytes, without what does not print.
pub(super) fn excerpt(body: &[u8], most: usize) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(most)]);
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read(answer: &Value) -> Report {
        Report::read(answer.to_string().as_bytes())
    }

    #[test]
    fn a_delivery_notification_is_read_bare_or_as_a_message() {
        let bare = json!({ "type": "DELIVERYNOTIFICATION", "status": "failed", "reasonCode": 131_026, "markdownText": "no such number" });
        let report = Report {
            status: Some(DeliveryStatus::Failed),
            reason_code: Some("131026".into()),
            text: Some("no such number".into()),
            provider_id: None,
        };
        assert_eq!(read(&bare), report);
        assert_eq!(read(&json!({ "id": "x", "header": {}, "body": bare })), report);
        let of_provider = json!({ "header": { "providerMessageId": "wamid.1" }, "body": bare });
        assert_eq!(read(&of_provider), Report { provider_id: Some("wamid.1".into()), ..report.clone() });
        let too_long = json!({ "header": { "providerMessageId": "x".repeat(257) }, "body": bare });
        assert_eq!(read(&too_long), report);
        assert!(report.failed());
    }

    #[test]
    fn a_number_that_no_double_has_and_half_a_character_hide_no_report() {
        for odd in ["1e400", r#""\ud83d""#] {
            let answer = format!(r#"{{"odd":{odd},"body":{{"type":"DELIVERYNOTIFICATION","status":"FAILED","odd":{odd}}}}}"#);
            assert!(Report::read(answer.as_bytes()).failed(), "{odd}");
        }
    }

    #[test]
    fn anything_else_reports_nothing() {
        for body in [&b""[..], b"OK", b"{}", b"[]", b"null", b"\xff", br#"{"status":"FAILED"}"#, br#"{"body":{"type":"PLAIN"}}"#]
        {
            assert_eq!(Report::read(body), Report::default());
        }
        let odd = json!({ "type": "DELIVERYNOTIFICATION", "status": 7, "reasonCode": {}, "markdownText": "" });
        assert_eq!(read(&odd), Report::default());
    }

    #[test]
    fn an_excerpt_is_short_and_prints() {
        assert_eq!(excerpt(b"a\r\nb\x00c", 100), "a  b c");
        assert_eq!(excerpt("ää".as_bytes(), 3), "ä\u{fffd}");
        assert_eq!(excerpt(b"abc", 0), "");
    }
}
