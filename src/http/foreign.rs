//! Tells what browsers ask for pages that may not call from everything else.
//!
//! A browser sends a plain GET for a page of any site. The page may not read the answer, but what the request does is done: so whatever has an
//! effect asks here first. Browsers tell where a page is from, by `Sec-Fetch-Site` and `Origin`; nobody else sends these.

use super::problem::Problem;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Uri, header};
use std::sync::Arc;

/// The pages that may call.
#[derive(Debug, Clone)]
pub(super) struct Pages {
    /// None for those of any origin.
    origins: Option<Arc<[String]>>,
}

impl Pages {
    /// Those of these origins, or of any for `*`, and those that the gateway itself or a proxy before it serves.
    pub(super) fn of(allowed: &[String]) -> Self {
        let any = allowed.iter().any(|origin| origin == "*");
        Self { origins: (!any).then(|| allowed.into()) }
    }

    /// Fails for a request that a browser sends for any other page. Whoever is no browser passes.
    pub(super) fn admit(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
        let Some(origins) = &self.origins else { return Ok(()) };
        let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
        // No page sends a key without its browser asking first: a proxy may have said that it may, which speaks CORS itself.
        if text(header::AUTHORIZATION.as_str()).is_some_and(|credentials| credentials.starts_with("Bearer ")) {
            return Ok(());
        }
        let origin = text(header::ORIGIN.as_str());
        if origin.is_some_and(|origin| origins.iter().any(|allowed| allowed == origin)) {
            return Ok(());
        }
        let own = uri.authority().map(Authority::as_str).or_else(|| text(header::HOST.as_str()));
        let is_own = match (text("sec-fetch-site"), origin) {
            // The same origin, or no page at all: somebody has typed the address.
            (Some(site), _) => ["same-origin", "none"].contains(&site),
            // Browsers of before 2023 tell less. What is of the gateway's own origin has none, or that.
            (None, Some(origin)) => origin.split_once("://").is_some_and(|(_, authority)| Some(authority) == own),
            (None, None) => true,
        };
        if is_own { Ok(()) } else { Err(Problem::ForeignPage) }
    }
}
