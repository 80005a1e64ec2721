use super::*;
use std::collections::BTreeMap;

fn with<const COUNT: usize>(variables: [(&str, &str); COUNT]) -> Result<Config, ConfigError> {
    Config::load(None, variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into_iter())
}

fn with_file(text: &str) -> Result<Config, ConfigError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gateway.toml");
    std::fs::write(&path, text).unwrap();
    let place = format!("{}/", dir.path().display());
    Config::load(Some(&path), std::iter::empty()).map_err(|mut e| {
        for problem in &mut e.problems {
            problem.subject = problem.subject.replace(&place, "");
            problem.origin = problem.origin.take().map(|origin| origin.replace(&place, ""));
        }
        e
    })
}

fn error<const COUNT: usize>(variables: [(&str, &str); COUNT]) -> String {
    with(variables).unwrap_err().to_string()
}

#[test]
fn the_defaults_are_what_their_reference_promises() {
    let config = Config::default();
    assert_eq!(config.grpc.listen.to_string(), "127.0.0.1:50051");
    assert_eq!(config.http.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.grpc.initial_connection_window, Size::mib(2));
    assert_eq!(config.http.accepted_status, AcceptedStatus::Accepted);
    assert_eq!(config.inbox.reused_id, ReusedId { grpc: ReusePolicy::Reject, http: ReusePolicy::Renew });
    assert_eq!(config.feed.heartbeat, Duration::from_secs(15));
    assert_eq!(config.limits.message, Size::mib(1));
    let embedded = Embedded {
        data_dir: "data".into(),
        max_bytes: Size::mib(64 << 10),
        max_age: Duration::from_secs(30 * 24 * 60 * 60),
        min_age: Duration::from_secs(24 * 60 * 60),
        min_free: Size::mib(256),
        segment: Size::mib(64),
        window: Size::mib(8),
    };
    assert_eq!(config.store, Store { engine: Engine::Embedded, embedded, memory: Memory { max_bytes: Size::mib(256) } });
    assert_eq!(config.log, Log { level: "info".into(), format: Format::Auto });
}

#[test]
fn the_defaults_have_a_comment_on_every_section_or_key() {
    let mut commented = false;
    for line in DEFAULTS.lines() {
        assert!(line.len() <= 130, "{line}");
        if line.contains(" = ") && !line.starts_with('#') {
            assert!(commented || line == "grpc = \"reject\"", "{line}");
        }
        commented = line.starts_with('#');
    }
}

