//! A gateway in this process.

use super::client::Client;
use super::page::Page;
use super::soon;
use cim_gateway::app;
use cim_gateway::config::Config;
use std::fmt::Display;
use std::net::SocketAddr;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

/// A gateway that serves on ports of its own until it is stopped or dropped.
#[derive(Debug)]
pub struct Gateway {
    pub grpc: SocketAddr,
    pub http: SocketAddr,
    stop: DropGuard,
    served: JoinHandle<Result<(), app::Error>>,
    /// Where it keeps its messages, unless it was told where.
    folder: TempDir,
}

/// Settings that differ from the defaults.
#[derive(Debug, Clone)]
pub struct Settings {
    variables: Vec<(String, String)>,
}

impl Settings {
    /// With another setting, by its key in the configuration.
    pub fn set(mut self, key: &str, value: impl Display) -> Self {
        self.variables.push((variable(key), value.to_string()));
        self
    }

    /// Starts a gateway with these settings. When this returns it can be connected to.
    pub async fn start(self) -> Gateway {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let data_dir = (variable("store.embedded.data_dir"), folder.path().join("data").display().to_string());
        // Small, because each is filled with zeros before it is used.
        let segment = (variable("store.embedded.segment"), "1 MiB".to_owned());
        let variables = [data_dir, segment].into_iter().chain(self.variables);
        let config = Config::load(None, variables).unwrap_or_else(|error| panic!("{error}"));
        let gateway = app::Gateway::bind(config).await.expect("port 0 is free");
        let grpc = gateway.grpc_address().expect("a bound listener has an address");
        let http = gateway.http_address().expect("a bound listener has an address");
        let stop = CancellationToken::new();
        let served = tokio::spawn(gateway.serve(stop.clone().cancelled_owned()));
        Gateway { grpc, http, stop: stop.drop_guard(), served, folder }
    }
}

/// The environment variable that sets a key.
pub fn variable(key: &str) -> String {
    format!("CIM_{}", key.replace('.', "__").to_uppercase())
}

impl Gateway {
    /// The default settings, on free ports.
    pub fn settings() -> Settings {
        Settings { variables: Vec::new() }.set("grpc.listen", "127.0.0.1:0").set("http.listen", "127.0.0.1:0")
    }

    /// Settings that differ in one key.
    pub fn set(key: &str, value: impl Display) -> Settings {
        Self::settings().set(key, value)
    }

    /// Starts a gateway with the default settings.
    pub async fn start() -> Self {
        Self::settings().start().await
    }

    /// A client with a connection of its own.
    pub async fn client(&self) -> Client {
        Client::to(self.grpc).await
    }

    /// What its metrics are now.
    pub async fn page(&self) -> Page {
        Page::of(self.http).await
    }

    /// Asks the gateway to stop; [`Stopping::down`] waits until it has.
    pub fn stop(self) -> Stopping {
        drop(self.stop);
        Stopping { served: self.served, _folder: self.folder }
    }
}

/// A gateway on its way down.
#[derive(Debug)]
pub struct Stopping {
    served: JoinHandle<Result<(), app::Error>>,
    _folder: TempDir,
}

impl Stopping {
    /// Waits until the gateway is down.
    pub async fn down(self) {
        soon("the gateway to be down", self.served).await.expect("the gateway does not panic").expect("it ends in order");
    }
}
