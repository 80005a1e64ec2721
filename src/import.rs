//! Takes exported messages in: where they belong is told by the messages themselves.

use crate::channels::Snapshot;
use crate::error::Error;
use crate::inbox::{Inbox, Reuse, fingerprint};
use crate::message::{self, FILL_SLACK, Limits};
use crate::pb;
use crate::pb::body::Kind;
use crate::pb::store::{Session, Submission};
use crate::sessions;
use crate::store::{self, AppendError, Facts, Frame, SessionKey, Staged};
use crate::violation::{Reason, Violations};
use prost_types::value;
use std::collections::VecDeque;

/// Messages that are on their way to the disk at a time.
const UNDER_WAY: usize = 512;

/// What was imported.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Imported {
    /// Messages that are stored now.
    pub stored: u64,
    /// Messages that were there already, with the same content.
    pub skipped: u64,
    /// Typing notifications, which are not worth keeping.
    pub passed_over: u64,
}

/// Why a message is not imported.
#[derive(Debug)]
pub enum ImportError {
    /// It breaks rules, or contradicts what is stored.
    Refused(Violations),
    /// Its id is that of another message.
    Taken {
        /// The id.
        id: String,
    },
    /// The store failed: nothing more can be imported.
    Store(store::Error),
}

impl From<store::Error> for ImportError {
    fn from(error: store::Error) -> Self {
        Self::Store(error)
    }
}

/// Takes messages in, in their order.
#[derive(Debug)]
pub struct Import {
    inbox: Inbox,
    /// Those of which it is not known yet that they are durable.
    under_way: VecDeque<Staged>,
    imported: Imported,
}

impl Import {
    /// An import by way of `inbox`.
    pub const fn new(inbox: Inbox) -> Self {
        Self { inbox, under_way: VecDeque::new(), imported: Imported { stored: 0, skipped: 0, passed_over: 0 } }
    }

    /// Takes a message in. With an id, a channel session, a conversation, a customer and the data of the channel it is stored as it
    /// is; without, it is routed like a new one.
    pub async fn take(&mut self, mut message: pb::CimMessage, unreadable: Violations) -> Result<(), ImportError> {
        let limits = *self.inbox.limits();
        let mut violations = unreadable;
        let filled = Limits { message_bytes: limits.message_bytes + FILL_SLACK, ..limits };
        violations.follow_up(message::check(&mut message, &filled));
        if !violations.is_empty() {
            return Err(ImportError::Refused(violations));
        }
        if message::is_typing(&message) {
            self.imported.passed_over += 1;
            return Ok(());
        }
        match home(&message) {
            Some(home) => self.keep(message, home).await,
            None => self.route(message).await,
        }
    }

    /// Waits until everything is durable.
    pub async fn finish(mut self) -> Result<Imported, store::Error> {
        self.settle(0).await?;
        Ok(self.imported)
    }

    async fn settle(&mut self, most: usize) -> Result<(), store::Error> {
        while self.under_way.len() > most
            && let Some(staged) = self.under_way.pop_front()
        {
            staged.durable().await?;
        }
        Ok(())
    }

    /// Stores a message as it is.
    async fn keep(&mut self, message: pb::CimMessage, home: Home) -> Result<(), ImportError> {
        self.settle(UNDER_WAY).await?;
        let id = message.id.clone().unwrap_or_default();
        let content = pb::CimMessage { id: None, ..message.clone() };
        let submission = Submission { id: id.clone(), fingerprint: fingerprint(&content), ..Submission::default() };
        let store = self.inbox.store().clone();
        loop {
            let claim = store.claim(&id, &submission.fingerprint).await?;
            if claim.taken
                && let Some(there) = store.message(&id).await?
            {
                if there.entry.message.as_deref() == Some(&message) {
                    self.imported.skipped += 1;
                    return Ok(());
                }
                return Err(ImportError::Taken { id });
            }
            let (message, submission, home) = (message.clone(), submission.clone(), home.clone());
            let channels = self.inbox.channels().snapshot();
            let stage = Box::new(move |facts: &dyn Facts| home.frame(facts, &channels, message, submission));
            match store.stage(Some(claim), stage).await {
                Ok(staged) => {
                    self.under_way.push_back(staged);
                    self.imported.stored += 1;
                    return Ok(());
                }
                Err(AppendError::Refused(violations)) => return Err(ImportError::Refused(violations)),
                // Nothing was stored: the index is behind, and there is nobody else to serve meanwhile.
                Err(AppendError::Store(store::Error::Busy)) => self.settle(0).await?,
                Err(AppendError::Store(error)) => return Err(error.into()),
            }
        }
    }

