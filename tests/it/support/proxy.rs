//! A network that can fail: a proxy in front of a gateway.

use super::client::Client;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Passes connections on to a gateway.
#[derive(Debug)]
pub struct Proxy {
    pub address: SocketAddr,
    /// Bytes that the next connection passes to its client before it breaks.
    break_after: Arc<AtomicUsize>,
    frozen: CancellationToken,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// A proxy in front of `gateway` that passes everything on.
    pub async fn to(gateway: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("port 0 is free");
        let address = listener.local_addr().expect("a bound listener has an address");
        let break_after = Arc::new(AtomicUsize::new(usize::MAX));
        let frozen = CancellationToken::new();
        let freezing = frozen.clone();
        let breaking = break_after.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(gateway).await.expect("the gateway listens");
                tokio::spawn(connection(client, server, breaking.load(Ordering::SeqCst), freezing.clone()));
            }
        });
        Self { address, break_after, frozen, accepting }
    }

    /// A client whose connection breaks after `bytes` have come from the gateway.
    pub async fn client_that_breaks_after(&self, bytes: usize) -> Client {
        self.break_after.store(bytes, Ordering::SeqCst);
        Client::to(self.address).await
    }

    /// Passes nothing on any more, and closes nothing: as when a cable is cut.
    pub fn freeze(&self) {
        self.frozen.cancel();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn connection(client: TcpStream, server: TcpStream, break_after: usize, frozen: CancellationToken) {
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        () = pass(from_client, to_server, usize::MAX, &frozen) => {}
        () = pass(from_server, to_client, break_after, &frozen) => {}
    }
    // What is frozen stays open.
    if frozen.is_cancelled() {
        std::future::pending::<()>().await;
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut left: usize, frozen: &CancellationToken) {
    let mut buffer = vec![0; 4096];
    while left > 0 {
        let room = left.min(buffer.len());
        let read = tokio::select! {
            biased;
            () = frozen.cancelled() => std::future::pending().await,
            read = from.read(&mut buffer[..room]) => read.unwrap_or(0),
        };
        if read == 0 || to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
        left -= read;
    }
}
