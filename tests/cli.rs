//! The command line from outside: what the executable prints, and how it exits.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// How a command ended.
struct Ran {
    code: Option<i32>,
    out: Vec<u8>,
    err: String,
}

impl Ran {
    /// What it printed, having succeeded.
    fn printed(self) -> Vec<u8> {
        assert_eq!(self.code, Some(0), "{}", self.err);
        assert_eq!(self.err, "");
        self.out
    }

    fn text(self) -> String {
        String::from_utf8(self.printed()).unwrap()
    }
}

/// Runs `cim-gateway` in an environment without settings.
fn run<'a>(args: impl IntoIterator<Item = &'a str>) -> Ran {
    run_with(args, [], b"")
}

fn run_with<'a, const COUNT: usize>(
    args: impl IntoIterator<Item = &'a str>,
    variables: [(&str, &str); COUNT],
    input: &[u8],
) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cim-gateway"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CIM_") {
            command.env_remove(name);
        }
    }
    command.args(args).envs(variables).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A command that does not read its input closes it: that is no failure of the test.
    let _ = child.stdin.take().unwrap().write_all(input);
    let output = child.wait_with_output().unwrap();
    Ran { code: output.status.code(), out: output.stdout, err: String::from_utf8(output.stderr).unwrap() }
}

/// A directory with one file `name`.
fn file(name: &str, content: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    std::fs::write(&path, content).unwrap();
    (dir, path)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// With a number that no double holds, an undocumented key, free-form JSON and a time.
const MESSAGE: &str = r#"{
    "id": "m-1",
    "header": {
        "sender": {"id": "s-1", "type": "CONNECTOR", "senderName": "WEB_CONNECTOR"},
        "channelData": {"channelCustomerIdentifier": "visitor-7", "serviceIdentifier": "widget-1"},
        "timestamp": 1769839200120,
        "entities": {"score": 9007199254740993},
        "ours": ["kept", 1.5, null]
    },
    "body": {"type": "PLAIN", "markdownText": "Grüße, \"world\""}
}"#;

fn transcode(from: &str, to: &str, input: &[u8]) -> Vec<u8> {
    run_with(["transcode", "--from", from, "--to", to], [], input).printed()
}

#[test]
fn a_message_survives_every_way_between_the_forms() {
    const FORMS: [&str; 3] = ["json", "proto", "protojson"];
    let canonical = transcode("json", "json", MESSAGE.as_bytes());
    assert!(String::from_utf8_lossy(&canonical).contains("9007199254740993"));
    for from in FORMS {
        for to in FORMS {
            let there = transcode(from, to, &transcode("json", from, MESSAGE.as_bytes()));
            assert_eq!(transcode(to, "json", &there), canonical, "{from} to {to}");
            assert_eq!(there.last() == Some(&b'\n'), to != "proto", "{from} to {to}");
        }
    }
}

#[test]
fn indented_json_is_the_same_message() {
    let canonical = transcode("json", "json", MESSAGE.as_bytes());
    let indented = run_with(["transcode", "--pretty"], [], MESSAGE.as_bytes()).printed();
    assert!(indented.starts_with(b"{\n  \"id\": \"m-1\",\n"));
    assert_eq!(transcode("json", "json", &indented), canonical);
}

#[test]
fn a_message_is_read_from_a_file_too() {
    let (_dir, path) = file("m.json", MESSAGE);
    assert_eq!(run(["transcode", text(&path)]).printed(), transcode("json", "json", MESSAGE.as_bytes()));
}

#[test]
fn json_of_any_real_depth_is_converted() {
    let json = format!("{{\"deep\":{}{}}}", "[".repeat(9_999), "]".repeat(9_999));
    let converted = transcode("json", "json", json.as_bytes());
    assert!(String::from_utf8(converted).unwrap().contains(&"[".repeat(9_999)));
}

#[test]
fn every_violation_of_what_is_converted_is_told() {
    let ran = run_with(["transcode"], [], br#"{"id": {}, "header": {"timestamp": "noon"}}"#);
    assert_eq!(ran.code, Some(1));
    assert_eq!(ran.out, b"");
    let lines: Vec<_> = ran.err.lines().collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].starts_with("standard input: id: ") && lines[0].ends_with(" (WRONG_TYPE)"), "{lines:?}");
    assert!(lines[1].starts_with("standard input: header.timestamp: "), "{lines:?}");
}

