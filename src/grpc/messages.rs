//! `MessageService`: each call decodes, calls a use case and encodes.

use super::admission::caller;
use super::status::status;
use super::{Settings, bulk, notifications, subscriptions, timeline};
use crate::auth::Caller;
use crate::error::Error;
use crate::inbox::{Accepted, Inbox, Pending};
use crate::outcomes::{LONGEST_DELIVERY_WAIT, Patience};
use crate::pb;
use crate::pb::message_service_server::MessageService;
use crate::store::{Cursor, Stored};
use crate::subscriptions::Subscriptions;
use crate::violation::Violations;
use futures::stream::BoxStream;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use tracing::Instrument as _;

/// Page size where a caller names none.
const DEFAULT_PAGE: usize = 50;

/// The service.
#[derive(Debug, Clone)]
pub(super) struct Messages {
    pub(super) inbox: Inbox,
    subscriptions: Subscriptions,
    pub(super) settings: Settings,
    pub(super) shutdown: CancellationToken,
}

impl Messages {
    pub(super) const fn new(inbox: Inbox, subscriptions: Subscriptions, settings: Settings, shutdown: CancellationToken) -> Self {
        Self { inbox, subscriptions, settings, shutdown }
    }

    /// Gives a message its place in the order of acceptance.
    pub(super) async fn stage(&self, caller: &Caller, message: Option<pb::CimMessage>) -> Result<Pending, Error> {
        let message = message.ok_or(Error::InvalidRequest { field: "message", problem: "is required".into() });
        let message = message.and_then(|message| caller.may_send(&message).map(|()| message));
        let message = message.inspect_err(|error| self.inbox.refused(error.reason_name()))?;
        let span = tracing::info_span!("message", id = message.id.as_deref(), caller = caller.name());
        self.inbox.of(caller).stage(message, Violations::default(), self.settings.reuse).instrument(span).await
    }

    /// What is said of a message that is accepted.
    pub(super) fn response(&self, accepted: &Accepted) -> pb::SendMessageResponse {
        let stored = &accepted.stored;
        let session = stored.entry.session.as_ref();
        pb::SendMessageResponse {
            message_id: stored.id().to_owned(),
            conversation_id: session.map(|session| session.conversation_id.clone()).unwrap_or_default(),
            channel_session_id: session.map(|session| session.id.clone()).unwrap_or_default(),
            submitted_id: stored.submitted_id().unwrap_or_default().to_owned(),
            duplicate: accepted.duplicate,
            accepted_at: stored.entry.accepted_at,
            cursor: self.inbox.store().span().cursor(stored.position).to_string(),
            outcome: None,
        }
    }

    fn accepted(&self, stored: &Stored) -> pb::AcceptedMessage {
        accepted_message(stored, self.inbox.store().span().cursor(stored.position))
    }
}

/// A stored message as clients see it.
pub(super) fn accepted_message(stored: &Stored, cursor: Cursor) -> pb::AcceptedMessage {
    pb::AcceptedMessage {
        message: stored.entry.message.as_deref().cloned(),
        cursor: cursor.to_string(),
        accepted_at: stored.entry.accepted_at,
        audiences: stored.entry.audiences.clone(),
        submitted_id: stored.submitted_id().unwrap_or_default().to_owned(),
    }
}

#[tonic::async_trait]
impl MessageService for Messages {
    async fn send_message(&self, request: Request<pb::SendMessageRequest>) -> Result<Response<pb::SendMessageResponse>, Status> {
        let caller = caller(&request);
        let pb::SendMessageRequest { message, delivery_wait } = request.into_inner();
        let sent = async {
            let usual = Patience::usual(self.settings.delivery_wait);
            let patience = delivery_wait.map_or(Ok(usual), patience)?;
            let accepted = self.stage(&caller, message).await?.durable().await?;
            let outcome = self.inbox.outcome(&accepted, patience).await?;
            Ok(pb::SendMessageResponse { outcome: outcome.map(timeline::outcome), ..self.response(&accepted) })
        };
        sent.await.map(Response::new).map_err(|error: Error| status(&error))
    }

    type SendMessagesStream = BoxStream<'static, Result<pb::SendMessagesResponse, Status>>;

