//! Every limit that concerns gRPC, at its bound.
//!
//! | key | test |
//! |---|---|
//! | grpc.max_connections | `connections::connections_beyond_the_bound_are_told_their_health_and_served_once_there_is_a_place` |
//! | grpc.max_concurrent_streams | `connections::calls_beyond_the_bound_of_a_connection_are_refused_for_the_client_to_repeat` |
//! | grpc.max_in_flight | `grpc::bulk`, on a store that waits: `as_many_are_on_their_way_as_the_bound_allows` |
//! | grpc.keepalive_interval | `connections::a_client_that_does_not_answer_pings_is_disconnected` |
//! | grpc.keepalive_timeout | the same, and `connections::a_connection_that_does_not_say_what_it_wants_is_closed_and_harms_nobody` |
//! | grpc.initial_stream_window | `connections::a_client_is_told_the_limits_of_its_connection` |
//! | grpc.initial_connection_window | the same |
//! | grpc.max_header_list | the same, and `connections::headers_up_to_the_bound_are_taken` |
//! | grpc.cors.allowed_origins | `browsers::pages_of_allowed_origins_and_no_others_may_call` |
//! | inbox.repeat_window | [`a_message_without_a_time_is_a_repeat_within_the_window`] |
//! | inbox.reused_id.grpc | `send::other_content_under_a_taken_id_is_renewed_where_that_is_configured`, `send::other_content_under_a_taken_id_is_refused` |
//! | feed.heartbeat | `subscribe::a_quiet_stream_beats_and_its_cursor_goes_with_the_log` |
//! | feed.heartbeat_skipped | [`a_heartbeat_comes_after_so_many_messages_passed_over`] |
//! | feed.max_streams | `connections::streams_beyond_the_bound_are_refused_and_a_dropped_one_makes_room` |
//! | feed.cold_scans | `feed::tests::cold`, on a store that waits: `cold_looks_are_limited_and_who_waits_has_heartbeats_on_time` |
//! | limits.message | [`a_message_may_be_as_large_as_the_bound`] |
//! | limits.free_form_depth | [`free_form_fields_may_be_as_deep_as_the_bound_and_every_reader_can_read_them`] |
//! | limits.id | [`identifiers_may_be_as_long_as_the_bound`], [`a_filter_may_hold_as_much_as_the_bound`] |
//! | limits.list_length | [`lists_may_be_as_long_as_the_bound`] |
//! | limits.filter_values | [`a_filter_may_hold_as_much_as_the_bound`] |
//! | limits.history_page | [`a_page_has_no_more_messages_than_the_bound`] |
//! | store.memory.max_bytes | `subscribe::a_cursor_older_than_what_is_kept_is_expired_and_the_oldest_is_named` |
//! | shutdown.grace | `shutdown::a_connection_that_refuses_to_close_is_cut_after_the_grace_period` |

use crate::support::gateway::Gateway;
use crate::support::messages::{Differs as _, Wants as _, counted, earliest, hello, latest, nested, said, says};
use crate::support::{assert_refused, complaints, eventually};
use cim_gateway::pb::body::Kind;
use cim_gateway::pb::{CimMessage, CustomBody, Customer, NotificationFilter};
use prost::Message as _;
use std::time::{Duration, Instant};
use tonic::Code;

/// A message of as many bytes as protobuf.
fn of_bytes(bytes: usize) -> CimMessage {
    let mut message = hello("");
    let text = |length: usize| Some("x".repeat(length));
    // The lengths of the lengths depend on the length.
    message.body.as_mut().unwrap().markdown_text = text(bytes - message.encoded_len() - 20);
    let missing = bytes - message.encoded_len();
    message.body.as_mut().unwrap().markdown_text = text(bytes - hello("").encoded_len() - 20 + missing);
    assert_eq!(message.encoded_len(), bytes);
    message
}

#[tokio::test]
async fn a_message_may_be_as_large_as_the_bound() {
    let gateway = Gateway::set("limits.message", "64 KiB").start().await;
    let client = gateway.client().await;
    let answer = client.send(of_bytes(64 * 1024)).await;
    for bytes in [64 * 1024 + 1, 2 * 64 * 1024 - 100] {
        let status = client.refused(of_bytes(bytes)).await;
        assert_refused(&status, Code::InvalidArgument, "INVALID_MESSAGE");
        assert_eq!(complaints(&status), [(String::new(), "TOO_LARGE".to_owned())]);
    }
    let status = client.refused(of_bytes(2 * 64 * 1024 + 1)).await;
    assert_refused(&status, Code::ResourceExhausted, "MESSAGE_TOO_LARGE");
    assert_eq!(said(&client.message(&answer.message_id).await.unwrap()).len(), said_len(64 * 1024));
}

fn said_len(bytes: usize) -> usize {
    of_bytes(bytes).body.and_then(|body| body.markdown_text).map_or(0, |text| text.len())
}

#[tokio::test]
async fn free_form_fields_may_be_as_deep_as_the_bound_and_every_reader_can_read_them() {
    for bound in [1, 24] {
        let gateway = Gateway::set("limits.free_form_depth", bound).start().await;
        let client = gateway.client().await;
        let deep = |depth| hello("").with_body(Kind::Custom(CustomBody { json_node: Some(nested(depth)) }));
        let answer = client.send(deep(bound)).await;
        let stored = client.message(&answer.message_id).await.unwrap();
        let page = client.page(&answer.conversation_id, 1, "").await;
        let mut events = client.subscribe(earliest()).await;
        events.message().await;
        let streamed = events.message().await;
        assert_eq!(stored, page.messages[0]);
        assert_eq!(stored, streamed);
        let kind = stored.message.unwrap().body.unwrap().kind.unwrap();
        assert_eq!(kind, Kind::Custom(CustomBody { json_node: Some(nested(bound)) }));

        let status = client.refused(deep(bound + 1)).await;
        assert_refused(&status, Code::InvalidArgument, "INVALID_MESSAGE");
        assert_eq!(complaints(&status)[0].1, "TOO_DEEP", "{status:?}");
    }
}

