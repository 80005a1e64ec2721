//! Subscriptions: what a caller asks for, and the stream it gets.

use super::Settings;
use super::messages::accepted_message;
use super::status::status;
use crate::error::Error;
use crate::feed::{Event, Start};
use crate::name::NotAName;
use crate::pb;
use crate::pb::subscribe_notifications_request::Start as AskedStart;
use crate::pb::subscribe_notifications_response::Event as Sent;
use crate::pb::{Audience, SenderType, StartPoint};
use crate::store::Filter;
use crate::subscriptions::{Reader, Request};
use futures::stream::{self, BoxStream, StreamExt as _};
use std::collections::HashSet;
use std::hash::Hash;
use std::ops::RangeInclusive;
use std::time::Duration;
use tonic::Status;

/// Bounds of the heartbeat that a caller may ask for.
const HEARTBEAT: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(300);

/// What a caller asks for, checked.
pub(super) fn wanted(request: pb::SubscribeNotificationsRequest, settings: &Settings) -> Result<Request, Error> {
    Ok(Request {
        name: Some(request.subscription)
            .filter(|name| !name.is_empty())
            .map(|name| name.parse())
            .transpose()
            .map_err(not_a_name)?,
        filter: filter(request.filter.unwrap_or_default(), settings)?,
        start: request.start.map(start).transpose()?,
        reset: request.reset,
        heartbeat: request.heartbeat_interval.map(heartbeat).transpose()?,
    })
}

fn not_a_name(error: NotAName) -> Error {
    Error::InvalidRequest { field: "subscription", problem: error.to_string() }
}

fn start(asked: AskedStart) -> Result<Start, Error> {
    match asked {
        AskedStart::AfterCursor(cursor) => match cursor.parse() {
            Ok(cursor) => Ok(Start::After(cursor)),
            Err(error) => Err(Error::InvalidRequest { field: "after_cursor", problem: format!("{error}") }),
        },
        AskedStart::AcceptedSince(time) => Ok(Start::Since(time)),
        AskedStart::StartPoint(point) => match StartPoint::try_from(point) {
            Ok(StartPoint::Earliest) => Ok(Start::Earliest),
            Ok(StartPoint::Latest | StartPoint::Unspecified) => Ok(Start::Latest),
            Err(_) => Err(Error::InvalidRequest { field: "start_point", problem: format!("has no value {point}") }),
        },
    }
}

fn heartbeat(asked: prost_types::Duration) -> Result<Duration, Error> {
    let duration = Duration::try_from(asked).ok().filter(|duration| HEARTBEAT.contains(duration));
    duration.ok_or_else(|| Error::InvalidRequest { field: "heartbeat_interval", problem: "must be between 1s and 5min".into() })
}

fn filter(asked: pb::NotificationFilter, settings: &Settings) -> Result<Filter, Error> {
    let texts = [&asked.service_identifiers, &asked.conversation_ids, &asked.channel_session_ids, &asked.body_types];
    let values = texts.iter().map(|list| list.len()).sum::<usize>() + asked.sender_types.len() + asked.audiences.len();
    if values > settings.filter_values {
        let problem = format!("must hold at most {} values, got {values}", settings.filter_values);
        return Err(Error::InvalidRequest { field: "filter", problem });
    }
    if let Some(longest) = texts.into_iter().flatten().map(String::len).max().filter(|bytes| *bytes > settings.filter_value_bytes)
    {
        let problem = format!("must hold values of at most {} bytes, got {longest}", settings.filter_value_bytes);
        return Err(Error::InvalidRequest { field: "filter", problem });
    }
    Ok(Filter {
        service_identifiers: asked.service_identifiers.into_iter().collect(),
        conversation_ids: asked.conversation_ids.into_iter().collect(),
        channel_session_ids: asked.channel_session_ids.into_iter().collect(),
        body_types: asked.body_types.into_iter().collect(),
        sender_types: known("filter.sender_types", &asked.sender_types, SenderType::Unspecified)?,
        audiences: known("filter.audiences", &asked.audiences, Audience::Unspecified)?,
        ..Filter::default()
    })
}

/// Enum values, each one that the model knows and not the one that says nothing.
fn known<E: TryFrom<i32> + Eq + Hash>(field: &'static str, numbers: &[i32], unspecified: E) -> Result<HashSet<E>, Error> {
    let value = |number: &i32| E::try_from(*number).ok().filter(|value| *value != unspecified).ok_or(*number);
    numbers
        .iter()
        .map(value)
        .collect::<Result<_, _>>()
        .map_err(|number| Error::InvalidRequest { field, problem: format!("has no value {number}") })
}

/// The events of a reader. It is pulled: a reader that stops reading stops the stream, not the gateway.
pub(super) fn stream(reader: Reader) -> BoxStream<'static, Result<pb::SubscribeNotificationsResponse, Status>> {
    let events = stream::try_unfold(reader, async |mut reader| {
        let event = reader.next().await.map_err(|error| status(&error))?;
        let event = match event {
            Event::Notification(stored, cursor) => Sent::Notification(accepted_message(&stored, cursor)),
            Event::Heartbeat(cursor) => {
                Sent::Heartbeat(pb::Heartbeat { cursor: cursor.to_string(), generation: reader.generation().unwrap_or_default() })
            }
        };
        Ok(Some((pb::SubscribeNotificationsResponse { event: Some(event) }, reader)))
    });
    events.boxed()
}
