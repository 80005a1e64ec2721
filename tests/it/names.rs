//! Named subscriptions: the gateway keeps the cursor, and a name has one reader.

use crate::support::client::{Client, Events};
use crate::support::gateway::Gateway;
use crate::support::messages::{after, counted, earliest, hello, latest};
use crate::support::{assert_refused, complaints, soon};
use cim_gateway::pb::subscription_service_client::SubscriptionServiceClient;
use cim_gateway::pb::{
    AcknowledgeNotificationsRequest, DeleteSubscriptionRequest, ListSubscriptionsRequest, ListSubscriptionsResponse,
    SubscribeNotificationsRequest, Subscription,
};
use tonic::transport::Channel;
use tonic::{Code, Status};

/// A subscription with a name.
fn named(name: &str, request: SubscribeNotificationsRequest) -> SubscribeNotificationsRequest {
    SubscribeNotificationsRequest { subscription: name.into(), ..request }
}

fn reset(name: &str, request: SubscribeNotificationsRequest) -> SubscribeNotificationsRequest {
    SubscribeNotificationsRequest { reset: true, ..named(name, request) }
}

async fn acknowledge(client: &Client, name: &str, generation: u64, cursor: &str) -> Result<String, Status> {
    let request = AcknowledgeNotificationsRequest { subscription: name.into(), generation, cursor: cursor.into() };
    let mut calls = client.calls.clone();
    let answer = soon("an answer to AcknowledgeNotifications", calls.acknowledge_notifications(request)).await?;
    Ok(answer.into_inner().cursor)
}

fn registry(client: &Client) -> SubscriptionServiceClient<Channel> {
    SubscriptionServiceClient::new(client.channel.clone())
}

async fn page(client: &Client, request: ListSubscriptionsRequest) -> Result<ListSubscriptionsResponse, Status> {
    registry(client).list_subscriptions(request).await.map(tonic::Response::into_inner)
}

async fn list(client: &Client) -> Vec<Subscription> {
    page(client, ListSubscriptionsRequest::default()).await.expect("can be listed").subscriptions
}

async fn delete(client: &Client, name: &str) -> Result<(), Status> {
    registry(client).delete_subscription(DeleteSubscriptionRequest { subscription: name.into() }).await.map(drop)
}

/// Hears the next messages, and returns the cursor of the last.
async fn hear(events: &mut Events, texts: impl IntoIterator<Item = usize>) -> String {
    let mut cursor = String::new();
    for text in texts {
        let heard = events.message().await;
        assert_eq!(crate::support::messages::said(&heard), text.to_string());
        cursor = heard.cursor;
    }
    cursor
}

#[tokio::test]
async fn a_name_goes_on_after_what_is_acknowledged_over_a_restart_too() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().display().to_string();
    let gateway = Gateway::set("store.embedded.data_dir", &data).start().await;
    let client = gateway.client().await;
    let opened = client.send(hello("opened")).await;
    client.send_all(counted(0..6)).await;
    let mut events = client.subscribe(named("desk", after(&opened.cursor))).await;
    let processed = hear(&mut events, 0..3).await;
    assert_eq!(acknowledge(&client, "desk", events.generation, &processed).await.unwrap(), processed);
    hear(&mut events, 3..5).await;
    drop((events, client));
    gateway.stop().down().await;

    let gateway = Gateway::set("store.embedded.data_dir", &data).start().await;
    let client = gateway.client().await;
    let mut events = client.subscribe(named("desk", latest())).await;
    assert_eq!(events.start, processed);
    hear(&mut events, 3..6).await;
}

#[tokio::test]
async fn the_reader_that_is_taken_over_is_told_so_and_acknowledges_nothing_more() {
    let gateway = Gateway::start().await;
    let client = gateway.client().await;
    client.send(hello("opened")).await;
    let mut first = client.subscribe(named("desk", latest())).await;
    let elsewhere = gateway.client().await;
    let mut second = elsewhere.subscribe(named("desk", latest())).await;
    let end = first.end().await;
    assert_refused(&end, Code::Aborted, "SUBSCRIPTION_TAKEN_OVER");
    assert!(end.message().contains("do not attach again by yourself"), "{}", end.message());
    let sent = client.send(hello("0")).await.cursor;
    let late = acknowledge(&client, "desk", first.generation, &sent).await.unwrap_err();
    assert_refused(&late, Code::Aborted, "SUBSCRIPTION_TAKEN_OVER");
    assert!(second.generation > first.generation);
    let heard = hear(&mut second, 0..1).await;
    assert_eq!(acknowledge(&elsewhere, "desk", second.generation, &heard).await.unwrap(), sent);
    // A reader without a name is another matter.
    assert_eq!(client.subscribe(latest()).await.generation, 0);
}

