//! Messages read back.

use crate::gateway::{Gateway, plain};
use serde_json::{Value, json};

#[tokio::test]
async fn a_message_reads_back_with_all_that_the_gateway_knows() {
    let gateway = Gateway::start().await;
    gateway.accept(&plain(Some("call"), "visitor", "one")).await;
    let accepted = gateway.accept(&plain(Some("call"), "visitor", "two")).await;
    let id = accepted["messageId"].as_str().unwrap();
    let answer = gateway.connect().await.get(&format!("/v1/messages/{id}")).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let stored = answer.json();
    assert_eq!(stored["message"]["id"], json!(id));
    assert_eq!(stored["message"]["header"]["conversationId"], accepted["conversationId"]);
    assert_eq!(stored["audiences"], json!(["PLATFORM"]));
    assert_eq!(stored["submittedId"], json!("call"));
    assert!(stored["cursor"].is_string());
    let accepted_at = stored["acceptedAt"].as_str().unwrap();
    assert!(accepted_at.len() == "2023-02-23T11:17:33.951Z".len() && accepted_at.ends_with('Z'), "{accepted_at}");
}

#[tokio::test]
async fn a_message_reads_back_with_what_became_of_it_and_so_does_a_repeat() {
    let gateway = Gateway::start().await;
    let mut from_agent = plain(Some("m-1"), "visitor", "hi");
    from_agent["header"]["sender"]["type"] = json!("AGENT");
    gateway.accept(&from_agent).await;
    let mut client = gateway.connect().await;
    let unknown = client.get("/v1/messages/m-1").await.json();
    assert_eq!((&unknown["outcome"], &unknown["timeline"]), (&Value::Null, &json!([])));
    for (id, status) in [("r-1", "READ"), ("r-2", "DELIVERED")] {
        let mut receipt = plain(Some(id), "visitor", "seen");
        receipt["body"] = json!({"type": "DELIVERYNOTIFICATION", "messageId": "m-1", "status": status, "reasonCode": 200, "markdownText": "seen"});
        gateway.accept(&receipt).await;
    }
    let told = client.get("/v1/messages/m-1").await.json();
    assert_eq!(told["outcome"], json!({"status": "READ", "reasonCode": "200", "text": "seen"}));
    let receipts: Vec<_> = told["timeline"].as_array().unwrap().iter().map(|event| &event["receipt"]).collect();
    let said = |receipt: &Value| (receipt["messageId"].clone(), receipt["status"].clone(), receipt["counts"].clone());
    assert_eq!(said(receipts[0]), (json!("r-1"), json!("READ"), json!(true)));
    assert_eq!(said(receipts[1]), (json!("r-2"), json!("DELIVERED"), json!(false)));

    let repeat = client.post("/ccm/message/receive", &from_agent).await;
    assert_eq!(repeat.status, 200);
    let notification = repeat.json();
    assert_eq!((&notification["status"], &notification["duplicate"]), (&json!("READ"), &json!(true)));
}

#[tokio::test]
async fn an_id_may_be_any_text() {
    let gateway = Gateway::start().await;
    gateway.accept(&plain(Some("a/b c?d#e%👋"), "visitor", "hello")).await;
    let answer = gateway.connect().await.get("/v1/messages/a%2Fb%20c%3Fd%23e%25%F0%9F%91%8B").await;
    assert_eq!(answer.json()["message"]["id"], json!("a/b c?d#e%👋"));
}

#[tokio::test]
async fn pages_go_back_in_time_without_gap_or_repeat() {
    let gateway = Gateway::start().await;
    let mut conversation = Value::Null;
    for i in 0..7 {
        conversation = gateway.accept(&plain(Some(&format!("m-{i}")), "visitor", "hello")).await["conversationId"].take();
        gateway.accept(&plain(Some(&format!("other-{i}")), "somebody else", "hello")).await;
    }
    let path = format!("/v1/conversations/{}/messages", conversation.as_str().unwrap());
    let mut client = gateway.connect().await;
    let mut page = client.get(&format!("{path}?pageSize=3")).await.json();
    // What comes later does not shift later pages.
    gateway.accept(&plain(Some("m-7"), "visitor", "hello")).await;
    let mut pages = vec![ids(&page)];
    while let Some(token) = page["nextPageToken"].as_str() {
        page = client.get(&format!("{path}?pageSize=3&pageToken={token}")).await.json();
        pages.push(ids(&page));
    }
    assert_eq!(pages, [vec!["m-6", "m-5", "m-4"], vec!["m-3", "m-2", "m-1"], vec!["m-0", STARTED]]);

    let whole = client.get(&path).await.json();
    assert_eq!((ids(&whole).len(), &whole["nextPageToken"]), (9, &Value::Null));
}

/// What the gateway says of itself when a session begins.
const STARTED: &str = "CHANNEL_SESSION_STARTED";

fn ids(page: &Value) -> Vec<String> {
    let id = |stored: &Value| match stored["message"]["body"]["notificationType"].as_str() {
        Some(notification) => notification.to_owned(),
        None => stored["message"]["id"].as_str().unwrap().to_owned(),
    };
    page["messages"].as_array().unwrap().iter().map(id).collect()
}
