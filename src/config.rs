//! The configuration: what can be set, within which bounds, and to what by default.
//!
//! `config.default.toml` at the root of the repository is both the defaults and their reference.

mod error;
mod layers;
mod reader;
mod size;

pub use error::{ConfigError, Problem};
pub use size::Size;

use ipnet::IpNet;
use layers::Layers;
use reader::Reader;
use serde::{Serialize, Serializer};
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;
use toml::Table;

/// The defaults, with a comment on every key.
pub const DEFAULTS: &str = include_str!("../config.default.toml");

/// Everything that can be set.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Config {
    /// The gRPC listener.
    pub grpc: Grpc,
    /// The HTTP listener.
    pub http: Http,
    /// Taking messages in.
    pub inbox: Inbox,
    /// The registry of channels.
    pub channels: Channels,
    /// Streams of notifications.
    pub feed: Feed,
    /// Named subscriptions.
    pub subscriptions: Subscriptions,
    /// Channel sessions.
    pub sessions: Sessions,
    /// Bounds of what a client may send.
    pub limits: Limits,
    /// Where accepted messages are kept.
    pub store: Store,
    /// Delivery to webhooks.
    pub delivery: Delivery,
    /// Calls to webhooks.
    pub webhook: Webhook,
    /// Who may call.
    pub auth: Auth,
    /// TLS of both listeners.
    pub tls: Tls,
    /// The way down.
    pub shutdown: Shutdown,
    /// What is told while running.
    pub log: Log,
}

/// The gRPC listener.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Grpc {
    /// Where to listen; port 0 lets the system choose one.
    pub listen: SocketAddr,
    /// Most connections at a time.
    pub max_connections: usize,
    /// Most calls at a time on one connection.
    pub max_concurrent_streams: u32,
    /// Most messages of one SendMessages call that are not answered yet.
    pub max_in_flight: usize,
    /// Time without a frame after which a client is asked whether it is there.
    #[serde(serialize_with = "with_unit")]
    pub keepalive_interval: Duration,
    /// Time after which a client that does not answer is disconnected.
    #[serde(serialize_with = "with_unit")]
    pub keepalive_timeout: Duration,
    /// Flow-control window of a call; fits a `u32`.
    pub initial_stream_window: Size,
    /// Flow-control window of a connection; fits a `u32`.
    pub initial_connection_window: Size,
    /// Most bytes of the headers of one call; fits a `u32`.
    pub max_header_list: Size,
    /// Browser pages that may call.
    pub cors: Cors,
}

/// The HTTP listener.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Http {
    /// Where to listen; port 0 lets the system choose one.
    pub listen: SocketAddr,
    /// Status that answers an accepted message.
    pub accepted_status: AcceptedStatus,
    /// Longest that the headers of a request may take to arrive.
    #[serde(serialize_with = "with_unit")]
    pub header_timeout: Duration,
    /// Longest that the body of a request may take to arrive.
    #[serde(serialize_with = "with_unit")]
    pub body_timeout: Duration,
    /// Most connections at a time.
    pub max_connections: usize,
    /// Most requests at a time on one HTTP/2 connection.
    pub max_concurrent_streams: u32,
    /// Browser pages that may call.
    pub cors: Cors,
}

/// An HTTP status for "accepted".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AcceptedStatus {
    /// 202 Accepted.
    Accepted,
    /// 200 OK.
    Ok,
}

impl AcceptedStatus {
    /// The number of the status.
    pub const fn as_u16(self) -> u16 {
        match self {
            Self::Accepted => 202,
            Self::Ok => 200,
        }
    }
}

impl Serialize for AcceptedStatus {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u16(self.as_u16())
    }
}

/// Browser pages that may call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cors {
    /// Origins as browsers send them, or `*` alone for any; empty for none.
    pub allowed_origins: Vec<String>,
}

/// Taking messages in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Inbox {
    /// Time within which a message without a timestamp is a repeat.
    #[serde(serialize_with = "with_unit")]
    pub repeat_window: Duration,
    /// What becomes of an id that is taken.
    pub reused_id: ReusedId,
}

