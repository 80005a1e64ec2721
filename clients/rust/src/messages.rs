//! What this connector says.

use crate::pb::body::Kind;
use crate::pb::{
    Body, ChannelData, CimMessage, DeliveryNotificationBody, DeliveryStatus, Header, ReceiptAddress, ReceiptAdjustment,
    ReceiptBody, ReceiptElement, ReceiptSummary, Sender, SenderType,
};
use prost_types::value::Kind as Json;
use prost_types::{ListValue, NullValue, Struct, Timestamp, Value};
use std::time::SystemTime;
use uuid::Uuid;

/// A message to the gateway on behalf of a customer, or of a bot.
pub(crate) fn message(sender_type: SenderType, channel: &str, customer: &str) -> CimMessage {
    CimMessage {
        id: Some(Uuid::new_v4().to_string()),
        header: Some(Header {
            sender: Some(sender(sender_type)),
            channel_data: Some(ChannelData {
                channel_customer_identifier: Some(customer.to_owned()),
                service_identifier: Some(channel.to_owned()),
                customer_first_name: Some("Zoë".into()),
                request_priority: 3,
                ..Default::default()
            }),
            timestamp: Some(now()),
            ..Default::default()
        }),
        body: Some(receipt()),
        ..Default::default()
    }
}

/// The notification that a message reached the customer.
pub(crate) fn delivered(about: &CimMessage) -> CimMessage {
    let header = about.header.clone().unwrap_or_default();
    CimMessage {
        id: Some(Uuid::new_v4().to_string()),
        header: Some(Header {
            sender: Some(sender(SenderType::Connector)),
            channel_data: header.channel_data,
            channel_session_id: header.channel_session_id,
            conversation_id: header.conversation_id,
            timestamp: Some(now()),
            ..Default::default()
        }),
        body: Some(Body {
            kind: Some(Kind::DeliveryNotification(DeliveryNotificationBody {
                message_id: about.id.clone(),
                status: DeliveryStatus::Delivered.into(),
                reason_code: Some("200".into()),
            })),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn sender(sender_type: SenderType) -> Sender {
    Sender {
        id: Some("rust-1".into()),
        r#type: sender_type.into(),
        sender_name: Some("RUST_CONNECTOR".into()),
        additional_detail: Some(additional_detail()),
        ..Default::default()
    }
}

/// What else is known of the sender.
fn additional_detail() -> Struct {
    object([
        ("software", text("rust")),
        ("score", number(0.75)),
        ("visits", number(3.0)),
        ("vip", value(Json::BoolValue(true))),
        ("referrer", value(Json::NullValue(NullValue::NullValue.into()))),
        ("tags", value(Json::ListValue(ListValue { values: vec![text("new"), text("web")] }))),
        ("device", value(Json::StructValue(object([("os", text("Linux")), ("width", number(1080.0))])))),
    ])
}

/// The receipt of an order.
fn receipt() -> Body {
    let receipt = ReceiptBody {
        sharable: Some(true),
        recipient_name: Some("Zoë".into()),
        merchant_name: Some("Fahrrad & Söhne".into()),
        order_number: Some("4711".into()),
        currency: Some("EUR".into()),
        payment_method: Some("Visa 1234".into()),
        timestamp: Some("1428444852".into()),
        elements: vec![ReceiptElement {
            title: Some("City bike".into()),
            quantity: 2,
            price: 9_007_199_254_740_993,
            currency: Some("EUR".into()),
            image_url: Some("https://shop.example.org/bike.png".into()),
            ..Default::default()
        }],
        address: Some(ReceiptAddress {
            street1: Some("Große Straße 7".into()),
            city: Some("Köln".into()),
            postal_code: Some("50667".into()),
            country: Some("DE".into()),
            ..Default::default()
        }),
        summary: Some(ReceiptSummary { subtotal: 499, shipping_cost: 20, total_tax: 83, total_cost: 499, ..Default::default() }),
        adjustments: vec![ReceiptAdjustment { name: Some("Voucher".into()), amount: -20, ..Default::default() }],
        additional_details: Some(value(Json::StructValue(object([("loyaltyPoints", number(12.5))])))),
        ..Default::default()
    };
    Body { markdown_text: Some("Thank you for your order 🧾".into()), kind: Some(Kind::Receipt(receipt)), ..Default::default() }
}

fn object<const N: usize>(fields: [(&str, Value); N]) -> Struct {
    Struct { fields: fields.map(|(key, value)| (key.to_owned(), value)).into() }
}

fn value(json: Json) -> Value {
    Value { kind: Some(json) }
}

fn text(text: &str) -> Value {
    value(Json::StringValue(text.into()))
}

fn number(number: f64) -> Value {
    value(Json::NumberValue(number))
}

/// To the millisecond, which is what the gateway keeps.
fn now() -> Timestamp {
    let mut now = Timestamp::from(SystemTime::now());
    now.nanos -= now.nanos % 1_000_000;
    now
}
