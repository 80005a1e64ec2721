//! The only door to the code that `build.rs` generates from `proto/`.
//!
//! The generated types *are* the object model: they are passed through, and no struct mirrors them.

// The generator sets its own style.
#![allow(missing_docs, clippy::all, clippy::pedantic, unreachable_pub, rustdoc::all, missing_debug_implementations)]

pub mod codec;
mod secrets;

pub mod cim {
    pub mod v1 {
        tonic::include_proto!("cim.v1");
    }
    pub mod store {
        pub mod v1 {
            tonic::include_proto!("cim.store.v1");
        }
    }
}

pub use cim::store::v1 as store;
pub use cim::v1::*;

/// The descriptors of everything above, for reflection and for proto JSON.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