/// What becomes of a message whose id is taken by other content, by the face that it came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReusedId {
    /// For messages that come by gRPC.
    pub grpc: ReusePolicy,
    /// For messages that come by HTTP.
    pub http: ReusePolicy,
}

/// What becomes of a message whose id is taken by other content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ReusePolicy {
    /// It is accepted under a fresh id.
    Renew,
    /// It is refused.
    Reject,
}

/// The registry of channels.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Channels {
    /// True if only messages of channels that are registered or declared are accepted.
    pub require_registered: bool,
    /// Most channels.
    pub max: usize,
    /// Bytes of one channel, as protobuf or as JSON.
    pub largest: Size,
    /// Channels on one page.
    pub page: usize,
    /// True if connectors are told the attributes of their channels.
    pub tell_connectors: bool,
    /// Channels that cannot be changed at run time, as they are written; `crate::channels` has the rules on them. They hold no
    /// secrets: those stand in files.
    pub declared: Vec<Table>,
}

/// Streams of notifications.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Feed {
    /// Time between heartbeats on a quiet stream where the client does not say.
    #[serde(serialize_with = "with_unit")]
    pub heartbeat: Duration,
    /// Messages passed over after which a heartbeat is sent.
    pub heartbeat_skipped: u64,
    /// Most streams open at a time.
    pub max_streams: usize,
    /// Most looks at a time through old parts of the log for the few messages that a filter wants.
    pub cold_scans: usize,
}

/// Channel sessions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sessions {
    /// How long a customer may be inactive before the session ends; zero for ever.
    #[serde(serialize_with = "with_unit")]
    pub customer_activity_timeout: Duration,
}

/// Named subscriptions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Subscriptions {
    /// Most of them.
    pub max: usize,
    /// Least time between two writes of what is acknowledged.
    #[serde(serialize_with = "with_unit")]
    pub write_interval: Duration,
}

/// The bounds of [`Feed::heartbeat`], and of what a client may ask for instead.
pub const HEARTBEAT: RangeInclusive<Duration> = seconds(1, 5 * 60);

/// Bounds of what a client may send.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// Bytes of one message, as protobuf or as JSON.
    pub message: Size,
    /// Containers nested in one another in a JSON message.
    pub json_depth: usize,
    /// Containers nested in one another inside a free-form field.
    pub free_form_depth: usize,
    /// Bytes of an id or another identifier.
    pub id: Size,
    /// Elements of one list of a message.
    pub list_length: usize,
    /// Values of all lists of a notification filter together.
    pub filter_values: usize,
    /// Messages on one page of a conversation's history.
    pub history_page: usize,
}

/// Where accepted messages are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Store {
    /// What keeps them.
    pub engine: Engine,
    /// Settings of [`Engine::Embedded`].
    pub embedded: Embedded,
    /// Settings of [`Engine::Memory`].
    pub memory: Memory,
}

/// What keeps accepted messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// The disk of this machine.
    Embedded,
    /// The memory of this process.
    Memory,
}

/// The engine [`Engine::Embedded`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Embedded {
    /// The folder of all its files.
    pub data_dir: PathBuf,
    /// Bytes of the log beyond which the oldest messages go.
    pub max_bytes: Size,
    /// Time after which messages go.
    #[serde(serialize_with = "with_unit")]
    pub max_age: Duration,
    /// Time for which messages stay, however much room they take.
    #[serde(serialize_with = "with_unit")]
    pub min_age: Duration,
    /// Bytes that stay free on the disk.
    pub min_free: Size,
    /// Bytes of one file of the log.
    pub segment: Size,
    /// Bytes of the newest messages that readers share in memory.
    pub window: Size,
}

/// The engine [`Engine::Memory`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// Bytes of messages beyond which the oldest go.
    pub max_bytes: Size,
}

