//! Messages of `proto/atoll/link/v1/link.proto`.
#![allow(missing_docs, clippy::all)]

include!(concat!(env!("OUT_DIR"), "/atoll.link.v1.rs"));

/// The compiled `link.proto`, as an encoded `FileDescriptorSet`.
pub const DESCRIPTOR: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/link.bin"));