/// A message, changed to hold an identifier.
type WithIdentifier = fn(CimMessage, String) -> CimMessage;

#[tokio::test]
async fn identifiers_may_be_as_long_as_the_bound() {
    let gateway = Gateway::set("limits.id", "16 B").start().await;
    let client = gateway.client().await;
    let holders: [(&str, WithIdentifier); 6] = [
        ("id", |message, id| message.with_id(&id)),
        ("header.channelData.channelCustomerIdentifier", |_, id| says("shop", &id, "")),
        ("header.channelData.serviceIdentifier", |_, id| says(&id, "ada", "")),
        ("header.channelSessionId", |mut message, id| {
            message.header_mut().channel_session_id = Some(id);
            message
        }),
        ("header.conversationId", |mut message, id| {
            message.header_mut().conversation_id = Some(id);
            message
        }),
        ("header.customer._id", |mut message, id| {
            message.header_mut().customer = Some(Customer { id: Some(id), ..Customer::default() });
            message
        }),
    ];
    for (path, with) in holders {
        client.send(with(hello(path), "i".repeat(16))).await;
        let status = client.refused(with(hello(path), "i".repeat(17))).await;
        assert_refused(&status, Code::InvalidArgument, "INVALID_MESSAGE");
        assert_eq!(complaints(&status), [(path.to_owned(), "TOO_LONG".to_owned())]);
    }
}

#[tokio::test]
async fn lists_may_be_as_long_as_the_bound() {
    let gateway = Gateway::set("limits.list_length", 3).start().await;
    let client = gateway.client().await;
    let stamped = |stamps| {
        let mut message = hello("");
        message.header_mut().stamps = vec!["stamp".into(); stamps];
        message
    };
    client.send(stamped(3)).await;
    let status = client.refused(stamped(4)).await;
    assert_eq!(complaints(&status), [("header.stamps".to_owned(), "TOO_MANY".to_owned())]);
}

#[tokio::test]
async fn a_filter_may_hold_as_much_as_the_bound() {
    let gateway = Gateway::set("limits.filter_values", 4).set("limits.id", "16 B").start().await;
    let client = gateway.client().await;
    let filter = |values: usize, bytes: usize| NotificationFilter {
        service_identifiers: vec!["s".repeat(bytes); values - 3],
        conversation_ids: vec!["c".repeat(bytes)],
        sender_types: vec![1],
        audiences: vec![1],
        ..NotificationFilter::default()
    };
    client.subscribe(latest().only(filter(4, 16))).await;
    for (values, bytes) in [(5, 16), (4, 17)] {
        let status = client.try_subscribe(latest().only(filter(values, bytes))).await.unwrap_err();
        assert_refused(&status, Code::InvalidArgument, "INVALID_REQUEST");
        assert_eq!(complaints(&status), [("filter".to_owned(), String::new())]);
    }
}

#[tokio::test]
async fn a_page_has_no_more_messages_than_the_bound() {
    let gateway = Gateway::set("limits.history_page", 3).start().await;
    let client = gateway.client().await;
    client.send_all(counted(0..5)).await;
    let conversation = client.send(hello("5")).await.conversation_id;
    for (asked, given) in [(2, 2), (3, 3), (4, 3), (i32::MAX, 3), (0, 3)] {
        let page = client.page(&conversation, asked, "").await;
        assert_eq!(page.messages.len(), given, "{asked} asked for");
        assert!(!page.next_page_token.is_empty());
    }
}

#[tokio::test]
async fn a_heartbeat_comes_after_so_many_messages_passed_over() {
    let gateway = Gateway::set("feed.heartbeat_skipped", 10).set("feed.heartbeat", "5m").start().await;
    let client = gateway.client().await;
    // By position; the notice of the session is at 1.
    let mut cursors = vec![client.subscribe(latest()).await.start, String::new()];
    cursors.extend(client.send_all(counted(0..35)).await);
    let mut events = client.subscribe(earliest().on("nothing here")).await;
    let mut told = 0;
    // What is there already is looked at many at a time; then the stream is live.
    for end in [36, 71] {
        while told + 10 <= end {
            let beat = events.heartbeat().await;
            let position = cursors.iter().position(|cursor| *cursor == beat).expect("a heartbeat stands at a message");
            assert!(position >= told + 10, "{position} came too soon after {told}");
            told = position;
        }
        if end == 36 {
            cursors.extend(client.send_all(counted(35..70)).await);
        }
    }
    client.send(says("nothing here", "ada", "at last")).await;
    assert_eq!(events.until("at last").await, ["CHANNEL_SESSION_STARTED"]);
}

#[tokio::test]
async fn a_message_without_a_time_is_a_repeat_within_the_window() {
    let gateway = Gateway::set("inbox.repeat_window", "1s").start().await;
    let client = gateway.client().await;
    let timeless = || hello("hi").with_id("timeless");
    let timed = || hello("hi").with_id("timed").at(1_700_000_000);
    client.send(timed()).await;
    let sent = Instant::now();
    client.send(timeless()).await;
    let status = eventually("the window to be over", async || client.try_send(timeless()).await.err()).await;
    assert!(sent.elapsed() >= Duration::from_secs(1));
    // By then it is another message under a taken id.
    assert_refused(&status, Code::AlreadyExists, "REUSED_ID");
    assert!(client.send(timed()).await.duplicate);
}
