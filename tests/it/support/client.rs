//! A client, and what it hears.

use super::messages::said;
use super::soon;
use cim_gateway::pb::message_service_client::MessageServiceClient;
use cim_gateway::pb::subscribe_notifications_response::Event;
use cim_gateway::pb::{
    AcceptedMessage, CimMessage, GetMessageRequest, ListMessagesRequest, ListMessagesResponse, SendMessageRequest,
    SendMessageResponse, SendMessagesRequest, SendMessagesResponse, SubscribeNotificationsRequest,
    SubscribeNotificationsResponse,
};
use futures::{Stream, StreamExt as _, stream};
use prost::bytes::{Buf as _, BufMut as _};
use std::net::SocketAddr;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};

/// A client with a connection of its own.
#[derive(Debug, Clone)]
pub struct Client {
    pub calls: MessageServiceClient<Channel>,
    pub channel: Channel,
}

impl Client {
    /// Connects.
    pub async fn to(address: SocketAddr) -> Self {
        soon("a connection", Self::try_to(address)).await.unwrap_or_else(|error| panic!("no connection to {address}: {error}"))
    }

    /// Connects, if that is possible.
    pub async fn try_to(address: SocketAddr) -> Result<Self, tonic::transport::Error> {
        let channel = Endpoint::from_shared(format!("http://{address}"))?.connect().await?;
        Ok(Self { calls: MessageServiceClient::new(channel.clone()), channel })
    }

    /// Sends a message, whatever the answer.
    pub async fn try_send(&self, message: impl Into<Option<CimMessage>>) -> Result<SendMessageResponse, Status> {
        let request = SendMessageRequest { message: message.into(), ..SendMessageRequest::default() };
        let mut calls = self.calls.clone();
        soon("an answer to SendMessage", calls.send_message(request)).await.map(tonic::Response::into_inner)
    }

    /// Sends a message that is accepted.
    pub async fn send(&self, message: CimMessage) -> SendMessageResponse {
        self.try_send(message).await.unwrap_or_else(|status| panic!("refused: {status:?}"))
    }

    /// Sends a message that is refused.
    pub async fn refused(&self, message: impl Into<Option<CimMessage>>) -> Status {
        match self.try_send(message).await {
            Ok(accepted) => panic!("accepted: {accepted:?}"),
            Err(status) => status,
        }
    }

    /// Opens a stream of messages.
    pub async fn sending(
        &self,
        messages: impl Stream<Item = CimMessage> + Send + 'static,
    ) -> Result<Streaming<SendMessagesResponse>, Status> {
        let requests = messages.map(|message| SendMessagesRequest { message: Some(message) });
        self.calls.clone().send_messages(requests).await.map(tonic::Response::into_inner)
    }

    /// Sends messages by one stream, all of which are accepted; their cursors.
    pub async fn send_all(&self, messages: impl IntoIterator<Item = CimMessage, IntoIter: Send + 'static>) -> Vec<String> {
        use cim_gateway::pb::send_messages_response::Result::{Accepted, Refused};
        let answers = soon("a stream to send by", self.sending(stream::iter(messages))).await.expect("the stream opens");
        let cursors = answers.map(|answer| match answer.expect("the stream lasts").result {
            Some(Accepted(accepted)) => accepted.cursor,
            Some(Refused(refusal)) => panic!("refused: {refusal:?}"),
            None => panic!("an answer without a result"),
        });
        cursors.collect().await
    }

    /// A message by its id.
    pub async fn message(&self, id: &str) -> Result<AcceptedMessage, Status> {
        let request = GetMessageRequest { message_id: id.into() };
        let mut calls = self.calls.clone();
        let response = soon("a message by its id", calls.get_message(request)).await?;
        Ok(response.into_inner().message.expect("a response holds the message"))
    }

    /// A page of a conversation's history, if there is one.
    pub async fn try_page(&self, conversation: &str, size: i32, token: &str) -> Result<ListMessagesResponse, Status> {
        let request = ListMessagesRequest { conversation_id: conversation.into(), page_size: size, page_token: token.into() };
        let mut calls = self.calls.clone();
        soon("a page of history", calls.list_messages(request)).await.map(tonic::Response::into_inner)
    }