    async fn send_messages(
        &self,
        request: Request<Streaming<pb::SendMessagesRequest>>,
    ) -> Result<Response<Self::SendMessagesStream>, Status> {
        let caller = caller(&request);
        Ok(Response::new(bulk::answers(self.clone(), caller, request.into_inner())))
    }

    async fn get_message(&self, request: Request<pb::GetMessageRequest>) -> Result<Response<pb::GetMessageResponse>, Status> {
        let caller = caller(&request);
        let found = async {
            let stored = self.inbox.seen(&caller, &request.into_inner().message_id).await?;
            let timeline = self.inbox.timeline(&stored).await?;
            Ok((stored, timeline))
        };
        let (stored, timeline) = found.await.map_err(|error: Error| status(&error))?;
        Ok(Response::new(pb::GetMessageResponse {
            message: Some(self.accepted(&stored)),
            outcome: timeline.outcome.map(timeline::outcome),
            timeline: timeline.events.iter().map(|event| timeline::event(event, self.inbox.store().number())).collect(),
        }))
    }

    async fn list_messages(
        &self,
        request: Request<pb::ListMessagesRequest>,
    ) -> Result<Response<pb::ListMessagesResponse>, Status> {
        caller(&request).may_read_all("conversations").map_err(|error| status(&error))?;
        let pb::ListMessagesRequest { conversation_id, page_size, page_token } = request.into_inner();
        let size = self::page_size(page_size, self.settings.history_page).map_err(|error| status(&error))?;
        let span = self.inbox.store().span();
        let after = page_position(&page_token, span.epoch).map_err(|error| status(&error))?;
        let page = self.inbox.history(&conversation_id, after, size).await.map_err(|error| status(&error))?;
        Ok(Response::new(pb::ListMessagesResponse {
            messages: page.messages.iter().map(|stored| self.accepted(stored)).collect(),
            next_page_token: page.next.map(|position| span.cursor(position).to_string()).unwrap_or_default(),
        }))
    }

    type SubscribeNotificationsStream = BoxStream<'static, Result<pb::SubscribeNotificationsResponse, Status>>;

    async fn subscribe_notifications(
        &self,
        request: Request<pb::SubscribeNotificationsRequest>,
    ) -> Result<Response<Self::SubscribeNotificationsStream>, Status> {
        let caller = caller(&request);
        let wanted = notifications::wanted(request.into_inner(), &self.settings).map_err(|error| status(&error))?;
        let reader = self.subscriptions.subscribe_for(caller, wanted).await.map_err(|error| status(&error))?;
        Ok(Response::new(notifications::stream(reader)))
    }

    async fn acknowledge_notifications(
        &self,
        request: Request<pb::AcknowledgeNotificationsRequest>,
    ) -> Result<Response<pb::AcknowledgeNotificationsResponse>, Status> {
        let caller = caller(&request);
        let acknowledged = subscriptions::acknowledge(&self.subscriptions, &caller, request.into_inner()).await;
        acknowledged.map(Response::new).map_err(|error| status(&error))
    }
}

/// How long a caller wants to wait for an outcome.
fn patience(asked: prost_types::Duration) -> Result<Patience, Error> {
    let time = Duration::try_from(asked).ok().filter(|time| *time <= LONGEST_DELIVERY_WAIT);
    time.map(Patience::asked).ok_or_else(|| Error::InvalidRequest {
        field: "delivery_wait",
        problem: format!("must be between 0s and {}", humantime::format_duration(LONGEST_DELIVERY_WAIT)),
    })
}

/// The size of a page where `asked` is asked for, and `most` is the most.
pub(super) fn page_size(asked: i32, most: usize) -> Result<usize, Error> {
    match usize::try_from(asked) {
        Ok(0) => Ok(DEFAULT_PAGE.min(most)),
        Ok(size) => Ok(size.min(most)),
        Err(_) => Err(Error::InvalidRequest { field: "page_size", problem: format!("must not be negative, got {asked}") }),
    }
}

/// The message after which a page goes on; none for the first page.
fn page_position(token: &str, epoch: u64) -> Result<Option<crate::store::Position>, Error> {
    if token.is_empty() {
        return Ok(None);
    }
    let cursor = token.parse::<Cursor>().ok().filter(|cursor| cursor.epoch == epoch);
    let cursor =
        cursor.ok_or_else(|| Error::InvalidRequest { field: "page_token", problem: "is no token of this history".into() })?;
    Ok(Some(cursor.position))
}