    /// Accepts a message like a new one.
    async fn route(&mut self, message: pb::CimMessage) -> Result<(), ImportError> {
        loop {
            match self.inbox.accept(message.clone(), Violations::default(), Reuse::Reject).await {
                Ok(accepted) if accepted.duplicate => self.imported.skipped += 1,
                Ok(_) => self.imported.stored += 1,
                Err(Error::InvalidMessage { violations }) => return Err(ImportError::Refused(violations)),
                Err(Error::ReusedId { id }) => {
                    // What was stored without a session comes back without one.
                    let there = self.inbox.store().message(&id).await?;
                    if there.is_none_or(|there| there.entry.message.as_deref() != Some(&message)) {
                        return Err(ImportError::Taken { id });
                    }
                    self.imported.skipped += 1;
                }
                Err(Error::Store(store::Error::Busy)) => continue,
                Err(Error::Store(error)) => return Err(error.into()),
                Err(other) => return Err(store::Error::Unavailable { cause: other.to_string() }.into()),
            }
            return Ok(());
        }
    }
}

/// Where a message belongs, as it says itself.
#[derive(Debug, Clone)]
struct Home {
    key: SessionKey,
    session: String,
    conversation: String,
    customer: String,
}

/// The home that a message names, if it names all of it, and has an id.
fn home(message: &pb::CimMessage) -> Option<Home> {
    let some = |text: &Option<String>| text.clone().filter(|text| !text.trim().is_empty());
    some(&message.id)?;
    let header = message.header.as_ref()?;
    let channel = header.channel_data.as_ref()?;
    Some(Home {
        key: SessionKey {
            service_identifier: some(&channel.service_identifier)?,
            channel_customer_identifier: some(&channel.channel_customer_identifier)?,
        },
        session: some(&header.channel_session_id)?,
        conversation: some(&header.conversation_id)?,
        customer: some(&header.customer.as_ref()?.id)?,
    })
}

/// What a message tells of its session.
enum News {
    Started,
    Ended { reason: String },
    Nothing,
}

fn news(message: &pb::CimMessage) -> News {
    let Some(Kind::Notification(notification)) = message::kind(message) else { return News::Nothing };
    match notification.notification_type.as_deref() {
        Some("CHANNEL_SESSION_STARTED") => News::Started,
        Some("CHANNEL_SESSION_ENDED") => {
            let reason = notification.notification_data.as_ref().and_then(|data| data.fields.get("reasonCode"));
            let reason = match reason.and_then(|reason| reason.kind.as_ref()) {
                Some(value::Kind::StringValue(reason)) => reason.clone(),
                _ => String::new(),
            };
            News::Ended { reason }
        }
        _ => News::Nothing,
    }
}

impl Home {
    fn frame(
        self,
        facts: &dyn Facts,
        channels: &Snapshot,
        message: pb::CimMessage,
        submission: Submission,
    ) -> Result<Frame, Violations> {
        let known = facts.session(&self.session);
        if let Some(known) = &known {
            self.check(known)?;
        }
        let at = message.header.as_ref().and_then(|header| header.timestamp);
        let news = news(&message);
        let opens = matches!(news, News::Started) || message::may_open(&message);
        let session = match known {
            Some(known) => {
                Some(Session { conversation_id: self.conversation, customer_id: self.customer, ..Session::clone(&known) })
            }
            // Nobody knows whether there was one.
            None if !opens => None,
            None => Some(Session {
                id: self.session,
                channel_type: channels.channel_type(&self.key.service_identifier).to_owned(),
                service_identifier: self.key.service_identifier,
                channel_customer_identifier: self.key.channel_customer_identifier,
                conversation_id: self.conversation,
                customer_id: self.customer,
                opened_at: at,
                ended_at: None,
                end_reason: String::new(),
            }),
        };
        let session = session.map(|session| match news {
            News::Ended { reason } => Session { ended_at: at, end_reason: reason, ..session },
            News::Started | News::Nothing => session,
        });
        let own = sessions::is_notice(&message);
        let mut entry = sessions::entry(message, session, Some(submission).filter(|_| !own));
        if own {
            entry.audiences = sessions::NOTICE_AUDIENCES.map(i32::from).to_vec();
        }
        Ok(vec![entry])
    }

    /// Fails if the session is of another customer's channel.
    fn check(&self, known: &Session) -> Result<(), Violations> {
        if SessionKey::of(known) == self.key {
            return Ok(());
        }
        let mut violations = Violations::default();
        let message = format!(
            "the channel session {} is of {:?} on {:?}, found {:?} on {:?}",
            known.id,
            known.channel_customer_identifier,
            known.service_identifier,
            self.key.channel_customer_identifier,
            self.key.service_identifier
        );
        violations.add("header.channelSessionId", Reason::ConflictingRoute, message);
        Err(violations)
    }
}
