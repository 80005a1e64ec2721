//! What is registered at run time: channels. It is little, changes seldom, and no retention takes it away.

use super::Error;
use crate::pb;
use async_trait::async_trait;
use std::fmt;

/// An engine that keeps what is registered.
///
/// **Durable.** A change is as safe as the engine makes it when its call returns, and seen by every look after that. A change that
/// fails with [`Error::Unavailable`] may or may not be there later; with [`Error::Full`] it is not.
///
/// **Order.** Whoever changes waits for one change before it begins the next.
#[async_trait]
pub trait Registry: fmt::Debug + Send + Sync + 'static {
    /// Every channel, with its secrets, in no order.
    async fn channels(&self) -> Result<Vec<pb::Channel>, Error>;

    /// Puts a channel in place of the one with its id, or beside the others if there is none. No other may have its service
    /// identifier.
    async fn put_channel(&self, channel: &pb::Channel) -> Result<(), Error>;

    /// Removes the channel with this id; nothing happens if there is none.
    async fn remove_channel(&self, id: &str) -> Result<(), Error>;
}

#[cfg(test)]
pub(super) mod conformance {
    //! The promise as rules that every engine must keep.

    use super::*;
    use std::sync::Arc;

    macro_rules! registers {
        ($engine:expr) => {
            $crate::store::registry::conformance::registers!(@ $engine;
                what_was_put_is_there_to_the_last_field,
                a_channel_takes_the_place_of_the_one_with_its_id,
                what_was_removed_is_gone_and_its_service_identifier_free,
                no_two_channels_have_one_service_identifier,
            );
        };
        (@ $engine:expr; $($rule:ident,)*) => {
            $(
                #[tokio::test]
                async fn $rule() {
                    $crate::store::registry::conformance::$rule(std::sync::Arc::new($engine)).await;
                }
            )*
        };
    }
    pub(in crate::store) use registers;

    /// A channel with something in every field that may get lost.
    pub(in crate::store) fn channel(id: &str, service_identifier: &str) -> pb::Channel {
        let secrets = pb::SigningSecrets { secrets: vec!["whsec_1".into(), "whsec_2".into()] };
        let text = |text: &str| prost_types::Value { kind: Some(prost_types::value::Kind::StringValue(text.into())) };
        pb::Channel {
            id: id.into(),
            service_identifier: service_identifier.into(),
            name: "Shop".into(),
            channel_type: "WHATSAPP".into(),
            default_outbound: true,
            connector: Some(pb::Endpoint {
                uri: "https://connector.example".into(),
                signing_secrets: Some(secrets),
                ..pb::Endpoint::default()
            }),
            attributes: vec![pb::Attribute {
                key: Some("token".into()),
                r#type: pb::ValueType::Password.into(),
                value: Some(text("secret")),
                ..pb::Attribute::default()
            }],
            etag: "1".into(),
            create_time: Some(prost_types::Timestamp { seconds: 1, nanos: 2_000_000 }),
            ..pb::Channel::default()
        }
    }

    async fn all(registry: &dyn Registry) -> Vec<pb::Channel> {
        let mut channels = registry.channels().await.expect("can be read");
        channels.sort_by(|a, b| a.id.cmp(&b.id));
        channels
    }

    pub(in crate::store) async fn what_was_put_is_there_to_the_last_field(registry: Arc<dyn Registry>) {
        assert_eq!(all(&*registry).await, []);
        let channels = [channel("1", "shop"), channel("2", "Shop")];
        for channel in &channels {
            registry.put_channel(channel).await.expect("can be put");
        }
        assert_eq!(all(&*registry).await, channels);
    }

    pub(in crate::store) async fn a_channel_takes_the_place_of_the_one_with_its_id(registry: Arc<dyn Registry>) {
        registry.put_channel(&channel("1", "shop")).await.expect("can be put");
        registry.put_channel(&channel("2", "help")).await.expect("can be put");
        let changed = pb::Channel { etag: "2".into(), connector: None, ..channel("1", "shop") };
        registry.put_channel(&changed).await.expect("can be put");
        assert_eq!(all(&*registry).await, [changed, channel("2", "help")]);
    }

    pub(in crate::store) async fn what_was_removed_is_gone_and_its_service_identifier_free(registry: Arc<dyn Registry>) {
        registry.put_channel(&channel("1", "shop")).await.expect("can be put");
        for id in ["1", "1", "unknown"] {
            registry.remove_channel(id).await.expect("can be removed");
        }
        assert_eq!(all(&*registry).await, []);
        registry.put_channel(&channel("2", "shop")).await.expect("can be put");
        assert_eq!(all(&*registry).await, [channel("2", "shop")]);
    }

    pub(in crate::store) async fn no_two_channels_have_one_service_identifier(registry: Arc<dyn Registry>) {
        registry.put_channel(&channel("1", "shop")).await.expect("can be put");
        assert!(matches!(registry.put_channel(&channel("2", "shop")).await, Err(Error::Unavailable { .. })));
        assert_eq!(all(&*registry).await, [channel("1", "shop")]);
    }
}
