//! The HTTP face over real sockets.

mod channels;
mod client;
mod contract;
mod deliveries;
mod gateway;
mod history;
mod limits;
mod messages;
mod notifications;
mod pages;
mod refusals;
mod sessions;
mod subscriptions;
