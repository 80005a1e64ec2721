//! Generates the messages and the client of `proto/cim/v1`, with a compiler written in Rust: no protoc to install.

use prost::Message as _;
use std::{env, error::Error, fs, path::PathBuf};

const PROTOS: &str = "../../proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed={PROTOS}");
    let descriptors = protox::compile(["cim/v1/message_service.proto"], [PROTOS])?;
    // For proto JSON.
    fs::write(PathBuf::from(env::var("OUT_DIR")?).join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure().build_server(false).compile_fds(descriptors)?;
    Ok(())
}
