//! Receivers that do as they are told, and the certificates that they show.

use cim_gateway::webhook::{Answer, Client, Failure, Id, Post, Settings, Tls, TraceParent, Url};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;

/// Longest that a test waits for what must come.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Time that an attempt has that is meant to run out of it.
pub const SHORT: Duration = Duration::from_secs(1);

/// Waits for what must come.
pub async fn soon<T>(what: &str, event: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, event).await.unwrap_or_else(|_| panic!("{what} does not come"))
}

/// The URL of a port where nobody listens: no other test has anything at this address.
pub fn nobody() -> Url {
    url("http://127.3.0.1:50051/cim")
}

/// Settings that let webhooks go to this machine, with time enough for whatever should work.
pub fn settings() -> Settings {
    Settings {
        timeout: PATIENCE,
        connect_timeout: PATIENCE,
        max_response: 1024 * 1024,
        max_response_head: 16 * 1024,
        max_response_headers: 100,
        max_idle_per_host: 8,
        idle_timeout: Duration::from_secs(60),
        max_lookups: 4,
        allow: vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()],
        tls: Tls::default(),
    }
}

pub fn client() -> Client {
    Client::new(settings()).unwrap()
}

/// A client whose attempts run out of time soon.
pub fn hasty() -> Client {
    Client::new(Settings { timeout: SHORT, ..settings() }).unwrap()
}

pub fn url(text: &str) -> Url {
    Url::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"))
}

/// The simplest attempt.
pub async fn post(client: &Client, url: &Url) -> Result<Answer, Failure> {
    post_body(client, url, "{}").await
}

pub async fn post_body(client: &Client, url: &Url, body: impl Into<Vec<u8>>) -> Result<Answer, Failure> {
    post_within(client, url, body, None).await
}

/// An attempt with a time of its own.
pub async fn post_within(
    client: &Client,
    url: &Url,
    body: impl Into<Vec<u8>>,
    timeout: Option<Duration>,
) -> Result<Answer, Failure> {
    let id = Id::new("delivery-1").unwrap();
    let post = Post {
        url,
        id: &id,
        content_type: "application/json".parse().unwrap(),
        body: body.into().into(),
        secrets: &[],
        trace: TraceParent::new(),
        headers: hyper::HeaderMap::new(),
        timeout,
    };
    soon("the end of an attempt", client.post(post)).await
}

/// A port that takes no connection any more: what tries to connect hears nothing.
pub struct Full {
    address: SocketAddr,
    _listener: TcpListener,
    _waiting: Vec<TcpStream>,
}

impl Full {
    pub async fn new() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let mut waiting = Vec::new();
        // Nobody accepts those, so soon there is no room for another.
        while let Ok(connected) = tokio::time::timeout(SHORT, TcpStream::connect(address)).await {
            waiting.push(connected.unwrap());
        }
        Self { address, _listener: listener, _waiting: waiting }
    }

    pub fn url(&self) -> Url {
        url(&format!("http://{}/cim", self.address))
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }
}

/// One side of a connection.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// A server that does to each connection what its script says, and counts them.
pub struct Receiver {
    address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    _serving: AbortOnDropHandle<()>,
}

impl Receiver {
    /// Does `script` to each connection; the number of the connection counts from 0.
    pub async fn doing<F, D>(script: F) -> Self
    where
        F: Fn(TcpStream, usize) -> D + Send + Sync + 'static,
        D: Future<Output = ()> + Send + 'static,
    {
        Self::at("127.0.0.1:0", script).await
    }

