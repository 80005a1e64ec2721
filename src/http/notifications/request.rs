//! What a reader asks for: which notifications, from where, and how often a sign of life.

use crate::error::Error;
use crate::feed::Start;
use crate::http::query::{self, Query, excerpt, invalid, one_of};
use crate::name::Name;
use crate::pb::{Audience, SenderType};
use crate::store::Filter;
use crate::subscriptions::Request;
use axum::http::HeaderValue;
use std::collections::HashSet;
use std::hash::Hash;
use std::time::Duration;

/// Most bytes of one value of a filter.
const VALUE_BYTES: usize = 256;

/// Seconds between heartbeats that a reader may ask for.
const HEARTBEAT: std::ops::RangeInclusive<usize> = 1..=300;

const FILTERS: [&str; 6] = ["serviceIdentifier", "conversationId", "channelSessionId", "bodyType", "senderType", "audience"];
const STARTS: [&str; 3] = ["after", "since", "from"];

/// Reads the parameters. A browser that reconnects repeats them and adds `last_event_id`, which therefore wins over every start; but
/// a named subscription goes on after what is acknowledged, and nothing else.
pub(super) fn read(raw: query::Raw, last_event_id: Option<&HeaderValue>, filter_values: usize) -> Result<Request, Error> {
    let query = Query::read(raw, &[&FILTERS[..], &STARTS, &["heartbeat", "subscription", "reset"]].concat())?;
    let heartbeat = query.number("heartbeat", HEARTBEAT)?.map(|seconds| Duration::from_secs(seconds as u64));
    let name = query.one("subscription")?.map(|name| name.parse().map_err(|error| invalid("subscription", format!("{error}"))));
    let name: Option<Name> = name.transpose()?;
    let parameters = start(&query)?;
    let start = match last_event_id {
        Some(id) if !id.is_empty() && name.is_none() => Some(after("Last-Event-ID", id.to_str().unwrap_or_default())?),
        _ => parameters,
    };
    Ok(Request { name, filter: filter(&query, filter_values)?, start, reset: query.flag("reset")?, heartbeat })
}

fn filter(query: &Query, most: usize) -> Result<Filter, Error> {
    let values = FILTERS.iter().map(|name| query.all(name).count()).sum::<usize>();
    if values > most {
        return Err(invalid("query", format!("may have {most} filter values, found {values}")));
    }
    let audiences = [Audience::Customer, Audience::Platform].map(|audience| (audience.as_str_name(), audience));
    let sender_types = [
        SenderType::Agent,
        SenderType::Bot,
        SenderType::Customer,
        SenderType::App,
        SenderType::Connector,
        SenderType::System,
        SenderType::Other,
    ]
    .map(|sender| (sender.as_str_name(), sender));
    Ok(Filter {
        service_identifiers: texts(query, "serviceIdentifier")?,
        conversation_ids: texts(query, "conversationId")?,
        channel_session_ids: texts(query, "channelSessionId")?,
        body_types: texts(query, "bodyType")?,
        sender_types: names(query, "senderType", "SENDER_TYPE_", &sender_types)?,
        audiences: names(query, "audience", "AUDIENCE_", &audiences)?,
        ..Filter::default()
    })
}

fn texts(query: &Query, name: &'static str) -> Result<HashSet<String>, Error> {
    let checked = |text: &str| match text.len() {
        1..=VALUE_BYTES => Ok(text.to_owned()),
        length => Err(invalid(name, format!("needs 1 to {VALUE_BYTES} bytes, found {length}"))),
    };
    query.all(name).map(checked).collect()
}

