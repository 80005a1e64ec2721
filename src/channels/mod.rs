//! The registry of channels: what a service identifier selects. Channels are registered at run time, durably, or declared by the
//! configuration.
//!
//! Who routes or delivers a message looks into a [`Snapshot`], which costs no more than a lock for reading; who follows changes
//! watches it. Changes are made one at a time: checked against the present snapshot, made durable, then seen.

pub mod declared;
mod fields;
mod rules;
mod secrets;

use crate::auth::Caller;
use crate::error::Error;
use crate::pb::store::Endpoint;
use crate::pb::{self, DisabledReason};
use crate::store::Registry;
use crate::violation::{Reason, Violations};
use crate::wire::{self, Bounds};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;
use tokio::sync::{Mutex, watch};
use uuid::Uuid;

/// Most bytes of the channels on one page, as protobuf: gRPC clients take 4 MiB at once unless they are told otherwise. One channel
/// is given even if it is larger.
const PAGE_BYTES: usize = 2 * 1024 * 1024;

/// The first byte of a page token.
const TOKEN_FORM: u8 = 1;

/// Bounds of a channel.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Most bytes of a channel as protobuf.
    pub channel_bytes: usize,
    /// Most bytes of an identifier, a name or a key.
    pub id_bytes: usize,
    /// Bounds of its lists and of free-form values in it.
    pub bounds: Bounds,
}

/// How the registry works.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// True if only messages of channels that are in the registry are accepted.
    pub require_registered: bool,
    /// Most channels, declared ones included.
    pub most: usize,
    /// Bounds of each of them.
    pub limits: Limits,
}

/// The channels at one moment, each with its secrets. Cheap to look things up in.
#[derive(Debug, Default)]
pub struct Snapshot {
    require_registered: bool,
    by_service_identifier: BTreeMap<String, Arc<pb::Channel>>,
    by_id: HashMap<String, Arc<pb::Channel>>,
}

impl Snapshot {
    fn new(require_registered: bool, channels: impl IntoIterator<Item = Arc<pb::Channel>>) -> Self {
        let mut snapshot = Self { require_registered, ..Self::default() };
        for channel in channels {
            snapshot.by_id.insert(channel.id.clone(), channel.clone());
            snapshot.by_service_identifier.insert(channel.service_identifier.clone(), channel);
        }
        snapshot
    }

    /// These channels, and whoever else is accepted.
    #[cfg(test)]
    pub(crate) fn of(channels: impl IntoIterator<Item = pb::Channel>) -> Self {
        Self::new(false, channels.into_iter().map(Arc::new))
    }

    /// The channel that a service identifier selects.
    pub fn get(&self, service_identifier: &str) -> Option<&Arc<pb::Channel>> {
        self.by_service_identifier.get(service_identifier)
    }

    /// The channel with this id.
    pub fn by_id(&self, id: &str) -> Option<&Arc<pb::Channel>> {
        self.by_id.get(id)
    }

    /// Every channel, in the order of their service identifiers.
    pub fn all(&self) -> impl Iterator<Item = &Arc<pb::Channel>> {
        self.by_service_identifier.values()
    }

    /// True if messages of a service identifier are accepted.
    pub fn admits(&self, service_identifier: &str) -> bool {
        !self.require_registered || self.by_service_identifier.contains_key(service_identifier)
    }

    /// The type of a channel, within which an address names one customer. A channel that is not registered is a type of its own.
    pub fn channel_type<'s>(&'s self, service_identifier: &'s str) -> &'s str {
        self.get(service_identifier).map_or(service_identifier, |channel| &channel.channel_type)
    }

    /// The channel of a type that is taken where an outbound message names none.
    pub fn default_outbound(&self, channel_type: &str) -> Option<&Arc<pb::Channel>> {
        self.all().find(|channel| channel.default_outbound && channel.channel_type == channel_type)
    }

    /// These channels with one put in place of the one with its id.
    fn with(&self, channel: Arc<pb::Channel>) -> Self {
        let others = self.all().filter(|other| other.id != channel.id).cloned();
        Self::new(self.require_registered, others.chain([channel.clone()]))
    }

    /// These channels without one.
    fn without(&self, id: &str) -> Self {
        Self::new(self.require_registered, self.all().filter(|other| other.id != id).cloned())
    }
}

