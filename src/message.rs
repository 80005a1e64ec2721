//! The rules that a message must keep to be accepted. Pure: no session, no clock, no store.

use crate::pb;
use crate::pb::body::Kind;
use crate::pb::{Audience, SenderType};
use crate::violation::{Reason, Violations};
use crate::wire::{self, Bounds};
use prost::Message as _;
use prost_types::value::Kind as Json;
use uuid::Uuid;

/// What the gateway may add to a message beyond its size: ids, session, conversation and the customer's stored fields.
pub const FILL_SLACK: usize = 64 * 1024;

/// Bounds of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes of a message, as received and as protobuf.
    pub message_bytes: usize,
    /// Most bytes of an id.
    pub id_bytes: usize,
    /// Bounds of lists and of free-form JSON.
    pub bounds: Bounds,
}

/// Intents that say all by themselves: with them the body may be absent or anything.
const BODILESS: [&str; 15] = [
    "START_CHAT",
    "END_CHAT",
    "START_VOICE",
    "END_VOICE",
    "START_CONVERSATION",
    "NETWORK_DISCONNECT",
    "AGENT_OUTBOUND",
    "CALL_LEG_STARTED",
    "CALL_LEG_ENDED",
    "CALL_HOLD",
    "CALL_RESUME",
    "CALL_ALERTING",
    "ASSIGN_RESOURCE_REQUESTED",
    "CANCEL_RESOURCE_REQUESTED",
    "IVR_AGGREGATED_ACTIVITY",
];

/// Normalises a message and reports every rule that it breaks. Whether its session and conversation exist is not looked at here.
pub fn check(message: &mut pb::CimMessage, limits: &Limits) -> Violations {
    let mut violations = wire::normalise(message, &limits.bounds);
    let mut rules = Rules { broken: Violations::default(), id_bytes: limits.id_bytes };
    rules.id(message.id.as_deref());
    match &message.header {
        Some(header) => rules.header(header),
        None => rules.missing("header"),
    }
    let header = message.header.as_ref();
    let bodiless = header.and_then(|header| header.intent.as_deref()).is_some_and(|intent| BODILESS.contains(&intent));
    if !bodiless {
        rules.body(header, message.body.as_ref());
    }
    let bytes = message.encoded_len();
    if bytes > limits.message_bytes {
        let found = format!("needs at most {} bytes as protobuf, found {bytes}", limits.message_bytes);
        rules.broken.add("", Reason::TooLarge, found);
    }
    violations.follow_up(rules.broken);
    violations
}

struct Rules {
    broken: Violations,
    id_bytes: usize,
}

impl Rules {
    fn missing(&mut self, path: &str) {
        self.broken.add(path, Reason::Required, "is required");
    }

    fn text(&mut self, path: &str, text: Option<&String>) {
        if text.is_none_or(|text| text.trim().is_empty()) {
            self.missing(path);
        }
    }

    fn some<T>(&mut self, path: &str, value: Option<&T>, inside: impl FnOnce(&mut Self, &T)) {
        match value {
            Some(value) => inside(self, value),
            None => self.missing(path),
        }
    }

    fn name(&mut self, path: &str, number: i32) {
        if number == 0 {
            self.missing(path);
        }
    }

    fn not_empty<T>(&mut self, path: &str, list: &[T]) {
        if list.is_empty() {
            self.broken.add(path, Reason::Required, "needs at least one element");
        }
    }

    fn id(&mut self, id: Option<&str>) {
        if id == Some("") {
            self.broken.add("id", Reason::Required, "needs a text that is not empty, or null for an id of the gateway's");
        }
        self.short("id", id);
    }

    /// What sessions, conversations and customers are found by is kept and compared for as long as they live.
    fn route(&mut self, header: &pb::Header) {
        let channel = header.channel_data.as_ref();
        let customer = header.customer.as_ref();
        for (path, id) in [
            (
                "header.channelData.channelCustomerIdentifier",
                channel.and_then(|channel| channel.channel_customer_identifier.as_deref()),
            ),
            ("header.channelData.serviceIdentifier", channel.and_then(|channel| channel.service_identifier.as_deref())),
            ("header.channelSessionId", header.channel_session_id.as_deref()),
            ("header.conversationId", header.conversation_id.as_deref()),
            ("header.customer._id", customer.and_then(|customer| customer.id.as_deref())),
        ] {
            self.short(path, id);
        }
    }

