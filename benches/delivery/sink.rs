//! The receiver: a process of its own that reads HTTP/1.1 as cheaply as that can be done, answers, and notes when what has come.
//!
//! It is told what to do line by line: `hold` (answer nobody for now), `go`, and `take N`, which is answered with the times of
//! arrival as soon as N numbered messages have arrived.

use crate::figures::now;
use parking_lot::Mutex;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::time::sleep;

/// What makes this program a receiver.
pub(crate) const ARGUMENT: &str = "receive";

/// What a message has its number behind.
pub(crate) const NUMBER: &str = "no=";

/// How long one that is slow takes.
const SLOW: Duration = Duration::from_secs(30);

/// Far more than anything awaited takes.
const BOUND: Duration = Duration::from_secs(180);

/// A receiver that runs until it is dropped.
pub(crate) struct Sink {
    child: Child,
    told: ChildStdin,
    says: BufReader<ChildStdout>,
    /// Of those that answer, of those that fail, of those that are slow.
    pub(crate) ports: Vec<u16>,
}

/// What has come.
pub(crate) struct Taken {
    /// When each message came first, by its number; 0 for one that did not.
    pub(crate) arrivals: Vec<u64>,
}

impl Taken {
    /// Arrivals a second, of those after a time up to the last one.
    pub(crate) fn rate_since(&self, begun: u64) -> f64 {
        let count = self.arrivals.iter().filter(|at| **at > begun).count();
        let last = self.arrivals.iter().max().copied().unwrap_or_default();
        count as f64 * 1e9 / last.saturating_sub(begun) as f64
    }
}

impl Sink {
    /// Starts one with so many webhooks that answer, that fail, and that are slow.
    pub(crate) fn start(healthy: usize, failing: usize, slow: usize) -> Self {
        let program = std::env::current_exe().expect("this program has a file");
        let counts = [healthy, failing, slow].map(|count| count.to_string());
        let mut command = Command::new(program);
        command.arg(ARGUMENT).args(counts).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("this program runs");
        let told = child.stdin.take().expect("it is a pipe");
        let says = BufReader::new(child.stdout.take().expect("it is a pipe"));
        let mut sink = Self { child, told, says, ports: Vec::new() };
        sink.ports = sink.hear();
        sink
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// From now on it answers nobody.
    pub(crate) fn hold(&mut self) {
        self.tell("hold");
    }

    /// It answers all who wait, and all who come.
    pub(crate) fn go(&mut self) {
        self.tell("go");
    }

    /// Waits for so many messages, and takes what has come.
    pub(crate) fn take(&mut self, count: usize) -> Taken {
        self.tell(&format!("take {count}"));
        Taken { arrivals: tokio::task::block_in_place(|| self.hear()) }
    }

    fn tell(&mut self, line: &str) {
        writeln!(self.told, "{line}").expect("the receiver runs");
    }

    fn hear<T: std::str::FromStr<Err: std::fmt::Debug>>(&mut self) -> Vec<T> {
        let mut line = String::new();
        self.says.read_line(&mut line).expect("the receiver says something");
        assert!(!line.is_empty(), "the receiver has ended");
        line.split_whitespace().map(|number| number.parse().expect("it is a number")).collect()
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        let _ended = self.child.kill().and_then(|()| self.child.wait());
    }
}

/// How one of its webhooks answers.
#[derive(Debug, Clone, Copy)]
enum Mood {
    Healthy,
    Failing,
    Slow,
}

#[derive(Default)]
struct Noted {
    arrivals: Vec<u64>,
    count: usize,
    /// When so many have come, somebody is told.
    wanted: usize,
}

/// What all connections share.
struct Desk {
    noted: Mutex<Noted>,
    enough: Notify,
    held: watch::Sender<bool>,
}

/// Is the receiver, until it is killed.
pub(crate) async fn serve(counts: &[String]) {
    let moods = [Mood::Healthy, Mood::Failing, Mood::Slow];
    let desk = Arc::new(Desk { noted: Mutex::default(), enough: Notify::new(), held: watch::Sender::new(false) });
    let mut ports = Vec::new();
    for (mood, count) in moods.into_iter().zip(counts) {
        for _ in 0..count.parse().expect("it is a count") {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
            ports.push(listener.local_addr().expect("it is bound").port().to_string());
            let desk = desk.clone();
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    // Whoever closes a connection ends it.
                    tokio::spawn(connection(stream, mood, desk.clone()));
                }
            });
        }
    }
    println!("{}", ports.join(" "));
    let mut lines = tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(tokio::io::stdin()));
    while let Some(line) = lines.next_line().await.expect("standard input is read") {
        match line.split_once(' ') {
            None => _ = desk.held.send_replace(line == "hold"),
            Some((_, count)) => {
                let wanted: usize = count.parse().expect("it is a count");
                let has_come = {
                    let mut noted = desk.noted.lock();
                    noted.wanted = wanted;
                    noted.count
                };
                if has_come < wanted {
                    let enough = tokio::time::timeout(BOUND, desk.enough.notified()).await.is_ok();
                    assert!(enough, "{} of {wanted} messages have come", desk.noted.lock().count);
                }
                let noted = std::mem::take(&mut *desk.noted.lock());
                println!("{}", noted.arrivals.iter().map(u64::to_string).collect::<Vec<_>>().join(" "));
            }
        }
    }
}

async fn connection(mut stream: TcpStream, mood: Mood, desk: Arc<Desk>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::with_capacity(16 * 1024);
    loop {
        let (head, length) = loop {
            if let Some(found) = head(&buffer) {
                break found;
            }
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        };
        while buffer.len() < head + length {
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        }
        let number = number(&buffer[head..head + length]);
        buffer.drain(..head + length);
        match mood {
            Mood::Healthy => {
                if let Some(number) = number {
                    desk.note(number);
                }
                if *desk.held.borrow() {
                    let mut held = desk.held.subscribe();
                    let _gone = held.wait_for(|held| !held).await;
                }
            }
            Mood::Failing => {
                stream.write_all(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n").await?;
                continue;
            }
            Mood::Slow => sleep(SLOW).await,
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await?;
    }
}

impl Desk {
    fn note(&self, number: usize) {
        let now = now();
        let mut noted = self.noted.lock();
        if noted.arrivals.len() <= number {
            noted.arrivals.resize(number + 1, 0);
        }
        if noted.arrivals[number] == 0 {
            noted.arrivals[number] = now;
            noted.count += 1;
            if noted.count == noted.wanted {
                self.enough.notify_one();
            }
        }
    }
}

/// The length of the head of a request, and of its body; none while the head is not complete.
fn head(bytes: &[u8]) -> Option<(usize, usize)> {
    let end = find(bytes, b"\r\n\r\n")? + 4;
    let lines = bytes[..end].split(|byte| *byte == b'\n');
    let length = lines.filter_map(|line| {
        let (name, value) = line.split_at_checked(b"content-length:".len())?;
        name.eq_ignore_ascii_case(b"content-length:").then(|| std::str::from_utf8(value).ok())?
    });
    let length = length.map(|value| value.trim().parse().expect("a length is a number")).next();
    Some((end, length.expect("the gateway says how long its bodies are")))
}

/// The number of a message; none for what only opens a session.
fn number(body: &[u8]) -> Option<usize> {
    let digits = &body[find(body, NUMBER.as_bytes())? + NUMBER.len()..];
    let digits = digits.iter().map_while(|byte| char::from(*byte).to_digit(10));
    Some(digits.fold(0, |number, digit| number * 10 + digit as usize))
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
