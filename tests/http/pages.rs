//! What pages of other origins may do.

use crate::gateway::{Gateway, plain, settings};
use cim_gateway::http::Settings;

const ORIGIN: &str = "https://desk.example.org";

async fn gateway(origins: &[&str]) -> Gateway {
    Gateway::with(Settings { allowed_origins: origins.iter().map(ToString::to_string).collect(), ..settings() }).await
}

fn preflight(method: &str) -> String {
    format!(
        "origin: {ORIGIN}\r\naccess-control-request-method: {method}\r\naccess-control-request-headers: content-type,last-event-id\r\n"
    )
}

#[tokio::test]
async fn without_origins_there_is_nothing_of_cors() {
    let gateway = gateway(&[]).await;
    let mut client = gateway.connect().await;
    let answers = [
        client.ask("GET", "/healthz", &format!("origin: {ORIGIN}\r\n")).await,
        client.ask("OPTIONS", "/message", &preflight("POST")).await,
    ];
    for answer in answers {
        assert_eq!((answer.header("access-control-allow-origin"), answer.header("vary")), (None, None), "{answer:?}");
    }
}

#[tokio::test]
async fn an_allowed_origin_may_post_and_listen_and_change_channels() {
    let gateway = gateway(&[ORIGIN, "http://localhost:3000"]).await;
    let mut client = gateway.connect().await;
    let channel = "/v1/channels/1";
    for (path, method) in [("/ccm/message/receive", "POST"), ("/v1/notifications", "GET"), (channel, "PUT"), (channel, "DELETE")]
    {
        let answer = client.ask("OPTIONS", path, &preflight(method)).await;
        assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, Some(ORIGIN)), "{path}");
        assert!(answer.header("access-control-allow-methods").unwrap().contains(method), "{path}");
        assert_eq!(
            answer.header("access-control-allow-headers"),
            Some("authorization,content-type,if-match,last-event-id,prefer"),
            "{path}"
        );
    }
    let answer = client.ask("GET", "/v1/messages/none", &format!("origin: {ORIGIN}\r\n")).await;
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (404, Some(ORIGIN)));
    assert_eq!(answer.header("access-control-expose-headers"), Some("retry-after,etag,location"));
}

#[tokio::test]
async fn another_origin_may_not() {
    let gateway = gateway(&[ORIGIN]).await;
    let answer = gateway.connect().await.ask("GET", "/healthz", "origin: https://elsewhere.example\r\n").await;
    assert_eq!(answer.header("access-control-allow-origin"), None);
}

#[tokio::test]
async fn a_star_is_every_origin() {
    let gateway = gateway(&["*"]).await;
    let mut client = gateway.connect().await;
    let answer = client.ask("GET", "/healthz", "origin: https://elsewhere.example\r\n").await;
    assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
    assert_eq!(client.post("/message", &plain(None, "visitor", "hello")).await.status, 202);
}
