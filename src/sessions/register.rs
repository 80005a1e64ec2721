//! Looking after sessions: listing them, looking one up, ending one.

use super::ending;
use crate::auth::Caller;
use crate::channels::Channels;
use crate::error::Error;
use crate::pb;
use crate::planning;
use crate::store::{AppendError, Facts, SessionFacts, SessionFilter, SessionPage, Store, Stored};
use crate::violation::Violations;
use crate::wire;
use std::sync::Arc;

/// What became of a session that was to end.
#[derive(Debug, Clone)]
pub struct Ended {
    /// The session as it is now.
    pub session: SessionFacts,
    /// The notice that tells both sides; none if it had ended before.
    pub notice: Option<Stored>,
}

/// The sessions of a store. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Sessions {
    store: Arc<dyn Store>,
    /// None where nothing is delivered.
    channels: Option<Channels>,
}

impl Sessions {
    /// The sessions that `store` tells of. That one is ended is streamed, and delivered to nobody.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store, channels: None }
    }

    /// The same, with deliveries to the webhooks of these channels.
    pub fn delivering(self, channels: Channels) -> Self {
        Self { channels: Some(channels), ..self }
    }

    /// The store behind them.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// A page of at most `size` sessions that `filter` wants, the one that was opened last first, from the one before `before` on. It
    /// may have fewer, and none, although there are more to come.
    pub async fn list(&self, filter: &SessionFilter, before: Option<&str>, size: usize) -> Result<SessionPage, Error> {
        Ok(self.store.sessions(filter, before, size).await?)
    }

    /// The session of this id.
    pub async fn session(&self, id: &str) -> Result<SessionFacts, Error> {
        self.store.session(id).await?.ok_or_else(|| Error::SessionNotFound { id: id.to_owned() })
    }

    /// The same, if the caller may know of it; for any other there is none.
    pub async fn seen(&self, caller: &Caller, id: &str) -> Result<SessionFacts, Error> {
        let known = self.session(id).await?;
        caller.must_see(&known.session.service_identifier, || Error::SessionNotFound { id: id.to_owned() })?;
        Ok(known)
    }

    /// Ends a session for `reason`, and tells both sides; durably, when this returns. One that has ended stays as it is.
    ///
    /// It is looked at again where it is ended, so that of all that end it at the same time one does.
    pub async fn end(&self, id: &str, reason: pb::SessionEndReason) -> Result<Ended, Error> {
        loop {
            let known = self.session(id).await?;
            if known.session.ended_at.is_some() {
                return Ok(Ended { session: known, notice: None });
            }
            // To the millisecond, as every time of a message.
            let at = wire::now();
            let channels = self.channels.as_ref();
            let stage = Box::new(move |facts: &dyn Facts| {
                let mut frame = ending::end(facts, id, reason, at).ok_or_else(Violations::default)?;
                if let Some(channels) = channels {
                    planning::plan_all(&mut frame, &channels.snapshot());
                }
                Ok(frame)
            });
            match self.store.append(None, stage).await {
                Ok(frame) => {
                    let notice = frame.into_iter().find(|stored| stored.entry.session.is_some());
                    let ended = notice.as_ref().and_then(|stored| stored.entry.session.clone());
                    let session = ended.map_or(known.session, Arc::new);
                    return Ok(Ended { session: SessionFacts { session, ..known }, notice });
                }
                // Another has ended it. Whether that is there to stay is known when it is durable.
                Err(AppendError::Refused(_)) => {}
                Err(AppendError::Store(error)) => return Err(Error::Store(error)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message;
    use crate::pb::SessionEndReason as Reason;
    use crate::pb::body::Kind;
    use crate::pb::store::{Session, Submission};
    use crate::samples;
    use crate::store::memory::Memory;
    use crate::store::{Page, Position};
    use prost_types::Timestamp;
    use serde_json::{Value as Json, json};

    /// Routes a message into the store.
    async fn send(memory: &Memory, patch: Json) -> Session {
        let mut message = samples::message(patch);
        message.id.get_or_insert_with(message::fresh_id);
        let stage = Box::new(|facts: &dyn Facts| {
            crate::sessions::route(
                facts,
                &crate::channels::Snapshot::default(),
                message,
                Submission::default(),
                Timestamp { seconds: 1_700_000_000, nanos: 0 },
            )
        });
        let frame = memory.append(None, stage).await.expect("is accepted");
        frame.last().and_then(|stored| stored.entry.session.clone()).expect("belongs to a session")
    }

    fn sessions() -> (Memory, Sessions) {
        let memory = Memory::new(64 << 20);
        (memory.clone(), Sessions::new(Arc::new(memory)))
    }

    /// What the entries after `position` tell: the notification and its data.
    async fn notices(memory: &Memory, position: Position) -> Vec<(String, Json)> {
        let page = Page { entries: 99, bytes: usize::MAX };
        let log = memory.read(position, page).await.expect("is kept");
        let told = |stored: &Stored| match message::kind(stored.entry.message.as_ref().expect("is a message")) {
            Some(Kind::Notification(notification)) => {
                let json: Json =
                    serde_json::from_slice(&wire::encode(stored.entry.message.as_ref().expect("is a message"))).expect("is JSON");
                (notification.notification_type.clone().unwrap_or_default(), json["body"]["notificationData"].clone())
            }
            other => panic!("a notice, found {other:?}"),
        };
        log.iter().map(told).collect()
    }

    #[tokio::test]
    async fn a_session_that_is_ended_is_ended_once_and_both_sides_are_told() {
        let (memory, sessions) = sessions();
        let opened = send(&memory, json!({ "header": { "customer": { "firstName": "Ada" } } })).await;
        let end = memory.span().end;
        let ended = sessions.end(&opened.id, Reason::ForceClosed).await.expect("is there");
        assert_eq!(notices(&memory, end).await, [("CHANNEL_SESSION_ENDED".to_owned(), json!({"reasonCode": "FORCE_CLOSED"}))]);
        assert_eq!(ended.session.session.end_reason, "FORCE_CLOSED");
        assert!(ended.session.session.ended_at.is_some());
        let notice = ended.notice.expect("it was active").entry.message.clone().expect("is a message");
        let header = notice.header.expect("has a header");
        assert_eq!(header.channel_session_id.as_ref(), Some(&opened.id));
        assert_eq!(header.customer.and_then(|customer| customer.first_name).as_deref(), Some("Ada"));
        let channel = header.channel_data.expect("has channel data");
        assert_eq!(channel.service_identifier.as_ref(), Some(&opened.service_identifier));

        let again = sessions.end(&opened.id, Reason::Agent).await.expect("is there");
        assert!(again.notice.is_none());
        assert_eq!(again.session, ended.session);
        assert_eq!(memory.span().end, end.next(), "nothing was stored");
        // Who writes on is in a new session.
        let next = send(&memory, json!({ "header": { "channelSessionId": opened.id } })).await;
        assert_ne!(next.id, opened.id);
    }

    #[tokio::test]
    async fn of_many_who_end_a_session_at_once_one_does() {
        let (memory, sessions) = sessions();
        let opened = send(&memory, json!({})).await;
        let end = memory.span().end;
        let ending = (0..16).map(|_| sessions.end(&opened.id, Reason::Agent));
        let ended = futures::future::join_all(ending).await;
        let done = ended.iter().filter(|ended| ended.as_ref().is_ok_and(|ended| ended.notice.is_some())).count();
        assert_eq!((done, notices(&memory, end).await.len()), (1, 1));
        assert!(ended.iter().all(|ended| ended.as_ref().is_ok_and(|ended| ended.session.session.end_reason == "AGENT")));
    }

    #[tokio::test]
    async fn an_unknown_session_is_named() {
        let (_, sessions) = sessions();
        let unknown = Error::SessionNotFound { id: "lost".into() };
        assert_eq!(sessions.session("lost").await, Err(unknown.clone()));
        assert_eq!(sessions.end("lost", Reason::Agent).await.map(drop), Err(unknown));
    }
}