/// Delivery to webhooks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Delivery {
    /// How long a sender waits for the outcome of its message where it does not say.
    #[serde(serialize_with = "with_unit")]
    pub sync_wait: Duration,
    /// Most senders that wait at a time.
    pub max_waiting: usize,
    /// Waits between the attempts of one message.
    #[serde(serialize_with = "each_with_unit")]
    pub retries: Vec<Duration>,
    /// How long a message that fails may hold up those behind it.
    #[serde(serialize_with = "with_unit")]
    pub hold: Duration,
    /// Most messages of a customer that are tried again by themselves.
    pub parked: usize,
    /// Age at which a message is given up.
    #[serde(serialize_with = "with_unit")]
    pub max_age: Duration,
    /// Most calls of one webhook at a time.
    pub in_flight: usize,
    /// Most calls of all webhooks at a time.
    pub in_flight_in_all: usize,
    /// Most messages of one customer in memory that wait for one webhook.
    pub lane_window: usize,
    /// Messages in a row that a webhook answers with 410 before it is not called any more.
    pub gone: usize,
    /// Bytes of an answer that are kept for people to read.
    pub excerpt: Size,
    /// Deliveries on one page.
    pub page: usize,
    /// When a webhook that fails is left alone.
    pub breaker: Breaker,
}

/// When a webhook that fails is left alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Breaker {
    /// Failures in a row after which it is.
    pub failures: u32,
    /// For how long at first.
    #[serde(serialize_with = "with_unit")]
    pub pause: Duration,
    /// For how long at most.
    #[serde(serialize_with = "with_unit")]
    pub longest_pause: Duration,
}

/// Calls to webhooks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Webhook {
    /// Longest that an attempt may take.
    #[serde(serialize_with = "with_unit")]
    pub timeout: Duration,
    /// Longest that it may take to connect, within the same time.
    #[serde(serialize_with = "with_unit")]
    pub connect_timeout: Duration,
    /// Most bytes of the body of an answer.
    pub max_response: Size,
    /// Most bytes of the status line and the headers of an answer.
    pub max_response_head: Size,
    /// Most headers of an answer.
    pub max_response_headers: usize,
    /// Most unused connections to one host that are kept.
    pub max_idle_per_host: usize,
    /// Time for which an unused connection is kept.
    #[serde(serialize_with = "with_unit")]
    pub idle_timeout: Duration,
    /// Most names of hosts that are looked up at a time.
    pub max_lookups: usize,
    /// Networks that webhooks may go to although they are not public.
    pub allow: Vec<IpNet>,
    /// Certificates for and of the gateway as it calls.
    pub tls: WebhookTls,
}

/// Certificates for and of the gateway as it calls webhooks. A path that is empty is none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WebhookTls {
    /// Authorities that are trusted besides the public ones.
    pub ca_file: PathBuf,
    /// What the gateway shows to receivers that ask.
    pub client_certificate: PathBuf,
    /// Its private key.
    pub client_key: PathBuf,
}

/// Who may call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Auth {
    /// The file of keys; empty for none.
    pub keys_file: PathBuf,
    /// True if listeners may bind addresses that others reach although callers need no key.
    pub insecure: bool,
    /// True if listeners may bind addresses that others reach although keys come in plain text.
    pub cleartext: bool,
}

/// TLS of both listeners. A path that is empty is none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tls {
    /// What the gateway shows of itself; none for plain text.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Authorities of which callers have to show a certificate.
    pub client_ca: PathBuf,
}

/// The way down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Shutdown {
    /// Longest that calls in flight may take to end.
    #[serde(serialize_with = "with_unit")]
    pub grace: Duration,
}

/// The log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Log {
    /// Directives of a `tracing` `EnvFilter`.
    pub level: String,
    /// How it is written.
    pub format: Format,
}

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// Lines to read.
    Text,
    /// One JSON object per line.
    Json,
}

impl Config {
    /// Lays `file` over the defaults, and those of `variables` that start with `CIM_` over both. Either every value is within its
    /// bounds, or the error names everything that is wrong.
    pub fn load(file: Option<&Path>, variables: impl Iterator<Item = (String, String)>) -> Result<Self, ConfigError> {
        let mut layers = Layers::new(DEFAULTS);
        if let Some(file) = file {
            layers.file(file);
        }
        layers.variables(variables);
        let mut reader = Reader::new(layers);
        let config = Self::read(&mut reader);
        config.check_together(&mut reader);
        match reader.into_problems() {
            problems if problems.is_empty() => Ok(config),
            problems => Err(ConfigError { problems }),
        }
    }

