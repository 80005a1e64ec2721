//! What browsers need of the gRPC face: gRPC-Web, and CORS where pages of other origins are allowed.

use crate::http;
use axum::Router;
use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Method, Request, Response, Version, header};
use axum::routing::Route;
use futures::future::{BoxFuture, Either, FutureExt as _};
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

/// True for what is not plain gRPC, which is spoken over HTTP/2 only.
fn is_from_browser<B>(request: &Request<B>) -> bool {
    let media_type = request.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    request.version() != Version::HTTP_2 || media_type.is_some_and(|media_type| media_type.starts_with(b"application/grpc-web"))
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
        if is_from_browser(&request) {
            let answer = self.web.call(request);
            Either::Right(answer.map(|answer| answer.map(|answer| answer.map(Body::new))).boxed())
        } else {
            Either::Left(self.plain.call(request))
        }
    }
}
