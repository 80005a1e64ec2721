//! The gRPC face: the services, health and reflection. Thin: decode, call a use case, encode.

mod admission;
mod bulk;
mod channels;
mod deliveries;
mod messages;
mod notifications;
mod observe;
mod sessions;
mod status;
mod subscriptions;
mod timeline;

pub use observe::counted;

use crate::auth::{Gate, Right};
use crate::delivery::Desk;
use crate::error::Error;
use crate::inbox::{Inbox, Reuse};
use crate::pb;
use crate::pb::channel_service_server::{self, ChannelServiceServer};
use crate::pb::delivery_service_server::{self, DeliveryServiceServer};
use crate::pb::message_service_server::{self, MessageServiceServer};
use crate::pb::session_service_server::{self, SessionServiceServer};
use crate::pb::subscription_service_server::{self, SubscriptionServiceServer};
use crate::readiness::Readiness;
use crate::sessions::Sessions;
use crate::subscriptions::Subscriptions;
use admission::Admission;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tonic::codegen::http::Response;
use tonic::service::Routes;
use tonic::{Code, Status};
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use tower::util::MapResponseLayer;

/// How the services behave.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// What becomes of a message whose id is taken by other content.
    pub reuse: Reuse,
    /// Most values of a filter.
    pub filter_values: usize,
    /// Most bytes of a value of a filter.
    pub filter_value_bytes: usize,
    /// Most messages of a page of history.
    pub history_page: usize,
    /// Most channels of a page.
    pub channels_page: usize,
    /// Most deliveries of a page.
    pub deliveries_page: usize,
    /// Most messages of one stream that are not answered yet.
    pub max_in_flight: usize,
    /// How long SendMessage waits for the outcome where the caller does not say.
    pub delivery_wait: Duration,
}

/// The services, for health and reflection.
const SERVICES: [&str; 5] = [
    message_service_server::SERVICE_NAME,
    channel_service_server::SERVICE_NAME,
    delivery_service_server::SERVICE_NAME,
    session_service_server::SERVICE_NAME,
    subscription_service_server::SERVICE_NAME,
];

/// What `grpc.health.v1` tells beside whether the whole and each service serves: whether the gateway has started, and whether the
/// process turns at all, for probes that ask just that.
const STARTUP: &str = "startup";
const LIVENESS: &str = "liveness";

/// The path of probes. A watch of the health is none: it does not end.
pub const PROBES: [&str; 1] = ["/grpc.health.v1.Health/Check"];

/// The health of the services, as `grpc.health.v1` tells it.
#[derive(Debug, Clone)]
pub struct Health {
    reporter: HealthReporter,
}

impl Health {
    /// Tells what the gateway can do now.
    pub async fn tell(&self, readiness: Readiness) {
        let whole = [("", readiness.serves()), (STARTUP, readiness.is_started()), (LIVENESS, true)];
        // Channels can be changed although there is no room for messages.
        let needs_no_room = |service| service == channel_service_server::SERVICE_NAME;
        let serves = |service| if needs_no_room(service) { readiness.serves() } else { readiness.accepts() };
        let services = SERVICES.map(|service| (service, serves(service)));
        for (service, serves) in whole.into_iter().chain(services) {
            let status = if serves { ServingStatus::Serving } else { ServingStatus::NotServing };
            self.reporter.set_service_status(service, status).await;
        }
    }

    /// Says that the services serve no more, to whoever watches, and ends the watches: they would hold the shutdown open.
    pub async fn end(mut self) {
        for service in ["", STARTUP, LIVENESS].into_iter().chain(SERVICES) {
            self.reporter.set_service_status(service, ServingStatus::NotServing).await;
            self.reporter.clear_service_status(service).await;
        }
    }
}

