//! A webhook that answers as it is told, and tells what it was called with.

use super::soon;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;
use serde_json::Value;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::AbortOnDropHandle;

/// One call.
#[derive(Debug, Clone)]
pub struct Call {
    /// The same on every attempt of a delivery.
    pub id: String,
    pub path: String,
    pub headers: HeaderMap,
    pub body: Value,
}

impl Call {
    /// The text of the message.
    pub fn said(&self) -> String {
        let body = &self.body["body"];
        let text = if body["type"] == "NOTIFICATION" { &body["notificationType"] } else { &body["markdownText"] };
        text.as_str().unwrap_or_default().to_owned()
    }
}

/// What is answered.
#[derive(Debug)]
pub enum Reply {
    /// A status and no body.
    Status(u16),
    /// A status and a body.
    With(u16, Value),
    /// A status and a header.
    Header(u16, &'static str, &'static str),
    /// What another decides, later.
    Later(oneshot::Receiver<u16>),
}

type Rule = dyn FnMut(&Call) -> Reply + Send;

#[derive(Clone)]
struct Desk {
    calls: mpsc::UnboundedSender<Call>,
    rule: Arc<Mutex<Box<Rule>>>,
}

/// A receiver that lives as long as it is kept.
pub struct Receiver {
    pub address: SocketAddr,
    calls: mpsc::UnboundedReceiver<Call>,
    _serving: AbortOnDropHandle<()>,
}

impl Receiver {
    /// A receiver that answers every call by a rule.
    pub async fn answering(rule: impl FnMut(&Call) -> Reply + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        Self::on(listener, rule)
    }

    /// The same, on a port that was taken before.
    pub fn on(listener: TcpListener, rule: impl FnMut(&Call) -> Reply + Send + 'static) -> Self {
        let address = listener.local_addr().expect("it is bound");
        let (sender, calls) = mpsc::unbounded_channel();
        let desk = Desk { calls: sender, rule: Arc::new(Mutex::new(Box::new(rule))) };
        let router = Router::new().fallback(receive).with_state(desk);
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.expect("serves") });
        Self { address, calls, _serving: AbortOnDropHandle::new(serving) }
    }

    /// A receiver that takes everything.
    pub async fn willing() -> Self {
        Self::answering(|_| Reply::Status(200)).await
    }

    /// A receiver that takes everything, but for the first call that says this: what that is answered with is to be told.
    pub async fn undecided(said: &'static str) -> (Self, oneshot::Sender<u16>) {
        let (decide, decided) = oneshot::channel();
        let mut decided = Some(decided);
        let rule = move |call: &Call| match decided.take_if(|_| call.said() == said) {
            Some(decided) => Reply::Later(decided),
            None => Reply::Status(200),
        };
        (Self::answering(rule).await, decide)
    }

    /// Where it is called.
    pub fn uri(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The next call.
    pub async fn call(&mut self) -> Call {
        soon("a call of the webhook", self.calls.recv()).await.expect("the receiver serves")
    }

    /// The next calls.
    pub async fn take(&mut self, count: usize) -> Vec<Call> {
        let mut calls = Vec::with_capacity(count);
        while calls.len() < count {
            calls.push(self.call().await);
        }
        calls
    }

    /// The calls that have come and were not taken yet.
    pub fn pending(&mut self) -> Vec<Call> {
        std::iter::from_fn(|| self.calls.try_recv().ok()).collect()
    }
}

async fn receive(State(desk): State<Desk>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let id = headers.get("webhook-id").and_then(|id| id.to_str().ok()).unwrap_or_default().to_owned();
    let call = Call { id, path: uri.path().to_owned(), headers, body: serde_json::from_slice(&body).unwrap_or_default() };
    let reply = (desk.rule.lock())(&call);
    // A test that no longer listens is not an error.
    let _unheard = desk.calls.send(call);
    let status = |status| StatusCode::from_u16(status).expect("is a status");
    match reply {
        Reply::Status(code) => status(code).into_response(),
        Reply::With(code, body) => (status(code), axum::Json(body)).into_response(),
        Reply::Header(code, name, value) => (status(code), [(name, value)]).into_response(),
        Reply::Later(decided) => match decided.await {
            Ok(code) => status(code).into_response(),
            Err(_) => std::future::pending().await,
        },
    }
}
