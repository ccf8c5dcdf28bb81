//! What a program of Atoll needs of its machine: clock, files, tasks, shutdown, TLS, logs and the diagnostics port.
//!
//! Must not contain anything of resources, planes or protocols.
#![warn(missing_docs)]

pub mod backoff;
pub mod clock;
pub mod config;
pub mod connections;
pub mod diagnostics;
pub mod files;
pub mod metrics;
pub mod shutdown;
pub mod tasks;
pub mod telemetry;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod tls;
