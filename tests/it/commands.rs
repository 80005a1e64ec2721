//! The commands that talk to a gateway, against a real one: what they print, and how they exit.

use crate::support::process::Process;
use crate::support::soon;
use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{Command, Output};
use tokio::task::spawn_blocking;

const MESSAGE: &str = r#"{
    "id": "m-1",
    "header": {
        "sender": {"id": "s-1", "type": "CONNECTOR", "senderName": "WEB_CONNECTOR"},
        "channelData": {"channelCustomerIdentifier": "ada", "serviceIdentifier": "shop"},
        "timestamp": 1769839200120
    },
    "body": {"type": "PLAIN", "markdownText": "Grüße"}
}"#;

/// Runs a command of the executable against the gateway at `server`.
async fn run(server: SocketAddr, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cim-gateway"));
    command.args(args).env("CIM_SERVER", server.to_string());
    let ran = soon("the command", spawn_blocking(move || command.output())).await;
    ran.expect("waiting does not panic").expect("the executable runs")
}

fn out(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn err(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

#[tokio::test]
async fn what_is_sent_is_read_back() {
    let gateway = Process::start(&[]).await;
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(MESSAGE.as_bytes()).unwrap();
    let sent = run(gateway.grpc, &["send", file.path().to_str().unwrap()]).await;
    assert!(sent.status.success() && out(&sent).contains(": accepted as m-1, "), "{sent:?}");

    let got = run(gateway.grpc, &["get", "m-1"]).await;
    assert!(got.status.success(), "{}", err(&got));
    let message: serde_json::Value = serde_json::from_str(out(&got)).unwrap();
    assert_eq!((&message["id"], &message["body"]["markdownText"]), (&"m-1".into(), &"Grüße".into()));
}

/// The others are printed all the same.
#[tokio::test]
async fn a_message_that_nobody_sent_is_named() {
    let gateway = Process::start(&[]).await;
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(MESSAGE.as_bytes()).unwrap();
    assert!(run(gateway.grpc, &["send", file.path().to_str().unwrap()]).await.status.success());

    let got = run(gateway.grpc, &["get", "m-0", "m-1"]).await;
    assert_eq!(got.status.code(), Some(1));
    assert_eq!(out(&got).lines().count(), 1);
    assert!(out(&got).starts_with(r#"{"id":"m-1","#), "{}", out(&got));
    assert!(err(&got).starts_with("m-0: NOT_FOUND (MESSAGE_NOT_FOUND): "), "{}", err(&got));
}

#[tokio::test]
async fn health_is_an_exit_code_and_a_word() {
    let gateway = Process::start(&[]).await;
    for args in [&["health"][..], &["health", "--service", "cim.v1.MessageService"]] {
        let asked = run(gateway.grpc, args).await;
        assert_eq!((asked.status.code(), out(&asked), err(&asked)), (Some(0), "serving\n", ""), "{args:?}");
    }
    let unknown = run(gateway.grpc, &["health", "--service", "cim.v1.Nothing"]).await;
    assert_eq!((unknown.status.code(), out(&unknown)), (Some(1), ""));
    assert!(err(&unknown).starts_with("cim-gateway: NOT_FOUND"), "{}", err(&unknown));

    let address = gateway.grpc;
    gateway.signal("TERM");
    assert!(gateway.ended().await.success());
    let gone = run(address, &["health"]).await;
    assert_eq!((gone.status.code(), out(&gone)), (Some(1), ""));
    assert_eq!(err(&gone), format!("cim-gateway: http://{address}/ cannot be reached: Connection refused (os error 111)\n"));
}