    fn short(&mut self, path: &str, id: Option<&str>) {
        if let Some(id) = id.filter(|id| id.len() > self.id_bytes) {
            self.broken.add(path, Reason::TooLong, format!("needs at most {} bytes, found {}", self.id_bytes, id.len()));
        }
    }

    fn header(&mut self, header: &pb::Header) {
        self.some("header.sender", header.sender.as_ref(), |rules, sender| {
            rules.text("header.sender.id", sender.id.as_ref());
            match SenderType::try_from(sender.r#type) {
                Ok(SenderType::Unspecified) => rules.missing("header.sender.type"),
                Ok(SenderType::Other) => rules.text("header.sender.type", sender.type_name.as_ref()),
                _ => {}
            }
            rules.text("header.sender.senderName", sender.sender_name.as_ref());
        });
        self.route(header);
        // With a session or conversation named, routing knows whether that is enough.
        if !names_a_route(header) {
            self.some("header.channelData", header.channel_data.as_ref(), |rules, channel| {
                rules.text("header.channelData.channelCustomerIdentifier", channel.channel_customer_identifier.as_ref());
                rules.text("header.channelData.serviceIdentifier", channel.service_identifier.as_ref());
            });
        }
        if let Some(intent @ ("REPLY_TO" | "UPDATE")) = header.intent.as_deref()
            && header.original_message_id.as_deref().is_none_or(str::is_empty)
        {
            self.broken.add("header.originalMessageId", Reason::Required, format!("is required with the intent {intent}"));
        }
    }