    /// A page of a conversation's history.
    pub async fn page(&self, conversation: &str, size: i32, token: &str) -> ListMessagesResponse {
        self.try_page(conversation, size, token).await.unwrap_or_else(|status| panic!("no page: {status:?}"))
    }

    /// Calls any method with any bytes.
    pub async fn call(&self, path: &str, bytes: Vec<u8>) -> Result<Vec<u8>, Status> {
        let mut grpc = tonic::client::Grpc::new(self.channel.clone());
        soon("the connection", grpc.ready()).await.expect("the connection lasts");
        let path = path.parse().expect("paths in tests are paths");
        soon("an answer", grpc.unary(Request::new(bytes), path, AsIs)).await.map(tonic::Response::into_inner)
    }

    /// Subscribes, if that is possible. Returns when the subscription stands.
    pub async fn try_subscribe(&self, request: SubscribeNotificationsRequest) -> Result<Events, Status> {
        let mut calls = self.calls.clone();
        let stream = soon("a subscription", calls.subscribe_notifications(request)).await?.into_inner();
        let mut events = Events::of(stream);
        match events.next().await? {
            Event::Heartbeat(heartbeat) => (events.start, events.generation) = (heartbeat.cursor, heartbeat.generation),
            Event::Notification(notification) => panic!("a heartbeat comes first, not {notification:?}"),
        }
        Ok(events)
    }

    /// Subscribes. Returns when the subscription stands.
    pub async fn subscribe(&self, request: SubscribeNotificationsRequest) -> Events {
        self.try_subscribe(request).await.unwrap_or_else(|status| panic!("no subscription: {status:?}"))
    }
}

/// The events of a subscription.
#[derive(Debug)]
pub struct Events {
    stream: Streaming<SubscribeNotificationsResponse>,
    /// The cursor of the first heartbeat.
    pub start: String,
    /// The generation of a named subscription; 0 without a name.
    pub generation: u64,
}

impl Events {
    /// Those of a stream of which nothing was heard yet.
    pub fn of(stream: Streaming<SubscribeNotificationsResponse>) -> Self {
        Self { stream, start: String::new(), generation: 0 }
    }

    /// The next event.
    pub async fn next(&mut self) -> Result<Event, Status> {
        let response = soon("the next event of a subscription", self.stream.message()).await?;
        Ok(response.expect("a subscription ends with an error only").event.expect("a response holds an event"))
    }

    /// The next message; heartbeats before it are passed over.
    pub async fn message(&mut self) -> AcceptedMessage {
        soon("the next message of a subscription", async {
            loop {
                match self.next().await {
                    Ok(Event::Notification(notification)) => return notification,
                    Ok(Event::Heartbeat(_)) => {}
                    Err(status) => panic!("the subscription ended: {status:?}"),
                }
            }
        })
        .await
    }

    /// What the next message says.
    pub async fn said(&mut self) -> String {
        said(&self.message().await)
    }

    /// What the next messages say, up to the one that says `last`, without it.
    pub async fn until(&mut self, last: &str) -> Vec<String> {
        let mut heard = Vec::new();
        soon(&format!("a message that says {last:?}"), async {
            loop {
                match self.said().await {
                    text if text == last => return heard,
                    text => heard.push(text),
                }
            }
        })
        .await
    }

    /// The cursor of the next event, which is a heartbeat.
    pub async fn heartbeat(&mut self) -> String {
        match self.next().await {
            Ok(Event::Heartbeat(heartbeat)) => heartbeat.cursor,
            other => panic!("no heartbeat but {other:?}"),
        }
    }

    /// The status that ends the stream, after whatever comes before it.
    pub async fn end(&mut self) -> Status {
        soon("the end of a subscription", async {
            loop {
                if let Err(status) = self.next().await {
                    return status;
                }
            }
        })
        .await
    }
}

/// Bytes instead of messages.
struct AsIs;

impl Codec for AsIs {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for AsIs {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, bytes: Vec<u8>, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put_slice(&bytes);
        Ok(())
    }
}

impl Decoder for AsIs {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, bytes: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let mut read = vec![0; bytes.remaining()];
        bytes.copy_to_slice(&mut read);
        Ok(Some(read))
    }
}
