//! What pages of other origins may do.

use crate::gateway::{Gateway, plain, settings};
use crate::notifications::Events;
use cim_gateway::http::Settings;
use serde_json::json;

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

const DESK: &str = "/v1/notifications?subscription=desk&from=earliest&reset=true";

/// The headers of a browser, for a page of another site or of another port that asks without saying that it is one of these origins.
const FOREIGN: [&str; 5] = [
    "sec-fetch-site: cross-site\r\nsec-fetch-mode: no-cors\r\n",
    "sec-fetch-site: same-site\r\n",
    "origin: https://elsewhere.example\r\n",
    "origin: null\r\n",
    "sec-fetch-site: cross-site\r\norigin: https://elsewhere.example\r\n",
];

#[tokio::test]
async fn a_page_of_another_site_takes_no_reader_over_and_moves_no_cursor() {
    let gateway = gateway(&[ORIGIN]).await;
    let mut reader = Events::open(&gateway, "?subscription=desk", "").await;
    let first = reader.next().await.unwrap();
    for headers in FOREIGN {
        for path in [DESK, "/v1/notifications?subscription=desk", "/v1/notifications"] {
            let answer = gateway.connect().await.ask("GET", path, headers).await;
            assert_eq!((answer.status, &answer.json()["reason"]), (403, &json!("FOREIGN_PAGE")), "{path} {headers}");
        }
    }
    gateway.accept(&plain(Some("m-1"), "visitor", "hello")).await;
    assert_eq!(first.kind, "heartbeat");
    assert_eq!(reader.messages(2).await.0[1], "m-1");
}

#[tokio::test]
async fn whoever_is_no_page_or_one_that_may_call_attaches_a_reader() {
    for headers in [
        "",
        "sec-fetch-site: none\r\n",
        "sec-fetch-site: same-origin\r\n",
        "sec-fetch-site: cross-site\r\norigin: https://desk.example.org\r\n",
        "sec-fetch-site: same-site\r\norigin: https://desk.example.org\r\n",
        "origin: https://desk.example.org\r\n",
        // As the client calls it.
        "origin: http://gateway\r\n",
        // Its browser has asked before it sent a key.
        "sec-fetch-site: same-site\r\norigin: https://elsewhere.example\r\nauthorization: Bearer key\r\n",
    ] {
        let gateway = gateway(&[ORIGIN]).await;
        let mut reader = Events::open(&gateway, "?subscription=desk", headers).await;
        assert_eq!(reader.next().await.unwrap().kind, "heartbeat", "{headers}");
    }
}

#[tokio::test]
async fn where_every_origin_may_call_no_page_is_foreign() {
    for headers in FOREIGN {
        let gateway = gateway(&["*"]).await;
        let mut reader = Events::open(&gateway, "?subscription=desk", headers).await;
        assert_eq!(reader.next().await.unwrap().kind, "heartbeat", "{headers}");
    }
}
