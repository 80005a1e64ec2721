//! The JSON of bot connectors: an envelope out, bodies back.
//!
//! ```text
//! { conversation, type: "message", message: TEXT, entities, metadata: CIM MESSAGE }
//! { conversation, type: "intent", message: NAME, entities: { channelSession }, metadata: null }
//! { intent: { name }, mode: "message" | "suggestion" | null, body: CIM BODY }, or a list of these
//! ```

use super::answer::DEPTH;
use crate::pb;
use crate::pb::body::Kind;
use crate::violation::Violations;
use crate::wire::{Document, Json, Node, SyntaxError};
use crate::{message, sessions, wire};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use prost_types::value;
use serde_json::json;
use std::borrow::Cow;

/// Most answers that are taken from one answer of a bot.
const MOST: usize = 64;

/// A message as bot connectors take it.
pub(super) fn envelope(message: &pb::CimMessage) -> Vec<u8> {
    let json = wire::encode(message);
    // Its parts are copied as they stand there: what reads numbers into doubles would lose digits, or refuse the message.
    let document = Document::parse(&json, usize::MAX).expect("what the gateway writes is JSON");
    let metadata = document.root();
    let header = metadata.member("header");
    let part = |key| header.and_then(|header| header.member(key)).map_or("null", Node::source);
    let envelope = match notice(message) {
        Some(name) => {
            let session = object([
                ("id", part("channelSessionId")),
                ("conversationId", part("conversationId")),
                ("channelData", part("channelData")),
                ("customer", part("customer")),
            ]);
            object([
                ("conversation", part("conversationId")),
                ("type", "\"intent\""),
                ("message", &json!(name).to_string()),
                ("entities", &object([("channelSession", &session)])),
                ("metadata", "null"),
            ])
        }
        None => object([
            ("conversation", part("conversationId")),
            ("type", "\"message\""),
            ("message", &json!(text(message)).to_string()),
            ("entities", part("entities")),
            ("metadata", metadata.source()),
        ]),
    };
    envelope.into_bytes()
}

/// An object of members whose values are JSON already.
fn object<const N: usize>(members: [(&str, &str); N]) -> String {
    let members = members.map(|(key, json)| format!("\"{key}\":{json}"));
    format!("{{{}}}", members.join(","))
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
    /// JSON as the bot wrote it.
    body: String,
}

/// Reads a bot's answers. What is none is passed over: a bot may have nothing to say.
pub(super) fn answers(answer: &[u8]) -> Result<Vec<Answer>, SyntaxError> {
    if answer.trim_ascii().is_empty() {
        return Ok(Vec::new());
    }
    let document = Document::parse(answer, DEPTH)?;
    let answer = document.root();
    Ok(match answer.json() {
        Json::Array(answers) => answers.filter_map(Answer::read).take(MOST).collect(),
        _ => Answer::read(answer).into_iter().collect(),
    })
}

impl Answer {
    /// None if it has no body: then it says nothing.
    fn read(answer: Node<'_>) -> Option<Self> {
        let body = answer.member("body").filter(|body| matches!(body.json(), Json::Object(_)))?;
        let intent = answer.member("intent").and_then(|intent| intent.member("name")).and_then(Node::text);
        let mode = answer.member("mode").and_then(Node::text);
        Some(Self {
            intent: intent.map(Cow::into_owned),
            is_suggestion: mode.is_some_and(|mode| mode == "suggestion"),
            body: body.source().to_owned(),
        })
    }

