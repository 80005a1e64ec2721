//! Makes connections: looks the name up, lets the guard judge each address, and connects to the very ones that it let pass.

use super::failure::Failure;
use super::guard::Guard;
use super::resolver::Resolve;
use super::socket::Socket;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use hyper::Uri;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Time after which the next address is tried beside those that have not answered (RFC 8305).
const STAGGER: Duration = Duration::from_millis(250);

/// Most addresses of a name that are tried: a name must not make the gateway knock at a thousand doors.
const MOST_TRIED: usize = 8;

#[derive(Debug, Clone)]
pub(super) struct Connector(Arc<Parts>);

struct Parts {
    resolver: Arc<dyn Resolve>,
    guard: Guard,
    tls: TlsConnector,
    timeout: Duration,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { resolver, guard, timeout, tls: _ } = self;
        f.debug_struct("Parts")
            .field("resolver", resolver)
            .field("guard", guard)
            .field("timeout", timeout)
            .finish_non_exhaustive()
    }
}

impl Connector {
    pub(super) fn new(resolver: Arc<dyn Resolve>, guard: Guard, tls: ClientConfig, timeout: Duration) -> Self {
        Self(Arc::new(Parts { resolver, guard, tls: TlsConnector::from(Arc::new(tls)), timeout }))
    }
}

impl tower::Service<Uri> for Connector {
    type Response = TokioIo<Socket>;
    type Error = Failure;
    type Future = BoxFuture<'static, Result<TokioIo<Socket>, Failure>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let parts = self.0.clone();
        Box::pin(async move {
            let connected = tokio::time::timeout(parts.timeout, parts.connect(&uri)).await;
            connected.map_err(|_| Failure::ConnectTimeout { after: parts.timeout })?.map(TokioIo::new)
        })
    }
}

impl Parts {
    async fn connect(&self, uri: &Uri) -> Result<Socket, Failure> {
        let secure = uri.scheme() == Some(&hyper::http::uri::Scheme::HTTPS);
        let host = uri.host().unwrap_or_default();
        let host = host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(host);
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let addresses = self.addresses(host, port).await?;
        let stream = reach(&addresses).await.map_err(|e| Failure::Connect { cause: e.to_string() })?;
        // A request is worth its own packet.
        let _best_effort = stream.set_nodelay(true);
        if !secure {
            return Ok(Socket::Plain(stream));
        }
        let name = ServerName::try_from(host.to_owned()).map_err(|e| Failure::Tls { cause: e.to_string() })?;
        let agreed = self.tls.connect(name, stream).await.map_err(|e| Failure::Tls { cause: e.to_string() })?;
        Ok(Socket::Tls(Box::new(agreed)))
    }

    /// Those addresses of `host` that webhooks may go to; at least one.
    async fn addresses(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, Failure> {
        let found = match host.parse::<IpAddr>() {
            Ok(address) => vec![SocketAddr::new(address, port)],
            Err(_) => self.resolver.resolve(host, port).await.map_err(|e| Failure::Dns { cause: e.to_string() })?,
        };
        let judged = found.into_iter().map(|found| self.guard.check(found.ip()).map(|()| found).map_err(Failure::Refused));
        let (mut open, mut refusal) = (Vec::new(), None);
        for judged in judged {
            match judged {
                Ok(address) => open.push(address),
                Err(refused) => refusal = refusal.or(Some(refused)),
            }
        }
        open.truncate(MOST_TRIED);
        if open.is_empty() {
            return Err(refusal.unwrap_or_else(|| Failure::Dns { cause: "it has no address".into() }));
        }
        Ok(open)
    }
}

/// Connects to whichever address answers first; each gets a head start over the next.
async fn reach(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut rest = addresses.iter();
    let mut trying = FuturesUnordered::new();
    let mut failure = None;
    loop {
        if let Some(address) = rest.next() {
            trying.push(TcpStream::connect(*address));
        }
        let last = rest.len() == 0;
        tokio::select! {
            tried = trying.next() => match tried {
                Some(Ok(stream)) => return Ok(stream),
                Some(Err(e)) => failure = Some(e),
                None => return Err(failure.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into())),
            },
            () = tokio::time::sleep(STAGGER), if !last => {}
        }
    }
}
