//! The HTTP face.

use crate::feed::Feed;
use crate::inbox::{Inbox, Reuse};
use axum::Router;
use axum::http::StatusCode;
use std::time::Duration;
use tokio::sync::watch;

/// How the routes behave.
#[derive(Debug, Clone)]
pub struct Settings {
    pub accepted_status: StatusCode,
    pub body_timeout: Duration,
    pub allowed_origins: Vec<String>,
    pub message_bytes: usize,
    pub json_depth: usize,
    pub filter_values: usize,
    pub history_page: usize,
    pub reuse: Reuse,
}

/// The routes.
pub fn router(_inbox: Inbox, _feed: Feed, _readiness: watch::Receiver<bool>, _settings: &Settings) -> Router {
    Router::new()
}
