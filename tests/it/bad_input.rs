//! What no well-behaved client sends. It is answered, and harms nobody.

use crate::support::gateway::Gateway;
use crate::support::messages::{Differs as _, earliest, hello, nested};
use crate::support::raw::path;
use crate::support::{assert_refused, complaints, soon};
use cim_gateway::pb::{SendMessageRequest, SendMessagesRequest};
use futures::stream;
use prost::Message as _;
use tonic::{Code, Request};

#[tokio::test]
async fn bytes_that_are_no_message_are_the_callers_fault() {
    let gateway = Gateway::start().await;
    let client = gateway.client().await;
    let message = SendMessageRequest { message: Some(hello("cut off")), delivery_wait: None }.encode_to_vec();
    let garbage = [
        b"\x0a\xff\xff\xff\xff\x0f".to_vec(),
        b"\xff".repeat(1000),
        b"{\"header\":{}}".to_vec(),
        message[..message.len() - 1].to_vec(),
        // A text that is not UTF-8.
        b"\x0a\x04\x0a\x02\xc3\x28".to_vec(),
    ];
    for bytes in garbage {
        for method in ["SendMessage", "GetMessage", "ListMessages", "SubscribeNotifications"] {
            let path = path(method);
            match client.call(&path, bytes.clone()).await {
                Err(status) if status.code() == Code::InvalidArgument => {
                    assert_refused(&status, Code::InvalidArgument, "INVALID_REQUEST");
                }
                // What one method cannot read may be a request of another.
                other => assert_ne!(method, "SendMessage", "{bytes:?} gave {other:?}"),
            }
        }
    }
    let end = client.send(hello("fence")).await;
    assert_eq!(client.subscribe(earliest()).await.until("fence").await, ["CHANNEL_SESSION_STARTED"]);
    assert!(!end.duplicate);
}

/// A field of a message as protobuf has it: its number, its length and what it holds.
fn field(number: u32, content: &[u8]) -> Vec<u8> {
    const LENGTH_DELIMITED: u32 = 2;
    let mut bytes = Vec::new();
    prost::encode_length_delimiter((number << 3 | LENGTH_DELIMITED) as usize, &mut bytes).unwrap();
    prost::encode_length_delimiter(content.len(), &mut bytes).unwrap();
    bytes.extend_from_slice(content);
    bytes
}

#[tokio::test]
async fn a_message_nested_deeper_than_runtimes_read_is_refused() {
    let gateway = Gateway::start().await;
    let client = gateway.client().await;
    let status = client.refused(hello("deep").with_extra("deep", nested(200))).await;
    assert_refused(&status, Code::InvalidArgument, "INVALID_REQUEST");
    // So deep that whoever follows it runs out of stack.
    let mut lists = Vec::new();
    for _ in 0..20_000 {
        lists = field(6, &field(1, &lists));
    }
    let custom = field(3, &field(34, &field(1, &lists)));
    let status = client.call(&path("SendMessage"), field(1, &custom)).await.unwrap_err();
    assert_refused(&status, Code::InvalidArgument, "INVALID_REQUEST");
    client.send(hello("fence")).await;
    assert_eq!(client.subscribe(earliest()).await.until("fence").await, ["CHANNEL_SESSION_STARTED"]);
}

#[tokio::test]
async fn a_message_far_too_large_is_refused_and_the_connection_lasts() {
    let gateway = Gateway::start().await;
    let client = gateway.client().await;
    let large = || hello(&"x".repeat(10 << 20));
    let status = client.refused(large()).await;
    assert_refused(&status, Code::ResourceExhausted, "MESSAGE_TOO_LARGE");

    let requests = [hello("before"), large(), hello("after")].map(|message| SendMessagesRequest { message: Some(message) });
    let mut calls = client.calls.clone();
    let mut answers = soon("the stream", calls.send_messages(stream::iter(requests))).await.unwrap().into_inner();
    assert_eq!(soon("an answer", answers.message()).await.unwrap().unwrap().request_number, 1);
    let status = soon("the end of the answers", answers.message()).await.unwrap_err();
    assert_refused(&status, Code::ResourceExhausted, "MESSAGE_TOO_LARGE");

    client.send(hello("fence")).await;
    assert_eq!(client.subscribe(earliest()).await.until("fence").await, ["CHANNEL_SESSION_STARTED", "before"]);
}

#[tokio::test]
async fn a_stream_with_garbage_ends_and_what_came_before_it_counts() {
    let gateway = Gateway::start().await;
    let client = gateway.client().await;
    let status = client.call(&path("SendMessages"), b"\xff\xff".to_vec()).await.unwrap_err();
    assert_refused(&status, Code::InvalidArgument, "INVALID_REQUEST");
    assert_eq!(complaints(&status)[0].0, "request");
    client.send(hello("fence")).await;
}

#[tokio::test]
async fn metadata_beyond_the_bound_is_refused() {
    let gateway = Gateway::start().await;
    let client = gateway.client().await;
    let mut request = Request::new(SendMessageRequest { message: Some(hello("with a lot of metadata")), delivery_wait: None });
    request.metadata_mut().insert("x-note", "x".repeat(100_000).parse().unwrap());
    soon("an answer", client.calls.clone().send_message(request)).await.unwrap_err();
    let other = gateway.client().await;
    other.send(hello("fence")).await;
    assert_eq!(other.subscribe(earliest()).await.until("fence").await, ["CHANNEL_SESSION_STARTED"]);
}

#[tokio::test]
async fn methods_and_services_that_do_not_exist_are_unimplemented() {
    let gateway = Gateway::start().await;
    let client = gateway.client().await;
    for path in ["/cim.v1.MessageService/Delete", "/cim.v1.Nothing/SendMessage", "/", "/cim.v1.MessageService/SendMessage/more"] {
        let status = client.call(path, Vec::new()).await.unwrap_err();
        assert_eq!(status.code(), Code::Unimplemented, "{path}: {status:?}");
    }
}