#[test]
fn what_is_no_message_at_all_is_one_sentence() {
    for (form, input) in [("json", &b"{"[..]), ("proto", b"\xff"), ("protojson", b"{}x")] {
        let ran = run_with(["transcode", "--from", form], [], input);
        assert_eq!((ran.code, ran.err.lines().count()), (Some(1), 1), "{}", ran.err);
    }
    let ran = run(["transcode", "/nowhere/m.json"]);
    assert_eq!(ran.code, Some(1));
    assert_eq!(ran.err, "/nowhere/m.json: cannot be read: No such file or directory (os error 2)\n");
}

#[test]
fn valid_messages_are_told_from_broken_ones() {
    let (_good_dir, good) = file("good.json", MESSAGE);
    let (_bad_dir, bad) = file("bad.json", r#"{"id": {}, "body": 5}"#);
    let ran = run(["validate", text(&good)]);
    assert_eq!(ran.text(), format!("{}: valid\n", text(&good)));
    let ran = run(["validate", text(&bad), text(&good)]);
    assert_eq!(ran.code, Some(1));
    assert_eq!(String::from_utf8(ran.out).unwrap(), format!("{}: valid\n", text(&good)));
    let places: Vec<_> = ran.err.lines().filter_map(|line| line.strip_prefix(&format!("{}: ", text(&bad)))).collect();
    for place in ["id: ", "body: ", "header: "] {
        assert!(places.iter().any(|line| line.starts_with(place) && line.ends_with(')')), "{place}: {places:?}");
    }
}

#[test]
fn messages_are_validated_within_the_limits_of_the_configuration() {
    let (_dir, path) = file("m.json", MESSAGE);
    let large = format!("{}{}", MESSAGE, " ".repeat(1024));
    let ran = run_with(["validate", "-"], [("CIM_LIMITS__MESSAGE", "1 KiB")], large.as_bytes());
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("needs at most 1 KiB"), "{}", ran.err);
    assert_eq!(run_with(["validate", text(&path)], [("CIM_LIMITS__MESSAGE", "1 KiB")], b"").code, Some(0));
}

#[test]
fn the_configuration_in_effect_is_printed_and_read_again() {
    let printed = run_with(["config"], [("CIM_FEED__HEARTBEAT", "7s")], b"").text();
    assert!(printed.contains("heartbeat = \"7s\""), "{printed}");
    let (_dir, path) = file("gateway.toml", &printed);
    assert_eq!(run(["config", "--config", text(&path)]).text(), printed);
    assert_eq!(run_with(["config"], [("CIM_CONFIG", text(&path))], b"").text(), printed);
}

#[test]
fn the_reference_is_printed_as_it_is() {
    assert_eq!(run(["config", "--reference"]).text(), include_str!("../config.default.toml"));
}

#[test]
fn a_configuration_is_checked_and_everything_wrong_with_it_told() {
    assert_eq!(run(["check-config"]).text(), "the configuration is valid\n");
    let (_dir, path) = file("gateway.toml", "[limits]\nmessage = \"20 MiB\"\n");
    let ran = run_with(["check-config", "--config", text(&path)], [("CIM_HTTP_LISTEN", "127.0.0.1:1")], b"");
    assert_eq!(ran.code, Some(64));
    assert_eq!(ran.out, b"");
    let expected = format!(
        "invalid configuration: CIM_HTTP_LISTEN is not known, did you mean CIM_HTTP__LISTEN?\n\
         invalid configuration: limits.message must be between 1 KiB and 16 MiB, got 20 MiB ({})\n",
        text(&path)
    );
    assert_eq!(ran.err, expected);
}

