//! Connectors are told what their channels have for them.

use super::*;
use crate::support::receiver::{Call, Reply};
use cim_gateway::pb::{Attribute, UpdateChannelRequest, ValueType};
use prost_types::{FieldMask, Value, value};
use serde_json::json;
use std::collections::VecDeque;
use tokio::sync::oneshot;

const SECRET: &str = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz";

const PATH: &str = "/connector-configurations";

fn attribute(key: &str, r#type: ValueType, text: &str) -> Attribute {
    let value = Some(Value { kind: Some(value::Kind::StringValue(text.into())) });
    Attribute { key: Some(key.into()), r#type: r#type.into(), value, ..Attribute::default() }
}

fn told(call: &Call) -> Option<&str> {
    call.body["connectorConfigurations"][0]["value"].as_str()
}

/// A channel whose connector is to know an account.
fn with_account(connector: &Receiver, account: &str) -> Channel {
    Channel { attributes: vec![attribute("account", ValueType::String100, account)], ..channel("shop", connector) }
}

/// Changes the attributes of a channel.
async fn change(gateway: SocketAddr, id: &str, attributes: Vec<Attribute>) {
    let mut channels = ChannelServiceClient::connect(format!("http://{gateway}")).await.expect("can be connected to");
    let channel = Some(Channel { id: id.into(), attributes, ..Channel::default() });
    let update_mask = Some(FieldMask { paths: vec!["attributes".into()] });
    let request = UpdateChannelRequest { channel, update_mask };
    soon("an answer to UpdateChannel", channels.update_channel(request)).await.expect("is changed");
}

#[tokio::test]
async fn a_connector_is_told_the_attributes_of_its_channel_with_passwords_whenever_it_changes() {
    let mut connector = Receiver::willing().await;
    let gateway = gateway().start().await;
    let mut shop = with_account(&connector, "acme");
    shop.attributes.push(attribute("token", ValueType::Password, "sesame"));
    let signed = SigningSecrets { secrets: vec![SECRET.into()] };
    shop.connector = Some(Endpoint { signing_secrets: Some(signed), ..endpoint(format!("{}/ccm-msg/receive", connector.uri())) });
    let registered = register(gateway.grpc, shop).await;
    let call = connector.call().await;
    let expected = json!({"serviceIdentifier": "shop", "connectorConfigurations": [
        {"key": "account", "type": "String100", "value": "acme"}, {"key": "token", "type": "Password", "value": "sesame"},
    ]});
    assert_eq!((call.path.as_str(), &call.body), (PATH, &expected));
    assert!(call.headers["webhook-signature"].to_str().unwrap().starts_with("v1,"));

    change(gateway.grpc, &registered.id, Vec::new()).await;
    let emptied = connector.call().await;
    assert_eq!((emptied.path.as_str(), &emptied.body["connectorConfigurations"]), (PATH, &json!([])));
    assert_ne!(emptied.id, call.id);
}

#[tokio::test]
async fn it_is_told_again_until_it_listens_with_one_id() {
    let mut left = 2;
    let rule = move |call: &Call| {
        let fails = call.path == PATH && left > 0;
        left -= i32::from(fails);
        Reply::Status(if fails { 503 } else { 200 })
    };
    let mut connector = Receiver::answering(rule).await;
    let gateway = gateway().start().await;
    register(gateway.grpc, with_account(&connector, "acme")).await;
    let calls = connector.take(3).await;
    assert!(calls.iter().all(|call| call.path == PATH && call.id == calls[0].id && told(call) == Some("acme")));
}

#[tokio::test]
async fn of_changes_that_come_while_one_is_told_only_the_latest_is_and_never_two_at_a_time() {
    let (answer, first) = oneshot::channel();
    let mut replies = VecDeque::from([Reply::Later(first)]);
    let mut connector = Receiver::answering(move |_| replies.pop_front().unwrap_or(Reply::Status(200))).await;
    let gateway = gateway().start().await;
    let registered = register(gateway.grpc, with_account(&connector, "1")).await;
    assert_eq!(told(&connector.call().await), Some("1"));
    for account in ["2", "3"] {
        change(gateway.grpc, &registered.id, vec![attribute("account", ValueType::String100, account)]).await;
    }
    assert!(connector.pending().is_empty(), "the first is still being told");
    answer.send(503).expect("it waits");
    assert_eq!(told(&connector.call().await), Some("3"));
}

#[tokio::test]
async fn nobody_is_told_where_there_is_nothing_or_where_it_is_not_wanted() {
    for (wanted, account) in [(true, None), (false, Some("acme"))] {
        let mut connector = Receiver::willing().await;
        let gateway = gateway().set("channels.tell_connectors", wanted).start().await;
        let shop = account.map_or(channel("shop", &connector), |account| with_account(&connector, account));
        register(gateway.grpc, shop).await;
        gateway.client().await.send(answers("shop", "ada", "hi")).await;
        let calls = connector.take(2).await;
        gateway.stop().down().await;
        assert!(calls.iter().chain(&connector.pending()).all(|call| call.path == "/message/receive"), "{calls:?}");
    }
}

#[tokio::test]
async fn the_connector_of_a_declared_channel_is_told_at_the_start() {
    let mut connector = Receiver::willing().await;
    let uri = connector.uri();
    let declared = format!(
        "[{{ service_identifier = \"shop\", channel_type = \"WEB\", connector = {{ uri = \"{uri}\" }}, \
         attributes = [{{ key = \"account\", type = \"String100\", value = \"acme\" }}] }}]"
    );
    let _gateway = gateway().set("channels.declared", declared).start().await;
    assert_eq!(told(&connector.call().await), Some("acme"));
}
