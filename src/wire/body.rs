//! The body and its kinds, key by key.

use super::Exact;
use super::codec::{Any, AnyList, Bool, Code, Codec, Degrees, Int64, Many, Map, MapIfSet, MapOrEmpty, Name, Names, Object, One};
use super::codec::{TemplateType, Text, TextList, Time};
use super::object::{Fields, Slots, Whole, extras, fields};
use super::path::Path;
use super::read::Reader;
use super::text::{Json, Members, Node};
use super::tidy::Tidier;
use super::write::Writer;
use crate::pb;
use crate::pb::body::Kind;
use crate::violation::Reason;
use prost_types::Value;

fields!(pb::MediaBody {
    "caption" => caption: Text;
    "attachment" => attachment: One<pb::Attachment>;
    "additionalDetails" => additional_details: Any;
});

fields!(pb::Attachment {
    "mediaUrl" => media_url: Text;
    "thumbnail" => thumbnail: Text;
    "mimeType" => mime_type: Text;
    "size" => size: Int64;
    "mediaLabel" => media_label: Text;
    "mediaName" => media_name: Text;
});

fields!(pb::StickerBody {
    "mediaUrl" => media_url: Text;
    "stickerId" => sticker_id: Text;
    "additionalDetails" => additional_details: Any;
});

fields!(pb::LocationBody {
    "location" => location: One<pb::Location>;
    "additionalDetails" => additional_details: Any;
});

fields!(pb::Location {
    "latitude" => latitude: Degrees;
    "longitude" => longitude: Degrees;
});

fields!(pb::ContactBody {
    "contacts" => contacts: Many<pb::Contact>;
    "additionalDetails" => additional_details: Any;
});

fields!(pb::Contact {
    "name" => name: One<pb::ContactName>;
    "phones" => phones: Many<pb::ContactPhone>;
    "additionalContactDetails" => additional_contact_details: Any;
});

fields!(pb::ContactName {
    "formattedName" => formatted_name: Text;
    "additionalNameDetails" => additional_name_details: Any;
});

fields!(pb::ContactPhone {
    "phone" => phone: Text;
    "additionalPhoneDetails" => additional_phone_details: Any;
});

fields!(pb::UrlBody {
    "mediaUrl" => media_url: Text, also "mediaURL";
    "additionalDetails" => additional_details: Any;
});

fields!(pb::ButtonBody {
    "buttonMessageType" => button_message_type: Name<pb::ButtonMessageType>;
    "additionalDetails" => additional_details: Any;
    "buttons" => buttons: Many<pb::Button>;
});

fields!(pb::Button {
    "title" => title: Text;
    "payload" => payload: Text;
    "type" => r#type: Text;
    "additionalButtonDetails" => additional_button_details: Any;
});

fields!(pb::CarouselBody {
    "carouselMessageType" => carousel_message_type: Name<pb::CarouselMessageType>;
    "elements" => elements: Many<pb::CarouselElement>;
    "additionalDetails" => additional_details: Any;
});

fields!(pb::CarouselElement {
    "text" => text: Text;
    "url" => url: Text;
    "buttons" => buttons: Many<pb::Button>;
    "defaultAction" => default_action: One<pb::DefaultAction>;
    "additionalCarouselElementDetails" => additional_carousel_element_details: Any;
});

fields!(pb::DefaultAction {
    "type" => r#type: Text;
    "url" => url: Text;
});

fields!(pb::ReceiptBody {
    "templateType" => template_type: TemplateType;
    "sharable" => sharable: Bool;
    "recipientName" => recipient_name: Text;
    "merchantName" => merchant_name: Text;
    "orderNumber" => order_number: Text;
    "currency" => currency: Text;
    "paymentMethode" => payment_method: Text, also "paymentMethod";
    "timestamp" => timestamp: Text;
    "elements" => elements: Many<pb::ReceiptElement>;
    "address" => address: One<pb::ReceiptAddress>;
    "summary" => summary: One<pb::ReceiptSummary>;
    "adjustments" => adjustments: Many<pb::ReceiptAdjustment>;
    "additionalDetails" => additional_details: Any;
});

fields!(pb::ReceiptElement {
    "title" => title: Text;
    "subtitle" => subtitle: Text;
    "quantity" => quantity: Int64;
    "price" => price: Int64;
    "currency" => currency: Text;
    "imageUrl" => image_url: Text;
});

fields!(pb::ReceiptAddress {
    "street1" => street1: Text;
    "street2" => street2: Text;
    "city" => city: Text;
    "postalCode" => postal_code: Text;
    "state" => state: Text;
    "country" => country: Text;
});

