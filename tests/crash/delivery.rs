//! `kill -9` while messages are delivered to a webhook that fails as it likes: every accepted message arrives, in the order of its customer,
//! with one id on every attempt, nothing is stuck, and what was read stays read.

use crate::chance::{Chance, seed, variable};
use crate::gateway::{Gateway, Start};
use crate::support::client::Client;
use crate::support::messages::{Differs as _, says};
use crate::support::receiver::{Call, Receiver, Reply};
use crate::support::{eventually, soon};
use cim_gateway::pb::body::Kind;
use cim_gateway::pb::channel_service_client::ChannelServiceClient;
use cim_gateway::pb::delivery_service_client::DeliveryServiceClient;
use cim_gateway::pb::{
    Channel, CimMessage, CreateChannelRequest, DeliveryNotificationBody, DeliveryState, DeliveryStatus, Endpoint,
    GetMessageRequest, ListDeliveriesRequest, SendMessageRequest, SenderType,
};
use futures::future::join_all;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Customers who get messages.
const CUSTOMERS: usize = 16;

/// A customer's messages.
#[derive(Debug, Clone, Default)]
struct Customer {
    /// Those before this number are accepted.
    next: usize,
    /// Those of which it is acknowledged that they were read.
    read: Vec<usize>,
}

fn settings(folder: &std::path::Path) -> Start {
    Start::on(folder)
        .set("webhook.allow", r#"["127.0.0.0/8"]"#)
        .set("delivery.retries", r#"["10ms", "20ms", "50ms"]"#)
        .set("delivery.hold", "1h")
        .set("delivery.breaker.pause", "100ms")
        .set("delivery.breaker.longest_pause", "100ms")
}

/// What a receiver that fails as it likes answers.
fn whim(chance: &mut Chance) -> Reply {
    match chance.below(20) {
        0 | 1 => Reply::Status(500),
        2 => Reply::Status(503),
        3 => Reply::Status(404),
        4 => Reply::Status(202),
        5 => Reply::Header(429, "retry-after", "0"),
        // The sender is gone before it is decided.
        6 if chance.once_in(4) => Reply::Later(tokio::sync::oneshot::channel().1),
        _ => Reply::Status(200),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_accepted_message_arrives_in_order_with_one_id_whenever_the_gateway_is_killed() {
    let rounds = variable("CRASH_DELIVERY_ROUNDS", 5);
    let seed = seed("delivery");
    let mut chance = Chance::of(seed, 0);
    let folder = tempfile::tempdir().expect("a folder can be made");
    let begun = Instant::now();
    let calls = Arc::new(Mutex::new(Vec::<Call>::new()));
    let calm = Arc::new(AtomicBool::new(false));
    let (heard, is_calm, mut whims) = (calls.clone(), calm.clone(), Chance::of(seed, 1));
    let receiver = Receiver::answering(move |call| {
        heard.lock().push(call.clone());
        if is_calm.load(Ordering::Acquire) { Reply::Status(200) } else { whim(&mut whims) }
    })
    .await;

    let start = settings(folder.path()).set("webhook.timeout", "2s");
    let gateway = start.ready().await;
    register(&gateway, &receiver).await;
    gateway.kill().await;
    let mut customers = vec![Customer::default(); CUSTOMERS];
    for _ in 0..rounds {
        let gateway = start.ready().await;
        let client = gateway.client().await;
        for (number, customer) in customers.iter().enumerate() {
            stay_read(&client, number, customer.read.iter().rev().take(3)).await;
        }
        let sending = customers.iter_mut().enumerate().map(|(number, customer)| send(client.clone(), number, customer));
        let working = chance.millis(500);
        let kill = async {
            tokio::time::sleep(working).await;
            gateway.kill().await;
        };
        tokio::join!(join_all(sending), kill);
    }
    calm.store(true, Ordering::Release);
    let gateway = start.ready().await;
    eventually("nothing to be open", async || (open(&gateway, DeliveryState::Unspecified).await == 0).then_some(())).await;
    assert_eq!(open(&gateway, DeliveryState::Dead).await, 0, "nothing is given up");
    let client = gateway.client().await;
    for (number, customer) in customers.iter().enumerate() {
        stay_read(&client, number, &customer.read).await;
    }
    gateway.kill().await;

    let calls = calls.lock();
    let (mut ids, mut first) = (HashMap::<&str, &str>::new(), HashMap::<&str, Vec<usize>>::new());
    for call in calls.iter().filter(|call| call.body["body"]["type"] == "PLAIN") {
        let message = call.body["id"].as_str().expect("has an id");
        let known = *ids.entry(message).or_insert_with(|| {
            let (customer, number) = message.split_once('-').expect("ids are made here");
            first.entry(customer).or_default().push(number.parse().expect("ids are made here"));
            &call.id
        });
        assert_eq!(known, call.id, "{message} has one id on every attempt");
    }
    for (number, customer) in customers.iter().enumerate() {
        let arrived = first.remove(number.to_string().as_str()).unwrap_or_default();
        assert!(arrived.iter().copied().eq(0..arrived.len()), "customer {number} got {arrived:?}");
        // What was not acknowledged may have been accepted.
        assert!((customer.next..=customer.next + 1).contains(&arrived.len()), "{customer:?} got {}", arrived.len());
    }
    let accepted: usize = customers.iter().map(|customer| customer.next).sum();
    println!("{rounds} rounds in {:?}: {accepted} accepted, {} calls", begun.elapsed(), calls.len());
}

async fn register(gateway: &Gateway, receiver: &Receiver) {
    let mut channels = ChannelServiceClient::connect(format!("http://{}", gateway.grpc)).await.expect("can be connected to");
    let channel = Channel {
        service_identifier: "shop".into(),
        channel_type: "WEB".into(),
        connector: Some(Endpoint { uri: receiver.uri(), ..Endpoint::default() }),
        ..Channel::default()
    };
    let request = CreateChannelRequest { channel: Some(channel) };
    soon("an answer to CreateChannel", channels.create_channel(request)).await.expect("is registered");
}

/// What the connector tells of a message of a customer.
fn receipt(number: usize, message: usize, status: DeliveryStatus) -> CimMessage {
    let body = DeliveryNotificationBody {
        message_id: Some(format!("{number}-{message}")),
        status: status.into(),
        reason_code: Some("200".into()),
    };
    says("shop", &format!("customer {number}"), "").with_body(Kind::DeliveryNotification(body))
}

/// Fails unless these messages of a customer are known to have been read.
async fn stay_read(client: &Client, number: usize, messages: impl IntoIterator<Item = &usize>) {
    for message in messages {
        let request = GetMessageRequest { message_id: format!("{number}-{message}") };
        let found = soon("an answer to GetMessage", client.calls.clone().get_message(request)).await.expect("is kept");
        let outcome = found.into_inner().outcome.expect("a receipt has come");
        assert_eq!(outcome.status(), DeliveryStatus::Read, "{number}-{message}");
    }
}

/// Sends a customer's messages, each once the one before is acknowledged, until the gateway is killed. Every other one is read, and
/// delivered only after that.
async fn send(client: Client, number: usize, customer: &mut Customer) {
    let tell = async |message, status| {
        let request = SendMessageRequest { message: Some(receipt(number, message, status)), delivery_wait: None };
        client.calls.clone().send_message(request).await.is_ok()
    };
    loop {
        if let Some(last) = customer.next.checked_sub(1).filter(|last| last % 2 == 0 && customer.read.last() != Some(last)) {
            if !tell(last, DeliveryStatus::Read).await {
                return;
            }
            customer.read.push(last);
            if !tell(last, DeliveryStatus::Delivered).await {
                return;
            }
        }
        let text = customer.next.to_string();
        let message = says("shop", &format!("customer {number}"), &text).by(SenderType::Agent).at(1_700_000_000);
        let message = message.with_id(&format!("{number}-{text}"));
        let wait = Duration::ZERO.try_into().expect("is short");
        let request = SendMessageRequest { message: Some(message), delivery_wait: Some(wait) };
        match client.calls.clone().send_message(request).await {
            Ok(_) => customer.next += 1,
            Err(_) => return,
        }
    }
}

/// How many deliveries are in a state.
async fn open(gateway: &Gateway, state: DeliveryState) -> usize {
    let mut desk = DeliveryServiceClient::connect(format!("http://{}", gateway.grpc)).await.expect("can be connected to");
    let (mut count, mut page_token) = (0, String::new());
    loop {
        let request = ListDeliveriesRequest { state: state.into(), page_token, ..ListDeliveriesRequest::default() };
        let page = soon("a page", desk.list_deliveries(request)).await.expect("can be listed").into_inner();
        count += page.deliveries.len();
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return count;
        }
    }
}
