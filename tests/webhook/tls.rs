//! Who is trusted, what is spoken, and what the gateway shows of itself.

use crate::support::*;
use cim_gateway::webhook::{Client, ClientCertificate, Failure, Part, Settings, SetupError, Tls};
use futures::future::join_all;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::WebPkiClientVerifier;
use std::convert::Infallible;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// A receiver that is written with a real HTTP server, which speaks what TLS has agreed on.
async fn serving<F, A>(config: rustls::ServerConfig, answer: F) -> Receiver
where
    F: Fn(Request<Incoming>) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Response<Full<Bytes>>> + Send + 'static,
{
    Receiver::secure(config, move |stream| {
        let answer = answer.clone();
        let service = service_fn(move |request| {
            let answered = answer(request);
            async move { Ok::<_, Infallible>(answered.await) }
        });
        async move {
            let _ended = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
        }
    })
    .await
}

fn yes() -> Response<Full<Bytes>> {
    Response::new(Full::default())
}

#[tokio::test]
async fn http_2_is_spoken_where_the_receiver_has_it_and_else_http_1() {
    let authority = Authority::new();
    let client = authority.trusted_by(settings());
    for (protocols, version) in
        [(&["h2", "http/1.1"][..], Version::HTTP_2), (&["http/1.1"], Version::HTTP_11), (&[], Version::HTTP_11)]
    {
        let (saw, mut seen) = mpsc::unbounded_channel();
        let receiver = serving(authority.certify("localhost", |_| {}).server(protocols), move |request| {
            saw.send((request.version(), request.headers().get("host").is_some(), request.uri().path().to_owned())).unwrap();
            async { yes() }
        })
        .await;
        post(&client, &receiver.https()).await.unwrap();
        let host_header = version == Version::HTTP_11;
        assert_eq!(soon("the request", seen.recv()).await.unwrap(), (version, host_header, "/cim".to_owned()));
    }
}

#[tokio::test]
async fn all_attempts_share_a_connection_over_http_2() {
    let authority = Authority::new();
    let client = authority.trusted_by(settings());
    let receiver = serving(authority.certify("localhost", |_| {}).server(&["h2"]), |_| async { yes() }).await;
    let url = receiver.https();
    post(&client, &url).await.unwrap();
    for answer in join_all((0..20).map(|_| post(&client, &url))).await {
        assert_eq!(answer.unwrap().status, 200);
    }
    assert_eq!(receiver.accepted(), 1);
}

/// A connection that has died in silence would else fail attempt after attempt.
#[tokio::test]
async fn a_connection_on_which_an_answer_did_not_come_is_not_used_again() {
    let authority = Authority::new();
    let client = authority.trusted_by(settings());
    let receiver = serving(authority.certify("localhost", |_| {}).server(&["h2"]), |request| async move {
        if request.headers()["content-length"] == "2" { std::future::pending().await } else { yes() }
    })
    .await;
    let url = receiver.https();
    post_body(&client, &url, "well").await.unwrap();
    let failure = post_within(&client, &url, "{}", Some(SHORT)).await.unwrap_err();
    assert_eq!(failure, Failure::ResponseTimeout { after: SHORT, status: None });
    assert_eq!(receiver.accepted(), 1);
    post_body(&client, &url, "well").await.unwrap();
    assert_eq!(receiver.accepted(), 2);
}

#[tokio::test]
async fn answers_over_http_2_have_the_same_bounds() {
    let authority = Authority::new();
    let client = authority.trusted_by(Settings { max_response: 1000, max_response_head: 8 * 1024, ..settings() });
    let config = authority.certify("localhost", |_| {}).server(&["h2"]);
    let receiver = serving(config, |request| async move {
        match request.headers()["content-length"].to_str().unwrap() {
            "1" => Response::new(Full::new(vec![b'x'; 1001].into())),
            "2" => Response::builder().header("x", "y".repeat(9 * 1024)).body(Full::default()).unwrap(),
            _ => Response::new(Full::new(vec![b'x'; 1000].into())),
        }
    })
    .await;
    let url = receiver.https();
    assert_eq!(post_body(&client, &url, "1").await, Err(Failure::TooLarge { part: Part::Body, status: Some(200) }));
    let failure = post_body(&client, &url, "12").await.unwrap_err();
    assert!(matches!(failure, Failure::Malformed { status: None, .. }), "{failure:?}");
    assert_eq!(post_body(&client, &url, "123").await.unwrap().body.len(), 1000);
}

