//! A client that shows what is on the wire: HTTP/1.1 over a plain socket.

use serde_json::Value;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longer than anything here takes: what runs into it hangs.
const PATIENCE: Duration = Duration::from_secs(20);

pub struct Client {
    pub socket: BufReader<TcpStream>,
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn json(&self) -> Value {
        assert_eq!(self.header("content-type"), Some("application/json"));
        serde_json::from_slice(&self.body).unwrap()
    }
}

impl Client {
    pub async fn connect(address: SocketAddr) -> Self {
        Self { socket: BufReader::new(TcpStream::connect(address).await.unwrap()) }
    }

    pub async fn post(&mut self, path: &str, message: &Value) -> Answer {
        self.post_text(path, "application/json", message.to_string()).await
    }

    pub async fn post_text(&mut self, path: &str, content_type: &str, body: impl AsRef<[u8]>) -> Answer {
        let body = body.as_ref();
        let head = format!("content-type: {content_type}\r\ncontent-length: {}\r\n", body.len());
        self.send(&[request("POST", path, &head).as_bytes(), body].concat()).await;
        self.answer().await
    }

    pub async fn get(&mut self, path: &str) -> Answer {
        self.ask("GET", path, "").await
    }

    /// A request without a body. Every line of `headers` ends in `\r\n`.
    pub async fn ask(&mut self, method: &str, path: &str, headers: &str) -> Answer {
        self.send(request(method, path, headers).as_bytes()).await;
        let mut answer = self.head().await;
        if method != "HEAD" {
            answer.body = self.body(&answer).await;
        }
        answer
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        self.socket.get_mut().write_all(bytes).await.unwrap();
    }

    pub async fn answer(&mut self) -> Answer {
        let mut answer = self.head().await;
        answer.body = self.body(&answer).await;
        answer
    }

    /// The status and the headers of an answer.
    pub async fn head(&mut self) -> Answer {
        let status = self.line().await;
        let status = status.split(' ').nth(1).and_then(|status| status.parse().ok());
        let mut headers = Vec::new();
        loop {
            let line = self.line().await;
            let Some((name, value)) = line.split_once(':') else { break };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        Answer { status: status.expect("a status line"), headers, body: Vec::new() }
    }

    async fn body(&mut self, head: &Answer) -> Vec<u8> {
        match head.header("content-length") {
            _ if head.status == 204 => Vec::new(),
            Some(length) => {
                let mut body = vec![0; length.parse().unwrap()];
                timeout(PATIENCE, self.socket.read_exact(&mut body)).await.expect("a body in time").unwrap();
                body
            }
            None => {
                let mut body = Vec::new();
                while let Some(mut chunk) = self.chunk().await {
                    body.append(&mut chunk);
                }
                body
            }
        }
    }

    /// The next chunk of a chunked body; none at its end.
    pub async fn chunk(&mut self) -> Option<Vec<u8>> {
        let length = usize::from_str_radix(&self.line().await, 16).unwrap();
        let mut chunk = vec![0; length];
        timeout(PATIENCE, self.socket.read_exact(&mut chunk)).await.expect("a chunk in time").unwrap();
        self.line().await;
        (length > 0).then_some(chunk)
    }

    async fn line(&mut self) -> String {
        let mut line = String::new();
        timeout(PATIENCE, self.socket.read_line(&mut line)).await.expect("a line in time").unwrap();
        line.trim_end().to_owned()
    }

    /// What the gateway still sends before it closes.
    pub async fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        let read = timeout(PATIENCE, self.socket.read_to_end(&mut rest)).await.expect("the connection closes in time");
        // It may close by a reset, where it has not read all that was sent.
        read.map(|_| rest).unwrap_or_default()
    }
}

pub fn request(method: &str, path: &str, headers: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nhost: gateway\r\n{headers}\r\n")
}
