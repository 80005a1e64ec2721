//! Which webhooks get a message: the plan that is appended with it.
//!
//! Pure. What is for the customer goes to the connector of its channel; what is for the platform goes to the channel's bot, unless only
//! agents answer there. Who has no webhook reads the stream.

use crate::channels::Snapshot;
use crate::pb;
use crate::pb::store::{Delivery, Endpoint, Entry};
use crate::pb::{Audience, BotFormat, ChannelMode};
use crate::store::Frame;
use crate::{message, sessions};

/// Plans the deliveries of a frame.
pub(crate) fn plan_all(frame: &mut Frame, channels: &Snapshot) {
    frame.iter_mut().for_each(|entry| plan(entry, channels));
}

/// Plans the deliveries of an entry.
pub(crate) fn plan(entry: &mut Entry, channels: &Snapshot) {
    let Some(channel) = channel_of(entry, channels) else { return };
    let plans = [
        (Endpoint::Connector, is_for(entry, Audience::Customer) && channel.connector.is_some()),
        (Endpoint::Bot, is_for(entry, Audience::Platform) && has_bot(channel, entry)),
    ];
    let deliveries = plans.into_iter().filter(|(_, planned)| *planned).map(|(endpoint, _)| Delivery {
        channel_id: channel.id.clone(),
        endpoint: endpoint.into(),
        ..Delivery::default()
    });
    entry.deliveries = deliveries.collect();
}

fn channel_of<'c>(entry: &Entry, channels: &'c Snapshot) -> Option<&'c pb::Channel> {
    channels.get(message::service_identifier(entry.message.as_ref()?)?).map(AsRef::as_ref)
}

fn is_for(entry: &Entry, audience: Audience) -> bool {
    entry.audiences.contains(&i32::from(audience))
}

/// True if a bot answers on the channel and takes the message: one that takes envelopes knows messages and sessions, and no other
/// notifications.
fn has_bot(channel: &pb::Channel, entry: &Entry) -> bool {
    let Some(bot) = channel.bot.as_ref().filter(|bot| bot.endpoint.is_some()) else { return false };
    let message = entry.message.as_deref();
    let is_notification = message.is_some_and(message::is_notification);
    let takes = bot.format() != BotFormat::Bot || !is_notification || message.is_some_and(sessions::is_notice);
    channel.mode() != ChannelMode::Agent && takes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::Bot;
    use crate::samples;
    use serde_json::{Value, json};

    fn planned(channel: pb::Channel, patch: Value, audiences: &[Audience]) -> Vec<Endpoint> {
        let message = samples::message(patch);
        let service_identifier =
            samples::message(json!({})).header.and_then(|header| header.channel_data).and_then(|data| data.service_identifier);
        let channel = pb::Channel { id: "c1".into(), service_identifier: service_identifier.unwrap_or_default(), ..channel };
        let channels = Snapshot::of([channel]);
        let audiences = audiences.iter().map(|audience| i32::from(*audience)).collect();
        let mut entry = Entry { message: Some(message.into()), audiences, ..Entry::default() };
        plan(&mut entry, &channels);
        assert!(entry.deliveries.iter().all(|delivery| delivery.channel_id == "c1"));
        entry.deliveries.iter().map(Delivery::endpoint).collect()
    }

    fn endpoint() -> Option<pb::Endpoint> {
        Some(pb::Endpoint { uri: "https://a".into(), ..pb::Endpoint::default() })
    }

    fn both(mode: ChannelMode, format: BotFormat) -> pb::Channel {
        let bot = Bot { endpoint: endpoint(), format: format.into(), ..Bot::default() };
        pb::Channel { connector: endpoint(), bot: Some(bot), mode: mode.into(), ..pb::Channel::default() }
    }

    #[test]
    fn a_message_goes_to_the_webhooks_of_its_audience() {
        let (to_customer, to_platform) = ([Audience::Customer], [Audience::Platform]);
        let hybrid = || both(ChannelMode::Hybrid, BotFormat::Cim);
        assert_eq!(planned(hybrid(), json!({}), &to_customer), [Endpoint::Connector]);
        assert_eq!(planned(hybrid(), json!({}), &to_platform), [Endpoint::Bot]);
        let everybody = [Audience::Customer, Audience::Platform];
        assert_eq!(planned(hybrid(), json!({}), &everybody), [Endpoint::Connector, Endpoint::Bot]);
        assert_eq!(planned(both(ChannelMode::Agent, BotFormat::Cim), json!({}), &to_platform), []);
        assert_eq!(planned(pb::Channel::default(), json!({}), &everybody), []);
    }

    #[test]
    fn a_bot_that_takes_envelopes_gets_messages_and_no_notifications() {
        let receipt =
            json!({ "body": { "type": "DELIVERYNOTIFICATION", "messageId": "m1", "status": "READ", "reasonCode": 200 } });
        let typing = json!({ "body": { "type": "NOTIFICATION", "notificationType": "TYPING_STARTED", "notificationData": {} } });
        for (format, expected) in [(BotFormat::Cim, &[Endpoint::Bot][..]), (BotFormat::Bot, &[])] {
            for patch in [&receipt, &typing] {
                assert_eq!(planned(both(ChannelMode::Bot, format), patch.clone(), &[Audience::Platform]), expected);
            }
            assert_eq!(planned(both(ChannelMode::Bot, format), json!({}), &[Audience::Platform]), [Endpoint::Bot]);
        }
    }
}
