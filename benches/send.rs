//! `SendMessage` end to end against a floor: a tonic server that echoes the same message.
//!
//! `cargo bench --bench send` starts both servers in this process, drives each with 64 callers on one connection, in turns, and
//! prints the median rates and the median of the ratios, so that a machine whose speed drifts still gives the same answer.

use cim_gateway::app::Gateway;
use cim_gateway::config::Config;
use cim_gateway::pb;
use cim_gateway::pb::codec::Codec;
use cim_gateway::pb::message_service_client::MessageServiceClient;
use cim_gateway::wire;
use std::convert::Infallible;
use std::future::{Future, Ready, pending, ready};
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::codegen::{Body, Service, StdError, http};
use tonic::server::{NamedService, UnaryService};
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status};

// As the program does.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Callers at a time, all on one connection.
const CALLERS: usize = 64;

/// How long each server is driven in one round.
const SLICE: Duration = Duration::from_secs(2);

/// Rounds of which the median counts.
const ROUNDS: usize = 7;

#[tokio::main]
async fn main() {
    let message = sample();
    // In the target folder: a temporary one may be in memory, where a sync costs nothing.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder can be made");
    let memory = connect(start_gateway("memory", folder.path()).await).await;
    let embedded = connect(start_gateway("embedded", folder.path()).await).await;
    let echo = connect(start_echo().await).await;
    // `cargo bench -- --quick`, for a check that it still runs.
    let most = if std::env::args().any(|argument| argument == "--quick") { 1 } else { ROUNDS };
    let mut rounds = Vec::new();
    for _ in 0..=most {
        let memory = rate(caller(&memory, &message, send)).await;
        let embedded = rate(caller(&embedded, &message, send)).await;
        let floor = rate(caller(&echo, &message, call_echo)).await;
        rounds.push(Round { memory, embedded, floor });
    }
    // The first round warms up.
    rounds.remove(0);
    let median = |figure: fn(&Round) -> f64| {
        let mut figures: Vec<_> = rounds.iter().map(figure).collect();
        figures.sort_by(f64::total_cmp);
        figures[figures.len() / 2]
    };
    println!("SendMessage, {CALLERS} callers on one connection");
    println!("  accepted per second, embedded  {:>9.0}", median(|round| round.embedded));
    println!("  accepted per second, memory    {:>9.0}", median(|round| round.memory));
    println!("  echoes per second (floor)      {:>9.0}", median(|round| round.floor));
    println!("  x floor, embedded              {:>9.2}", median(|round| round.embedded / round.floor));
    println!("  x floor, memory                {:>9.2}", median(|round| round.memory / round.floor));
}

/// Calls per second.
struct Round {
    memory: f64,
    embedded: f64,
    floor: f64,
}

fn sample() -> pb::CimMessage {
    let json = include_bytes!("plain.json");
    let mut message = wire::decode(json, 64).expect("the sample is JSON").message;
    // Each send is another message: the gateway gives the id, and the session is opened by the first.
    message.id = None;
    if let Some(header) = &mut message.header {
        (header.channel_session_id, header.conversation_id) = (None, None);
    }
    message
}

/// Calls per second of all callers together.
async fn rate<F: Future<Output = ()> + Send + 'static>(call: impl Fn() -> F + Clone + Send + 'static) -> f64 {
    let end = Instant::now() + SLICE;
    let callers = (0..CALLERS).map(|_| {
        let call = call.clone();
        tokio::spawn(async move {
            let mut calls = 0_u64;
            while Instant::now() < end {
                call().await;
                calls += 1;
            }
            calls
        })
    });
    let mut calls = 0;
    for caller in callers.collect::<Vec<_>>() {
        calls += caller.await.expect("a caller does not panic");
    }
    calls as f64 / SLICE.as_secs_f64()
}

fn caller<F>(
    channel: &Channel,
    message: &pb::CimMessage,
    call: fn(Channel, pb::CimMessage) -> F,
) -> impl Fn() -> F + Clone + Send + 'static
where
    F: Future<Output = ()> + 'static,
{
    let (channel, message) = (channel.clone(), message.clone());
    move || call(channel.clone(), message.clone())
}

async fn send(channel: Channel, message: pb::CimMessage) {
    let mut client = MessageServiceClient::new(channel);
    let request = pb::SendMessageRequest { message: Some(message), delivery_wait: None };
    client.send_message(request).await.expect("the message is accepted");
}

async fn call_echo(channel: Channel, message: pb::CimMessage) {
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.expect("the server is there");
    let request = Request::new(pb::SendMessageRequest { message: Some(message), delivery_wait: None });
    let codec = Codec::<pb::SendMessageRequest, pb::SendMessageRequest>::default();
    let echoed = client.unary(request, PathAndQuery::from_static("/bench.Echo/Echo"), codec).await;
    echoed.expect("the message comes back");
}

async fn connect(address: SocketAddr) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address is a URI");
    endpoint.connect().await.expect("the server listens")
}

async fn start_gateway(engine: &str, folder: &Path) -> SocketAddr {
    let local = [("CIM_GRPC__LISTEN", "127.0.0.1:0"), ("CIM_HTTP__LISTEN", "127.0.0.1:0"), ("CIM_STORE__ENGINE", engine)];
    let variables = local.map(|(name, value)| (name.to_owned(), value.to_owned())).into_iter();
    let data_dir = ("CIM_STORE__EMBEDDED__DATA_DIR".to_owned(), folder.display().to_string());
    let config = Config::load(None, variables.chain([data_dir])).expect("the defaults are valid");
    let gateway = Gateway::bind(config).await.expect("a port is free");
    let address = gateway.grpc_address().expect("it is bound");
    tokio::spawn(gateway.serve(pending()));
    address
}

async fn start_echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    tokio::spawn(Server::builder().add_service(Echo).serve_with_incoming(incoming));
    address
}

/// Answers every call with what was sent: all that tonic must do, and nothing else.
#[derive(Debug, Clone)]
struct Echo;

impl NamedService for Echo {
    const NAME: &'static str = "bench.Echo";
}

impl UnaryService<pb::SendMessageRequest> for Echo {
    type Response = pb::SendMessageRequest;
    type Future = Ready<Result<Response<pb::SendMessageRequest>, Status>>;

    fn call(&mut self, request: Request<pb::SendMessageRequest>) -> Self::Future {
        ready(Ok(Response::new(request.into_inner())))
    }
}

impl<B> Service<http::Request<B>> for Echo
where
    B: Body + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        Box::pin(async {
            let codec = Codec::<pb::SendMessageRequest, pb::SendMessageRequest>::default();
            Ok(tonic::server::Grpc::new(codec).unary(Echo, request).await)
        })
    }
}
