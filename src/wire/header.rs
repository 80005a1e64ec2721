//! The envelope, the header and its objects, key by key.

use super::codec::{Any, Codec};
use super::codec::{Flag, Int32, Many, Map, MapIfSet, Name, Names, One, Text, TextList, Time};
use super::object::{self, Part, Whole, extras, fields};
use super::path::Path;
use super::read::Reader;
use super::text::Node;
use super::tidy::Tidier;
use super::write::Writer;
use crate::pb;
use crate::pb::SenderType;
use crate::violation::Reason;

fields!(pb::CimMessage {
    "id" => id: Text;
    "header" => header: One<pb::Header>;
    "body" => body: One<pb::Body>;
});

fields!(pb::Header {
    "sender" => sender: One<pb::Sender>;
    "channelData" => channel_data: One<pb::ChannelData>;
    "language" => language: Map;
    "timestamp" => timestamp: Time;
    "securityInfo" => security_info: Map;
    "stamps" => stamps: TextList;
    "intent" => intent: Text;
    "entities" => entities: Map;
    "channelSessionId" => channel_session_id: Text, also "channelsessionId";
    "conversationId" => conversation_id: Text;
    "customer" => customer: One<pb::Customer>;
    "originalMessageId" => original_message_id: Text, also "replyToMessageId";
    "providerMessageId" => provider_message_id: Text;
    "schedulingMetaData" => scheduling_meta_data: Map;
    "roomId" => room_id: Text, also "roomID";
    "additionalData" => additional_data: MapIfSet;
});

fields!(pb::Sender {
    "id" => id: Text;
    "type" => sender_type, with Kind;
    "senderName" => sender_name: Text;
    "additionalDetail" => additional_detail: Map;
});

fields!(pb::ChannelData {
    "channelCustomerIdentifier" => channel_customer_identifier: Text;
    "serviceIdentifier" => service_identifier: Text;
    "customerFirstName" => customer_first_name: Text;
    "customerLastName" => customer_last_name: Text;
    "requestPriority" => request_priority: Int32;
    "additionalAttributes" => additional_attributes: Many<pb::Attribute>;
});

fields!(pb::Attribute {
    "key" => key: Text;
    "type" => r#type: Name<pb::ValueType>;
    "value" => value: Any;
});

fields!(pb::Customer {
    "_id" => id: Text, also "id";
    "firstName" => first_name: Text;
    "phoneNumber" => phone_number: TextList;
    "isAnonymous" => is_anonymous: Flag;
    "__v" => version: Int32;
    "additionalDetail" => additional_detail: Map;
});

extras!(pb::CimMessage, pb::Header, pb::Sender, pb::ChannelData, pb::Attribute, pb::Customer);

impl Whole for pb::CimMessage {}
impl Whole for pb::Header {}
impl Whole for pb::Sender {}
impl Whole for pb::ChannelData {}
impl Whole for pb::Attribute {}

/// The id stands twice, as the page documents it and as the platform stores it. If a client sent two different ones, its `id` is
/// among the extras.
impl Whole for pb::Customer {
    fn write_whole(&self, writer: &mut Writer<'_>) {
        let extras = self.extra_fields.as_ref().map(|extras| &extras.fields);
        writer.begin_object();
        match extras.and_then(|extras| extras.get("id")) {
            Some(other) => writer.extra("id", other),
            None => writer.member("id", "\"id\":", |writer| Text::write(&self.id, writer)),
        }
        object::Fields::write_fields(self, writer);
        for (key, value) in extras.into_iter().flatten().filter(|(key, _)| *key != "id") {
            writer.extra(key, value);
        }
        writer.end_object();
    }
}

/// The sender's type: a closed set that is open in practice, so another name is kept beside the enum.
struct Kind;

/// The sender type that a name stands for, in any case and with spaces around it.
pub fn sender_type(name: &str) -> Option<SenderType> {
    SenderType::try_from(SenderType::number(name.trim())?).ok()
}

impl Part<pb::Sender> for Kind {
    fn read(sender: &mut pb::Sender, node: Node<'_>, at: &Path<'_>, reader: &mut Reader) {
        let Some(name) = Text::read(node, at, reader) else { return };
        match SenderType::number(name.trim()) {
            Some(known) => sender.r#type = known,
            None => {
                sender.r#type = SenderType::Other.into();
                sender.type_name = Some(name.trim().to_owned());
            }
        }
    }

    fn write(sender: &pb::Sender, writer: &mut Writer<'_>) {
        if sender.r#type == i32::from(SenderType::Other) {
            Text::write(&sender.type_name, writer);
        } else {
            Name::<SenderType>::write(&sender.r#type, writer);
        }
    }

    fn tidy(sender: &mut pb::Sender, at: &Path<'_>, tidier: &mut Tidier<'_>) {
        let other = i32::from(SenderType::Other);
        match (&mut sender.type_name, sender.r#type == other) {
            (None, true) => tidier.violations.add(at, Reason::Required, "needs type_name beside SENDER_TYPE_OTHER"),
            (Some(_), false) => {
                tidier.violations.add(at, Reason::Contradiction, "type_name goes with SENDER_TYPE_OTHER only");
            }
            (None, false) => Name::<SenderType>::tidy(&mut sender.r#type, at, tidier),
            (Some(name), true) => {
                *name = name.trim().to_owned();
                if let Some(known) = SenderType::number(name) {
                    sender.r#type = known;
                    sender.type_name = None;
                }
            }
        }
    }
}

impl Names for SenderType {
    const NAMES: &'static [(i32, &'static str)] = &[
        (Self::Agent as i32, "AGENT"),
        (Self::Bot as i32, "BOT"),
        (Self::Customer as i32, "CUSTOMER"),
        (Self::App as i32, "APP"),
        (Self::Connector as i32, "CONNECTOR"),
        (Self::System as i32, "SYSTEM"),
    ];
}

impl Names for pb::ValueType {
    const NAMES: &'static [(i32, &'static str)] = &[
        (Self::Alphanum100 as i32, "Alphanum100"),
        (Self::AlphanumSpecial200 as i32, "AlphanumSpecial200"),
        (Self::String2000 as i32, "String2000"),
        (Self::String50 as i32, "String50"),
        (Self::String100 as i32, "String100"),
        (Self::PositiveNumber as i32, "PositiveNumber"),
        (Self::Ip as i32, "IP"),
        (Self::Number as i32, "Number"),
        (Self::PhoneNumber as i32, "PhoneNumber"),
        (Self::Url as i32, "URL"),
        (Self::Boolean as i32, "Boolean"),
        (Self::Email as i32, "Email"),
        (Self::Password as i32, "Password"),
        (Self::StringList as i32, "StringList"),
        (Self::WebChannelData as i32, "WebChannelData"),
    ];
}
