//! `SubscriptionService`: looking after named subscriptions.

use super::messages::page_size;
use super::required;
use super::status::status;
use crate::auth::Caller;
use crate::error::Error;
use crate::pb;
use crate::pb::subscription_service_server::SubscriptionService;
use crate::subscriptions::{Listed, Subscriptions};
use tonic::{Request, Response, Status};

/// The service.
#[derive(Debug, Clone)]
pub(super) struct Registry {
    subscriptions: Subscriptions,
    largest_page: usize,
}

impl Registry {
    pub(super) const fn new(subscriptions: Subscriptions, largest_page: usize) -> Self {
        Self { subscriptions, largest_page }
    }
}

#[tonic::async_trait]
impl SubscriptionService for Registry {
    async fn list_subscriptions(
        &self,
        request: Request<pb::ListSubscriptionsRequest>,
    ) -> Result<Response<pb::ListSubscriptionsResponse>, Status> {
        let pb::ListSubscriptionsRequest { page_size: asked, page_token } = request.into_inner();
        let size = page_size(asked, self.largest_page).map_err(|error| status(&error))?;
        let page = self.subscriptions.list(Some(page_token.as_str()).filter(|token| !token.is_empty()), size);
        Ok(Response::new(pb::ListSubscriptionsResponse {
            subscriptions: page.subscriptions.into_iter().map(subscription).collect(),
            next_page_token: page.next.unwrap_or_default(),
        }))
    }

    async fn delete_subscription(
        &self,
        request: Request<pb::DeleteSubscriptionRequest>,
    ) -> Result<Response<pb::DeleteSubscriptionResponse>, Status> {
        let name = required("subscription", request.into_inner().subscription).map_err(|error| status(&error))?;
        self.subscriptions.delete(&name).await.map_err(|error| status(&error))?;
        Ok(Response::new(pb::DeleteSubscriptionResponse {}))
    }
}

fn subscription(listed: Listed) -> pb::Subscription {
    pb::Subscription {
        name: listed.name,
        cursor: listed.bookmark.cursor.to_string(),
        created_at: Some(listed.bookmark.created_at),
        acknowledged_at: listed.bookmark.acknowledged_at,
        attached: listed.attached,
        behind: listed.behind,
        expired: listed.expired,
    }
}

/// Notes how far a reader is.
pub(super) async fn acknowledge(
    subscriptions: &Subscriptions,
    caller: &Caller,
    request: pb::AcknowledgeNotificationsRequest,
) -> Result<pb::AcknowledgeNotificationsResponse, Error> {
    let name = required("subscription", request.subscription)?;
    caller.may_use_subscription(&name)?;
    let cursor = required("cursor", request.cursor)?;
    if request.generation == 0 {
        return Err(Error::InvalidRequest { field: "generation", problem: "is required".into() });
    }
    let cursor = cursor.parse().map_err(|error| Error::InvalidRequest { field: "cursor", problem: format!("{error}") })?;
    let now = subscriptions.acknowledge(&name, request.generation, cursor).await?;
    Ok(pb::AcknowledgeNotificationsResponse { cursor: now.to_string() })
}
