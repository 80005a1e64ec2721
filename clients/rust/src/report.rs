//! Lines of JSON on standard output.

use crate::pb::{AcceptedMessage, SendMessageResponse};
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};
use serde_json::json;
use std::sync::LazyLock;

/// The message as its proto describes it: prost's own types have no JSON.
static CIM_MESSAGE: LazyLock<MessageDescriptor> = LazyLock::new(|| {
    let descriptors = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
    let pool = DescriptorPool::decode(descriptors.as_slice()).expect("build.rs wrote them");
    pool.get_message_by_name("cim.v1.CimMessage").expect("the protos have it")
});

pub(crate) fn heartbeat(cursor: &str) {
    println!("{}", json!({ "event": "heartbeat", "cursor": cursor }));
}

pub(crate) fn disconnected(cursor: &str) {
    println!("{}", json!({ "event": "disconnected", "cursor": cursor }));
}

pub(crate) fn sent(answer: &SendMessageResponse) {
    let SendMessageResponse { message_id, conversation_id, duplicate, .. } = answer;
    let line = json!({ "event": "sent", "messageId": message_id, "conversationId": conversation_id, "duplicate": duplicate });
    println!("{line}");
}

pub(crate) fn message(accepted: &AcceptedMessage) {
    let bytes = accepted.message.as_ref().map(prost::Message::encode_to_vec).unwrap_or_default();
    let message = DynamicMessage::decode(CIM_MESSAGE.clone(), bytes.as_slice()).expect("it was just encoded");
    println!("{}", json!({ "event": "message", "cursor": accepted.cursor, "message": message }));
}

pub(crate) fn answered(message_id: &str, notification_id: &str, cursor: &str) {
    let line = json!({ "event": "answered", "messageId": message_id, "notificationId": notification_id, "cursor": cursor });
    println!("{line}");
}
