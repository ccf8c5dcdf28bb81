//! Envoy's protobuf types, generated with ordered maps, and their JSON form.
//!
//! ```text
//!   envoy-types' descriptor set ──build.rs──▶ envoy::…, xds::… (prost)
//!                                     └────▶ DESCRIPTORS ──prost-reflect──▶ json::{to_json, from_json}
//! ```
//!
//! The modules follow Envoy's packages: `envoy.config.cluster.v3.Cluster` is [`envoy::config::cluster::v3::Cluster`].
//! Must not contain anything of Atoll: no resource is built here.
#![warn(missing_docs)]
#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

pub mod json;
pub mod type_url;

#[allow(missing_docs, clippy::all, clippy::pedantic, rustdoc::all, unreachable_pub)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/mod.rs"));
}

pub use generated::*;

/// The descriptors of every message in this crate: an encoded `google.protobuf.FileDescriptorSet`.
pub static DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
