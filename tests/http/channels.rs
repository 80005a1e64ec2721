//! The registry of channels, and what clients look up in it.

use crate::client::{Answer, Client, request};
use crate::gateway::{CHANNEL_BYTES, Gateway, plain, settings};
use serde_json::{Value, json};

const SECRET: &str = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz";

fn channel(service_identifier: &str) -> Value {
    json!({
        "serviceIdentifier": service_identifier,
        "channelType": "WHATSAPP",
        "connector": {"uri": "https://connector.example", "signingSecrets": [SECRET]},
        "customerActivityTimeout": "5m",
        "attributes": [
            {"key": "account", "type": "String100", "value": "acme"},
            {"key": "token", "type": "Password", "value": "sesame"},
        ],
    })
}

/// Sends a body, with more headers, each ending in `\r\n`.
async fn send(client: &mut Client, method: &str, path: &str, headers: &str, body: &Value) -> Answer {
    let body = body.to_string();
    let head = format!("content-type: application/json\r\ncontent-length: {}\r\n{headers}", body.len());
    client.send(&[request(method, path, &head).as_bytes(), body.as_bytes()].concat()).await;
    client.answer().await
}

async fn created(client: &mut Client, channel: &Value) -> Value {
    let answer = client.post("/v1/channels", channel).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    answer.json()
}

fn path(channel: &Value) -> String {
    format!("/v1/channels/{}", channel["id"].as_str().unwrap())
}

fn assert_failed(answer: &Answer, status: u16, reason: &str) {
    let body = answer.json();
    assert_eq!((answer.status, &body["reason"], &body["status"]), (status, &json!(reason), &json!("FAILED")), "{body}");
    assert_eq!(body["reasonCode"], json!(status));
}

#[tokio::test]
async fn a_channel_is_registered_read_changed_and_removed() {
    let gateway = Gateway::start().await;
    let mut client = gateway.connect().await;
    let answer = client.post("/v1/channels", &channel("shop")).await;
    let registered = answer.json();
    assert_eq!(answer.status, 201);
    let path = path(&registered);
    assert_eq!(answer.header("location"), Some(path.as_str()));
    let etag = format!("\"{}\"", registered["etag"].as_str().unwrap());
    assert_eq!(answer.header("etag"), Some(etag.as_str()));
    assert!(!answer.text().contains("whsec_") && !answer.text().contains("sesame"), "{}", answer.text());
    assert_eq!(registered["customerActivityTimeout"], json!("300s"));

    let read = client.get(&path).await;
    assert_eq!((read.status, read.header("etag"), read.json()), (200, Some(etag.as_str()), registered.clone()));

    let mut changed = registered.clone();
    changed["name"] = json!("Shop");
    let answer = send(&mut client, "PUT", &path, &format!("if-match: {etag}\r\n"), &changed).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let replaced = answer.json();
    assert_eq!(replaced["name"], json!("Shop"));
    assert_eq!(replaced["connector"], registered["connector"], "the secret is kept");
    assert_eq!(replaced["attributes"], registered["attributes"]);

    let answer = client.ask("DELETE", &path, "").await;
    assert_eq!((answer.status, answer.body.len()), (204, 0));
    assert_failed(&client.get(&path).await, 404, "CHANNEL_NOT_FOUND");
    assert_failed(&client.ask("DELETE", &path, "").await, 404, "CHANNEL_NOT_FOUND");
}

