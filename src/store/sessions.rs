//! Sessions as they are listed: which, and in pages.

use super::SessionFacts;
use crate::pb::store::Session;

/// Which sessions to list: those that have all that is given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SessionFilter {
    /// The channel.
    pub service_identifier: Option<String>,
    /// The customer.
    pub customer_id: Option<String>,
    /// The conversation.
    pub conversation_id: Option<String>,
    /// True for those only that have not ended.
    pub active: bool,
}

impl SessionFilter {
    /// True if a session has all that is given.
    pub fn matches(&self, session: &Session) -> bool {
        let is = |wanted: &Option<String>, own: &String| wanted.as_ref().is_none_or(|wanted| wanted == own);
        is(&self.service_identifier, &session.service_identifier)
            && is(&self.customer_id, &session.customer_id)
            && is(&self.conversation_id, &session.conversation_id)
            && !(self.active && session.ended_at.is_some())
    }
}

/// A page of sessions, the greatest id first: ids rise with the time at which sessions were opened.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SessionPage {
    /// The sessions. There may be fewer than fit, and none, although there are more to come.
    pub sessions: Vec<SessionFacts>,
    /// The id before which the next page goes on; none if there is nothing left.
    pub next: Option<String>,
}

impl SessionPage {
    /// The page of at most `limit` of the sessions that were found down to the id `reached`, or of all where that is none.
    pub(super) fn of(mut found: Vec<SessionFacts>, reached: Option<String>, limit: usize) -> Self {
        found.retain(|facts| reached.as_ref().is_none_or(|reached| facts.session.id >= *reached));
        let latest_first = |one: &SessionFacts, other: &SessionFacts| other.session.id.cmp(&one.session.id);
        let more = found.len() > limit;
        if more {
            found.select_nth_unstable_by(limit, latest_first);
            found.truncate(limit);
        }
        found.sort_unstable_by(latest_first);
        let next = if more { found.last().map(|last| last.session.id.clone()) } else { reached };
        Self { sessions: found, next }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost_types::Timestamp;
    use std::sync::Arc;

    fn page(ids: &[&str], reached: Option<&str>, limit: usize) -> (Vec<String>, Option<String>) {
        let session = |id: &&str| SessionFacts {
            session: Arc::new(Session { id: (*id).to_owned(), ..Session::default() }),
            last_activity: Timestamp::default(),
        };
        let page = SessionPage::of(ids.iter().map(session).collect(), reached.map(str::to_owned), limit);
        (page.sessions.iter().map(|facts| facts.session.id.clone()).collect(), page.next)
    }

    #[test]
    fn a_page_has_the_greatest_ids_and_says_where_to_go_on() {
        let of = |ids: &[&str], next: Option<&str>| (ids.iter().map(|id| (*id).to_owned()).collect(), next.map(str::to_owned));
        assert_eq!(page(&["b", "d", "a", "c"], None, 3), of(&["d", "c", "b"], Some("b")));
        assert_eq!(page(&["b", "d", "a", "c"], None, 4), of(&["d", "c", "b", "a"], None));
        assert_eq!(page(&["b", "d", "a", "c"], Some("c"), 4), of(&["d", "c"], Some("c")), "what lies below was not looked for");
        assert_eq!(page(&["b", "d", "a", "c"], Some("c"), 1), of(&["d"], Some("d")));
        assert_eq!(page(&[], Some("c"), 1), of(&[], Some("c")));
        assert_eq!(page(&[], None, 1), of(&[], None));
    }
}
