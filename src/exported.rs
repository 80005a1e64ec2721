//! A line of an export: a message in the documented JSON and, where that does not tell it, who the message is for.
//!
//! Pure. Most messages tell that by who says what. Others do not: a bot's suggestion is for agents only, and what becomes of a delivery
//! is told to one side. Their lines have one more key, which is no part of the message.

use crate::message;
use crate::pb::store::Entry;
use crate::pb::{self, Audience};
use crate::sessions;
use crate::violation::{Reason, Violations};
use crate::wire::{self, SyntaxError};
use prost_types::Value;
use prost_types::value::Kind;

/// The key that tells who a message is for. It is the last of its line, so that it counts although a client has sent one like it.
const KEY: &str = "gatewayAudiences";

/// The value of [`KEY`] has these names.
const NAMES: [(&str, Audience); 2] = [("CUSTOMER", Audience::Customer), ("PLATFORM", Audience::Platform)];

/// A line as read, and what of it could not be read.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Line {
    /// The message, without the key of the export.
    pub message: pb::CimMessage,
    /// Who it is for, if the line tells that.
    pub audiences: Option<Vec<Audience>>,
    /// What could not be read.
    pub violations: Violations,
}

/// The line of an entry, without its end; none if it has no message.
pub fn write(entry: &Entry) -> Option<Vec<u8>> {
    let message = entry.message.as_deref()?;
    let mut line = wire::encode(message);
    let has_its_own = message.extra_fields.as_ref().is_some_and(|extras| extras.fields.contains_key(KEY));
    if !entry.audiences().eq(implied(message)) || has_its_own {
        let names = NAMES.iter().filter(|(_, audience)| entry.audiences().any(|other| other == *audience));
        let names: Vec<_> = names.map(|(name, _)| format!("{name:?}")).collect();
        // Every message is written as an object that has keys.
        line.pop();
        line.extend_from_slice(format!(",\"{KEY}\":[{}]}}", names.join(",")).as_bytes());
    }
    Some(line)
}

/// Reads a line, which may be nested at most `depth` containers deep.
pub fn read(line: &[u8], depth: usize) -> Result<Line, SyntaxError> {
    let wire::Decoded { mut message, mut violations } = wire::decode(line, depth)?;
    let mut told = None;
    if let Some(extras) = &mut message.extra_fields {
        told = extras.fields.remove(KEY);
        if extras.fields.is_empty() {
            message.extra_fields = None;
        }
    }
    let audiences = told.and_then(|value| {
        message.exact_numbers.retain(|pointer, _| pointer.split('/').nth(1) != Some(KEY));
        let audiences = named(&value);
        if audiences.is_none() {
            violations.add(KEY, Reason::UnknownName, "needs a list of CUSTOMER and PLATFORM");
        }
        audiences
    });
    Ok(Line { message, audiences, violations })
}

fn named(value: &Value) -> Option<Vec<Audience>> {
    let Some(Kind::ListValue(list)) = &value.kind else { return None };
    let audience = |value: &Value| match &value.kind {
        Some(Kind::StringValue(text)) => NAMES.iter().find(|(name, _)| name == text).map(|(_, audience)| *audience),
        _ => None,
    };
    list.values.iter().map(audience).collect()
}

/// Who a message is for, as far as it tells that itself.
pub(crate) fn implied(message: &pb::CimMessage) -> impl Iterator<Item = Audience> + use<> {
    let (of_notice, of_message) = match sessions::is_notice(message) {
        true => (Some(sessions::NOTICE_AUDIENCES), None),
        false => (None, Some(message::audience(message))),
    };
    of_notice.into_iter().flatten().chain(of_message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;
    use serde_json::{Value as Json, json};

    const DEPTH: usize = 64;

    fn said(by: &str, audiences: &[Audience], patch: Json) -> Entry {
        let mut said = json!({ "header": { "sender": { "id": "s", "type": by, "senderName": "S" } } });
        samples::patch(&mut said, &patch);
        let message = Some(samples::message(said).into());
        Entry { message, audiences: audiences.iter().map(|audience| i32::from(*audience)).collect(), ..Entry::default() }
    }

    fn line(entry: &Entry) -> String {
        String::from_utf8(write(entry).expect("it has a message")).expect("is text")
    }

    #[test]
    fn what_a_message_tells_itself_is_not_added_to_its_line() {
        for (by, audience) in [("BOT", Audience::Customer), ("CUSTOMER", Audience::Platform)] {
            let entry = said(by, &[audience], json!({}));
            assert_eq!(line(&entry).as_bytes(), wire::encode(entry.message.as_ref().unwrap()));
            let read = read(line(&entry).as_bytes(), DEPTH).expect("is JSON");
            assert_eq!((Some(Box::new(read.message)), read.audiences), (entry.message, None));
        }
    }

    #[test]
    fn who_a_suggestion_is_for_stands_beside_it() {
        let suggestion = said("BOT", &[Audience::Platform], json!({}));
        assert!(line(&suggestion).ends_with(r#","gatewayAudiences":["PLATFORM"]}"#), "{}", line(&suggestion));
        for audiences in [&[Audience::Platform][..], &[Audience::Customer, Audience::Platform]] {
            let entry = said("BOT", audiences, json!({ "mood": 12345678901234567890_u64 }));
            let read = read(line(&entry).as_bytes(), DEPTH).expect("is JSON");
            assert_eq!(read.violations, Violations::default());
            assert_eq!((Some(Box::new(read.message)), read.audiences), (entry.message, Some(audiences.to_vec())));
        }
    }

    #[test]
    fn a_client_that_sends_such_a_key_changes_nothing() {
        for own in [json!(["CUSTOMER"]), json!(12345678901234567890_u64), json!({ "a": 1 })] {
            for (by, audience) in [("BOT", Audience::Customer), ("CUSTOMER", Audience::Platform)] {
                let read = read(line(&said(by, &[audience], json!({ KEY: own }))).as_bytes(), DEPTH).expect("is JSON");
                let message = said(by, &[audience], json!({})).message;
                assert_eq!((Some(Box::new(read.message)), read.audiences), (message, Some(vec![audience])));
                assert_eq!(read.violations, Violations::default());
            }
        }
    }

    #[test]
    fn another_name_is_told() {
        for wrong in [json!(["SOMEBODY"]), json!("PLATFORM"), json!([7]), Json::Null] {
            let mut json = samples::json(json!({}));
            json[KEY] = wrong.clone();
            let read = read(json.to_string().as_bytes(), DEPTH).expect("is JSON");
            assert!(read.violations.as_slice().iter().any(|violation| violation.path == KEY), "{wrong}");
            assert_eq!(read.audiences, None);
        }
    }

    #[test]
    fn the_gateways_bookkeeping_has_no_line() {
        assert_eq!(write(&Entry::default()), None);
    }
}
