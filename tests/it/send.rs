//! SendMessage: accepted once, or refused with everything that is wrong.

use crate::support::gateway::Gateway;
use crate::support::messages::{Differs as _, earliest, hello, latest, says};
use crate::support::{assert_refused, complaints};
use cim_gateway::pb::body::Kind;
use cim_gateway::pb::{Button, ButtonBody, CimMessage, Location, LocationBody};
use futures::future::join_all;
use std::collections::HashSet;
use tonic::Code;

#[tokio::test]
async fn a_repeat_is_answered_with_the_first_acceptance_and_stored_once() {
    let gateway = Gateway::start().await;
    let client = gateway.client().await;
    let message = hello("once").with_id("m-1").at(1_700_000_000);
    let first = client.send(message.clone()).await;
    assert!(!first.duplicate);
    let repeat = gateway.client().await.send(message).await;
    assert!(repeat.duplicate);
    assert_eq!(cim_gateway::pb::SendMessageResponse { duplicate: false, ..repeat }, first);
    client.send(hello("fence")).await;
    assert_eq!(client.subscribe(earliest()).await.until("fence").await, ["CHANNEL_SESSION_STARTED", "once"]);
}

/// Who says "yes" twice has said it twice: what a message says is no sign of a repeat, only its id is.
#[tokio::test]
async fn the_same_text_said_again_is_another_message() {
    let gateway = Gateway::start().await;
    let client = gateway.client().await;
    for message in [hello("yes"), hello("yes"), hello("yes").with_id("m-1"), hello("yes").with_id("m-2")] {
        assert!(!client.send(message).await.duplicate);
    }
    client.send(hello("fence")).await;
    let heard = client.subscribe(earliest()).await.until("fence").await;
    assert_eq!(heard, ["CHANNEL_SESSION_STARTED", "yes", "yes", "yes", "yes"]);
}

#[tokio::test]
async fn other_content_under_a_taken_id_is_refused() {
    let gateway = Gateway::start().await;
    let client = gateway.client().await;
    client.send(hello("mine").with_id("m-1")).await;
    let status = client.refused(hello("yours").with_id("m-1")).await;
    assert_refused(&status, Code::AlreadyExists, "REUSED_ID");
    client.send(hello("fence")).await;
    assert_eq!(client.subscribe(earliest()).await.until("fence").await, ["CHANNEL_SESSION_STARTED", "mine"]);
}

