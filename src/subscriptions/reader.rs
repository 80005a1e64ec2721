//! One reader, with or without a name.

use super::Names;
use crate::auth::Caller;
use crate::error::Error;
use crate::feed::{Event, Subscription};
use crate::name::Name;
use parking_lot::Mutex;
use std::sync::Arc;
use tokio::sync::oneshot;

/// One reader's way through the log. A name that it has is free for acknowledgements until another attaches it.
#[derive(Debug)]
pub struct Reader {
    subscription: Subscription,
    attachment: Option<Attachment>,
    caller: Caller,
}

impl Reader {
    pub(super) fn new(subscription: Subscription, attachment: Option<Attachment>) -> Self {
        Self { subscription, attachment, caller: Caller::anybody() }
    }

    /// The same, for as long as the caller's key is good.
    pub(super) fn of(self, caller: Caller) -> Self {
        Self { caller, ..self }
    }

    /// The number to acknowledge with; none without a name.
    pub fn generation(&self) -> Option<u64> {
        self.attachment.as_ref().map(|attachment| attachment.generation)
    }

    /// The next event; waits for it. An error ends the reader: it must not be asked again.
    ///
    /// Dropping the future loses nothing: the event comes with the next call.
    pub async fn next(&mut self) -> Result<Event, Error> {
        let attachment = self.attachment.as_mut();
        let taken_over = async {
            match attachment {
                Some(attachment) => (&mut attachment.ended).await.unwrap_or(Error::ShuttingDown),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            why = taken_over => Err(why),
            why = self.caller.revoked() => Err(why),
            event = self.subscription.next() => event,
        }
    }
}

/// That a reader has a name. Dropping it leaves the name without a reader, unless another has attached it since.
#[derive(Debug)]
pub(super) struct Attachment {
    names: Arc<Mutex<Names>>,
    name: Name,
    generation: u64,
    /// Why the reader has to end.
    ended: oneshot::Receiver<Error>,
}

impl Attachment {
    pub(super) const fn new(names: Arc<Mutex<Names>>, name: Name, generation: u64, ended: oneshot::Receiver<Error>) -> Self {
        Self { names, name, generation, ended }
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        let mut names = self.names.lock();
        if let Some(kept) = names.by_name.get_mut(self.name.as_str()).filter(|kept| kept.bookmark.generation == self.generation) {
            kept.reader = None;
        }
    }
}