/// What names a channel.
#[derive(Debug, Clone, Copy)]
pub enum Key<'k> {
    /// Its id.
    Id(&'k str),
    /// Its service identifier.
    ServiceIdentifier(&'k str),
}

/// A page of channels.
#[derive(Debug, Clone, PartialEq)]
pub struct ChannelPage {
    /// The channels, without their secrets.
    pub channels: Vec<pb::Channel>,
    /// Token of the next page; none on the last.
    pub next: Option<String>,
}

/// Why the registry cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The store cannot tell the channels.
    #[error(transparent)]
    Store(#[from] crate::store::Error),
    /// What the configuration declares contradicts what is registered.
    #[error("{}", .0.join("; "))]
    Contradictions(Vec<String>),
}

/// The registry. Cheap to clone; every clone is the same registry.
#[derive(Debug, Clone)]
pub struct Channels {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    registry: Arc<dyn Registry>,
    settings: Settings,
    snapshot: watch::Sender<Arc<Snapshot>>,
    /// Held while a change is made.
    changing: Mutex<()>,
}

impl Channels {
    /// The registry of what is in `registry` and of what is declared, as [`declared::read`] gave it. Fails with everything that they
    /// contradict each other in: there is one channel of a service identifier, and one default of a type.
    pub async fn open(registry: Arc<dyn Registry>, declared: Vec<pb::Channel>, settings: Settings) -> Result<Self, OpenError> {
        let registered = registry.channels().await?;
        let present = Snapshot::new(settings.require_registered, registered.into_iter().map(Arc::new));
        let mut contradictions = Vec::new();
        for (i, channel) in declared.iter().enumerate() {
            if let Some(other) = present.get(&channel.service_identifier) {
                contradictions.push(format!(
                    "channels.declared[{i}]: {:?} is registered, too, as the channel {}: declare it no more, or delete that one",
                    channel.service_identifier, other.id
                ));
            } else if channel.default_outbound
                && let Some(other) = present.default_outbound(&channel.channel_type)
            {
                contradictions.push(format!(
                    "channels.declared[{i}].default_outbound: the default of the type {:?} is the registered channel {} already",
                    channel.channel_type, other.id
                ));
            }
        }
        if !contradictions.is_empty() {
            return Err(OpenError::Contradictions(contradictions));
        }
        let all = present.all().cloned().chain(declared.into_iter().map(Arc::new)).collect::<Vec<_>>();
        let snapshot = watch::Sender::new(Arc::new(Snapshot::new(settings.require_registered, all)));
        Ok(Self { shared: Arc::new(Shared { registry, settings, snapshot, changing: Mutex::new(()) }) })
    }

    /// The channels as they are now.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.shared.snapshot.borrow().clone()
    }

    /// The channels as they change. A receiver that looks away sees the latest.
    pub fn watch(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.shared.snapshot.subscribe()
    }

    /// The bounds of a channel.
    pub fn limits(&self) -> &Limits {
        &self.shared.settings.limits
    }

    /// A channel, without its secrets.
    pub fn channel(&self, key: Key<'_>) -> Result<pb::Channel, Error> {
        Ok(secrets::shown(find(&self.snapshot(), key)?))
    }

    /// The same, if the caller may know of it; for any other there is none.
    pub fn seen(&self, caller: &Caller, key: Key<'_>) -> Result<pb::Channel, Error> {
        let channel = self.channel(key)?;
        caller.must_see(&channel.service_identifier, || not_found(key))?;
        Ok(channel)
    }

    /// The default channel of a type, without its secrets.
    pub fn default_outbound(&self, channel_type: &str) -> Result<pb::Channel, Error> {
        let snapshot = self.snapshot();
        let found = snapshot.default_outbound(channel_type);
        let channel = found.ok_or_else(|| Error::NoDefaultOutbound { channel_type: channel_type.to_owned() })?;
        Ok(secrets::shown(channel))
    }

    /// A page of at most `size` channels in the order of their service identifiers, after the page before; only those of a type if
    /// one is given. Of large channels it holds fewer.
    pub fn list(&self, channel_type: Option<&str>, token: Option<&str>, size: usize) -> Result<ChannelPage, Error> {
        let snapshot = self.snapshot();
        let after = token.map(page_end).transpose()?;
        let from = after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut wanted = snapshot
            .by_service_identifier
            .range::<str, _>((from, Bound::Unbounded))
            .map(|(_, channel)| channel)
            .filter(|channel| channel_type.is_none_or(|wanted| channel.channel_type == wanted))
            .peekable();
        let mut bytes = 0;
        let mut channels: Vec<pb::Channel> = Vec::new();
        while let Some(channel) = wanted.peek() {
            bytes += channel.encoded_len();
            if channels.len() == size || (bytes > PAGE_BYTES && !channels.is_empty()) {
                break;
            }
            channels.push(secrets::shown(channel));
            wanted.next();
        }
        let last = channels.last().filter(|_| wanted.peek().is_some());
        Ok(ChannelPage { next: last.map(|last| page_token(&last.service_identifier)), channels })
    }

    /// The page of the one channel with this service identifier, if there is one of this type.
    pub fn only(&self, service_identifier: &str, channel_type: Option<&str>) -> ChannelPage {
        let snapshot = self.snapshot();
        let found = snapshot.get(service_identifier);
        let found = found.filter(|channel| channel_type.is_none_or(|wanted| channel.channel_type == wanted));
        ChannelPage { channels: found.into_iter().map(|channel| secrets::shown(channel)).collect(), next: None }
    }

    /// Registers a channel, durably. `unreadable` is what could not be read of it; anything there refuses it, together with every rule
    /// that the rest breaks. A repeat fails with [`Error::ChannelExists`]. Returns it without its secrets.
    pub async fn create(&self, mut channel: pb::Channel, unreadable: Violations) -> Result<pb::Channel, Error> {
        secrets::drop_output(&mut channel);
        channel.id = Uuid::now_v7().to_string();
        let mut violations = unreadable;
        violations.follow_up(rules::check(&mut channel, self.limits()));
        refuse_if_any(violations)?;

        let _changing = self.shared.changing.lock().await;
        let present = self.snapshot();
        if present.get(&channel.service_identifier).is_some() {
            return Err(Error::ChannelExists { service_identifier: channel.service_identifier });
        }
        let most = self.shared.settings.most;
        if present.by_id.len() >= most {
            return Err(Error::TooManyChannels { most });
        }
        channel.create_time = Some(wire::now());
        self.put(&present, channel).await
    }

    /// Changes the fields that `paths` name of the channel with the id of `update`, durably; every one if none is named. What is never
    /// shown stays where `update` does not have it. If `update` has an etag, or `etag` is given, it must be the channel's. Returns the
    /// channel without its secrets.
    pub async fn update(
        &self,
        update: pb::Channel,
        paths: &[String],
        etag: Option<&str>,
        unreadable: Violations,
    ) -> Result<pb::Channel, Error> {
        let _changing = self.shared.changing.lock().await;
        let present = self.snapshot();
        let former = changeable(find(&present, Key::Id(&update.id))?)?;
        for etag in [etag, Some(update.etag.as_str()).filter(|etag| !etag.is_empty())].into_iter().flatten() {
            check_etag(former, etag)?;
        }
        let mut channel = pb::Channel::clone(former);
        let every = ["*".to_owned()];
        fields::apply(&mut channel, &update, if paths.is_empty() { &every } else { paths })?;
        secrets::drop_output(&mut channel);
        secrets::keep(&mut channel, former);
        channel.create_time = former.create_time;
        let mut violations = unreadable;
        violations.follow_up(rules::check(&mut channel, self.limits()));
        let mut identity = Violations::default();
        if channel.service_identifier != former.service_identifier {
            let message = format!("is the channel's for life: needs {:?}", former.service_identifier);
            identity.add("serviceIdentifier", Reason::Immutable, message);
        }
        violations.follow_up(identity);
        refuse_if_any(violations)?;
        self.put(&present, channel).await
    }

    /// Disables an endpoint of a channel that still has this etag: nothing is delivered to it until somebody enables it. Durable; only
    /// a declared channel, which the configuration says all about, has the endpoint enabled again after the next start. False if the
    /// channel was changed meanwhile, or is gone, and for an endpoint that is disabled or not there: then nothing is done.
    pub async fn disable(&self, id: &str, which: Endpoint, etag: &str, reason: DisabledReason) -> Result<bool, Error> {
        let _changing = self.shared.changing.lock().await;
        let present = self.snapshot();
        let Some(former) = present.by_id(id).filter(|channel| channel.etag == etag) else { return Ok(false) };
        let mut channel = pb::Channel::clone(former);
        let endpoint = match which {
            Endpoint::Connector => channel.connector.as_mut(),
            Endpoint::Bot => channel.bot.as_mut().and_then(|bot| bot.endpoint.as_mut()),
            Endpoint::Unspecified => None,
        };
        let Some(endpoint) = endpoint.filter(|endpoint| !endpoint.disabled) else { return Ok(false) };
        endpoint.disabled = true;
        endpoint.set_disabled_reason(reason);
        self.put(&present, channel).await?;
        Ok(true)
    }

    /// Removes a channel, durably. If an etag is given, it must be the channel's.
    pub async fn delete(&self, id: &str, etag: Option<&str>) -> Result<(), Error> {
        let _changing = self.shared.changing.lock().await;
        let present = self.snapshot();
        let channel = changeable(find(&present, Key::Id(id))?)?;
        etag.map_or(Ok(()), |etag| check_etag(channel, etag))?;
        self.shared.registry.remove_channel(id).await?;
        self.shared.snapshot.send_replace(Arc::new(present.without(id)));
        tracing::info!(channel = id, service_identifier = channel.service_identifier, "a channel is removed");
        Ok(())
    }

    /// Makes a checked channel part of the registry, in place of the one with its id.
    async fn put(&self, present: &Snapshot, mut channel: pb::Channel) -> Result<pb::Channel, Error> {
        let other = present.default_outbound(&channel.channel_type).filter(|other| other.id != channel.id);
        if let Some(other) = other.filter(|_| channel.default_outbound) {
            return Err(Error::DefaultOutboundTaken {
                channel_type: channel.channel_type,
                service_identifier: other.service_identifier.clone(),
            });
        }
        // Made of nothing of the channel: what follows from a secret would tell of it.
        channel.etag = Uuid::new_v4().simple().to_string();
        if !channel.declared {
            channel.update_time = Some(wire::now());
            self.shared.registry.put_channel(&channel).await?;
        }
        let channel = Arc::new(channel);
        self.shared.snapshot.send_replace(Arc::new(present.with(channel.clone())));
        tracing::info!(
            channel = channel.id,
            service_identifier = channel.service_identifier,
            "a channel is registered or changed"
        );
        Ok(secrets::shown(&channel))
    }
}

