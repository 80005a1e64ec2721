//! ChannelService, and what the registry means for messages.

use crate::support::gateway::Gateway;
use crate::support::messages::{Differs as _, notification, says};
use crate::support::{assert_refused, complaints, soon};
use cim_gateway::app;
use cim_gateway::config::Config;
use cim_gateway::pb::channel_service_client::ChannelServiceClient;
use cim_gateway::pb::get_channel_request::Key;
use cim_gateway::pb::{
    Channel, CreateChannelRequest, DeleteChannelRequest, Endpoint, GetChannelRequest, ListChannelsRequest, ListChannelsResponse,
    SenderType, SigningSecrets, UpdateChannelRequest,
};
use prost_types::FieldMask;
use tonic::{Code, Status};

const SECRET: &str = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz";

/// A client of the registry.
struct Registry {
    calls: ChannelServiceClient<tonic::transport::Channel>,
}

impl Registry {
    async fn of(gateway: &Gateway) -> Self {
        Self { calls: ChannelServiceClient::new(gateway.client().await.channel) }
    }

    async fn create(&mut self, channel: impl Into<Option<Channel>>) -> Result<Channel, Status> {
        let request = CreateChannelRequest { channel: channel.into() };
        let response = soon("a channel to be registered", self.calls.create_channel(request)).await?;
        Ok(response.into_inner().channel.expect("a response holds the channel"))
    }

    async fn get(&mut self, key: impl Into<Option<Key>>) -> Result<Channel, Status> {
        let request = GetChannelRequest { key: key.into() };
        let response = soon("a channel", self.calls.get_channel(request)).await?;
        Ok(response.into_inner().channel.expect("a response holds the channel"))
    }

    async fn update(&mut self, channel: Channel, paths: &[&str]) -> Result<Channel, Status> {
        let paths: Vec<_> = paths.iter().map(|path| (*path).to_owned()).collect();
        let update_mask = Some(FieldMask { paths }).filter(|mask| !mask.paths.is_empty());
        let request = UpdateChannelRequest { channel: Some(channel), update_mask };
        let response = soon("a channel to be changed", self.calls.update_channel(request)).await?;
        Ok(response.into_inner().channel.expect("a response holds the channel"))
    }

    async fn delete(&mut self, id: &str, etag: &str) -> Result<(), Status> {
        let request = DeleteChannelRequest { id: id.into(), etag: etag.into() };
        soon("a channel to be removed", self.calls.delete_channel(request)).await.map(drop)
    }

    async fn list(&mut self, page_size: i32, page_token: &str, channel_type: &str) -> Result<ListChannelsResponse, Status> {
        let request = ListChannelsRequest { page_size, page_token: page_token.into(), channel_type: channel_type.into() };
        soon("a page of channels", self.calls.list_channels(request)).await.map(tonic::Response::into_inner)
    }
}

fn channel(service_identifier: &str) -> Channel {
    Channel {
        service_identifier: service_identifier.into(),
        channel_type: "WHATSAPP".into(),
        connector: Some(Endpoint {
            uri: "https://connector.example".into(),
            signing_secrets: Some(SigningSecrets { secrets: vec![SECRET.into()] }),
            ..Endpoint::default()
        }),
        ..Channel::default()
    }
}

fn by_name(service_identifier: &str) -> Key {
    Key::ServiceIdentifier(service_identifier.into())
}

#[tokio::test]
async fn a_channel_is_registered_read_changed_and_removed() {
    let gateway = Gateway::start().await;
    let mut registry = Registry::of(&gateway).await;
    let created = registry.create(channel("shop")).await.unwrap();
    let connector = created.connector.as_ref().unwrap();
    assert_eq!((&connector.signing_secrets, connector.signing_secret_digests.len()), (&None, 1), "the secret is not shown");
    assert_eq!(registry.get(by_name("shop")).await.unwrap(), created);
    assert_eq!(registry.get(Key::Id(created.id.clone())).await.unwrap(), created);

    let update = Channel { name: "Shop".into(), connector: None, ..created.clone() };
    let updated = registry.update(update, &["name"]).await.unwrap();
    assert_eq!((updated.name.as_str(), &updated.connector), ("Shop", &created.connector));
    let replaced = registry.update(Channel { connector: None, ..updated.clone() }, &[]).await.unwrap();
    assert_eq!(replaced.connector, None);

    registry.delete(&created.id, "").await.unwrap();
    let gone = registry.get(Key::Id(created.id.clone())).await.unwrap_err();
    assert_refused(&gone, Code::NotFound, "CHANNEL_NOT_FOUND");
    let again = registry.delete(&created.id, "").await.unwrap_err();
    assert_refused(&again, Code::NotFound, "CHANNEL_NOT_FOUND");
}

