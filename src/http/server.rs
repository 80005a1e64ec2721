//! The serving loop: connections in, each within its limits, until the gateway shuts down.

use super::Settings;
use super::linger::Lingering;
use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

/// Most bytes of the headers of a request.
const HEADER_BYTES: u32 = 64 * 1024;

/// Time without a frame after which an HTTP/2 client is asked whether it is there, and after which it is not.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// Time that a listener that cannot accept waits for things to get better.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves `router` to whoever connects to `listener`, over HTTP/1.1 and HTTP/2.
///
/// When `shutdown` is cancelled it accepts nobody any more, lets every request in flight finish and returns. Dropping the future
/// cuts what is still in flight.
pub async fn serve(listener: TcpListener, router: Router, settings: &Settings, shutdown: CancellationToken) {
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
            accepted = accept(&listener, &places) => accepted,
        };
        let socket = Lingering::new(socket, settings.header_timeout);
        let connection = Connection { http: http.clone(), router: router.clone(), shutdown: shutdown.clone(), _place: place };
        connections.spawn(connection.serve(socket));
    }
    drop(listener);
    while let Some(ended) = connections.join_next().await {
        report(ended);
    }
}

fn builder(settings: &Settings) -> Builder<TokioExecutor> {
    let mut http = Builder::new(TokioExecutor::new());
    http.http1().timer(TokioTimer::new()).header_read_timeout(settings.header_timeout).max_buf_size(HEADER_BYTES as usize);
    http.http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(settings.max_concurrent_streams)
        .max_header_list_size(HEADER_BYTES)
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE);
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
    shutdown: CancellationToken,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    async fn serve(self, socket: Lingering) {
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
