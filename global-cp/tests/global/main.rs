//! Global as an operator meets it: first start, restart, credentials, and clear words when it cannot start.
#![allow(clippy::unwrap_used)]

mod access;
mod client_certificates;
mod credentials;
mod first_start;
mod instances;
mod ports;
mod program;
mod refusals;
mod support;
