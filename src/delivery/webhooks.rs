//! Webhooks as they are called: their addresses and secrets are read when they change, not for every attempt.

use super::lanes::EndpointKey;
use crate::channels::Snapshot;
use crate::pb;
use crate::pb::store::Endpoint;
use crate::webhook::{Secret, Url};
use parking_lot::RwLock;
use std::collections::HashMap;
use std::sync::{Arc, Weak};

/// Where an address without a path leads.
const PATH: &str = "/message/receive";

/// A webhook of a channel.
#[derive(Debug)]
pub(super) struct Webhook {
    /// The channel as it was when this was read.
    of: Weak<pb::Channel>,
    /// Where it is; none if its address cannot be read.
    pub(super) url: Option<Url>,
    /// What its attempts are signed with.
    pub(super) secrets: Vec<Secret>,
}

impl Webhook {
    /// True if it was read of this channel. One that has changed is another in memory: what is weak keeps the place of the former.
    fn is_of(&self, channel: &Arc<pb::Channel>) -> bool {
        self.of.as_ptr() == Arc::as_ptr(channel)
    }
}

/// The webhooks that were called.
#[derive(Debug, Default)]
pub(super) struct Webhooks(RwLock<HashMap<EndpointKey, Arc<Webhook>>>);

impl Webhooks {
    /// A webhook of this channel; none if it has no such webhook.
    pub(super) fn of(&self, channel: &Arc<pb::Channel>, key: &EndpointKey) -> Option<Arc<Webhook>> {
        let known = self.0.read().get(key).filter(|known| known.is_of(channel)).cloned();
        known.or_else(|| self.read(channel, key))
    }

    fn read(&self, channel: &Arc<pb::Channel>, key: &EndpointKey) -> Option<Arc<Webhook>> {
        let endpoint = endpoint(channel, key.endpoint)?;
        let url = Url::parse(&endpoint.uri).ok().map(|url| url.or_path(PATH));
        let webhook = Arc::new(Webhook { of: Arc::downgrade(channel), url, secrets: secrets(endpoint) });
        self.0.write().insert(key.clone(), webhook.clone());
        Some(webhook)
    }

    /// Keeps those of these channels alone.
    pub(super) fn keep(&self, channels: &Snapshot) {
        let is_kept =
            |key: &EndpointKey, webhook: &Webhook| channels.by_id(&key.channel_id).is_some_and(|now| webhook.is_of(now));
        self.0.write().retain(|key, webhook| is_kept(key, webhook));
    }
}

/// What is registered of a webhook; none if the channel has no such webhook.
pub(super) fn endpoint(channel: &pb::Channel, which: Endpoint) -> Option<&pb::Endpoint> {
    match which {
        Endpoint::Connector => channel.connector.as_ref(),
        Endpoint::Bot => channel.bot.as_ref()?.endpoint.as_ref(),
        Endpoint::Unspecified => None,
    }
}

/// The secrets of a webhook, which were checked when it was registered.
pub(super) fn secrets(endpoint: &pb::Endpoint) -> Vec<Secret> {
    let secrets = endpoint.signing_secrets.iter().flat_map(|secrets| &secrets.secrets);
    secrets.filter_map(|secret| Secret::parse(secret).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> EndpointKey {
        EndpointKey { channel_id: "shop".into(), endpoint: Endpoint::Connector }
    }

    fn channel(uri: &str) -> Arc<pb::Channel> {
        let connector = pb::Endpoint { uri: uri.into(), ..pb::Endpoint::default() };
        Arc::new(pb::Channel { id: "shop".into(), connector: Some(connector), ..pb::Channel::default() })
    }

    #[test]
    fn a_webhook_is_read_once_and_again_when_its_channel_has_changed() {
        let webhooks = Webhooks::default();
        let before = channel("http://a");
        let first = webhooks.of(&before, &key()).expect("there is one");
        assert_eq!(first.url.as_ref().expect("it is a URL").to_string(), "http://a/message/receive");
        assert!(Arc::ptr_eq(&first, &webhooks.of(&before, &key()).expect("there is one")));
        let after = channel("http://b/cim");
        drop(before);
        let second = webhooks.of(&after, &key()).expect("there is one");
        assert_eq!(second.url.as_ref().expect("it is a URL").to_string(), "http://b/cim");
    }

    #[test]
    fn what_is_known_of_channels_that_have_gone_goes_when_the_registry_has_changed() {
        let webhooks = Webhooks::default();
        webhooks.of(&channel("http://a"), &key());
        let other = EndpointKey { channel_id: "help".into(), ..key() };
        let kept = pb::Channel { id: "help".into(), ..pb::Channel::clone(&channel("http://b")) };
        let channels = Snapshot::of([kept]);
        webhooks.of(channels.by_id("help").expect("it is there"), &other);
        webhooks.keep(&channels);
        assert_eq!(webhooks.0.read().keys().cloned().collect::<Vec<_>>(), [other]);
    }

    #[test]
    fn a_webhook_that_is_not_there_is_none_and_one_whose_address_cannot_be_read_has_none() {
        let webhooks = Webhooks::default();
        let bot = EndpointKey { endpoint: Endpoint::Bot, ..key() };
        assert!(webhooks.of(&channel("http://a"), &bot).is_none());
        assert!(webhooks.of(&channel("no URL"), &key()).expect("there is one").url.is_none());
    }
}
