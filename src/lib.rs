//! An open, durable customer channel manager: CIM messages over gRPC and the documented JSON.
//!
//! # The map
//!
//! ```text
//! main ─► app ─► { grpc, http, delivery } ─► { inbox, subscriptions, feed, outcomes } ─► { sessions, customers, planning }
//!                                 │                                                       ─► { channels, message, wire, store (trait) }
//!                                 └─► webhook
//! ```
//!
//! A message only ever goes forward: it is decoded ([`wire`] for JSON, tonic for protobuf), checked ([`message`]), routed
//! ([`sessions`]), appended ([`store`]) and answered ([`inbox`]); readers follow the log from their cursor ([`feed`]),
//! which the gateway keeps for those with a name ([`subscriptions`]).
//! What it is planned to be delivered as is appended with it ([`planning`]); [`delivery`] sends it by [`webhook`], which is the way out to
//! third parties and knows no other part, appends what became of it, and tells who waits ([`outcomes`]).
//! [`grpc`] and [`http`] are thin faces of the same use cases and never see each other; only [`app`] knows everyone.
//! Each of them may count what it does ([`metrics`], which knows nobody).
//!
//! # Words
//!
//! | word | meaning |
//! |---|---|
//! | message | a [`pb::CimMessage`]: id, header, body |
//! | inbound / outbound | received by the gateway from a third party / sent by the gateway to one |
//! | audience | who a message is for: the customer, through the channel's connector, or the platform: bots and agents |
//! | channel | what a service identifier selects: a phone number, a page, a widget; *registered* at run time, or *declared* by the configuration |
//! | endpoint | a URI of a channel's connector or bot, which the gateway calls |
//! | delivery | one message for one endpoint; its *attempts* are single calls |
//! | lane | what one endpoint gets of one customer on one channel, in order |
//! | outcome | what became of a message: delivered, failed |
//! | channel session | one customer on one channel, from the first message or START_CHAT to END_CHAT or inactivity |
//! | conversation | one or more channel sessions of the same customer |
//! | entry | one accepted message in the log, with every fact that follows from it |
//! | position | an entry's place in the log; a *cursor* is an opaque text that carries it |

#![warn(unreachable_pub, clippy::large_futures, clippy::unwrap_used)]
// The documentation is built with private items: whoever reads it reads the code.
#![allow(rustdoc::private_intra_doc_links)]

pub mod app;
pub mod auth;
mod browsers;
pub mod channels;
pub mod config;
mod customers;
pub mod delivery;
pub mod error;
pub mod exported;
pub mod feed;
pub mod grpc;
pub mod http;
pub mod import;
pub mod inbox;
pub mod listener;
pub mod message;
pub mod metrics;
pub mod name;
pub mod outcomes;
pub mod pb;
mod planning;
pub mod readiness;
pub mod receipts;
pub mod renewal;
#[cfg(test)]
mod samples;
pub mod sessions;
pub mod store;
pub mod subscriptions;
pub mod telemetry;
pub mod timeline;
pub mod violation;
pub mod webhook;
pub mod wire;