#[tokio::test]
async fn every_broken_rule_of_a_channel_is_named_at_once_and_nothing_is_registered() {
    let gateway = Gateway::start().await;
    let mut registry = Registry::of(&gateway).await;
    let connector = Some(Endpoint { uri: "http://user:sesame@a.example".into(), ..Endpoint::default() });
    let status = registry.create(Channel { connector, ..Channel::default() }).await.unwrap_err();
    assert_refused(&status, Code::InvalidArgument, "INVALID_CHANNEL");
    let expected = [("serviceIdentifier", "REQUIRED"), ("channelType", "REQUIRED"), ("connector.uri", "NOT_A_URI")];
    assert_eq!(complaints(&status), expected.map(|(path, reason)| (path.to_owned(), reason.to_owned())));
    assert!(!format!("{status:?}").contains("sesame"), "{status:?}");
    assert_eq!(registry.list(0, "", "").await.unwrap(), ListChannelsResponse::default());
    for (status, field) in [
        (registry.create(None).await.unwrap_err(), "channel"),
        (registry.get(None).await.unwrap_err(), "key"),
        (registry.list(-1, "", "").await.unwrap_err(), "page_size"),
        (registry.list(0, "garbage", "").await.unwrap_err(), "page_token"),
    ] {
        assert_refused(&status, Code::InvalidArgument, "INVALID_REQUEST");
        assert_eq!(complaints(&status), [(field.to_owned(), String::new())]);
    }
    let created = registry.create(channel("shop")).await.unwrap();
    let status = registry.update(created, &["nothing"]).await.unwrap_err();
    assert_refused(&status, Code::InvalidArgument, "INVALID_REQUEST");
    assert_eq!(complaints(&status), [("update_mask".to_owned(), String::new())]);
}

#[tokio::test]
async fn what_is_there_already_is_not_overwritten() {
    let gateway = Gateway::set("channels.max", 3).start().await;
    let mut registry = Registry::of(&gateway).await;
    let default = |name: &str| Channel { default_outbound: true, ..channel(name) };
    let created = registry.create(default("shop")).await.unwrap();
    assert_refused(&registry.create(channel("shop")).await.unwrap_err(), Code::AlreadyExists, "CHANNEL_EXISTS");
    assert_refused(&registry.create(default("b")).await.unwrap_err(), Code::FailedPrecondition, "DEFAULT_OUTBOUND_TAKEN");

    let updated = registry.update(Channel { name: "Shop".into(), ..created.clone() }, &[]).await.unwrap();
    let stale = registry.update(Channel { name: "Other".into(), ..created.clone() }, &[]).await.unwrap_err();
    assert_refused(&stale, Code::Aborted, "ETAG_MISMATCH");
    assert_refused(&registry.delete(&created.id, &created.etag).await.unwrap_err(), Code::Aborted, "ETAG_MISMATCH");
    assert_eq!(registry.get(by_name("shop")).await.unwrap(), updated);

    registry.create(channel("b")).await.unwrap();
    registry.create(channel("c")).await.unwrap();
    assert_refused(&registry.create(channel("d")).await.unwrap_err(), Code::FailedPrecondition, "TOO_MANY_CHANNELS");
    registry.delete(&created.id, &updated.etag).await.unwrap();
    registry.create(channel("d")).await.unwrap();
}

