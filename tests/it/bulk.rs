//! SendMessages: a stream of messages and a stream of answers.

use crate::support::gateway::Gateway;
use crate::support::messages::{Differs as _, counted, earliest, hello};
use crate::support::{assert_refused, soon};
use cim_gateway::pb::send_messages_response::Result::{Accepted, Refused};
use cim_gateway::pb::{CimMessage, SendMessagesRequest};
use futures::{StreamExt as _, stream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

#[tokio::test]
async fn answers_are_numbered_and_a_refused_message_does_not_end_the_stream() {
    let gateway = Gateway::start().await;
    let client = gateway.client().await;
    let messages = [
        hello("one").with_id("m-1"),
        CimMessage::default(),
        hello("one").with_id("m-1"),
        hello("other").with_id("m-1"),
        hello("two").with_id("m-2"),
    ];
    let requests: Vec<_> = messages.into_iter().map(Some).chain([None]).map(|message| SendMessagesRequest { message }).collect();
    let answers = client.calls.clone().send_messages(stream::iter(requests)).await.unwrap().into_inner();
    let answers: Vec<_> = soon("the answers", answers.map(Result::unwrap).collect()).await;
    assert!(answers.iter().map(|answer| answer.request_number).eq(1..=6));
    let told = answers.iter().map(|answer| match answer.result.as_ref().unwrap() {
        Accepted(accepted) => format!("{} {}", accepted.message_id, if accepted.duplicate { "again" } else { "new" }),
        Refused(refusal) => format!("{:?} {}", Code::from_i32(refusal.code), refusal.reason),
    });
    let expected = [
        "m-1 new",
        "InvalidArgument INVALID_MESSAGE",
        "m-1 again",
        "AlreadyExists REUSED_ID",
        "m-2 new",
        "InvalidArgument INVALID_REQUEST",
    ];
    assert!(told.eq(expected), "{answers:?}");
    let Some(Refused(refusal)) = &answers[1].result else { unreachable!("checked above") };
    assert_eq!(refusal.violations.iter().map(|violation| violation.path.as_str()).collect::<Vec<_>>(), ["header", "body"]);
    client.send(hello("fence")).await;
    assert_eq!(client.subscribe(earliest()).await.until("fence").await, ["CHANNEL_SESSION_STARTED", "one", "two"]);
}

#[tokio::test]
async fn a_message_is_answered_before_the_next_is_sent() {
    let gateway = Gateway::start().await;
    let client = gateway.client().await;
    let (messages, sent) = mpsc::channel(1);
    let mut answers = soon("the stream", client.sending(ReceiverStream::new(sent))).await.unwrap();
    for number in 1..=3 {
        messages.send(hello("hi")).await.unwrap();
        let answer = soon("an answer", answers.message()).await.unwrap().unwrap();
        assert_eq!(answer.request_number, number);
    }
    drop(messages);
    assert!(soon("the end of the answers", answers.message()).await.unwrap().is_none());
}

#[tokio::test]
async fn the_order_of_a_stream_is_the_order_of_acceptance() {
    let gateway = Gateway::start().await;
    let client = gateway.client().await;
    let cursors = client.send_all(counted(0..500)).await;
    client.send(hello("fence")).await;
    let heard = client.subscribe(earliest()).await.until("fence").await;
    assert!(heard[1..].iter().map(String::as_str).eq((0..500).map(|number| number.to_string()).collect::<Vec<_>>()));
    assert_eq!(cursors.len(), 500);
}

#[tokio::test]
async fn a_stream_of_messages_ends_with_the_gateway() {
    let gateway = Gateway::start().await;
    let client = gateway.client().await;
    let (messages, sent) = mpsc::channel(1);
    let mut answers = soon("the stream", client.sending(ReceiverStream::new(sent))).await.unwrap();
    messages.send(hello("hi")).await.unwrap();
    assert!(soon("an answer", answers.message()).await.unwrap().is_some());
    let stopping = gateway.stop();
    let status = soon("the end of the answers", answers.message()).await.unwrap_err();
    assert_refused(&status, Code::Unavailable, "SHUTTING_DOWN");
    stopping.down().await;
}
