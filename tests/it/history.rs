//! GetMessage and ListMessages.

use crate::support::gateway::Gateway;
use crate::support::messages::{Differs as _, counted, hello, said, says};
use crate::support::{assert_refused, complaints};
use prost::Message as _;
use tonic::Code;

#[tokio::test]
async fn a_message_is_found_by_its_id_as_it_was_accepted() {
    let gateway = Gateway::start().await;
    let client = gateway.client().await;
    let answer = client.send(hello("hi").with_id("m-1")).await;
    let stored = client.message("m-1").await.unwrap();
    assert_eq!(said(&stored), "hi");
    assert_eq!((&stored.cursor, &stored.accepted_at), (&answer.cursor, &answer.accepted_at));
    assert_eq!(stored.message.unwrap().header.unwrap().conversation_id.unwrap(), answer.conversation_id);
    for unknown in ["m-2", ""] {
        let status = client.message(unknown).await.unwrap_err();
        assert_refused(&status, Code::NotFound, "MESSAGE_NOT_FOUND");
    }
}

#[tokio::test]
async fn history_is_paged_newest_first_and_later_messages_shift_nothing() {
    let gateway = Gateway::start().await;
    let client = gateway.client().await;
    client.send_all(counted(0..25)).await;
    let conversation = client.send(hello("25")).await.conversation_id;
    client.send(says("shop", "bob", "of another conversation")).await;

    let mut heard = Vec::new();
    let mut token = String::new();
    let mut pages = 0;
    loop {
        let page = client.page(&conversation, 10, &token).await;
        heard.extend(page.messages.iter().map(said));
        pages += 1;
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
        client.send(hello("in between")).await;
    }
    assert_eq!(pages, 3);
    let expected = (0..=25).rev().map(|number| number.to_string()).chain(["CHANNEL_SESSION_STARTED".to_owned()]);
    assert!(heard.iter().cloned().eq(expected), "{heard:?}");
}

#[tokio::test]
async fn a_last_page_that_is_full_has_no_token() {
    let gateway = Gateway::start().await;
    let client = gateway.client().await;
    let conversation = client.send(hello("1")).await.conversation_id;
    let page = client.page(&conversation, 2, "").await;
    assert_eq!((page.messages.len(), page.next_page_token.as_str()), (2, ""));
}

#[tokio::test]
async fn a_page_without_a_size_has_fifty_messages() {
    let gateway = Gateway::start().await;
    let client = gateway.client().await;
    client.send_all(counted(0..60)).await;
    let conversation = client.send(hello("60")).await.conversation_id;
    assert_eq!(client.page(&conversation, 0, "").await.messages.len(), 50);
}

/// Clients take 4 MiB at once unless they are told otherwise.
#[tokio::test]
async fn a_page_of_large_messages_is_shorter_rather_than_too_large() {
    let gateway = Gateway::start().await;
    let client = gateway.client().await;
    let large = "x".repeat(900_000);
    client
        .send_all((0..6).map({
            let large = large.clone();
            move |_| hello(&large)
        }))
        .await;
    let conversation = client.send(hello(&large)).await.conversation_id;
    let mut found = 0;
    let mut token = String::new();
    loop {
        let page = client.page(&conversation, 0, &token).await;
        assert!(page.encoded_len() < 4 << 20);
        found += page.messages.len();
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(found, 8);
}

#[tokio::test]
async fn a_page_that_cannot_be_is_refused() {
    let gateway = Gateway::start().await;
    let client = gateway.client().await;
    let answer = client.send(hello("hi")).await;
    let conversation = &answer.conversation_id;
    for (size, token, field) in [(-1, "", "page_size"), (1, "garbage", "page_token")] {
        let status = client.try_page(conversation, size, token).await.unwrap_err();
        assert_refused(&status, Code::InvalidArgument, "INVALID_REQUEST");
        assert_eq!(complaints(&status), [(field.to_owned(), String::new())]);
    }
    for unknown in ["unknown", ""] {
        let status = client.try_page(unknown, 1, "").await.unwrap_err();
        assert_refused(&status, Code::NotFound, "CONVERSATION_NOT_FOUND");
    }
}
