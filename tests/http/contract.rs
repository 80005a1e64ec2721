//! Health, the description of the face, and HTTP itself.

use crate::gateway::Gateway;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::net::TcpStream;

#[tokio::test]
async fn health_says_alive_and_readiness_what_it_is_told() {
    let gateway = Gateway::start().await;
    let mut client = gateway.connect().await;
    assert_eq!(client.get("/readyz").await.json(), json!({"status": "ready"}));
    gateway.readiness.send_replace(false);
    let answer = client.get("/readyz").await;
    assert_eq!((answer.status, answer.json()), (503, json!({"status": "not ready"})));
    let answer = client.get("/healthz").await;
    assert_eq!((answer.status, answer.json()), (200, json!({"status": "alive"})));
}

#[tokio::test]
async fn head_has_the_headers_of_get_and_no_body() {
    let gateway = Gateway::start().await;
    let mut client = gateway.connect().await;
    for path in ["/healthz", "/openapi.json", "/v1/messages/none"] {
        let get = client.get(path).await;
        let head = client.ask("HEAD", path, "").await;
        assert_eq!((head.status, head.header("content-length")), (get.status, get.header("content-length")), "{path}");
    }
    assert_eq!(client.ask("HEAD", "/v1/notifications", "").await.status, 200);
}

#[tokio::test]
async fn the_description_is_served_as_it_is_written() {
    let gateway = Gateway::start().await;
    let answer = gateway.connect().await.get("/openapi.json").await;
    assert_eq!(answer.text(), include_str!("../../src/http/openapi.json"));
    assert_eq!(answer.json()["openapi"], json!("3.1.0"));
}

#[tokio::test]
async fn http_2_is_spoken_on_the_same_port() {
    let gateway = Gateway::start().await;
    let socket = TcpStream::connect(gateway.address).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(socket)).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = hyper::Request::get(format!("http://{}/healthz", gateway.address)).body(Empty::<Bytes>::new()).unwrap();
    let answer = sender.send_request(request).await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.version()), (200, hyper::Version::HTTP_2));
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(&body[..], br#"{"status":"alive"}"#);
    gateway.shutdown.cancel();
    gateway.served.await.unwrap();
    connection.await.unwrap().unwrap();
}