/// A receiver that agrees on HTTP/2 and then does as it likes.
#[tokio::test]
async fn a_broken_http_2_is_told_from_a_broken_connection() {
    let authority = Authority::new();
    let client = authority.trusted_by(settings());
    let config = || authority.certify("localhost", |_| {}).server(&["h2"]);
    let garbage = Receiver::secure(config(), |mut stream| async move {
        let _sent = tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.1 200 OK\r\n\r\n").await;
        closed(&mut stream).await;
    })
    .await;
    let failure = post(&client, &garbage.https()).await.unwrap_err();
    assert!(matches!(failure, Failure::Malformed { .. }), "{failure:?}");

    let panicking = serving(config(), |_| async { panic!("the receiver breaks down, as the test wants it") }).await;
    let failure = post(&client, &panicking.https()).await.unwrap_err();
    assert!(matches!(failure, Failure::Reset { status: None, .. }), "{failure:?}");
}

/// The failure of an attempt at a receiver that shows `certified`.
async fn distrust(client: &Client, certified: &Certified) -> Failure {
    let receiver = serving(certified.server(&[]), |_| async { unreachable!("nothing is sent to who is not trusted") }).await;
    let failure = post(client, &receiver.https()).await.unwrap_err();
    assert!(matches!(failure, Failure::Tls { .. }), "{failure:?}");
    failure
}

#[tokio::test]
async fn a_certificate_has_to_be_vouched_for_by_a_trusted_authority() {
    let (authority, stranger) = (Authority::new(), Authority::called("a stranger"));
    let failure = distrust(&authority.trusted_by(settings()), &stranger.certify("localhost", |_| {})).await;
    insta::assert_snapshot!(failure, @"TLS fails: invalid peer certificate: UnknownIssuer");
    let failure = distrust(&client(), &authority.certify("localhost", |_| {})).await;
    insta::assert_snapshot!(failure, @"TLS fails: invalid peer certificate: UnknownIssuer");
}

#[tokio::test]
async fn a_certificate_has_to_be_for_the_host() {
    let authority = Authority::new();
    let failure = distrust(&authority.trusted_by(settings()), &authority.certify("other.example", |_| {})).await;
    assert!(failure.to_string().contains("not valid for"), "{failure}");
}

#[tokio::test]
async fn a_certificate_has_to_be_of_these_days() {
    let authority = Authority::new();
    let client = authority.trusted_by(settings());
    let now = std::time::SystemTime::now();
    let (yesterday, tomorrow) = (now - Duration::from_secs(86_400), now + Duration::from_secs(86_400));
    let expired = authority.certify("localhost", |params| params.not_after = yesterday.into());
    assert!(distrust(&client, &expired).await.to_string().contains("expired"));
    let early = authority.certify("localhost", |params| params.not_before = tomorrow.into());
    assert!(distrust(&client, &early).await.to_string().contains("not valid yet"));
}

#[tokio::test]
async fn the_host_may_be_an_address_that_its_certificate_names() {
    let authority = Authority::new();
    let receiver = serving(authority.certify("127.0.0.1", |_| {}).server(&[]), |_| async { yes() }).await;
    let client = authority.trusted_by(settings());
    post(&client, &receiver.url_as("https", "127.0.0.1", "/")).await.unwrap();
    // Spelled otherwise it is no name that a certificate could have.
    let failure = post(&client, &receiver.url_as("https", "2130706433", "/")).await.unwrap_err();
    assert!(matches!(failure, Failure::Tls { .. }), "{failure:?}");
}

