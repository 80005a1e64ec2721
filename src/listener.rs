//! Serves a router on a listener: the one accept loop of both faces, with the limits that keep one client from harming others.

use axum::Router;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::io::ErrorKind::{ConnectionAborted, ConnectionReset};
use std::io::{self, Cursor};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, join};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// What every HTTP/2 client sends first (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Most bytes of a response that wait for a client to take them, whatever window it opens: a page of a stream, not its backlog.
const SEND_BUFFER: usize = 64 * 1024;

/// Longest that a client may take to read the last that it was told, and close.
const LINGER: Duration = Duration::from_secs(1);

/// How long accepting pauses when the process has no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Limits of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Most connections at a time; more wait to be accepted.
    pub max_connections: usize,
    /// Longest that a connection may take to say which HTTP it speaks, and an HTTP/1 request's head to come.
    pub header_timeout: Duration,
    /// Most requests at a time on one HTTP/2 connection.
    pub max_concurrent_streams: u32,
    /// Flow-control window of an HTTP/2 stream in bytes.
    pub stream_window: u32,
    /// Flow-control window of an HTTP/2 connection in bytes.
    pub connection_window: u32,
    /// Most bytes of a request's headers.
    pub max_header_list: u32,
    /// Time between HTTP/2 pings; without them a peer that is gone would never be noticed.
    pub keepalive_interval: Duration,
    /// Longest that a ping may go unanswered.
    pub keepalive_timeout: Duration,
}

/// Serves `router` on every connection to `listener` until `shutdown` is cancelled; then accepts no more, lets every request that
/// is under way finish, and returns when all connections are closed. How long that may take is the caller's to bound.
pub async fn serve(listener: TcpListener, router: Router, settings: Settings, shutdown: CancellationToken) {
    let places = Arc::new(Semaphore::new(settings.max_connections));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            accepted = accept(&listener, &places) => accepted,
        };
        let (stream, place) = match accepted {
            Ok(accepted) => accepted,
            // A client that gave up before it was accepted concerns nobody else.
            Err(error) if matches!(error.kind(), ConnectionAborted | ConnectionReset) => continue,
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let connection = connection(stream, router.clone(), settings, shutdown.clone());
        connections.spawn(async move {
            connection.await;
            drop(place);
        });
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let place = places.clone().acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, place))
}

/// Serves one connection. How it ends is the client's business; there is nobody to tell.
async fn connection(mut stream: TcpStream, router: Router, settings: Settings, shutdown: CancellationToken) {
    // Only a connection that is gone already refuses this.
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let mut first = Vec::with_capacity(PREFACE.len());
    let is_http2 = tokio::select! {
        // A connection that has not said which HTTP it speaks has nothing under way.
        () = shutdown.cancelled() => return,
        asked = tokio::time::timeout(settings.header_timeout, speaks_http2(&mut stream, &mut first)) => match asked {
            Ok(Ok(is_http2)) => is_http2,
            Ok(Err(_)) | Err(_) => return,
        },
    };
    let (read, write) = stream.split();
    let io = TokioIo::new(join(Cursor::new(first).chain(read), write));
    let service = TowerToHyperService::new(router);
    let ended = if is_http2 {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .keep_alive_interval(settings.keepalive_interval)
            .keep_alive_timeout(settings.keepalive_timeout)
            .max_concurrent_streams(settings.max_concurrent_streams)
            .initial_stream_window_size(settings.stream_window)
            .initial_connection_window_size(settings.connection_window)
            .max_send_buf_size(SEND_BUFFER)
            .max_header_list_size(settings.max_header_list);
        served(builder.serve_connection(io, service), &shutdown, |connection| connection.graceful_shutdown()).await
    } else {
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(settings.header_timeout)
            .max_buf_size(settings.max_header_list.max(8192) as usize);
        served(builder.serve_connection(io, service), &shutdown, |connection| connection.graceful_shutdown()).await
    };
    if let Err(error) = ended {
        tracing::debug!(error = &error as &dyn std::error::Error, "a connection broke");
    }
    linger(stream).await;
}

/// Drives a connection to its end, which `wind_down` is to bring near when `shutdown` is cancelled.
async fn served<C: Future>(connection: C, shutdown: &CancellationToken, wind_down: impl FnOnce(Pin<&mut C>)) -> C::Output {
    tokio::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => return ended,
        () = shutdown.cancelled() => wind_down(connection.as_mut()),
    }
    connection.await
}

/// Closes a connection once the client has. To close while it still sends would take back what it has not read yet, such as why
/// its streams ended.
async fn linger(mut stream: TcpStream) {
    let mut unread = [0; 1024];
    let closed = async {
        stream.shutdown().await?;
        while stream.read(&mut unread).await? > 0 {}
        io::Result::Ok(())
    };
    // Whether it was closed, broke or took too long: now it is over.
    let _closed = tokio::time::timeout(LINGER, closed).await;
}

/// Reads until it is clear whether the client speaks HTTP/2. `first` gets what was read.
async fn speaks_http2(stream: &mut TcpStream, first: &mut Vec<u8>) -> io::Result<bool> {
    let mut byte = [0; 24];
    while first.len() < PREFACE.len() {
        let missing = PREFACE.len() - first.len();
        let read = stream.read(&mut byte[..missing]).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        first.extend_from_slice(&byte[..read]);
        if !PREFACE.starts_with(first) {
            return Ok(false);
        }
    }
    Ok(true)
}
