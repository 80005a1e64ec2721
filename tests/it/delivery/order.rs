//! The order in which a customer gets messages.

use super::*;
use crate::support::receiver::{Call, Reply};
use std::collections::{HashMap, HashSet};

/// The texts in the order in which they came first.
fn firsts(calls: &[Call]) -> Vec<String> {
    let mut seen = HashSet::new();
    calls.iter().filter(|call| seen.insert(call.id.clone())).map(Call::said).collect()
}

#[tokio::test]
async fn a_customer_gets_messages_in_order_whatever_fails_meanwhile() {
    let mut calls = 0_u32;
    let rule = move |_: &Call| {
        calls += 1;
        Reply::Status([200, 500, 200, 503, 200, 200, 404][calls as usize % 7])
    };
    let mut connector = Receiver::answering(rule).await;
    let gateway = gateway().set("delivery.sync_wait", "0s").set("delivery.hold", "10m").start().await;
    register(gateway.grpc, channel("shop", &connector)).await;
    let client = gateway.client().await;
    for number in 0..40 {
        client.send(answers("shop", "ada", &number.to_string())).await;
    }
    let mut heard = Vec::new();
    while firsts(&heard).len() < 41 {
        heard.push(connector.call().await);
    }
    let expected: Vec<_> = (0..40).map(|number| number.to_string()).collect();
    assert_eq!(firsts(&heard)[1..], expected);
    // Nothing overtakes what is tried again.
    let last_of: HashMap<_, _> = heard.iter().enumerate().map(|(i, call)| (call.id.clone(), i)).collect();
    let mut reached = None;
    for call in &heard {
        assert!(reached.is_none_or(|reached| reached <= last_of[&call.id]));
        reached = Some(last_of[&call.id]);
    }
}

#[tokio::test]
async fn a_poison_message_steps_aside_and_the_others_go_on() {
    let rule = |call: &Call| Reply::Status(if call.said() == "poison" { 500 } else { 200 });
    let mut connector = Receiver::answering(rule).await;
    let gateway = gateway().set("delivery.sync_wait", "0s").set("delivery.hold", "100ms").start().await;
    register(gateway.grpc, channel("shop", &connector)).await;
    let client = gateway.client().await;
    client.send(answers("shop", "ada", "poison")).await;
    client.send(answers("shop", "ada", "after")).await;
    client.send(answers("shop", "bob", "beside")).await;
    let mut late = 0;
    let mut said = Vec::new();
    while late == 0 || !said.contains(&"after".to_owned()) || !said.contains(&"beside".to_owned()) {
        let call = connector.call().await;
        late += usize::from(call.headers.contains_key("cim-late"));
        assert!(call.said() == "poison" || !call.headers.contains_key("cim-late"));
        said.push(call.said());
    }
    let poison = said.iter().take_while(|said| *said != "after").filter(|said| *said == "poison").count();
    assert!(poison > 1, "it holds its lane up for a while first: {said:?}");
}

#[tokio::test]
async fn on_a_strict_channel_nothing_steps_aside() {
    let mut failed = 0;
    let rule = move |call: &Call| match call.said().as_str() {
        "first" if failed < 6 => {
            failed += 1;
            Reply::Status(500)
        }
        _ => Reply::Status(200),
    };
    let mut connector = Receiver::answering(rule).await;
    let gateway = gateway().set("delivery.sync_wait", "0s").set("delivery.hold", "0s").start().await;
    let delivery = DeliverySettings { order: cim_gateway::pb::DeliveryOrder::Strict.into(), ..DeliverySettings::default() };
    register(gateway.grpc, Channel { delivery: Some(delivery), ..channel("shop", &connector) }).await;
    let client = gateway.client().await;
    client.send(answers("shop", "ada", "first")).await;
    client.send(answers("shop", "ada", "second")).await;
    let said: Vec<_> = connector.take(9).await.iter().map(Call::said).collect();
    assert_eq!(said[0], "CHANNEL_SESSION_STARTED");
    assert!(said[1..8].iter().all(|said| said == "first"), "{said:?}");
    assert_eq!(said[8], "second");
}
