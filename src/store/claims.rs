//! Who may append under which id: one at a time.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use tokio::sync::oneshot;

/// The ids that are claimed, each with those who wait for it. Cheap to clone; every clone is the same claims.
#[derive(Debug, Clone, Default)]
pub(super) struct Claims {
    held: Arc<Mutex<HashMap<String, Vec<oneshot::Sender<()>>>>>,
}

/// A claim on an id, given back when dropped.
pub(super) struct Lease {
    claims: Claims,
    id: String,
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Lease").field(&self.id).finish()
    }
}

impl Claims {
    /// Takes the claim on an id, once nobody else has it. Of those who wait, one is next; who stops waiting blocks nobody.
    pub(super) async fn take(&self, id: &str) -> Lease {
        loop {
            let settled = {
                let mut held = self.held.lock();
                match held.get_mut(id) {
                    None => {
                        held.insert(id.to_owned(), Vec::new());
                        return Lease { claims: self.clone(), id: id.to_owned() };
                    }
                    Some(waiting) => {
                        let (sender, settled) = oneshot::channel();
                        waiting.push(sender);
                        settled
                    }
                }
            };
            // It never sends: it is dropped with the claim.
            let _dropped = settled.await;
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // Dropping the senders wakes those who wait.
        let _waiting = self.claims.held.lock().remove(&self.id);
    }
}
