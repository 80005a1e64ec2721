//! What can fail, and what it means to a caller, whatever the transport.

use crate::pb::ErrorReason;
use crate::store::{self, Cursor};
use crate::violation::Violations;
use crate::wire::SyntaxError;

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The message breaks rules.
    #[error("the message breaks {} {}", .violations.as_slice().len(), if .violations.as_slice().len() == 1 { "rule" } else { "rules" })]
    InvalidMessage {
        /// Every one of them.
        violations: Violations,
    },
    /// The channel breaks rules.
    #[error("the channel breaks {} {}", .violations.as_slice().len(), if .violations.as_slice().len() == 1 { "rule" } else { "rules" })]
    InvalidChannel {
        /// Every one of them.
        violations: Violations,
    },
    /// The text is no JSON.
    #[error("the text is no JSON: {0}")]
    InvalidJson(SyntaxError),
    /// A field of the request itself is wrong.
    #[error("{field} {problem}")]
    InvalidRequest {
        /// Which field.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The message is larger than the gateway accepts.
    #[error("the message is larger than {limit} bytes")]
    MessageTooLarge {
        /// The bound in bytes.
        limit: usize,
    },
    /// The id is taken by a message with other content.
    #[error("the id {id:?} is taken by a message with other content")]
    ReusedId {
        /// The id.
        id: String,
    },
    /// No message has this id.
    #[error("no message has the id {id:?}")]
    MessageNotFound {
        /// The id.
        id: String,
    },
    /// No conversation has this id.
    #[error("no conversation has the id {id:?}")]
    ConversationNotFound {
        /// The id.
        id: String,
    },
    /// No channel session has this id.
    #[error("no channel session has the id {id:?}")]
    SessionNotFound {
        /// The id.
        id: String,
    },
    /// The channel is larger than the gateway accepts.
    #[error("the channel is larger than {limit} bytes")]
    ChannelTooLarge {
        /// The bound in bytes.
        limit: usize,
    },
    /// No channel has this id, or this service identifier.
    #[error("no channel has the {key} {name:?}")]
    ChannelNotFound {
        /// What it was looked up by.
        key: &'static str,
        /// What that was.
        name: String,
    },
    /// No channel is the default of its type.
    #[error("no channel is the default of the type {channel_type:?}")]
    NoDefaultOutbound {
        /// The type.
        channel_type: String,
    },
    /// The service identifier has a channel already.
    #[error("the service identifier {service_identifier:?} has a channel already")]
    ChannelExists {
        /// The service identifier.
        service_identifier: String,
    },
    /// The channel is not as the client last read it.
    #[error("the channel {id} was changed meanwhile; read it again")]
    EtagMismatch {
        /// The channel.
        id: String,
    },
    /// The configuration declares the channel.
    #[error("the channel {service_identifier:?} is declared by the configuration, and can be changed there only")]
    ChannelDeclared {
        /// Its service identifier.
        service_identifier: String,
    },
    /// Another channel is the default of its type.
    #[error("the default of the type {channel_type:?} is the channel {service_identifier:?} already")]
    DefaultOutboundTaken {
        /// The type.
        channel_type: String,
        /// The service identifier of the default.
        service_identifier: String,
    },
    /// There are as many channels as there may be.
    #[error("there are {most} channels, which is the most; channels.max sets it")]
    TooManyChannels {
        /// The bound.
        most: usize,
    },
    /// No delivery that is open or a dead letter has this id.
    #[error("no delivery that is open or a dead letter has the id {id:?}")]
    DeliveryNotFound {
        /// The id.
        id: String,
    },
    /// The delivery is no dead letter.
    #[error("the delivery {id} is open and goes on by itself")]
    DeliveryNotDead {
        /// The id.
        id: String,
    },
    /// The cursor is older than what is kept.
    #[error("the cursor is older than what is kept; the oldest cursor to read from is {oldest}")]
    CursorExpired {
        /// Where reading can start.
        oldest: Cursor,
    },
    /// The cursor is of another history, or beyond the end of this one.
    #[error("the cursor is of a history that is gone, or beyond the end of this one; the oldest cursor to read from is {oldest}")]
    CursorUnknown {
        /// Where reading can start.
        oldest: Cursor,
    },
    /// Too many streams are open.
    #[error("{most} streams are open, which is the most; try again later")]
    TooManyStreams {
        /// The bound.
        most: usize,
    },
    /// No subscription has this name.
    #[error("no subscription has the name {name:?}")]
    SubscriptionNotFound {
        /// The name.
        name: String,
    },
    /// Another reader has attached the subscription since.
    #[error(
        "another reader has taken over the subscription {name:?}; do not attach again by yourself, or the two will displace each \
         other for ever"
    )]
    TakenOver {
        /// The name of the subscription.
        name: String,
    },
    /// There are as many named subscriptions as may be.
    #[error("there are {most} named subscriptions, which is the most; delete one that nobody needs")]
    TooManySubscriptions {
        /// The bound.
        most: usize,
    },
    /// Nobody knows who calls.
    #[error("{problem}")]
    Unauthenticated {
        /// What is needed.
        problem: &'static str,
    },
    /// The caller may not do it.
    #[error("{caller:?} may not {deed}")]
    Forbidden {
        /// What the caller is called.
        caller: String,
        /// What it may not do, and why.
        deed: String,
    },
    /// All connections are in use.
    #[error("all connections that the gateway takes are in use; try again later")]
    TooManyConnections,
    /// The gateway shuts down.
    #[error("the gateway is shutting down; connect again")]
    ShuttingDown,
    /// The store is still being opened.
    #[error("the gateway is starting; try again later")]
    Opening,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// What a failure means to a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The caller sent something wrong; sending it again will not help.
    Invalid,
    /// The caller sent too much.
    TooLarge,
    /// What the caller sent contradicts what is there.
    Conflict,
    /// Another has taken the caller's place.
    Displaced,
    /// What the caller goes by was changed meanwhile.
    Outdated,
    /// What is there does not allow it.
    NotAllowed,
    /// What the caller asked for is not there.
    NotFound,
    /// What the caller asked for is no longer there.
    Gone,
    /// Nobody knows who calls.
    Unauthenticated,
    /// The caller may not do it.
    Forbidden,
    /// The gateway has no room for more; later it may.
    Exhausted,
    /// The gateway cannot serve now; later it may. Whether the call had an effect is unknown.
    Unavailable,
    /// The gateway failed.
    Internal,
}