fields!(pb::ReceiptSummary {
    "subtotal" => subtotal: Int64;
    "shippingCost" => shipping_cost: Int64;
    "totalTax" => total_tax: Int64;
    "totalCost" => total_cost: Int64;
});

fields!(pb::ReceiptAdjustment {
    "name" => name: Text;
    "amount" => amount: Int64;
});

fields!(pb::TemplateBody {
    "namespace" => template_namespace: Text;
    "name" => name: Text;
    "language" => language: One<pb::TemplateLanguage>;
    "components" => components: Many<pb::TemplateComponent>, also "component";
    "additionalDetails" => additional_details: Any;
});

fields!(pb::TemplateLanguage {
    "code" => code: Text;
    "policy" => policy: Text;
});

fields!(pb::TemplateComponent {
    "type" => r#type: Name<pb::ComponentType>;
    "additionalComponentDetails" => additional_component_details: Any;
    "parameters" => parameters: Many<pb::TemplateParameter>;
});

fields!(pb::TemplateParameter {
    "parameterType" => parameter_type: Name<pb::ParameterType>;
    "additionalParameterDetails" => additional_parameter_details: Any;
});

fields!(pb::CustomBody {
    "jsonNode" => json_node: Any;
});

fields!(pb::StructuredMessageBody {
    "additionalDetails" => additional_details: Any;
});

fields!(pb::NotificationBody {
    "notificationType" => notification_type: Text;
    "notificationData" => notification_data: MapOrEmpty;
});

fields!(pb::DeliveryNotificationBody {
    "messageId" => message_id: Text;
    "status" => status: Name<pb::DeliveryStatus>;
    "reasonCode" => reason_code: Code;
});

fields!(pb::DeletedNotificationBody {
    "messageId" => message_id: Text;
    "timestamp" => timestamp: Time;
});

fields!(pb::VoiceBody {
    "callId" => call_id: Text;
    "leg" => leg: Text;
    "reasonCode" => reason_code: Text;
});

fields!(pb::ActionBody {
    "name" => name: Text;
    "data" => data: Map;
});

fields!(pb::WrapupBody {
    "wrapups" => wrapups: AnyList;
    "note" => note: Text;
});

fields!(pb::CommentBody {
    "postId" => post_id: Text;
    "attachment" => attachment: One<pb::Attachment>;
    "itemType" => item_type: Name<pb::ItemType>;
    "additionalData" => additional_data: MapIfSet;
});

fields!(pb::EmailBody {
    "subject" => subject: Text;
    "from" => from_address: Text;
    "replyTo" => reply_to: TextList;
    "receivingDate" => receiving_date: Time;
    "htmlBody" => html_body: Text;
    "recipientsTo" => recipients_to: TextList;
    "recipientsCc" => recipients_cc: TextList;
    "recipientsBcc" => recipients_bcc: TextList;
    "emailThreads" => email_threads: TextList;
    "attachments" => attachments: Many<pb::Attachment>;
    "additionalDetails" => additional_details: Any;
});

fields!(pb::FormDataBody {
    "formId" => form_id: Text;
    "formTitle" => form_title: Text;
    "formDescription" => form_description: Text;
    "enableSections" => enable_sections: Bool;
    "enableWeightage" => enable_weightage: Bool;
    "attributeType" => attribute_type: Text;
    "formWeightage" => form_weightage: Any;
    "formScore" => form_score: Any;
    "additionalDetail" => additional_detail: Map;
    "sentiment" => sentiment: One<pb::FormSentiment>;
    "sections" => sections: AnyList;
    "additionalDetails" => additional_details: Any;
});

fields!(pb::FormSentiment {
    "result" => result: Text;
    "color" => color: Text;
});

extras!(
    pb::Attachment,
    pb::Location,
    pb::Contact,
    pb::ContactName,
    pb::ContactPhone,
    pb::Button,
    pb::CarouselElement,
    pb::DefaultAction,
    pb::ReceiptElement,
    pb::ReceiptAddress,
    pb::ReceiptSummary,
    pb::ReceiptAdjustment,
    pb::TemplateLanguage,
    pb::TemplateComponent,
    pb::TemplateParameter,
    pb::FormSentiment,
);

impl Whole for pb::Attachment {}
impl Whole for pb::Location {}
impl Whole for pb::Contact {}
impl Whole for pb::ContactPhone {}
impl Whole for pb::Button {}
impl Whole for pb::CarouselElement {}
impl Whole for pb::DefaultAction {}
impl Whole for pb::ReceiptElement {}
impl Whole for pb::ReceiptAddress {}
impl Whole for pb::ReceiptSummary {}
impl Whole for pb::ReceiptAdjustment {}
impl Whole for pb::TemplateComponent {}
impl Whole for pb::TemplateParameter {}
impl Whole for pb::FormSentiment {}

