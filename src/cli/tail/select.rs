//! Which messages to watch, and from where.

use cim_gateway::pb::subscribe_notifications_request::Start as Requested;
use cim_gateway::pb::{Audience, NotificationFilter, SenderType, StartPoint};
use clap::{Args, ValueEnum};
use prost_types::Timestamp;
use std::str::FromStr;

/// Where to start.
#[derive(Debug, Clone, PartialEq)]
pub enum Start {
    Earliest,
    Latest,
    Time(Timestamp),
    Cursor(String),
}

impl FromStr for Start {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match (text, text.parse::<Timestamp>()) {
            ("", _) => return Err("needs earliest, latest, a cursor or a time".into()),
            ("earliest", _) => Self::Earliest,
            ("latest", _) => Self::Latest,
            (_, Ok(time)) => Self::Time(time),
            // Cursors are opaque, so what is nothing else is one.
            (_, Err(_)) => Self::Cursor(text.to_owned()),
        })
    }
}

impl From<Start> for Requested {
    fn from(start: Start) -> Self {
        match start {
            Start::Earliest => Self::StartPoint(StartPoint::Earliest.into()),
            Start::Latest => Self::StartPoint(StartPoint::Latest.into()),
            Start::Time(time) => Self::AcceptedSince(time),
            Start::Cursor(cursor) => Self::AfterCursor(cursor),
        }
    }
}

/// Which messages; each list that is empty lets all pass.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Which messages (each may be given several times)")]
pub struct Selection {
    /// Service identifier of the channel
    #[arg(long = "service", value_name = "ID")]
    services: Vec<String>,
    /// Conversation
    #[arg(long = "conversation", value_name = "ID")]
    conversations: Vec<String>,
    /// Channel session
    #[arg(long = "session", value_name = "ID")]
    sessions: Vec<String>,
    /// Type of the body as in JSON, such as PLAIN or StructuredMessage
    #[arg(long = "type", value_name = "TYPE")]
    types: Vec<String>,
    /// Kind of sender
    #[arg(long = "sender", value_name = "KIND", value_enum)]
    senders: Vec<Sender>,
    /// Who the message is for
    #[arg(long = "audience", value_name = "WHO", value_enum)]
    audiences: Vec<For>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Sender {
    Agent,
    Bot,
    Customer,
    App,
    Connector,
    System,
    Other,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum For {
    Customer,
    Platform,
}

impl From<Sender> for SenderType {
    fn from(sender: Sender) -> Self {
        match sender {
            Sender::Agent => Self::Agent,
            Sender::Bot => Self::Bot,
            Sender::Customer => Self::Customer,
            Sender::App => Self::App,
            Sender::Connector => Self::Connector,
            Sender::System => Self::System,
            Sender::Other => Self::Other,
        }
    }
}

impl From<For> for Audience {
    fn from(audience: For) -> Self {
        match audience {
            For::Customer => Self::Customer,
            For::Platform => Self::Platform,
        }
    }
}

impl From<Selection> for NotificationFilter {
    fn from(selection: Selection) -> Self {
        Self {
            service_identifiers: selection.services,
            conversation_ids: selection.conversations,
            channel_session_ids: selection.sessions,
            body_types: selection.types,
            sender_types: selection.senders.into_iter().map(|sender| SenderType::from(sender).into()).collect(),
            audiences: selection.audiences.into_iter().map(|audience| Audience::from(audience).into()).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[test]
    fn a_start_is_an_end_a_time_or_else_a_cursor() {
        assert_eq!("earliest".parse(), Ok(Start::Earliest));
        assert_eq!("latest".parse(), Ok(Start::Latest));
        assert_eq!("2026-01-31T08:00:00+02:00".parse(), Ok(Start::Time(Timestamp { seconds: 1_769_839_200, nanos: 0 })));
        assert_eq!("2026-01-31".parse(), Ok(Start::Time(Timestamp { seconds: 1_769_817_600, nanos: 0 })));
        assert_eq!("AAEAAAAAAAAABw".parse(), Ok(Start::Cursor("AAEAAAAAAAAABw".into())));
        assert!("".parse::<Start>().is_err());
    }

    #[test]
    fn every_field_of_the_filter_has_its_option() {
        #[derive(Parser)]
        struct Line {
            #[command(flatten)]
            selection: Selection,
        }
        let line = "tail --service s --conversation c --session x --type PLAIN --type URL --sender bot --sender other \
                    --audience platform";
        let filter = NotificationFilter::from(Line::parse_from(line.split(' ')).selection);
        let expected = NotificationFilter {
            service_identifiers: vec!["s".into()],
            conversation_ids: vec!["c".into()],
            channel_session_ids: vec!["x".into()],
            body_types: vec!["PLAIN".into(), "URL".into()],
            sender_types: vec![SenderType::Bot.into(), SenderType::Other.into()],
            audiences: vec![Audience::Platform.into()],
        };
        assert_eq!(filter, expected);
    }
}