#[tokio::test]
async fn a_start_is_refused_once_something_is_acknowledged_unless_it_is_a_reset() {
    let gateway = Gateway::start().await;
    let client = gateway.client().await;
    let opened = client.send(hello("opened")).await.cursor;
    client.send_all(counted(0..2)).await;
    let events = client.subscribe(named("desk", earliest())).await;
    acknowledge(&client, "desk", events.generation, &opened).await.unwrap();
    let status = client.try_subscribe(named("desk", earliest())).await.unwrap_err();
    assert_refused(&status, Code::InvalidArgument, "INVALID_REQUEST");
    assert_eq!(complaints(&status), [("start".to_owned(), String::new())]);
    let mut events = client.subscribe(named("desk", latest())).await;
    assert_eq!(events.start, opened);
    let processed = hear(&mut events, 0..2).await;
    acknowledge(&client, "desk", events.generation, &processed).await.unwrap();
    let mut again = client.subscribe(reset("desk", after(&opened))).await;
    hear(&mut again, 0..2).await;
    let status = client.try_subscribe(reset("desk", latest())).await.unwrap_err();
    assert_eq!(complaints(&status), [("reset".to_owned(), String::new())]);
    let status = client.try_subscribe(reset("", earliest())).await.unwrap_err();
    assert_eq!(complaints(&status), [("reset".to_owned(), String::new())]);
}

#[tokio::test]
async fn a_name_that_lags_behind_what_is_kept_is_told_from_where_it_can_be_reset() {
    let gateway = Gateway::set("store.engine", "memory").set("store.memory.max_bytes", "2 MiB").start().await;
    let client = gateway.client().await;
    drop(client.subscribe(named("desk", latest())).await);
    client.send_all(counted(0..2000)).await;
    let listed = list(&client).await;
    assert_eq!((listed[0].behind, listed[0].expired), (2001, true));
    let status = client.try_subscribe(named("desk", latest())).await.unwrap_err();
    assert_refused(&status, Code::OutOfRange, "CURSOR_EXPIRED");
    let mut events = client.subscribe(reset("desk", earliest())).await;
    assert!(events.said().await.parse::<usize>().unwrap() > 0);
    assert!(!list(&client).await[0].expired);
}

#[tokio::test]
async fn names_are_listed_and_deleted() {
    let gateway = Gateway::set("subscriptions.max", 2).start().await;
    let client = gateway.client().await;
    let mut desk = client.subscribe(named("desk", latest())).await;
    drop(client.subscribe(named("bot", latest())).await);
    let status = client.try_subscribe(named("third", latest())).await.unwrap_err();
    assert_refused(&status, Code::ResourceExhausted, "TOO_MANY_SUBSCRIPTIONS");
    client.send(hello("0")).await;
    let listed = list(&client).await;
    let told: Vec<_> = listed.iter().map(|one| (one.name.as_str(), one.behind, one.acknowledged_at.is_some())).collect();
    assert_eq!(told, [("bot", 2, false), ("desk", 2, false)]);
    assert_eq!((listed[1].attached, &listed[1].cursor), (true, &desk.start));
    let page = page(&client, ListSubscriptionsRequest { page_size: 1, page_token: "bot".into() }).await.unwrap();
    assert_eq!((page.subscriptions[0].name.as_str(), page.next_page_token.as_str()), ("desk", ""));

    delete(&client, "desk").await.unwrap();
    assert_refused(&desk.end().await, Code::NotFound, "SUBSCRIPTION_NOT_FOUND");
    assert_refused(&delete(&client, "desk").await.unwrap_err(), Code::NotFound, "SUBSCRIPTION_NOT_FOUND");
    let late = acknowledge(&client, "desk", desk.generation, &desk.start).await.unwrap_err();
    assert_refused(&late, Code::NotFound, "SUBSCRIPTION_NOT_FOUND");
    assert_eq!(list(&client).await.len(), 1);
    client.subscribe(named("third", latest())).await;
}

#[tokio::test]
async fn what_cannot_be_attached_or_acknowledged_is_refused_and_named() {
    let gateway = Gateway::start().await;
    let client = gateway.client().await;
    for name in ["a b", ".", "\u{e4}", &"x".repeat(101)] {
        let status = client.try_subscribe(named(name, latest())).await.unwrap_err();
        assert_refused(&status, Code::InvalidArgument, "INVALID_REQUEST");
        assert_eq!(complaints(&status), [("subscription".to_owned(), String::new())]);
    }
    assert!(list(&client).await.is_empty());
    let events = client.subscribe(named("desk", latest())).await;
    for (name, generation, cursor, field) in [
        ("", events.generation, events.start.as_str(), "subscription"),
        ("desk", 0, &events.start, "generation"),
        ("desk", events.generation, "", "cursor"),
        ("desk", events.generation, "garbage", "cursor"),
    ] {
        let status = acknowledge(&client, name, generation, cursor).await.unwrap_err();
        assert_refused(&status, Code::InvalidArgument, "INVALID_REQUEST");
        assert_eq!(complaints(&status), [(field.to_owned(), String::new())]);
    }
    let negative = page(&client, ListSubscriptionsRequest { page_size: -1, page_token: String::new() }).await;
    assert_eq!(complaints(&negative.unwrap_err()), [("page_size".to_owned(), String::new())]);
}