/// A bare text is the formatted name.
impl Whole for pb::ContactName {
    fn short(node: Node<'_>, _at: &Path<'_>, _reader: &mut Reader) -> Option<Self> {
        let Json::Text(name) = node.json() else { return None };
        Some(Self { formatted_name: Some(name.into_owned()), ..Self::default() })
    }
}

/// A bare text is the language code.
impl Whole for pb::TemplateLanguage {
    fn short(node: Node<'_>, _at: &Path<'_>, _reader: &mut Reader) -> Option<Self> {
        let Json::Text(code) = node.json() else { return None };
        Some(Self { code: Some(code.into_owned()), ..Self::default() })
    }
}

/// The kinds of body that the model knows: `"TYPE" => Variant(Type)`.
macro_rules! kinds {
    ($($name:literal => $variant:ident($type:ty);)*) => {
        /// Each type in JSON with its kind.
        #[cfg(test)]
        pub(super) const KINDS: &[(&str, &str)] = &[$(($name, stringify!($variant))),*];

        /// The type of a body as JSON has it; none where it is unset.
        pub fn type_name(body: &pb::Body) -> Option<&str> {
            match body.kind.as_ref()? {
                $(Kind::$variant(_) => Some($name),)*
                Kind::Generic(generic) => Some(&generic.r#type),
            }
        }

        fn read_kind(name: &str, members: Members<'_>, at: &Path<'_>, reader: &mut Reader) -> pb::Body {
            match name {
                $($name => read_body::<$type>(members, at, reader, |kind| Kind::$variant(kind.into())),)*
                other => read_body::<pb::GenericBody>(members, at, reader, |mut kind| {
                    kind.r#type = other.to_owned();
                    Kind::Generic(kind)
                }),
            }
        }

        fn write_kind(kind: &Kind, writer: &mut Writer<'_>) {
            match kind {
                $(Kind::$variant(kind) => <$type as Fields>::write_fields(kind, writer),)*
                Kind::Generic(_) => {}
            }
        }

        fn tidy_kind(kind: &mut Kind, at: &Path<'_>, tidier: &mut Tidier<'_>) {
            match kind {
                $(Kind::$variant(kind) => <$type as Fields>::tidy_fields(kind, at, tidier),)*
                Kind::Generic(kind) => {
                    if [$($name),*].contains(&kind.r#type.as_str()) {
                        let message = format!("{} must stand in the kind of the model, found as a generic body", kind.r#type);
                        tidier.violations.add(at.key("type"), Reason::Modelled, message);
                    }
                }
            }
        }

        fn is_modelled(kind: Option<&Kind>, key: &str, extra: &Value, at: &Path<'_>, exact: &Exact) -> bool {
            let of_kind = match kind {
                $(Some(Kind::$variant(kind)) => <$type as Fields>::is_modelled(kind, key, extra, at, exact),)*
                Some(Kind::Generic(_)) | None => false,
            };
            of_kind || matches!(key, "type" | "markdownText")
        }
    };
}

kinds! {
    "PLAIN" => Plain(pb::PlainBody);
    "IMAGE" => Image(pb::MediaBody);
    "VIDEO" => Video(pb::MediaBody);
    "AUDIO" => Audio(pb::MediaBody);
    "FILE" => File(pb::MediaBody);
    "MULTIMEDIA" => Multimedia(pb::MediaBody);
    "STICKER" => Sticker(pb::StickerBody);
    "LOCATION" => Location(pb::LocationBody);
    "CONTACT" => Contact(pb::ContactBody);
    "URL" => Url(pb::UrlBody);
    "BUTTON" => Button(pb::ButtonBody);
    "CAROUSEL" => Carousel(pb::CarouselBody);
    "RECEIPT" => Receipt(pb::ReceiptBody);
    "TEMPLATE" => Template(pb::TemplateBody);
    "CUSTOM" => Custom(pb::CustomBody);
    "StructuredMessage" => StructuredMessage(pb::StructuredMessageBody);
    "NOTIFICATION" => Notification(pb::NotificationBody);
    "DELIVERYNOTIFICATION" => DeliveryNotification(pb::DeliveryNotificationBody);
    "DELETEDNOTIFICATION" => DeletedNotification(pb::DeletedNotificationBody);
    "VOICE" => Voice(pb::VoiceBody);
    "ACTION" => Action(pb::ActionBody);
    "WRAPUP" => Wrapup(pb::WrapupBody);
    "COMMENT" => Comment(pb::CommentBody);
    "EMAIL" => Email(pb::EmailBody);
    "FORM_DATA" => FormData(pb::FormDataBody);
}

/// A text has no fields of its own.
impl Fields for pb::PlainBody {}

/// A body of an unknown type has no fields of its own: all that it carries is extra.
impl Fields for pb::GenericBody {}

fn read_body<F: Fields>(members: Members<'_>, at: &Path<'_>, reader: &mut Reader, kind: impl FnOnce(F) -> Kind) -> pb::Body {
    let mut extras = None;
    let mut text = None;
    let slots = Slots::sort(members, F::KEYS, F::row, |key, node| match key.as_ref() {
        "type" => {}
        "markdownText" => text = Some(node),
        _ => reader.insert(extras.get_or_insert_default(), key, node, at),
    });
    let text = text.filter(|text| !text.is_null()).and_then(|text| Text::read(text, &at.key("markdownText"), reader));
    let fields = F::read_fields(&slots, at, reader, &mut extras);
    pb::Body { markdown_text: text, extra_fields: extras, kind: Some(kind(fields)) }
}

impl Object for pb::Body {
    fn read(members: Members<'_>, at: &Path<'_>, reader: &mut Reader) -> Self {
        let named = members.clone().filter(|(key, _)| key == "type").last().map(|(_, node)| node);
        let name = named.filter(|node| !node.is_null()).and_then(|node| Text::read(node, &at.key("type"), reader));
        let mut body = read_kind(name.as_deref().unwrap_or_default(), members, at, reader);
        if name.is_none() {
            body.kind = None;
        }
        body
    }

    fn write(&self, writer: &mut Writer<'_>) {
        writer.begin_object();
        writer.member("type", "\"type\":", |writer| match type_name(self) {
            Some(name) => writer.text(name),
            None => writer.null(),
        });
        writer.member("markdownText", "\"markdownText\":", |writer| Text::write(&self.markdown_text, writer));
        if let Some(kind) = &self.kind {
            write_kind(kind, writer);
        }
        for (key, value) in self.extra_fields.iter().flat_map(|extras| &extras.fields) {
            writer.extra(key, value);
        }
        writer.end_object();
    }

    fn tidy(&mut self, at: &Path<'_>, tidier: &mut Tidier<'_>) {
        if let Some(kind) = &mut self.kind {
            tidy_kind(kind, at, tidier);
        }
        let (kind, exact) = (self.kind.as_ref(), tidier.exact);
        tidier.extras(&mut self.extra_fields, at, |key, extra| is_modelled(kind, key, extra, at, exact));
    }
}

impl Names for pb::ButtonMessageType {
    const NAMES: &'static [(i32, &'static str)] =
        &[(Self::Button as i32, "BUTTON"), (Self::QuickReplies as i32, "QUICK_REPLIES")];
}

