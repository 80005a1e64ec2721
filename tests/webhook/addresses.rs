//! Where webhooks may go, however it is written.

use crate::support::*;
use cim_gateway::app::webhook_settings;
use cim_gateway::config::Config;
use cim_gateway::webhook::{Client, Failure, Resolve, Settings};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Every way to write this machine that a URL has.
const LOOPBACK: [&str; 12] = [
    "127.0.0.1",
    "127.1",
    "2130706433",
    "0x7f000001",
    "0x7f.1",
    "0177.0.0.1",
    "0",
    "localhost",
    "[::1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[64:ff9b::7f00:1]",
];

fn strict() -> Settings {
    Settings { allow: Vec::new(), ..settings() }
}

#[tokio::test]
async fn no_spelling_of_this_machine_gets_past_the_guard() {
    let receiver = Receiver::kind().await;
    let client = Client::new(strict()).unwrap();
    for host in LOOPBACK {
        for scheme in ["http", "https"] {
            let failure = post(&client, &receiver.url_as(scheme, host, "/")).await.unwrap_err();
            assert!(matches!(failure, Failure::Refused(_)), "{scheme}://{host}: {failure:?}");
        }
    }
    assert_eq!(receiver.accepted(), 0);
}

/// That they were refused above was for what they stand for: they do lead here.
#[tokio::test]
async fn the_spellings_do_lead_to_this_machine_where_it_is_allowed() {
    let receiver = Receiver::kind().await;
    let client = client();
    for host in ["127.0.0.1", "127.1", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "localhost"] {
        let answer = post(&client, &receiver.url_as("http", host, "/")).await.unwrap_or_else(|e| panic!("{host}: {e}"));
        assert_eq!(answer.status, 200);
    }
}

#[tokio::test]
async fn a_refusal_names_the_address_and_the_setting() {
    let client = Client::new(strict()).unwrap();
    let failure = post(&client, &url("http://0xa9fea9fe/latest/meta-data")).await.unwrap_err();
    insta::assert_snapshot!(
        failure,
        @"the address is refused: 169.254.169.254 is a cloud's metadata service, and webhook.allow does not name it"
    );
}

/// Names of a test's own: each look-up has the next answer, and the last one stays.
#[derive(Debug)]
struct Names {
    answers: Vec<Vec<IpAddr>>,
    asked: AtomicUsize,
}

impl Names {
    fn new<const LOOKUPS: usize>(answers: [&[&str]; LOOKUPS]) -> Arc<Self> {
        let answers = answers.map(|addresses| addresses.iter().map(|address| address.parse().unwrap()).collect());
        Arc::new(Self { answers: answers.into(), asked: AtomicUsize::new(0) })
    }
}

#[async_trait::async_trait]
impl Resolve for Names {
    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        assert_eq!(host, "receiver.example");
        let turn = self.asked.fetch_add(1, Ordering::SeqCst).min(self.answers.len() - 1);
        Ok(self.answers[turn].iter().map(|address| SocketAddr::new(*address, port)).collect())
    }
}

/// A client for which `names` are all names, and `network` all that it may reach.
fn client_for(names: &Arc<Names>, network: &str) -> Client {
    let allow = vec![network.parse().unwrap()];
    Client::with_resolver(Settings { allow, ..settings() }, names.clone()).unwrap()
}

/// A name that leads elsewhere when it is looked up again gains nothing: it is looked up once, and what was checked is what is called.
#[tokio::test]
async fn the_address_that_was_checked_is_the_one_that_is_called() {
    let receiver = Receiver::kind().await;
    let names = Names::new([&["127.0.0.1"], &["169.254.169.254"]]);
    let client = client_for(&names, "127.0.0.1/32");
    let url = receiver.url_as("http", "receiver.example", "/");
    assert_eq!(post(&client, &url).await.unwrap().status, 200);
    assert_eq!(names.asked.load(Ordering::SeqCst), 1);

    let another = client_for(&names, "127.0.0.1/32");
    let failure = post(&another, &url).await.unwrap_err();
    assert!(matches!(failure, Failure::Refused(refused) if refused.address.to_string() == "169.254.169.254"), "{failure:?}");
    assert_eq!(receiver.accepted(), 1);
}

/// Here and below nobody listens where no receiver is: each address but 127.0.0.1 belongs to one test.
#[tokio::test]
async fn of_several_addresses_only_those_are_tried_that_are_allowed() {
    let inside = Receiver::kind().await;
    let names = Names::new([&["127.0.0.1", "127.4.0.1", "10.0.0.1"]]);
    let url = inside.url_as("http", "receiver.example", "/");
    let failure = post(&client_for(&names, "127.4.0.1/32"), &url).await.unwrap_err();
    assert!(matches!(failure, Failure::Connect { .. }), "{failure:?}");

    let outside = Receiver::kind_at(&format!("127.4.0.1:{}", inside.port())).await;
    assert_eq!(post(&client_for(&names, "127.4.0.1/32"), &url).await.unwrap().status, 200);
    assert_eq!((inside.accepted(), outside.accepted()), (0, 1));
}

#[tokio::test]
async fn the_next_address_is_tried_where_one_cannot_be_reached_eight_at_most() {
    let receiver = Receiver::kind_at("127.5.0.9:0").await;
    let url = receiver.url_as("http", "receiver.example", "/");
    let closed = ["127.5.0.1", "127.5.0.2", "127.5.0.3", "127.5.0.4", "127.5.0.5", "127.5.0.6", "127.5.0.7", "127.5.0.8"];
    let eighth = [&closed[..7], &["127.5.0.9"]].concat();
    let ninth = [&closed[..], &["127.5.0.9"]].concat();
    let answer = post(&client_for(&Names::new([&eighth]), "127.0.0.0/8"), &url).await;
    assert_eq!(answer.unwrap().status, 200);
    let failure = post(&client_for(&Names::new([&ninth]), "127.0.0.0/8"), &url).await.unwrap_err();
    assert!(matches!(failure, Failure::Connect { .. }), "{failure:?}");
}

/// Of two addresses one hears nothing, as IPv6 does in half of the world: the other does not wait until that has timed out.
#[tokio::test]
async fn an_address_that_does_not_answer_holds_up_no_other() {
    let full = Full::new().await;
    let receiver = Receiver::kind_at(&format!("127.6.0.1:{}", full.port())).await;
    let client = client_for(&Names::new([&["127.0.0.1", "127.6.0.1"]]), "127.0.0.0/8");
    let answer = post(&client, &receiver.url_as("http", "receiver.example", "/")).await.unwrap();
    assert!(answer.duration < PATIENCE / 2, "{answer:?}");
}

/// As it is configured if nobody configures anything.
#[tokio::test]
async fn by_default_this_machine_is_out_of_reach() {
    let receiver = Receiver::kind().await;
    let client = Client::new(webhook_settings(&Config::default().webhook)).unwrap();
    let failure = post(&client, &receiver.url()).await.unwrap_err();
    assert!(matches!(failure, Failure::Refused(_)), "{failure:?}");
    assert_eq!(receiver.accepted(), 0);
}
