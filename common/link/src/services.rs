//! Generated from `proto/atoll/link/v1/link.proto`.
#![allow(missing_docs, unreachable_pub, clippy::all)]

tonic::include_proto!("atoll.link.v1");
