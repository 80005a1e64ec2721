//! What clients of the documented platform look up of channels, in the shapes that they read. Values of passwords are never shown.

use super::admission::Calling;
use super::problem::Problem;
use super::query::{self, Query, invalid};
use super::{Id, Routes, json, read_id, view};
use crate::auth::Caller;
use crate::channels::{Channels, Key};
use crate::error::{Error, Kind};
use crate::pb;
use crate::wire;
use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use serde_json::{Value as Json, json as object};

pub(super) fn routes(channels: Channels) -> Routes {
    vec![
        ("/ccm/channel-connectors/configurations/{serviceIdentifier}", get(configuration).with_state(channels.clone())),
        ("/ccm/channels/service-identifier/{serviceIdentifier}", get(channel).with_state(channels.clone())),
        ("/ccm/channels/defaultoutbound", get(default_outbound).with_state(channels)),
    ]
}

/// The attributes of a channel: a list of `{key, type, value}`.
async fn configuration(
    State(channels): State<Channels>,
    Extension(caller): Calling,
    id: Id,
    query: query::Raw,
) -> Result<Response, Problem> {
    Query::read(query, &[])?;
    Ok(json(wire::encode_attributes(&find(&channels, &caller, id)?.attributes)))
}

async fn channel(
    State(channels): State<Channels>,
    Extension(caller): Calling,
    id: Id,
    query: query::Raw,
) -> Result<Response, Problem> {
    Query::read(query, &[])?;
    Ok(json(view::json(&documented(&find(&channels, &caller, id)?))))
}

/// Types of channels have names only: the name is the id.
async fn default_outbound(
    State(channels): State<Channels>,
    Extension(caller): Calling,
    query: query::Raw,
) -> Result<Response, Problem> {
    let query = Query::read(query, &["channelTypeId"])?;
    let channel_type = query.one("channelTypeId")?.ok_or_else(|| invalid("channelTypeId", "is required"))?;
    let channel = channels.default_outbound(channel_type).map_err(not_registered)?;
    let unseen = || Error::NoDefaultOutbound { channel_type: channel_type.to_owned() };
    caller.must_see(&channel.service_identifier, unseen).map_err(not_registered)?;
    Ok(json(view::json(&documented(&channel))))
}

fn find(channels: &Channels, caller: &Caller, id: Id) -> Result<pb::Channel, Problem> {
    let service_identifier = read_id("serviceIdentifier", id)?;
    channels.seen(caller, Key::ServiceIdentifier(&service_identifier)).map_err(not_registered)
}

fn not_registered(error: Error) -> Problem {
    match error.kind() {
        Kind::NotFound => Problem::NotRegistered(error),
        _ => error.into(),
    }
}

/// A channel as the documented platform shows it: every key is there, null for what the gateway does not know.
fn documented(channel: &pb::Channel) -> Json {
    let attributes: Json = serde_json::from_slice(&wire::encode_attributes(&channel.attributes)).unwrap_or_default();
    let webhook = channel.connector.as_ref().map(|connector| &connector.uri);
    let bot = channel.bot.as_ref().map(|bot| &bot.id).filter(|id| !id.is_empty());
    let timeout = channel.customer_activity_timeout.map_or(0, |timeout| timeout.seconds);
    let mode = channel.mode().as_str_name().trim_start_matches("CHANNEL_MODE_");
    let channel_type = object!({
        "id": channel.channel_type, "name": channel.channel_type, "channelLogo": null, "isInteractive": true,
        "mediaRoutingDomain": null,
    });
    object!({
        "id": channel.id,
        "calendarId": null,
        "name": channel.name,
        "serviceIdentifier": channel.service_identifier,
        "defaultOutbound": channel.default_outbound,
        "tenant": null,
        "channelConfig": {
            "id": channel.id, "channelMode": mode, "conversationBot": bot, "responseSla": 0,
            "customerActivityTimeout": timeout, "customerSla": null, "customerIdentificationCriteria": null,
            "routingPolicy": null, "botId": bot,
        },
        "channelConnector": {
            "id": channel.id, "name": channel.name,
            "channelProviderInterface": {
                "id": channel.id, "name": channel.name, "supportedChannelTypes": [channel_type], "providerWebhook": webhook,
                "channelProviderConfigSchema": [],
            },
            "channelProviderConfigs": attributes, "tenant": null,
        },
        "channelType": channel_type,
    })
}
