//! Receipts: what delivery notifications say of the messages that they are about.
//!
//! Connectors send them late, early, twice and in any order, and name messages by the gateway's ids or by those of their provider.
//! Every one is stored and streamed as it came; what they mean together is decided here, and only here. Pure.

use crate::message;
use crate::pb;
use crate::pb::body::Kind;
use crate::pb::store::{Entry, Session};
use crate::pb::{Audience, DeliveryStatus, SenderType};
use crate::store::{Facts, Name, Named, Stored, message_of, told_names};
use std::sync::Arc;

/// What a notification reports on, as far as that is known when it comes.
#[derive(Debug, Default)]
pub(crate) struct Reported {
    /// See [`Entry::about`].
    pub(crate) about: u64,
    /// See [`Entry::earlier`].
    pub(crate) earlier: u64,
    /// The session of the message.
    pub(crate) session: Option<Arc<Session>>,
}

/// Finds what a notification reports on: by the id of a message, or by the id that the provider of the channel has for it. Of any other
/// message it is nothing.
pub(crate) fn reported(facts: &dyn Facts, message: &pb::CimMessage) -> Reported {
    let kind = message::kind(message);
    // Whoever knows only the provider's id may send it in the place of the message's, and the other way round.
    let reported_id = match kind {
        Some(Kind::DeliveryNotification(notification)) => notification.message_id.as_deref(),
        Some(Kind::DeletedNotification(notification)) => notification.message_id.as_deref(),
        // Most messages: nothing is looked up for them while others wait.
        _ => return Reported::default(),
    };
    let header = message.header.as_ref();
    let provider_id = header.and_then(|header| header.provider_message_id.as_deref()).filter(|id| !id.is_empty());
    let session = header.and_then(|header| header.channel_session_id.as_deref()).and_then(|id| facts.session(id));
    let of_session = session.as_ref().map(|session| session.service_identifier.as_str());
    let service_identifier = message::service_identifier(message).or(of_session);
    // Clients of several channels may choose the same id: what the notification's own channel has of it goes before what others have.
    let by_message = |id| {
        let own = service_identifier.and_then(|service_identifier| facts.named(Name::MessageOn { service_identifier, id }));
        own.or_else(|| facts.named(Name::Message(id)))
    };
    if let Some(Kind::DeletedNotification(_)) = kind {
        let named = reported_id.and_then(by_message);
        return Reported { session: named.and_then(|named| named.session), ..Reported::default() };
    }
    let by_provider = |id: &str| facts.named(Name::Provider { service_identifier: service_identifier?, id });
    let ids = [reported_id, provider_id.filter(|id| reported_id != Some(*id))];
    let is_own = |named: &Named| {
        let session = named.session.as_ref();
        session.is_some_and(|session| Some(session.service_identifier.as_str()) == service_identifier)
    };
    let (mut known, mut waiting) = (None, None);
    for id in ids.into_iter().flatten() {
        for named in [by_message(id), by_provider(id)].into_iter().flatten() {
            match named {
                Named { waits: true, position, .. } => waiting = waiting.or(Some(position)),
                named if is_own(&named) && !known.as_ref().is_some_and(is_own) => known = Some(named),
                named => known = known.or(Some(named)),
            }
        }
    }
    let about = known.as_ref().map_or(0, |named: &Named| named.position.0);
    let session = known.and_then(|named| named.session);
    Reported { about, earlier: waiting.map_or(0, |position| position.0), session }
}

/// Holds a receipt that came before anybody knew whose provider's id it has against the message which an entry of the gateway's is about,
/// if that entry tells its provider's id.
pub(crate) fn hold_earlier(entry: &mut Entry, facts: &dyn Facts) {
    let name = match entry.message.as_deref() {
        None => told_names(entry).next(),
        Some(message) => provider_name(message).filter(|_| message::is_receipt(message)),
    };
    if let Some(Named { waits: true, position, .. }) = name.and_then(|name| facts.named(name)) {
        entry.earlier = position.0;
    }
}

fn provider_name(message: &pb::CimMessage) -> Option<Name<'_>> {
    let id = message.header.as_ref()?.provider_message_id.as_deref().filter(|id| !id.is_empty())?;
    Some(Name::Provider { service_identifier: message::service_identifier(message)?, id })
}

/// True if a notification may report on a message: it is by the gateway, or comes from the other side of the message's own channel.
pub fn may_report(receipt: &Entry, about: &Stored) -> bool {
    if receipt.submission.is_none() {
        return true;
    }
    let (Some(message), Some(reported)) = (&receipt.message, message_of(&about.entry)) else { return false };
    let own = message::service_identifier(message);
    let is_on_its_channel = own.is_some() && own == message::service_identifier(reported);
    // Who got it can tell.
    let side = match message::sender_type(message) {
        Some(SenderType::Agent | SenderType::Bot) => Some(Audience::Platform),
        Some(SenderType::Customer | SenderType::Connector) => Some(Audience::Customer),
        _ => None,
    };
    is_on_its_channel && side.is_none_or(|side| about.entry.audiences.contains(&side.into()))
}

/// True if `next` says more of a message than what is known: a receipt that comes late or twice changes nothing.
///
/// A message is DELIVERED, then CONNECTED, then READ. It may fail until it is connected; and if it is connected or read after all, it
/// had not failed.
pub fn advances(known: Option<DeliveryStatus>, next: DeliveryStatus) -> bool {
    use DeliveryStatus::{Connected, Delivered, Failed, Read, Unspecified};
    match (known, next) {
        (_, Unspecified) => false,
        (None | Some(Unspecified), _) => true,
        (Some(Delivered), Connected | Read | Failed) | (Some(Failed), Connected | Read) | (Some(Connected), Read) => true,
        (Some(Delivered | Failed | Connected | Read), _) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use DeliveryStatus::{Connected, Delivered, Failed, Read, Unspecified};
    use proptest::prelude::*;

    const ALL: [DeliveryStatus; 5] = [Unspecified, Delivered, Connected, Read, Failed];

    #[test]
    fn a_message_goes_forward_only() {
        let forward: Vec<_> = ALL
            .iter()
            .flat_map(|known| ALL.map(|next| (*known, next)))
            .filter(|(known, next)| *known != Unspecified && advances(Some(*known), *next))
            .collect();
        let expected = [
            (Delivered, Connected),
            (Delivered, Read),
            (Delivered, Failed),
            (Connected, Read),
            (Failed, Connected),
            (Failed, Read),
        ];
        assert!(forward.len() == expected.len() && expected.iter().all(|step| forward.contains(step)), "{forward:?}");
        for next in ALL {
            assert_eq!(advances(None, next), next != Unspecified);
        }
    }

    /// What is known after receipts, one after the other.
    fn after(receipts: &[DeliveryStatus]) -> Option<DeliveryStatus> {
        receipts.iter().fold(None, |known, next| if advances(known, *next) { Some(*next) } else { known })
    }

    proptest! {
        #[test]
        fn what_was_read_stays_read_and_repeats_change_nothing(order in Just(ALL[1..].to_vec()).prop_shuffle(), again in 0_usize..4) {
            prop_assert_eq!(after(&order), Some(Read));
            let mut repeated = order.clone();
            repeated.insert(again, order[again]);
            repeated.extend(&order);
            prop_assert_eq!(after(&repeated), Some(Read));
        }
    }
}
