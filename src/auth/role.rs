//! What the holder of a key may do.

use std::fmt;

/// What somebody is to the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// A channel connector. Its key is bound to its service identifiers.
    Connector,
    /// A bot.
    Bot,
    /// An agent desk, or a platform that speaks for one.
    Agent,
    /// Whoever runs the gateway.
    Admin,
}

/// What somebody may be allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Right {
    /// Sending messages.
    Send,
    /// Reading messages, sessions and channels, and following notifications.
    Read,
    /// Ending channel sessions.
    EndSessions,
    /// Changing channels.
    ChangeChannels,
    /// Looking after deliveries.
    ManageDeliveries,
    /// Looking after named subscriptions, also those of others.
    ManageSubscriptions,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Connector, Self::Bot, Self::Agent, Self::Admin];

    /// The word for it in files and on the command line.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Connector => "connector",
            Self::Bot => "bot",
            Self::Agent => "agent",
            Self::Admin => "admin",
        }
    }

    /// The role that the word is for.
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.word() == word)
    }

    /// True if it comes with the right.
    pub const fn has(self, right: Right) -> bool {
        match right {
            Right::Send | Right::Read => true,
            Right::EndSessions => !matches!(self, Self::Bot),
            Right::ChangeChannels | Right::ManageDeliveries | Right::ManageSubscriptions => matches!(self, Self::Admin),
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl Right {
    /// What it is a right to, to be read after "may not".
    pub const fn deed(self) -> &'static str {
        match self {
            Self::Send => "send messages",
            Self::Read => "read",
            Self::EndSessions => "end channel sessions",
            Self::ChangeChannels => "change channels",
            Self::ManageDeliveries => "look after deliveries",
            Self::ManageSubscriptions => "look after named subscriptions",
        }
    }
}
