//! Who a call comes from, and whether it may do what it asks for.

use super::role::{Right, Role};
use super::seen::Seen;
use crate::error::Error;
use crate::message;
use crate::pb::{self, SenderType};
use crate::store::{Facts, Filter};
use std::collections::BTreeSet;
use std::future;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// What a key stands for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Identity {
    /// What its holder is called in the log and in refusals.
    pub(super) name: String,
    pub(super) role: Role,
    /// What it is bound to; none for everything.
    pub(super) service_identifiers: Option<BTreeSet<String>>,
}

/// Who holds a key, for as long as it is good.
#[derive(Debug, Clone)]
pub(super) struct Holder {
    pub(super) identity: Arc<Identity>,
    pub(super) revoked: CancellationToken,
}

/// Who a call comes from; none where nobody needs a key. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Caller(pub(super) Option<Holder>);

impl Caller {
    /// Somebody, where nobody needs a key: may do everything.
    pub const fn anybody() -> Self {
        Self(None)
    }

    fn identity(&self) -> Option<&Identity> {
        self.0.as_ref().map(|holder| &*holder.identity)
    }

    /// What the caller is called in the log; none where nobody needs a key.
    pub fn name(&self) -> Option<&str> {
        self.identity().map(|identity| identity.name.as_str())
    }

    /// The service identifiers that the caller is bound to; none if to none.
    pub(super) fn bound(&self) -> Option<&BTreeSet<String>> {
        self.identity().and_then(|identity| identity.service_identifiers.as_ref())
    }

    /// Completes when the key is no longer good for what the caller does.
    pub async fn revoked(&self) -> Error {
        match &self.0 {
            Some(holder) => holder.revoked.cancelled().await,
            None => future::pending().await,
        }
        REVOKED
    }

    /// Fails without the right.
    pub fn may(&self, right: Right) -> Result<(), Error> {
        let Some(Holder { identity, revoked }) = &self.0 else { return Ok(()) };
        if revoked.is_cancelled() {
            return Err(REVOKED);
        }
        if identity.role.has(right) {
            return Ok(());
        }
        Err(self.forbidden(format!("{}: its role is {}", right.deed(), identity.role)))
    }

    /// True if the caller may know of what is of this service identifier.
    pub(super) fn sees(&self, service_identifier: &str) -> bool {
        self.bound().is_none_or(|bound| bound.contains(service_identifier))
    }

    /// True if what those of the platform say among themselves is not for the caller.
    pub(crate) fn stands_outside(&self) -> bool {
        self.identity().is_some_and(|identity| identity.role == Role::Connector)
    }

    /// Fails if the caller may not read; with `unseen`, which is what it would be told if there were nothing, if it may not know of what
    /// is of this service identifier.
    pub fn must_see(&self, service_identifier: &str, unseen: impl FnOnce() -> Error) -> Result<(), Error> {
        self.may(Right::Read)?;
        if self.sees(service_identifier) { Ok(()) } else { Err(unseen()) }
    }

    /// Fails if the caller may not read `what`, which belongs to no service identifier, or to several.
    pub fn may_read_all(&self, what: &'static str) -> Result<(), Error> {
        self.may(Right::Read)?;
        match self.bound() {
            None => Ok(()),
            Some(_) => Err(self.forbidden(format!("read {what}: it is bound to service identifiers"))),
        }
    }

    /// Fails if the caller may not send the message: it may send at all, in its own name, and to what it is bound to.
    pub fn may_send(&self, message: &pb::CimMessage) -> Result<(), Error> {
        self.may(Right::Send)?;
        let Some(identity) = self.identity() else { return Ok(()) };
        if let Some(sender) = message::speaker(message)
            && !speaks_as(identity.role, sender)
        {
            let sender = sender.as_str_name().trim_start_matches("SENDER_TYPE_");
            return Err(self.forbidden(format!("send messages as {sender}: its role is {}", identity.role)));
        }
        // A message without one breaks a rule, which is told by those who know the rules.
        match message::service_identifier(message) {
            Some(service_identifier) if !self.sees(service_identifier) => {
                Err(self.forbidden(format!("send messages of the service identifier {service_identifier:?}")))
            }
            _ => Ok(()),
        }
    }

    /// What is known, as far as the caller may know of it.
    pub(crate) fn facts<'f>(&'f self, facts: &'f dyn Facts) -> impl Facts + 'f {
        Seen { facts, caller: self }
    }

    /// Fails if the caller may not read, or not what is of this service identifier.
    pub fn may_ask_for(&self, service_identifier: &str) -> Result<(), Error> {
        self.must_see(service_identifier, || {
            self.forbidden(format!("read what is of the service identifier {service_identifier:?}"))
        })
    }

    /// Leaves of what is asked for, where nothing means everything, what the caller may know of. Fails if it may not read, or asks for
    /// something else.
    pub fn narrow(&self, Filter { service_identifiers, outward, .. }: &mut Filter) -> Result<(), Error> {
        self.may(Right::Read)?;
        *outward |= self.stands_outside();
        service_identifiers.iter().try_for_each(|wanted| self.may_ask_for(wanted))?;
        if let Some(bound) = self.bound()
            && service_identifiers.is_empty()
        {
            service_identifiers.extend(bound.iter().cloned());
        }
        Ok(())
    }

    /// The one service identifier of which a caller gets a list; none for all. One that is bound has to choose, unless there is no
    /// choice. Fails if it may not read, or asks for something else.
    pub fn narrow_to_one(&self, field: &'static str, wanted: &mut Option<String>) -> Result<(), Error> {
        self.may(Right::Read)?;
        if let Some(wanted) = wanted {
            return self.may_ask_for(wanted);
        }
        match self.bound() {
            None => Ok(()),
            Some(bound) if bound.len() == 1 => {
                *wanted = bound.first().cloned();
                Ok(())
            }
            Some(_) => Err(Error::InvalidRequest { field, problem: "is required: the key is bound to several".into() }),
        }
    }

    /// Fails if the caller may not read, or is bound and the subscription is not one of its own: those are called as its key is, or
    /// begin with that and a dot.
    pub fn may_use_subscription(&self, subscription: &str) -> Result<(), Error> {
        self.may(Right::Read)?;
        let Some(own) = self.name().filter(|_| self.bound().is_some()) else { return Ok(()) };
        let rest = subscription.strip_prefix(own);
        if rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.')) {
            return Ok(());
        }
        Err(self.forbidden(format!("use the subscription {subscription:?}: its own are called {own:?} or begin with \"{own}.\"")))
    }

    fn forbidden(&self, deed: String) -> Error {
        Error::Forbidden { caller: self.name().unwrap_or_default().to_owned(), deed }
    }
}

/// A key that was good when the call began.
const REVOKED: Error = Error::Unauthenticated { problem: "the API key is no longer known" };

/// True if who has the role may send messages of such a sender: nobody speaks as an agent or a bot who is none.
const fn speaks_as(role: Role, sender: SenderType) -> bool {
    match role {
        Role::Admin => true,
        Role::Connector => !matches!(sender, SenderType::Agent | SenderType::Bot | SenderType::System),
        Role::Bot => matches!(sender, SenderType::Bot),
        Role::Agent => !matches!(sender, SenderType::Bot | SenderType::Customer | SenderType::Connector),
    }
}