/// Ids of declared channels follow from their service identifiers, so that they last over restarts.
fn declared_id(service_identifier: &str) -> String {
    let digest = Sha256::digest(format!("declared channel {service_identifier}"));
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid().to_string()
}

fn find<'s>(snapshot: &'s Snapshot, key: Key<'_>) -> Result<&'s Arc<pb::Channel>, Error> {
    let found = match key {
        Key::Id(id) => snapshot.by_id(id),
        Key::ServiceIdentifier(service_identifier) => snapshot.get(service_identifier),
    };
    found.ok_or_else(|| not_found(key))
}

fn not_found(key: Key<'_>) -> Error {
    let (key, name) = match key {
        Key::Id(id) => ("id", id),
        Key::ServiceIdentifier(service_identifier) => ("service identifier", service_identifier),
    };
    Error::ChannelNotFound { key, name: name.to_owned() }
}

fn changeable(channel: &Arc<pb::Channel>) -> Result<&Arc<pb::Channel>, Error> {
    if channel.declared {
        return Err(Error::ChannelDeclared { service_identifier: channel.service_identifier.clone() });
    }
    Ok(channel)
}

fn check_etag(channel: &pb::Channel, etag: &str) -> Result<(), Error> {
    if channel.etag == etag { Ok(()) } else { Err(Error::EtagMismatch { id: channel.id.clone() }) }
}

fn refuse_if_any(violations: Violations) -> Result<(), Error> {
    if violations.is_empty() { Ok(()) } else { Err(Error::InvalidChannel { violations }) }
}

fn page_token(last: &str) -> String {
    BASE64_URL_SAFE_NO_PAD.encode([&[TOKEN_FORM], last.as_bytes()].concat())
}

/// The service identifier of the last channel of the page before.
fn page_end(token: &str) -> Result<String, Error> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(token).ok();
    let last = bytes.as_deref().and_then(|bytes| bytes.strip_prefix(&[TOKEN_FORM])).map(<[u8]>::to_vec);
    let last = last.and_then(|last| String::from_utf8(last).ok());
    last.ok_or_else(|| Error::InvalidRequest { field: "page_token", problem: "is no token of this gateway".into() })
}

#[cfg(test)]
mod tests;
