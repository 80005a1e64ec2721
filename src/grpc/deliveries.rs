//! `DeliveryService`: each call decodes, calls a use case and encodes.

use super::given;
use super::messages::page_size;
use super::status::status;
use super::timeline::state;
use crate::delivery::{Desk, Shown, Which};
use crate::error::Error;
use crate::pb;
use crate::pb::delivery_service_server::DeliveryService;
use crate::pb::store::{self, Endpoint};
use crate::store::{accepted_at, clock};
use prost_types::Timestamp;
use std::time::Duration;
use tonic::{Request, Response, Status};

/// The service.
#[derive(Debug, Clone)]
pub(super) struct Deliveries {
    desk: Desk,
    largest_page: usize,
}

impl Deliveries {
    pub(super) const fn new(desk: Desk, largest_page: usize) -> Self {
        Self { desk, largest_page }
    }

    async fn page(&self, request: pb::ListDeliveriesRequest) -> Result<pb::ListDeliveriesResponse, Error> {
        let pb::ListDeliveriesRequest { state, channel_id, page_size: size, page_token } = request;
        let state = wanted(state)?;
        let size = page_size(size, self.largest_page)?;
        let page = self.desk.list(state, given(&channel_id), given(&page_token), size).await?;
        Ok(pb::ListDeliveriesResponse {
            deliveries: page.deliveries.iter().map(told).collect(),
            next_page_token: page.next.unwrap_or_default(),
        })
    }
}

/// The state that is asked for.
fn wanted(state: i32) -> Result<Option<store::DeliveryState>, Error> {
    match pb::DeliveryState::try_from(state) {
        Ok(pb::DeliveryState::Unspecified) => Ok(None),
        Ok(pb::DeliveryState::Pending) => Ok(Some(store::DeliveryState::Pending)),
        Ok(pb::DeliveryState::Parked) => Ok(Some(store::DeliveryState::Parked)),
        Ok(pb::DeliveryState::Dead) => Ok(Some(store::DeliveryState::Failed)),
        Ok(settled) => {
            let problem = format!("must be PENDING, PARKED or DEAD, got {}", settled.as_str_name());
            Err(Error::InvalidRequest { field: "state", problem })
        }
        Err(_) => Err(Error::InvalidRequest { field: "state", problem: format!("has no value {state}") }),
    }
}

/// The states that are to be discarded.
fn discardable(states: &[i32]) -> Result<Vec<pb::DiscardableState>, Error> {
    let state = |state: &i32| match pb::DiscardableState::try_from(*state) {
        Ok(pb::DiscardableState::Unspecified) => {
            Err(Error::InvalidRequest { field: "states", problem: "needs one of HELD, OPEN, DEAD, found none".into() })
        }
        Ok(state) => Ok(state),
        Err(_) => Err(Error::InvalidRequest { field: "states", problem: format!("has no value {state}") }),
    };
    states.iter().map(state).collect()
}

/// Which deliveries are meant.
fn which(channel_id: &str, since: Option<Timestamp>, before: Option<Timestamp>) -> Which {
    Which { channel_id: given(channel_id).map(str::to_owned), since, before }
}

/// How many deliveries there were.
fn count(deliveries: usize) -> u32 {
    u32::try_from(deliveries).unwrap_or(u32::MAX)
}

/// A delivery as clients see it.
fn told(shown: &Shown) -> pb::Delivery {
    let delivery = &shown.delivery;
    let due = delivery.progress.due;
    pb::Delivery {
        id: shown.name.to_string(),
        message_id: shown.message_id().to_owned(),
        channel_id: delivery.channel_id.clone(),
        endpoint: endpoint(delivery.id.endpoint).into(),
        state: state(delivery.progress.state).into(),
        attempts: delivery.progress.attempts,
        due_time: (due != 0).then(|| clock::from_nanos(due)),
        accepted_at: shown.message.as_ref().and_then(|stored| accepted_at(&stored.entry)),
        held: shown.held,
    }
}

