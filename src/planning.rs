//! Which webhooks get a message: the plan that is appended with it.
//!
//! Pure. What is for the customer goes to the connector of its channel; what is for the platform goes to the channel's bot, unless only
//! agents answer there. Who has no webhook reads the stream.

use crate::channels::Snapshot;
use crate::pb;
use crate::pb::store::{Delivery, Endpoint, Entry};
use crate::pb::{Audience, ChannelMode};

/// Plans the deliveries of an entry.
pub(crate) fn plan(entry: &mut Entry, channels: &Snapshot) {
    let Some(channel) = channel_of(entry, channels) else { return };
    let plans = [
        (Endpoint::Connector, is_for(entry, Audience::Customer) && channel.connector.is_some()),
        (Endpoint::Bot, is_for(entry, Audience::Platform) && has_bot(channel)),
    ];
    let deliveries = plans.into_iter().filter(|(_, planned)| *planned).map(|(endpoint, _)| Delivery {
        channel_id: channel.id.clone(),
        endpoint: endpoint.into(),
        ..Delivery::default()
    });
    entry.deliveries = deliveries.collect();
}

fn channel_of<'c>(entry: &Entry, channels: &'c Snapshot) -> Option<&'c pb::Channel> {
    let header = entry.message.as_ref()?.header.as_ref()?;
    let service_identifier = header.channel_data.as_ref()?.service_identifier.as_deref()?;
    channels.get(service_identifier).map(AsRef::as_ref)
}

fn is_for(entry: &Entry, audience: Audience) -> bool {
    entry.audiences.contains(&i32::from(audience))
}

fn has_bot(channel: &pb::Channel) -> bool {
    channel.mode() != ChannelMode::Agent && channel.bot.as_ref().is_some_and(|bot| bot.endpoint.is_some())
}
