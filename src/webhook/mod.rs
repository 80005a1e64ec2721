//! The one way out: posts to webhooks of third parties, safely.
//!
//! A [`Client`] makes one attempt per [`post`](Client::post) and tells what came of it: an [`Answer`], whatever its status, or a
//! [`Failure`], of a kind that says what to do next. It knows nothing of messages, channels or schedules.
//!
//! Whoever names a webhook makes the gateway call it from inside its network. So addresses are checked when the connection is made,
//! by [`Guard`], and the connection goes to the very address that was checked; redirects are answers like any other; and everything
//! that a receiver sends is bounded in size and time.

mod body;
mod client;
mod connector;
mod failure;
mod guard;
mod id;
mod resolver;
mod retry_after;
mod settings;
mod signature;
mod socket;
mod tls;
mod trace;
mod url;

pub use client::{Answer, Client, Post};
pub use failure::{Failure, Part};
pub use guard::{Guard, Refused};
pub use id::{Id, NotAnId};
pub use resolver::Resolve;
pub use settings::{ClientCertificate, Settings, Tls};
pub use signature::{NotASecret, Secret, sign};
pub use tls::SetupError;
pub use trace::{NotATraceParent, TraceParent};
pub use url::{BadUrl, Url};