#[tokio::test]
async fn channels_are_listed_in_pages() {
    let gateway = Gateway::set("channels.page", 3).start().await;
    let mut registry = Registry::of(&gateway).await;
    for i in 0..5 {
        registry.create(channel(&format!("shop-{i}"))).await.unwrap();
    }
    registry.create(Channel { channel_type: "SMS".into(), ..channel("another") }).await.unwrap();
    let (mut names, mut pages, mut token) = (Vec::new(), 0, String::new());
    loop {
        let page = registry.list(500, &token, "WHATSAPP").await.unwrap();
        names.extend(page.channels.into_iter().map(|channel| channel.service_identifier));
        pages += 1;
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!((pages, names), (2, (0..5).map(|i| format!("shop-{i}")).collect()));
}

#[tokio::test]
async fn one_address_on_two_channels_of_a_type_is_one_customer() {
    let gateway = Gateway::start().await;
    let mut registry = Registry::of(&gateway).await;
    let client = gateway.client().await;
    registry.create(channel("shop")).await.unwrap();
    registry.create(channel("help")).await.unwrap();
    let shop = client.send(says("shop", "+49 1", "hi")).await;
    let help = client.send(says("help", "+49 1", "hi")).await;
    assert_ne!(help.channel_session_id, shop.channel_session_id);
    assert_eq!(help.conversation_id, shop.conversation_id);
    let elsewhere = client.send(says("unregistered", "+49 1", "hi")).await;
    assert_ne!(elsewhere.conversation_id, shop.conversation_id);
}

#[tokio::test]
async fn where_channels_have_to_be_registered_a_message_of_another_is_refused() {
    let gateway = Gateway::set("channels.require_registered", true).start().await;
    let mut registry = Registry::of(&gateway).await;
    let client = gateway.client().await;
    let agent = || says("shop", "+49 1", "hi").by(SenderType::Agent);
    for message in [says("shop", "+49 1", "hi"), agent(), notification("INFO"), agent().with_intent("END_CHAT")] {
        let status = client.refused(message).await;
        assert_refused(&status, Code::InvalidArgument, "INVALID_MESSAGE");
        assert_eq!(complaints(&status), [("header.channelData.serviceIdentifier".into(), "UNKNOWN_CHANNEL".into())]);
    }
    let created = registry.create(channel("shop")).await.unwrap();
    let accepted = client.send(says("shop", "+49 1", "hi")).await;
    registry.delete(&created.id, "").await.unwrap();
    let status = client.refused(says("shop", "+49 1", "hi")).await;
    assert_refused(&status, Code::InvalidArgument, "INVALID_MESSAGE");
    assert!(client.message(&accepted.message_id).await.is_ok(), "what was accepted stays");
}

#[tokio::test]
async fn a_registered_channel_is_there_after_a_restart_and_only_its_owner_can_read_its_secret() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().join("data");
    let settings = || Gateway::set("store.embedded.data_dir", data_dir.display());
    let gateway = settings().start().await;
    let created = Registry::of(&gateway).await.create(channel("shop")).await.unwrap();
    gateway.stop().down().await;
    let mode = std::fs::metadata(data_dir.join("control.db")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let gateway = settings().start().await;
    assert_eq!(Registry::of(&gateway).await.get(by_name("shop")).await.unwrap(), created);
}

#[tokio::test]
async fn a_store_in_memory_keeps_channels_too() {
    let gateway = Gateway::set("store.engine", "memory").start().await;
    let mut registry = Registry::of(&gateway).await;
    let created = registry.create(channel("shop")).await.unwrap();
    assert_eq!(registry.get(by_name("shop")).await.unwrap(), created);
}

#[tokio::test]
async fn a_declared_channel_is_served_and_cannot_be_changed() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, SECRET).unwrap();
    let connector = format!("{{ uri = \"https://a.example\", signing_secret_files = [{:?}] }}", secret.display().to_string());
    let declared = format!("[{{ service_identifier = \"shop\", channel_type = \"WHATSAPP\", connector = {connector} }}]");
    let settings = || Gateway::set("channels.declared", &declared).set("channels.require_registered", true);
    let gateway = settings().start().await;
    let mut registry = Registry::of(&gateway).await;
    let shown = registry.get(by_name("shop")).await.unwrap();
    assert!(shown.declared && shown.connector.as_ref().unwrap().signing_secret_digests.len() == 1);
    assert_eq!(registry.list(0, "", "").await.unwrap().channels, std::slice::from_ref(&shown));
    gateway.client().await.send(says("shop", "+49 1", "hi")).await;
    let changed = registry.update(Channel { name: "Mine".into(), ..shown.clone() }, &[]).await.unwrap_err();
    assert_refused(&changed, Code::FailedPrecondition, "CHANNEL_DECLARED");
    let removed = registry.delete(&shown.id, "").await.unwrap_err();
    assert_refused(&removed, Code::FailedPrecondition, "CHANNEL_DECLARED");
    assert_refused(&registry.create(channel("shop")).await.unwrap_err(), Code::AlreadyExists, "CHANNEL_EXISTS");
    gateway.stop().down().await;
    let gateway = settings().start().await;
    assert_eq!(Registry::of(&gateway).await.get(by_name("shop")).await.unwrap().id, shown.id, "its id lasts");
}

/// Why a gateway with these settings does not serve.
async fn failure(variables: &[(&str, &str)]) -> String {
    let own = [("CIM_GRPC__LISTEN", "127.0.0.1:0"), ("CIM_HTTP__LISTEN", "127.0.0.1:0")];
    let variables = own.iter().chain(variables).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let config = Config::load(None, variables).unwrap();
    let failed = match app::Gateway::bind(config).await {
        Ok(gateway) => soon("the gateway to fail", gateway.serve(std::future::pending())).await,
        Err(error) => Err(error),
    };
    failed.unwrap_err().to_string()
}

#[tokio::test]
async fn a_gateway_does_not_start_with_what_contradicts_itself() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().join("data").display().to_string();
    let gateway = Gateway::set("store.embedded.data_dir", &data_dir).start().await;
    let created = Registry::of(&gateway).await.create(channel("shop")).await.unwrap();
    gateway.stop().down().await;
    let store = [("CIM_STORE__EMBEDDED__DATA_DIR", data_dir.as_str()), ("CIM_STORE__EMBEDDED__SEGMENT", "1 MiB")];
    let declaring = |declared| [store[0], store[1], ("CIM_CHANNELS__DECLARED", declared)];
    let twice = failure(&declaring(r#"[{ service_identifier = "shop", channel_type = "SMS" }]"#)).await;
    assert_eq!(
        twice,
        format!(
            "the channels cannot be served: channels.declared[0]: \"shop\" is registered, too, as the channel {}: \
             declare it no more, or delete that one",
            created.id
        )
    );
    let wrong = failure(&declaring(r#"[{ service_identifier = "x", colour = "red" }]"#)).await;
    assert!(wrong.contains("channels.declared[0].colour is no key here"), "{wrong}");
    assert!(wrong.contains("channels.declared[0].channel_type is required"), "{wrong}");
}
