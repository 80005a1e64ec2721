//! What tools find out by themselves: reflection and health.

use crate::support::gateway::Gateway;
use crate::support::soon;
use futures::stream;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

const SERVICES: [&str; 6] = [
    "cim.v1.ChannelService",
    "cim.v1.DeliveryService",
    "cim.v1.MessageService",
    "cim.v1.SessionService",
    "cim.v1.SubscriptionService",
    "grpc.health.v1.Health",
];

/// What reflection says of a gateway, in one of its two versions: its services, and whether it describes a symbol.
macro_rules! reflected {
    ($version:ident, $gateway:expr) => {{
        use tonic_reflection::pb::$version::ServerReflectionRequest;
        use tonic_reflection::pb::$version::server_reflection_client::ServerReflectionClient;
        use tonic_reflection::pb::$version::server_reflection_request::MessageRequest;
        use tonic_reflection::pb::$version::server_reflection_response::MessageResponse;
        let mut client = ServerReflectionClient::new($gateway.client().await.channel);
        let ask = |request| ServerReflectionRequest { host: String::new(), message_request: Some(request) };
        let questions = [
            ask(MessageRequest::ListServices(String::new())),
            ask(MessageRequest::FileContainingSymbol("cim.v1.CimMessage".into())),
            ask(MessageRequest::FileContainingSymbol("google.rpc.BadRequest".into())),
        ];
        let answers = soon("reflection", client.server_reflection_info(stream::iter(questions))).await.unwrap();
        let mut answers = answers.into_inner();
        let mut next = async || soon("an answer", answers.message()).await.unwrap().unwrap().message_response.unwrap();
        let MessageResponse::ListServicesResponse(services) = next().await else { panic!("no list of services") };
        for symbol in ["cim.v1.CimMessage", "google.rpc.BadRequest"] {
            assert!(matches!(next().await, MessageResponse::FileDescriptorResponse(_)), "{symbol} is not described");
        }
        let mut names: Vec<_> = services.service.into_iter().map(|service| service.name).collect();
        names.sort_unstable();
        names
    }};
}

#[tokio::test]
async fn reflection_lists_exactly_what_is_served() {
    let gateway = Gateway::start().await;
    assert_eq!(reflected!(v1, gateway), SERVICES);
    assert_eq!(reflected!(v1alpha, gateway), SERVICES);
}

#[tokio::test]
async fn health_is_told_of_the_gateway_and_of_its_services() {
    let gateway = Gateway::start().await;
    let mut health = HealthClient::new(gateway.client().await.channel);
    for service in ["", "cim.v1.MessageService", "cim.v1.ChannelService", "cim.v1.SubscriptionService"] {
        let request = || HealthCheckRequest { service: service.into() };
        let checked = soon("health", health.check(request())).await.unwrap().into_inner().status;
        assert_eq!(checked, i32::from(ServingStatus::Serving));
        let mut watch = soon("a watch", health.watch(request())).await.unwrap().into_inner();
        let watched = soon("health", watch.message()).await.unwrap().unwrap().status;
        assert_eq!(watched, i32::from(ServingStatus::Serving));
    }
    let unknown = soon("health", health.check(HealthCheckRequest { service: "cim.v1.Nothing".into() })).await;
    assert_eq!(unknown.unwrap_err().code(), Code::NotFound);
}
