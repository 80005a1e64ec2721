//! What a client learns of a message that it posts.

use crate::gateway::{Gateway, plain, settings};
use axum::http::StatusCode;
use cim_gateway::http::Settings;
use cim_gateway::inbox::Reuse;
use serde_json::{Value, json};

const PATHS: [&str; 6] =
    ["/ccm/message/receive", "/message/receive", "/cim-messages", "/ccm/cim-messages", "/message", "/ccm/message"];

#[tokio::test]
async fn every_documented_path_takes_a_message() {
    let gateway = Gateway::start().await;
    let mut client = gateway.connect().await;
    for (i, path) in PATHS.iter().enumerate() {
        let id = format!("m-{i}");
        let answer = client.post(path, &plain(Some(&id), "visitor", "hello")).await;
        assert_eq!(answer.status, 202, "{path}");
        let accepted = answer.json();
        assert_eq!(accepted["messageId"], json!(id), "{path}");
        assert!(accepted["conversationId"].is_string() && accepted["channelSessionId"].is_string(), "{accepted}");
        assert_eq!(accepted.as_object().unwrap().len(), 3, "{accepted}");
    }
}

#[tokio::test]
async fn the_keys_of_the_answer_stand_in_one_order() {
    let gateway = Gateway::start().await;
    gateway.accept(&plain(Some("call"), "visitor", "one")).await;
    let mut client = gateway.connect().await;
    client.post("/message", &plain(Some("call"), "visitor", "two")).await;
    let answer = client.post("/message", &plain(Some("call"), "visitor", "two")).await;
    let keys = ["{\"messageId\":", ",\"conversationId\":", ",\"channelSessionId\":", ",\"submittedId\":", ",\"duplicate\":true}"];
    let places = keys.map(|key| answer.text().find(key).unwrap_or_else(|| panic!("{key} in {}", answer.text())));
    assert!(places.is_sorted(), "{}", answer.text());
}

#[tokio::test]
async fn a_repeat_is_told_and_has_the_same_ids() {
    let gateway = Gateway::start().await;
    let message = plain(Some("m-1"), "visitor", "hello");
    let first = gateway.accept(&message).await;
    let mut repeat = gateway.accept(&message).await;
    assert_eq!(repeat["duplicate"], json!(true));
    repeat.as_object_mut().unwrap().remove("duplicate");
    assert_eq!(repeat, first);
}

#[tokio::test]
async fn a_renewed_id_is_told_with_the_one_that_was_sent() {
    let gateway = Gateway::start().await;
    gateway.accept(&plain(Some("call-7"), "visitor", "one")).await;
    let second = gateway.accept(&plain(Some("call-7"), "visitor", "two")).await;
    assert_eq!(second["submittedId"], json!("call-7"));
    assert_ne!(second["messageId"], json!("call-7"));
    assert_eq!(second.get("duplicate"), None);
}

#[tokio::test]
async fn a_message_without_an_id_gets_one_and_no_submitted_id() {
    let gateway = Gateway::start().await;
    let accepted = gateway.accept(&plain(None, "visitor", "hello")).await;
    assert!(accepted["messageId"].as_str().is_some_and(|id| !id.is_empty()));
    assert_eq!(accepted.get("submittedId"), None);
}

#[tokio::test]
async fn a_reused_id_is_a_conflict_where_it_is_rejected() {
    let gateway = Gateway::with(Settings { reuse: Reuse::Reject, ..settings() }).await;
    gateway.accept(&plain(Some("m-1"), "visitor", "one")).await;
    let answer = gateway.connect().await.post("/message", &plain(Some("m-1"), "visitor", "two")).await;
    assert_eq!((answer.status, &answer.json()["reason"]), (409, &json!("REUSED_ID")));
}

#[tokio::test]
async fn old_clients_get_200_with_the_same_body() {
    let gateway = Gateway::with(Settings { accepted_status: StatusCode::OK, ..settings() }).await;
    let answer = gateway.connect().await.post("/ccm/message/receive", &plain(Some("m-1"), "visitor", "hello")).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json()["messageId"], json!("m-1"));
    assert_eq!(answer.json().get("status"), None);
}

#[tokio::test]
async fn a_notification_that_belongs_nowhere_has_no_session() {
    let gateway = Gateway::start().await;
    let mut message = plain(Some("d-1"), "visitor", "");
    message["body"] = json!({"type": "DELIVERYNOTIFICATION", "messageId": "unknown", "status": "READ", "reasonCode": 200});
    let accepted = gateway.accept(&message).await;
    assert_eq!(accepted, json!({"messageId": "d-1", "conversationId": null, "channelSessionId": null}));
}

#[tokio::test]
async fn any_json_content_type_will_do() {
    let gateway = Gateway::start().await;
    let mut client = gateway.connect().await;
    for content_type in ["application/json;charset=UTF-8", "application/cim+json", "APPLICATION/JSON"] {
        let answer = client.post_text("/message", content_type, plain(None, "visitor", "hello").to_string()).await;
        assert_eq!(answer.status, 202, "{content_type}");
    }
}

#[tokio::test]
async fn a_chunked_body_is_read_to_its_end() {
    let gateway = Gateway::start().await;
    let mut client = gateway.connect().await;
    let text = plain(Some("m-1"), "visitor", "in pieces").to_string();
    let head = "content-type: application/json\r\ntransfer-encoding: chunked\r\n";
    client.send(crate::client::request("POST", "/message", head).as_bytes()).await;
    for piece in text.as_bytes().chunks(7) {
        client.send(format!("{:x}\r\n", piece.len()).as_bytes()).await;
        client.send(&[piece, b"\r\n"].concat()).await;
    }
    client.send(b"0\r\n\r\n").await;
    assert_eq!(client.answer().await.json()["messageId"], json!("m-1"));
}

#[tokio::test]
async fn text_comes_back_as_it_went_in() {
    let gateway = Gateway::start().await;
    let text = "Добрый день 👋\u{2028}\n\"quoted\" \\ \u{0} end";
    gateway.accept(&plain(Some("m-1"), "visitor", text)).await;
    let stored: Value = gateway.connect().await.get("/v1/messages/m-1").await.json();
    assert_eq!(stored["message"]["body"]["markdownText"], json!(text));
}
