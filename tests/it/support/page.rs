//! The page of metrics, as it comes over a socket.

use super::http::ask;
use std::net::SocketAddr;

/// A page.
#[derive(Debug)]
pub struct Page(pub String);

impl Page {
    /// The page of a gateway.
    pub async fn of(http: SocketAddr) -> Self {
        let answer = ask(http, "GET", "/metrics", "", "").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(answer.head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{answer:?}");
        Self(answer.body)
    }

    /// The value of a sample, by its name with its labels; none if it is not there.
    pub fn get(&self, sample: &str) -> Option<f64> {
        let value = self.0.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '))?;
        Some(value.parse().unwrap_or_else(|_| panic!("{sample} is no number but {value}")))
    }

    /// The value of a sample that is there.
    pub fn value(&self, sample: &str) -> f64 {
        self.get(sample).unwrap_or_else(|| panic!("{sample} is not in {}", self.0))
    }
}
