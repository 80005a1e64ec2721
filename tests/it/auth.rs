//! Who may call: keys in a file, what their roles allow, and what becomes of a key that is taken away.

use crate::support::client::Events;
use crate::support::gateway::Gateway;
use crate::support::http::{Answer, ask};
use crate::support::messages::{Differs as _, earliest, says};
use crate::support::{assert_refused, eventually, soon};
use cim_gateway::auth::{Key, Role};
use cim_gateway::pb::channel_service_client::ChannelServiceClient;
use cim_gateway::pb::delivery_service_client::DeliveryServiceClient;
use cim_gateway::pb::message_service_client::MessageServiceClient;
use cim_gateway::pb::session_service_client::SessionServiceClient;
use cim_gateway::pb::subscription_service_client::SubscriptionServiceClient;
use cim_gateway::pb::{
    CimMessage, CreateChannelRequest, GetMessageRequest, ListChannelsRequest, ListDeliveriesRequest, ListMessagesRequest,
    ListSessionsRequest, ListSubscriptionsRequest, NotificationFilter, SendMessageRequest, SendMessageResponse,
    SendMessagesRequest, SenderType, SubscribeNotificationsRequest,
};
use futures::stream;
use serde_json::{Value as Json, json};
use std::fmt::Write as _;
use std::path::PathBuf;
use tempfile::TempDir;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

/// A gateway with a file of keys.
struct Guarded {
    gateway: Gateway,
    holders: Vec<Holder>,
    folder: TempDir,
}

/// Somebody with a key.
struct Holder {
    name: &'static str,
    role: Role,
    bound: &'static [&'static str],
    key: Key,
}

impl Holder {
    fn new(name: &'static str, role: Role, bound: &'static [&'static str]) -> Self {
        Self { name, role, bound, key: Key::fresh().expect("there is chance") }
    }
}

impl Guarded {
    async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let holders = vec![
            Holder::new("shop", Role::Connector, &["shop"]),
            Holder::new("bot", Role::Bot, &[]),
            Holder::new("desk", Role::Agent, &[]),
            Holder::new("root", Role::Admin, &[]),
        ];
        write(&folder, &holders);
        let gateway = Gateway::set("auth.keys_file", keys_file(&folder).display()).start().await;
        Self { gateway, holders, folder }
    }

    /// The key of a holder.
    fn key(&self, name: &str) -> String {
        self.holders.iter().find(|holder| holder.name == name).expect("the holder is there").key.reveal().to_owned()
    }

    /// A client that shows the key of a holder.
    async fn as_(&self, name: &str) -> Caller {
        Caller { channel: self.gateway.client().await.channel, key: Some(self.key(name)) }
    }

    async fn ask(&self, name: &str, method: &str, path: &str, body: &Json) -> Answer {
        let authorization = format!("authorization: Bearer {}\r\n", self.key(name));
        ask(self.gateway.http, method, path, &authorization, &body.to_string()).await
    }
}

fn keys_file(folder: &TempDir) -> PathBuf {
    folder.path().join("keys.toml")
}

/// Writes the file of keys at once, as Kubernetes does.
fn write(folder: &TempDir, holders: &[Holder]) {
    let mut text = String::new();
    for Holder { name, role, bound, key } in holders {
        writeln!(text, "[[keys]]\nname = \"{name}\"\nrole = \"{role}\"\nsha256 = [\"{}\"]", key.digest()).unwrap();
        if !bound.is_empty() {
            writeln!(text, "service_identifiers = {bound:?}").unwrap();
        }
    }
    let fresh = folder.path().join("fresh");
    std::fs::write(&fresh, text).unwrap();
    std::fs::rename(fresh, keys_file(folder)).unwrap();
}

/// A client that shows a key, or none.
#[derive(Clone)]
struct Caller {
    channel: Channel,
    key: Option<String>,
}

type Shown = InterceptedService<Channel, Shows>;

/// Shows a key with every call.
#[derive(Clone)]
struct Shows(Option<String>);

impl tonic::service::Interceptor for Shows {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(key) = &self.0 {
            request.metadata_mut().insert("authorization", format!("Bearer {key}").parse().expect("keys stand in headers"));
        }
        Ok(request)
    }
}

