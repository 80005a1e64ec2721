//! The composition root: a configuration in, a running gateway out. Parts meet only here.

use crate::browsers;
use crate::channels::{self, Channels, declared};
use crate::config::{self, Config, ConfigError, Problem};
use crate::delivery::{self, Configurations, Dispatcher};
use crate::feed::{self, Feed};
use crate::http::{self, Signs};
use crate::inbox::{Inbox, Reuse};
use crate::listener::{self, Face};
use crate::message;
use crate::metrics::{self, Metrics, Present, present};
use crate::outcomes::Waiters;
use crate::pb;
use crate::readiness::Readiness;
use crate::renewal::Credentials;
use crate::sessions::{Expiry, Sessions, Timeouts};
use crate::store::bookmarks::Bookmarks;
use crate::store::embedded::{self, Embedded, OpenError, Opening};
use crate::store::memory::Memory;
use crate::store::{self, Registry, Store};
use crate::subscriptions::{self, Subscriptions};
use crate::wire::Bounds;
use crate::{grpc, webhook};
use axum::Router;
use axum::body::Body;
use axum::http::StatusCode;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

/// Why the gateway could not start, or had to end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An address cannot be listened on.
    #[error("cannot listen on {address} ({setting}): {cause}")]
    Listen {
        /// The setting that names the address.
        setting: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the system says.
        #[source]
        cause: io::Error,
    },
    /// The store cannot be opened.
    #[error("the store cannot be opened: {0}")]
    Open(#[from] OpenError),
    /// What the configuration declares cannot be served.
    #[error("the configuration is wrong: {0}")]
    Declared(#[from] ConfigError),
    /// The registry of channels cannot be opened.
    #[error("the channels cannot be served: {0}")]
    Channels(#[from] channels::OpenError),
    /// Webhooks cannot be called.
    #[error("webhooks cannot be called: {0}")]
    Webhook(#[from] webhook::SetupError),
    /// The store has failed while it served.
    #[error("the store has failed: {cause}")]
    StoreFailed {
        /// Why.
        cause: String,
    },
}

/// A store that is not open after this time is told to be opening; until then callers just wait.
const OPENED_SOON: Duration = Duration::from_secs(2);

/// Longest that calls in flight may take to end after the store has failed.
const FAILED_GRACE: Duration = Duration::from_secs(3);

/// A gateway that has its listeners and is about to serve.
#[derive(Debug)]
pub struct Gateway {
    config: Config,
    declared: Vec<pb::Channel>,
    credentials: Credentials,
    grpc: TcpListener,
    http: TcpListener,
}

impl Gateway {
    /// Binds both listeners. From here on clients can connect; they are served as soon as [`Self::serve`] runs.
    pub async fn bind(config: Config) -> Result<Self, Error> {
        let declared = declared_channels(&config)?;
        let credentials = Credentials::read(&config)?;
        let grpc = bind("grpc.listen", config.grpc.listen).await?;
        let http = bind("http.listen", config.http.listen).await?;
        Ok(Self { config, declared, credentials, grpc, http })
    }

    /// Where gRPC is served.
    pub fn grpc_address(&self) -> io::Result<SocketAddr> {
        self.grpc.local_addr()
    }

    /// Where HTTP is served.
    pub fn http_address(&self) -> io::Result<SocketAddr> {
        self.http.local_addr()
    }

    /// Opens the store and serves until `shutdown` resolves, then drains: no more is accepted, streams end with a status that says
    /// so, calls under way finish. What has not finished within the grace period is cut off; nothing acknowledged is lost by that.
    ///
    /// Fails if the store cannot be opened, and soon after it has failed.
    pub async fn serve(self, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
        tokio::pin!(shutdown);
        let (readiness, told) = watch::channel(Readiness::Opening);
        let metrics = Metrics::default();
        metrics.ask(tell_readiness(told.clone()));
        let signs = Signs { readiness: told, metrics };
        let store = tokio::select! {
            opened = self.open(&readiness, &signs) => opened?,
            () = &mut shutdown => return Ok(()),
        };
        tracing::info!("the gateway is up");
        let served = self.serve_from(&store, &readiness, signs, shutdown).await;
        store.close().await;
        served
    }

    /// Opens the store; meanwhile it tells whoever asks how far that is.
    async fn open(&self, readiness: &watch::Sender<Readiness>, signs: &Signs) -> Result<OpenStore, Error> {
        let opening = OpenStore::open(self.config.store.clone(), readiness.clone(), signs.metrics.log.clone());
        tokio::pin!(opening);
        if let Ok(opened) = tokio::time::timeout(OPENED_SOON, &mut opening).await {
            return opened;
        }
        let stop = CancellationToken::new();
        let (routes, health) = grpc::opening().await;
        let routes = grpc::counted(routes, &signs.metrics.grpc);
        let tls = self.credentials.tls.clone();
        let face = grpc_face(routes.into_axum_router(), grpc_full(&signs.metrics));
        let grpc_server = listener::serve(&self.grpc, tls.clone(), face, grpc_limits(&self.config.grpc), stop.clone());
        let face = http::face(http::opening(signs.clone()), &signs.metrics.http, &[]);
        let http_server = listener::serve(&self.http, tls, face, http_limits(&self.config), stop.clone());
        let servers = async { tokio::join!(grpc_server, http_server) };
        tokio::pin!(servers);
        let opened = tokio::select! {
            opened = &mut opening => opened,
            _ = &mut servers => unreachable!("nobody has told them to stop"),
        };
        health.end().await;
        stop.cancel();
        // Whoever is still connected connects again.
        let _cut_off = tokio::time::timeout(OPENED_SOON, servers).await;
        opened
    }

    async fn serve_from(
        self,
        store: &OpenStore,
        readiness: &watch::Sender<Readiness>,
        signs: Signs,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), Error> {
        let metrics = &signs.metrics;
        let Self { config, declared, credentials, grpc: grpc_listener, http: http_listener } = self;
        let (gate, tls) = (credentials.gate.clone(), credentials.tls.clone());
        let _renewal = AbortOnDropHandle::new(tokio::spawn(credentials.renew()));
        let channels = Channels::open(store.registry(), declared, channels_settings(&config)).await?;
        let (store, bookmarks) = (store.store(), store.bookmarks());
        let stop = CancellationToken::new();
        let mut store_health = store.health();
        let waiters = Waiters::new(config.delivery.max_waiting);
        let client = webhook::Client::new(webhook_settings(&config.webhook))?;
        let limits = limits(&config.limits);
        let inbox = Inbox::new(store.clone(), channels.clone(), limits, config.inbox.repeat_window);
        let inbox = inbox.delivering(waiters.clone()).counting(metrics.inbox.clone());
        let settings = delivery_settings(&config.delivery);
        let _configurations = config.channels.tell_connectors.then(|| {
            let (retries, in_flight) = (settings.retries.clone(), settings.in_flight);
            let configurations = Configurations::new(&channels, client.clone(), retries, in_flight, stop.clone());
            AbortOnDropHandle::new(tokio::spawn(configurations.run()))
        });
        let dispatcher = Dispatcher::new(store.clone(), channels.clone(), client, settings, waiters, limits, stop.clone());
        let dispatcher = dispatcher.counting(metrics.delivery.clone());
        let _census = AbortOnDropHandle::new(tokio::spawn(dispatcher.census().run()));
        let desk = dispatcher.desk();
        let dispatcher = AbortOnDropHandle::new(tokio::spawn(dispatcher.run()));
        let (feed, matcher) = Feed::new(store.clone(), feed_settings(&config.feed), stop.clone());
        let feed = feed.counting(metrics.feed.clone());
        let matcher = AbortOnDropHandle::new(tokio::spawn(matcher.run()));
        let settings = subscriptions_settings(&config.subscriptions);
        let sessions = Sessions::new(store.clone()).delivering(channels.clone());
        let timeouts = timeouts(&config.sessions, channels.clone());
        let expiry = Expiry::new(store.clone(), timeouts, stop.clone()).delivering(channels);
        let expiry = expiry.counting(metrics.expiry.clone());
        let _expiry = AbortOnDropHandle::new(tokio::spawn(expiry.run()));
        let opened = Subscriptions::open(feed.clone(), store.clone(), bookmarks, settings).await;
        let (subscriptions, writer) = opened.map_err(store_failed)?;
        metrics.ask(tell_figures(store, feed, subscriptions.clone()));
        let _writer = AbortOnDropHandle::new(tokio::spawn(writer.run()));

        let (routes, health) = grpc::routes(
            inbox.clone(),
            subscriptions.clone(),
            sessions.clone(),
            desk.clone(),
            gate.clone(),
            grpc_settings(&config),
            stop.clone(),
        )
        .await;
        let routes = grpc::counted(routes, &metrics.grpc);
        let routers = [routes.into_axum_router(), grpc_full(metrics)];
        let [router, full] = routers.map(|router| browsers::allow(router, &config.grpc.cors.allowed_origins));
        let grpc_face = grpc_face(router, full);
        let requests = metrics.http.clone();
        let router = http::router(inbox, subscriptions, sessions, desk, &gate, signs, &http_settings(&config));
        let http_face = http::face(router, &requests, &config.http.cors.allowed_origins);
        let grpc_server = listener::serve(grpc_listener, tls.clone(), grpc_face, grpc_limits(&config.grpc), stop.clone());
        let http_server = listener::serve(http_listener, tls, http_face, http_limits(&config), stop.clone());
        let servers = async { tokio::join!(grpc_server, http_server) };
        tokio::pin!(servers, shutdown);

        let failure = loop {
            let store_is = store_health.borrow_and_update().clone();
            let now = match &store_is {
                store::Health::Serving => Readiness::Ready,
                store::Health::Full { .. } => Readiness::ReadOnly,
                store::Health::Failed { .. } => Readiness::Failed,
            };
            readiness.send_replace(now);
            health.tell(now).await;
            if let store::Health::Failed { cause } = store_is {
                break Some(cause);
            }
            tokio::select! {
                _ = &mut servers => return Ok(()),
                () = &mut shutdown => break None,
                // A store whose health nobody tells any more stays as it is.
                Ok(()) = store_health.changed() => {}
            }
        };
        let grace = if failure.is_some() { config.shutdown.grace.min(FAILED_GRACE) } else { config.shutdown.grace };
        tracing::info!(?grace, "shutting down");
        if failure.is_none() {
            readiness.send_replace(Readiness::Stopping);
        }
        health.end().await;
        stop.cancel();
        let all = async { tokio::join!(servers, matcher, dispatcher) };
        match tokio::time::timeout(grace, all).await {
            Ok(_) => tracing::info!("all connections are closed"),
            Err(_) => tracing::warn!(?grace, "the grace period is over; what is still open is cut off"),
        }
        failure.map_or(Ok(()), |cause| Err(Error::StoreFailed { cause }))
    }
}

/// The store, and how it is closed.
#[derive(Debug)]
enum OpenStore {
    Memory(Memory),
    Embedded(Embedded),
}

impl OpenStore {
    async fn open(config: config::Store, readiness: watch::Sender<Readiness>, log: Arc<metrics::Log>) -> Result<Self, Error> {
        match config.engine {
            config::Engine::Memory => {
                tracing::warn!("the store is in memory: nothing survives this process");
                Ok(Self::Memory(Memory::new(config.memory.max_bytes.as_usize())))
            }
            config::Engine::Embedded => {
                let opening = tokio::task::spawn_blocking(move || {
                    let config = config.embedded;
                    embedded::open(&config.data_dir, embedded_options(&config), &|progress| {
                        readiness.send_replace(match progress {
                            Opening::Recovering => Readiness::Opening,
                            Opening::Indexing { done, of } => Readiness::Rebuilding { done, of },
                        });
                    })
                });
                let opened = opening.await.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()));
                Ok(Self::Embedded(opened?.counting(log)))
            }
        }
    }

    fn store(&self) -> Arc<dyn Store> {
        match self {
            Self::Memory(memory) => Arc::new(memory.clone()),
            Self::Embedded(embedded) => Arc::new(embedded.clone()),
        }
    }

    fn bookmarks(&self) -> Arc<dyn Bookmarks> {
        match self {
            Self::Memory(memory) => Arc::new(memory.clone()),
            Self::Embedded(embedded) => Arc::new(embedded.clone()),
        }
    }

    fn registry(&self) -> Arc<dyn Registry> {
        match self {
            Self::Memory(memory) => Arc::new(memory.clone()),
            Self::Embedded(embedded) => Arc::new(embedded.clone()),
        }
    }

    /// Writes down what the next start would have to find out.
    async fn close(self) {
        if let Self::Embedded(embedded) = self {
            let closing = tokio::task::spawn_blocking(move || embedded.close());
            if let Err(error) = closing.await {
                tracing::error!(error = &error as &dyn std::error::Error, "the store could not be closed in order");
            }
        }
    }
}

/// Tells the metrics what the gateway can do.
fn tell_readiness(readiness: watch::Receiver<Readiness>) -> impl Fn(&mut Present) + Send + 'static {
    move |present: &mut Present| {
        present.readiness = Some(present::State { all: &Readiness::WORDS, now: readiness.borrow().word() });
    }
}

