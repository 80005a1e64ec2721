//! The operator's commands from outside: the real executable, and a real gateway beside it where a command works online.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// How a command ended.
#[derive(Debug)]
struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Ran {
    /// What it printed, having succeeded.
    fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.out
    }

    /// What it printed, having failed as a command fails.
    fn failed(self) -> Self {
        assert_eq!(self.code, Some(1), "{self:?}");
        self
    }
}

/// `cim-gateway` in an environment without settings, with files of the log as small as they may be.
fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cim-gateway"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CIM_") {
            command.env_remove(name);
        }
    }
    command.env("CIM_STORE__EMBEDDED__SEGMENT", "1 MiB").env("CIM_STORE__EMBEDDED__MIN_FREE", "0 B").args(args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run_with(args: &[&str], input: &str) -> Ran {
    let mut child = command(args).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    // Beside the command, which may fill its output first; one that does not read its input closes it.
    let writing = std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
    let output = child.wait_with_output().unwrap();
    writing.join().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

fn run(args: &[&str]) -> Ran {
    run_with(args, "")
}

/// A folder of a test's own.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }
}

/// A gateway that serves.
struct Gateway {
    child: Child,
    grpc: String,
}

impl Gateway {
    fn start(data_dir: &str) -> Self {
        let mut command = command(&["serve", "--data-dir", data_dir]);
        command.env("CIM_GRPC__LISTEN", "127.0.0.1:0").env("CIM_HTTP__LISTEN", "127.0.0.1:0").env("CIM_LOG__FORMAT", "json");
        let mut child = command.stdout(Stdio::null()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut told = |what: &str| log.by_ref().map_while(Result::ok).find(|line| line.contains(what));
        let up = told("\"listening\"").expect("the gateway says where it is");
        assert!(told("the gateway is up").is_some());
        let fields: serde_json::Value = serde_json::from_str(&up).unwrap();
        let address = fields.get("grpc").or_else(|| fields["fields"].get("grpc")).and_then(serde_json::Value::as_str);
        let grpc = format!("http://{}", address.unwrap_or_else(|| panic!("{up}")));
        // What it says later must not fill the pipe.
        std::thread::spawn(move || log.for_each(drop));
        Self { child, grpc }
    }

    /// Sends what the customer says, and returns the cursor of it.
    fn send(&self, id: &str, text: &str) -> String {
        let told = run_with(&["send", "--to", &self.grpc, "-"], &message(id, text)).ok();
        told.trim().rsplit_once("cursor ").unwrap_or_else(|| panic!("{told}")).1.to_owned()
    }

    /// The ids of the first messages after a cursor.
    fn after(&self, cursor: &str, count: usize) -> Vec<String> {
        let mut child = command(&["tail", "--server", &self.grpc, "--json", "--from", cursor]).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap).take(count);
        let id = |line: String| serde_json::from_str::<serde_json::Value>(&line).unwrap()["message"]["id"].clone();
        let ids = lines.map(|line| id(line).as_str().unwrap().to_owned()).collect();
        child.kill().unwrap();
        child.wait().unwrap();
        ids
    }

    fn stop(mut self) {
        let stopped = Command::new("kill").arg(self.child.id().to_string()).status().unwrap();
        assert!(stopped.success() && self.child.wait().unwrap().success());
    }

    /// Ends it as a power loss would, but for the system's memory.
    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn message(id: &str, text: &str) -> String {
    serde_json::json!({
        "id": id,
        "header": {
            "sender": { "id": "s", "type": "CONNECTOR", "senderName": "Connector" },
            "channelData": { "channelCustomerIdentifier": "+49 1", "serviceIdentifier": "support" },
            "timestamp": 1_700_000_000_000_u64,
        },
        "body": { "type": "PLAIN", "markdownText": text },
    })
    .to_string()
}

/// A message for every type of body that the fixtures have, each on a line.
fn every_body() -> String {
    let mut lines = String::new();
    let mut bodies = 0;
    let mut files: Vec<_> = std::fs::read_dir("tests/fixtures/json/body").unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    for path in files.iter().filter(|path| path.to_string_lossy().ends_with(".in.json")) {
        let fixture: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let name = path.file_name().unwrap().to_string_lossy().replace(".in.json", "");
        let mut message: serde_json::Value = serde_json::from_str(&message(&name, "")).unwrap();
        message["body"] = fixture["body"].clone();
        match name.as_str() {
            // The fixtures try what is read, not what is accepted or kept.
            "contact" => message["body"]["contacts"][1]["name"] = serde_json::json!({ "formattedName": "B" }),
            "notification" => message["body"]["notificationType"] = "INFO".into(),
            _ => {}
        }
        // With a number that no double holds, and a key that nobody documented.
        message["header"]["customer"] =
            serde_json::json!({ "_id": "c7", "score": 9_007_199_254_740_993_u64, "ours": [null, 1.5] });
        lines.push_str(&format!("{message}\n"));
        bodies += 1;
    }
    assert!(bodies >= 25, "{bodies} bodies");
    lines
}

/// The files of the log of a store, oldest first.
fn segments(data_dir: &str) -> Vec<PathBuf> {
    let files = std::fs::read_dir(Path::new(data_dir).join("log")).unwrap().map(|file| file.unwrap().path());
    let mut files: Vec<_> = files.filter(|path| path.extension().is_some_and(|extension| extension == "log")).collect();
    files.sort();
    files
}

/// Messages that fill several files of the log.
fn large(count: usize) -> String {
    (0..count).map(|i| format!("{}\n", message(&format!("large-{i}"), &"x".repeat(400_000)))).collect()
}

#[test]
fn a_backup_of_a_running_gateway_is_restored_and_cursors_of_what_is_gone_are_refused() {
    let folder = Folder::new();
    let [data, backup, restored] = ["data", "backup", "restored"].map(|name| folder.path(name));
    let gateway = Gateway::start(&data);
    gateway.send("m1", "one");
    let second = gateway.send("m2", "two");
    let third = gateway.send("m3", "three");
    let told = run(&["backup", "--data-dir", &data, &backup]).ok();
    assert!(told.starts_with("positions 1 to 4, "), "{told}");
    let lost = gateway.send("m4", "four");
    gateway.kill();

    let told = run(&["restore", "--data-dir", &restored, &backup]).ok();
    assert!(told.starts_with("positions 1 to 4, "), "{told}");
    assert!(run(&["fsck", "--data-dir", &restored]).ok().starts_with("sound: positions 1 to 4, "));
    let gateway = Gateway::start(&restored);
    for _ in 0..2 {
        assert_eq!(gateway.after(&second, 1), ["m3"]);
        let refused = run(&["tail", "--server", &gateway.grpc, "--from", &lost]).failed();
        assert!(refused.err.contains("CURSOR_UNKNOWN"), "{}", refused.err);
        // Another message stands where the lost one stood: that changes nothing.
        gateway.send("m5", "five");
    }
    assert_eq!(gateway.after(&third, 1), ["m5"]);
    gateway.stop();
    assert!(run(&["fsck", "--data-dir", &restored]).ok().starts_with("sound: positions 1 to 5, "));
}

#[test]
fn what_is_not_empty_or_no_store_is_left_alone() {
    let folder = Folder::new();
    let [data, full] = ["data", "full"].map(|name| folder.path(name));
    run_with(&["import", "--data-dir", &data, "-"], &message("m1", "one")).ok();
    std::fs::create_dir(&full).unwrap();
    std::fs::write(Path::new(&full).join("thesis.txt"), "mine").unwrap();
    for args in [["backup", "--data-dir", &data, &full], ["restore", "--data-dir", &full, &data]] {
        assert_eq!(run(&args).failed().err, format!("cim-gateway: {full} is not empty\n"), "{args:?}");
    }
    let none = format!("cim-gateway: {full} holds no store: it has no control.db\n");
    let target = folder.path("target");
    for args in [
        &["fsck", "--data-dir", &full][..],
        &["fsck", "--salvage", "--data-dir", &full],
        &["reindex", "--data-dir", &full],
        &["export", "--data-dir", &full],
        &["backup", "--data-dir", &full, &target],
        &["restore", "--data-dir", &target, &full],
    ] {
        assert_eq!(run(args).failed().err, none, "{args:?}");
    }
    assert_eq!(std::fs::read_dir(&full).unwrap().count(), 1, "nothing is made in it");
}

#[test]
fn a_store_in_use_is_told_as_such() {
    let folder = Folder::new();
    let data = folder.path("data");
    let gateway = Gateway::start(&data);
    gateway.send("m1", "one");
    for command in [&["fsck"][..], &["fsck", "--salvage"], &["reindex"], &["import", "-"]] {
        let args = [command, &["--data-dir", &data]].concat();
        assert_eq!(run(&args).failed().err, format!("cim-gateway: {data} is in use by another process\n"), "{args:?}");
    }
    gateway.stop();
    run(&["fsck", "--data-dir", &data]).ok();
}

#[test]
fn damage_is_found_with_its_place_and_the_rest_is_salvaged() {
    let folder = Folder::new();
    let data = folder.path("data");
    run_with(&["import", "--data-dir", &data, "-"], &large(12)).ok();
    let files = segments(&data);
    assert!(files.len() > 4, "{files:?}");
    let sound = run(&["fsck", "--data-dir", &data]).ok();
    assert!(sound.starts_with("sound: positions 1 to 13, "), "{sound}");

    let damaged = &files[1];
    let mut bytes = std::fs::read(damaged).unwrap();
    bytes[1000] ^= 4;
    std::fs::write(damaged, &bytes).unwrap();
    let name = damaged.file_name().unwrap().to_str().unwrap();
    let found = run(&["fsck", "--data-dir", &data]).failed();
    assert!(found.out.starts_with(&format!("damage: log/{name}, byte 512: ")), "{}", found.out);
    assert!(found.out.contains(" lost; --salvage keeps what is whole\n"), "{}", found.out);
    assert!(found.out.contains("\ndamaged: positions 1 to 13, "), "{}", found.out);
    assert!(!found.out.contains("index.db"), "the index is not to blame: {}", found.out);
    assert_eq!(std::fs::read(damaged).unwrap(), bytes, "nothing is changed unless it is asked for");

    let salvaged = run(&["fsck", "--salvage", "--data-dir", &data]);
    assert!(salvaged.out.contains(&format!("    log/{name} is written anew\n")), "{}", salvaged.out);
    assert!(salvaged.out.contains("    a new epoch begins at position 14; "), "{}", salvaged.out);
    let salvaged = salvaged.ok();
    let lost =
        salvaged.lines().find(|line| line.ends_with("lost") && line.starts_with("    position")).expect("says what is lost");
    let lost: Vec<usize> = lost.split(' ').filter_map(|word| word.parse().ok()).collect();
    let lost = lost.last().unwrap() - lost[0] + 1;
    let kept_in = salvaged.lines().find_map(|line| line.strip_prefix("    the former files are in ")).expect("says where");
    assert_eq!(std::fs::read(Path::new(kept_in).join(name)).unwrap(), bytes);
    assert!(run(&["fsck", "--data-dir", &data]).ok().starts_with("sound: positions 1 to 13, "));

    let exported = run(&["export", "--data-dir", &data]).ok();
    assert_eq!(exported.lines().count(), 13 - lost);
    let gateway = Gateway::start(&data);
    gateway.send("m1", "one");
    gateway.stop();
    assert!(run(&["fsck", "--data-dir", &data]).ok().starts_with("sound: positions 1 to 14, "));
}

#[test]
fn a_damaged_index_is_found_and_made_again() {
    let folder = Folder::new();
    let data = folder.path("data");
    run_with(&["import", "--data-dir", &data, "-"], &every_body()).ok();
    let index = Path::new(&data).join("index.db");
    let mut bytes = std::fs::read(&index).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 4096].fill(0xa5);
    std::fs::write(&index, bytes).unwrap();
    let found = run(&["fsck", "--data-dir", &data]).failed();
    assert!(found.out.starts_with("damage: index.db: "), "{}", found.out);
    assert!(found.out.contains("no message is lost by this; `cim-gateway reindex`"), "{}", found.out);
    let told = run(&["reindex", "--data-dir", &data]).ok();
    assert!(told.starts_with("indexed up to position "), "{told}");
    run(&["fsck", "--data-dir", &data]).ok();

    let ids = std::fs::read_dir(Path::new(&data).join("index.db-ids")).unwrap();
    let ids = ids.map(|file| file.unwrap().path()).max().expect("there is a run");
    let mut bytes = std::fs::read(&ids).unwrap();
    bytes[5000] ^= 1;
    std::fs::write(&ids, bytes).unwrap();
    let found = run(&["fsck", "--data-dir", &data]).failed();
    assert!(found.out.contains("damage: index.db: the index is damaged: index.db-ids/"), "{}", found.out);
    assert!(found.out.contains(" is damaged in page 1"), "{}", found.out);
    run(&["reindex", "--data-dir", &data]).ok();
    run(&["fsck", "--data-dir", &data]).ok();
}

#[test]
fn a_suggestion_that_is_exported_and_imported_is_still_not_for_the_customer() {
    let folder = Folder::new();
    let [first, second] = ["first", "second"].map(|name| folder.path(name));
    let suggestion = message("m1", "hint").replace("\"CONNECTOR\"", "\"BOT\"");
    assert!(suggestion.contains("BOT"), "{suggestion}");
    run_with(&["import", "--data-dir", &first, "-"], &suggestion).ok();
    let lines = run(&["export", "--data-dir", &first]).ok();
    assert!(!lines.contains("gatewayAudiences"), "who says it tells it: {lines}");
    // As if only the platform were to see it.
    let suggested = lines.replace("}}\n", "},\"gatewayAudiences\":[\"PLATFORM\"]}\n");
    let suggested: String = suggested.lines().filter(|line| line.contains("\"m1\"")).map(|line| format!("{line}\n")).collect();
    assert!(suggested.contains("gatewayAudiences"), "{suggested}");
    run_with(&["import", "--data-dir", &second, "-"], &suggested).ok();
    assert_eq!(run(&["export", "--data-dir", &second]).ok(), suggested);
}

#[test]
fn what_is_exported_imported_and_exported_again_is_the_same() {
    let folder = Folder::new();
    let [first, second] = ["first", "second"].map(|name| folder.path(name));
    let sent = every_body();
    let told = run_with(&["import", "--data-dir", &first, "-"], &sent);
    assert_eq!(told.err, "");
    told.ok();
    let exported = run(&["export", "--data-dir", &first]).ok();
    let types = |lines: &str| -> Vec<String> {
        let r#type = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["body"]["type"].to_string();
        let mut types: Vec<_> = lines.lines().map(r#type).collect();
        types.sort();
        types.dedup();
        types
    };
    assert_eq!(types(&exported), types(&sent));
    let count = exported.lines().count();
    assert!(count > sent.lines().count(), "the notice that a session was opened is exported, too");

    let told = run_with(&["import", "--data-dir", &second, "-"], &exported).ok();
    assert_eq!(told, format!("{count} messages imported, 0 skipped that were there already, 0 bad lines\n"));
    assert_eq!(run(&["export", "--data-dir", &second]).ok(), exported);
    let told = run_with(&["import", "--data-dir", &second, "-"], &exported).ok();
    assert_eq!(told, format!("0 messages imported, {count} skipped that were there already, 0 bad lines\n"));
    assert_eq!(run(&["export", "--data-dir", &second]).ok(), exported);
    for data in [&first, &second] {
        run(&["fsck", "--data-dir", data]).ok();
    }
}

#[test]
fn sessions_conversations_and_customers_live_on_where_they_are_imported() {
    let folder = Folder::new();
    let [first, second] = ["first", "second"].map(|name| folder.path(name));
    let field = |line: &str, key: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["header"][key].clone();
    let end = |id: &str| {
        let mut end: serde_json::Value = serde_json::from_str(&message(id, "")).unwrap();
        end["header"]["intent"] = "END_CHAT".into();
        end.to_string()
    };
    // One session that has ended, and one that is active.
    let lines = [message("m1", "one"), end("m2"), message("m3", "three")].join("\n");
    run_with(&["import", "--data-dir", &first, "-"], &lines).ok();
    let exported = run(&["export", "--data-dir", &first]).ok();
    run_with(&["import", "--data-dir", &second, "-"], &exported).ok();
    let gateway = Gateway::start(&second);
    gateway.send("m4", "four");
    gateway.stop();
    let all = run(&["export", "--data-dir", &second]).ok();
    let added: Vec<_> = all.lines().skip(exported.lines().count()).collect();
    let third = exported.lines().last().unwrap();
    assert_eq!(field(added[0], "channelSessionId"), field(third, "channelSessionId"), "it goes on in the active session");
    assert_ne!(field(added[0], "channelSessionId"), field(exported.lines().next().unwrap(), "channelSessionId"));
    assert_eq!(field(added[0], "customer")["_id"], field(third, "customer")["_id"]);
}

#[test]
fn every_bad_line_is_told_and_nothing_of_it_is_stored() {
    let folder = Folder::new();
    let data = folder.path("data");
    let mut kept: serde_json::Value = serde_json::from_str(&message("m3", "three")).unwrap();
    kept["header"]["channelSessionId"] = "s1".into();
    kept["header"]["conversationId"] = "c1".into();
    kept["header"]["customer"] = serde_json::json!({ "_id": "k1" });
    let mut elsewhere = kept.clone();
    elsewhere["id"] = "m4".into();
    elsewhere["header"]["channelData"]["channelCustomerIdentifier"] = "+49 2".into();
    let mut other = kept.clone();
    other["body"]["markdownText"] = "other".into();
    let lines =
        format!("{}\n{{\n\n{{\"id\":\"m2\"}}\n{kept}\n{elsewhere}\n{other}\n{}\n", message("m1", "one"), message("m1", "two"));
    let ran = run_with(&["import", "--data-dir", &data, "-"], &lines).failed();
    assert_eq!(ran.out, "2 messages imported, 0 skipped that were there already, 5 bad lines\n");
    let mut numbers: Vec<_> = ran.err.lines().map(|line| line.split(": ").next().unwrap()).collect();
    numbers.dedup();
    let expected = ["standard input:2", "standard input:4", "standard input:6", "standard input:7", "standard input:8"];
    assert_eq!(numbers, expected, "{}", ran.err);
    assert!(
        ran.err.contains("standard input:6: header.channelSessionId: ") && ran.err.contains("(CONFLICTING_ROUTE)"),
        "{}",
        ran.err
    );
    assert!(ran.err.contains("standard input:7: id: \"m3\" is the id of another message\n"), "{}", ran.err);
    let exported = run(&["export", "--data-dir", &data]).ok();
    assert_eq!(exported.lines().count(), 3, "two messages and a notice: {exported}");
}

#[test]
fn a_running_gateway_is_exported_from_a_cursor_or_a_time() {
    let folder = Folder::new();
    let data = folder.path("data");
    let gateway = Gateway::start(&data);
    let first = gateway.send("m1", "one");
    gateway.send("m2", "two");
    let ids = |ran: Ran| -> Vec<String> {
        let id = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["id"].as_str().unwrap().to_owned();
        ran.ok().lines().map(id).collect()
    };
    let all = run(&["export", "--data-dir", &data]);
    let cursor = all.err.trim().rsplit_once("--from ").expect("says where to go on").1.to_owned();
    assert_eq!(all.err, format!("3 messages; go on with --from {cursor}\n"));
    assert_eq!(ids(all)[1..], ["m1", "m2"]);
    assert_eq!(ids(run(&["export", "--data-dir", &data, "--from", &first])), ["m2"]);
    assert_eq!(ids(run(&["export", "--data-dir", &data, "--from", &cursor])), [""; 0]);
    gateway.send("m3", "three");
    assert_eq!(ids(run(&["export", "--data-dir", &data, "--from", &cursor])), ["m3"]);
    assert_eq!(ids(run(&["export", "--data-dir", &data, "--since", "2020-01-31T08:00:00Z"])).len(), 4);
    assert_eq!(ids(run(&["export", "--data-dir", &data, "--since", "2920-01-31T08:00:00Z"])), [""; 0]);
    gateway.stop();
    let last = run(&["export", "--data-dir", &data]);
    let end = last.err.trim().rsplit_once("--from ").expect("says where to go on").1.to_owned();
    assert_eq!(ids(run(&["export", "--data-dir", &data, "--from", &end])), [""; 0]);
    // Of another store, and beyond the end.
    let other = folder.path("other");
    run_with(&["import", "--data-dir", &other, "-"], &message("m1", "one")).ok();
    let refused = run(&["export", "--data-dir", &other, "--from", &end]).failed();
    assert!(refused.err.starts_with("cim-gateway: the cursor is unknown"), "{}", refused.err);
}

#[test]
fn wrong_usage_is_told_as_such() {
    for args in [
        &["backup"][..],
        &["restore"],
        &["import"],
        &["export", "--from", "nonsense"],
        &["export", "--since", "noon"],
        &["fsck", "--salvage=maybe"],
    ] {
        assert_eq!(run(args).code, Some(64), "{args:?}");
    }
    for command in ["fsck", "reindex", "backup", "restore", "export", "import"] {
        assert!(run(&[command, "--help"]).ok().contains("Example"), "{command}");
    }
}
