//! The whole gateway from outside: every test starts one on ports of its own and speaks to it as clients do.

mod auth;
mod bad_input;
mod browsers;
mod bulk;
mod channels;
mod commands;
mod connections;
mod delivery;
mod discovery;
mod history;
mod limits;
mod metrics;
mod names;
mod readers;
mod send;
mod sessions;
mod shutdown;
mod subscribe;
mod support;
mod tls;