/// Tells the metrics how these parts are.
fn tell_figures(store: Arc<dyn Store>, feed: Feed, subscriptions: Subscriptions) -> impl Fn(&mut Present) + Send + 'static {
    let health = store.health();
    move |present: &mut Present| {
        let (span, figures) = (store.span(), store.figures());
        present.store = Some(present::Store {
            state: present::State { all: &store::Health::WORDS, now: health.borrow().word() },
            log_bytes: figures.log_bytes,
            index_bytes: figures.index_bytes,
            free_bytes: figures.free_bytes,
            oldest: span.oldest.0,
            newest: span.end.0,
            not_indexed: figures.not_indexed,
        });
        let (open, most) = feed.streams();
        present.streams = Some(present::Streams { open: open as u64, most: most as u64 });
        let subscriptions::Figures { names, attached, expired, behind } = subscriptions.figures();
        let [names, attached, expired] = [names, attached, expired].map(|count| count as u64);
        present.subscriptions = Some(present::Subscriptions { names, attached, expired, behind });
    }
}

/// Binds the listeners, says where, and serves until `shutdown` resolves.
pub async fn serve(config: Config, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
    let gateway = Gateway::bind(config).await?;
    if let (Ok(grpc), Ok(http)) = (gateway.grpc_address(), gateway.http_address()) {
        tracing::info!(%grpc, %http, "listening");
    }
    gateway.serve(shutdown).await
}