/// The values of an enum, by their names without `prefix`.
fn names<T: Copy + Eq + Hash>(
    query: &Query,
    name: &'static str,
    prefix: &str,
    known: &[(&'static str, T)],
) -> Result<HashSet<T>, Error> {
    let known: Vec<_> = known.iter().map(|(long, value)| (long.strip_prefix(prefix).unwrap_or(long), *value)).collect();
    query.all(name).map(|text| one_of(name, text, &known)).collect()
}

fn start(query: &Query) -> Result<Option<Start>, Error> {
    match (query.one("after")?, query.one("since")?, query.one("from")?) {
        (None, None, None) => Ok(None),
        (None, None, Some("latest")) => Ok(Some(Start::Latest)),
        (None, None, Some("earliest")) => Ok(Some(Start::Earliest)),
        (None, None, Some(other)) => Err(invalid("from", format!("needs earliest or latest, found {:?}", excerpt(other)))),
        (Some(cursor), None, None) => after("after", cursor).map(Some),
        (None, Some(time), None) => since(time).map(Some),
        _ => Err(invalid("query", "may have one of after, since and from")),
    }
}

fn after(field: &'static str, cursor: &str) -> Result<Start, Error> {
    let cursor = cursor
        .parse()
        .map_err(|_| invalid(field, format!("needs a cursor that this gateway gave out, found {:?}", excerpt(cursor))))?;
    Ok(Start::After(cursor))
}

fn since(text: &str) -> Result<Start, Error> {
    query::time("since", text).map(Start::Since)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Cursor, Position};
    use crate::wire;

    fn request(parameters: &[(&str, &str)], last_event_id: Option<&str>) -> Result<Request, String> {
        let parameters = parameters.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let header = last_event_id.map(|id| id.parse().unwrap());
        read(Ok(axum::extract::Query(parameters)), header.as_ref(), 4).map_err(|error| error.to_string())
    }

    fn cursor(position: u64) -> Cursor {
        Cursor { epoch: 7, position: Position(position) }
    }

    #[test]
    fn every_start_is_read() {
        let at = |name: &str, value: &str| request(&[(name, value)], None).unwrap().start.unwrap();
        assert_eq!(request(&[], None).unwrap().start, None);
        assert_eq!(at("from", "latest"), Start::Latest);
        assert_eq!(at("from", "earliest"), Start::Earliest);
        assert_eq!(at("after", &cursor(9).to_string()), Start::After(cursor(9)));
        let time = Start::Since(wire::from_millis(1_677_151_053_951));
        assert_eq!(at("since", "1677151053951"), time);
        assert_eq!(at("since", "2023-02-23T11:17:33.951Z"), time);
        assert_eq!(at("since", "2023-02-23T16:17:33.951 05:00"), time);
    }

    #[test]
    fn where_a_client_was_cut_off_wins_over_every_start() {
        let last = cursor(9).to_string();
        for parameter in [("after", cursor(2).to_string()), ("from", "earliest".into()), ("since", "0".into())] {
            let start = request(&[(parameter.0, &parameter.1)], Some(&last)).unwrap().start;
            assert_eq!(start, Some(Start::After(cursor(9))), "{}", parameter.0);
        }
        assert_eq!(request(&[("from", "earliest")], Some("")).unwrap().start, Some(Start::Earliest));
    }

    #[test]
    fn with_a_name_what_is_acknowledged_says_where_to_go_on() {
        let resumed = request(&[("subscription", "desk-1")], Some(&cursor(9).to_string())).unwrap();
        assert_eq!(
            (resumed.name.map(|name| name.to_string()), resumed.start, resumed.reset),
            (Some("desk-1".into()), None, false)
        );
        let reset = request(&[("subscription", "desk-1"), ("from", "earliest"), ("reset", "true")], None).unwrap();
        assert_eq!((reset.start, reset.reset), (Some(Start::Earliest), true));
    }

    #[test]
    fn filters_repeat() {
        let filter = request(
            &[("bodyType", "PLAIN"), ("bodyType", "StructuredMessage"), ("senderType", "BOT"), ("audience", "CUSTOMER")],
            None,
        );
        let filter = filter.unwrap().filter;
        assert_eq!(filter.body_types, HashSet::from(["PLAIN".into(), "StructuredMessage".into()]));
        assert_eq!(filter.sender_types, HashSet::from([SenderType::Bot]));
        assert_eq!(filter.audiences, HashSet::from([Audience::Customer]));
    }

    #[test]
    fn what_is_wrong_is_said_with_what_was_needed() {
        let long = "x".repeat(257);
        for (parameters, problem) in [
            (
                &[("senderType", "bot")][..],
                "senderType needs one of AGENT, BOT, CUSTOMER, APP, CONNECTOR, SYSTEM, OTHER, found \"bot\"",
            ),
            (&[("audience", "")], "audience needs one of CUSTOMER, PLATFORM, found \"\""),
            (&[("conversationId", "")], "conversationId needs 1 to 256 bytes, found 0"),
            (&[("bodyType", &long)], "bodyType needs 1 to 256 bytes, found 257"),
            (&[("from", "now")], "from needs earliest or latest, found \"now\""),
            (&[("since", "today")], "since needs epoch milliseconds or an ISO 8601 time, found \"today\""),
            (&[("after", "7")], "after needs a cursor that this gateway gave out, found \"7\""),
            (&[("from", "latest"), ("since", "7")], "query may have one of after, since and from"),
            (
                &[("subscription", "desk 1")],
                "subscription needs 1 to 100 letters, digits, dots, dashes and underscores, the first a letter or digit",
            ),
            (&[("reset", "yes")], "reset needs true or false, found \"yes\""),
            (&[("heartbeat", "301")], "heartbeat needs a whole number from 1 to 300, found \"301\""),
            (
                &[("bodyType", "A"), ("bodyType", "B"), ("bodyType", "C"), ("bodyType", "D"), ("audience", "CUSTOMER")],
                "query may have 4 filter values, found 5",
            ),
        ] {
            assert_eq!(request(parameters, None).unwrap_err(), problem);
        }
        let problem = "Last-Event-ID needs a cursor that this gateway gave out, found \"7\"";
        assert_eq!(request(&[], Some("7")).unwrap_err(), problem);
    }
}