/// The routes of the gRPC face, and its health: that of a gateway that has not started, until it is told another. Streams that take
/// messages end with `shutdown`. Health and reflection ask nobody who calls; all else lets in whom `gate` does.
pub async fn routes(
    inbox: Inbox,
    subscriptions: Subscriptions,
    sessions: Sessions,
    desk: Desk,
    gate: Gate,
    settings: Settings,
    shutdown: CancellationToken,
) -> (Routes, Health) {
    let limit = inbox.limits().message_bytes;
    // What is larger than the bound but not by far is read, and reported with all else that is wrong with it.
    let most = limit * 2;
    let channels = channels::Registry::new(inbox.channels().clone(), settings.channels_page);
    let channels = ChannelServiceServer::new(channels).max_decoding_message_size(most);
    let deliveries = DeliveryServiceServer::new(deliveries::Deliveries::new(desk, settings.deliveries_page));
    let register = sessions::Register::new(sessions, settings.history_page);
    let names = subscriptions::Registry::new(subscriptions.clone(), settings.history_page);
    let messages = messages::Messages::new(inbox, subscriptions, settings, shutdown);
    let messages = MessageServiceServer::new(messages).max_decoding_message_size(most);
    let names = SubscriptionServiceServer::new(names);
    let register = SessionServiceServer::new(register);
    let known = |right| Admission::new(gate.clone(), right);
    let routes = Routes::new(known(None).to(messages))
        .add_service(known(None).to(channels))
        .add_service(known(Some(Right::ManageDeliveries)).to(deliveries))
        .add_service(known(Some(Right::ManageSubscriptions)).to(names))
        .add_service(known(None).to(register));
    let (routes, health) = with_health(routes).await;
    let in_our_words = MapResponseLayer::new(move |response| in_our_words(response, limit));
    (Routes::from(routes.into_axum_router().layer(in_our_words)), health)
}

/// The face while the store is being opened: health and reflection; everybody else is asked to come again.
pub async fn opening() -> (Routes, Health) {
    let (routes, health) = with_health(Routes::default()).await;
    let come_again = MapResponseLayer::new(|response: Response<_>| match Status::from_header_map(response.headers()) {
        Some(unknown) if unknown.code() == Code::Unimplemented => status::status(&Error::Opening).into_http(),
        _ => response,
    });
    (Routes::from(routes.into_axum_router().layer(come_again)), health)
}

/// The answer to a call for whose connection there is no place.
pub fn full<B: Default>() -> Response<B> {
    status::status(&Error::TooManyConnections).into_http()
}

async fn with_health(routes: Routes) -> (Routes, Health) {
    let (reporter, service) = tonic_health::server::health_reporter();
    let health = Health { reporter };
    health.tell(Readiness::Opening).await;
    let routes = routes.add_service(service);
    let routes = routes.add_service(reflection().build_v1().expect(DESCRIPTORS_DECODE));
    (routes.add_service(reflection().build_v1alpha().expect(DESCRIPTORS_DECODE)), health)
}

/// A text that is not empty.
fn given(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

/// A text that must not be empty.
fn required(field: &'static str, value: String) -> Result<String, Error> {
    if value.is_empty() { Err(Error::InvalidRequest { field, problem: "is required".into() }) } else { Ok(value) }
}

/// An answer that is no more than a status, as the gateway would put it.
fn in_our_words<B: Default>(response: Response<B>, limit: usize) -> Response<B> {
    match Status::from_header_map(response.headers()) {
        Some(tonics) if tonics.details().is_empty() => status::in_our_words(tonics, limit).into_http(),
        _ => response,
    }
}

const DESCRIPTORS_DECODE: &str = "the descriptors are built with the program, and a test decodes them";

fn reflection() -> tonic_reflection::server::Builder<'static> {
    let builder = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(pb::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        // With these a client that explores can read the details of errors.
        .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
        .with_service_name("grpc.health.v1.Health");
    // What is in the log is nobody else's business.
    SERVICES.into_iter().fold(builder, tonic_reflection::server::Builder::with_service_name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_descriptors_decode() {
        assert!(reflection().build_v1().is_ok());
        assert!(reflection().build_v1alpha().is_ok());
    }
}