#[test]
fn declared_channels_are_checked_with_the_configuration_and_before_anything_is_served() {
    let declared = "[[channels.declared]]\nchannel_type = \"SMS\"\nservice_identifier = \"shop\"\n";
    let (_dir, right) = file("right.toml", declared);
    assert_eq!(run(["check-config", "--config", text(&right)]).text(), "the configuration is valid\n");
    assert!(run(["config", "--config", text(&right)]).text().contains(declared));
    let (_dir, wrong) = file("wrong.toml", &format!("{declared}connector = {{ uri = \"ftp://a.example\" }}\ncolour = \"red\"\n"));
    for command in ["check-config", "serve"] {
        let ran = run([command, "--config", text(&wrong)]);
        assert_eq!((ran.code, ran.out.as_slice()), (Some(64), &b""[..]), "{command}");
        let subjects: Vec<_> = ran.err.lines().filter_map(|line| line.split(' ').nth(2)).collect();
        assert_eq!(subjects, ["channels.declared[0].colour", "channels.declared[0].connector.uri"], "{}", ran.err);
    }
}

#[test]
fn a_wrong_configuration_is_not_served() {
    for args in [&["serve"][..], &[]] {
        let ran = run_with(args.iter().copied(), [("CIM_HTTP__LISTEN", "0.0.0.0:0")], b"");
        assert_eq!(ran.code, Some(64));
        assert!(ran.err.starts_with("invalid configuration: http.listen must be a loopback address"), "{}", ran.err);
    }
}

#[test]
fn shells_get_their_completions() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = run(["completions", shell]).text();
        assert!(script.contains("check-config"), "{shell}");
    }
}

#[test]
fn version_and_help_succeed() {
    assert_eq!(run(["--version"]).text(), format!("cim-gateway {}\n", env!("CARGO_PKG_VERSION")));
    assert!(run(["--help"]).text().contains("Examples:"));
    for command in ["serve", "send", "get", "tail", "health", "transcode", "validate"] {
        assert!(run([command, "--help"]).text().contains("Example"), "{command}");
    }
}

#[test]
fn wrong_usage_exits_with_64() {
    let wrong = [
        &["nonsense"][..],
        &["--nonsense"],
        &["send"],
        &["get"],
        &["validate"],
        &["completions", "tcsh"],
        &["transcode", "--from", "xml"],
        &["tail", "--server", "ftp://127.0.0.1:1"],
        &["tail", "--from", ""],
        &["--config", "gateway.toml", "config"],
    ];
    for args in wrong {
        let ran = run(args.iter().copied());
        assert_eq!(ran.code, Some(64), "{args:?}: {}", ran.err);
        assert!(ran.err.starts_with("error: ") && ran.out.is_empty(), "{args:?}: {}", ran.err);
    }
}

#[test]
fn a_reader_that_stops_reading_is_no_failure() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cim-gateway"));
    let mut child = command.args(["completions", "zsh"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn a_new_key_goes_to_its_holder_and_its_digest_to_the_file() {
    let ran = run(["new-key", "shop", "--role", "connector", "--service-identifier", "1122"]);
    assert_eq!(ran.code, Some(0));
    let table = String::from_utf8(ran.out).unwrap();
    let key = ran.err.trim_end().rsplit(' ').next().unwrap();
    assert!(key.starts_with("cim_") && !table.contains(key), "{table}");
    let (_dir, path) = file("keys.toml", &table);
    assert_eq!(run_with(["check-config"], [("CIM_AUTH__KEYS_FILE", text(&path))], b"").text(), "the configuration is valid\n");
    let unbound = run(["new-key", "shop", "--role", "connector"]);
    assert_eq!((unbound.code, unbound.out.len()), (Some(1), 0));
    assert!(unbound.err.contains("service_identifiers is required"), "{}", unbound.err);
}

#[test]
fn a_file_of_keys_that_is_wrong_is_told_with_every_error_and_no_key() {
    let (_dir, path) = file("keys.toml", "[[keys]]\nname = \"a\"\nrole = \"root\"\nsha256 = [\"cim_secret\"]\n");
    let ran = run_with(["check-config"], [("CIM_AUTH__KEYS_FILE", text(&path))], b"");
    assert_eq!(ran.code, Some(64));
    assert!(ran.err.contains("keys[0].role needs one of") && ran.err.contains("keys[0].sha256[0] needs"), "{}", ran.err);
    assert!(!ran.err.contains("cim_secret"), "{}", ran.err);
}