    fn body(&mut self, header: Option<&pb::Header>, body: Option<&pb::Body>) {
        let Some(body) = body else { return self.missing("body") };
        let Some(kind) = &body.kind else { return self.missing("body.type") };
        match kind {
            Kind::Plain(_) | Kind::Receipt(_) | Kind::Custom(_) | Kind::StructuredMessage(_) => {}
            Kind::Image(media) | Kind::Video(media) | Kind::Audio(media) | Kind::File(media) | Kind::Multimedia(media) => {
                self.some("body.attachment", media.attachment.as_ref(), |rules, attachment| {
                    rules.text("body.attachment.mediaUrl", attachment.media_url.as_ref());
                });
            }
            Kind::Url(url) => self.text("body.mediaUrl", url.media_url.as_ref()),
            Kind::Sticker(sticker) => self.text("body.mediaUrl", sticker.media_url.as_ref()),
            Kind::Location(location) => self.some("body.location", location.location.as_ref(), |rules, location| {
                rules.degrees("body.location.latitude", location.latitude, 90.0);
                rules.degrees("body.location.longitude", location.longitude, 180.0);
            }),
            Kind::Contact(contact) => {
                self.not_empty("body.contacts", &contact.contacts);
                for (i, contact) in contact.contacts.iter().enumerate() {
                    self.some(&format!("body.contacts[{i}].name"), contact.name.as_ref(), |rules, name| {
                        rules.text(&format!("body.contacts[{i}].name.formattedName"), name.formatted_name.as_ref());
                    });
                }
            }
            Kind::Button(button) => {
                self.not_empty("body.buttons", &button.buttons);
                self.buttons("body.buttons", &button.buttons);
            }
            Kind::Carousel(carousel) => {
                self.not_empty("body.elements", &carousel.elements);
                for (i, element) in carousel.elements.iter().enumerate() {
                    self.buttons(&format!("body.elements[{i}].buttons"), &element.buttons);
                }
            }
            Kind::Template(template) => {
                self.text("body.namespace", template.template_namespace.as_ref());
                self.text("body.name", template.name.as_ref());
            }
            Kind::Notification(notification) => self.text("body.notificationType", notification.notification_type.as_ref()),
            Kind::DeliveryNotification(notification) => {
                self.text("body.messageId", notification.message_id.as_ref());
                self.name("body.status", notification.status);
            }
            Kind::DeletedNotification(notification) => self.text("body.messageId", notification.message_id.as_ref()),
            Kind::Comment(comment) => self.comment(header, comment),
            Kind::Action(action) => self.text("body.name", action.name.as_ref()),
            Kind::Voice(voice) => {
                self.text("body.callId", voice.call_id.as_ref());
                self.text("body.leg", voice.leg.as_ref());
            }
            Kind::Email(email) => self.text("body.from", email.from_address.as_ref()),
            Kind::Wrapup(wrapup) => self.not_empty("body.wrapups", &wrapup.wrapups),
            Kind::FormData(form) => self.text("body.formId", form.form_id.as_ref()),
            Kind::Generic(generic) => self.text("body.type", Some(&generic.r#type)),
        }
    }

    fn degrees(&mut self, path: &str, degrees: Option<f64>, most: f64) {
        match degrees {
            None => self.missing(path),
            Some(degrees) if degrees.is_finite() && degrees.abs() > most => {
                self.broken.add(path, Reason::OutOfRange, format!("needs -{most} to {most} degrees, found {degrees}"));
            }
            Some(_) => {}
        }
    }

    fn buttons(&mut self, path: &str, buttons: &[pb::Button]) {
        for (i, button) in buttons.iter().enumerate() {
            self.text(&format!("{path}[{i}].title"), button.title.as_ref());
            self.text(&format!("{path}[{i}].payload"), button.payload.as_ref());
            self.text(&format!("{path}[{i}].type"), button.r#type.as_ref());
        }
    }

    fn comment(&mut self, header: Option<&pb::Header>, comment: &pb::CommentBody) {
        self.name("body.itemType", comment.item_type);
        let named = |id: &Option<String>| id.as_deref().is_some_and(|id| !id.trim().is_empty());
        let elsewhere = header.is_some_and(|header| named(&header.provider_message_id) || named(&header.original_message_id));
        if !named(&comment.post_id) && !elsewhere {
            let message = "is required unless header.providerMessageId or header.originalMessageId names the comment";
            self.broken.add("body.postId", Reason::Required, message);
        }
    }
}

/// True if the header names a session or a conversation.
fn names_a_route(header: &pb::Header) -> bool {
    [&header.channel_session_id, &header.conversation_id].into_iter().any(|id| id.as_deref().is_some_and(|id| !id.is_empty()))
}

/// A fresh id: a UUIDv7, so that ids sort by the time they were made.
pub fn fresh_id() -> String {
    Uuid::now_v7().to_string()
}

/// True for news about messages and sessions, typing too, which are no messages of a conversation themselves.
pub fn is_notification(message: &pb::CimMessage) -> bool {
    matches!(kind(message), Some(Kind::DeliveryNotification(_) | Kind::DeletedNotification(_) | Kind::Notification(_)))
}

/// True for a delivery notification.
pub fn is_receipt(message: &pb::CimMessage) -> bool {
    matches!(kind(message), Some(Kind::DeliveryNotification(_)))
}

/// True for what is reported on an earlier message: what became of it, or that it is deleted.
pub fn reports(message: &pb::CimMessage) -> bool {
    matches!(kind(message), Some(Kind::DeliveryNotification(_) | Kind::DeletedNotification(_)))
}

/// True for the notifications that a party is typing, which matter only while they are fresh.
pub fn is_typing(message: &pb::CimMessage) -> bool {
    matches!(
        kind(message),
        Some(Kind::Notification(notification))
            if matches!(notification.notification_type.as_deref(), Some("TYPING_STARTED" | "TYPING_STOPPED"))
    )
}

/// True if the message may open a channel session. Notifications and the end of a chat attach to what there is.
pub fn may_open(message: &pb::CimMessage) -> bool {
    !is_notification(message) && !ends_session(message)
}

/// True if the message ends its channel session.
pub fn ends_session(message: &pb::CimMessage) -> bool {
    matches!(intent(message), Some("END_CHAT" | "NETWORK_DISCONNECT"))
}

/// True for what customers do: they say something, or type. Connectors speak for them; what they report is nobody's doing.
pub fn is_of_customer(message: &pb::CimMessage) -> bool {
    let speaks = matches!(sender_type(message), Some(SenderType::Customer | SenderType::Connector));
    speaks && (may_open(message) || is_typing(message))
}

/// Who a message is for. What agents, bots, applications and the platform say is for the customer, all else for the platform; so
/// are requests to the platform and whispers between agents, whoever says them.
pub fn audience(message: &pb::CimMessage) -> Audience {
    let from_platform =
        matches!(sender_type(message), Some(SenderType::Agent | SenderType::Bot | SenderType::App | SenderType::System));
    let internal = matches!(kind(message), Some(Kind::Action(_) | Kind::Wrapup(_) | Kind::FormData(_))) || is_whisper(message);
    if from_platform && !internal { Audience::Customer } else { Audience::Platform }
}

/// True for a message between agents: the body's `isWhisper` is true, `"true"` or 1.
fn is_whisper(message: &pb::CimMessage) -> bool {
    let extras = message.body.as_ref().and_then(|body| body.extra_fields.as_ref());
    match extras.and_then(|extras| extras.fields.get("isWhisper")).and_then(|value| value.kind.as_ref()) {
        Some(Json::BoolValue(whisper)) => *whisper,
        Some(Json::NumberValue(number)) => *number == 1.0,
        Some(Json::StringValue(text)) => text.trim().eq_ignore_ascii_case("true"),
        _ => false,
    }
}

/// The kind of the body.
pub fn kind(message: &pb::CimMessage) -> Option<&Kind> {
    message.body.as_ref().and_then(|body| body.kind.as_ref())
}

/// What kind of party sent it.
pub fn sender_type(message: &pb::CimMessage) -> Option<SenderType> {
    message.header.as_ref().and_then(|header| header.sender.as_ref()).map(pb::Sender::r#type)
}

/// The same of a message that is not checked yet: known types go also by [`SenderType::Other`] and their name.
pub fn speaker(message: &pb::CimMessage) -> Option<SenderType> {
    let sender = message.header.as_ref()?.sender.as_ref()?;
    match (sender.r#type(), &sender.type_name) {
        (SenderType::Other, Some(name)) => wire::sender_type(name).or(Some(SenderType::Other)),
        (known, _) => Some(known),
    }
}

/// The channel that the header names.
pub fn service_identifier(message: &pb::CimMessage) -> Option<&str> {
    message.header.as_ref()?.channel_data.as_ref()?.service_identifier.as_deref()
}

/// The intent of the header.
pub fn intent(message: &pb::CimMessage) -> Option<&str> {
    message.header.as_ref().and_then(|header| header.intent.as_deref())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{self, LIMITS};
    use serde_json::{Value, json};

    /// What `check` reports of the sample message after a patch: paths and reasons.
    fn broken(patch: Value) -> Vec<(String, Reason)> {
        let mut message = samples::decoded(&samples::json(patch));
        report(check(&mut message, &LIMITS))
    }

    fn report(violations: Violations) -> Vec<(String, Reason)> {
        violations.into_vec().into_iter().map(|violation| (violation.path, violation.reason)).collect()
    }

    /// A body of a type that keeps every rule.
    fn body(r#type: &str) -> Value {
        let media = json!({ "attachment": { "mediaUrl": "https://x/y" } });
        let buttons =
            json!([{ "title": "t", "payload": "p", "type": "reply" }, { "title": "t", "payload": "p", "type": "reply" }]);
        let mut body = match r#type {
            "IMAGE" | "VIDEO" | "AUDIO" | "FILE" | "MULTIMEDIA" => media,
            "STICKER" | "URL" => json!({ "mediaUrl": "https://x/y" }),
            "LOCATION" => json!({ "location": { "latitude": 31.5, "longitude": 74.3 } }),
            "CONTACT" => json!({ "contacts": [{ "name": { "formattedName": "A" } }, { "name": { "formattedName": "B" } }] }),
            "BUTTON" => json!({ "buttons": buttons }),
            "CAROUSEL" => json!({ "elements": [{}, { "buttons": buttons }] }),
            "TEMPLATE" => json!({ "namespace": "n", "name": "t" }),
            "NOTIFICATION" => json!({ "notificationType": "INFO" }),
            "DELIVERYNOTIFICATION" => json!({ "messageId": "m", "status": "READ" }),
            "DELETEDNOTIFICATION" => json!({ "messageId": "m" }),
            "COMMENT" => json!({ "itemType": "TEXT", "postId": "p" }),
            "ACTION" => json!({ "name": "ASSIGN_AGENT" }),
            "VOICE" => json!({ "callId": "c", "leg": "l" }),
            "EMAIL" => json!({ "from": "a@b" }),
            "WRAPUP" => json!({ "wrapups": ["done"] }),
            "FORM_DATA" => json!({ "formId": "f" }),
            _ => json!({}),
        };
        body["type"] = json!(r#type);
        body
    }

    const TYPES: [&str; 26] = [
        "PLAIN",
        "IMAGE",
        "VIDEO",
        "AUDIO",
        "FILE",
        "MULTIMEDIA",
        "STICKER",
        "LOCATION",
        "CONTACT",
        "URL",
        "BUTTON",
        "CAROUSEL",
        "RECEIPT",
        "TEMPLATE",
        "CUSTOM",
        "StructuredMessage",
        "NOTIFICATION",
        "DELIVERYNOTIFICATION",
        "DELETEDNOTIFICATION",
        "VOICE",
        "ACTION",
        "WRAPUP",
        "COMMENT",
        "EMAIL",
        "FORM_DATA",
        "SOMETHING_ELSE",
    ];

    /// The sample message with a body of a type, changed by a patch.
    fn with_body(r#type: &str, patch: Value) -> Value {
        let mut body = body(r#type);
        samples::patch(&mut body, &patch);
        // What is missing is missing in the sample, too.
        for key in ["type", "markdownText"] {
            body.as_object_mut().map(|body| body.entry(key).or_insert(Value::Null));
        }
        json!({ "body": body })
    }

    #[test]
    fn a_message_of_every_type_that_keeps_the_rules_is_accepted() {
        for name in TYPES {
            assert_eq!(broken(with_body(name, json!({}))), [], "{name}");
        }
        for text in [Value::Null, json!("")] {
            assert_eq!(broken(json!({ "body": { "markdownText": text } })), []);
        }
    }

    #[test]
    fn every_rule_of_the_header_is_reported_where_it_is_broken() {
        use Reason::Required;
        let header = |patch: Value| json!({ "header": patch });
        for (patch, path) in [
            (json!({ "header": null }), "header"),
            (header(json!({ "sender": null })), "header.sender"),
            (header(json!({ "sender": { "id": null } })), "header.sender.id"),
            (header(json!({ "sender": { "id": "" } })), "header.sender.id"),
            (header(json!({ "sender": { "id": " \t" } })), "header.sender.id"),
            (header(json!({ "sender": { "type": null } })), "header.sender.type"),
            (header(json!({ "sender": { "type": " " } })), "header.sender.type"),
            (header(json!({ "sender": { "senderName": null } })), "header.sender.senderName"),
            (header(json!({ "sender": { "senderName": "" } })), "header.sender.senderName"),
            (header(json!({ "channelData": null })), "header.channelData"),
            (
                header(json!({ "channelData": { "channelCustomerIdentifier": null } })),
                "header.channelData.channelCustomerIdentifier",
            ),
            (
                header(json!({ "channelData": { "channelCustomerIdentifier": "" } })),
                "header.channelData.channelCustomerIdentifier",
            ),
            (header(json!({ "channelData": { "serviceIdentifier": null } })), "header.channelData.serviceIdentifier"),
            (header(json!({ "channelData": { "serviceIdentifier": " " } })), "header.channelData.serviceIdentifier"),
            (
                header(json!({ "channelSessionId": "", "conversationId": "", "channelData": { "serviceIdentifier": "" } })),
                "header.channelData.serviceIdentifier",
            ),
            (header(json!({ "intent": "REPLY_TO" })), "header.originalMessageId"),
            (header(json!({ "intent": "UPDATE", "originalMessageId": "" })), "header.originalMessageId"),
            (json!({ "id": "" }), "id"),
        ] {
            assert_eq!(broken(patch.clone()), [(path.to_owned(), Required)], "{patch}");
        }
    }

    #[test]
    fn a_header_that_names_a_route_needs_no_channel() {
        for id in ["channelSessionId", "conversationId"] {
            for channel in [Value::Null, json!({ "serviceIdentifier": null })] {
                assert_eq!(broken(json!({ "header": { (id): "x", "channelData": channel } })), []);
            }
        }
        assert_eq!(broken(json!({ "header": { "intent": "REPLY_TO", "originalMessageId": "m" } })), []);
        assert_eq!(broken(json!({ "header": { "sender": { "type": "WEB_CHANNEL" } } })), [], "sender types are open");
    }

    #[test]
    fn every_rule_of_a_body_is_reported_where_it_is_broken() {
        use Reason::{OutOfRange, Required};
        let without = |key: &str| json!({ (key): null });
        let mut rules = Vec::new();
        for media in ["IMAGE", "VIDEO", "AUDIO", "FILE", "MULTIMEDIA"] {
            rules.push((media, without("attachment"), "body.attachment", Required));
            rules.push((media, json!({ "attachment": { "mediaUrl": "" } }), "body.attachment.mediaUrl", Required));
        }
        for (r#type, key) in [
            ("STICKER", "mediaUrl"),
            ("URL", "mediaUrl"),
            ("LOCATION", "location"),
            ("CONTACT", "contacts"),
            ("BUTTON", "buttons"),
            ("CAROUSEL", "elements"),
            ("TEMPLATE", "namespace"),
            ("TEMPLATE", "name"),
            ("NOTIFICATION", "notificationType"),
            ("DELIVERYNOTIFICATION", "messageId"),
            ("DELIVERYNOTIFICATION", "status"),
            ("DELETEDNOTIFICATION", "messageId"),
            ("COMMENT", "itemType"),
            ("COMMENT", "postId"),
            ("ACTION", "name"),
            ("VOICE", "callId"),
            ("VOICE", "leg"),
            ("EMAIL", "from"),
            ("WRAPUP", "wrapups"),
            ("FORM_DATA", "formId"),
        ] {
            rules.push((r#type, without(key), ["body.", key].concat().leak(), Required));
        }
        let degrees = |latitude: f64, longitude: f64| json!({ "location": { "latitude": latitude, "longitude": longitude } });
        let button = |key: &str, value: Value| {
            let mut button = json!({ "title": "t", "payload": "p", "type": "reply" });
            button[key] = value;
            json!([{ "title": "t", "payload": "p", "type": "reply" }, button])
        };
        rules.extend([
            ("LOCATION", json!({ "location": { "latitude": null } }), "body.location.latitude", Required),
            ("LOCATION", json!({ "location": { "longitude": null } }), "body.location.longitude", Required),
            ("LOCATION", degrees(90.000_001, 0.0), "body.location.latitude", OutOfRange),
            ("LOCATION", degrees(-90.000_001, 0.0), "body.location.latitude", OutOfRange),
            ("LOCATION", degrees(0.0, 180.000_001), "body.location.longitude", OutOfRange),
            ("LOCATION", degrees(0.0, -180.000_001), "body.location.longitude", OutOfRange),
            ("CONTACT", json!({ "contacts": [] }), "body.contacts", Required),
            ("CONTACT", json!({ "contacts": [{ "name": "A" }, {}] }), "body.contacts[1].name", Required),
            (
                "CONTACT",
                json!({ "contacts": [{ "name": "A" }, { "name": {} }] }),
                "body.contacts[1].name.formattedName",
                Required,
            ),
            ("BUTTON", json!({ "buttons": [] }), "body.buttons", Required),
            ("BUTTON", json!({ "buttons": button("title", Value::Null) }), "body.buttons[1].title", Required),
            ("BUTTON", json!({ "buttons": button("payload", json!("")) }), "body.buttons[1].payload", Required),
            ("BUTTON", json!({ "buttons": button("type", json!(" ")) }), "body.buttons[1].type", Required),
            ("CAROUSEL", json!({ "elements": [] }), "body.elements", Required),
            (
                "CAROUSEL",
                json!({ "elements": [{}, { "buttons": button("title", Value::Null) }] }),
                "body.elements[1].buttons[1].title",
                Required,
            ),
            ("WRAPUP", json!({ "wrapups": [] }), "body.wrapups", Required),
            ("PLAIN", json!({ "type": null }), "body.type", Required),
            ("SOMETHING_ELSE", json!({ "type": "" }), "body.type", Required),
            ("SOMETHING_ELSE", json!({ "type": " " }), "body.type", Required),
        ]);
        for (name, patch, path, reason) in rules {
            assert_eq!(broken(with_body(name, patch.clone())), [(path.to_owned(), reason)], "{name} {patch}");
        }
        assert_eq!(broken(json!({ "body": null })), [("body".to_owned(), Required)]);
        for (latitude, longitude) in [(90.0, 180.0), (-90.0, -180.0), (0.0, 0.0)] {
            assert_eq!(broken(with_body("LOCATION", degrees(latitude, longitude))), []);
        }
    }

    #[test]
    fn a_comment_may_be_named_by_the_header_instead() {
        for key in ["providerMessageId", "originalMessageId"] {
            let comment = |id: &str| {
                let mut patch = with_body("COMMENT", json!({ "postId": null }));
                patch["header"] = json!({ (key): id });
                patch
            };
            assert_eq!(broken(comment("x")), []);
            assert_eq!(broken(comment("")), [("body.postId".to_owned(), Reason::Required)]);
        }
    }

    #[test]
    fn a_type_that_is_modelled_is_no_generic_body() {
        let mut message = samples::decoded(&samples::json(json!({})));
        let generic = pb::GenericBody { r#type: "PLAIN".into() };
        message.body = Some(pb::Body { kind: Some(Kind::Generic(generic)), ..pb::Body::default() });
        assert_eq!(report(check(&mut message, &LIMITS)), [("body.type".to_owned(), Reason::Modelled)]);
    }

    #[test]
    fn with_an_intent_that_says_all_the_body_may_be_absent_or_anything() {
        for intent in BODILESS {
            for body in [Value::Null, json!({ "type": null }), with_body("BUTTON", json!({ "buttons": null }))["body"].clone()] {
                assert_eq!(broken(json!({ "header": { "intent": intent }, "body": body })), [], "{intent}");
            }
        }
        for intent in ["NONE", "start_chat", "", "CALL", "WRAPUP"] {
            let found = broken(json!({ "header": { "intent": intent }, "body": null }));
            assert_eq!(found, [("body".to_owned(), Reason::Required)], "{intent}");
        }
    }

    #[test]
    fn every_broken_rule_is_reported_at_once() {
        let found = broken(json!({
            "id": "",
            "header": {
                "sender": { "id": null, "type": null, "senderName": null },
                "channelData": { "channelCustomerIdentifier": null, "serviceIdentifier": null },
                "intent": "REPLY_TO",
            },
            "body": { "type": "BUTTON", "buttons": [{ "title": "t" }, { "payload": "p" }] },
        }));
        let paths: Vec<_> = found.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(
            paths,
            [
                "id",
                "header.sender.id",
                "header.sender.type",
                "header.sender.senderName",
                "header.channelData.channelCustomerIdentifier",
                "header.channelData.serviceIdentifier",
                "header.originalMessageId",
                "body.buttons[0].payload",
                "body.buttons[0].type",
                "body.buttons[1].title",
                "body.buttons[1].type",
            ]
        );
        assert!(found.iter().all(|(_, reason)| *reason == Reason::Required));
    }

    #[test]
    fn an_empty_message_lacks_header_and_body() {
        let found = report(check(&mut pb::CimMessage::default(), &LIMITS));
        assert_eq!(found, [("header".to_owned(), Reason::Required), ("body".to_owned(), Reason::Required)]);
    }

    #[test]
    fn an_id_has_a_bound_in_bytes() {
        for (id, found) in [
            ("x".repeat(256), vec![]),
            ("x".repeat(257), vec![("id".to_owned(), Reason::TooLong)]),
            ("ä".repeat(128), vec![]),
            ("ä".repeat(129), vec![("id".to_owned(), Reason::TooLong)]),
            (" ".to_owned(), vec![]),
        ] {
            assert_eq!(broken(json!({ "id": id })), found, "{} bytes", id.len());
        }
        assert_eq!(broken(json!({ "id": null })), []);
    }

    #[test]
    fn lists_and_free_form_json_have_bounds() {
        let stamps = |length: usize| json!({ "header": { "stamps": vec!["s"; length] } });
        assert_eq!(broken(stamps(LIMITS.bounds.list_length)), []);
        assert_eq!(broken(stamps(LIMITS.bounds.list_length + 1)), [("header.stamps".to_owned(), Reason::TooMany)]);
        let nested = |containers: usize| {
            let value = (1..containers).fold(json!({}), |value, _| json!([value]));
            json!({ "header": { "extra": value } })
        };
        assert_eq!(broken(nested(LIMITS.bounds.free_form_depth)), []);
        let deep = format!("header.extra{}", "[0]".repeat(LIMITS.bounds.free_form_depth));
        assert_eq!(broken(nested(LIMITS.bounds.free_form_depth + 1)), [(deep, Reason::TooDeep)]);
    }

    #[test]
    fn a_message_has_a_bound_as_protobuf() {
        let mut message = samples::message(json!({}));
        let bytes = message.encoded_len();
        for (most, found) in [(bytes - 1, vec![(String::new(), Reason::TooLarge)]), (bytes, vec![]), (bytes + 1, vec![])] {
            let limits = Limits { message_bytes: most, ..LIMITS };
            assert_eq!(report(check(&mut message, &limits)), found);
        }
    }

    #[test]
    fn checking_twice_changes_nothing_more() {
        for r#type in TYPES {
            let once = samples::message(with_body(r#type, json!({ "extra": [1, { "a": null }] })));
            let mut twice = once.clone();
            assert!(check(&mut twice, &LIMITS).is_empty());
            assert_eq!(twice, once);
        }
    }

    #[test]
    fn the_platform_speaks_to_the_customer_and_all_others_to_the_platform() {
        use Audience::{Customer, Platform};
        let from = |sender: &str, mut patch: Value| {
            patch["header"] = json!({ "sender": { "type": sender } });
            audience(&samples::message(patch))
        };
        for (sender, expected) in [
            ("AGENT", Customer),
            ("BOT", Customer),
            ("APP", Customer),
            ("SYSTEM", Customer),
            ("CUSTOMER", Platform),
            ("CONNECTOR", Platform),
            ("WEB_CHANNEL", Platform),
        ] {
            assert_eq!(from(sender, json!({})), expected, "{sender}");
            for internal in ["ACTION", "WRAPUP", "FORM_DATA"] {
                assert_eq!(from(sender, with_body(internal, json!({}))), Platform, "{internal} from {sender}");
            }
            for whisper in [json!(true), json!("true"), json!(" True "), json!(1)] {
                assert_eq!(from(sender, json!({ "body": { "isWhisper": whisper } })), Platform, "{whisper} from {sender}");
            }
            for aloud in [json!(false), json!("false"), json!(0), json!(2), json!("1"), json!({}), json!([true])] {
                assert_eq!(from(sender, json!({ "body": { "isWhisper": aloud } })), expected, "{aloud} from {sender}");
            }
        }
        assert_eq!(audience(&pb::CimMessage::default()), Platform);
    }

    #[test]
    fn only_notifications_that_a_party_types_are_typing() {
        let notification = |notification: &str| {
            is_typing(&samples::message(with_body("NOTIFICATION", json!({ "notificationType": notification }))))
        };
        assert!(notification("TYPING_STARTED") && notification("TYPING_STOPPED"));
        assert!(!notification("INFO") && !notification("typing_started"));
        assert!(!is_typing(&samples::message(json!({ "body": { "notificationType": "TYPING_STARTED" } }))));
        assert!(!is_typing(&pb::CimMessage::default()));
    }

    #[test]
    fn notifications_and_the_end_of_a_chat_open_no_session() {
        for name in TYPES {
            let notification = ["NOTIFICATION", "DELIVERYNOTIFICATION", "DELETEDNOTIFICATION"].contains(&name);
            assert_eq!(may_open(&samples::message(with_body(name, json!({})))), !notification, "{name}");
        }
        for (intent, opens) in [
            ("END_CHAT", false),
            ("NETWORK_DISCONNECT", false),
            ("START_CHAT", true),
            ("END_VOICE", true),
            ("AGENT_OUTBOUND", true),
        ] {
            assert_eq!(may_open(&samples::message(json!({ "header": { "intent": intent }, "body": null }))), opens, "{intent}");
        }
    }

    #[test]
    fn what_a_customer_says_or_types_is_of_the_customer_whoever_brings_it() {
        let by = |sender: &str, body: Value| {
            let sender = json!({ "id": "s", "type": sender, "senderName": "S" });
            is_of_customer(&samples::message(json!({ "header": { "sender": sender }, "body": body })))
        };
        let typing = || json!({ "type": "NOTIFICATION", "notificationType": "TYPING_STARTED" });
        let report = || json!({ "type": "DELIVERYNOTIFICATION", "messageId": "m", "status": "READ" });
        for sender in ["CUSTOMER", "CONNECTOR"] {
            assert!(by(sender, json!({})) && by(sender, typing()) && !by(sender, report()), "{sender}");
        }
        for sender in ["AGENT", "BOT", "APP", "SYSTEM"] {
            assert!(!by(sender, json!({})) && !by(sender, typing()), "{sender}");
        }
    }

    #[test]
    fn fresh_ids_are_unique_and_sort_by_the_time_they_were_made() {
        let ids: Vec<_> = (0..1000).map(|_| fresh_id()).collect();
        assert!(ids.is_sorted_by(|earlier, later| earlier < later));
        assert!(ids.iter().all(|id| Uuid::parse_str(id).is_ok_and(|id| id.get_version_num() == 7)));
    }
}