impl Caller {
    fn shown(&self) -> Shown {
        InterceptedService::new(self.channel.clone(), Shows(self.key.clone()))
    }

    fn messages(&self) -> MessageServiceClient<Shown> {
        MessageServiceClient::new(self.shown())
    }

    async fn send(&self, message: CimMessage) -> Result<SendMessageResponse, Status> {
        let request = SendMessageRequest { message: Some(message), ..SendMessageRequest::default() };
        soon("an answer", self.messages().send_message(request)).await.map(tonic::Response::into_inner)
    }

    async fn subscribe(&self, request: SubscribeNotificationsRequest) -> Result<Events, Status> {
        let stream = soon("a subscription", self.messages().subscribe_notifications(request)).await?.into_inner();
        Ok(Events::of(stream))
    }
}

#[tokio::test]
async fn every_service_needs_a_key_but_health_and_reflection() {
    let guarded = Guarded::start().await;
    let channel = guarded.gateway.client().await.channel;
    for key in [None, Some("cim_unknown".to_owned())] {
        let caller = Caller { channel: channel.clone(), key };
        let refusals = [
            caller.send(says("shop", "ada", "hi")).await.map(drop),
            caller.messages().send_messages(stream::iter([SendMessagesRequest::default()])).await.map(drop),
            caller.subscribe(SubscribeNotificationsRequest::default()).await.map(drop),
            caller.messages().get_message(GetMessageRequest::default()).await.map(drop),
            ChannelServiceClient::new(caller.shown()).list_channels(ListChannelsRequest::default()).await.map(drop),
            DeliveryServiceClient::new(caller.shown()).list_deliveries(ListDeliveriesRequest::default()).await.map(drop),
            SessionServiceClient::new(caller.shown()).list_sessions(ListSessionsRequest::default()).await.map(drop),
            SubscriptionServiceClient::new(caller.shown())
                .list_subscriptions(ListSubscriptionsRequest::default())
                .await
                .map(drop),
        ];
        for refusal in refusals {
            assert_refused(&refusal.unwrap_err(), Code::Unauthenticated, "UNAUTHENTICATED");
        }
    }
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel);
    assert!(health.check(tonic_health::pb::HealthCheckRequest::default()).await.is_ok());
}

#[tokio::test]
async fn every_path_needs_a_key_but_those_of_operations() {
    let guarded = Guarded::start().await;
    let http = guarded.gateway.http;
    let document = ask(http, "GET", "/openapi.json", "", "").await;
    let document: Json = serde_json::from_str(&document.body).expect("the document is JSON");
    let mut asked = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in
            methods.as_object().unwrap().iter().filter(|(_, operation)| operation.get("operationId").is_some())
        {
            let answer = ask(http, &method.to_uppercase(), path, "", "").await;
            let open = operation["tags"] == json!(["Operations"]);
            assert_eq!(answer.status == 401, !open, "{method} {path}: {answer:?}");
            if !open {
                assert!(answer.head.contains("www-authenticate: Bearer"), "{answer:?}");
                let body: Json = serde_json::from_str(&answer.body).unwrap();
                assert_eq!((&body["reason"], &body["reasonCode"]), (&json!("UNAUTHENTICATED"), &json!(401)));
                assert_eq!(operation["responses"]["401"]["$ref"], "#/components/responses/Unauthenticated", "{method} {path}");
                asked += 1;
            }
        }
    }
    assert!(asked > 20, "{asked}");
}