async fn bind(setting: &'static str, address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|cause| Error::Listen { setting, address, cause })
}

/// The channels that a configuration declares, with the secrets that its files hold. Fails with everything that is wrong with them.
pub fn declared_channels(config: &Config) -> Result<Vec<pb::Channel>, ConfigError> {
    let read = declared::read(&config.channels.declared, &channel_limits(config));
    read.map_err(|problems| ConfigError {
        problems: problems.into_iter().map(|problem| Problem::new(problem.key, problem.sentence)).collect(),
    })
}

/// The bounds of a channel as configured.
fn channel_limits(config: &Config) -> channels::Limits {
    let message = limits(&config.limits);
    channels::Limits { channel_bytes: config.channels.largest.as_usize(), id_bytes: message.id_bytes, bounds: message.bounds }
}

/// How the registry of channels works as configured.
pub fn channels_settings(config: &Config) -> channels::Settings {
    channels::Settings {
        require_registered: config.channels.require_registered,
        most: config.channels.max,
        limits: channel_limits(config),
    }
}

/// How the engine on the disk is set up.
pub fn embedded_options(config: &config::Embedded) -> embedded::Options {
    embedded::Options {
        segment_bytes: config.segment.as_u64(),
        window_bytes: config.window.as_usize(),
        max_bytes: config.max_bytes.as_u64(),
        max_age: config.max_age,
        min_age: config.min_age,
        min_free: config.min_free.as_u64().max(2 * config.segment.as_u64()),
        ..embedded::Options::default()
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

/// How messages are delivered, as configured.
pub fn delivery_settings(config: &config::Delivery) -> delivery::Settings {
    delivery::Settings {
        retries: config.retries.clone(),
        hold: config.hold,
        parked: config.parked,
        max_age: config.max_age,
        in_flight: config.in_flight,
        in_flight_in_all: config.in_flight_in_all,
        lane_window: config.lane_window,
        breaker_failures: config.breaker.failures,
        breaker_pause: config.breaker.pause,
        breaker_longest_pause: config.breaker.longest_pause,
        gone: config.gone,
        excerpt: config.excerpt.as_usize(),
    }
}

/// How webhooks are called, as configured.
pub fn webhook_settings(config: &config::Webhook) -> webhook::Settings {
    let path = |path: &PathBuf| Some(path.clone()).filter(|path| !path.as_os_str().is_empty());
    let config::WebhookTls { ca_file, client_certificate, client_key } = &config.tls;
    webhook::Settings {
        timeout: config.timeout,
        connect_timeout: config.connect_timeout,
        max_response: config.max_response.as_usize(),
        max_response_head: config.max_response_head.as_usize(),
        max_response_headers: config.max_response_headers,
        max_idle_per_host: config.max_idle_per_host,
        idle_timeout: config.idle_timeout,
        max_lookups: config.max_lookups,
        allow: config.allow.clone(),
        tls: webhook::Tls {
            ca_file: path(ca_file),
            client_certificate: path(client_certificate)
                .zip(path(client_key))
                .map(|(certificate, key)| webhook::ClientCertificate { certificate, key }),
        },
    }
}

const fn feed_settings(config: &config::Feed) -> feed::Settings {
    feed::Settings {
        heartbeat: config.heartbeat,
        heartbeat_skipped: config.heartbeat_skipped,
        max_streams: config.max_streams,
        cold_scans: config.cold_scans,
    }
}

const fn subscriptions_settings(config: &config::Subscriptions) -> subscriptions::Settings {
    subscriptions::Settings { max: config.max, write_interval: config.write_interval }
}

/// How long customers may be inactive: what their channel says, or else the configuration.
fn timeouts(config: &config::Sessions, channels: Channels) -> Timeouts {
    let configured = config.customer_activity_timeout;
    Arc::new(move |service_identifier| {
        let snapshot = channels.snapshot();
        let own = snapshot.get(service_identifier).and_then(|channel| channel.customer_activity_timeout);
        let timeout = own.and_then(|own| Duration::try_from(own).ok()).unwrap_or(configured);
        Some(timeout).filter(|timeout| !timeout.is_zero())
    })
}

fn store_failed(error: store::Error) -> Error {
    Error::StoreFailed { cause: error.to_string() }
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
        channels_page: config.channels.page,
        deliveries_page: config.delivery.page,
        max_in_flight: config.grpc.max_in_flight,
        delivery_wait: config.delivery.sync_wait,
    }
}

/// Tells every call that there is no place for its connection.
fn grpc_full(metrics: &Metrics) -> Router {
    let full = Router::new().fallback(async || grpc::full::<Body>());
    grpc::counted(full.into(), &metrics.grpc).into_axum_router()
}

fn grpc_face(router: Router, full: Router) -> Face {
    Face { router, probes: &grpc::PROBES, full }
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
        channels_page: config.channels.page,
        deliveries_page: config.delivery.page,
        reuse: reuse(config.inbox.reused_id.http),
        delivery_wait: config.delivery.sync_wait,
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
