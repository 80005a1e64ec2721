//! Any bytes: what is read as a message without a violation is written, read and normalised back to itself.

#![no_main]

use cim_gateway::wire::{self, Bounds};
use libfuzzer_sys::fuzz_target;
use serde::de::IgnoredAny;

const DEPTH: usize = 64;
const BOUNDS: Bounds = Bounds { free_form_depth: 24, list_length: 1_000 };

fuzz_target!(|bytes: &[u8]| {
    let Ok(decoded) = wire::decode(bytes, DEPTH) else { return };
    let text = wire::encode(&decoded.message);
    serde_json::from_slice::<IgnoredAny>(&text).expect("what is written is JSON");
    if !decoded.violations.is_empty() {
        return;
    }
    let message = decoded.message;
    // A bare text that stands for an object is written as the object: one container deeper.
    let again = wire::decode(&text, DEPTH + 1).expect("what is written can be read");
    assert!(again.violations.is_empty(), "what is written has no violations: {:?}", again.violations);
    assert_eq!(again.message, message, "what is written means the same");
    assert_eq!(wire::encode(&again.message), text, "what is written is a fixed point");
    let mut tidied = message.clone();
    wire::normalise(&mut tidied, &BOUNDS);
    assert_eq!(tidied, message, "what is read needs no normalising");
    assert_eq!(wire::encode(&tidied), text, "normalising changes nothing that is written");
});
