//! The fields of a channel that an update may name, as `google.protobuf.FieldMask` names them.

use crate::error::Error;
use crate::pb;

/// Takes one field of an update over.
type Take = fn(&mut pb::Channel, &pb::Channel);

/// Every path, and what it changes.
const FIELDS: &[(&str, Take)] = &[
    ("service_identifier", |channel, update| channel.service_identifier.clone_from(&update.service_identifier)),
    ("name", |channel, update| channel.name.clone_from(&update.name)),
    ("channel_type", |channel, update| channel.channel_type.clone_from(&update.channel_type)),
    ("mode", |channel, update| channel.mode = update.mode),
    ("default_outbound", |channel, update| channel.default_outbound = update.default_outbound),
    ("connector", |channel, update| channel.connector.clone_from(&update.connector)),
    ("connector.uri", |channel, update| connector(channel).uri = given(update.connector.as_ref()).uri),
    ("connector.disabled", |channel, update| connector(channel).disabled = given(update.connector.as_ref()).disabled),
    ("connector.signing_secrets", |channel, update| {
        connector(channel).signing_secrets = Some(secrets(update.connector.as_ref()));
    }),
    ("bot", |channel, update| channel.bot.clone_from(&update.bot)),
    ("bot.endpoint", |channel, update| bot(channel).endpoint = update.bot.as_ref().and_then(|bot| bot.endpoint.clone())),
    ("bot.endpoint.uri", |channel, update| bot_endpoint(channel).uri = given(of_bot(update)).uri),
    ("bot.endpoint.disabled", |channel, update| bot_endpoint(channel).disabled = given(of_bot(update)).disabled),
    ("bot.endpoint.signing_secrets", |channel, update| {
        bot_endpoint(channel).signing_secrets = Some(secrets(of_bot(update)));
    }),
    ("bot.format", |channel, update| bot(channel).format = given(update.bot.as_ref()).format),
    ("bot.id", |channel, update| bot(channel).id = given(update.bot.as_ref()).id),
    ("bot.name", |channel, update| bot(channel).name = given(update.bot.as_ref()).name),
    ("customer_activity_timeout", |channel, update| {
        channel.customer_activity_timeout = update.customer_activity_timeout;
    }),
    ("delivery", |channel, update| channel.delivery = update.delivery),
    ("delivery.timeout", |channel, update| {
        channel.delivery.get_or_insert_default().timeout = given(update.delivery.as_ref()).timeout;
    }),
    ("delivery.order", |channel, update| {
        channel.delivery.get_or_insert_default().order = given(update.delivery.as_ref()).order;
    }),
    ("attributes", |channel, update| channel.attributes.clone_from(&update.attributes)),
];

/// `channel` with those fields of `update` that `paths` name, `*` being every one. Fails with every path that names none.
pub(super) fn apply(channel: &mut pb::Channel, update: &pb::Channel, paths: &[String]) -> Result<(), Error> {
    let known = |path: &String| path == "*" || FIELDS.iter().any(|(name, _)| name == path);
    let unknown: Vec<_> = paths.iter().filter(|path| !known(path)).map(|path| format!("{path:?}")).collect();
    if !unknown.is_empty() {
        let names: Vec<_> = FIELDS.iter().map(|(name, _)| *name).collect();
        let problem = format!("names no field that can be changed: {}; known are {}", unknown.join(", "), names.join(", "));
        return Err(Error::InvalidRequest { field: "update_mask", problem });
    }
    if paths.iter().any(|path| path == "*") {
        channel.clone_from(update);
        return Ok(());
    }
    for (_, take) in FIELDS.iter().filter(|(name, _)| paths.iter().any(|path| path == name)) {
        take(channel, update);
    }
    Ok(())
}

/// What an update says of a part, or what a part says that is not there.
fn given<T: Clone + Default>(part: Option<&T>) -> T {
    part.cloned().unwrap_or_default()
}

fn secrets(endpoint: Option<&pb::Endpoint>) -> pb::SigningSecrets {
    given(endpoint.and_then(|endpoint| endpoint.signing_secrets.as_ref()))
}

fn of_bot(channel: &pb::Channel) -> Option<&pb::Endpoint> {
    channel.bot.as_ref().and_then(|bot| bot.endpoint.as_ref())
}

fn connector(channel: &mut pb::Channel) -> &mut pb::Endpoint {
    channel.connector.get_or_insert_default()
}

fn bot(channel: &mut pb::Channel) -> &mut pb::Bot {
    channel.bot.get_or_insert_default()
}

fn bot_endpoint(channel: &mut pb::Channel) -> &mut pb::Endpoint {
    bot(channel).endpoint.get_or_insert_default()
}
