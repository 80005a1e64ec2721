//! Bots: what they get, and what they answer.

use super::*;
use crate::support::messages::earliest;
use crate::support::receiver::{Call, Reply};
use cim_gateway::pb::{Audience, ChannelMode};
use serde_json::{Value, json};

fn with_bot(bot: &Receiver, format: BotFormat) -> Channel {
    Channel {
        service_identifier: "shop".into(),
        channel_type: "WEB".into(),
        bot: Some(Bot { endpoint: Some(endpoint(bot.uri())), format: format.into(), id: "bot-1".into(), name: "Bo".into() }),
        ..Channel::default()
    }
}

#[tokio::test]
async fn a_bot_gets_what_the_customer_says_as_it_is() {
    let mut bot = Receiver::willing().await;
    let gateway = gateway().start().await;
    register(gateway.grpc, with_bot(&bot, BotFormat::Cim)).await;
    gateway.client().await.send(says("shop", "ada", "hi")).await;
    let said: Vec<_> = bot.take(2).await.iter().map(Call::said).collect();
    assert_eq!(said, ["CHANNEL_SESSION_STARTED", "hi"]);
}

#[tokio::test]
async fn a_bot_gets_envelopes_and_its_answers_are_messages() {
    let mut connector = Receiver::willing().await;
    let answer = |text: &str, mode: Value| json!({ "intent": { "name": "greet" }, "mode": mode, "body": { "type": "PLAIN", "markdownText": text } });
    let rule = move |call: &Call| match call.body["type"].as_str() {
        Some("message") => Reply::With(200, json!([answer("hello", json!("message")), answer("offer tea", json!("suggestion"))])),
        _ => Reply::Status(200),
    };
    let mut bot = Receiver::answering(rule).await;
    let gateway = gateway().start().await;
    let channel = Channel { connector: Some(endpoint(connector.uri())), ..with_bot(&bot, BotFormat::Bot) };
    register(gateway.grpc, channel).await;
    let client = gateway.client().await;
    let sent = client.send(says("shop", "ada", "hi").with_id("m-1")).await;
    let calls = bot.take(2).await;
    assert_eq!((&calls[0].body["type"], &calls[0].body["message"]), (&json!("intent"), &json!("CHANNEL_SESSION_STARTED")));
    assert_eq!((&calls[1].body["type"], &calls[1].body["message"]), (&json!("message"), &json!("hi")));
    assert_eq!(calls[1].body["conversation"], json!(sent.conversation_id));
    assert_eq!(calls[1].body["metadata"]["id"], "m-1");

    let mut events = client.subscribe(earliest()).await;
    let mut answers = Vec::new();
    while answers.len() < 2 {
        let accepted = events.message().await;
        let message = accepted.message.clone().expect("is a message");
        let header = message.header.expect("has a header");
        if header.sender.as_ref().is_some_and(|sender| sender.r#type() == SenderType::Bot) {
            assert_eq!(header.original_message_id.as_deref(), Some("m-1"));
            assert_eq!(header.sender.and_then(|sender| sender.id).as_deref(), Some("bot-1"));
            answers.push((message.body.and_then(|body| body.markdown_text).unwrap_or_default(), accepted.audiences));
        }
    }
    let expected =
        [("hello".to_owned(), vec![Audience::Customer.into()]), ("offer tea".to_owned(), vec![Audience::Platform.into()])];
    assert_eq!(answers, expected);
    // The customer gets the answer, and never the suggestion.
    let mut said = Vec::new();
    while !said.contains(&"hello".to_owned()) {
        said.push(connector.call().await.said());
    }
    client.send(super::answers("shop", "ada", "fence")).await;
    while !said.contains(&"fence".to_owned()) {
        said.push(connector.call().await.said());
    }
    assert!(!said.contains(&"offer tea".to_owned()), "{said:?}");
}

#[tokio::test]
async fn where_only_agents_answer_a_bot_is_not_called() {
    let mut bot = Receiver::willing().await;
    let gateway = gateway().start().await;
    let mut channel = with_bot(&bot, BotFormat::Cim);
    channel.mode = ChannelMode::Agent.into();
    register(gateway.grpc, channel).await;
    let sent = gateway.client().await.send(says("shop", "ada", "hi")).await;
    assert_eq!(sent.outcome, None);
    assert!(bot.pending().is_empty());
}
