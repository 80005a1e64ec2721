//! Messages in the words of the domain.

use cim_gateway::pb::body::Kind;
use cim_gateway::pb::subscribe_notifications_request::Start;
use cim_gateway::pb::{
    AcceptedMessage, Body, ChannelData, CimMessage, Header, NotificationBody, NotificationFilter, PlainBody, Sender, SenderType,
    StartPoint, SubscribeNotificationsRequest,
};
use prost_types::Timestamp;
use prost_types::value::Kind as Json;
use prost_types::{ListValue, Struct, Value};
use std::time::Duration;

/// A text that a customer says on a channel, by way of its connector.
pub fn says(channel: &str, customer: &str, text: &str) -> CimMessage {
    let sender = Sender {
        id: Some("connector-1".into()),
        r#type: SenderType::Connector.into(),
        sender_name: Some("WEB_CONNECTOR".into()),
        ..Sender::default()
    };
    let channel_data = ChannelData {
        channel_customer_identifier: Some(customer.into()),
        service_identifier: Some(channel.into()),
        ..ChannelData::default()
    };
    CimMessage {
        header: Some(Header { sender: Some(sender), channel_data: Some(channel_data), ..Header::default() }),
        body: Some(Body { markdown_text: Some(text.into()), kind: Some(Kind::Plain(PlainBody::default())), ..Body::default() }),
        ..CimMessage::default()
    }
}

/// A text of the one customer that most tests need.
pub fn hello(text: &str) -> CimMessage {
    says("shop", "ada", text)
}

/// The texts `from..to` of that customer, in order.
pub fn counted(numbers: impl IntoIterator<Item = usize>) -> impl Iterator<Item = CimMessage> {
    numbers.into_iter().map(|number| hello(&number.to_string()))
}

/// How a message differs from another.
pub trait Differs {
    fn with_id(self, id: &str) -> Self;
    fn at(self, seconds: i64) -> Self;
    fn by(self, sender: SenderType) -> Self;
    fn with_intent(self, intent: &str) -> Self;
    fn with_body(self, kind: Kind) -> Self;
    fn with_extra(self, key: &str, value: Value) -> Self;
    fn header_mut(&mut self) -> &mut Header;
}

impl Differs for CimMessage {
    fn with_id(mut self, id: &str) -> Self {
        self.id = Some(id.into());
        self
    }

    fn at(mut self, seconds: i64) -> Self {
        self.header_mut().timestamp = Some(Timestamp { seconds, nanos: 0 });
        self
    }

    fn by(mut self, sender: SenderType) -> Self {
        self.header_mut().sender.get_or_insert_default().r#type = sender.into();
        self
    }

    fn with_intent(mut self, intent: &str) -> Self {
        self.header_mut().intent = Some(intent.into());
        self
    }

    fn with_body(mut self, kind: Kind) -> Self {
        self.body.get_or_insert_default().kind = Some(kind);
        self
    }

    fn with_extra(mut self, key: &str, value: Value) -> Self {
        self.body.get_or_insert_default().extra_fields.get_or_insert_default().fields.insert(key.into(), value);
        self
    }

    fn header_mut(&mut self) -> &mut Header {
        self.header.get_or_insert_default()
    }
}

/// A notification that somebody is typing.
pub fn typing() -> CimMessage {
    notification("TYPING_STARTED")
}

/// A notification of the one customer.
pub fn notification(name: &str) -> CimMessage {
    let body = NotificationBody { notification_type: Some(name.into()), notification_data: Some(Struct::default()) };
    hello("").with_body(Kind::Notification(body))
}

/// A JSON value of `depth` containers in one another: lists and objects by turns.
pub fn nested(depth: usize) -> Value {
    let mut value = Value { kind: Some(Json::BoolValue(true)) };
    for level in 0..depth {
        let kind = if level % 2 == 0 {
            Json::ListValue(ListValue { values: vec![value] })
        } else {
            Json::StructValue(Struct { fields: [("k".to_owned(), value)].into() })
        };
        value = Value { kind: Some(kind) };
    }
    value
}

/// The text of a message, or the name of a notification.
pub fn said(accepted: &AcceptedMessage) -> String {
    let body = accepted.message.as_ref().and_then(|message| message.body.as_ref()).expect("every message here has a body");
    match &body.kind {
        Some(Kind::Notification(notification)) => notification.notification_type.clone().unwrap_or_default(),
        _ => body.markdown_text.clone().unwrap_or_default(),
    }
}

/// A subscription to what is yet to come.
pub fn latest() -> SubscribeNotificationsRequest {
    SubscribeNotificationsRequest::default()
}

/// A subscription to all that is kept.
pub fn earliest() -> SubscribeNotificationsRequest {
    starting(Start::StartPoint(StartPoint::Earliest.into()))
}

/// A subscription to what comes after a cursor.
pub fn after(cursor: &str) -> SubscribeNotificationsRequest {
    starting(Start::AfterCursor(cursor.into()))
}

/// A subscription to what was accepted at a time or later.
pub fn since(time: Timestamp) -> SubscribeNotificationsRequest {
    starting(Start::AcceptedSince(time))
}

/// A subscription from a start of any kind.
pub fn starting(start: Start) -> SubscribeNotificationsRequest {
    SubscribeNotificationsRequest { start: Some(start), ..SubscribeNotificationsRequest::default() }
}

/// How a subscription differs from another.
pub trait Wants {
    fn only(self, filter: NotificationFilter) -> Self;
    fn on(self, channel: &str) -> Self;
    fn beating_every(self, interval: Duration) -> Self;
}

impl Wants for SubscribeNotificationsRequest {
    fn only(mut self, filter: NotificationFilter) -> Self {
        self.filter = Some(filter);
        self
    }

    fn on(mut self, channel: &str) -> Self {
        self.filter.get_or_insert_default().service_identifiers.push(channel.into());
        self
    }

    fn beating_every(mut self, interval: Duration) -> Self {
        self.heartbeat_interval = Some(interval.try_into().expect("intervals in tests are short"));
        self
    }
}
