//! One accepted message as a line.

use crate::cli::output::tame;
use cim_gateway::pb::{AcceptedMessage, Audience, SenderType};
use cim_gateway::wire;
use prost_types::Timestamp;
use std::fmt::Display;

/// Most characters of a name or an identifier, and of a text.
const NAME: usize = 48;
const TEXT: usize = 120;

/// How messages are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// A JSON object.
    Json,
    /// A line to read.
    Plain,
    /// A line to read on a terminal that has colours.
    Coloured,
}

impl Style {
    /// The line for `accepted`, with its end.
    pub(super) fn line(self, accepted: &AcceptedMessage) -> String {
        match self {
            Self::Json => json(accepted),
            Self::Plain | Self::Coloured => self.text(accepted),
        }
    }

    /// Time, sender, channel and customer with an arrow to who it is for, type and intent, and the start of the text.
    fn text(self, accepted: &AcceptedMessage) -> String {
        const DIM: &str = "2";
        const BOLD: &str = "1";
        const CYAN: &str = "36";
        const GREEN: &str = "32";
        const YELLOW: &str = "33";

        let message = accepted.message.clone().unwrap_or_default();
        let header = message.header.unwrap_or_default();
        let sender = header.sender.unwrap_or_default();
        let channel = header.channel_data.unwrap_or_default();
        let body = message.body.unwrap_or_default();
        let some = |text: &Option<String>, most| tame(text.as_deref().filter(|text| !text.is_empty()).unwrap_or("-"), most);

        let kind = match (sender.r#type(), &sender.type_name) {
            (SenderType::Other, Some(name)) => tame(name, NAME),
            (kind, _) => kind.as_str_name().trim_start_matches("SENDER_TYPE_").to_owned(),
        };
        let for_customer = accepted.audiences.contains(&Audience::Customer.into());
        let colour = if for_customer { GREEN } else { CYAN };
        let arrow = if for_customer { "->" } else { "<-" };
        let service = some(&channel.service_identifier, NAME);
        let customer = some(&channel.channel_customer_identifier, NAME);
        let mut line = [
            self.paint(DIM, accepted.accepted_at.as_ref().map_or("-".into(), time)),
            self.paint(colour, kind),
            some(&sender.sender_name, NAME),
            self.paint(DIM, format_args!("{service} {arrow} {customer}")),
            self.paint(BOLD, tame(wire::type_name(&body).unwrap_or("-"), NAME)),
        ]
        .join(" ");
        if let Some(intent) = header.intent.filter(|intent| !intent.is_empty()) {
            line.push_str(&format!(" {}", self.paint(YELLOW, tame(&intent, NAME))));
        }
        if let Some(text) = body.markdown_text.filter(|text| !text.is_empty()) {
            line.push_str(&format!(" {}", tame(&text, TEXT)));
        }
        line.push('\n');
        line
    }

    fn paint(self, colour: &str, text: impl Display) -> String {
        if self == Self::Coloured { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_string() }
    }
}

/// `{"cursor", "acceptedAt", "audiences", "message"}`, and `submittedId` where the gateway gave a fresh id.
fn json(accepted: &AcceptedMessage) -> String {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let audiences: Vec<_> = accepted.audiences().map(|audience| quoted(audience_name(audience))).collect();
    let mut line = format!("{{\"cursor\":{}", quoted(&accepted.cursor));
    if let Some(at) = &accepted.accepted_at {
        line.push_str(&format!(",\"acceptedAt\":{}", quoted(&time(at))));
    }
    line.push_str(&format!(",\"audiences\":[{}]", audiences.join(",")));
    if !accepted.submitted_id.is_empty() {
        line.push_str(&format!(",\"submittedId\":{}", quoted(&accepted.submitted_id)));
    }
    if let Some(message) = &accepted.message {
        let message = String::from_utf8(wire::encode(message)).expect("JSON is written as UTF-8");
        line.push_str(&format!(",\"message\":{message}"));
    }
    line.push_str("}\n");
    line
}

fn audience_name(audience: Audience) -> &'static str {
    audience.as_str_name().trim_start_matches("AUDIENCE_")
}

/// A time in RFC 3339, UTC, to the millisecond.
fn time(at: &Timestamp) -> String {
    wire::from_millis(wire::to_millis(at)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(json: &str, audience: Audience) -> AcceptedMessage {
        AcceptedMessage {
            message: Some(wire::decode(json.as_bytes(), 10).unwrap().message),
            cursor: "k7".into(),
            accepted_at: Some(Timestamp { seconds: 1_769_839_200, nanos: 120_999_999 }),
            audiences: vec![audience.into()],
            submitted_id: String::new(),
        }
    }

    const HELLO: &str = r#"{"id":"1","header":{"sender":{"id":"s","type":"CONNECTOR","senderName":"WEB"},"intent":"REPLY_TO",
        "channelData":{"channelCustomerIdentifier":"visitor-7","serviceIdentifier":"widget-1"}},
        "body":{"type":"PLAIN","markdownText":"Hello\nthere \u001b[2J"}}"#;

    #[test]
    fn a_line_to_read_says_when_who_where_and_what() {
        let line = Style::Plain.line(&accepted(HELLO, Audience::Platform));
        assert_eq!(line, "2026-01-31T06:00:00.120Z CONNECTOR WEB widget-1 <- visitor-7 PLAIN REPLY_TO Hello there  [2J\n");
    }

    #[test]
    fn an_empty_message_is_a_line_too() {
        assert_eq!(Style::Plain.line(&AcceptedMessage::default()), "- UNSPECIFIED - - <- - -\n");
        assert_eq!(Style::Json.line(&AcceptedMessage::default()), "{\"cursor\":\"\",\"audiences\":[]}\n");
    }

    #[test]
    fn a_sender_of_another_kind_is_called_by_its_own_name() {
        let json = r#"{"header":{"sender":{"id":"s","type":"SURVEY","senderName":"n"}}}"#;
        assert!(Style::Plain.line(&accepted(json, Audience::Customer)).contains(" SURVEY n - -> - "));
    }

    #[test]
    fn a_json_line_holds_the_documented_message() {
        let mut accepted = accepted(HELLO, Audience::Customer);
        let message = wire::encode(accepted.message.as_ref().unwrap());
        let message = String::from_utf8(message).unwrap();
        let start = r#"{"cursor":"k7","acceptedAt":"2026-01-31T06:00:00.120Z","audiences":["CUSTOMER"],"#;
        assert_eq!(Style::Json.line(&accepted), format!("{start}\"message\":{message}}}\n"));
        accepted.submitted_id = "0".into();
        assert_eq!(Style::Json.line(&accepted), format!("{start}\"submittedId\":\"0\",\"message\":{message}}}\n"));
    }
}
