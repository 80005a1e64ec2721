//! A gateway on a port of its own.

use crate::client::Client;
use cim_gateway::app;
use cim_gateway::auth::Gate;
use cim_gateway::channels::{self, Channels};
use cim_gateway::config::Config;
use cim_gateway::delivery::Dispatcher;
use cim_gateway::feed::{self, Feed};
use cim_gateway::http::{self, Settings, Signs};
use cim_gateway::inbox::{Inbox, Reuse};
use cim_gateway::listener;
use cim_gateway::message::Limits;
use cim_gateway::metrics::Metrics;
use cim_gateway::outcomes::Waiters;
use cim_gateway::readiness::Readiness;
use cim_gateway::sessions::Sessions;
use cim_gateway::store::memory::Memory;
use cim_gateway::subscriptions::{self, Subscriptions};
use cim_gateway::webhook;
use cim_gateway::wire::Bounds;
use serde_json::{Value, json};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub const MESSAGE_BYTES: usize = 256 * 1024;

pub const CHANNEL_BYTES: usize = 8 * 1024;

pub struct Gateway {
    pub address: SocketAddr,
    pub readiness: watch::Sender<Readiness>,
    /// Ends subscriptions and takes no new connections.
    pub shutdown: CancellationToken,
    pub served: JoinHandle<()>,
}

/// Settings that no test runs into by accident.
pub fn settings() -> Settings {
    Settings {
        accepted_status: axum::http::StatusCode::ACCEPTED,
        body_timeout: Duration::from_secs(30),
        allowed_origins: Vec::new(),
        message_bytes: MESSAGE_BYTES,
        json_depth: 64,
        filter_values: 8,
        history_page: 100,
        channels_page: 10,
        deliveries_page: 10,
        reuse: Reuse::Renew,
        delivery_wait: Duration::ZERO,
    }
}

/// Limits of connections that no test runs into by accident.
pub fn connections() -> listener::Settings {
    listener::Settings {
        max_connections: 64,
        header_timeout: Duration::from_secs(30),
        max_concurrent_streams: 64,
        stream_window: 1 << 20,
        connection_window: 2 << 20,
        max_header_list: 16 << 10,
        keepalive_interval: Duration::from_secs(20),
        keepalive_timeout: Duration::from_secs(20),
    }
}

impl Gateway {
    pub async fn start() -> Self {
        Self::with(settings()).await
    }

    pub async fn with(settings: Settings) -> Self {
        Self::with_connections(settings, connections()).await
    }

    /// A gateway that accepts nothing of channels that are not registered.
    pub async fn requiring_registered(settings: Settings) -> Self {
        Self::starting(settings, connections(), true).await.0
    }

    pub async fn with_connections(settings: Settings, connections: listener::Settings) -> Self {
        Self::starting(settings, connections, false).await.0
    }

    /// A gateway that calls webhooks on this machine.
    pub async fn delivering() -> Self {
        let (gateway, dispatcher) = Self::starting(settings(), connections(), false).await;
        tokio::spawn(dispatcher.run());
        gateway
    }

    async fn starting(settings: Settings, connections: listener::Settings, require_registered: bool) -> (Self, Dispatcher) {
        let store = Arc::new(Memory::new(128 << 20));
        let bounds = Bounds { free_form_depth: 24, list_length: 1000 };
        let limits = Limits { message_bytes: settings.message_bytes, id_bytes: 256, bounds };
        let channel_limits = channels::Limits { channel_bytes: CHANNEL_BYTES, id_bytes: 256, bounds };
        let registry = channels::Settings { require_registered, most: 20, limits: channel_limits };
        let channels = Channels::open(store.clone(), Vec::new(), registry).await.unwrap();
        let inbox = Inbox::new(store.clone(), channels.clone(), limits, Duration::from_secs(60));
        let waiters = Waiters::new(0);
        let inbox = inbox.delivering(waiters.clone());
        let shutdown = CancellationToken::new();
        let allow = ("CIM_WEBHOOK__ALLOW".to_owned(), r#"["127.0.0.0/8"]"#.to_owned());
        let config = Config::load(None, [allow].into_iter()).unwrap();
        let client = webhook::Client::new(app::webhook_settings(&config.webhook)).unwrap();
        let delivery = app::delivery_settings(&config.delivery);
        let dispatcher = Dispatcher::new(store.clone(), channels, client, delivery, waiters, limits, shutdown.clone());
        let feed =
            feed::Settings { heartbeat: Duration::from_secs(15), heartbeat_skipped: 10_000, max_streams: 2, cold_scans: 2 };
        let (feed, matcher) = Feed::new(store.clone(), feed, shutdown.clone());
        tokio::spawn(matcher.run());
        let subscriptions = subscriptions::Settings { max: 3, write_interval: Duration::ZERO };
        let opened = Subscriptions::open(feed, store.clone(), store.clone(), subscriptions).await;
        let (subscriptions, writer) = opened.unwrap();
        tokio::spawn(writer.run());
        let (readiness, ready) = watch::channel(Readiness::Ready);
        let signs = Signs { readiness: ready, metrics: Metrics::default() };
        let requests = signs.metrics.http.clone();
        let router = http::router(inbox, subscriptions, Sessions::new(store), dispatcher.desk(), &Gate::open(), signs, &settings);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let until = shutdown.clone();
        let face = http::face(router, &requests, &settings.allowed_origins);
        let served = tokio::spawn(listener::serve(listener, None, face, connections, until));
        (Self { address, readiness, shutdown, served }, dispatcher)
    }

    pub async fn connect(&self) -> Client {
        Client::connect(self.address).await
    }

    /// Posts a message that has to be accepted, on a connection of its own.
    pub async fn accept(&self, message: &Value) -> Value {
        let answer = self.connect().await.post("/ccm/message/receive", message).await;
        assert_eq!(answer.status, 202, "{}", answer.text());
        answer.json()
    }
}

/// A message of the customer `customer`, as a connector sends it.
pub fn plain(id: Option<&str>, customer: &str, text: &str) -> Value {
    json!({
        "id": id,
        "header": {
            "sender": {"id": "web-1", "type": "CONNECTOR", "senderName": "WEB_CONNECTOR"},
            "channelData": {"channelCustomerIdentifier": customer, "serviceIdentifier": "1122"},
            "timestamp": 1_677_151_053_951_i64,
        },
        "body": {"type": "PLAIN", "markdownText": text},
    })
}
