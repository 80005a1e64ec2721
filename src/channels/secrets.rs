//! What of a channel is never shown or only the gateway's to set, and how it stays when a client sends back what it was shown.

use super::rules::{is_password, is_unset};
use crate::pb::{self, DisabledReason};
use sha2::{Digest as _, Sha256};

/// The channel without its secrets: of signing secrets only the digests are there, and the values of passwords are unset.
pub(super) fn shown(channel: &pb::Channel) -> pb::Channel {
    let mut shown = channel.clone();
    for endpoint in endpoints(&mut shown) {
        let secrets = endpoint.signing_secrets.take().unwrap_or_default().secrets;
        endpoint.signing_secret_digests = secrets.iter().map(|secret| digest(secret)).collect();
    }
    for attribute in shown.attributes.iter_mut().filter(|attribute| is_password(attribute)) {
        attribute.value = None;
    }
    shown
}

/// Lets stay what a client left out because it was not shown: signing secrets of an endpoint, and values of passwords; and why the
/// gateway has disabled an endpoint, unless it is enabled.
pub(super) fn keep(channel: &mut pb::Channel, former: &pb::Channel) {
    let former_bot = former.bot.as_ref().and_then(|bot| bot.endpoint.as_ref());
    let bot = channel.bot.as_mut().and_then(|bot| bot.endpoint.as_mut());
    for (endpoint, former) in [(channel.connector.as_mut(), former.connector.as_ref()), (bot, former_bot)] {
        let (Some(endpoint), Some(former)) = (endpoint, former) else { continue };
        if endpoint.signing_secrets.is_none() {
            endpoint.signing_secrets.clone_from(&former.signing_secrets);
        }
        if endpoint.disabled && former.disabled {
            endpoint.disabled_reason = former.disabled_reason;
        }
    }
    for attribute in channel.attributes.iter_mut().filter(|attribute| is_password(attribute)) {
        if is_unset(attribute.value.as_ref()) {
            let kept = former.attributes.iter().find(|former| is_password(former) && former.key == attribute.key);
            attribute.value = kept.and_then(|kept| kept.value.clone());
        }
    }
}

/// Takes out what only the gateway sets.
pub(super) fn drop_output(channel: &mut pb::Channel) {
    for endpoint in endpoints(channel) {
        endpoint.signing_secret_digests.clear();
        endpoint.set_disabled_reason(DisabledReason::Unspecified);
    }
    channel.declared = false;
    channel.create_time = None;
    channel.update_time = None;
}

fn endpoints(channel: &mut pb::Channel) -> impl Iterator<Item = &mut pb::Endpoint> {
    let bot = channel.bot.as_mut().and_then(|bot| bot.endpoint.as_mut());
    [channel.connector.as_mut(), bot].into_iter().flatten()
}

/// The first 8 hexadecimal digits of the SHA-256 of a secret. A secret is too long to be guessed by them.
fn digest(secret: &str) -> String {
    Sha256::digest(secret).iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}