    /// Every key with its value, as a file that [`load`](Self::load) reads as the same configuration.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("every key is a name and every value has a form in TOML, as the tests show")
    }

    fn read(r: &mut Reader) -> Self {
        Self {
            grpc: Grpc::read(r),
            http: Http::read(r),
            inbox: Inbox::read(r),
            channels: Channels::read(r),
            feed: Feed::read(r),
            subscriptions: Subscriptions::read(r),
            sessions: Sessions {
                customer_activity_timeout: r.duration("sessions.customer_activity_timeout", seconds(0, 30 * 24 * 60 * 60)),
            },
            limits: Limits::read(r),
            store: Store::read(r),
            delivery: Delivery::read(r),
            webhook: Webhook::read(r),
            auth: Auth {
                keys_file: r.text("auth.keys_file").into(),
                insecure: r.flag("auth.insecure"),
                cleartext: r.flag("auth.cleartext"),
            },
            tls: Tls {
                certificate: r.text("tls.certificate").into(),
                key: r.text("tls.key").into(),
                client_ca: r.text("tls.client_ca").into(),
            },
            shutdown: Shutdown { grace: r.duration("shutdown.grace", seconds(0, 60 * 60)) },
            log: Log::read(r),
        }
    }

    /// Why the listeners must not be reached by others; none if they may.
    fn kept_private_by(&self) -> Option<&'static str> {
        let Auth { keys_file, insecure, cleartext } = &self.auth;
        if keys_file.as_os_str().is_empty() {
            let reason = "callers need no key; to serve a network, set auth.keys_file, or auth.insecure = true if that is meant";
            return Some(reason).filter(|_| !insecure);
        }
        let reason =
            "keys would come in plain text; to serve a network, set tls.certificate, or auth.cleartext = true if that is meant";
        Some(reason).filter(|_| self.tls.certificate.as_os_str().is_empty() && !cleartext)
    }

    /// The rules that concern more than one value.
    fn check_together(&self, r: &mut Reader) {
        for (key, address) in [("grpc.listen", self.grpc.listen), ("http.listen", self.http.listen)] {
            if let Some(reason) = self.kept_private_by()
                && !address.ip().to_canonical().is_loopback()
            {
                r.refuse(key, format!("must be a loopback address, got {address}: {reason}"));
            }
        }
        if self.auth.insecure && !self.auth.keys_file.as_os_str().is_empty() {
            r.refuse("auth.insecure", "must be false, because auth.keys_file is set and every call needs a key");
        }
        let Tls { certificate, key, client_ca } = &self.tls;
        check_pair(r, [("tls.certificate", certificate), ("tls.key", key)]);
        if certificate.as_os_str().is_empty() && !client_ca.as_os_str().is_empty() {
            r.refuse("tls.certificate", format!("is needed, because tls.client_ca is {}", client_ca.display()));
        }
        if self.grpc.listen == self.http.listen && self.http.listen.port() != 0 {
            r.refuse("http.listen", format!("must differ from grpc.listen, got {} for both", self.http.listen));
        }
        let Embedded { max_bytes, segment, max_age, min_age, .. } = &self.store.embedded;
        if max_bytes.as_u64() < 4 * segment.as_u64() {
            let problem = format!("must be at least four times store.embedded.segment, which is {segment}, got {max_bytes}");
            r.refuse("store.embedded.max_bytes", problem);
        }
        let WebhookTls { client_certificate, client_key, .. } = &self.webhook.tls;
        check_pair(r, [("webhook.tls.client_certificate", client_certificate), ("webhook.tls.client_key", client_key)]);
        if min_age > max_age {
            let [least, most] = [min_age, max_age].map(|time| humantime::format_duration(*time));
            let problem = format!("must not be longer than store.embedded.max_age, which is {most}, got {least}");
            r.refuse("store.embedded.min_age", problem);
        }
        let (kept, message) = (self.store.memory.max_bytes, self.limits.message);
        if kept.as_u64() < 2 * message.as_u64() {
            r.refuse("store.memory.max_bytes", format!("must be at least twice limits.message, which is {message}, got {kept}"));
        }
    }
}