#[tokio::test]
async fn a_change_is_made_only_to_what_the_client_has_read() {
    let gateway = Gateway::start().await;
    let mut client = gateway.connect().await;
    let registered = created(&mut client, &channel("shop")).await;
    let path = path(&registered);
    let other = "if-match: \"other\"\r\n";
    assert_failed(&send(&mut client, "PUT", &path, other, &channel("shop")).await, 412, "ETAG_MISMATCH");
    assert_failed(&client.ask("DELETE", &path, other).await, 412, "ETAG_MISMATCH");
    let mut stale = registered.clone();
    stale["etag"] = json!("other");
    assert_failed(&send(&mut client, "PUT", &path, "", &stale).await, 409, "ETAG_MISMATCH");
    for wrong in
        ["if-match: other\r\n", "if-match: W/\"x\"\r\n", "if-match: \"a\", \"b\"\r\n", "if-match: \"a\"\r\nif-match: \"b\"\r\n"]
    {
        assert_failed(&client.ask("DELETE", &path, wrong).await, 400, "INVALID_REQUEST");
    }
    assert_eq!(client.get(&path).await.json(), registered);
    let answer = send(&mut client, "PUT", &path, "if-match: *\r\n", &channel("shop")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[tokio::test]
async fn everything_that_is_wrong_with_a_channel_is_told_and_nothing_is_registered() {
    let gateway = Gateway::start().await;
    let mut client = gateway.connect().await;
    let wrong = json!({
        "channelType": 5, "colour": "red", "customerActivityTimeout": "1ms",
        "connector": {"uri": "connector", "signingSecrets": ["sesame"]},
    });
    let answer = client.post("/v1/channels", &wrong).await;
    assert_failed(&answer, 400, "INVALID_CHANNEL");
    let body = answer.json();
    let mut found: Vec<_> = body["violations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|v| (v["path"].as_str().unwrap(), v["reason"].as_str().unwrap()))
        .collect();
    found.sort_unstable();
    let expected = [
        ("channelType", "WRONG_TYPE"),
        ("colour", "UNKNOWN_KEY"),
        ("connector.signingSecrets[0]", "NOT_A_SECRET"),
        ("connector.uri", "NOT_A_URI"),
        ("customerActivityTimeout", "OUT_OF_RANGE"),
        ("serviceIdentifier", "REQUIRED"),
    ];
    assert_eq!(found, expected);
    assert!(!answer.text().contains("sesame"), "{}", answer.text());
    assert_eq!(client.get("/v1/channels").await.json(), json!({"channels": [], "nextPageToken": null}));
    assert_failed(&client.post_text("/v1/channels", "application/json", "{").await, 400, "INVALID_JSON");
    assert_failed(&client.post_text("/v1/channels", "text/plain", "{}").await, 415, "UNSUPPORTED_MEDIA_TYPE");
    assert_failed(&client.post("/v1/channels?dry=1", &channel("shop")).await, 400, "INVALID_REQUEST");

    let registered = created(&mut client, &channel("shop")).await;
    assert_failed(&client.post("/v1/channels", &channel("shop")).await, 409, "CHANNEL_EXISTS");
    let mut renamed = channel("shop");
    renamed["serviceIdentifier"] = json!("other");
    assert_failed(&send(&mut client, "PUT", &path(&registered), "", &renamed).await, 400, "INVALID_CHANNEL");
    let mut moved = registered.clone();
    moved["id"] = json!("other");
    assert_failed(&send(&mut client, "PUT", &path(&registered), "", &moved).await, 400, "INVALID_REQUEST");
    assert_eq!(client.get(&path(&registered)).await.json(), registered);
}

#[tokio::test]
async fn a_channel_that_is_too_large_is_not_read() {
    let gateway = Gateway::start().await;
    let mut large = channel("shop");
    large["name"] = json!("x".repeat(CHANNEL_BYTES));
    let answer = gateway.connect().await.post("/v1/channels", &large).await;
    assert_failed(&answer, 413, "CHANNEL_TOO_LARGE");
}

#[tokio::test]
async fn channels_are_listed_in_pages_by_type_and_by_service_identifier() {
    let gateway = Gateway::start().await;
    let mut client = gateway.connect().await;
    for i in 0..5 {
        created(&mut client, &channel(&format!("shop {i}"))).await;
    }
    let mut sms = channel("a");
    sms["channelType"] = json!("SMS");
    created(&mut client, &sms).await;
    let names = |page: &Value| -> Vec<String> {
        page["channels"].as_array().unwrap().iter().map(|c| c["serviceIdentifier"].as_str().unwrap().to_owned()).collect()
    };
    let first = client.get("/v1/channels?channelType=WHATSAPP&pageSize=3").await.json();
    assert_eq!(names(&first), ["shop 0", "shop 1", "shop 2"]);
    let token = first["nextPageToken"].as_str().unwrap();
    let last = client.get(&format!("/v1/channels?channelType=WHATSAPP&pageSize=3&pageToken={token}")).await.json();
    assert_eq!((names(&last), &last["nextPageToken"]), (vec!["shop 3".to_owned(), "shop 4".to_owned()], &Value::Null));
    assert_eq!(names(&client.get("/v1/channels?serviceIdentifier=shop%201").await.json()), ["shop 1"]);
    assert_eq!(names(&client.get("/v1/channels?serviceIdentifier=none").await.json()), [""; 0]);
    for wrong in ["pageSize=11", "pageSize=0", "pageToken=x", "sort=name"] {
        assert_failed(&client.get(&format!("/v1/channels?{wrong}")).await, 400, "INVALID_REQUEST");
    }
}

#[tokio::test]
async fn the_documented_look_ups_answer_in_their_shapes_without_passwords() {
    let gateway = Gateway::start().await;
    let mut client = gateway.connect().await;
    let mut default = channel("shop 1");
    default["defaultOutbound"] = json!(true);
    let registered = created(&mut client, &default).await;

    let attributes = client.get("/ccm/channel-connectors/configurations/shop%201").await;
    let expected = json!([
        {"key": "account", "type": "String100", "value": "acme"},
        {"key": "token", "type": "Password", "value": null},
    ]);
    assert_eq!((attributes.status, attributes.json()), (200, expected.clone()));

    let channel_type = json!({
        "id": "WHATSAPP", "name": "WHATSAPP", "channelLogo": null, "isInteractive": true, "mediaRoutingDomain": null,
    });
    let id = &registered["id"];
    let documented = json!({
        "id": id, "calendarId": null, "name": "shop 1", "serviceIdentifier": "shop 1", "defaultOutbound": true, "tenant": null,
        "channelConfig": {
            "id": id, "channelMode": "HYBRID", "conversationBot": null, "responseSla": 0, "customerActivityTimeout": 300,
            "customerSla": null, "customerIdentificationCriteria": null, "routingPolicy": null, "botId": null,
        },
        "channelConnector": {
            "id": id, "name": "shop 1",
            "channelProviderInterface": {
                "id": id, "name": "shop 1", "supportedChannelTypes": [channel_type],
                "providerWebhook": "https://connector.example", "channelProviderConfigSchema": [],
            },
            "channelProviderConfigs": expected, "tenant": null,
        },
        "channelType": channel_type,
    });
    let found = client.get("/ccm/channels/service-identifier/shop%201").await;
    assert_eq!((found.status, found.json()), (200, documented.clone()));
    let found = client.get("/ccm/channels/defaultoutbound?channelTypeId=WHATSAPP").await;
    assert_eq!((found.status, found.json()), (200, documented));

    for path in [
        "/ccm/channel-connectors/configurations/none",
        "/ccm/channels/service-identifier/none",
        "/ccm/channels/defaultoutbound?channelTypeId=SMS",
    ] {
        let missing = client.get(path).await;
        let body = missing.json();
        assert_eq!((missing.status, &body["status"], &body["reason"]), (404, &json!("NOT_FOUND"), &json!("CHANNEL_NOT_FOUND")));
    }
    assert_failed(&client.get("/ccm/channels/defaultoutbound").await, 400, "INVALID_REQUEST");
}

#[tokio::test]
async fn a_message_for_an_unknown_channel_is_refused_with_the_documented_reason_where_channels_have_to_be_registered() {
    let gateway = Gateway::requiring_registered(settings()).await;
    let mut client = gateway.connect().await;
    let answer = client.post("/ccm/message/receive", &plain(Some("m-1"), "visitor", "hello")).await;
    let body = answer.json();
    assert_eq!((answer.status, &body["reasonCode"], &body["status"]), (400, &json!(404), &json!("FAILED")), "{body}");
    assert_eq!(body["violations"][0]["path"], json!("header.channelData.serviceIdentifier"));
    assert_eq!(body["violations"][0]["reason"], json!("UNKNOWN_CHANNEL"));
    created(&mut client, &channel("1122")).await;
    assert_eq!(client.post("/ccm/message/receive", &plain(Some("m-1"), "visitor", "hello")).await.status, 202);
}
