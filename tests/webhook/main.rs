//! The client for webhooks from outside: against servers on real sockets that do what they should, and all that they should not.

mod addresses;
mod answers;
mod connections;
mod failures;
mod requests;
mod support;
mod tls;
