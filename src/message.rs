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
    let notification =
        matches!(kind(message), Some(Kind::DeliveryNotification(_) | Kind::DeletedNotification(_) | Kind::Notification(_)));
    !notification && intent(message) != Some("END_CHAT")
}

/// Who a message is for. What agents, bots, applications and the platform say is for the customer, all else for the platform; so
/// are requests to the platform and whispers between agents, whoever says them.
pub fn audience(message: &pb::CimMessage) -> Audience {
    let sender = message.header.as_ref().and_then(|header| header.sender.as_ref());
    let from_platform = sender.is_some_and(|sender| {
        matches!(sender.r#type(), SenderType::Agent | SenderType::Bot | SenderType::App | SenderType::System)
    });
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

/// The intent of the header.
pub fn intent(message: &pb::CimMessage) -> Option<&str> {
    message.header.as_ref().and_then(|header| header.intent.as_deref())
}
