//! Who may call, and what they may do.
//!
//! A caller shows an API key; a file names the keys by their digests, so that whoever reads the file cannot call. The faces ask the
//! [`Gate`] who a call comes from, and the [`Caller`] whether it may do what it asks for. Without a file everybody may do everything.

mod caller;
mod credentials;
mod key;
mod keys;
mod role;
mod seen;
#[cfg(test)]
mod tests;

pub use caller::Caller;
pub use key::Key;
pub use keys::{Keys, Problem};
pub use role::{Right, Role};

use crate::error::Error;
use http::HeaderMap;
use parking_lot::RwLock;
use std::sync::Arc;

/// Lets callers in. Clones let the same ones in.
#[derive(Debug, Clone, Default)]
pub struct Gate {
    /// None lets in everybody.
    keys: Option<Arc<RwLock<Keys>>>,
}

impl Gate {
    /// A gate that lets in everybody, to everything.
    pub fn open() -> Self {
        Self::default()
    }

    /// A gate that lets in those who show one of these keys.
    pub fn keyed(keys: Keys) -> Self {
        Self { keys: Some(Arc::new(RwLock::new(keys))) }
    }

    /// Who a call with these headers comes from. Without a key that is known it fails with [`Error::Unauthenticated`].
    pub fn caller(&self, headers: &HeaderMap) -> Result<Caller, Error> {
        let Some(keys) = &self.keys else { return Ok(Caller::anybody()) };
        let key = credentials::key(headers)?;
        keys.read().caller(&key).ok_or(Error::Unauthenticated { problem: "the API key is not known" })
    }

    /// Takes other keys. What goes on under a key that is not among them, or not with the same rights, is told to end.
    pub fn renew(&self, renewed: Keys) {
        if let Some(keys) = &self.keys {
            keys.write().renew(renewed);
        }
    }
}
