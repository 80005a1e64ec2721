//! A socket, in TLS or not, that guards the two ends of a connection, where HTTP itself sets no limits of time.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// Longest that a client is given to take the last answer and close.
const LINGER: Duration = Duration::from_secs(1);

/// Bytes after which it is known whether a client speaks HTTP/1.1 or HTTP/2: the length of the preface of HTTP/2.
const PREFACE: usize = 24;

/// A client's socket. A client that never begins to speak is cut off; one that still sends when it is answered gets to read the
/// answer, because what it sends is read and dropped for a while: to close with unread bytes would take the answer back.
#[derive(Debug)]
pub(super) struct Lingering<S> {
    socket: S,
    /// Set until the client has begun.
    opening: Option<Pin<Box<Sleep>>>,
    heard: usize,
    closing: Option<Pin<Box<Sleep>>>,
}

impl<S: Unpin> Lingering<S> {
    /// A fresh connection, on which the client has to begin within `opening`.
    pub(super) fn new(socket: S, opening: Duration) -> Self {
        Self { socket, opening: Some(Box::pin(tokio::time::sleep(opening))), heard: 0, closing: None }
    }

    fn socket(&mut self) -> Pin<&mut S> {
        Pin::new(&mut self.socket)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Lingering<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = self.socket().poll_read(cx, buf);
        self.heard = self.heard.saturating_add(buf.filled().len() - before);
        if self.heard >= PREFACE {
            self.opening = None;
        }
        match &mut self.opening {
            Some(opening) if read.is_pending() => {
                ready!(opening.as_mut().poll(cx));
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
            _ => read,
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Lingering<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.opening = None;
        self.socket().poll_write(cx, buf)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.opening = None;
        self.socket().poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.closing.is_none() {
            ready!(self.socket().poll_shutdown(cx))?;
            self.closing = Some(Box::pin(tokio::time::sleep(LINGER)));
        }
        let mut dropped = [0; 8192];
        loop {
            if self.closing.as_mut().is_none_or(|closing| closing.as_mut().poll(cx).is_ready()) {
                return Poll::Ready(Ok(()));
            }
            let mut dropped = ReadBuf::new(&mut dropped);
            match ready!(self.socket().poll_read(cx, &mut dropped)) {
                Ok(()) if !dropped.filled().is_empty() => {}
                // The client has closed, one way or the other.
                _ => return Poll::Ready(Ok(())),
            }
        }
    }
}
