//! What the configuration says reaches the client.

use cim_gateway::app::webhook_settings;
use cim_gateway::config::Config;
use cim_gateway::webhook::{ClientCertificate, Settings, Tls};
use std::time::Duration;

#[test]
fn every_key_is_taken_over() {
    let variables = [
        ("TIMEOUT", "7s"),
        ("CONNECT_TIMEOUT", "6s"),
        ("MAX_RESPONSE", "5 KiB"),
        ("MAX_RESPONSE_HEAD", "9 KiB"),
        ("MAX_RESPONSE_HEADERS", "4"),
        ("MAX_IDLE_PER_HOST", "3"),
        ("IDLE_TIMEOUT", "2s"),
        ("MAX_LOOKUPS", "1"),
        ("ALLOW", r#"["10.0.0.0/8"]"#),
        ("TLS__CA_FILE", "ca.pem"),
        ("TLS__CLIENT_CERTIFICATE", "gateway.pem"),
        ("TLS__CLIENT_KEY", "gateway.key"),
    ];
    let variables = variables.map(|(key, value)| (format!("CIM_WEBHOOK__{key}"), value.to_owned()));
    let config = Config::load(None, variables.into_iter()).unwrap();
    let expected = Settings {
        timeout: Duration::from_secs(7),
        connect_timeout: Duration::from_secs(6),
        max_response: 5 * 1024,
        max_response_head: 9 * 1024,
        max_response_headers: 4,
        max_idle_per_host: 3,
        idle_timeout: Duration::from_secs(2),
        max_lookups: 1,
        allow: vec!["10.0.0.0/8".parse().unwrap()],
        tls: Tls {
            ca_file: Some("ca.pem".into()),
            client_certificate: Some(ClientCertificate { certificate: "gateway.pem".into(), key: "gateway.key".into() }),
        },
    };
    assert_eq!(webhook_settings(&config.webhook), expected);
}

#[test]
fn a_path_that_is_empty_is_none() {
    assert_eq!(webhook_settings(&Config::default().webhook).tls, Tls::default());
}
