//! From the name of a host to its addresses.

use async_trait::async_trait;
use std::fmt::Debug;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Looks names up.
#[async_trait]
pub trait Resolve: Debug + Send + Sync {
    /// The addresses of `host`, in the order in which they are tried, each with `port`.
    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>>;
}

/// Asks the system, which knows its files and its search domains, but does not give up when asked to: so only so many look-ups at a
/// time keep a thread, and a dead name server does not take those that others need.
#[derive(Debug)]
pub(super) struct System {
    places: Arc<Semaphore>,
}

impl System {
    pub(super) fn new(max_lookups: usize) -> Self {
        Self { places: Arc::new(Semaphore::new(max_lookups)) }
    }
}

#[async_trait]
impl Resolve for System {
    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let place = self.places.clone().acquire_owned().await.expect("the places are never closed");
        let host = host.to_owned();
        let looked_up = tokio::task::spawn_blocking(move || {
            // Whoever asked may have given up; the thread is taken all the same.
            let _place = place;
            (host.as_str(), port).to_socket_addrs().map(Vec::from_iter)
        });
        looked_up.await.map_err(io::Error::other)?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_look_up_beyond_the_bound_waits_for_its_turn() {
        let system = System::new(1);
        let place = system.places.clone().acquire_owned().await;
        let mut waiting = system.resolve("127.0.0.1", 80);
        assert!(futures::poll!(&mut waiting).is_pending());
        drop(place);
        assert_eq!(waiting.await.unwrap(), ["127.0.0.1:80".parse().unwrap()]);
        system.resolve("127.0.0.1", 80).await.unwrap();
    }

    #[tokio::test]
    async fn a_name_that_no_system_can_look_up_is_an_error() {
        for name in ["", "a\0b", "nowhere.invalid"] {
            assert!(System::new(1).resolve(name, 80).await.is_err(), "{name:?}");
        }
    }
}
