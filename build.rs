//! Compiles `proto/` into Rust types and a descriptor set, with a compiler written in Rust: no protoc to install.

use prost::Message as _;
use std::{env, error::Error, fs, path::PathBuf};

const PROTOS: [&str; 7] = [
    "cim/v1/message_service.proto",
    "cim/v1/subscription_service.proto",
    "cim/v1/session_service.proto",
    "cim/v1/channel_service.proto",
    "cim/v1/delivery_service.proto",
    "cim/v1/error_reason.proto",
    "cim/store/v1/entry.proto",
];

/// Kinds of body that are boxed, so that a message of any kind stays small.
const BOXED: [&str; 10] =
    ["receipt", "template", "email", "form_data", "comment", "image", "video", "audio", "file", "multimedia"];

/// Parts of an entry that are boxed: entries are moved often, and few have all parts.
const BOXED_IN_ENTRY: [&str; 3] = ["message", "submission", "carried"];

/// What may hold a secret: it is shown by code of our own, in `src/pb/secrets.rs`.
const SECRETIVE: [&str; 2] = [".cim.v1.SigningSecrets", ".cim.v1.Attribute"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=proto");

    let descriptors = protox::compile(PROTOS, ["proto"])?;
    let out_dir = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out_dir.join("descriptors.bin"), descriptors.encode_to_vec())?;

    let mut build = tonic_prost_build::configure().btree_map(".").codec_path("crate::pb::codec::Codec").skip_debug(SECRETIVE);
    for kind in BOXED {
        build = build.boxed(format!(".cim.v1.Body.kind.{kind}"));
    }
    for part in BOXED_IN_ENTRY {
        build = build.boxed(format!(".cim.store.v1.Entry.{part}"));
    }
    build.compile_fds(descriptors)?;
    Ok(())
}
