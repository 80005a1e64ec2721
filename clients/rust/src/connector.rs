//! One channel's connector.

use crate::pb::message_service_client::MessageServiceClient;
use crate::pb::subscribe_notifications_request::Start;
use crate::pb::subscribe_notifications_response::Event;
use crate::pb::{
    AcceptedMessage, CimMessage, NotificationFilter, SendMessageRequest, SendMessageResponse, SubscribeNotificationsRequest,
};
use crate::report;
use std::error::Error;
use std::ops::ControlFlow;
use std::time::Duration;
use tonic::metadata::AsciiMetadataValue;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

/// Between one attempt and the next.
const PAUSE: Duration = Duration::from_millis(500);

/// How often a message is sent whose outcome is unknown.
const ATTEMPTS: usize = 20;

/// Shows the API key with every call, if there is one.
#[derive(Clone)]
struct ShowKey(Option<AsciiMetadataValue>);

impl Interceptor for ShowKey {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(bearer) = &self.0 {
            request.metadata_mut().insert("authorization", bearer.clone());
        }
        Ok(request)
    }
}

pub(crate) struct Connector {
    client: MessageServiceClient<InterceptedService<Channel, ShowKey>>,
    channel: String,
}

impl Connector {
    /// Connects when the first call is made, and again whenever the connection is lost.
    pub(crate) fn new(server: &str, api_key: &str, channel: &str) -> Result<Self, Box<dyn Error>> {
        let endpoint = Endpoint::from_shared(server.to_owned())?.http2_keep_alive_interval(Duration::from_secs(30));
        let bearer = if api_key.is_empty() { None } else { Some(format!("Bearer {api_key}").parse()?) };
        let client = MessageServiceClient::with_interceptor(endpoint.connect_lazy(), ShowKey(bearer));
        Ok(Self { client, channel: channel.to_owned() })
    }

    /// Hands a message to the gateway. One whose outcome is unknown is sent again: it has an id, so the gateway stores it once.
    pub(crate) async fn send(&self, message: CimMessage) -> Result<SendMessageResponse, Status> {
        for _ in 1..ATTEMPTS {
            match self.send_once(&message).await {
                Err(status) if is_lost(&status) => tokio::time::sleep(PAUSE).await,
                outcome => return outcome,
            }
        }
        self.send_once(&message).await
    }

    async fn send_once(&self, message: &CimMessage) -> Result<SendMessageResponse, Status> {
        let mut request = Request::new(SendMessageRequest { message: Some(message.clone()), ..SendMessageRequest::default() });
        request.set_timeout(Duration::from_secs(30));
        self.client.clone().send_message(request).await.map(tonic::Response::into_inner)
    }

    /// Reads every accepted message of the channel that is selected, after a cursor and over any number of connections, until
    /// `read` breaks off.
    pub(crate) async fn follow(
        &self,
        mut after: String,
        selected: NotificationFilter,
        mut read: impl AsyncFnMut(AcceptedMessage) -> Result<ControlFlow<()>, Status>,
    ) -> Result<(), Status> {
        let filter = NotificationFilter { service_identifiers: vec![self.channel.clone()], ..selected };
        loop {
            match self.follow_once(&mut after, &filter, &mut read).await {
                Err(status) if is_lost(&status) => {
                    report::disconnected(&after);
                    tokio::time::sleep(PAUSE).await;
                }
                outcome => return outcome,
            }
        }
    }

    /// Reads over one connection. `after` is the cursor of the last message that was read.
    async fn follow_once(
        &self,
        after: &mut String,
        filter: &NotificationFilter,
        read: &mut impl AsyncFnMut(AcceptedMessage) -> Result<ControlFlow<()>, Status>,
    ) -> Result<(), Status> {
        // Without a start: what is accepted from now on.
        let start = (!after.is_empty()).then(|| Start::AfterCursor(after.clone()));
        let request =
            SubscribeNotificationsRequest { filter: Some(filter.clone()), start, ..SubscribeNotificationsRequest::default() };
        let mut events = self.client.clone().subscribe_notifications(request).await?.into_inner();
        while let Some(response) = events.message().await? {
            match response.event {
                Some(Event::Heartbeat(heartbeat)) => {
                    report::heartbeat(&heartbeat.cursor);
                    *after = heartbeat.cursor;
                }
                Some(Event::Notification(accepted)) => {
                    let cursor = accepted.cursor.clone();
                    if read(accepted).await?.is_break() {
                        return Ok(());
                    }
                    *after = cursor;
                }
                None => {}
            }
        }
        Err(Status::unavailable("the stream ended"))
    }
}

/// True if the gateway is away for now. A connection that breaks within a stream is UNKNOWN to tonic; what tells it from an answer
/// of the gateway is that it has a source.
fn is_lost(status: &Status) -> bool {
    status.code() == Code::Unavailable || (status.code() == Code::Unknown && status.source().is_some())
}