#[tokio::test]
async fn a_connector_knows_of_its_own_channels_only() {
    let guarded = Guarded::start().await;
    let (shop, root) = (guarded.as_("shop").await, guarded.as_("root").await);
    let other = root.send(says("bank", "eve", "secret")).await.expect("an admin may send");
    let own = shop.send(says("shop", "ada", "hi")).await.expect("a connector may send on its channel");
    assert_refused(&shop.send(says("bank", "ada", "hi")).await.unwrap_err(), Code::PermissionDenied, "FORBIDDEN");
    let as_agent = shop.send(says("shop", "ada", "hi").by(SenderType::Agent)).await.unwrap_err();
    assert_refused(&as_agent, Code::PermissionDenied, "FORBIDDEN");

    let mut events = shop.subscribe(earliest()).await.expect("a connector may listen");
    let heard = events.until("hi").await;
    assert_eq!(heard, ["CHANNEL_SESSION_STARTED"], "nothing of the bank");
    let filter = NotificationFilter { service_identifiers: vec!["bank".into()], ..NotificationFilter::default() };
    let request = SubscribeNotificationsRequest { filter: Some(filter), ..SubscribeNotificationsRequest::default() };
    assert_refused(&shop.subscribe(request).await.map(drop).unwrap_err(), Code::PermissionDenied, "FORBIDDEN");

    let found = |id: &str| GetMessageRequest { message_id: id.into() };
    assert!(shop.messages().get_message(found(&own.message_id)).await.is_ok());
    let unseen = shop.messages().get_message(found(&other.message_id)).await.unwrap_err();
    assert_refused(&unseen, Code::NotFound, "MESSAGE_NOT_FOUND");
    let history = ListMessagesRequest { conversation_id: own.conversation_id, ..ListMessagesRequest::default() };
    assert_refused(&shop.messages().list_messages(history).await.unwrap_err(), Code::PermissionDenied, "FORBIDDEN");

    let mut sessions = SessionServiceClient::new(shop.shown());
    let listed = sessions.list_sessions(ListSessionsRequest::default()).await.unwrap().into_inner().sessions;
    assert_eq!(listed.iter().map(|session| session.service_identifier.as_str()).collect::<Vec<_>>(), ["shop"]);
    let mut channels = ChannelServiceClient::new(shop.shown());
    let created = channels.create_channel(CreateChannelRequest::default()).await.unwrap_err();
    assert_refused(&created, Code::PermissionDenied, "FORBIDDEN");
    let mut deliveries = DeliveryServiceClient::new(shop.shown());
    let listed = deliveries.list_deliveries(ListDeliveriesRequest::default()).await.unwrap_err();
    assert_refused(&listed, Code::PermissionDenied, "FORBIDDEN");

    // The same by HTTP.
    let message = |service: &str| {
        json!({
            "id": format!("http-{service}"),
            "header": {
                "sender": { "id": "1", "type": "CONNECTOR", "senderName": "C" },
                "channelData": { "channelCustomerIdentifier": "ada", "serviceIdentifier": service },
            },
            "body": { "type": "PLAIN", "markdownText": "hi" },
        })
    };
    let sent = async |service: &str| guarded.ask("shop", "POST", "/ccm/message/receive", &message(service)).await.status;
    assert_eq!((sent("shop").await, sent("bank").await), (202, 403));
    let seen = async |path: &str| guarded.ask("shop", "GET", path, &Json::Null).await.status;
    assert_eq!(seen(&format!("/v1/messages/{}", other.message_id)).await, 404);
    assert_eq!(seen(&format!("/v1/sessions/{}", other.channel_session_id)).await, 404);
    assert_eq!(seen(&format!("/v1/sessions/{}", own.channel_session_id)).await, 200);
    assert_eq!(seen("/v1/sessions?serviceIdentifier=bank").await, 403);
    assert_eq!(seen("/v1/notifications?serviceIdentifier=bank").await, 403);
    assert_eq!(seen(&format!("/v1/conversations/{}/messages", other.conversation_id)).await, 403);
    assert_eq!(seen("/v1/channels").await, 403);
    assert_eq!(seen("/v1/deliveries").await, 403);
    assert_eq!(seen("/v1/subscriptions").await, 403);
}

