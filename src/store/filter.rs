//! Which entries a reader wants.

use crate::message;
use crate::pb::store::Entry;
use crate::pb::{self, Audience, SenderType};
use crate::wire;
use std::collections::HashSet;

/// Which messages a reader wants: AND across the sets, OR within; an empty set wants all.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Service identifiers of the channel.
    pub service_identifiers: HashSet<String>,
    /// Conversations.
    pub conversation_ids: HashSet<String>,
    /// Channel sessions.
    pub channel_session_ids: HashSet<String>,
    /// Types of the body, as JSON has them.
    pub body_types: HashSet<String>,
    /// Kinds of sender.
    pub sender_types: HashSet<SenderType>,
    /// Who the message is for.
    pub audiences: HashSet<Audience>,
    /// True to leave out what those of the platform say among themselves; see [`is_internal`].
    pub outward: bool,
}

impl Filter {
    /// True if there is nothing that the reader does not want.
    pub fn wants_everything(&self) -> bool {
        let texts = [&self.service_identifiers, &self.conversation_ids, &self.channel_session_ids, &self.body_types];
        let wants_all = texts.into_iter().all(HashSet::is_empty) && self.sender_types.is_empty() && self.audiences.is_empty();
        wants_all && !self.outward
    }

    /// True if the reader wants this entry.
    pub fn matches(&self, entry: &Entry) -> bool {
        let Whereabouts { channel_session_id, conversation_id, service_identifier } = Whereabouts::of(entry);
        let message = entry.message.as_ref();
        let header = message.and_then(|message| message.header.as_ref());
        let body_type = message.and_then(|message| message.body.as_ref()).and_then(wire::type_name);
        let sender = header.and_then(|header| header.sender.as_ref()).map(pb::Sender::r#type);
        wants(&self.service_identifiers, service_identifier)
            && wants(&self.conversation_ids, conversation_id)
            && wants(&self.channel_session_ids, channel_session_id)
            && (self.body_types.is_empty() || body_type.is_some_and(|body_type| self.body_types.contains(body_type)))
            && wants(&self.sender_types, sender.as_ref())
            && (self.audiences.is_empty() || entry.audiences().any(|audience| self.audiences.contains(&audience)))
            && !(self.outward && is_internal(entry))
    }
}

/// True for what those of the platform say among themselves: whispers, suggestions, actions, wrap-ups, and what the gateway tells them.
pub(crate) fn is_internal(entry: &Entry) -> bool {
    let of_platform = [SenderType::Agent, SenderType::Bot, SenderType::App, SenderType::System];
    let sender = entry.message.as_deref().and_then(message::sender_type);
    entry.audiences().all(|audience| audience == Audience::Platform) && sender.is_some_and(|sender| of_platform.contains(&sender))
}

/// Where an entry belongs, as filters name it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Whereabouts<'e> {
    pub(crate) channel_session_id: Option<&'e String>,
    pub(crate) conversation_id: Option<&'e String>,
    pub(crate) service_identifier: Option<&'e String>,
}

impl<'e> Whereabouts<'e> {
    /// Where `entry` belongs.
    pub(crate) fn of(entry: &'e Entry) -> Self {
        let header = entry.message.as_ref().and_then(|message| message.header.as_ref());
        let channel = header.and_then(|header| header.channel_data.as_ref());
        Self {
            channel_session_id: header.and_then(|header| header.channel_session_id.as_ref()),
            conversation_id: header.and_then(|header| header.conversation_id.as_ref()),
            service_identifier: channel.and_then(|channel| channel.service_identifier.as_ref()),
        }
    }
}

fn wants<T: Eq + std::hash::Hash>(wanted: &HashSet<T>, found: Option<&T>) -> bool {
    wanted.is_empty() || found.is_some_and(|found| wanted.contains(found))
}
