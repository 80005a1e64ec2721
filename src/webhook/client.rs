//! One attempt at a time: a request out, an answer or a failure back.

use super::body::Body;
use super::connector::Connector;
use super::failure::{Failure, Part};
use super::guard::Guard;
use super::resolver::{Resolve, System};
use super::settings::Settings;
use super::tls::{self, SetupError};
use super::{Id, Secret, TraceParent, Url, retry_after, signature};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::capture_connection;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;

const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const USER_AGENT: HeaderValue = HeaderValue::from_static(concat!("cim-gateway/", env!("CARGO_PKG_VERSION")));

/// What HTTP/1.1 reads at a time; it takes no lower bound.
const LEAST_HEAD: usize = 8 * 1024;

/// Most headers that are added to those of the caller, here and where the request is sent.
const HEADERS: usize = 8;

/// Headers that say how the request is sent, which is the client's to say.
const OF_THE_CONNECTION: [HeaderName; 8] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::EXPECT,
    header::HOST,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// What is sent in one attempt. Shown, it lacks what only the receiver should see.
#[derive(Clone)]
pub struct Post<'a> {
    /// Where it goes.
    pub url: &'a Url,
    /// The same for every attempt of a delivery.
    pub id: &'a Id,
    /// What kind of content `body` is.
    pub content_type: HeaderValue,
    /// The content.
    pub body: Bytes,
    /// Each signs; without any the attempt is not signed.
    pub secrets: &'a [Secret],
    /// Sent as it is; every attempt should have a [`child`](TraceParent::child) of its own.
    pub trace: TraceParent,
    /// Further headers. Those that the client sets itself are not taken from here.
    pub headers: HeaderMap,
    /// Longest that the attempt may take as a whole; [`Settings::timeout`] if nothing is said.
    pub timeout: Option<Duration>,
}

impl fmt::Debug for Post<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { url, id, content_type, body, secrets, trace, headers, timeout } = self;
        f.debug_struct("Post")
            .field("url", url)
            .field("id", id)
            .field("content_type", content_type)
            .field("body_bytes", &body.len())
            .field("secrets", &secrets.len())
            .field("trace", trace)
            .field("headers", &headers.keys().collect::<Vec<_>>())
            .field("timeout", timeout)
            .finish()
    }
}

/// What a receiver said, complete. Shown, it lacks the body.
#[derive(Clone, PartialEq, Eq)]
pub struct Answer {
    /// Any status but those that announce another; redirects are not followed.
    pub status: u16,
    /// How long the receiver asks to be left alone, a day at most.
    pub retry_after: Option<Duration>,
    /// At most [`Settings::max_response`] bytes.
    pub body: Bytes,
    /// The time from the beginning of the attempt to the last byte of the answer.
    pub duration: Duration,
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { status, retry_after, body, duration } = self;
        f.debug_struct("Answer")
            .field("status", status)
            .field("retry_after", retry_after)
            .field("body_bytes", &body.len())
            .field("duration", duration)
            .finish()
    }
}

/// Sends webhooks. Its clones share their connections, which end with the last of them.
#[derive(Debug, Clone)]
pub struct Client {
    http: legacy::Client<Connector, Body>,
    timeout: Duration,
    max_response: usize,
}

impl Client {
    /// A client that asks the system for the addresses of hosts. Reads the files that the settings name.
    pub fn new(settings: Settings) -> Result<Self, SetupError> {
        let resolver = Arc::new(System::new(settings.max_lookups));
        Self::with_resolver(settings, resolver)
    }

    /// A client that asks `resolver` for the addresses of hosts. The guard judges what it says like anything else.
    pub fn with_resolver(settings: Settings, resolver: Arc<dyn Resolve>) -> Result<Self, SetupError> {
        let tls = tls::client_config(&settings.tls)?;
        let connector = Connector::new(resolver, Guard::new(settings.allow), tls, settings.connect_timeout);
        let http = legacy::Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(settings.idle_timeout)
            .pool_max_idle_per_host(settings.max_idle_per_host)
            .http1_max_buf_size(settings.max_response_head.max(LEAST_HEAD))
            .http1_max_headers(settings.max_response_headers)
            .http2_max_header_list_size(u32::try_from(settings.max_response_head).unwrap_or(u32::MAX))
            .build(connector);
        Ok(Self { http, timeout: settings.timeout, max_response: settings.max_response })
    }

    /// Makes one attempt and waits for the whole answer, no longer than its timeout. Dropped before, it ends the attempt; what was
    /// written by then may have arrived.
    ///
    /// Nothing is sent twice: only a connection that was kept from an earlier attempt, and that turns out to be closed before anything
    /// of this one was written to it, is replaced by a fresh one. How many attempts run at a time is the caller's to bound.
    pub async fn post(&self, post: Post<'_>) -> Result<Answer, Failure> {
        let started = Instant::now();
        let limit = post.timeout.unwrap_or(self.timeout);
        let mut request = request(post);
        let taken = request.body().taken();
        let connection = capture_connection(&mut request);
        let mut status = None;
        let exchange = async {
            let sent = self.http.request(request).await;
            let response = sent.map_err(|error| Failure::of(&error, taken.get(), None))?;
            let told = response.status().as_u16();
            status = Some(told);
            let (head, body) = response.into_parts();
            let retry_after = head.headers.get(header::RETRY_AFTER);
            let retry_after = retry_after.and_then(|value| retry_after::parse(value, SystemTime::now()));
            let body = self.read(body, told).await?;
            Ok(Answer { status: told, retry_after, body, duration: started.elapsed() })
        };
        let done = tokio::time::timeout(limit, exchange).await;
        done.unwrap_or_else(|_| {
            // HTTP/2 would go on with a connection that may be dead, attempt after attempt.
            if let Some(connected) = &*connection.connection_metadata() {
                connected.poison();
            }
            let failure = Failure::ResponseTimeout { after: limit, status };
            Err(if taken.get() { failure } else { Failure::ConnectTimeout { after: limit } })
        })
    }

    async fn read(&self, body: Incoming, status: u16) -> Result<Bytes, Failure> {
        let collected = Limited::new(body, self.max_response).collect().await;
        collected.map(http_body_util::Collected::to_bytes).map_err(|error| {
            if error.is::<LengthLimitError>() {
                Failure::TooLarge { part: Part::Body, status: Some(status) }
            } else {
                Failure::of(&*error, true, Some(status))
            }
        })
    }
}

fn request(post: Post<'_>) -> Request<Body> {
    let mut headers = post.headers;
    headers.reserve(HEADERS);
    for name in OF_THE_CONNECTION {
        headers.remove(name);
    }
    // A clock before 1970 is wrong, and so is whatever it says.
    let timestamp = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    headers.insert(header::CONTENT_TYPE, post.content_type);
    headers.insert(header::USER_AGENT, USER_AGENT);
    headers.insert(WEBHOOK_ID, post.id.to_header());
    headers.insert(WEBHOOK_TIMESTAMP, timestamp.into());
    headers.insert(TRACEPARENT, post.trace.to_header());
    headers.remove(WEBHOOK_SIGNATURE);
    if !post.secrets.is_empty() {
        let signature = signature::sign(post.secrets, post.id, timestamp, &post.body);
        let mut signature = HeaderValue::try_from(signature).expect("base64 is a header's value");
        signature.set_sensitive(true);
        headers.insert(WEBHOOK_SIGNATURE, signature);
    }
    let mut request = Request::new(Body::new(post.body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = post.url.as_uri().clone();
    *request.headers_mut() = headers;
    request
}
