//! The gateway that is measured: in this process, with the embedded store, and webhooks at a receiver.

use crate::load;
use crate::sink::{NUMBER, Sink};
use cim_gateway::app;
use cim_gateway::config::Config;
use cim_gateway::pb;
use cim_gateway::pb::channel_service_client::ChannelServiceClient;
use cim_gateway::pb::message_service_client::MessageServiceClient;
use cim_gateway::webhook::Client;
use cim_gateway::wire;
use tempfile::TempDir;
use tokio::net::TcpSocket;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::transport::{Channel, Endpoint};

/// Connections by which messages are sent.
pub(crate) const CONNECTIONS: usize = 4;

/// Who there is. Customers are dealt out to the webhooks in turn; of those the first are healthy.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) webhooks: usize,
    pub(crate) customers: usize,
    /// So many webhooks answer 503, take 30 s, and do not listen.
    pub(crate) failing: usize,
    pub(crate) slow: usize,
    pub(crate) dead: usize,
}

impl Plan {
    pub(crate) const fn healthy(webhooks: usize, customers: usize) -> Self {
        Self { webhooks, customers, failing: 0, slow: 0, dead: 0 }
    }

    /// The webhook of a message.
    pub(crate) const fn webhook_of(&self, message: usize) -> usize {
        message % self.customers % self.webhooks
    }

    pub(crate) const fn is_healthy(&self, message: usize) -> bool {
        self.webhook_of(message) < self.webhooks - self.failing - self.slow - self.dead
    }

    /// How many of so many messages are for healthy webhooks.
    pub(crate) fn healthy_of(&self, messages: usize) -> usize {
        (0..messages).filter(|message| self.is_healthy(*message)).count()
    }

    /// A message by its number.
    pub(crate) fn message(&self, number: usize) -> pb::CimMessage {
        let mut message = wire::decode(include_bytes!("../plain.json"), 64).expect("the sample is JSON").message;
        // Each send is another message: the gateway gives the id, and the session is opened by the first.
        message.id = None;
        let header = message.header.get_or_insert_default();
        (header.channel_session_id, header.conversation_id, header.customer) = (None, None, None);
        header.sender.get_or_insert_default().r#type = pb::SenderType::Agent.into();
        let channel_data = header.channel_data.get_or_insert_default();
        channel_data.channel_customer_identifier = Some(format!("customer-{}", number % self.customers));
        channel_data.service_identifier = Some(channel(self.webhook_of(number)));
        number_it(&mut message, number);
        message
    }
}

fn channel(webhook: usize) -> String {
    format!("channel-{webhook}")
}

/// Gives a message its number.
pub(crate) fn number_it(message: &mut pb::CimMessage, number: usize) {
    let text = message.body.get_or_insert_default().markdown_text.get_or_insert_default();
    let rest = text.split_once(';').map_or(&**text, |(_, rest)| rest);
    *text = format!("{NUMBER}{number};{rest}");
}

/// A gateway that serves until it is stopped.
pub(crate) struct Running {
    pub(crate) plan: Plan,
    pub(crate) clients: Vec<MessageServiceClient<Channel>>,
    /// The client that the floor is measured with, set up as the gateway's.
    pub(crate) webhooks: Client,
    /// Attempts at a time on one webhook.
    pub(crate) in_flight: usize,
    stop: DropGuard,
    served: JoinHandle<Result<(), app::Error>>,
    // In the target folder: a temporary one may be in memory, where a sync costs nothing.
    _folder: TempDir,
    /// Ports where nobody listens, and nobody else can.
    _dead: Vec<TcpSocket>,
}

impl Running {
    pub(crate) async fn start(plan: &Plan, sink: &Sink) -> Self {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder can be made");
        let config = config(&folder);
        let webhooks = Client::new(app::webhook_settings(&config.webhook)).expect("there are no files to read");
        let in_flight = config.delivery.in_flight;
        let gateway = app::Gateway::bind(config).await.expect("a port is free");
        let address = gateway.grpc_address().expect("it is bound");
        let stop = CancellationToken::new();
        let served = tokio::spawn(gateway.serve(stop.clone().cancelled_owned()));
        let mut clients = Vec::new();
        for _ in 0..CONNECTIONS {
            let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address is a URI");
            clients.push(endpoint.connect().await.expect("the gateway listens"));
        }
        let dead: Vec<_> = (0..plan.dead)
            .map(|_| {
                let socket = TcpSocket::new_v4().expect("there are sockets");
                socket.bind(([127, 0, 0, 1], 0).into()).expect("a port is free");
                socket
            })
            .collect();
        let dead_ports = dead.iter().map(|socket| socket.local_addr().expect("it is bound").port());
        let mut channels = ChannelServiceClient::new(clients[0].clone());
        for (webhook, port) in sink.ports.iter().copied().chain(dead_ports).enumerate() {
            let connector = pb::Endpoint { uri: format!("http://127.0.0.1:{port}"), ..pb::Endpoint::default() };
            let channel = pb::Channel {
                service_identifier: channel(webhook),
                channel_type: "BENCH".into(),
                connector: Some(connector),
                ..pb::Channel::default()
            };
            let request = pb::CreateChannelRequest { channel: Some(channel) };
            channels.create_channel(request).await.expect("the channel is registered");
        }
        let clients = clients.into_iter().map(MessageServiceClient::new).collect();
        let (plan, stop) = (plan.clone(), stop.drop_guard());
        Self { plan, clients, webhooks, in_flight, stop, served, _folder: folder, _dead: dead }
    }

    /// Says something to every customer, so that all sessions are open.
    pub(crate) async fn meet(&self, sink: &mut Sink) {
        load::at_once(self, self.plan.customers).await;
        sink.take(self.plan.healthy_of(self.plan.customers));
    }

    pub(crate) async fn stop(self) {
        drop((self.stop, self.clients));
        self.served.await.expect("the gateway does not panic").expect("it ends in order");
    }
}

fn config(folder: &TempDir) -> Config {
    let data_dir = folder.path().join("data").display().to_string();
    let settings = [
        ("CIM_GRPC__LISTEN", "127.0.0.1:0"),
        ("CIM_HTTP__LISTEN", "127.0.0.1:0"),
        ("CIM_STORE__EMBEDDED__DATA_DIR", &data_dir),
        ("CIM_WEBHOOK__ALLOW", r#"["127.0.0.0/8"]"#),
        // One that takes 30 s shall hold its place for all of it, and so shall one that is held until all is accepted.
        ("CIM_WEBHOOK__TIMEOUT", "2m"),
        ("CIM_SHUTDOWN__GRACE", "0s"),
    ];
    Config::load(None, settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into_iter())
        .expect("the settings are valid")
}
