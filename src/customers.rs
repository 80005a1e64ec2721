//! Customers: who a client names, and what is known of a customer once a message has told more.
//!
//! Pure. Channels tell customers apart by address, clients by id; a client that names one is right.

use crate::pb;
use crate::pb::store::Session;
use crate::store::CustomerFacts;
use crate::wire::Exact;
use prost_types::{Value, value};

/// Id of the customer that a header names.
pub(crate) fn named(header: &pb::Header) -> Option<&str> {
    header.customer.as_ref().and_then(|customer| customer.id.as_deref()).filter(|id| !id.is_empty())
}

/// The customer of `session`: what is known, overwritten by what the header and its exact numbers say.
pub(crate) fn updated(known: Option<CustomerFacts>, session: &Session, sent: &pb::Header, sent_numbers: &Exact) -> CustomerFacts {
    let mut customer = known.unwrap_or_else(|| CustomerFacts { customer: newcomer(session, sent), ..CustomerFacts::default() });
    if let Some(update) = &sent.customer {
        customer.exact_numbers.retain(|pointer, _| !overwrites(update, &key_of(pointer)));
        customer.exact_numbers.extend(sent_numbers.clone());
        merge(&mut customer.customer, update);
    }
    customer.customer.id = Some(session.customer_id.clone());
    customer
}

/// A customer nobody has met: named as the provider names it, else anonymous under its address.
fn newcomer(session: &Session, sent: &pb::Header) -> pb::Customer {
    let channel = sent.channel_data.as_ref();
    let names = [channel.and_then(|c| c.customer_first_name.as_deref()), channel.and_then(|c| c.customer_last_name.as_deref())];
    let name = names.into_iter().flatten().filter(|name| !name.trim().is_empty()).collect::<Vec<_>>().join(" ");
    let is_anonymous = name.is_empty();
    let first_name = if is_anonymous { session.channel_customer_identifier.clone() } else { name };
    pb::Customer { first_name: Some(first_name), is_anonymous, ..pb::Customer::default() }
}

/// Lets what is sent overwrite what is known; what is not sent never does. Whether a customer is anonymous goes with the name.
fn merge(known: &mut pb::Customer, sent: &pb::Customer) {
    if let Some(name) = &sent.first_name {
        known.first_name = Some(name.clone());
        known.is_anonymous = sent.is_anonymous;
    }
    if !sent.phone_number.is_empty() {
        known.phone_number.clone_from(&sent.phone_number);
    }
    if sent.version != 0 {
        known.version = sent.version;
    }
    if sent.additional_detail.is_some() {
        known.additional_detail.clone_from(&sent.additional_detail);
    }
    if let Some(extras) = &sent.extra_fields {
        let set = extras.fields.iter().filter(|(_, value)| is_set(value));
        let set: Vec<_> = set.map(|(key, value)| (key.clone(), value.clone())).collect();
        if !set.is_empty() {
            known.extra_fields.get_or_insert_default().fields.extend(set);
        }
    }
}

fn is_set(value: &Value) -> bool {
    !matches!(value.kind, Some(value::Kind::NullValue(_)) | None)
}

/// True if an update has a free-form value of its own under a key of the customer.
fn overwrites(update: &pb::Customer, key: &str) -> bool {
    match key {
        "additionalDetail" => update.additional_detail.is_some(),
        key => update.extra_fields.as_ref().and_then(|extras| extras.fields.get(key)).is_some_and(is_set),
    }
}

