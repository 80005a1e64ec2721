//! The body of a request, which tells whether a connection has begun to take the request.

use hyper::body::{Bytes, Frame, SizeHint};
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

/// Sent in one piece. A connection asks for it only after it has taken the head of the request.
pub(super) struct Body {
    bytes: Option<Bytes>,
    taken: Taken,
}

/// True as soon as the receiver may have got some of the request.
#[derive(Clone)]
pub(super) struct Taken(Arc<AtomicBool>);

impl Taken {
    pub(super) fn get(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

impl Body {
    pub(super) fn new(bytes: Bytes) -> Self {
        // Nobody asks for an empty body: then there is no knowing, and it counts as taken.
        let taken = Taken(Arc::new(AtomicBool::new(bytes.is_empty())));
        Self { bytes: Some(bytes), taken }
    }

    pub(super) fn taken(&self) -> Taken {
        self.taken.clone()
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.taken.0.store(true, Ordering::Release);
        Poll::Ready(self.bytes.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}