impl Default for Config {
    /// What [`DEFAULTS`] says.
    fn default() -> Self {
        Self::load(None, std::iter::empty()).expect("the defaults are within their bounds, as the tests show")
    }
}

impl Grpc {
    fn read(r: &mut Reader) -> Self {
        Self {
            listen: r.address("grpc.listen"),
            max_connections: r.number("grpc.max_connections", 1..=1_000_000),
            max_concurrent_streams: r.number("grpc.max_concurrent_streams", 1..=1_000_000),
            max_in_flight: r.number("grpc.max_in_flight", 1..=10_000),
            keepalive_interval: r.duration("grpc.keepalive_interval", seconds(1, 60 * 60)),
            keepalive_timeout: r.duration("grpc.keepalive_timeout", seconds(1, 60 * 60)),
            initial_stream_window: r.size("grpc.initial_stream_window", Size::kib(64)..=Size::mib(16)),
            initial_connection_window: r.size("grpc.initial_connection_window", Size::kib(64)..=Size::mib(64)),
            max_header_list: r.size("grpc.max_header_list", Size::kib(4)..=Size::mib(1)),
            cors: Cors::read(r, "grpc.cors.allowed_origins"),
        }
    }
}

impl Http {
    fn read(r: &mut Reader) -> Self {
        let statuses = [AcceptedStatus::Accepted, AcceptedStatus::Ok].map(|status| (i64::from(status.as_u16()), status));
        Self {
            listen: r.address("http.listen"),
            accepted_status: r.choice("http.accepted_status", statuses).unwrap_or(AcceptedStatus::Accepted),
            header_timeout: r.duration("http.header_timeout", seconds(1, 5 * 60)),
            body_timeout: r.duration("http.body_timeout", seconds(1, 10 * 60)),
            max_connections: r.number("http.max_connections", 1..=1_000_000),
            max_concurrent_streams: r.number("http.max_concurrent_streams", 1..=1_000_000),
            cors: Cors::read(r, "http.cors.allowed_origins"),
        }
    }
}

impl Cors {
    fn read(r: &mut Reader, key: &str) -> Self {
        const EXAMPLE: &str = "https://desk.example.org";
        let allowed_origins = r.texts(key, EXAMPLE);
        let any = allowed_origins.iter().any(|origin| origin == "*");
        if any && allowed_origins.len() > 1 {
            r.refuse(key, format!("needs \"*\" to stand alone, got {allowed_origins:?}"));
        }
        for origin in allowed_origins.iter().filter(|origin| *origin != "*" && !is_origin(origin)) {
            r.refuse(key, format!("needs origins as browsers send them, such as {EXAMPLE:?}, got {origin:?}"));
        }
        Self { allowed_origins }
    }
}

/// True for a scheme, a host and optionally a port, in the only spelling in which browsers send an origin (RFC 6454): it is
/// compared as text, so any other never matches.
fn is_origin(text: &str) -> bool {
    let Some((scheme, authority)) = text.split_once("://") else { return false };
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let is_host = match host.strip_prefix('[') {
        Some(inner) => inner.strip_suffix(']').is_some_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok()),
        None => !host.is_empty() && host.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._".contains(&b)),
    };
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_lowercase())
        && scheme.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(&b));
    let is_default_port = matches!((scheme, port), ("http", Some("80")) | ("https", Some("443")));
    let is_port = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|number| number.to_string() == port));
    is_scheme && is_host && is_port && !is_default_port
}

impl Inbox {
    fn read(r: &mut Reader) -> Self {
        let policies = [("renew", ReusePolicy::Renew), ("reject", ReusePolicy::Reject)];
        Self {
            repeat_window: r.duration("inbox.repeat_window", seconds(1, 24 * 60 * 60)),
            reused_id: ReusedId {
                grpc: r.choice("inbox.reused_id.grpc", policies).unwrap_or(ReusePolicy::Reject),
                http: r.choice("inbox.reused_id.http", policies).unwrap_or(ReusePolicy::Renew),
            },
        }
    }
}

