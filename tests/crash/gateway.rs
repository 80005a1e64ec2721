//! The gateway under attack.

use crate::support::client::Client;
use crate::support::gateway::variable;
use crate::support::{eventually, soon};
use parking_lot::Mutex;
use serde_json::Value as Json;
use std::fmt::Display;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

/// The executable under attack.
pub fn executable() -> PathBuf {
    std::env::var_os("CRASH_GATEWAY").map_or_else(|| env!("CARGO_BIN_EXE_cim-gateway").into(), PathBuf::from)
}

/// How a gateway is started.
#[derive(Debug, Clone)]
pub struct Start {
    data: PathBuf,
    variables: Vec<(String, String)>,
}

impl Start {
    /// On the messages in `data`.
    pub fn on(data: &Path) -> Self {
        let start = Self { data: data.to_owned(), variables: Vec::new() };
        start.set("grpc.listen", "127.0.0.1:0").set("http.listen", "127.0.0.1:0").set("store.embedded.segment", "1 MiB")
    }

    /// With another setting, by its key in the configuration.
    pub fn set(self, key: &str, value: impl Display) -> Self {
        self.variable(&variable(key), value)
    }

    /// With a variable of the environment.
    pub fn variable(mut self, name: &str, value: impl Display) -> Self {
        self.variables.push((name.to_owned(), value.to_string()));
        self
    }

    /// Starts it. Returns as soon as it says where it listens.
    pub async fn now(&self) -> Gateway {
        let mut command = Command::new(executable());
        command.arg("serve").arg("--data-dir").arg(&self.data).env("CIM_LOG__FORMAT", "json");
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the executable runs");
        let lines = BufReader::new(child.stderr.take().expect("standard error is a pipe"));
        let log = Arc::new(Mutex::new(Vec::new()));
        let (up, is_up) = oneshot::channel();
        let kept = log.clone();
        // Reads to the end, so that the process never waits for somebody to read.
        std::thread::spawn(move || {
            let mut up = Some(up);
            for line in lines.lines().map_while(Result::ok) {
                if let Some(addresses) = addresses(&line)
                    && let Some(up) = up.take()
                {
                    let _gone = up.send(addresses);
                }
                kept.lock().push(line);
            }
        });
        let mut gateway = Gateway { grpc: ([0; 4], 0).into(), http: ([0; 4], 0).into(), child, log };
        (gateway.grpc, gateway.http) = match soon("the log to say where it listens", is_up).await {
            Ok(addresses) => addresses,
            Err(_) => panic!("it did not start: {:#?}", gateway.log()),
        };
        gateway
    }

    /// Starts it, and waits until it accepts messages.
    pub async fn ready(&self) -> Gateway {
        let mut gateway = self.now().await;
        gateway.is("ready").await;
        gateway
    }
}

/// A gateway that runs; killed when dropped.
#[derive(Debug)]
pub struct Gateway {
    pub grpc: SocketAddr,
    http: SocketAddr,
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
}

impl Gateway {
    /// A client with a connection of its own.
    pub async fn client(&self) -> Client {
        Client::to(self.grpc).await
    }

    /// What it has logged.
    pub fn log(&self) -> Vec<String> {
        self.log.lock().clone()
    }

    /// What `/readyz` answers, unless there is no connection.
    pub async fn readyz(&self) -> Option<(u16, Json)> {
        let (status, body) = http(self.http, "GET", "/readyz", "").await?;
        Some((status, serde_json::from_str(&body).ok()?))
    }

    /// What a documented JSON message is answered with.
    pub async fn post(&self, body: &str) -> (u16, Json) {
        let (status, body) = http(self.http, "POST", "/ccm/message/receive", body).await.expect("an answer");
        (status, serde_json::from_str(&body).expect("answers are JSON"))
    }

    /// What `grpc.health.v1` says of a service.
    pub async fn serves(&self, service: &str) -> bool {
        let mut health = HealthClient::new(self.client().await.channel);
        let request = HealthCheckRequest { service: service.into() };
        let answer = soon("the health of a service", health.check(request)).await.expect("the service is known");
        answer.into_inner().status() == ServingStatus::Serving
    }

    /// Waits until `/readyz` says this.
    pub async fn is(&mut self, word: &str) {
        eventually(&format!("/readyz to say {word:?}"), async || {
            if let Ok(Some(status)) = self.child.try_wait() {
                panic!("it ended with {status}: {:#?}", self.log());
            }
            self.readyz().await.filter(|(_, body)| body["status"] == word)
        })
        .await;
    }

    /// Sends a signal, such as `TERM`.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([format!("-{name}"), self.child.id().to_string()]).stderr(Stdio::null()).status();
        // It may have ended by itself meanwhile.
        sent.expect("kill runs");
    }

    /// Ends it at once, with whatever it is doing; returns when it is gone.
    pub async fn kill(mut self) {
        self.child.kill().expect("a child can be killed");
        self.ended().await;
    }

    /// Waits until it has ended.
    pub async fn ended(&mut self) -> ExitStatus {
        eventually("the process to end", async || self.child.try_wait().expect("a child can be waited for")).await
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }
}

/// The addresses in a line of the log that has them.
fn addresses(line: &str) -> Option<(SocketAddr, SocketAddr)> {
    let line: Json = serde_json::from_str(line).ok()?;
    let field = |name| line.get(name).or_else(|| line.get("fields")?.get(name))?.as_str()?.parse().ok();
    Some((field("grpc")?, field("http")?))
}

/// Status and body of the answer to one request on a connection of its own.
async fn http(address: SocketAddr, method: &str, path: &str, body: &str) -> Option<(u16, String)> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await.ok()?;
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: gateway\r\nconnection: close\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
    };
    soon("an answer over HTTP", exchange).await
}
