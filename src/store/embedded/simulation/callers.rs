//! Those who send messages: the frames of a [`Life`], with all that filters ask for.

use crate::pb;
use crate::pb::store::Entry;
use crate::store::conformance::Life;
use crate::store::random::Random;
use crate::store::{Facts, Filter, Frame, Position, Stored};
use std::sync::Arc;

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

    /// The next frame of callers who know nothing of what became of the others.
    pub(super) fn frame(&mut self) -> Frame {
        let frame = self.life.frame();
        frame.into_iter().map(|entry| self.addressed(entry)).collect()
    }

    /// The next frame, with outcomes and receipts, by what `facts` tell when it is staged, after the entry at `end`.
    pub(super) fn frame_on(&mut self, facts: &dyn Facts, end: Position) -> Frame {
        self.life.forget_after(end);
        let frame = self.life.frame_on(facts);
        frame.into_iter().map(|entry| self.addressed(entry)).collect()
    }

    /// Takes notice of a frame whose first entry is at `first`.
    pub(super) fn learn(&mut self, first: Position, frame: &[Entry]) {
        let stored = |(i, entry): (u64, &Entry)| Stored { position: first.plus(i), entry: Arc::new(entry.clone()) };
        self.life.learn(&(0..).zip(frame).map(stored).collect::<Vec<_>>());
    }

    fn addressed(&mut self, mut entry: Entry) -> Entry {
        let session = entry.session.clone().unwrap_or_default();
        let header = entry.message.get_or_insert_default().header.get_or_insert_default();
        header.channel_data.get_or_insert_default().service_identifier = Some(session.service_identifier);
        header.conversation_id = Some(session.conversation_id);
        header.channel_session_id = Some(session.id);
        header.sender.get_or_insert_default().set_type(SENDERS[self.random.below(SENDERS.len())]);
        let length = if self.random.below(8) == 0 { 1_500 } else { self.random.below(60) };
        let body = entry.message.get_or_insert_default().body.get_or_insert_default();
        body.markdown_text = Some("x".repeat(length));
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
