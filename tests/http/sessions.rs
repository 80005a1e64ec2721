//! Channel sessions: the same as by gRPC.

use crate::gateway::{Gateway, plain};
use serde_json::{Value, json};

async fn get(gateway: &Gateway, path: &str) -> (u16, Value) {
    let answer = gateway.connect().await.get(path).await;
    (answer.status, answer.json())
}

async fn end(gateway: &Gateway, id: &str, body: &Value) -> (u16, Value) {
    let answer = gateway.connect().await.post(&format!("/v1/sessions/{id}/end"), body).await;
    (answer.status, answer.json())
}

#[tokio::test]
async fn a_session_is_listed_read_and_ended() {
    let gateway = Gateway::start().await;
    let opened = gateway.accept(&plain(Some("m-1"), "ada", "hello")).await;
    gateway.accept(&plain(Some("m-2"), "bob", "hello")).await;
    let id = opened["channelSessionId"].as_str().unwrap();
    let (status, session) = get(&gateway, &format!("/v1/sessions/{id}")).await;
    let expected = json!({
        "id": id, "serviceIdentifier": "1122", "channelCustomerIdentifier": "ada", "conversationId": opened["conversationId"],
        "customerId": session["customerId"], "openedAt": session["openedAt"], "endedAt": null, "endReason": null,
        "lastActivity": session["lastActivity"],
    });
    assert_eq!((status, &session), (200, &expected));
    assert_eq!(session["lastActivity"], session["openedAt"]);

    let (status, ended) = end(&gateway, id, &json!({"reason": "AGENT"})).await;
    let now = get(&gateway, &format!("/v1/sessions/{id}")).await.1;
    assert_eq!((status, &ended), (200, &json!({"session": now, "alreadyEnded": false})));
    assert_eq!((&now["endReason"], now["endedAt"].is_string()), (&json!("AGENT"), true));
    assert_eq!(end(&gateway, id, &json!({})).await, (200, json!({"session": now, "alreadyEnded": true})));

    let ids = async |query: &str| {
        let (status, page) = get(&gateway, &format!("/v1/sessions{query}")).await;
        assert_eq!(status, 200, "{page}");
        let addresses = page["sessions"].as_array().unwrap().iter().map(|session| session["channelCustomerIdentifier"].clone());
        (addresses.collect::<Vec<_>>(), page["nextPageToken"].clone())
    };
    assert_eq!(ids("").await, (vec![json!("bob"), json!("ada")], Value::Null));
    assert_eq!(ids("?active=true").await, (vec![json!("bob")], Value::Null));
    assert_eq!(ids("?serviceIdentifier=elsewhere").await, (vec![], Value::Null));
    let customer = now["customerId"].as_str().unwrap();
    assert_eq!(ids(&format!("?customerId={customer}")).await, (vec![json!("ada")], Value::Null));
    let (first, token) = ids("?pageSize=1").await;
    assert_eq!(first, ["bob"]);
    assert_eq!(ids(&format!("?pageSize=1&pageToken={}", token.as_str().unwrap())).await, (vec![json!("ada")], Value::Null));
}

#[tokio::test]
async fn what_is_wrong_is_said() {
    let gateway = Gateway::start().await;
    for path in ["/v1/sessions/lost", "/v1/sessions?active=yes", "/v1/sessions?pageSize=0", "/v1/sessions?color=red"] {
        let (status, failure) = get(&gateway, path).await;
        let expected = if path.ends_with("lost") { (404, "SESSION_NOT_FOUND") } else { (400, "INVALID_REQUEST") };
        assert_eq!((status, failure["reason"].as_str().unwrap()), expected, "{path}");
    }
    for (body, problem) in [
        (json!({"reason": "WHIM"}), "reason needs one of CUSTOMER, INACTIVITY, NETWORK, AGENT, FORCE_CLOSED, found \"WHIM\""),
        (json!({"why": "WHIM"}), "body unknown field `why`, expected `reason` at line 1 column 6"),
    ] {
        let (status, failure) = end(&gateway, "lost", &body).await;
        assert_eq!((status, failure["markdownText"].as_str().unwrap()), (400, problem));
    }
    assert_eq!(end(&gateway, "lost", &json!({})).await.1["reason"], json!("SESSION_NOT_FOUND"));
    let form = gateway.connect().await.post_text("/v1/sessions/lost/end", "text/plain", "{}").await;
    assert_eq!(form.status, 415);
}