impl Names for pb::CarouselMessageType {
    const NAMES: &'static [(i32, &'static str)] =
        &[(Self::Media as i32, "MEDIA"), (Self::GenericRichMedia as i32, "GENERIC_RICH_MEDIA")];
}

impl Names for pb::ComponentType {
    const NAMES: &'static [(i32, &'static str)] =
        &[(Self::Header as i32, "header"), (Self::Body as i32, "body"), (Self::Button as i32, "button")];
}

impl Names for pb::ParameterType {
    const NAMES: &'static [(i32, &'static str)] = &[
        (Self::Text as i32, "text"),
        (Self::Currency as i32, "currency"),
        (Self::DateTime as i32, "date_time"),
        (Self::Image as i32, "image"),
        (Self::Document as i32, "document"),
        (Self::Video as i32, "video"),
        (Self::Payload as i32, "payload"),
    ];
}

impl Names for pb::DeliveryStatus {
    const NAMES: &'static [(i32, &'static str)] = &[
        (Self::Delivered as i32, "DELIVERED"),
        (Self::Read as i32, "READ"),
        (Self::Connected as i32, "CONNECTED"),
        (Self::Failed as i32, "FAILED"),
    ];
}

impl Names for pb::ItemType {
    const NAMES: &'static [(i32, &'static str)] = &[
        (Self::Video as i32, "VIDEO"),
        (Self::Text as i32, "TEXT"),
        (Self::Image as i32, "IMAGE"),
        (Self::Like as i32, "LIKE"),
        (Self::Unlike as i32, "UNLIKE"),
        (Self::Delete as i32, "DELETE"),
        (Self::Hide as i32, "HIDE"),
        (Self::PrivateReply as i32, "PRIVATE_REPLY"),
    ];
}
