//! Sessions that end without a message that says so.

use super::{customer, end_reason, fill, notice};
use crate::pb;
use crate::pb::SessionEndReason;
use crate::pb::store::{Entry, Session};
use crate::store::{Facts, Frame, SessionFacts};
use crate::wire::Exact;
use prost_types::Timestamp;

/// The frame that ends an active session at `at`: the notice that both sides get. None where there is no active session of this id.
pub(super) fn end(facts: &dyn Facts, id: &str, reason: SessionEndReason, at: Timestamp) -> Option<Frame> {
    Some(notices(facts, active(facts, id)?, reason, at, &["CHANNEL_SESSION_ENDED"]))
}

/// The frame that ends an active session whose customer was last active at `last_activity`, and not since. Existing clients read one
/// notice of it or the other.
pub(super) fn expire(facts: &dyn Facts, id: &str, last_activity: Timestamp, at: Timestamp) -> Option<Frame> {
    let session = active(facts, id).filter(|known| known.last_activity == last_activity)?;
    Some(notices(facts, session, SessionEndReason::Inactivity, at, &["CHANNEL_SESSION_EXPIRED", "CHANNEL_SESSION_ENDED"]))
}

fn active(facts: &dyn Facts, id: &str) -> Option<SessionFacts> {
    facts.session_facts(id).filter(|known| known.session.ended_at.is_none())
}

fn notices(facts: &dyn Facts, known: SessionFacts, reason: SessionEndReason, at: Timestamp, names: &[&str]) -> Frame {
    let SessionFacts { session, last_activity } = known;
    let mut session = Session::clone(&session);
    // A notice tells what every message of the session tells.
    let mut cause = pb::CimMessage::default();
    let customer = customer(facts, &mut session, &pb::Header::default(), &Exact::default());
    fill(&mut cause, &session, customer);
    session.ended_at = Some(at);
    session.end_reason = end_reason::name(reason).into();
    let notice = |name: &&str| Entry { last_activity: Some(last_activity), ..notice(&cause, &session, name, at) };
    names.iter().map(notice).collect()
}