impl Channels {
    fn read(r: &mut Reader) -> Self {
        Self {
            require_registered: r.flag("channels.require_registered"),
            max: r.number("channels.max", 1..=1_000_000),
            largest: r.size("channels.largest", Size::kib(1)..=Size::mib(1)),
            page: r.number("channels.page", 1..=500),
            tell_connectors: r.flag("channels.tell_connectors"),
            declared: r.tables("channels.declared"),
        }
    }
}

impl Feed {
    fn read(r: &mut Reader) -> Self {
        Self {
            heartbeat: r.duration("feed.heartbeat", HEARTBEAT),
            heartbeat_skipped: r.number("feed.heartbeat_skipped", 1..=1_000_000),
            max_streams: r.number("feed.max_streams", 1..=1_000_000),
            cold_scans: r.number("feed.cold_scans", 1..=1000),
        }
    }
}

impl Subscriptions {
    fn read(r: &mut Reader) -> Self {
        Self {
            max: r.number("subscriptions.max", 1..=100_000),
            write_interval: r.duration("subscriptions.write_interval", seconds(0, 10)),
        }
    }
}

impl Limits {
    fn read(r: &mut Reader) -> Self {
        Self {
            message: r.size("limits.message", Size::kib(1)..=Size::mib(16)),
            json_depth: r.number("limits.json_depth", 8..=128),
            free_form_depth: r.number("limits.free_form_depth", 1..=24),
            id: r.size("limits.id", Size::bytes(16)..=Size::kib(4)),
            list_length: r.number("limits.list_length", 1..=10_000),
            filter_values: r.number("limits.filter_values", 1..=10_000),
            history_page: r.number("limits.history_page", 1..=500),
        }
    }
}

impl Store {
    fn read(r: &mut Reader) -> Self {
        Self {
            engine: r
                .choice("store.engine", [("embedded", Engine::Embedded), ("memory", Engine::Memory)])
                .unwrap_or(Engine::Embedded),
            embedded: Embedded::read(r),
            memory: Memory { max_bytes: r.size("store.memory.max_bytes", Size::mib(2)..=Size::tib(1)) },
        }
    }
}

impl Embedded {
    fn read(r: &mut Reader) -> Self {
        let data_dir = r.text("store.embedded.data_dir");
        if data_dir.is_empty() {
            r.refuse("store.embedded.data_dir", "needs the path of a folder, got an empty text");
        }
        Self {
            data_dir: data_dir.into(),
            max_bytes: r.size("store.embedded.max_bytes", Size::mib(256)..=Size::tib(64)),
            max_age: r.duration("store.embedded.max_age", seconds(24 * 60 * 60, 3650 * 24 * 60 * 60)),
            min_age: r.duration("store.embedded.min_age", seconds(0, 30 * 24 * 60 * 60)),
            min_free: r.size("store.embedded.min_free", Size::bytes(0)..=Size::tib(1)),
            segment: r.size("store.embedded.segment", Size::mib(1)..=Size::mib(1024)),
            window: r.size("store.embedded.window", Size::mib(1)..=Size::mib(1024)),
        }
    }
}

impl Delivery {
    fn read(r: &mut Reader) -> Self {
        Self {
            sync_wait: r.duration("delivery.sync_wait", seconds(0, 30)),
            max_waiting: r.number("delivery.max_waiting", 0..=1_000_000),
            retries: r.durations("delivery.retries", seconds(0, 24 * 60 * 60)),
            hold: r.duration("delivery.hold", seconds(0, 60 * 60)),
            parked: r.number("delivery.parked", 0..=1000),
            max_age: r.duration("delivery.max_age", seconds(1, 30 * 24 * 60 * 60)),
            in_flight: r.number("delivery.in_flight", 1..=10_000),
            in_flight_in_all: r.number("delivery.in_flight_in_all", 1..=100_000),
            lane_window: r.number("delivery.lane_window", 1..=10_000),
            gone: r.number("delivery.gone", 1..=1000),
            excerpt: r.size("delivery.excerpt", Size::bytes(0)..=Size::kib(64)),
            page: r.number("delivery.page", 1..=500),
            breaker: Breaker {
                failures: r.number("delivery.breaker.failures", 1..=1000),
                pause: r.duration("delivery.breaker.pause", Duration::from_millis(100)..=Duration::from_secs(60 * 60)),
                longest_pause: r
                    .duration("delivery.breaker.longest_pause", Duration::from_millis(100)..=Duration::from_secs(24 * 60 * 60)),
            },
        }
    }
}

