//! A zone plane in this process, as its operator and its proxies meet it.
#![allow(clippy::unwrap_used)]

mod admission;
mod certificates;
mod changes;
mod client_certificates;
mod envoy;
mod layout;
mod plane;
mod ports;
mod readiness;
mod refusals;
mod restart;
mod rotation;
