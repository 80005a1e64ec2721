//! The documented JSON against a floor: what `serde_json` needs to read the same bytes as a `Value` and write them again.
//!
//! `cargo bench --bench wire` prints, for the typical message and for every body type, the rate of decoding, of encoding and of both,
//! each as a multiple of the floor's rate in the same round. Rounds of ours and of the floor take turns and the median ratio counts,
//! so that a machine whose speed drifts still gives the same answer.

use cim_gateway::wire;
use serde_json::Value;
use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

/// Nesting that the samples stay within.
const DEPTH: usize = 64;

/// How long one measurement of one round takes.
const SLICE: Duration = Duration::from_millis(15);

/// Rounds of which the median counts.
const ROUNDS: usize = 15;

fn main() {
    // `cargo bench -- --quick`, for a check that it still runs.
    let rounds = if std::env::args().any(|argument| argument == "--quick") { 1 } else { ROUNDS };
    println!("{:<22} {:>6} {:>10} {:>8} {:>8} {:>8}", "", "", "round trip", "decode", "encode", "both");
    println!("{:<22} {:>6} {:>10} {:>8} {:>8} {:>8}", "message", "bytes", "ns", "x floor", "x floor", "x floor");
    for (name, json) in samples() {
        let Figures { round_trip_ns, decode, encode, both } = measure(&json, rounds);
        println!("{name:<22} {:>6} {round_trip_ns:>10.0} {decode:>8.2} {encode:>8.2} {both:>8.2}", json.len());
    }
}

/// Rates as multiples of the floor's, and what a round trip takes.
struct Figures {
    round_trip_ns: f64,
    decode: f64,
    encode: f64,
    both: f64,
}

fn measure(json: &[u8], rounds: usize) -> Figures {
    let message = decode(json);
    let value = parse(json);
    let (mut round_trips, mut decodes, mut encodes, mut boths) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let ours = time(|| decode(black_box(json)));
        decodes.push(time(|| parse(black_box(json))) / ours);
        let ours = time(|| wire::encode(black_box(&message)));
        encodes.push(time(|| print(black_box(&value))) / ours);
        let ours = time(|| wire::encode(&decode(black_box(json))));
        boths.push(time(|| print(&parse(black_box(json)))) / ours);
        round_trips.push(ours);
    }
    Figures { round_trip_ns: median(round_trips), decode: median(decodes), encode: median(encodes), both: median(boths) }
}

fn decode(json: &[u8]) -> cim_gateway::pb::CimMessage {
    let decoded = wire::decode(json, DEPTH).expect("the samples are JSON");
    assert!(decoded.violations.is_empty(), "the samples can be read");
    decoded.message
}

fn parse(json: &[u8]) -> Value {
    serde_json::from_slice(json).expect("the samples are JSON")
}

fn print(value: &Value) -> Vec<u8> {
    serde_json::to_vec(value).expect("a value can be written")
}

/// Nanoseconds that one call takes, over a slice of time.
fn time<T>(mut call: impl FnMut() -> T) -> f64 {
    let mut calls = 0_u32;
    let start = Instant::now();
    loop {
        for _ in 0..16 {
            black_box(call());
        }
        calls += 16;
        let spent = start.elapsed();
        if spent >= SLICE {
            return spent.as_nanos() as f64 / f64::from(calls);
        }
    }
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// The typical message, then the same with every other body that there is a fixture of.
fn samples() -> Vec<(String, Vec<u8>)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &Path| std::fs::read(path).expect("a sample can be read").trim_ascii().to_vec();
    let typical = read(&root.join("benches/plain.json"));
    let mut fixtures: Vec<_> =
        std::fs::read_dir(root.join("tests/fixtures/json/body")).expect("the fixtures are there").collect();
    fixtures.sort_by_key(|file| file.as_ref().map(std::fs::DirEntry::path).ok());
    let mut samples = vec![("plain, typical".to_owned(), typical.clone())];
    for file in fixtures {
        let path = file.expect("the fixtures can be listed").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // NAME.in.json and NAME.pb.json say the same in other words.
        let Some(name) = name.strip_suffix(".json").filter(|name| !name.contains('.')) else { continue };
        let mut message = decode(&typical);
        message.body = decode(&read(&path)).body;
        samples.push((name.to_owned(), wire::encode(&message)));
    }
    samples
}