/// A route is also what is left out: by the id of a session, a conversation or a message alone one would come to any channel.
#[tokio::test]
async fn a_connector_reaches_nothing_of_another_channel_whatever_it_leaves_out() {
    let guarded = Guarded::start().await;
    let root = guarded.as_("root").await;
    let banks = root.send(says("bank", "eve", "hi").by(SenderType::Agent).with_id("m-1")).await.expect("an admin may send");
    let (session, conversation) = (&banks.channel_session_id, &banks.conversation_id);
    let half = json!({ "serviceIdentifier": "shop" });
    let own = json!({ "serviceIdentifier": "shop", "channelCustomerIdentifier": "ada" });
    let text = json!({ "type": "PLAIN", "markdownText": "hi" });
    let receipt = json!({ "type": "DELIVERYNOTIFICATION", "messageId": "m-1", "status": "READ" });
    let deletion = json!({ "type": "DELETEDNOTIFICATION", "messageId": "m-1" });
    let routes = [
        json!({ "channelSessionId": session }),
        json!({ "conversationId": conversation }),
        json!({ "conversationId": "x" }),
        json!({ "channelSessionId": session, "channelData": half }),
        json!({ "conversationId": conversation, "channelData": half }),
        json!({ "channelSessionId": session, "channelData": own }),
        json!({ "channelData": own }),
    ];
    for mut header in routes {
        header["sender"] = json!({ "id": "1", "type": "CONNECTOR", "senderName": "C" });
        for body in [&text, &receipt, &deletion] {
            let message = json!({ "header": header, "body": body });
            let answer = guarded.ask("shop", "POST", "/ccm/message/receive", &message).await;
            assert!(!answer.body.contains("eve"), "{message}: {}", answer.body);
            assert!(answer.status == 400 || header["channelData"] == own, "{message}: {}", answer.status);
        }
    }
    let timeline = guarded.ask("root", "GET", "/v1/messages/m-1", &Json::Null).await;
    assert!(timeline.status == 200 && !timeline.body.contains("READ"), "{}", timeline.body);
}

#[tokio::test]
async fn what_agents_say_among_themselves_is_not_for_connectors() {
    let guarded = Guarded::start().await;
    let (shop, desk) = (guarded.as_("shop").await, guarded.as_("desk").await);
    shop.send(says("shop", "ada", "hi")).await.expect("a connector may send on its channel");
    let key = json!({ "serviceIdentifier": "shop", "channelCustomerIdentifier": "ada" });
    let whisper = json!({
        "id": "w", "header": { "sender": { "id": "a", "type": "AGENT", "senderName": "A" }, "channelData": key },
        "body": { "type": "PLAIN", "markdownText": "he is angry", "isWhisper": true },
    });
    assert_eq!(guarded.ask("desk", "POST", "/ccm/message/receive", &whisper).await.status, 202);
    desk.send(says("shop", "ada", "bye").by(SenderType::Agent)).await.expect("an agent may send");
    let heard = async |caller: &Caller| caller.subscribe(earliest()).await.expect("may listen").until("bye").await;
    assert_eq!(heard(&shop).await, ["CHANNEL_SESSION_STARTED", "hi"]);
    assert_eq!(heard(&desk).await, ["CHANNEL_SESSION_STARTED", "hi", "he is angry"]);
    let seen = async |name: &str| guarded.ask(name, "GET", "/v1/messages/w", &Json::Null).await.status;
    assert_eq!((seen("shop").await, seen("desk").await), (404, 200));
}

#[tokio::test]
async fn a_connector_finds_its_own_session_in_a_conversation_that_goes_on_elsewhere() {
    let guarded = Guarded::start().await;
    let sent = async |name: &str, header: Json| {
        let sender = json!({ "id": "1", "type": "CONNECTOR", "senderName": "C" });
        let mut message = json!({ "header": header, "body": { "type": "PLAIN", "markdownText": "hi" } });
        message["header"]["sender"] = sender;
        let answer = guarded.ask(name, "POST", "/ccm/message/receive", &message).await;
        serde_json::from_str::<Json>(&answer.body).expect("is JSON")
    };
    let on = |channel: &str| {
        let key = json!({ "serviceIdentifier": channel, "channelCustomerIdentifier": "ada" });
        json!({ "channelData": key, "customer": { "_id": "c1" } })
    };
    let own = sent("root", on("shop")).await;
    let other = sent("root", on("bank")).await;
    assert_eq!(own["conversationId"], other["conversationId"]);
    let found = sent("shop", json!({ "conversationId": own["conversationId"] })).await;
    assert_eq!(found["channelSessionId"], own["channelSessionId"]);
}