impl Error {
    /// What the failure means to a caller. There is no catch-all: a new failure does not compile until its meaning is chosen.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::InvalidMessage { .. } | Self::InvalidChannel { .. } | Self::InvalidJson(_) | Self::InvalidRequest { .. } => {
                Kind::Invalid
            }
            Self::MessageTooLarge { .. } | Self::ChannelTooLarge { .. } => Kind::TooLarge,
            Self::ReusedId { .. } | Self::ChannelExists { .. } => Kind::Conflict,
            Self::TakenOver { .. } => Kind::Displaced,
            Self::EtagMismatch { .. } => Kind::Outdated,
            Self::ChannelDeclared { .. }
            | Self::DefaultOutboundTaken { .. }
            | Self::TooManyChannels { .. }
            | Self::DeliveryNotDead { .. } => Kind::NotAllowed,
            Self::MessageNotFound { .. }
            | Self::ConversationNotFound { .. }
            | Self::SessionNotFound { .. }
            | Self::SubscriptionNotFound { .. }
            | Self::ChannelNotFound { .. }
            | Self::NoDefaultOutbound { .. }
            | Self::DeliveryNotFound { .. } => Kind::NotFound,
            Self::CursorExpired { .. } | Self::CursorUnknown { .. } => Kind::Gone,
            Self::Unauthenticated { .. } => Kind::Unauthenticated,
            Self::Forbidden { .. } => Kind::Forbidden,
            Self::TooManyStreams { .. } | Self::TooManySubscriptions { .. } => Kind::Exhausted,
            Self::TooManyConnections
            | Self::ShuttingDown
            | Self::Opening
            | Self::Store(store::Error::Unavailable { .. } | store::Error::Busy | store::Error::Full { .. }) => Kind::Unavailable,
            // Every reader asks for what the span says is there, and learns of what is gone as an expired cursor.
            Self::Store(store::Error::Expired { .. }) => Kind::Internal,
        }
    }

    /// The machine-readable reason.
    pub const fn reason(&self) -> ErrorReason {
        match self {
            Self::InvalidMessage { .. } => ErrorReason::InvalidMessage,
            Self::InvalidJson(_) => ErrorReason::InvalidJson,
            Self::InvalidRequest { .. } => ErrorReason::InvalidRequest,
            Self::MessageTooLarge { .. } => ErrorReason::MessageTooLarge,
            Self::ReusedId { .. } => ErrorReason::ReusedId,
            Self::MessageNotFound { .. } => ErrorReason::MessageNotFound,
            Self::ConversationNotFound { .. } => ErrorReason::ConversationNotFound,
            Self::SessionNotFound { .. } => ErrorReason::SessionNotFound,
            Self::InvalidChannel { .. } => ErrorReason::InvalidChannel,
            Self::ChannelTooLarge { .. } => ErrorReason::ChannelTooLarge,
            Self::ChannelNotFound { .. } | Self::NoDefaultOutbound { .. } => ErrorReason::ChannelNotFound,
            Self::ChannelExists { .. } => ErrorReason::ChannelExists,
            Self::EtagMismatch { .. } => ErrorReason::EtagMismatch,
            Self::ChannelDeclared { .. } => ErrorReason::ChannelDeclared,
            Self::DefaultOutboundTaken { .. } => ErrorReason::DefaultOutboundTaken,
            Self::TooManyChannels { .. } => ErrorReason::TooManyChannels,
            Self::DeliveryNotFound { .. } => ErrorReason::DeliveryNotFound,
            Self::DeliveryNotDead { .. } => ErrorReason::DeliveryNotDead,
            Self::CursorExpired { .. } => ErrorReason::CursorExpired,
            Self::CursorUnknown { .. } => ErrorReason::CursorUnknown,
            Self::TooManyStreams { .. } => ErrorReason::TooManyStreams,
            Self::SubscriptionNotFound { .. } => ErrorReason::SubscriptionNotFound,
            Self::TakenOver { .. } => ErrorReason::SubscriptionTakenOver,
            Self::TooManySubscriptions { .. } => ErrorReason::TooManySubscriptions,
            Self::Unauthenticated { .. } => ErrorReason::Unauthenticated,
            Self::Forbidden { .. } => ErrorReason::Forbidden,
            Self::TooManyConnections => ErrorReason::TooManyConnections,
            Self::ShuttingDown => ErrorReason::ShuttingDown,
            Self::Opening => ErrorReason::Starting,
            Self::Store(store::Error::Unavailable { .. }) => ErrorReason::StoreUnavailable,
            Self::Store(store::Error::Busy) => ErrorReason::StoreBusy,
            Self::Store(store::Error::Full { .. }) => ErrorReason::StoreFull,
            Self::Store(store::Error::Expired { .. }) => ErrorReason::Internal,
        }
    }

    /// The machine-readable reason as it stands on the wire, without the prefix of the enum.
    pub fn reason_name(&self) -> &'static str {
        let name = self.reason().as_str_name();
        name.strip_prefix("ERROR_REASON_").unwrap_or(name)
    }

    /// The sentence for the caller. Of a fault of the gateway it tells no more than that there was one; the log has the rest.
    pub fn public_message(&self) -> String {
        match self.kind() {
            Kind::Internal => "internal error".into(),
            Kind::Unavailable if matches!(self, Self::Store(store::Error::Unavailable { .. })) => {
                "the store is unavailable; the outcome is unknown: repeat with the same id".into()
            }
            Kind::Unavailable if matches!(self, Self::Store(store::Error::Full { .. })) => {
                "the store has no room left; nothing was stored".into()
            }
            _ => self.to_string(),
        }
    }

    /// Every broken rule, where the message or the channel itself is wrong.
    pub fn violations(&self) -> &[crate::violation::Violation] {
        match self {
            Self::InvalidMessage { violations } | Self::InvalidChannel { violations } => violations.as_slice(),
            _ => &[],
        }
    }
}