/// The key of the customer under which the JSON Pointer of an exact number leads.
fn key_of(pointer: &str) -> String {
    let inside = pointer.strip_prefix("/header/customer/").unwrap_or(pointer);
    let key = inside.split('/').next().unwrap_or_default();
    key.replace("~1", "/").replace("~0", "~")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;
    use crate::store::customer_numbers;
    use crate::wire;
    use serde_json::{Value as Json, json};

    fn session() -> Session {
        Session { channel_customer_identifier: "+49 1".into(), customer_id: "c7".into(), ..Session::default() }
    }

    /// The customer after each of these headers, as JSON.
    fn after(headers: &[Json]) -> Json {
        let mut known = None;
        for header in headers {
            let message = samples::decoded(&json!({ "header": header }));
            let numbers = customer_numbers(&message.exact_numbers);
            known = Some(updated(known, &session(), &message.header.unwrap_or_default(), &numbers));
        }
        let CustomerFacts { customer, exact_numbers } = known.unwrap_or_default();
        let header = pb::Header { customer: Some(customer), ..pb::Header::default() };
        let message = pb::CimMessage { header: Some(header), exact_numbers, ..pb::CimMessage::default() };
        let json: Json = serde_json::from_slice(&wire::encode(&message)).expect("is JSON");
        json["header"]["customer"].clone()
    }

    fn customer(patch: Json) -> Json {
        let mut customer = json!({
            "id": "c7", "_id": "c7", "firstName": "Ada", "phoneNumber": [], "isAnonymous": false, "__v": 0, "additionalDetail": null,
        });
        samples::patch(&mut customer, &patch);
        customer
    }

    #[test]
    fn a_newcomer_is_named_by_its_provider_or_anonymous_under_its_address() {
        for (channel, name, is_anonymous) in [
            (json!({ "customerFirstName": "Ada", "customerLastName": "Lovelace" }), "Ada Lovelace", false),
            (json!({ "customerFirstName": "Ada" }), "Ada", false),
            (json!({ "customerFirstName": " ", "customerLastName": "Lovelace" }), "Lovelace", false),
            (json!({}), "+49 1", true),
            (Json::Null, "+49 1", true),
        ] {
            let found = after(&[json!({ "channelData": channel })]);
            assert_eq!((&found["firstName"], &found["isAnonymous"]), (&json!(name), &json!(is_anonymous)), "{channel}");
        }
    }

    #[test]
    fn what_is_sent_overwrites_what_is_known_and_null_never_does() {
        let full = json!({ "customer": {
            "firstName": "Ada", "phoneNumber": ["1", "2"], "__v": 3, "additionalDetail": { "a": 1 }, "web": ["v"], "age": 36,
        } });
        let known = customer(json!({
            "phoneNumber": ["1", "2"], "__v": 3, "additionalDetail": { "a": 1 }, "web": ["v"], "age": 36,
        }));
        assert_eq!(after(std::slice::from_ref(&full)), known);
        let nulls = json!({ "customer": {
            "firstName": null, "phoneNumber": null, "__v": null, "additionalDetail": null, "web": null, "age": null, "new": null,
        } });
        assert_eq!(after(&[full.clone(), nulls, json!({}), json!({ "customer": {} })]), known);
        let other = json!({ "customer": {
            "firstName": "Bob", "isAnonymous": true, "phoneNumber": ["3"], "__v": 4, "additionalDetail": { "b": 2 }, "age": 37,
        } });
        let expected = customer(json!({
            "firstName": "Bob", "isAnonymous": true, "phoneNumber": ["3"], "__v": 4, "web": ["v"], "age": 37,
            "additionalDetail": { "a": null, "b": 2 },
        }));
        assert_eq!(after(&[full, other]), expected);
    }

    #[test]
    fn a_name_ends_anonymity() {
        let found = after(&[json!({}), json!({ "customer": { "firstName": "Ada" } })]);
        assert_eq!((&found["firstName"], &found["isAnonymous"]), (&json!("Ada"), &json!(false)));
    }

    #[test]
    fn an_exact_number_lives_until_its_field_is_overwritten() {
        let exact = 9_007_199_254_740_993_u64;
        // The double nearest to both: only the literal tells them apart.
        let nearest = 9_007_199_254_740_992_u64;
        for key in ["score", "a/b", "a~b", "additionalDetail"] {
            let telling = |number: u64| json!({ "customer": { "firstName": "Ada", (key): { "deep/er": number } } });
            assert_eq!(after(&[telling(exact), json!({})])[key]["deep/er"], json!(exact), "{key}");
            assert_eq!(after(&[telling(exact), json!({ "customer": { (key): null } })])[key]["deep/er"], json!(exact), "{key}");
            assert_eq!(after(&[telling(exact), telling(nearest)])[key]["deep/er"], json!(nearest), "{key}");
            assert_eq!(after(&[telling(nearest), telling(exact)])[key]["deep/er"], json!(exact), "{key}");
        }
    }
}
