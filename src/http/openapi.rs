//! The description of this face, for tools.

use super::Routes;
use axum::http::header;
use axum::routing::get;

const DOCUMENT: &str = include_str!("openapi.json");

pub(super) fn routes() -> Routes {
    vec![("/openapi.json", get(async || ([(header::CONTENT_TYPE, "application/json")], DOCUMENT)))]
}
