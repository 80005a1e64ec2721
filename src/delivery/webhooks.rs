//! Webhooks as they are called: their addresses and secrets are read when they change, not for every attempt.

use super::lanes::EndpointKey;
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

/// The webhooks that were called.
#[derive(Debug, Default)]
pub(super) struct Webhooks(RwLock<HashMap<EndpointKey, Arc<Webhook>>>);

impl Webhooks {
    /// A webhook of this channel; none if it has no such webhook.
    pub(super) fn of(&self, channel: &Arc<pb::Channel>, key: &EndpointKey) -> Option<Arc<Webhook>> {
        // A channel that has changed is another one in memory, and what is weak keeps the place of the former.
        let known = self.0.read().get(key).filter(|known| known.of.as_ptr() == Arc::as_ptr(channel)).cloned();
        known.or_else(|| self.read(channel, key))
    }

    fn read(&self, channel: &Arc<pb::Channel>, key: &EndpointKey) -> Option<Arc<Webhook>> {
        let endpoint = endpoint(channel, key.endpoint)?;
        let url = Url::parse(&endpoint.uri).ok().map(|url| url.or_path(PATH));
        let webhook = Arc::new(Webhook { of: Arc::downgrade(channel), url, secrets: secrets(endpoint) });
        let mut webhooks = self.0.write();
        webhooks.retain(|_, webhook| webhook.of.strong_count() > 0);
        webhooks.insert(key.clone(), webhook.clone());
        Some(webhook)
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
    fn what_is_known_of_channels_that_have_gone_goes_with_the_next_that_is_read() {
        let webhooks = Webhooks::default();
        webhooks.of(&channel("http://a"), &key());
        let other = EndpointKey { channel_id: "help".into(), ..key() };
        let kept = channel("http://b");
        webhooks.of(&kept, &other);
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