#[tokio::test]
async fn a_bound_key_has_subscriptions_of_its_own() {
    let guarded = Guarded::start().await;
    let shop = guarded.as_("shop").await;
    let named =
        |name: &str| SubscribeNotificationsRequest { subscription: name.into(), ..SubscribeNotificationsRequest::default() };
    assert!(shop.subscribe(named("shop.eu")).await.is_ok());
    assert_refused(&shop.subscribe(named("desk")).await.map(drop).unwrap_err(), Code::PermissionDenied, "FORBIDDEN");
    let acknowledged = json!({ "generation": 1, "cursor": "1-1" });
    assert_eq!(guarded.ask("shop", "POST", "/v1/subscriptions/desk/acknowledge", &acknowledged).await.status, 403);
}

#[tokio::test]
async fn a_password_is_a_key_for_clients_that_can_be_given_a_url_only() {
    use base64::Engine as _;
    let guarded = Guarded::start().await;
    let password = base64::engine::general_purpose::STANDARD.encode(format!("any:{}", guarded.key("root")));
    let line = format!("authorization: Basic {password}\r\n");
    assert_eq!(ask(guarded.gateway.http, "GET", "/v1/channels", &line, "").await.status, 200);
}

#[tokio::test]
async fn a_key_that_is_taken_away_ends_what_goes_on_under_it() {
    let mut guarded = Guarded::start().await;
    let (shop, desk) = (guarded.as_("shop").await, guarded.as_("desk").await);
    let mut gone = shop.subscribe(SubscribeNotificationsRequest::default()).await.unwrap();
    let mut kept = desk.subscribe(SubscribeNotificationsRequest::default()).await.unwrap();
    let mut sending = shop.messages().send_messages(stream::pending()).await.unwrap().into_inner();

    guarded.holders.retain(|holder| holder.name != "shop");
    guarded.holders.push(Holder::new("shop", Role::Connector, &["shop"]));
    write(&guarded.folder, &guarded.holders);
    assert_refused(&gone.end().await, Code::Unauthenticated, "UNAUTHENTICATED");
    let ended = soon("the end of a stream", sending.message()).await.unwrap_err();
    assert_refused(&ended, Code::Unauthenticated, "UNAUTHENTICATED");
    assert_refused(&shop.send(says("shop", "ada", "old")).await.unwrap_err(), Code::Unauthenticated, "UNAUTHENTICATED");

    let shop = guarded.as_("shop").await;
    shop.send(says("shop", "ada", "new")).await.expect("the new key is good");
    kept.until("new").await;
}

#[tokio::test]
async fn a_file_that_is_wrong_changes_nothing() {
    let mut guarded = Guarded::start().await;
    std::fs::write(keys_file(&guarded.folder), "[[keys]]\nname = 1\n").unwrap();
    let root = guarded.as_("root").await;
    root.send(says("shop", "ada", "still")).await.expect("the keys are as they were");
    // What is right again is taken: so the file was looked at in between, or is now.
    guarded.holders.push(Holder::new("late", Role::Admin, &[]));
    write(&guarded.folder, &guarded.holders);
    let late = guarded.as_("late").await;
    eventually("the new key to be known", async || late.send(says("shop", "ada", "late")).await.ok()).await;
    root.send(says("shop", "ada", "still")).await.expect("the others are as they were");
}

#[tokio::test]
async fn a_stream_of_messages_refuses_those_of_other_channels_and_goes_on() {
    use cim_gateway::pb::send_messages_response::Result::{Accepted, Refused};
    let guarded = Guarded::start().await;
    let shop = guarded.as_("shop").await;
    let messages = [says("shop", "ada", "1"), says("bank", "ada", "2"), says("shop", "ada", "3")];
    let requests = stream::iter(messages.map(|message| SendMessagesRequest { message: Some(message) }));
    let mut answers = shop.messages().send_messages(requests).await.unwrap().into_inner();
    let mut results = Vec::new();
    while let Some(answer) = soon("an answer", answers.message()).await.unwrap() {
        results.push(match answer.result.unwrap() {
            Accepted(_) => "accepted".to_owned(),
            Refused(refusal) => refusal.reason,
        });
    }
    assert_eq!(results, ["accepted", "FORBIDDEN", "accepted"]);
}