#[tokio::test]
async fn other_content_under_a_taken_id_is_renewed_where_that_is_configured() {
    let gateway = Gateway::set("inbox.reused_id.grpc", "renew").start().await;
    let client = gateway.client().await;
    client.send(hello("first").with_id("call-1")).await;
    let renewed = client.send(hello("second").with_id("call-1")).await;
    assert_ne!(renewed.message_id, "call-1");
    assert_eq!(renewed.submitted_id, "call-1");
    assert!(!renewed.duplicate);
    let stored = client.message(&renewed.message_id).await.unwrap();
    assert_eq!(stored.submitted_id, "call-1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_who_send_one_message_at_once_one_is_first_and_the_others_are_repeats() {
    let gateway = Gateway::start().await;
    let clients = join_all((0..8).map(|_| gateway.client())).await;
    let sends = (0..64).map(|number| {
        let client = clients[number % clients.len()].clone();
        tokio::spawn(async move { client.send(hello("once").with_id("m-1")).await })
    });
    let answers: Vec<_> = join_all(sends).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(answers.iter().filter(|answer| answer.duplicate).count(), 63);
    assert_eq!(answers.iter().map(|answer| &answer.cursor).collect::<HashSet<_>>().len(), 1);
    clients[0].send(hello("fence")).await;
    assert_eq!(clients[0].subscribe(earliest()).await.until("fence").await, ["CHANNEL_SESSION_STARTED", "once"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_first_messages_of_one_customer_at_once_open_one_session() {
    let gateway = Gateway::start().await;
    let clients = join_all((0..8).map(|_| gateway.client())).await;
    let sends = (0..64).map(|number| {
        let client = clients[number % clients.len()].clone();
        tokio::spawn(async move { client.send(says("shop", "new here", &number.to_string())).await })
    });
    let answers: Vec<_> = join_all(sends).await.into_iter().map(Result::unwrap).collect();
    let routes = answers.iter().map(|answer| (&answer.channel_session_id, &answer.conversation_id)).collect::<HashSet<_>>();
    assert_eq!(routes.len(), 1);
    clients[0].send(hello("fence")).await;
    let heard = clients[0].subscribe(earliest()).await.until("fence").await;
    // One of the fence's own.
    assert_eq!(heard.iter().filter(|text| *text == "CHANNEL_SESSION_STARTED").count(), 2);
    assert_eq!(heard.len(), 66);
}

#[tokio::test]
async fn a_request_without_a_message_is_refused() {
    let gateway = Gateway::start().await;
    let status = gateway.client().await.refused(None).await;
    assert_refused(&status, Code::InvalidArgument, "INVALID_REQUEST");
    assert_eq!(complaints(&status), [("message".to_owned(), String::new())]);
}

#[tokio::test]
async fn every_broken_rule_is_named_at_once_and_nothing_is_stored() {
    let gateway = Gateway::start().await;
    let client = gateway.client().await;
    let mut events = client.subscribe(latest()).await;
    let mut message = says("", "ada", "").with_id("").with_intent("REPLY_TO").with_body(Kind::Location(LocationBody {
        location: Some(Location { latitude: Some(91.0), ..Location::default() }),
        ..LocationBody::default()
    }));
    message.header_mut().sender.as_mut().unwrap().sender_name = None;
    let status = client.refused(message).await;
    assert_refused(&status, Code::InvalidArgument, "INVALID_MESSAGE");
    let named = [
        ("id", "REQUIRED"),
        ("header.sender.senderName", "REQUIRED"),
        ("header.channelData.serviceIdentifier", "REQUIRED"),
        ("header.originalMessageId", "REQUIRED"),
        ("body.location.latitude", "OUT_OF_RANGE"),
        ("body.location.longitude", "REQUIRED"),
    ];
    assert_eq!(complaints(&status), named.map(|(path, reason)| (path.to_owned(), reason.to_owned())));
    assert!(status.message().starts_with("the message breaks 6 rules: id: "), "{}", status.message());
    let status = client.refused(CimMessage::default()).await;
    assert_eq!(complaints(&status).len(), 2, "{status:?}");

    client.send(hello("fence")).await;
    assert_eq!(events.until("fence").await, ["CHANNEL_SESSION_STARTED"], "nothing of what was refused");
}

/// The details travel in trailers, of which clients take a few KiB.
#[tokio::test]
async fn of_more_complaints_than_fit_the_first_arrive_with_the_status() {
    let gateway = Gateway::start().await;
    let client = gateway.client().await;
    let buttons = vec![Button::default(); 200];
    let status = client.refused(hello("").with_body(Kind::Button(ButtonBody { buttons, ..ButtonBody::default() }))).await;
    assert_refused(&status, Code::InvalidArgument, "INVALID_MESSAGE");
    let complaints = complaints(&status);
    assert_eq!(complaints[0].0, "body.buttons[0].title");
    assert!((20..100).contains(&complaints.len()), "{}", complaints.len());
}

/// Nothing that a client says comes back at a length that its own transport refuses.
#[tokio::test]
async fn a_refusal_of_a_very_long_text_still_arrives() {
    const LONG: usize = 500_000;
    let gateway = Gateway::start().await;
    let client = gateway.client().await;
    for long in ["x".repeat(LONG), "ü".repeat(LONG / 2), "\u{1}".repeat(LONG)] {
        let status = client.message(&long).await.unwrap_err();
        assert_refused(&status, Code::NotFound, "MESSAGE_NOT_FOUND");
        let status = client.try_page(&long, 1, "").await.unwrap_err();
        assert_refused(&status, Code::NotFound, "CONVERSATION_NOT_FOUND");
        let mut message = hello("");
        message.header_mut().channel_data = None;
        message.header_mut().conversation_id = Some(long.clone());
        let status = client.refused(message).await;
        assert_refused(&status, Code::InvalidArgument, "INVALID_MESSAGE");
        assert_eq!(complaints(&status)[0].0, "header.conversationId");
        let status = client.refused(says(&long, "ada", "")).await;
        assert_refused(&status, Code::InvalidArgument, "INVALID_MESSAGE");
        assert_eq!(complaints(&status), [("header.channelData.serviceIdentifier".to_owned(), "TOO_LONG".to_owned())]);
    }
}
