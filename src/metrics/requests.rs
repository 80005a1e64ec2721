//! Requests of a face: how often each method was answered with what, and how long that took.
//!
//! Methods are named before the first request comes: so whoever calls cannot make more of them, and a request takes no lock.

use super::histogram::Histogram;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// What requests of a face can be answered with.
#[derive(Debug)]
struct Codes {
    /// Each with its name. The last one stands for any other.
    known: &'static [(u16, &'static str)],
    /// What counts for a client that has left before its answer.
    left: u16,
    /// What says that the gateway has failed.
    failed: u16,
}

static GRPC: Codes = Codes {
    known: &[
        (0, "OK"),
        (1, "CANCELLED"),
        (3, "INVALID_ARGUMENT"),
        (4, "DEADLINE_EXCEEDED"),
        (5, "NOT_FOUND"),
        (6, "ALREADY_EXISTS"),
        (7, "PERMISSION_DENIED"),
        (8, "RESOURCE_EXHAUSTED"),
        (9, "FAILED_PRECONDITION"),
        (10, "ABORTED"),
        (11, "OUT_OF_RANGE"),
        (12, "UNIMPLEMENTED"),
        (13, "INTERNAL"),
        (14, "UNAVAILABLE"),
        (15, "DATA_LOSS"),
        (16, "UNAUTHENTICATED"),
        (2, "UNKNOWN"),
    ],
    left: 1,
    failed: 13,
};

static HTTP: Codes = Codes {
    known: &[
        (200, "200"),
        (201, "201"),
        (202, "202"),
        (204, "204"),
        (400, "400"),
        (401, "401"),
        (403, "403"),
        (404, "404"),
        (405, "405"),
        (408, "408"),
        (409, "409"),
        (410, "410"),
        (412, "412"),
        (413, "413"),
        (415, "415"),
        (429, "429"),
        (499, "499"),
        (500, "500"),
        (503, "503"),
        (0, "other"),
    ],
    left: 499,
    failed: 500,
};

/// The requests of a face. Cheap to clone; every clone is the same.
#[derive(Debug, Clone)]
pub struct Requests {
    pub(super) face: &'static str,
    codes: &'static Codes,
    methods: Arc<Mutex<BTreeMap<String, Arc<Method>>>>,
}

impl Requests {
    pub(super) fn grpc() -> Self {
        Self { face: "grpc", codes: &GRPC, methods: Arc::default() }
    }

    pub(super) fn http() -> Self {
        Self { face: "http", codes: &HTTP, methods: Arc::default() }
    }

    /// The requests of a method, by its name: whoever asks again gets the same.
    pub fn method(&self, name: impl Into<String>) -> Arc<Method> {
        let new = || {
            let answered = self.codes.known.iter().map(|_| AtomicU64::default()).collect();
            Arc::new(Method { codes: self.codes, answered, took: Histogram::of_times() })
        };
        self.methods.lock().entry(name.into()).or_insert_with(new).clone()
    }

    /// Every method, by its name.
    pub(super) fn methods(&self) -> Vec<(String, Arc<Method>)> {
        self.methods.lock().iter().map(|(name, method)| (name.clone(), method.clone())).collect()
    }
}

/// The requests of a method.
#[derive(Debug)]
pub struct Method {
    codes: &'static Codes,
    /// How often, in the order of the codes.
    answered: Vec<AtomicU64>,
    pub(super) took: Histogram,
}

impl Method {
    /// A request begins.
    pub fn begin(self: &Arc<Self>) -> Call {
        Call { method: self.clone(), begun: Some(Instant::now()), ended: false }
    }

    /// How often it was answered with what. That it has not failed yet is told as well: nobody sees a number that begins with 1 rise.
    pub(super) fn answered(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let answered = self.codes.known.iter().zip(&self.answered);
        let answered: Vec<_> = answered.map(|((code, name), count)| (*code, *name, count.load(Ordering::Relaxed))).collect();
        let called = answered.iter().any(|(.., count)| *count > 0);
        let told = move |code, count| count > 0 || called && code == self.codes.failed;
        answered.into_iter().filter(move |(code, _, count)| told(*code, *count)).map(|(_, name, count)| (name, count))
    }

    fn answer(&self, code: u16) {
        let known = self.codes.known.iter().position(|(known, _)| *known == code);
        self.answered[known.unwrap_or(self.answered.len() - 1)].fetch_add(1, Ordering::Relaxed);
    }
}

/// A request under way. One that is dropped before it ends is one whose client has left.
#[derive(Debug)]
pub struct Call {
    method: Arc<Method>,
    /// None for a stream.
    begun: Option<Instant>,
    ended: bool,
}

impl Call {
    /// It is a stream: it lasts as long as its client likes, which says nothing.
    pub fn streams(&mut self) {
        self.begun = None;
    }

    /// It ends with this code. Only its first end counts.
    pub fn ends(&mut self, code: u16) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        self.method.answer(code);
        if let Some(begun) = self.begun {
            self.method.took.took(begun.elapsed());
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.ends(self.method.codes.left);
    }
}
