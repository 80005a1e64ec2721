//! Counts calls, by their methods and the statuses that they end with.

use super::{DESCRIPTORS_DECODE, Routes};
use crate::metrics::{Call, Method, Requests};
use crate::pb;
use futures::future::{BoxFuture, FutureExt as _};
use http_body_util::BodyExt as _;
use prost::Message as _;
use prost_types::FileDescriptorSet;
use std::collections::HashMap;
use std::sync::Arc;
use std::task::{Context, Poll};
use tonic::Code;
use tonic::body::Body;
use tonic::codegen::http::{HeaderMap, Request, Response, StatusCode};
use tonic::codegen::{Body as HttpBody, Bytes, StdError};
use tower::Service;
use tower::layer::layer_fn;

/// What is served.
const DESCRIPTORS: [&[u8]; 4] = [
    pb::DESCRIPTORS,
    tonic_health::pb::FILE_DESCRIPTOR_SET,
    tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
    tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
];

/// The same routes, whose calls are counted.
pub fn counted(routes: Routes, requests: &Requests) -> Routes {
    let methods = Arc::new(Methods::new(requests));
    let layer = layer_fn(move |service| Counted { service, methods: methods.clone() });
    Routes::from(routes.into_axum_router().layer(layer))
}

/// Every method that is served.
#[derive(Debug)]
struct Methods {
    /// By their paths, each with whether it is a stream.
    known: HashMap<String, (Arc<Method>, bool)>,
    unknown: Arc<Method>,
}

impl Methods {
    fn new(requests: &Requests) -> Self {
        let mut known = HashMap::new();
        let files = DESCRIPTORS.map(|set| FileDescriptorSet::decode(set).expect(DESCRIPTORS_DECODE).file);
        for file in files.iter().flatten() {
            for service in &file.service {
                for method in &service.method {
                    let name = format!("{}.{}/{}", file.package(), service.name(), method.name());
                    let streams = method.client_streaming() || method.server_streaming();
                    known.insert(format!("/{name}"), (requests.method(name), streams));
                }
            }
        }
        Self { known, unknown: requests.method("other") }
    }

    fn begin(&self, path: &str) -> Call {
        let Some((method, streams)) = self.known.get(path) else { return self.unknown.begin() };
        let mut call = method.begin();
        if *streams {
            call.streams();
        }
        call
    }
}

#[derive(Debug, Clone)]
struct Counted<S> {
    service: S,
    methods: Arc<Methods>,
}

impl<S, A, B> Service<Request<A>> for Counted<S>
where
    S: Service<Request<A>, Response = Response<B>>,
    S::Future: Send + 'static,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<StdError>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<Body>, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let call = self.methods.begin(request.uri().path());
        let answer = self.service.call(request);
        async move { answer.await.map(|response| followed(call, response)) }.boxed()
    }
}

/// The same response. The call ends with its status: in the headers if there is nothing else, or else after the last message.
fn followed<B>(mut call: Call, response: Response<B>) -> Response<Body>
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<StdError>,
{
    match code(response.headers()) {
        Some(code) => call.ends(code),
        None if response.status() != StatusCode::OK => call.ends(Code::Unknown as u16),
        None => {}
    }
    response.map(|body| {
        Body::new(body.inspect_frame(move |frame| {
            if let Some(code) = frame.trailers_ref().and_then(code) {
                call.ends(code);
            }
        }))
    })
}

/// The code of the status that headers or trailers tell.
fn code(headers: &HeaderMap) -> Option<u16> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;
    use crate::pb::message_service_server;
    use http_body_util::{Empty, Full};
    use std::future::ready;
    use tonic::codegen::http::HeaderValue;

    #[test]
    fn every_method_that_is_served_is_known_and_streams_are_told_apart() {
        let methods = Methods::new(&Metrics::default().grpc);
        let streams = |path: &str| methods.known.get(path).map(|(_, streams)| *streams);
        assert_eq!(streams("/cim.v1.MessageService/SendMessage"), Some(false));
        assert_eq!(streams("/cim.v1.MessageService/SendMessages"), Some(true));
        assert_eq!(streams("/cim.v1.MessageService/SubscribeNotifications"), Some(true));
        assert_eq!(streams("/grpc.health.v1.Health/Check"), Some(false));
        assert_eq!(streams("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"), Some(true));
        assert_eq!(streams("/cim.v1.MessageService/Nothing"), None);
        for service in super::super::SERVICES {
            assert!(methods.known.keys().any(|path| path.starts_with(&format!("/{service}/"))), "{service}");
        }
    }

    fn told(metrics: &Metrics, code: &str) -> bool {
        let method = format!("{}/SendMessage", message_service_server::SERVICE_NAME);
        let line = format!("cim_requests_total{{face=\"grpc\",method=\"{method}\",code=\"{code}\"}} 1");
        metrics.page().lines().any(|found| found == line)
    }

    fn begun(metrics: &Metrics) -> Call {
        Methods::new(&metrics.grpc).begin("/cim.v1.MessageService/SendMessage")
    }

    #[tokio::test]
    async fn a_call_ends_with_the_status_that_its_headers_or_its_trailers_tell() {
        let metrics = Metrics::default();
        let mut refused = Response::new(Empty::<Bytes>::new());
        refused.headers_mut().insert("grpc-status", HeaderValue::from_static("3"));
        drop(followed(begun(&metrics), refused));
        assert!(told(&metrics, "INVALID_ARGUMENT"));

        let metrics = Metrics::default();
        let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from_static("0"))]);
        let body = Full::new(Bytes::from_static(b"hi")).with_trailers(ready(Some(Ok(trailers))));
        let answer = followed(begun(&metrics), Response::new(body));
        assert!(!told(&metrics, "OK"));
        assert!(answer.into_body().collect().await.is_ok());
        assert!(told(&metrics, "OK"));
    }

    #[test]
    fn a_call_whose_client_leaves_is_cancelled() {
        let metrics = Metrics::default();
        drop(followed(begun(&metrics), Response::new(Empty::<Bytes>::new())));
        assert!(told(&metrics, "CANCELLED"));
    }
}
