//! Sessions as those see them who only look: of what is durable, and of what is in the tail and in the index together.

use super::core::{Core, unavailable};
use crate::store::tail::Layers;
use crate::store::{Error, Facts as _, Position, SessionFacts, SessionFilter, SessionPage};
use std::sync::Arc;

/// How far the log was staged when something was looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reach {
    pub(super) end: Position,
    pub(super) taken_back: u64,
}

impl Core {
    /// See [`Store::session`](crate::store::Store::session).
    pub(super) async fn session(self: &Arc<Self>, id: &str) -> Result<Option<SessionFacts>, Error> {
        loop {
            let id = id.to_owned();
            let (session, seen) = self
                .apart(move |core| {
                    let tail = core.tail.lock();
                    let facts = Layers::new(&tail, &core.index);
                    let session = facts.session_facts(&id);
                    match facts.into_failure() {
                        Some(error) => Err(unavailable(error)),
                        None => Ok((session, Reach { end: tail.end, taken_back: tail.taken_back })),
                    }
                })
                .await?;
            if self.became_durable(seen).await? {
                return Ok(session);
            }
        }
    }

    /// See [`Store::sessions`](crate::store::Store::sessions).
    pub(super) async fn sessions(
        self: &Arc<Self>,
        filter: &SessionFilter,
        before: Option<&str>,
        limit: usize,
    ) -> Result<SessionPage, Error> {
        loop {
            let (filter, before) = (filter.clone(), before.map(str::to_owned));
            let (page, seen) = self.apart(move |core| core.list(&filter, before.as_deref(), limit)).await?;
            if self.became_durable(seen).await? {
                return Ok(page);
            }
        }
    }

    fn list(&self, filter: &SessionFilter, before: Option<&str>, limit: usize) -> Result<(SessionPage, Reach), Error> {
        loop {
            // In this order: what leaves the tail is in the index before.
            let (mut found, indexed, seen) = {
                let tail = self.tail.lock();
                let mut found: Vec<SessionFacts> = tail.young.state.listed(filter, before).cloned().collect();
                if let Some(old) = &tail.old {
                    let told_later = |facts: &&SessionFacts| tail.young.state.sessions().contains_key(&facts.session.id);
                    found.extend(old.state.listed(filter, before).filter(|facts| !told_later(facts)).cloned());
                }
                (found, tail.indexed_up_to(), Reach { end: tail.end, taken_back: tail.taken_back })
            };
            // One more than fits, to know whether there are more.
            let (mut in_index, reached) = self.lookup(|lookup| lookup.listed(filter, before, limit + 1))?;
            let tail = self.tail.lock();
            if tail.indexed_up_to() != indexed {
                // What was in the tail may be in the index now, which was looked at too early for it.
                continue;
            }
            in_index.retain(|facts| !tail.generations().any(|state| state.sessions().contains_key(&facts.session.id)));
            drop(tail);
            found.append(&mut in_index);
            return Ok((SessionPage::of(found, reached, limit), seen));
        }
    }

    /// Returns when all that was seen is durable. False if some of it was taken back instead.
    pub(super) async fn became_durable(&self, seen: Reach) -> Result<bool, Error> {
        let (mut durable, mut health) = (self.durable.subscribe(), self.health.subscribe());
        loop {
            // Noted before the look, so that no change after it is missed.
            let _now = (*durable.borrow_and_update(), health.borrow_and_update().clone());
            self.check_working()?;
            {
                let tail = self.tail.lock();
                if tail.taken_back != seen.taken_back {
                    return Ok(false);
                }
                if tail.durable >= seen.end {
                    return Ok(true);
                }
            }
            tokio::select! {
                _ = durable.changed() => {}
                _ = health.changed() => {}
            }
        }
    }
}