#[tokio::test]
async fn a_receiver_without_tls_at_an_https_url_is_told_so() {
    let receiver = Receiver::doing(|mut stream, _| async move {
        let _sent = tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        closed(&mut stream).await;
    })
    .await;
    let failure = post(&client(), &receiver.https()).await.unwrap_err();
    assert!(matches!(failure, Failure::Tls { .. }), "{failure:?}");
}

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

#[tokio::test]
async fn the_gateway_shows_its_certificate_to_a_receiver_that_asks() {
    let authority = Authority::new();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap()).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build().unwrap();
    for protocols in [&["h2"][..], &["http/1.1"]] {
        let config = authority.certify("localhost", |_| {}).server_that_asks(protocols, verifier.clone());
        let receiver = serving(config, |_| async { yes() }).await;

        let nobody = authority.trusted_by(settings());
        let failure = post(&nobody, &receiver.https()).await.unwrap_err();
        assert!(matches!(failure, Failure::Tls { .. }), "{failure:?}");

        let (files, ours) = (Files::new(), authority.certify("gateway.example", |_| {}));
        let (certificate, key) = (files.file("gateway.pem", &ours.pem), files.file("gateway.key", &ours.key.serialize_pem()));
        let tls = Tls { client_certificate: Some(ClientCertificate { certificate, key }), ..Tls::default() };
        let known = authority.trusted_by(Settings { tls, ..settings() });
        assert_eq!(post(&known, &receiver.https()).await.unwrap().status, 200);
    }
}

/// What is wrong with the files, without where the test keeps them.
fn refused(files: &Files, ca_file: Option<&Path>, certificate: Option<(&Path, &Path)>) -> String {
    let client_certificate =
        certificate.map(|(certificate, key)| ClientCertificate { certificate: certificate.into(), key: key.into() });
    let tls = Tls { ca_file: ca_file.map(Path::to_owned), client_certificate };
    let error: SetupError = Client::new(Settings { tls, ..settings() }).unwrap_err();
    error.to_string().replace(&format!("{}/", files.0.path().display()), "")
}

#[tokio::test]
async fn files_that_are_not_what_they_should_be_are_named() {
    let files = Files::new();
    let authority = Authority::new();
    let (ours, others) = (authority.certify("a", |_| {}), authority.certify("b", |_| {}));
    let certificate = files.file("gateway.pem", &ours.pem);
    let key = files.file("gateway.key", &ours.key.serialize_pem());
    let other_key = files.file("other.key", &others.key.serialize_pem());
    let missing = files.0.path().join("missing.pem");
    let torn = files.file("torn.key", &ours.key.serialize_pem()[..100]);
    let no_der = files.file("no-der.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    insta::assert_snapshot!(refused(&files, Some(&missing), None), @"webhook.tls.ca_file needs a PEM file with certificates, missing.pem is none: No such file or directory (os error 2)");
    insta::assert_snapshot!(refused(&files, Some(&key), None), @"webhook.tls.ca_file needs a PEM file with certificates, gateway.key is none: nothing of that kind is in it");
    insta::assert_snapshot!(refused(&files, Some(&no_der), None), @"webhook.tls.ca_file needs a PEM file with certificates, no-der.pem is none: invalid peer certificate: BadEncoding");
    insta::assert_snapshot!(refused(&files, None, Some((&key, &key))), @"webhook.tls.client_certificate needs a PEM file with a certificate, gateway.key is none: nothing of that kind is in it");
    insta::assert_snapshot!(refused(&files, None, Some((&certificate, &certificate))), @"webhook.tls.client_key needs a PEM file with a private key, gateway.pem is none: nothing of that kind is in it");
    insta::assert_snapshot!(refused(&files, None, Some((&certificate, &torn))), @"webhook.tls.client_key needs a PEM file with a private key, torn.key is none: it is not well formed");
    insta::assert_snapshot!(refused(&files, None, Some((&certificate, &other_key))), @"webhook.tls.client_certificate and webhook.tls.client_key need to belong together, gateway.pem and other.key do not: keys may not be consistent: KeyMismatch");
}
