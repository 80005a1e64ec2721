//! What browsers need of the gRPC face: gRPC-Web, and CORS where pages of other origins are allowed.

use crate::http;
use axum::Router;
use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use axum::routing::Route;
use futures::future::{BoxFuture, Either, FutureExt as _, ready};
use std::convert::Infallible;
use std::task::{Context, Poll};
use tonic_web::{GrpcWebLayer, GrpcWebService};
use tower::{Layer as _, Service};
use tower_http::cors::{AllowHeaders, CorsLayer};

/// Lets browsers call the services of `router`, from pages of the allowed origins.
pub(crate) fn allow(router: Router, origins: &[String]) -> Router {
    let router = router.layer(tower::layer::layer_fn(Translated::new));
    if origins.is_empty() {
        return router;
    }
    let exposed = ["grpc-status", "grpc-message", "grpc-status-details-bin"].map(HeaderName::from_static);
    let layer = CorsLayer::new()
        .allow_origin(http::origins(origins))
        .allow_methods([Method::POST])
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers(exposed);
    router.layer(layer)
}

/// A route that also speaks gRPC-Web. Calls that do not need the translation do not pay for it.
#[derive(Clone)]
struct Translated {
    plain: Route,
    web: GrpcWebService<Route>,
}

impl Translated {
    fn new(route: Route) -> Self {
        Self { web: GrpcWebLayer::new().layer(route.clone()), plain: route }
    }
}

/// What a request is, as far as it says so.
enum Spoken {
    /// Plain gRPC, which is spoken over HTTP/2 only.
    Plain,
    /// gRPC-Web, or what that refuses.
    Web,
    /// No gRPC. A browser sends such a request for a page of any site, without asking whether that may call.
    Other,
}

fn spoken<B>(request: &Request<B>) -> Spoken {
    let media_type = request.headers().get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    if request.version() != Version::HTTP_2 || media_type.starts_with(b"application/grpc-web") {
        Spoken::Web
    } else if media_type.starts_with(b"application/grpc") {
        Spoken::Plain
    } else {
        Spoken::Other
    }
}

fn unsupported() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    response
}

impl Service<Request<Body>> for Translated {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<<Route as Service<Request<Body>>>::Future, BoxFuture<'static, Result<Response<Body>, Infallible>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // A route is always ready.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match spoken(&request) {
            Spoken::Plain => Either::Left(self.plain.call(request)),
            Spoken::Web => {
                let answer = self.web.call(request);
                Either::Right(answer.map(|answer| answer.map(|answer| answer.map(Body::new))).boxed())
            }
            Spoken::Other => Either::Right(ready(Ok(unsupported())).boxed()),
        }
    }
}
