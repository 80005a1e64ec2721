//! Serves a router on a listener: the one accept loop of both faces, with the limits that keep one client from harming others.

mod lingering;
mod reserve;
mod tls;

pub use tls::{Pem, SetupError, Tls};

use axum::body::{Bytes, HttpBody};
use axum::http::Request;
use axum::response::Response;
use axum::{BoxError, Router};
use futures::future::{BoxFuture, Either, FutureExt as _};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use lingering::Lingering;
use reserve::{Guest, PARTING, Place, Places};
use std::borrow::Borrow;
use std::convert::Infallible;
use std::io::ErrorKind::{ConnectionAborted, ConnectionReset};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinError, JoinSet};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::Service;

/// Most bytes of a response that wait for a client to take them, whatever window it opens: a page of a stream, not its backlog.
const SEND_BUFFER: usize = 64 * 1024;

/// Time that a listener that cannot accept waits for things to get better.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Limits of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Most connections at a time. A few more are accepted, for a short time: see [`serve`].
    pub max_connections: usize,
    /// Longest that a client may take to begin to speak, that the headers of an HTTP/1 request may take to arrive, and that an HTTP/1
    /// connection may be idle between two.
    pub header_timeout: Duration,
    /// Most requests at a time on one HTTP/2 connection.
    pub max_concurrent_streams: u32,
    /// Flow-control window of an HTTP/2 stream in bytes.
    pub stream_window: u32,
    /// Flow-control window of an HTTP/2 connection in bytes.
    pub connection_window: u32,
    /// Most bytes of the headers of a request; at least 8 KiB for HTTP/1.
    pub max_header_list: u32,
    /// Time without a frame after which an HTTP/2 client is asked whether it is there. Without it one that is gone would never be
    /// noticed.
    pub keepalive_interval: Duration,
    /// Time after which an HTTP/2 client that does not answer is not there.
    pub keepalive_timeout: Duration,
}

/// What is served on a listener.
#[derive(Debug, Clone)]
pub struct Face {
    /// All of it.
    pub router: Router,
    /// The paths of probes and the like, which are answered although the gateway is full: what is there is cheap, and ends.
    pub probes: &'static [&'static str],
    /// Tells every other request that there is no place for its connection.
    pub full: Router,
}

/// Serves a face to whoever connects to `listener`, over HTTP/1.1 and HTTP/2, in TLS if there is some.
///
/// A few more connections than the bound are accepted, each for two seconds at most: there probes are answered, for who is full is not
/// dead. Any other request waits for a place within the bound, and is told if there is none in time. A connection that gets one stays.
///
/// When `shutdown` is cancelled it accepts nobody any more, lets every request in flight finish and returns. Dropping the future cuts
/// what is still in flight.
///
/// The listener may be lent: then it accepts again for whoever serves on it next.
pub async fn serve(
    listener: impl Borrow<TcpListener>,
    tls: Option<Tls>,
    face: Face,
    settings: Settings,
    shutdown: CancellationToken,
) {
    let http = builder(settings);
    let mut places = Places::new(settings.max_connections);
    let mut connections = JoinSet::new();
    loop {
        let (socket, place) = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            Some(ended) = connections.join_next() => {
                report(ended);
                continue;
            }
            accepted = accept(listener.borrow(), &mut places) => accepted,
        };
        let opening = settings.header_timeout;
        let acceptor = tls.as_ref().map(Tls::acceptor);
        let connection = Connection { http: http.clone(), face: face.clone(), opening, shutdown: shutdown.clone(), place };
        connections.spawn(connection.open(socket, acceptor));
    }
    drop(listener);
    while let Some(ended) = connections.join_next().await {
        report(ended);
    }
}

fn builder(settings: Settings) -> Builder<TokioExecutor> {
    let mut http = Builder::new(TokioExecutor::new());
    http.http1()
        .timer(TokioTimer::new())
        .header_read_timeout(settings.header_timeout)
        .max_buf_size(settings.max_header_list.max(8 * 1024) as usize);
    http.http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(settings.max_concurrent_streams)
        .initial_stream_window_size(settings.stream_window)
        .initial_connection_window_size(settings.connection_window)
        .max_header_list_size(settings.max_header_list)
        .max_send_buf_size(SEND_BUFFER)
        .keep_alive_interval(settings.keepalive_interval)
        .keep_alive_timeout(settings.keepalive_timeout);
    http
}

/// The next connection, and its place.
async fn accept(listener: &TcpListener, places: &mut Places) -> (TcpStream, Place) {
    let room = places.room().await;
    loop {
        match listener.accept().await {
            Ok((socket, _)) => {
                // An event is worth its own packet.
                let _best_effort = socket.set_nodelay(true);
                return (socket, places.place(room));
            }
            // A client that gave up before it was accepted concerns nobody else.
            Err(error) if matches!(error.kind(), ConnectionAborted | ConnectionReset) => {}
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(error = &error as &dyn std::error::Error, "a connection broke down");
    }
}

struct Connection {
    http: Builder<TokioExecutor>,
    face: Face,
    /// Longest that a client may take to begin to speak, and to agree on TLS before.
    opening: Duration,
    shutdown: CancellationToken,
    place: Place,
}

impl Connection {
    async fn open(self, socket: TcpStream, tls: Option<TlsAcceptor>) {
        let Some(tls) = tls else { return self.serve(socket).await };
        let agreed = tokio::select! {
            agreed = tokio::time::timeout(self.opening, tls.accept(socket)) => agreed,
            () = self.shutdown.cancelled() => return,
            () = self.leaves() => return,
        };
        match agreed {
            Ok(Ok(socket)) => self.serve(socket).await,
            Ok(Err(error)) => tracing::debug!(error = &error as &dyn std::error::Error, "a client does not agree on TLS"),
            Err(_) => tracing::debug!("a client takes too long to agree on TLS"),
        }
    }

    async fn serve(self, socket: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let socket = Lingering::new(socket, self.opening);
        let connection = self.http.serve_connection(TokioIo::new(socket), TowerToHyperService::new(self.service()));
        tokio::pin!(connection);
        let served = tokio::select! {
            served = connection.as_mut() => served,
            () = self.shutdown.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
            () = self.leaves() => {
                connection.as_mut().graceful_shutdown();
                let Ok(served) = tokio::time::timeout(PARTING, connection).await else { return };
                served
            }
        };
        if let Err(error) = served {
            // The client broke off, or was cut off: its business.
            tracing::debug!(error = &*error, "a connection ended early");
        }
    }

    /// Returns when it has to leave: never within the bound.
    async fn leaves(&self) {
        match &self.place {
            Place::Within { .. } => std::future::pending().await,
            Place::Beyond(guest) => guest.leaves().await,
        }
    }

    fn service(&self) -> Served {
        match &self.place {
            Place::Within { .. } => Served::Within(self.face.router.clone()),
            Place::Beyond(guest) => Served::Beyond(guest.clone(), self.face.clone()),
        }
    }
}

/// What is served on a connection.
#[derive(Clone)]
enum Served {
    /// All of it.
    Within(Router),
    /// What the guest gets.
    Beyond(Arc<Guest>, Face),
}

impl<B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + 'static> Service<Request<B>> for Served {
    type Response = Response;
    type Error = Infallible;
    type Future = Either<<Router as Service<Request<B>>>::Future, BoxFuture<'static, Result<Response, Infallible>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // A router is always ready.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        match self {
            Self::Within(router) => Either::Left(router.call(request)),
            Self::Beyond(guest, face) => Either::Right(guest.clone().answer(face.clone(), request).boxed()),
        }
    }
}