#[test]
fn what_is_printed_is_read_as_the_same_configuration() {
    let variables = [
        ("CIM_HTTP__ACCEPTED_STATUS", "200"),
        ("CIM_HTTP__CORS__ALLOWED_ORIGINS", r#"["https://a.example", "http://localhost:3000"]"#),
        ("CIM_INBOX__REUSED_ID__GRPC", "renew"),
        ("CIM_INBOX__REUSED_ID__HTTP", "reject"),
        ("CIM_CHANNELS__REQUIRE_REGISTERED", "true"),
        (
            "CIM_CHANNELS__DECLARED",
            r#"[{ service_identifier = "1", connector = { uri = "x" }, attributes = [{ value = 1.5 }] }]"#,
        ),
        ("CIM_FEED__HEARTBEAT", "1m 30s"),
        ("CIM_LIMITS__MESSAGE", "1536 KiB"),
        ("CIM_SHUTDOWN__GRACE", "1500ms"),
        ("CIM_WEBHOOK__ALLOW", r#"["10.0.0.0/8", "fd12:3456::/32"]"#),
        ("CIM_WEBHOOK__TLS__CLIENT_CERTIFICATE", "gateway.pem"),
        ("CIM_WEBHOOK__TLS__CLIENT_KEY", "gateway.key"),
        ("CIM_LOG__LEVEL", r#"warn,[{name="x\d"}]=trace"#),
        ("CIM_LOG__FORMAT", "json"),
    ];
    let unlike_the_defaults = with(variables).unwrap_or_else(|e| panic!("{e}"));
    for config in [Config::default(), unlike_the_defaults] {
        assert_eq!(with_file(&config.to_toml()), Ok(config));
    }
}

#[test]
fn a_file_overrides_the_defaults_and_a_variable_overrides_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gateway.toml");
    std::fs::write(&path, "[feed]\nmax_streams = 7\nheartbeat = \"7s\"\n").unwrap();
    let config = Config::load(Some(&path), [("CIM_FEED__HEARTBEAT".into(), "9s".into())].into_iter()).unwrap();
    assert_eq!(config.feed, Feed { max_streams: 7, heartbeat: Duration::from_secs(9), ..Config::default().feed });
}

#[test]
fn variables_of_others_are_left_alone() {
    let others = [("PATH", "/bin"), ("CIM_CONFIG", "x"), ("CIM_SERVER", "x"), ("CIM_GATEWAY_PORT", "tcp://10.0.0.7:80")];
    assert_eq!(with(others), Ok(Config::default()));
}

/// For each bounded key: the least and the most, and for each the nearest value beyond.
const BOUNDS: [(&str, [&str; 4]); 60] = [
    ("grpc.max_connections", ["0", "1", "1000000", "1000001"]),
    ("grpc.max_concurrent_streams", ["0", "1", "1000000", "1000001"]),
    ("grpc.max_in_flight", ["0", "1", "10000", "10001"]),
    ("grpc.keepalive_interval", ["999ms", "1s", "1h", "3600001ms"]),
    ("grpc.keepalive_timeout", ["999ms", "1s", "1h", "3600001ms"]),
    ("grpc.initial_stream_window", ["65535 B", "64 KiB", "16 MiB", "16777217 B"]),
    ("grpc.initial_connection_window", ["65535 B", "64 KiB", "64 MiB", "67108865 B"]),
    ("grpc.max_header_list", ["4095 B", "4 KiB", "1 MiB", "1048577 B"]),
    ("http.header_timeout", ["999ms", "1s", "5m", "300001ms"]),
    ("http.body_timeout", ["999ms", "1s", "10m", "600001ms"]),
    ("http.max_connections", ["0", "1", "1000000", "1000001"]),
    ("http.max_concurrent_streams", ["0", "1", "1000000", "1000001"]),
    ("inbox.repeat_window", ["999ms", "1s", "24h", "86400001ms"]),
    ("channels.max", ["0", "1", "1000000", "1000001"]),
    ("channels.largest", ["1023 B", "1 KiB", "1 MiB", "1048577 B"]),
    ("channels.page", ["0", "1", "500", "501"]),
    ("feed.heartbeat", ["999ms", "1s", "5m", "300001ms"]),
    ("feed.heartbeat_skipped", ["0", "1", "1000000", "1000001"]),
    ("feed.max_streams", ["0", "1", "1000000", "1000001"]),
    ("feed.cold_scans", ["0", "1", "1000", "1001"]),
    ("subscriptions.max", ["0", "1", "100000", "100001"]),
    ("subscriptions.write_interval", ["", "0s", "10s", "10001ms"]),
    ("sessions.customer_activity_timeout", ["", "0s", "30days", "2592000001ms"]),
    ("limits.message", ["1023 B", "1 KiB", "16 MiB", "16777217 B"]),
    ("limits.json_depth", ["7", "8", "128", "129"]),
    ("limits.free_form_depth", ["0", "1", "24", "25"]),
    ("limits.id", ["15 B", "16 B", "4 KiB", "4097 B"]),
    ("limits.list_length", ["0", "1", "10000", "10001"]),
    ("limits.filter_values", ["0", "1", "10000", "10001"]),
    ("limits.history_page", ["0", "1", "500", "501"]),
    ("store.embedded.max_bytes", ["268435455 B", "256 MiB", "64 TiB", "70368744177665 B"]),
    ("store.embedded.max_age", ["86399999ms", "24h", "3650days", "315360000001ms"]),
    ("store.embedded.min_age", ["", "0s", "30days", "2592000001ms"]),
    ("store.embedded.min_free", ["", "0 B", "1 TiB", "1099511627777 B"]),
    ("store.embedded.segment", ["1048575 B", "1 MiB", "1 GiB", "1073741825 B"]),
    ("store.embedded.window", ["1048575 B", "1 MiB", "1 GiB", "1073741825 B"]),
    ("store.memory.max_bytes", ["2097151 B", "2 MiB", "1 TiB", "1099511627777 B"]),
    ("delivery.sync_wait", ["", "0s", "30s", "30001ms"]),
    ("delivery.max_waiting", ["", "0", "1000000", "1000001"]),
    ("delivery.hold", ["", "0s", "1h", "3600001ms"]),
    ("delivery.parked", ["", "0", "1000", "1001"]),
    ("delivery.max_age", ["999ms", "1s", "30days", "2592000001ms"]),
    ("delivery.in_flight", ["0", "1", "10000", "10001"]),
    ("delivery.in_flight_in_all", ["0", "1", "100000", "100001"]),
    ("delivery.lane_window", ["0", "1", "10000", "10001"]),
    ("delivery.gone", ["0", "1", "1000", "1001"]),
    ("delivery.excerpt", ["", "0 B", "64 KiB", "65537 B"]),
    ("delivery.page", ["0", "1", "500", "501"]),
    ("delivery.breaker.failures", ["0", "1", "1000", "1001"]),
    ("delivery.breaker.pause", ["99ms", "100ms", "1h", "3600001ms"]),
    ("delivery.breaker.longest_pause", ["99ms", "100ms", "24h", "86400001ms"]),
    ("webhook.timeout", ["99ms", "100ms", "5m", "300001ms"]),
    ("webhook.connect_timeout", ["99ms", "100ms", "1m", "60001ms"]),
    ("webhook.max_response", ["1023 B", "1 KiB", "16 MiB", "16777217 B"]),
    ("webhook.max_response_head", ["8191 B", "8 KiB", "1 MiB", "1048577 B"]),
    ("webhook.max_response_headers", ["0", "1", "1000", "1001"]),
    ("webhook.max_idle_per_host", ["", "0", "1000", "1001"]),
    ("webhook.idle_timeout", ["999ms", "1s", "10m", "600001ms"]),
    ("webhook.max_lookups", ["0", "1", "256", "257"]),
    ("shutdown.grace", ["", "0s", "1h", "3600001ms"]),
];

#[test]
fn every_bound_is_kept_from_both_sides_and_named() {
    for (key, [below, least, most, above]) in BOUNDS {
        let variable = format!("CIM_{}", key.replace('.', "__").to_uppercase());
        for value in [least, most] {
            with([(&variable, value)]).unwrap_or_else(|e| panic!("{e}"));
        }
        for value in [below, above] {
            if !value.is_empty() {
                let error = error([(&variable, value)]);
                assert!(error.starts_with(&format!("{key} must be between ")), "{error}");
                assert!(error.ends_with(&format!(", got {value} ({variable})")), "{error}");
            }
        }
    }
}

#[test]
fn every_bound_stands_in_the_comment_of_its_key() {
    let mut comment = String::new();
    let mut section = "";
    let mut comments = BTreeMap::new();
    for line in DEFAULTS.lines() {
        match (line.strip_prefix("# "), line.split_once(" = ")) {
            (Some(words), _) => comment = format!("{comment} {words}"),
            (None, Some((key, _))) => drop(comments.insert(format!("{section}.{key}"), std::mem::take(&mut comment))),
            (None, None) => {
                section = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')).unwrap_or(section);
                comment.clear();
            }
        }
    }
    for (key, [_, least, most, _]) in BOUNDS {
        assert!(comments[key].contains(&format!("{least} to {most}")), "{key}: {}", comments[key]);
    }
}

#[test]
fn an_error_names_the_key_the_bound_what_was_given_and_where() {
    assert_eq!(
        error([("CIM_LIMITS__MESSAGE", "20 MiB")]),
        "limits.message must be between 1 KiB and 16 MiB, got 20 MiB (CIM_LIMITS__MESSAGE)"
    );
    assert_eq!(
        with_file("[limits]\nmessage = \"20 MiB\"").unwrap_err().to_string(),
        "limits.message must be between 1 KiB and 16 MiB, got 20 MiB (gateway.toml)"
    );
}

#[test]
fn everything_that_is_wrong_is_reported_at_once() {
    let file = r#"
        grpc = 5
        color = "red"
        [http]
        accepted_status = 204
        listen = "localhost:8080"
        [http.cors]
        allowed_origins = ["https://a.example/", "*"]
        [feed]
        heartbeat = 15
        max_streams = "many"
        [limits]
        mesage = "2 MiB"
        message = 1048576
        id = "256"
        [auth]
        insecure = "yes"
        [inbox.reused_id]
        http = "Renew"
        [log]
        level = "warning"
    "#;
    insta::assert_snapshot!(with_file(file).unwrap_err(), @r#"
    color is not known (gateway.toml)
    grpc is a section, not a value, got 5 (gateway.toml)
    limits.mesage is not known, did you mean limits.message? (gateway.toml)
    http.listen needs an address and a port, such as "127.0.0.1:8080", got "localhost:8080" (gateway.toml)
    http.accepted_status must be 202 or 200, got 204 (gateway.toml)
    http.cors.allowed_origins needs "*" to stand alone, got ["https://a.example/", "*"] (gateway.toml)
    http.cors.allowed_origins needs origins as browsers send them, such as "https://desk.example.org", got "https://a.example/" (gateway.toml)
    inbox.reused_id.http must be "renew" or "reject", got "Renew" (gateway.toml)
    feed.heartbeat needs a time with its unit, such as "30s", got 15 (gateway.toml)
    feed.max_streams needs a whole number, got "many" (gateway.toml)
    limits.message needs a size with its unit, such as "1 MiB", got 1048576 (gateway.toml)
    limits.id needs a size with its unit, such as "1 MiB", got "256" (gateway.toml)
    auth.insecure must be true or false, got "yes" (gateway.toml)
    log.level needs a level, such as "info" or "info,cim_gateway=debug", got "warning" (gateway.toml)
    "#);
}

#[test]
fn a_variable_that_sets_nothing_is_an_error_that_says_which_may_be_meant() {
    insta::assert_snapshot!(error([
        ("CIM_HTTP_LISTEN", "127.0.0.1:9090"),
        ("CIM_HTTP__CORS", "[]"),
        ("CIM_COLOR", "red"),
        ("CIM_HTTP__CORS__ALLOWED_ORIGINS", "https://a.example"),
    ]), @r#"
    CIM_HTTP_LISTEN is not known, did you mean CIM_HTTP__LISTEN?
    CIM_HTTP__CORS is a section, set the keys in it, such as CIM_HTTP__CORS__ALLOWED_ORIGINS
    CIM_COLOR is not known
    http.cors.allowed_origins needs a list, such as ["https://desk.example.org"], got "https://a.example" (CIM_HTTP__CORS__ALLOWED_ORIGINS)
    "#);
}

#[test]
fn a_bare_number_is_neither_a_time_nor_a_size() {
    for (key, value) in [("CIM_FEED__HEARTBEAT", "15"), ("CIM_SHUTDOWN__GRACE", "0"), ("CIM_LIMITS__ID", "256")] {
        let error = error([(key, value)]);
        assert!(error.contains("with its unit, such as"), "{error}");
    }
}

#[test]
fn a_file_that_is_no_toml_or_not_there_is_one_sentence() {
    assert_eq!(
        with_file("[feed]\nheartbeat = 15s").unwrap_err().to_string(),
        "gateway.toml is not TOML at line 2, column 13: string values must be quoted, expected literal string"
    );
    let missing = Config::load(Some(Path::new("/nowhere/gateway.toml")), std::iter::empty()).unwrap_err();
    assert_eq!(missing.to_string(), "/nowhere/gateway.toml cannot be read: No such file or directory (os error 2)");
}

#[test]
fn without_credentials_only_loopback_addresses_are_bound() {
    for address in ["127.0.0.1:0", "127.8.8.8:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
        with([("CIM_GRPC__LISTEN", address), ("CIM_HTTP__LISTEN", "127.0.0.1:2")]).unwrap_or_else(|e| panic!("{e}"));
    }
    for address in ["0.0.0.0:1", "[::]:1", "192.168.0.1:1", "[::ffff:10.0.0.1]:1"] {
        for key in ["CIM_GRPC__LISTEN", "CIM_HTTP__LISTEN"] {
            let error = error([(key, address)]);
            assert!(error.contains("auth.insecure = true"), "{error}");
            with([(key, address), ("CIM_AUTH__INSECURE", "true")]).unwrap_or_else(|e| panic!("{e}"));
        }
    }
}

#[test]
fn keys_do_not_cross_a_network_in_plain_text_unless_that_is_meant() {
    let keys = ("CIM_AUTH__KEYS_FILE", "keys.toml");
    let network = ("CIM_HTTP__LISTEN", "0.0.0.0:1");
    let told = error([keys, network]);
    assert!(told.contains("keys would come in plain text") && told.contains("auth.cleartext = true"), "{told}");
    with([keys, network, ("CIM_AUTH__CLEARTEXT", "true")]).unwrap_or_else(|e| panic!("{e}"));
    with([keys, network, ("CIM_TLS__CERTIFICATE", "c.pem"), ("CIM_TLS__KEY", "k.pem")]).unwrap_or_else(|e| panic!("{e}"));
    let told = error([keys, ("CIM_AUTH__INSECURE", "true")]);
    assert!(told.starts_with("auth.insecure must be false, because auth.keys_file is set"), "{told}");
}

#[test]
fn tls_needs_a_certificate_and_its_key() {
    let told = error([("CIM_TLS__CERTIFICATE", "c.pem")]);
    assert_eq!(told, "tls.key is needed, because c.pem is set");
    let told = error([("CIM_TLS__CLIENT_CA", "ca.pem")]);
    assert_eq!(told, "tls.certificate is needed, because tls.client_ca is ca.pem");
}

#[test]
fn two_listeners_cannot_share_an_address() {
    let error = error([("CIM_GRPC__LISTEN", "127.0.0.1:8080")]);
    assert_eq!(error, "http.listen must differ from grpc.listen, got 127.0.0.1:8080 for both");
    with([("CIM_GRPC__LISTEN", "127.0.0.1:0"), ("CIM_HTTP__LISTEN", "127.0.0.1:0")]).unwrap_or_else(|e| panic!("{e}"));
}

#[test]
fn the_store_has_room_for_two_messages() {
    let error = error([("CIM_LIMITS__MESSAGE", "16 MiB"), ("CIM_STORE__MEMORY__MAX_BYTES", "31 MiB")]);
    assert_eq!(
        error,
        "store.memory.max_bytes must be at least twice limits.message, which is 16 MiB, got 31 MiB (CIM_STORE__MEMORY__MAX_BYTES)"
    );
}

#[test]
fn the_settings_of_the_embedded_store_fit_each_other() {
    let error = error([("CIM_STORE__EMBEDDED__MAX_BYTES", "256 MiB"), ("CIM_STORE__EMBEDDED__SEGMENT", "128 MiB")]);
    assert!(error.starts_with("store.embedded.max_bytes must be at least four times store.embedded.segment"), "{error}");
    let error = self::error([("CIM_STORE__EMBEDDED__MAX_AGE", "2days"), ("CIM_STORE__EMBEDDED__MIN_AGE", "3days")]);
    assert!(error.starts_with("store.embedded.min_age must not be longer than store.embedded.max_age"), "{error}");
    let error = self::error([("CIM_STORE__EMBEDDED__DATA_DIR", "")]);
    assert!(error.starts_with("store.embedded.data_dir needs the path of a folder"), "{error}");
}

#[test]
fn networks_are_needed_as_they_are_compared() {
    let networks = with([("CIM_WEBHOOK__ALLOW", r#"["127.0.0.1/32", "::1/128", "fd00::/8"]"#)]).unwrap().webhook.allow;
    assert_eq!(networks, ["127.0.0.1/32", "::1/128", "fd00::/8"].map(|network| network.parse().unwrap()));
    insta::assert_snapshot!(error([("CIM_WEBHOOK__ALLOW", r#"["10.0.0.0", "10.0.0.0/8", "10.0.0.0/33", "::ffff:10.0.0.0/104"]"#)]), @r#"
    webhook.allow needs networks, such as "10.0.0.0/8" or "fd12:3456::/32", got "10.0.0.0" (CIM_WEBHOOK__ALLOW)
    webhook.allow needs networks, such as "10.0.0.0/8" or "fd12:3456::/32", got "10.0.0.0/33" (CIM_WEBHOOK__ALLOW)
    webhook.allow needs networks, such as "10.0.0.0/8" or "fd12:3456::/32", got "::ffff:10.0.0.0/104" (CIM_WEBHOOK__ALLOW)
    "#);
}

#[test]
fn a_certificate_and_its_key_come_together() {
    let alone = [
        (("CIM_WEBHOOK__TLS__CLIENT_CERTIFICATE", "a.pem"), "webhook.tls.client_key is needed, because a.pem is set"),
        (("CIM_WEBHOOK__TLS__CLIENT_KEY", "a.key"), "webhook.tls.client_certificate is needed, because a.key is set"),
    ];
    for (variable, sentence) in alone {
        assert_eq!(error([variable]), sentence);
    }
}

#[test]
fn origins_are_in_the_spelling_of_browsers() {
    for origin in ["https://a.example", "http://localhost:3000", "http://127.0.0.1", "http://[::1]:8080", "app-x://desk"] {
        assert!(is_origin(origin), "{origin}");
    }
    let others = [
        "a.example",
        "https://",
        "https://a.example/",
        "https://A.example",
        "HTTPS://a.example",
        "https://a.example:443",
        "http://a:80",
        "https://a.example:",
        "https://a.example:x",
        "https://u@a.example",
        "https://a b",
        "https://[::1",
        "://a",
        "https://*.example",
        "",
    ];
    for origin in others {
        assert!(!is_origin(origin), "{origin}");
    }
}

#[test]
fn a_level_that_would_silence_the_log_is_refused() {
    for level in ["info", "WARN", "off", "info,cim_gateway::grpc=debug", "warn,h2=off", "error,[{peer}]=trace"] {
        assert!(is_filter(level), "{level}");
    }
    for level in ["warning", "", "verbose", "info,", "cim_gateway", "info,cim_gateway=loud"] {
        assert!(!is_filter(level), "{level}");
    }
}
