//! The composition root: a configuration in, a running gateway out. Parts meet only here.

use crate::browsers;
use crate::config::{self, Config};
use crate::feed::{self, Feed};
use crate::inbox::{Inbox, Reuse};
use crate::listener;
use crate::message;
use crate::store::Store;
use crate::store::memory::Memory;
use crate::wire::Bounds;
use crate::{grpc, http};
use axum::http::StatusCode;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Why the gateway could not start.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} ({setting}): {cause}")]
pub struct Error {
    setting: &'static str,
    address: SocketAddr,
    #[source]
    cause: io::Error,
}

/// A gateway that has its listeners and is about to serve.
#[derive(Debug)]
pub struct Gateway {
    config: Config,
    grpc: TcpListener,
    http: TcpListener,
}

impl Gateway {
    /// Binds both listeners. From here on clients can connect; they are served as soon as [`Self::serve`] runs.
    pub async fn bind(config: Config) -> Result<Self, Error> {
        let grpc = bind("grpc.listen", config.grpc.listen).await?;
        let http = bind("http.listen", config.http.listen).await?;
        Ok(Self { config, grpc, http })
    }

    /// Where gRPC is served.
    pub fn grpc_address(&self) -> io::Result<SocketAddr> {
        self.grpc.local_addr()
    }

    /// Where HTTP is served.
    pub fn http_address(&self) -> io::Result<SocketAddr> {
        self.http.local_addr()
    }

    /// Serves until `shutdown` resolves, then drains: no more is accepted, streams end with a status that says so, calls under way
    /// finish. What has not finished within the grace period is cut off; nothing acknowledged is lost by that.
    pub async fn serve(self, shutdown: impl Future<Output = ()>) {
        let Self { config, grpc: grpc_listener, http: http_listener } = self;
        let stop = CancellationToken::new();
        let store = store(&config.store);
        let inbox = Inbox::new(store.clone(), limits(&config.limits), config.inbox.repeat_window);
        let feed = Feed::new(store, feed_settings(&config.feed), stop.clone());
        let (ready, readiness) = watch::channel(false);

        let (routes, health) = grpc::routes(inbox.clone(), feed.clone(), grpc_settings(&config), stop.clone()).await;
        let grpc_router = browsers::allow(routes.into_axum_router(), &config.grpc.cors.allowed_origins);
        let http_router = http::router(inbox, feed, readiness, &http_settings(&config));
        let grpc_server = listener::serve(grpc_listener, grpc_router, grpc_limits(&config.grpc), stop.clone());
        let http_server = listener::serve(http_listener, http_router, http_limits(&config), stop.clone());
        let servers = async { tokio::join!(grpc_server, http_server) };
        tokio::pin!(servers);

        health.serving().await;
        ready.send_replace(true);
        tokio::select! {
            _ = &mut servers => return,
            () = shutdown => {}
        }
        tracing::info!(grace = ?config.shutdown.grace, "shutting down");
        ready.send_replace(false);
        health.stopping().await;
        stop.cancel();
        match tokio::time::timeout(config.shutdown.grace, servers).await {
            Ok(_) => tracing::info!("all connections are closed"),
            Err(_) => tracing::warn!(grace = ?config.shutdown.grace, "the grace period is over; what is still open is cut off"),
        }
    }
}

/// Binds the listeners, says where, and serves until `shutdown` resolves.
pub async fn serve(config: Config, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
    let gateway = Gateway::bind(config).await?;
    if let (Ok(grpc), Ok(http)) = (gateway.grpc_address(), gateway.http_address()) {
        tracing::info!(%grpc, %http, "the gateway is up");
    }
    tracing::warn!("the store is in memory: nothing survives this process");
    gateway.serve(shutdown).await;
    Ok(())
}

async fn bind(setting: &'static str, address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|cause| Error { setting, address, cause })
}

fn store(config: &config::Store) -> Arc<dyn Store> {
    match config.engine {
        config::Engine::Memory => Arc::new(Memory::new(config.memory.max_bytes.as_usize())),
    }
}

/// The bounds of a message as configured.
pub fn limits(config: &config::Limits) -> message::Limits {
    message::Limits {
        message_bytes: config.message.as_usize(),
        id_bytes: config.id.as_usize(),
        bounds: Bounds { free_form_depth: config.free_form_depth, list_length: config.list_length },
    }
}

const fn feed_settings(config: &config::Feed) -> feed::Settings {
    feed::Settings { heartbeat: config.heartbeat, heartbeat_skipped: config.heartbeat_skipped, max_streams: config.max_streams }
}

const fn reuse(policy: config::ReusePolicy) -> Reuse {
    match policy {
        config::ReusePolicy::Renew => Reuse::Renew,
        config::ReusePolicy::Reject => Reuse::Reject,
    }
}

fn grpc_settings(config: &Config) -> grpc::Settings {
    grpc::Settings {
        reuse: reuse(config.inbox.reused_id.grpc),
        filter_values: config.limits.filter_values,
        filter_value_bytes: config.limits.id.as_usize(),
        history_page: config.limits.history_page,
    }
}

fn grpc_limits(config: &config::Grpc) -> listener::Settings {
    listener::Settings {
        max_connections: config.max_connections,
        header_timeout: config.keepalive_timeout,
        max_concurrent_streams: config.max_concurrent_streams,
        stream_window: config.initial_stream_window.as_u32(),
        connection_window: config.initial_connection_window.as_u32(),
        max_header_list: config.max_header_list.as_u32(),
        keepalive_interval: config.keepalive_interval,
        keepalive_timeout: config.keepalive_timeout,
    }
}

fn http_settings(config: &Config) -> http::Settings {
    http::Settings {
        accepted_status: match config.http.accepted_status {
            config::AcceptedStatus::Accepted => StatusCode::ACCEPTED,
            config::AcceptedStatus::Ok => StatusCode::OK,
        },
        body_timeout: config.http.body_timeout,
        allowed_origins: config.http.cors.allowed_origins.clone(),
        message_bytes: config.limits.message.as_usize(),
        json_depth: config.limits.json_depth,
        filter_values: config.limits.filter_values,
        history_page: config.limits.history_page,
        reuse: reuse(config.inbox.reused_id.http),
    }
}

fn http_limits(config: &Config) -> listener::Settings {
    listener::Settings {
        max_connections: config.http.max_connections,
        header_timeout: config.http.header_timeout,
        max_concurrent_streams: config.http.max_concurrent_streams,
        // What one does not think about on the HTTP side is as on the gRPC side.
        ..grpc_limits(&config.grpc)
    }
}
