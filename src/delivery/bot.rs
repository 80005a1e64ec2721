//! The JSON of bot connectors: an envelope out, bodies back.
//!
//! ```text
//! { conversation, type: "message", message: TEXT, entities, metadata: CIM MESSAGE }
//! { conversation, type: "intent", message: NAME, entities: { channelSession }, metadata: null }
//! { intent: { name }, mode: "message" | "suggestion" | null, body: CIM BODY }, or a list of these
//! ```

use crate::pb;
use crate::pb::body::Kind;
use crate::violation::Violations;
use crate::{message, wire};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use prost_types::value;
use serde_json::{Value, json};

/// Deeper than any JSON that serde reads.
const DEPTH: usize = 256;

/// Most answers that are taken from one answer of a bot.
const MOST: usize = 64;

/// A message as bot connectors take it.
pub(super) fn envelope(message: &pb::CimMessage) -> Vec<u8> {
    let metadata: Value = serde_json::from_slice(&wire::encode(message)).unwrap_or_default();
    let header = &metadata["header"];
    let envelope = match notice(message) {
        Some(name) => json!({
            "conversation": header["conversationId"],
            "type": "intent",
            "message": name,
            "entities": { "channelSession": {
                "id": header["channelSessionId"],
                "conversationId": header["conversationId"],
                "channelData": header["channelData"],
                "customer": header["customer"],
            } },
            "metadata": null,
        }),
        None => json!({
            "conversation": header["conversationId"],
            "type": "message",
            "message": text(message),
            "entities": header["entities"],
            "metadata": metadata,
        }),
    };
    envelope.to_string().into_bytes()
}

/// The name of what the gateway tells about a session.
fn notice(message: &pb::CimMessage) -> Option<&str> {
    match message::kind(message)? {
        Kind::Notification(notification) => notification.notification_type.as_deref(),
        _ => None,
    }
}

/// The text of a message. Some clients send it as base64, and say so.
fn text(message: &pb::CimMessage) -> Option<String> {
    let text = message.body.as_ref()?.markdown_text.as_deref()?;
    let data = message.header.as_ref().and_then(|header| header.additional_data.as_ref());
    let flag = data.and_then(|data| data.fields.get("isEncoded")).and_then(|value| value.kind.as_ref());
    let decoded = || String::from_utf8(BASE64_STANDARD.decode(text).ok()?).ok();
    let is_encoded = matches!(flag, Some(value::Kind::BoolValue(true)));
    Some(is_encoded.then(decoded).flatten().unwrap_or_else(|| text.to_owned()))
}

/// What a bot answers.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answer {
    intent: Option<String>,
    /// True if it is only for who helps to answer.
    pub(super) is_suggestion: bool,
    body: Value,
}

/// Reads a bot's answers. What is none is passed over: a bot may have nothing to say.
pub(super) fn answers(answer: &[u8]) -> Vec<Answer> {
    let answers = match serde_json::from_slice::<Value>(answer) {
        Ok(Value::Array(answers)) => answers,
        Ok(answer) => vec![answer],
        Err(_) => return Vec::new(),
    };
    let read = |answer: Value| {
        let body = answer.get("body").filter(|body| body.is_object())?.clone();
        let intent = answer.get("intent").and_then(|intent| intent.get("name")).and_then(Value::as_str);
        let is_suggestion = answer.get("mode").and_then(Value::as_str) == Some("suggestion");
        Some(Answer { intent: intent.map(str::to_owned), is_suggestion, body })
    };
    answers.into_iter().filter_map(read).take(MOST).collect()
}