impl Webhook {
    fn read(r: &mut Reader) -> Self {
        Self {
            timeout: r.duration("webhook.timeout", Duration::from_millis(100)..=Duration::from_secs(5 * 60)),
            connect_timeout: r.duration("webhook.connect_timeout", Duration::from_millis(100)..=Duration::from_secs(60)),
            max_response: r.size("webhook.max_response", Size::kib(1)..=Size::mib(16)),
            max_response_head: r.size("webhook.max_response_head", Size::kib(8)..=Size::mib(1)),
            max_response_headers: r.number("webhook.max_response_headers", 1..=1000),
            max_idle_per_host: r.number("webhook.max_idle_per_host", 0..=1000),
            idle_timeout: r.duration("webhook.idle_timeout", seconds(1, 10 * 60)),
            max_lookups: r.number("webhook.max_lookups", 1..=256),
            allow: networks(r, "webhook.allow"),
            tls: WebhookTls {
                ca_file: r.text("webhook.tls.ca_file").into(),
                client_certificate: r.text("webhook.tls.client_certificate").into(),
                client_key: r.text("webhook.tls.client_key").into(),
            },
        }
    }
}

fn networks(r: &mut Reader, key: &str) -> Vec<IpNet> {
    const EXAMPLE: &str = "10.0.0.0/8";
    let (mut networks, mut others) = (Vec::new(), Vec::new());
    for text in r.texts(key, EXAMPLE) {
        match text.parse::<IpNet>() {
            // An IPv4 address in IPv6 is judged as what it is, so a network of such never holds it.
            Ok(network) if network.addr() == network.addr().to_canonical() => networks.push(network),
            _ => others.push(text),
        }
    }
    for other in others {
        r.refuse(key, format!("needs networks, such as {EXAMPLE:?} or \"fd12:3456::/32\", got {other:?}"));
    }
    networks
}

impl Log {
    fn read(r: &mut Reader) -> Self {
        let level = r.text("log.level");
        if !is_filter(&level) {
            r.refuse("log.level", format!("needs a level, such as \"info\" or \"info,cim_gateway=debug\", got {level:?}"));
        }
        let formats = [("auto", Format::Auto), ("text", Format::Text), ("json", Format::Json)];
        Self { level, format: r.choice("log.format", formats).unwrap_or(Format::Auto) }
    }
}

/// True for directives of an `EnvFilter`, each with a level: a bare `warning` would pass for the name of a module.
fn is_filter(text: &str) -> bool {
    // An empty text would pass for the level error.
    let is_level = |text: &str| !text.is_empty() && text.parse::<tracing_subscriber::filter::LevelFilter>().is_ok();
    let is_known = |directive: &str| directive.contains(['=', '[']) || is_level(directive.trim());
    text.split(',').all(is_known) && tracing_subscriber::EnvFilter::builder().parse(text).is_ok()
}

/// Two paths of which neither is of use without the other.
fn check_pair(r: &mut Reader, [one, other]: [(&str, &PathBuf); 2]) {
    for ((key, path), (_, other)) in [(one, other), (other, one)] {
        if path.as_os_str().is_empty() && !other.as_os_str().is_empty() {
            r.refuse(key, format!("is needed, because {} is set", other.display()));
        }
    }
}

const fn seconds(least: u64, most: u64) -> RangeInclusive<Duration> {
    Duration::from_secs(least)..=Duration::from_secs(most)
}

fn with_unit<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_duration(*time))
}

fn each_with_unit<S: Serializer>(times: &[Duration], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(times.iter().map(|time| humantime::format_duration(*time).to_string()))
}

#[cfg(test)]
mod tests;
