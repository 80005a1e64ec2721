//! Subscriptions: order, filters, starts, cursors and heartbeats.

use crate::support::client::{Client, Events};
use crate::support::gateway::Gateway;
use crate::support::messages::{
    Differs as _, Wants as _, after, counted, earliest, hello, latest, notification, said, says, since, starting, typing,
};
use crate::support::proxy::Proxy;
use crate::support::{assert_refused, complaints, soon};
use cim_gateway::pb::body::Kind;
use cim_gateway::pb::subscribe_notifications_request::Start;
use cim_gateway::pb::{Audience, GenericBody, NotificationFilter, SenderType};
use cim_gateway::store::{Cursor, Position};
use prost_types::Timestamp;
use std::time::Duration;
use tonic::Code;
use tonic_types::StatusExt as _;

#[tokio::test]
async fn a_subscriber_hears_what_is_accepted_in_order_and_of_the_session_first() {
    let gateway = Gateway::start().await;
    let client = gateway.client().await;
    let mut events = client.subscribe(latest()).await;
    let answer = client.send(hello("good morning").with_id("m-1")).await;
    client.send(hello("how are you?")).await;
    client.send(hello("bye").with_intent("END_CHAT")).await;

    let started = events.message().await;
    assert_eq!(said(&started), "CHANNEL_SESSION_STARTED");
    assert_eq!(started.audiences, [i32::from(Audience::Customer), i32::from(Audience::Platform)]);
    let first = events.message().await;
    assert_eq!(said(&first), "good morning");
    assert_eq!(first.cursor, answer.cursor);
    assert_eq!(first.accepted_at, answer.accepted_at);
    let message = first.message.unwrap();
    assert_eq!(message.id.unwrap(), "m-1");
    let header = message.header.unwrap();
    assert_eq!(header.channel_session_id.unwrap(), answer.channel_session_id);
    assert_eq!(header.conversation_id.unwrap(), answer.conversation_id);
    assert_eq!(header.customer.unwrap().first_name.unwrap(), "ada");
    assert_eq!([events.said().await, events.said().await, events.said().await], ["how are you?", "bye", "CHANNEL_SESSION_ENDED"]);
}

#[tokio::test]
async fn the_cursor_of_an_answer_leads_to_exactly_what_came_after() {
    let gateway = Gateway::start().await;
    let client = gateway.client().await;
    let cursors = client.send_all(counted(0..10)).await;
    for (number, cursor) in cursors.iter().enumerate() {
        let mut events = client.subscribe(after(cursor)).await;
        assert_eq!(events.start, *cursor);
        for later in number + 1..10 {
            assert_eq!(events.said().await, later.to_string());
        }
    }
    let mut events = client.subscribe(after(&cursors[9])).await;
    client.send(hello("new")).await;
    assert_eq!(events.said().await, "new");
}

/// The connection breaks in the middle of frames and of messages, while more are accepted.
#[tokio::test]
async fn a_reader_whose_connection_breaks_again_and_again_misses_and_repeats_nothing() {
    const MESSAGES: usize = 600;
    let gateway = Gateway::start().await;
    let proxy = Proxy::to(gateway.grpc).await;
    let sender = gateway.client().await;
    let mut cursor = sender.subscribe(latest()).await.start;
    let sending = tokio::spawn(async move { sender.send_all(counted(0..MESSAGES)).await });

    let mut heard = Vec::new();
    let mut breaks = 0;
    let mut random: u64 = 0x5eed;
    while heard.len() < MESSAGES + 1 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // Room for the way to the first event, then for up to about a hundred messages.
        let bytes = 500 + (random >> 33) as usize % 60_000;
        let client = proxy.client_that_breaks_after(bytes).await;
        let Ok(mut events) = client.try_subscribe(after(&cursor)).await else {
            breaks += 1;
            continue;
        };
        while let Ok(event) = events.next().await {
            if let cim_gateway::pb::subscribe_notifications_response::Event::Notification(notification) = event {
                cursor.clone_from(&notification.cursor);
                heard.push(said(&notification));
            }
            if heard.len() == MESSAGES + 1 {
                break;
            }
        }
        breaks += 1;
    }
    assert!(breaks > 3, "the connection broke {breaks} times only");
    assert_eq!(heard[0], "CHANNEL_SESSION_STARTED");
    assert!(heard[1..].iter().eq((0..MESSAGES).map(|number| number.to_string()).collect::<Vec<_>>().iter()), "{heard:?}");
    soon("the sender", sending).await.unwrap();
}

