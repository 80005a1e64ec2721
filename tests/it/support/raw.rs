//! A client that says exactly what it is told to, byte by byte and frame by frame (RFC 9113, RFC 7541).

use super::soon;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

/// What every HTTP/2 client says first.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The path of a method of the service.
pub fn path(method: &str) -> String {
    format!("/cim.v1.MessageService/{method}")
}

/// A message as gRPC frames it.
pub fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).expect("messages in tests are small");
    [&[0], &length.to_be_bytes()[..], message].concat()
}

/// Kinds of frames.
pub mod kind {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
}

/// A frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// The values of a SETTINGS frame, by their numbers.
    pub fn settings(&self) -> Vec<(u16, u32)> {
        assert_eq!(self.kind, kind::SETTINGS);
        let setting = |bytes: &[u8]| {
            let number = u16::from_be_bytes([bytes[0], bytes[1]]);
            (number, u32::from_be_bytes([bytes[2], bytes[3], bytes[4], bytes[5]]))
        };
        self.payload.chunks_exact(6).map(setting).collect()
    }

    /// The number that a RST_STREAM or WINDOW_UPDATE frame holds.
    pub fn number(&self) -> u32 {
        u32::from_be_bytes(self.payload[..4].try_into().expect("the frame holds a number"))
    }
}

/// A connection.
#[derive(Debug)]
pub struct Raw {
    stream: TcpStream,
}

impl Raw {
    /// Connects, and says nothing.
    pub async fn to(address: SocketAddr) -> Self {
        Self { stream: soon("a connection", TcpStream::connect(address)).await.expect("the gateway listens") }
    }

    /// Connects, and speaks HTTP/2.
    pub async fn http2(address: SocketAddr) -> Self {
        let mut raw = Self::to(address).await;
        raw.send(PREFACE).await;
        raw.frame_out(kind::SETTINGS, 0, 0, &[]).await;
        raw
    }

    /// Subscribes with windows as large as they can be, and hears the first of it.
    pub async fn greedy(address: SocketAddr, subscription: Vec<u8>) -> Self {
        const INITIAL_WINDOW_SIZE: u16 = 4;
        const LARGEST_WINDOW: u32 = (1 << 31) - 1;
        let socket = TcpSocket::new_v4().expect("there are sockets");
        // So that it is the gateway that has to hold things, not the network.
        socket.set_recv_buffer_size(4096).expect("a buffer may be small");
        let stream = soon("a connection", socket.connect(address)).await.expect("the gateway listens");
        let mut raw = Self { stream };
        raw.send(PREFACE).await;
        let window = [&INITIAL_WINDOW_SIZE.to_be_bytes()[..], &LARGEST_WINDOW.to_be_bytes()].concat();
        raw.frame_out(kind::SETTINGS, 0, 0, &window).await;
        raw.frame_out(kind::WINDOW_UPDATE, 0, 0, &(LARGEST_WINDOW - 65_535).to_be_bytes()).await;
        raw.call(1, "SubscribeNotifications", Some(&subscription)).await;
        raw.frame_of(kind::DATA, 1).await;
        raw
    }

    /// Sends bytes.
    pub async fn send(&mut self, bytes: &[u8]) {
        soon("bytes to be taken", self.stream.write_all(bytes)).await.expect("the connection is open");
    }

    /// Sends a frame.
    pub async fn frame_out(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).expect("frames in tests are small").to_be_bytes();
        let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
        self.send(&[&head, payload].concat()).await;
    }

    /// Opens a call, with its request if there is one.
    pub async fn call(&mut self, stream: u32, method: &str, request: Option<&[u8]>) {
        let path = path(method);
        let headers = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", &path),
            (":authority", "gateway"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ];
        let block = headers.iter().flat_map(|(name, value)| literal(name, value)).collect::<Vec<_>>();
        const END_HEADERS: u8 = 4;
        const END_STREAM: u8 = 1;
        self.frame_out(kind::HEADERS, END_HEADERS, stream, &block).await;
        if let Some(request) = request {
            self.frame_out(kind::DATA, END_STREAM, stream, &framed(request)).await;
        }
    }

    /// The next frame; none when the gateway has closed the connection.
    pub async fn frame(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        soon("a frame", self.stream.read_exact(&mut head)).await.ok()?;
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        soon("a frame", self.stream.read_exact(&mut payload)).await.ok()?;
        let stream = u32::from_be_bytes(head[5..].try_into().expect("nine bytes"));
        Some(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    /// The next frame of a kind on a stream; others before it are passed over.
    pub async fn frame_of(&mut self, kind: u8, stream: u32) -> Frame {
        soon(&format!("a frame of kind {kind} on stream {stream}"), async {
            loop {
                match self.frame().await {
                    Some(frame) if frame.kind == kind && frame.stream == stream => return frame,
                    Some(_) => {}
                    None => panic!("the connection was closed before a frame of kind {kind} on stream {stream}"),
                }
            }
        })
        .await
    }

    /// Everything that comes until the gateway closes the connection.
    pub async fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        // A connection that is reset has ended as well.
        let _ = soon("the connection to be closed", self.stream.read_to_end(&mut rest)).await;
        rest
    }
}

/// A header as HPACK has it without any table.
fn literal(name: &str, value: &str) -> Vec<u8> {
    let text = |text: &str| {
        let length = u8::try_from(text.len()).ok().filter(|length| *length < 127).expect("headers in tests are short");
        [&[length], text.as_bytes()].concat()
    };
    [vec![0], text(name), text(value)].concat()
}
