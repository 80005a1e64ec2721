//! TLS of the listeners: what callers get to see, what they have to show, and certificates that are renewed.

use crate::support::gateway::{Gateway, Settings};
use crate::support::messages::hello;
use crate::support::raw::Raw;
use crate::support::{eventually, soon};
use cim_gateway::pb::SendMessageRequest;
use cim_gateway::pb::message_service_client::MessageServiceClient;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

/// An authority.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        Self { pem: certificate.pem(), issuer: Issuer::new(params, key) }
    }

    /// A certificate for `name` and its key, in PEM.
    fn certify(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new([name.to_owned()]).unwrap().signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }
}

/// Files of a gateway that calls itself localhost.
fn files(folder: &TempDir, (certificate, key): &(String, String)) {
    for (name, pem) in [("tls.crt", certificate), ("tls.key", key)] {
        let fresh = folder.path().join("fresh");
        std::fs::write(&fresh, pem).unwrap();
        std::fs::rename(fresh, folder.path().join(name)).unwrap();
    }
}

fn settings(folder: &TempDir) -> Settings {
    let file = |name: &str| folder.path().join(name).display().to_string();
    Gateway::set("tls.certificate", file("tls.crt")).set("tls.key", file("tls.key"))
}

/// Sends a message to a gateway whose certificate `authority` vouches for.
async fn send(address: SocketAddr, authority: &str, shows: Option<&(String, String)>) -> Result<(), String> {
    let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority)).domain_name("localhost");
    if let Some((certificate, key)) = shows {
        tls = tls.identity(Identity::from_pem(certificate, key));
    }
    let endpoint = Endpoint::from_shared(format!("https://{address}")).unwrap().tls_config(tls).unwrap();
    let channel = endpoint.connect().await.map_err(|error| format!("{error:?}"))?;
    let request = SendMessageRequest { message: Some(hello("hi")), ..SendMessageRequest::default() };
    MessageServiceClient::new(channel).send_message(request).await.map(drop).map_err(|status| format!("{status:?}"))
}

#[tokio::test]
async fn both_listeners_speak_tls_and_nothing_else() {
    let (folder, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    files(&folder, &authority.certify("localhost"));
    let gateway = settings(&folder).start().await;
    soon("a message", send(gateway.grpc, &authority.pem, None)).await.expect("the certificate is good");

    // Who speaks plain text is cut off, and so is who says nothing; others are served meanwhile.
    let silent = Raw::to(gateway.grpc).await;
    let mut plain = Raw::to(gateway.http).await;
    plain.send(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let heard = plain.rest().await;
    assert!(!heard.starts_with(b"HTTP"), "{heard:?}");
    soon("a message", send(gateway.grpc, &authority.pem, None)).await.expect("the certificate is good");
    drop(silent);

    std::fs::write(folder.path().join("ca.crt"), &authority.pem).unwrap();
    let ca = folder.path().join("ca.crt");
    assert!(health(gateway.grpc, &["--ca-file", ca.to_str().unwrap(), "--server-name", "localhost"]).await);
    assert!(!health(gateway.grpc, &["--server-name", "localhost"]).await, "nobody vouches for it");
}

/// True if the command line finds that the gateway serves.
async fn health(address: SocketAddr, options: &[&str]) -> bool {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cim-gateway"));
    command.args(["health", "--server", &format!("https://{address}")]).args(options);
    let asked = tokio::task::spawn_blocking(move || command.output().expect("the executable runs"));
    soon("an answer", asked).await.expect("waiting does not panic").status.success()
}

#[tokio::test]
async fn probes_are_answered_in_tls_also_where_all_connections_are_in_use() {
    let (folder, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    files(&folder, &authority.certify("localhost"));
    let ca = folder.path().join("ca.crt");
    std::fs::write(&ca, &authority.pem).unwrap();
    let gateway = settings(&folder).set("grpc.max_connections", 1).start().await;
    let _silent = Raw::to(gateway.grpc).await;
    assert!(health(gateway.grpc, &["--ca-file", ca.to_str().unwrap(), "--server-name", "localhost"]).await);
    let refused = soon("a refusal", send(gateway.grpc, &authority.pem, None)).await.unwrap_err();
    assert!(refused.contains("all connections that the gateway takes are in use"), "{refused}");
}

#[tokio::test]
async fn callers_have_to_show_a_certificate_if_an_authority_is_named() {
    let (folder, authority, stranger) = (tempfile::tempdir().unwrap(), Authority::new(), Authority::new());
    files(&folder, &authority.certify("localhost"));
    let ca = folder.path().join("ca.crt");
    std::fs::write(&ca, &authority.pem).unwrap();
    let gateway = settings(&folder).set("tls.client_ca", ca.display()).start().await;
    let known = authority.certify("desk");
    soon("a message", send(gateway.grpc, &authority.pem, Some(&known))).await.expect("the authority vouches for the caller");
    for shows in [None, Some(stranger.certify("desk"))] {
        let refused = soon("a refusal", send(gateway.grpc, &authority.pem, shows.as_ref())).await;
        assert!(refused.is_err(), "{shows:?}");
    }
    let path = |name: &str, pem: &str| {
        std::fs::write(folder.path().join(name), pem).unwrap();
        folder.path().join(name).display().to_string()
    };
    let (certificate, key) = (path("client.crt", &known.0), path("client.key", &known.1));
    let ca = ca.display().to_string();
    let shown = ["--client-certificate", &certificate, "--client-key", &key];
    let trusted = ["--ca-file", &ca, "--server-name", "localhost"];
    assert!(health(gateway.grpc, &[trusted, shown].concat()).await);
    assert!(!health(gateway.grpc, &trusted).await);
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_to_those_who_come_after() {
    let (folder, former, renewed) = (tempfile::tempdir().unwrap(), Authority::new(), Authority::new());
    files(&folder, &former.certify("localhost"));
    let gateway = settings(&folder).start().await;
    send(gateway.grpc, &former.pem, None).await.expect("the certificate is good");
    files(&folder, &renewed.certify("localhost"));
    eventually("the renewed certificate", async || send(gateway.grpc, &renewed.pem, None).await.ok()).await;
    assert!(send(gateway.grpc, &former.pem, None).await.is_err());
}

#[test]
fn files_that_are_wrong_are_told_before_anything_starts() {
    let (folder, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let (certificate, key) = authority.certify("localhost");
    let (_, other) = authority.certify("localhost");
    let told = |certificate: &str, key: &str| {
        files(&folder, &(certificate.to_owned(), key.to_owned()));
        check(folder.path())
    };
    assert!(told(&certificate, &key).is_empty());
    let wrong = |told: String, what: &str| assert!(told.contains(&format!("tls cannot be spoken: {what}")), "{told}");
    wrong(told("no PEM", &key), "the certificate is no PEM with certificates");
    wrong(told(&certificate, "no PEM"), "the key is no PEM with a private key");
    let mismatch = told(&certificate, &other);
    wrong(mismatch.clone(), "the certificate and the key do not belong together");
    assert!(!mismatch.contains("PRIVATE"));
}

/// What `check-config` says is wrong.
fn check(folder: &Path) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cim-gateway"));
    command.arg("check-config").env("CIM_TLS__CERTIFICATE", folder.join("tls.crt")).env("CIM_TLS__KEY", folder.join("tls.key"));
    String::from_utf8(command.output().expect("the executable runs").stderr).expect("what it says is text")
}