impl Answer {
    /// The message that the bot says with it, in answer to `about`; `id` is its id. What is wrong with it comes beside.
    pub(super) fn message(&self, about: &pb::CimMessage, bot: &pb::Bot, id: String) -> (pb::CimMessage, Violations) {
        let document = json!({ "body": self.body });
        // It was read from JSON, so that only its depth could be wrong, which was bounded there.
        let decoded = wire::decode(document.to_string().as_bytes(), DEPTH).unwrap_or_default();
        let routed = about.header.clone().unwrap_or_default();
        let name = if bot.name.is_empty() { &bot.id } else { &bot.name };
        let sender = pb::Sender {
            id: Some(bot.id.clone()),
            r#type: pb::SenderType::Bot.into(),
            sender_name: Some(name.clone()),
            ..pb::Sender::default()
        };
        let header = pb::Header {
            sender: Some(sender),
            channel_data: routed.channel_data,
            intent: self.intent.clone(),
            channel_session_id: routed.channel_session_id,
            conversation_id: routed.conversation_id,
            original_message_id: about.id.clone(),
            ..pb::Header::default()
        };
        (pb::CimMessage { id: Some(id), header: Some(header), ..decoded.message }, decoded.violations)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    fn envelope_of(patch: Value) -> Value {
        serde_json::from_slice(&envelope(&samples::message(patch))).expect("is JSON")
    }

    #[test]
    fn a_message_goes_out_with_its_text_and_itself() {
        let patch =
            json!({ "header": { "conversationId": "c1", "entities": { "city": "Bonn" } }, "body": { "markdownText": "hi" } });
        let found = envelope_of(patch.clone());
        let whole: Value = serde_json::from_slice(&wire::encode(&samples::message(patch))).expect("is JSON");
        let expected = json!({
            "conversation": "c1", "type": "message", "message": "hi", "entities": { "city": "Bonn" }, "metadata": whole,
        });
        assert_eq!(found, expected);
    }

    #[test]
    fn a_text_in_base64_is_decoded_where_the_header_says_so() {
        let encoded = |text: &str, flag: bool| {
            let patch = json!({ "header": { "additionalData": { "isEncoded": flag } }, "body": { "markdownText": text } });
            envelope_of(patch)["message"].clone()
        };
        assert_eq!(encoded("w6Twn5iA", true), json!("ä\u{1f600}"));
        assert_eq!(encoded("w6Twn5iA", false), json!("w6Twn5iA"));
        assert_eq!(encoded("no base64!", true), json!("no base64!"));
    }

    #[test]
    fn what_happened_to_a_session_is_an_intent() {
        let found = envelope_of(json!({
            "header": { "conversationId": "c1", "channelSessionId": "s1" },
            "body": { "type": "NOTIFICATION", "notificationType": "CHANNEL_SESSION_STARTED", "notificationData": {} },
        }));
        assert_eq!(
            (&found["type"], &found["message"], &found["metadata"]),
            (&json!("intent"), &json!("CHANNEL_SESSION_STARTED"), &Value::Null)
        );
        assert_eq!(found["entities"]["channelSession"]["id"], json!("s1"));
    }

    #[test]
    fn one_answer_or_a_list_is_read_and_nothing_else() {
        let hi = json!({ "intent": { "name": "greet", "confidence": 0.9 }, "mode": null, "body": { "type": "PLAIN", "markdownText": "hi" } });
        let hint = json!({ "mode": "suggestion", "body": { "type": "PLAIN", "markdownText": "hint" } });
        let read = |answer: Value| answers(answer.to_string().as_bytes());
        assert_eq!(read(hi.clone()).len(), 1);
        let both = read(json!([hi, 7, { "body": "no" }, hint]));
        assert_eq!(both.iter().map(|answer| answer.is_suggestion).collect::<Vec<_>>(), [false, true]);
        assert_eq!(both[0].intent.as_deref(), Some("greet"));
        for nothing in ["", "[]", "{}", "null", "7", "\"x\"", "{"] {
            assert_eq!(answers(nothing.as_bytes()), []);
        }
    }

    #[test]
    fn an_answer_is_a_message_of_the_bot_about_what_it_answers() {
        let about = samples::message(json!({ "id": "m1", "header": { "conversationId": "c1", "channelSessionId": "s1" } }));
        let bot = pb::Bot { id: "b1".into(), ..pb::Bot::default() };
        let answer = &answers(br#"{"body":{"type":"PLAIN","markdownText":"hi"}}"#)[0];
        let (message, violations) = answer.message(&about, &bot, "a1".into());
        assert!(violations.is_empty());
        let json: Value = serde_json::from_slice(&wire::encode(&message)).expect("is JSON");
        assert_eq!(json["id"], "a1");
        assert_eq!((&json["header"]["originalMessageId"], &json["header"]["channelSessionId"]), (&json!("m1"), &json!("s1")));
        assert_eq!((&json["header"]["sender"]["id"], &json["header"]["sender"]["type"]), (&json!("b1"), &json!("BOT")));
        assert_eq!(json["body"]["markdownText"], "hi");
        let wrong = &answers(br#"{"body":{"type":"PLAIN","markdownText":{}}}"#)[0];
        assert!(!wrong.message(&about, &bot, "a2".into()).1.is_empty());
    }
}