    /// The same at an address of its own.
    pub async fn at<F, D>(address: &str, script: F) -> Self
    where
        F: Fn(TcpStream, usize) -> D + Send + Sync + 'static,
        D: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = accepted.clone();
        let serving = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.spawn(script(stream, count.fetch_add(1, Ordering::SeqCst)));
            }
        });
        Self { address, accepted, _serving: AbortOnDropHandle::new(serving) }
    }

    /// Does `script` to each connection once TLS is agreed on.
    pub async fn secure<F, D>(config: ServerConfig, script: F) -> Self
    where
        F: Fn(tokio_rustls::server::TlsStream<TcpStream>) -> D + Send + Sync + 'static,
        D: Future<Output = ()> + Send + 'static,
    {
        let (acceptor, script) = (TlsAcceptor::from(Arc::new(config)), Arc::new(script));
        Self::doing(move |stream, _| {
            let (acceptor, script) = (acceptor.clone(), script.clone());
            async move {
                // A client that does not trust the server goes away here.
                if let Ok(stream) = acceptor.accept(stream).await {
                    script(stream).await;
                }
            }
        })
        .await
    }

    /// Answers each first request of a connection with these bytes, then closes.
    pub async fn saying(bytes: impl Into<Vec<u8>>) -> Self {
        let bytes: Arc<Vec<u8>> = Arc::new(bytes.into());
        Self::doing(move |mut stream, _| {
            let bytes = bytes.clone();
            async move {
                if read_request(&mut stream).await.is_some() {
                    // The client may have heard enough before it has heard all.
                    let _heard = stream.write_all(&bytes).await;
                }
            }
        })
        .await
    }

    /// Answers every request with 200 and nothing more, as long as the client likes.
    pub async fn kind() -> Self {
        Self::kind_at("127.0.0.1:0").await
    }

    /// The same at an address of its own.
    pub async fn kind_at(address: &str) -> Self {
        Self::at(address, |mut stream, _| async move { answer_all(&mut stream).await }).await
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Its URL with the given scheme, host and what follows.
    pub fn url_as(&self, scheme: &str, host: &str, rest: &str) -> Url {
        url(&format!("{scheme}://{host}:{}{rest}", self.port()))
    }

    pub fn url(&self) -> Url {
        url(&format!("http://{}/cim", self.address))
    }

    pub fn https(&self) -> Url {
        self.url_as("https", "localhost", "/cim")
    }

    /// How many connections came.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

/// A request as it came: its head as text, and its body.
pub struct Request {
    pub head: String,
    pub body: Vec<u8>,
}

impl Request {
    /// The values of a header, in their order.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let headers = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        headers.filter(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
    }

    /// The value of a header that is there once.
    pub fn header(&self, name: &str) -> &str {
        let values = self.all(name);
        let [value] = values.as_slice() else { panic!("{name} is there {} times in {}", values.len(), self.head) };
        value
    }
}

/// The next request, or nothing where the connection ended first.
pub async fn read_request(stream: &mut impl Stream) -> Option<Request> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let mut request = Request { head: String::from_utf8(head).unwrap(), body: Vec::new() };
    request.body.resize(request.header("content-length").parse().unwrap(), 0);
    stream.read_exact(&mut request.body).await.ok()?;
    Some(request)
}

pub const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

/// Answers requests until the client goes.
pub async fn answer_all(stream: &mut impl Stream) {
    while read_request(stream).await.is_some() {
        if stream.write_all(OK).await.is_err() {
            return;
        }
    }
}

/// Waits until the other side has closed.
pub async fn closed(stream: &mut impl Stream) {
    let mut dropped = [0; 1024];
    while stream.read(&mut dropped).await.is_ok_and(|read| read > 0) {}
}

/// A certificate authority of a test's own.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
}

impl Authority {
    pub fn new() -> Self {
        Self::called("a test's authority")
    }

    pub fn called(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A certificate for `name`, changed before it is signed.
    pub fn certify(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Certified {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Certified { pem: certificate.pem(), certificate: certificate.der().clone(), key }
    }

    /// A client that trusts this authority.
    pub fn trusted_by(&self, settings: Settings) -> Client {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        std::io::Write::write_all(&mut file, self.pem.as_bytes()).unwrap();
        let tls = Tls { ca_file: Some(file.path().to_owned()), ..settings.tls };
        Client::new(Settings { tls, ..settings }).unwrap()
    }
}

/// A certificate with its key.
pub struct Certified {
    pub pem: String,
    pub certificate: CertificateDer<'static>,
    pub key: KeyPair,
}

impl Certified {
    fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.serialize_der()).into()
    }

    /// What a server that shows this certificate is set up with.
    pub fn server(&self, protocols: &[&str]) -> ServerConfig {
        self.server_that_asks(protocols, rustls::server::WebPkiClientVerifier::no_client_auth())
    }

    /// The same for a server that asks for the client's certificate.
    pub fn server_that_asks(
        &self,
        protocols: &[&str],
        verifier: Arc<dyn rustls::server::danger::ClientCertVerifier>,
    ) -> ServerConfig {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![self.certificate.clone()], self.private_key())
            .unwrap();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        config
    }
}

pub fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