    /// The message that the bot says with it, in answer to `about`; `id` is its id. What is wrong with it comes beside.
    pub(super) fn message(&self, about: &pb::CimMessage, bot: &pb::Bot, id: String) -> (pb::CimMessage, Violations) {
        let document = object([("body", &self.body)]);
        // It was read before, and stood as deep then.
        let decoded = wire::decode(document.as_bytes(), DEPTH).unwrap_or_default();
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
        let mut message = pb::CimMessage { id: Some(id), header: Some(header), ..decoded.message };
        message.exact_numbers.extend(sessions::channel_numbers(about));
        (message, decoded.violations)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;
    use serde_json::Value;

    /// Numbers that no double holds.
    const EXACT: [&str; 3] = ["1e400", "123456789012345678901234567890", "0.1234567890123456789012345"];

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

    /// What a client sent as JSON, as it is kept.
    fn sent(json: &str) -> pb::CimMessage {
        let mut message = wire::decode(json.as_bytes(), DEPTH).expect("is JSON").message;
        let violations = message::check(&mut message, &samples::LIMITS);
        assert!(violations.is_empty(), "{json}: {violations:?}");
        message
    }

    #[test]
    fn numbers_go_out_to_the_last_digit() {
        for number in EXACT {
            let patch =
                json!({ "header": { "conversationId": "c1", "entities": { "n": "NUMBER" } }, "body": { "mood": "NUMBER" } });
            let message = sent(&samples::json(patch).to_string().replace("\"NUMBER\"", number));
            let whole = String::from_utf8(wire::encode(&message)).expect("is UTF-8");
            assert_eq!(whole.matches(number).count(), 2, "{whole}");
            let found = String::from_utf8(envelope(&message)).expect("is UTF-8");
            let expected = format!(
                r#"{{"conversation":"c1","type":"message","message":"Hello","entities":{{"n":{number}}},"metadata":{whole}}}"#
            );
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn what_is_known_of_a_customer_goes_out_with_an_intent_to_the_last_digit() {
        for number in EXACT {
            let patch = json!({
                "header": { "conversationId": "c1", "channelSessionId": "s1", "customer": { "_id": "ada", "score": "NUMBER" } },
                "body": { "type": "NOTIFICATION", "notificationType": "CHANNEL_SESSION_STARTED", "notificationData": {} },
            });
            let message = sent(&samples::json(patch).to_string().replace("\"NUMBER\"", number));
            let found = String::from_utf8(envelope(&message)).expect("is UTF-8");
            let intent = r#"{"conversation":"c1","type":"intent","message":"CHANNEL_SESSION_STARTED","entities":"#;
            let session = r#"{"channelSession":{"id":"s1","conversationId":"c1","channelData":{"#;
            assert!(found.starts_with(&format!("{intent}{session}")), "{found}");
            assert!(found.contains(&format!(r#""score":{number}"#)) && found.ends_with(r#"}}},"metadata":null}"#), "{found}");
        }
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

    fn read(answer: &str) -> Vec<Answer> {
        answers(answer.as_bytes()).expect("is JSON")
    }

    #[test]
    fn one_answer_or_a_list_is_read_and_nothing_else() {
        let hi = json!({ "intent": { "name": "greet", "confidence": 0.9 }, "mode": null, "body": { "type": "PLAIN", "markdownText": "hi" } });
        let hint = json!({ "mode": "suggestion", "body": { "type": "PLAIN", "markdownText": "hint" } });
        let read = |answer: Value| read(&answer.to_string());
        assert_eq!(read(hi.clone()).len(), 1);
        let both = read(json!([hi, 7, { "body": "no" }, hint]));
        assert_eq!(both.iter().map(|answer| answer.is_suggestion).collect::<Vec<_>>(), [false, true]);
        assert_eq!(both[0].intent.as_deref(), Some("greet"));
        for nothing in ["", " \r\n", "[]", "{}", "null", "7", "\"x\""] {
            assert_eq!(answers(nothing.as_bytes()), Ok(Vec::new()));
        }
    }

    #[test]
    fn what_is_no_json_is_told_apart_from_nothing_to_say() {
        let deep = "[".repeat(DEPTH + 1);
        for (answer, reason) in [
            (&b"OK"[..], "line 1, column 1: expected a value, found 'O'"),
            (b"{", "line 1, column 2: expected the rest of the document, found the end of the text"),
            (b"[\n\"\xff\"]", "line 2, column 2: invalid UTF-8"),
            (deep.as_bytes(), "line 1, column 129: nested deeper than 128 containers"),
        ] {
            assert_eq!(answers(answer).expect_err("no JSON").to_string(), reason);
        }
    }

    /// What the only answer becomes, as JSON.
    fn said(answer: &str) -> String {
        let about = samples::message(json!({ "id": "m1" }));
        let bot = pb::Bot { id: "b1".into(), ..pb::Bot::default() };
        let (mut message, mut violations) = read(answer)[0].message(&about, &bot, "a1".into());
        violations.follow_up(message::check(&mut message, &samples::LIMITS));
        assert!(violations.is_empty(), "{answer}: {violations:?}");
        String::from_utf8(wire::encode(&message)).expect("is UTF-8")
    }

    #[test]
    fn numbers_of_an_answer_are_kept_to_the_last_digit() {
        for number in EXACT {
            let body = format!(r#"{{"type":"PLAIN","markdownText":"hi","mood":{{"n":[{number}]}}}}"#);
            let answer = format!(r#"[{{"confidence":{number},"body":{body}}}]"#);
            let said = said(&answer);
            assert!(said.contains(&format!(r#""mood":{{"n":[{number}]}}"#)), "{said}");
        }
    }

    #[test]
    fn an_answer_with_half_a_character_is_heard_as_a_message_with_one_is() {
        let said = said(r#"{"intent":{"name":"greet\ud83d"},"body":{"type":"PLAIN","markdownText":"hi \ud83d"}}"#);
        assert!(said.contains("\"hi \u{fffd}\"") && said.contains("\"greet\u{fffd}\""), "{said}");
    }

    #[test]
    fn an_answer_is_a_message_of_the_bot_about_what_it_answers() {
        let channel = json!({ "score": 9_007_199_254_740_993_u64 });
        let header = json!({ "conversationId": "c1", "channelSessionId": "s1", "channelData": channel });
        let about = samples::message(json!({ "id": "m1", "header": header }));
        let bot = pb::Bot { id: "b1".into(), ..pb::Bot::default() };
        let answer = &read(r#"{"body":{"type":"PLAIN","markdownText":"hi"}}"#)[0];
        let (message, violations) = answer.message(&about, &bot, "a1".into());
        assert!(violations.is_empty());
        let json: Value = serde_json::from_slice(&wire::encode(&message)).expect("is JSON");
        assert_eq!(json["id"], "a1");
        assert_eq!((&json["header"]["originalMessageId"], &json["header"]["channelSessionId"]), (&json!("m1"), &json!("s1")));
        assert_eq!((&json["header"]["sender"]["id"], &json["header"]["sender"]["type"]), (&json!("b1"), &json!("BOT")));
        assert_eq!(json["header"]["channelData"]["score"], channel["score"]);
        assert_eq!(json["body"]["markdownText"], "hi");
        let wrong = &read(r#"{"body":{"type":"PLAIN","markdownText":{}}}"#)[0];
        assert!(!wrong.message(&about, &bot, "a2".into()).1.is_empty());
    }
}
