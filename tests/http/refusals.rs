//! What a client learns when it is refused.

use crate::client::Answer;
use crate::gateway::{Gateway, plain};
use serde_json::{Value, json};

/// Checks the documented shape, and returns the body.
fn refusal(answer: &Answer, status: u16, reason: &str) -> Value {
    let body = answer.json();
    assert_eq!((answer.status, &body["reason"]), (status, &json!(reason)), "{body}");
    assert_eq!(body["type"], json!("DELIVERYNOTIFICATION"));
    assert_eq!(body["status"], json!("FAILED"));
    assert_eq!(body["reasonCode"], json!(status));
    assert_eq!(body.get("messageId"), Some(&Value::Null));
    assert!(body["markdownText"].as_str().is_some_and(|sentence| !sentence.is_empty()));
    body
}

#[tokio::test]
async fn every_broken_rule_is_named_at_once() {
    let gateway = Gateway::start().await;
    let mut message = plain(Some("m-1"), "visitor", "hello");
    message["header"]["sender"] = json!({"type": "CONNECTOR", "senderName": " "});
    message["header"]["timestamp"] = json!("yesterday");
    message["body"] = json!({"type": "LOCATION", "location": {"latitude": 91.0, "longitude": "far"}});
    let answer = gateway.connect().await.post("/message", &message).await;
    let body = refusal(&answer, 400, "INVALID_MESSAGE");
    let mut found: Vec<_> =
        body["violations"].as_array().unwrap().iter().map(|v| (v["path"].as_str(), v["reason"].as_str())).collect();
    found.sort_unstable();
    let expected = [
        ("body.location.latitude", "OUT_OF_RANGE"),
        ("body.location.longitude", "WRONG_TYPE"),
        ("header.sender.id", "REQUIRED"),
        ("header.sender.senderName", "REQUIRED"),
        ("header.timestamp", "NOT_A_TIME"),
    ];
    assert_eq!(found, expected.map(|(path, reason)| (Some(path), Some(reason))));
    assert!(body["violations"].as_array().unwrap().iter().all(|v| v["message"].is_string()));
    assert!(answer.text().starts_with(r#"{"type":"DELIVERYNOTIFICATION","markdownText":"#), "{}", answer.text());
}

#[tokio::test]
async fn a_syntax_error_names_line_and_column() {
    let gateway = Gateway::start().await;
    let answer = gateway.connect().await.post_text("/message", "application/json", "{\n  \"id\": nope}").await;
    let body = refusal(&answer, 400, "INVALID_JSON");
    let violation = &body["violations"][0];
    assert_eq!((&violation["line"], &violation["column"]), (&json!(2), &json!(9)), "{body}");
    assert!(body["markdownText"].as_str().unwrap().contains("line 2, column 9"), "{body}");
}

#[tokio::test]
async fn what_is_no_text_of_json_is_a_syntax_error() {
    let gateway = Gateway::start().await;
    let mut client = gateway.connect().await;
    let deep = "[".repeat(100_000);
    for text in [&b""[..], b"{\"id\": \"\xff\"}", b"{\"id\": \"m\"", b"{} {}", deep.as_bytes()] {
        let answer = client.post_text("/message", "application/json", text).await;
        refusal(&answer, 400, "INVALID_JSON");
    }
    for text in [&b"null"[..], b"[]", b"7", b"{}"] {
        let answer = client.post_text("/message", "application/json", text).await;
        refusal(&answer, 400, "INVALID_MESSAGE");
    }
}

#[tokio::test]
async fn another_content_type_or_none_is_refused() {
    let gateway = Gateway::start().await;
    let text = plain(None, "visitor", "hello").to_string();
    for content_type in ["text/plain", "application/xml", "application/x-www-form-urlencoded", ""] {
        let answer = gateway.connect().await.post_text("/message", content_type, &text).await;
        refusal(&answer, 415, "UNSUPPORTED_MEDIA_TYPE");
    }
    let mut client = gateway.connect().await;
    let head = format!("content-length: {}\r\n", text.len());
    client.send(crate::client::request("POST", "/message", &head).as_bytes()).await;
    client.send(text.as_bytes()).await;
    refusal(&client.answer().await, 415, "UNSUPPORTED_MEDIA_TYPE");
}

#[tokio::test]
async fn another_method_is_refused_and_the_right_ones_are_named() {
    let gateway = Gateway::start().await;
    let mut client = gateway.connect().await;
    for (method, path, allow) in [
        ("GET", "/ccm/message/receive", "POST"),
        ("DELETE", "/message", "POST"),
        ("OPTIONS", "/message", "POST"),
        ("PUT", "/v1/messages/m-1", "GET,HEAD"),
        ("DELETE", "/v1/notifications", "GET,HEAD"),
    ] {
        let answer = client.ask(method, path, "").await;
        refusal(&answer, 405, "METHOD_NOT_ALLOWED");
        assert_eq!(answer.header("allow"), Some(allow), "{method} {path}");
    }
}

#[tokio::test]
async fn an_unknown_path_is_refused_in_the_same_shape() {
    let gateway = Gateway::start().await;
    let mut client = gateway.connect().await;
    for path in ["/", "/v1", "/ccm/message/receive/", "/v1/messages/", "/v1/conversations/c/messages/m"] {
        refusal(&client.get(path).await, 404, "PATH_NOT_FOUND");
    }
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let gateway = Gateway::start().await;
    let mut client = gateway.connect().await;
    refusal(&client.get("/v1/messages/m-1").await, 404, "MESSAGE_NOT_FOUND");
    refusal(&client.get("/v1/messages/%00%2F%F0%9F%91%8B").await, 404, "MESSAGE_NOT_FOUND");
    refusal(&client.get("/v1/conversations/c-1/messages").await, 404, "CONVERSATION_NOT_FOUND");
    refusal(&client.get("/v1/messages/%ff").await, 400, "INVALID_REQUEST");
}

#[tokio::test]
async fn what_is_wrong_with_a_query_is_said() {
    let gateway = Gateway::start().await;
    let mut client = gateway.connect().await;
    for (path, words) in [
        ("/v1/messages/m-1?x=1", "unknown parameter \"x\""),
        ("/v1/conversations/c-1/messages?pageSize=101", "1 to 100"),
        ("/v1/conversations/c-1/messages?pageToken=7", "pageToken needs a nextPageToken"),
        ("/v1/notifications?audience=ALL", "CUSTOMER, PLATFORM"),
        ("/v1/notifications?from=earliest&since=7", "one of after, since and from"),
        ("/v1/notifications?cursor=7", "known are serviceIdentifier"),
    ] {
        let body = refusal(&client.get(path).await, 400, "INVALID_REQUEST");
        assert!(body["markdownText"].as_str().unwrap().contains(words), "{path}: {body}");
    }
}

#[tokio::test]
async fn a_page_token_of_another_history_is_gone() {
    let gateway = Gateway::start().await;
    let accepted = gateway.accept(&plain(None, "visitor", "hello")).await;
    let path =
        format!("/v1/conversations/{}/messages?pageToken=AQAAAAAAAAABAAAAAAAAAAE", accepted["conversationId"].as_str().unwrap());
    refusal(&gateway.connect().await.get(&path).await, 410, "CURSOR_UNKNOWN");
}
