//! What a client is set up with.

use ipnet::IpNet;
use std::path::PathBuf;
use std::time::Duration;

/// Settings of a [`Client`](super::Client).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Longest that an attempt may take, from the look-up of the name to the last byte of the answer, where the caller does not say.
    pub timeout: Duration,
    /// Longest that it may take to look up the name, connect and agree on TLS; part of the time above.
    pub connect_timeout: Duration,
    /// Most bytes of the body of an answer.
    pub max_response: usize,
    /// Most bytes of the status line and the headers of an answer; at least 8 KiB, which is what HTTP/1.1 reads at a time.
    pub max_response_head: usize,
    /// Most headers of an HTTP/1.1 answer. Those of HTTP/2 are bounded by their bytes alone.
    pub max_response_headers: usize,
    /// Most HTTP/1.1 connections to one host that are kept for the next attempt; with 0 none is, nor of HTTP/2.
    pub max_idle_per_host: usize,
    /// Time for which an unused connection is kept.
    pub idle_timeout: Duration,
    /// Most names that are looked up at a time, at least 1. Each takes a thread while it waits for the system's answer.
    pub max_lookups: usize,
    /// Networks that webhooks may go to although they are not on the public internet.
    pub allow: Vec<IpNet>,
    /// Who is trusted, and who we are.
    pub tls: Tls,
}

/// Certificates.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tls {
    /// PEM file of certificate authorities that are trusted besides the public ones.
    pub ca_file: Option<PathBuf>,
    /// What the gateway shows to receivers that ask for it.
    pub client_certificate: Option<ClientCertificate>,
}

/// A certificate and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// PEM file of the certificate, followed by those that vouch for it.
    pub certificate: PathBuf,
    /// PEM file of its private key.
    pub key: PathBuf,
}
