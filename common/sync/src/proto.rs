//! Messages of `proto/atoll/link/v1/link.proto`.
#![allow(missing_docs, clippy::all)]

include!(concat!(env!("OUT_DIR"), "/atoll.link.v1.rs"));
