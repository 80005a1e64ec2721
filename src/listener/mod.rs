//! Serves a router on a listener: the one accept loop of both faces, with the limits that keep one client from harming others.

mod lingering;
mod tls;

pub use tls::{Pem, SetupError, Tls};

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use lingering::Lingering;
use std::borrow::Borrow;
use std::io::ErrorKind::{ConnectionAborted, ConnectionReset};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinError, JoinSet};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// Most bytes of a response that wait for a client to take them, whatever window it opens: a page of a stream, not its backlog.
const SEND_BUFFER: usize = 64 * 1024;

/// Time that a listener that cannot accept waits for things to get better.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Limits of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Most connections at a time; further ones wait to be accepted.
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

/// Serves `router` to whoever connects to `listener`, over HTTP/1.1 and HTTP/2, in TLS if there is some.
///
/// When `shutdown` is cancelled it accepts nobody any more, lets every request in flight finish and returns. Dropping the future cuts
/// what is still in flight.
///
/// The listener may be lent: then it accepts again for whoever serves on it next.
pub async fn serve(
    listener: impl Borrow<TcpListener>,
    tls: Option<Tls>,
    router: Router,
    settings: Settings,
    shutdown: CancellationToken,
) {
    let http = builder(settings);
    let places = Arc::new(Semaphore::new(settings.max_connections));
    let mut connections = JoinSet::new();
    loop {
        let (socket, place) = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            Some(ended) = connections.join_next() => {
                report(ended);
                continue;
            }
            accepted = accept(listener.borrow(), &places) => accepted,
        };
        let opening = settings.header_timeout;
        let acceptor = tls.as_ref().map(Tls::acceptor);
        let connection =
            Connection { http: http.clone(), router: router.clone(), opening, shutdown: shutdown.clone(), _place: place };
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

/// The next connection, once there is a place for it.
async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> (TcpStream, OwnedSemaphorePermit) {
    let place = places.clone().acquire_owned().await.expect("the places are never closed");
    loop {
        match listener.accept().await {
            Ok((socket, _)) => {
                // An event is worth its own packet.
                let _best_effort = socket.set_nodelay(true);
                return (socket, place);
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
    router: Router,
    /// Longest that a client may take to begin to speak, and to agree on TLS before.
    opening: Duration,
    shutdown: CancellationToken,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    async fn open(self, socket: TcpStream, tls: Option<TlsAcceptor>) {
        let Some(tls) = tls else { return self.serve(socket).await };
        let agreed = tokio::select! {
            agreed = tokio::time::timeout(self.opening, tls.accept(socket)) => agreed,
            () = self.shutdown.cancelled() => return,
        };
        match agreed {
            Ok(Ok(socket)) => self.serve(socket).await,
            Ok(Err(error)) => tracing::debug!(error = &error as &dyn std::error::Error, "a client does not agree on TLS"),
            Err(_) => tracing::debug!("a client takes too long to agree on TLS"),
        }
    }

    async fn serve(self, socket: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let socket = Lingering::new(socket, self.opening);
        let connection = self.http.serve_connection(TokioIo::new(socket), TowerToHyperService::new(self.router));
        tokio::pin!(connection);
        let served = tokio::select! {
            served = connection.as_mut() => served,
            () = self.shutdown.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = served {
            // The client broke off, or was cut off: its business.
            tracing::debug!(error = &*error, "a connection ended early");
        }
    }
}