/// Which webhook of a channel.
pub(super) const fn endpoint(endpoint: Endpoint) -> pb::DeliveryEndpoint {
    match endpoint {
        Endpoint::Connector => pb::DeliveryEndpoint::Connector,
        Endpoint::Bot => pb::DeliveryEndpoint::Bot,
        Endpoint::Unspecified => pb::DeliveryEndpoint::Unspecified,
    }
}

/// An attempt.
pub(super) fn attempt(attempt: &store::Attempt) -> pb::DeliveryAttempt {
    let store::Attempt { began_at, millis, status, failure, answer } = attempt.clone();
    let duration = prost_types::Duration::try_from(Duration::from_millis(millis.into())).ok();
    pb::DeliveryAttempt { time: began_at, duration, status, failure, answer }
}

#[tonic::async_trait]
impl DeliveryService for Deliveries {
    async fn list_deliveries(
        &self,
        request: Request<pb::ListDeliveriesRequest>,
    ) -> Result<Response<pb::ListDeliveriesResponse>, Status> {
        self.page(request.into_inner()).await.map(Response::new).map_err(|error| status(&error))
    }

    async fn get_delivery(&self, request: Request<pb::GetDeliveryRequest>) -> Result<Response<pb::GetDeliveryResponse>, Status> {
        let (shown, attempts) = self.desk.get(&request.into_inner().id).await.map_err(|error| status(&error))?;
        let attempts = attempts.iter().map(attempt).collect();
        Ok(Response::new(pb::GetDeliveryResponse { delivery: Some(told(&shown)), attempts }))
    }

    async fn redrive_delivery(
        &self,
        request: Request<pb::RedriveDeliveryRequest>,
    ) -> Result<Response<pb::RedriveDeliveryResponse>, Status> {
        let shown = self.desk.redrive(&request.into_inner().id).await.map_err(|error| status(&error))?;
        Ok(Response::new(pb::RedriveDeliveryResponse { delivery: Some(told(&shown)) }))
    }

    async fn redrive_deliveries(
        &self,
        request: Request<pb::RedriveDeliveriesRequest>,
    ) -> Result<Response<pb::RedriveDeliveriesResponse>, Status> {
        let pb::RedriveDeliveriesRequest { channel_id, accepted_since, accepted_before } = request.into_inner();
        let which = which(&channel_id, accepted_since, accepted_before);
        let (redriven, more) = self.desk.redrive_all(&which).await.map_err(|error| status(&error))?;
        Ok(Response::new(pb::RedriveDeliveriesResponse { redriven: count(redriven), more }))
    }

    async fn discard_delivery(
        &self,
        request: Request<pb::DiscardDeliveryRequest>,
    ) -> Result<Response<pb::DiscardDeliveryResponse>, Status> {
        self.desk.discard(&request.into_inner().id).await.map_err(|error| status(&error))?;
        Ok(Response::new(pb::DiscardDeliveryResponse {}))
    }

    async fn discard_deliveries(
        &self,
        request: Request<pb::DiscardDeliveriesRequest>,
    ) -> Result<Response<pb::DiscardDeliveriesResponse>, Status> {
        let pb::DiscardDeliveriesRequest { states, channel_id, accepted_since, accepted_before } = request.into_inner();
        let states = discardable(&states).map_err(|error| status(&error))?;
        let which = which(&channel_id, accepted_since, accepted_before);
        let (discarded, more) = self.desk.discard_all(&states, &which).await.map_err(|error| status(&error))?;
        Ok(Response::new(pb::DiscardDeliveriesResponse { discarded: count(discarded), more }))
    }

    async fn release_deliveries(
        &self,
        _request: Request<pb::ReleaseDeliveriesRequest>,
    ) -> Result<Response<pb::ReleaseDeliveriesResponse>, Status> {
        self.desk.release().await.map_err(|error| status(&error))?;
        Ok(Response::new(pb::ReleaseDeliveriesResponse {}))
    }
}
