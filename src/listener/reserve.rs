//! Places beyond the bound: a gateway that is full answers probes there, and tells everybody else that it is full.
//!
//! Nobody keeps such a place. Who is there gets a place within the bound for the first request that finds one, or leaves soon. Where many
//! come, who came first leaves first, so that those who say nothing are in no probe's way.

use super::Face;
use axum::BoxError;
use axum::body::{Bytes, HttpBody};
use axum::http::{HeaderValue, Request, Version, header};
use axum::response::Response;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

/// Most connections beyond the bound: with [`PARTING`] they bound how many may come in a second before a probe has to wait.
const MOST: usize = 256;

/// Connections beyond the bound that need not leave for one that comes. The others are what those have that are leaving.
const UNDISTURBED: usize = 128;

/// Longest that a connection is beyond the bound, and that a request waits for a place within it: shorter than probes wait for an answer.
pub(super) const SHORT: Duration = Duration::from_secs(2);

/// It is told at most so often that a listener is full: strangers decide how often it is.
const QUIET: Duration = Duration::from_secs(60);

/// Longest that it takes to leave: the last answer has to go out.
pub(super) const PARTING: Duration = Duration::from_millis(250);

/// The places of a listener, within the bound and beyond.
#[derive(Debug)]
pub(super) struct Places {
    within: Arc<Semaphore>,
    beyond: Arc<Semaphore>,
    /// How each of those beyond the bound is told to leave, who came first before the others.
    guests: VecDeque<CancellationToken>,
    /// When it was last told that all places within the bound are taken.
    told: Option<Instant>,
}

/// The place of a connection.
#[derive(Debug)]
pub(super) enum Place {
    /// Within the bound, for as long as the connection likes.
    Within { _permit: OwnedSemaphorePermit },
    /// Beyond it.
    Beyond(Arc<Guest>),
}

impl Places {
    pub(super) fn new(bound: usize) -> Self {
        let [within, beyond] = [bound, MOST].map(|places| Arc::new(Semaphore::new(places)));
        Self { within, beyond, guests: VecDeque::new(), told: None }
    }

    /// Room for a connection beyond the bound: who accepts one has it first. It waits only for those who are leaving.
    pub(super) async fn room(&self) -> OwnedSemaphorePermit {
        self.beyond.clone().acquire_owned().await.expect("the places are never closed")
    }

    /// The place of a connection that was accepted: beyond the bound, in `room`, if there is none within.
    pub(super) fn place(&mut self, room: OwnedSemaphorePermit) -> Place {
        if let Ok(permit) = self.within.clone().try_acquire_owned() {
            return Place::Within { _permit: permit };
        }
        let now = Instant::now();
        if self.told.is_none_or(|told| now >= told + QUIET) {
            self.told = Some(now);
            tracing::warn!("all connections that a listener takes are in use; max_connections sets how many");
        }
        let guest = Guest {
            within: self.within.clone(),
            leave: CancellationToken::new(),
            until: now + SHORT,
            held: Mutex::new(Held { standing: Standing::Beyond, _permit: room }),
        };
        self.guests.retain(|other| !other.is_cancelled());
        self.guests.push_back(guest.leave.clone());
        if self.guests.len() > UNDISTURBED
            && let Some(first) = self.guests.pop_front()
        {
            first.cancel();
        }
        Place::Beyond(Arc::new(guest))
    }
}

/// A connection that came when the gateway was full.
#[derive(Debug)]
pub(super) struct Guest {
    within: Arc<Semaphore>,
    /// Cancelled once it is to leave, or has a place within the bound, or is gone.
    leave: CancellationToken,
    until: Instant,
    held: Mutex<Held>,
}

/// The place that it has now.
#[derive(Debug)]
struct Held {
    standing: Standing,
    _permit: OwnedSemaphorePermit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Beyond,
    /// Beyond the bound, and it gets no other place any more.
    Leaving,
    Within,
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.leave.cancel();
    }
}

impl Guest {
    /// Returns when it has to leave: never if it gets a place within the bound.
    pub(super) async fn leaves(&self) {
        let _in_time = timeout_at(self.until, self.leave.cancelled()).await;
        if !self.must_leave() {
            std::future::pending::<()>().await;
        }
        // So that requests that wait for a place are answered.
        self.leave.cancel();
    }

    /// True if it has no place within the bound. Then it gets none any more.
    fn must_leave(&self) -> bool {
        let mut held = self.held.lock();
        if held.standing == Standing::Beyond {
            held.standing = Standing::Leaving;
        }
        held.standing == Standing::Leaving
    }

    fn is_within(&self) -> bool {
        self.held.lock().standing == Standing::Within
    }

    /// Answers a request: a probe at once, any other if there is a place within the bound in time.
    pub(super) async fn answer<B>(self: Arc<Self>, face: Face, request: Request<B>) -> Result<Response, Infallible>
    where
        B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        let version = request.version();
        let is_served = face.probes.contains(&request.uri().path()) || self.moves_within().await;
        let mut response = if is_served { face.router } else { face.full }.oneshot(request).await?;
        if version <= Version::HTTP_11 && !self.is_within() {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        Ok(response)
    }

    /// Waits for a place within the bound, and keeps that. False if there is none in time.
    async fn moves_within(&self) -> bool {
        if self.is_within() {
            return true;
        }
        let place = tokio::select! {
            biased;
            () = self.leave.cancelled() => None,
            place = timeout_at(self.until, self.within.clone().acquire_owned()) => place.ok().and_then(Result::ok),
        };
        let mut held = self.held.lock();
        if let (Standing::Beyond, Some(permit)) = (held.standing, place) {
            *held = Held { standing: Standing::Within, _permit: permit };
            self.leave.cancel();
        }
        held.standing == Standing::Within
    }
}
