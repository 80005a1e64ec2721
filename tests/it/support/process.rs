//! A gateway as a process of its own: the real executable.

use super::client::Client;
use super::gateway::variable;
use super::soon;
use std::fmt::Display;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use tempfile::TempDir;
use tokio::sync::oneshot;

/// A process that serves; killed when dropped.
#[derive(Debug)]
pub struct Process {
    pub grpc: SocketAddr,
    child: Option<Child>,
    /// Where it keeps its messages, unless it was told where.
    _folder: TempDir,
}

impl Process {
    /// Starts the executable with settings that differ from the defaults, and waits until it says where it listens.
    pub async fn start(settings: &[(&str, &dyn Display)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cim-gateway"));
        command.env("CIM_LOG__FORMAT", "json").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        for (key, value) in [("grpc.listen", &"127.0.0.1:0" as &dyn Display), ("http.listen", &"127.0.0.1:0")] {
            command.env(variable(key), value.to_string());
        }
        let folder = tempfile::tempdir().expect("a folder can be made");
        command.env(variable("store.embedded.data_dir"), folder.path().join("data"));
        // Small, because each is filled with zeros before it is used.
        command.env(variable("store.embedded.segment"), "1 MiB");
        for (key, value) in settings {
            command.env(variable(key), value.to_string());
        }
        let mut child = command.spawn().expect("the executable runs");
        let log = BufReader::new(child.stderr.take().expect("standard error is a pipe"));
        let (bound, address) = oneshot::channel();
        // Reads the log to its end, so that the process never waits for somebody to read it.
        std::thread::spawn(move || {
            let mut bound = Some(bound);
            for line in log.lines().map_while(Result::ok) {
                if let Some(address) = grpc_address(&line)
                    && let Some(bound) = bound.take()
                {
                    let _ = bound.send(address);
                }
            }
        });
        let mut process = Self { grpc: SocketAddr::from(([0, 0, 0, 0], 0)), child: Some(child), _folder: folder };
        process.grpc = soon("the log to say where it listens", address).await.expect("the process says where it listens");
        process
    }

    /// A client with a connection of its own.
    pub async fn client(&self) -> Client {
        Client::to(self.grpc).await
    }

    /// Sends a signal, such as `TERM`.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([format!("-{name}"), self.id().to_string()]).status();
        assert!(sent.expect("kill runs").success());
    }

    /// Waits until the process has ended.
    pub async fn ended(mut self) -> ExitStatus {
        let mut child = self.child.take().expect("a process ends once");
        let waiting = tokio::task::spawn_blocking(move || child.wait().expect("a child can be waited for"));
        soon("the process to end", waiting).await.expect("waiting does not panic")
    }

    /// Bytes of memory that the process has in use.
    pub fn resident_bytes(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).expect("the process runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a process has memory");
        let kib: usize = line.trim().trim_end_matches("kB").trim().parse().expect("VmRSS is a number");
        kib * 1024
    }

    fn id(&self) -> u32 {
        self.child.as_ref().expect("the process has not been waited for").id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The address in the field `grpc` of a line of the log, wherever the line has its fields.
fn grpc_address(line: &str) -> Option<SocketAddr> {
    let line: serde_json::Value = serde_json::from_str(line).ok()?;
    let field = line.get("grpc").or_else(|| line.get("fields")?.get("grpc"))?;
    field.as_str()?.parse().ok()
}
