//! Those who send messages: the frames of a [`Life`], with all that filters ask for.

use crate::pb;
use crate::pb::store::Entry;
use crate::store::conformance::Life;
use crate::store::random::Random;
use crate::store::{Filter, Frame};

/// Contents that are sent under one id.
const CONTENTS: usize = 3;

const SENDERS: [pb::SenderType; 3] = [pb::SenderType::Connector, pb::SenderType::Bot, pb::SenderType::Agent];

const AUDIENCES: [pb::Audience; 2] = [pb::Audience::Customer, pb::Audience::Platform];

/// See the module.
pub(super) struct Callers {
    life: Life,
    random: Random,
}

impl Callers {
    /// Callers that do as `random` has it.
    pub(super) fn new(random: &mut Random) -> Self {
        let mut fork = || Random::new(random.below(usize::MAX) as u64);
        Self { life: Life::of(fork()), random: fork() }
    }

    /// The next frame.
    pub(super) fn frame(&mut self) -> Frame {
        let frame = self.life.frame();
        frame.into_iter().map(|entry| self.addressed(entry)).collect()
    }

    fn addressed(&mut self, mut entry: Entry) -> Entry {
        let session = entry.session.clone().unwrap_or_default();
        let header = entry.message.get_or_insert_default().header.get_or_insert_default();
        header.channel_data.get_or_insert_default().service_identifier = Some(session.service_identifier);
        header.conversation_id = Some(session.conversation_id);
        header.channel_session_id = Some(session.id);
        header.sender.get_or_insert_default().set_type(SENDERS[self.random.below(SENDERS.len())]);
        let length = if self.random.below(8) == 0 { 1_500 } else { self.random.below(60) };
        let body = pb::Body { markdown_text: Some("x".repeat(length)), ..pb::Body::default() };
        entry.message.get_or_insert_default().body = Some(body);
        entry.audiences = vec![AUDIENCES[self.random.below(AUDIENCES.len())].into()];
        if let Some(submission) = &mut entry.submission {
            submission.fingerprint = vec![1, self.random.below(CONTENTS) as u8, 0, 0, 0];
        }
        entry
    }
}

/// What a reader may want.
pub(super) fn filter(random: &mut Random) -> Filter {
    let mut filter = Filter::default();
    match random.below(6) {
        0 => {}
        1 => filter.service_identifiers.extend([format!("service {}", random.below(4))]),
        2 => filter.conversation_ids.extend([format!("conversation {}", random.below(7))]),
        3 => filter.channel_session_ids.extend((0..3).map(|_| format!("session {}", random.below(9)))),
        4 => filter.sender_types.extend([SENDERS[random.below(SENDERS.len())]]),
        _ => filter.audiences.extend([AUDIENCES[random.below(AUDIENCES.len())]]),
    }
    filter
}
