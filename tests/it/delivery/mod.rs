//! Delivery to webhooks, with receivers that answer as they are told.

mod bots;
mod configurations;
mod counted;
mod failures;
mod letters;
mod order;
mod outcomes;
mod pitfalls;
mod receipts;
mod restart;
mod restored;

use crate::support::gateway::{Gateway, Settings};
use crate::support::messages::{Differs as _, says};
use crate::support::receiver::Receiver;
use crate::support::soon;
use cim_gateway::pb::channel_service_client::ChannelServiceClient;
use cim_gateway::pb::{
    Bot, BotFormat, Channel, CimMessage, CreateChannelRequest, DeliverySettings, Endpoint, SenderType, SigningSecrets,
};
use std::net::SocketAddr;

/// A gateway that may call webhooks on this machine, and tries again soon.
fn gateway() -> Settings {
    Gateway::set("webhook.allow", r#"["127.0.0.0/8"]"#)
        .set("delivery.retries", r#"["20ms", "50ms", "100ms", "200ms"]"#)
        .set("delivery.breaker.pause", "100ms")
        .set("delivery.breaker.longest_pause", "400ms")
        .set("delivery.sync_wait", "20s")
}

/// A channel whose messages for the customer go to a receiver.
fn channel(name: &str, connector: &Receiver) -> Channel {
    Channel {
        service_identifier: name.into(),
        channel_type: "WEB".into(),
        connector: Some(endpoint(connector.uri())),
        ..Channel::default()
    }
}

fn endpoint(uri: String) -> Endpoint {
    Endpoint { uri, ..Endpoint::default() }
}

/// Registers a channel.
async fn register(gateway: SocketAddr, channel: Channel) -> Channel {
    let mut channels = ChannelServiceClient::connect(format!("http://{gateway}")).await.expect("can be connected to");
    let request = CreateChannelRequest { channel: Some(channel) };
    let created = soon("an answer to CreateChannel", channels.create_channel(request)).await.expect("is registered");
    created.into_inner().channel.expect("a response holds the channel")
}

/// What an agent says to a customer.
fn answers(channel: &str, customer: &str, text: &str) -> CimMessage {
    says(channel, customer, text).by(SenderType::Agent)
}
