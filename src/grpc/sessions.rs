//! `SessionService`: looking after channel sessions.

use super::admission::caller;
use super::messages::page_size;
use super::status::status;
use super::{given, required};
use crate::auth::{Caller, Right};
use crate::error::Error;
use crate::pb;
use crate::pb::SessionEndReason;
use crate::pb::session_service_server::SessionService;
use crate::sessions::{Sessions, end_reason};
use crate::store::{SessionFacts, SessionFilter};
use tonic::{Request, Response, Status};

/// The service.
#[derive(Debug, Clone)]
pub(super) struct Register {
    sessions: Sessions,
    largest_page: usize,
}

impl Register {
    pub(super) const fn new(sessions: Sessions, largest_page: usize) -> Self {
        Self { sessions, largest_page }
    }

    async fn list(&self, caller: &Caller, request: pb::ListSessionsRequest) -> Result<pb::ListSessionsResponse, Error> {
        let text = |text: &str| given(text).map(str::to_owned);
        let mut filter = SessionFilter {
            service_identifier: text(&request.service_identifier),
            customer_id: text(&request.customer_id),
            conversation_id: text(&request.conversation_id),
            active: request.active_only,
        };
        caller.narrow_to_one("service_identifier", &mut filter.service_identifier)?;
        let size = page_size(request.page_size, self.largest_page)?;
        let page = self.sessions.list(&filter, given(&request.page_token), size).await?;
        Ok(pb::ListSessionsResponse {
            sessions: page.sessions.iter().map(shown).collect(),
            next_page_token: page.next.unwrap_or_default(),
        })
    }

    async fn session(&self, caller: &Caller, request: pb::GetSessionRequest) -> Result<pb::GetSessionResponse, Error> {
        let id = required("session_id", request.session_id)?;
        Ok(pb::GetSessionResponse { session: Some(shown(&self.sessions.seen(caller, &id).await?)) })
    }

    async fn end(&self, caller: &Caller, request: pb::EndSessionRequest) -> Result<pb::EndSessionResponse, Error> {
        caller.may(Right::EndSessions)?;
        let id = required("session_id", request.session_id)?;
        let reason = match SessionEndReason::try_from(request.reason) {
            Ok(SessionEndReason::Unspecified) => SessionEndReason::ForceClosed,
            Ok(reason) => reason,
            Err(_) => return Err(Error::InvalidRequest { field: "reason", problem: format!("has no value {}", request.reason) }),
        };
        self.sessions.seen(caller, &id).await?;
        let ended = self.sessions.end(&id, reason).await?;
        Ok(pb::EndSessionResponse { session: Some(shown(&ended.session)), already_ended: ended.notice.is_none() })
    }
}

#[tonic::async_trait]
impl SessionService for Register {
    async fn list_sessions(
        &self,
        request: Request<pb::ListSessionsRequest>,
    ) -> Result<Response<pb::ListSessionsResponse>, Status> {
        self.list(&caller(&request), request.into_inner()).await.map(Response::new).map_err(|error| status(&error))
    }

    async fn get_session(&self, request: Request<pb::GetSessionRequest>) -> Result<Response<pb::GetSessionResponse>, Status> {
        self.session(&caller(&request), request.into_inner()).await.map(Response::new).map_err(|error| status(&error))
    }

    async fn end_session(&self, request: Request<pb::EndSessionRequest>) -> Result<Response<pb::EndSessionResponse>, Status> {
        self.end(&caller(&request), request.into_inner()).await.map(Response::new).map_err(|error| status(&error))
    }
}

/// A session as clients see it.
fn shown(SessionFacts { session, last_activity }: &SessionFacts) -> pb::Session {
    pb::Session {
        id: session.id.clone(),
        service_identifier: session.service_identifier.clone(),
        channel_customer_identifier: session.channel_customer_identifier.clone(),
        conversation_id: session.conversation_id.clone(),
        customer_id: session.customer_id.clone(),
        opened_at: session.opened_at,
        ended_at: session.ended_at,
        end_reason: end_reason::of(&session.end_reason).into(),
        last_activity: Some(*last_activity),
    }
}