/// A gateway that has accepted one of everything that filters tell apart, and what a filter lets through of it.
async fn variety() -> (Gateway, Client) {
    let gateway = Gateway::start().await;
    let client = gateway.client().await;
    client.send(says("shop", "ada", "ada in the shop").by(SenderType::Connector)).await;
    client.send(says("desk", "bob", "bob at the desk").by(SenderType::Customer)).await;
    client.send(says("shop", "ada", "to ada").by(SenderType::Agent)).await;
    client.send(says("desk", "bob", "poll").with_body(Kind::Generic(GenericBody { r#type: "poll".into() }))).await;
    client.send(says("end", "end", "end")).await;
    (gateway, client)
}

async fn filtered(client: &Client, mut filter: NotificationFilter) -> Vec<String> {
    // The fence has to pass the filter as well, where that is possible.
    if !filter.service_identifiers.is_empty() {
        filter.service_identifiers.push("end".into());
    }
    client.subscribe(earliest().only(filter)).await.until("end").await
}

#[tokio::test]
async fn the_lists_of_a_filter_are_joined_by_and_and_their_values_by_or() {
    let (_gateway, client) = variety().await;
    let all = filtered(&client, NotificationFilter::default()).await;
    let started = "CHANNEL_SESSION_STARTED";
    assert_eq!(all, [started, "ada in the shop", started, "bob at the desk", "to ada", "poll", started]);

    let shop = NotificationFilter { service_identifiers: vec!["shop".into()], ..NotificationFilter::default() };
    assert_eq!(filtered(&client, shop.clone()).await, [started, "ada in the shop", "to ada", started]);
    let both = NotificationFilter { service_identifiers: vec!["shop".into(), "desk".into()], ..shop.clone() };
    assert_eq!(filtered(&client, both.clone()).await, all);
    let plain = NotificationFilter { body_types: vec!["PLAIN".into()], ..both.clone() };
    assert_eq!(filtered(&client, plain).await, ["ada in the shop", "bob at the desk", "to ada"]);
    let unknown_types_too = NotificationFilter { body_types: vec!["PLAIN".into(), "poll".into()], ..both.clone() };
    assert_eq!(filtered(&client, unknown_types_too).await, ["ada in the shop", "bob at the desk", "to ada", "poll"]);
    let senders = vec![SenderType::Connector.into(), SenderType::Agent.into()];
    let people = NotificationFilter { sender_types: senders, ..shop.clone() };
    assert_eq!(filtered(&client, people).await, ["ada in the shop", "to ada"]);
    let platform = NotificationFilter { audiences: vec![Audience::Platform.into()], ..shop };
    assert_eq!(filtered(&client, platform).await, [started, "ada in the shop", started]);
}

#[tokio::test]
async fn a_filter_selects_by_conversation_and_by_session() {
    let gateway = Gateway::start().await;
    let client = gateway.client().await;
    let ada = client.send(says("shop", "ada", "1")).await;
    let bob = client.send(says("shop", "bob", "2")).await;
    client.send(says("shop", "ada", "3")).await;
    let of_ada = NotificationFilter { conversation_ids: vec![ada.conversation_id.clone()], ..NotificationFilter::default() };
    let mut events = client.subscribe(earliest().only(of_ada.clone())).await;
    assert_eq!([events.said().await, events.said().await, events.said().await], ["CHANNEL_SESSION_STARTED", "1", "3"]);
    let of_bob = NotificationFilter { channel_session_ids: vec![bob.channel_session_id], ..NotificationFilter::default() };
    let mut events = client.subscribe(earliest().only(of_bob)).await;
    assert_eq!([events.said().await, events.said().await], ["CHANNEL_SESSION_STARTED", "2"]);
    let of_nobody = NotificationFilter { channel_session_ids: vec!["of nobody".into()], ..of_ada };
    let mut events = client.subscribe(earliest().only(of_nobody).beating_every(Duration::from_secs(1))).await;
    let end = client.subscribe(latest()).await.start;
    assert_eq!(events.heartbeat().await, end, "what it passed over is behind it");
}

#[tokio::test]
async fn a_subscription_starts_where_it_is_asked_to() {
    let gateway = Gateway::start().await;
    let client = gateway.client().await;
    let first = client.send(hello("first")).await;
    let second = soon("another moment", async {
        loop {
            let next = client.send(hello("second")).await;
            if next.accepted_at != first.accepted_at {
                return next;
            }
        }
    })
    .await;

    let said = async |mut events: Events| events.said().await;
    assert_eq!(said(client.subscribe(earliest()).await).await, "CHANNEL_SESSION_STARTED");
    assert_eq!(said(client.subscribe(after(&first.cursor)).await).await, "second");
    assert_eq!(said(client.subscribe(since(first.accepted_at.unwrap())).await).await, "CHANNEL_SESSION_STARTED");
    let mut since_second = client.subscribe(since(second.accepted_at.unwrap())).await;
    assert_eq!(since_second.message().await.cursor, second.cursor);
    let long_ago = Timestamp { seconds: -62_135_596_800, nanos: 0 };
    assert_eq!(said(client.subscribe(since(long_ago)).await).await, "CHANNEL_SESSION_STARTED");
    let in_the_future = Timestamp { seconds: second.accepted_at.unwrap().seconds + 3600, nanos: 0 };
    let from_now_on = [latest(), starting(Start::StartPoint(0)), starting(Start::StartPoint(2)), since(in_the_future)];
    for request in from_now_on {
        assert_eq!(client.subscribe(request).await.start, second.cursor);
    }
}

#[tokio::test]
async fn what_cannot_be_subscribed_to_is_refused_and_named() {
    let gateway = Gateway::start().await;
    let client = gateway.client().await;
    let filtered = |filter| latest().only(filter);
    let refused = [
        (after("garbage"), "after_cursor"),
        (after(""), "after_cursor"),
        (starting(Start::StartPoint(7)), "start_point"),
        (latest().beating_every(Duration::from_millis(999)), "heartbeat_interval"),
        (latest().beating_every(Duration::from_millis(300_001)), "heartbeat_interval"),
        (filtered(NotificationFilter { sender_types: vec![99], ..NotificationFilter::default() }), "filter.sender_types"),
        (filtered(NotificationFilter { sender_types: vec![0], ..NotificationFilter::default() }), "filter.sender_types"),
        (filtered(NotificationFilter { audiences: vec![3], ..NotificationFilter::default() }), "filter.audiences"),
    ];
    for (request, field) in refused {
        let status = client.try_subscribe(request).await.unwrap_err();
        assert_refused(&status, Code::InvalidArgument, "INVALID_REQUEST");
        assert_eq!(complaints(&status), [(field.to_owned(), String::new())], "{status:?}");
    }
    for interval in [Duration::from_secs(1), Duration::from_secs(300)] {
        client.subscribe(latest().beating_every(interval)).await;
    }
}

/// The cursor that a status names as the oldest to read from.
fn oldest_cursor(status: &tonic::Status) -> String {
    status.get_details_error_info().unwrap().metadata["oldest_cursor"].clone()
}

#[tokio::test]
async fn a_cursor_of_another_history_or_beyond_the_end_is_unknown_and_the_oldest_is_named() {
    let gateway = Gateway::start().await;
    let client = gateway.client().await;
    let here = client.send(hello("here")).await.cursor.parse::<Cursor>().unwrap();
    let elsewhere = Cursor { epoch: here.epoch - 1, ..here };
    let beyond = Cursor { position: Position(here.position.0 + 1), ..here };
    for cursor in [elsewhere, beyond] {
        let status = client.try_subscribe(after(&cursor.to_string())).await.unwrap_err();
        assert_refused(&status, Code::OutOfRange, "CURSOR_UNKNOWN");
        let mut events = client.subscribe(after(&oldest_cursor(&status))).await;
        assert_eq!([events.said().await, events.said().await], ["CHANNEL_SESSION_STARTED", "here"]);
    }
}

#[tokio::test]
async fn a_cursor_older_than_what_is_kept_is_expired_and_the_oldest_is_named() {
    let gateway = Gateway::set("store.engine", "memory").set("store.memory.max_bytes", "2 MiB").start().await;
    let client = gateway.client().await;
    let cursors = client.send_all(counted(0..2000)).await;
    let status = client.try_subscribe(after(&cursors[0])).await.unwrap_err();
    assert_refused(&status, Code::OutOfRange, "CURSOR_EXPIRED");
    let mut events = client.subscribe(after(&oldest_cursor(&status))).await;
    let oldest = events.said().await.parse::<usize>().unwrap();
    assert!((1..2000).contains(&oldest));
    let kept = events.until("1999").await;
    assert!(kept.iter().map(String::as_str).eq((oldest + 1..1999).map(|number| number.to_string()).collect::<Vec<_>>()));
    // The one before the oldest that is kept can be read from, the one before that cannot.
    client.subscribe(after(&cursors[oldest - 1])).await;
    let status = client.try_subscribe(after(&cursors[oldest - 2])).await.unwrap_err();
    assert_refused(&status, Code::OutOfRange, "CURSOR_EXPIRED");
}

#[tokio::test]
async fn a_quiet_stream_beats_and_its_cursor_goes_with_the_log() {
    let gateway = Gateway::set("feed.heartbeat", "1s").start().await;
    let client = gateway.client().await;
    let mut quiet = client.subscribe(latest().on("nothing here")).await;
    let first = quiet.start.clone();
    assert_eq!(quiet.heartbeat().await, first);
    let passed_over = client.send(hello("passed over")).await;
    let beat = soon("a heartbeat after the message", async {
        loop {
            match quiet.heartbeat().await {
                // One may have been on its way before the message.
                cursor if cursor == first => {}
                cursor => return cursor,
            }
        }
    })
    .await;
    assert_eq!(beat, passed_over.cursor);
}

#[tokio::test]
async fn typing_is_streamed_and_kept_nowhere_else() {
    let gateway = Gateway::start().await;
    let client = gateway.client().await;
    let opened = client.send(hello("hi")).await;
    let mut events = client.subscribe(after(&opened.cursor)).await;
    let answer = client.send(typing().with_id("t-1")).await;
    client.send(notification("AGENT_SUBSCRIBED")).await;
    assert_eq!([events.said().await, events.said().await], ["TYPING_STARTED", "AGENT_SUBSCRIBED"]);
    assert_eq!(answer.conversation_id, opened.conversation_id);
    let status = client.message(&answer.message_id).await.unwrap_err();
    assert_refused(&status, Code::NotFound, "MESSAGE_NOT_FOUND");
    let page = client.page(&opened.conversation_id, 10, "").await;
    let history = page.messages.iter().map(said).collect::<Vec<_>>();
    assert_eq!(history, ["AGENT_SUBSCRIBED", "hi", "CHANNEL_SESSION_STARTED"]);
}
