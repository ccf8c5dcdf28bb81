//! Gives Envoys their configuration: incremental discovery of all types over one stream (delta ADS).
//!
//! ```text
//!   Envoy ◀──gRPC──▶ server: authenticate ─▶ stream task ─feeds─▶ session [pure] ─▶ responses
//!                                                ▲                     │
//!   watch<Option<Arc<ProxyConfig>>> ─────────────┘                     └─▶ status: applied revision, refusals
//! ```
//!
//! `config` and `session` are pure. Must not contain anything about what the resources mean.

pub mod config;
pub mod server;
pub mod session;
mod stream;
mod totals;

/// The discovery service, in both directions: the server for proxies, the client for tests and load.
#[allow(clippy::all, clippy::unwrap_used, unreachable_pub, missing_docs)]
pub mod service {
    include!(concat!(env!("OUT_DIR"), "/envoy.service.discovery.v3.AggregatedDiscoveryService.rs"));
}

pub use config::{EmptySet, ProxyConfig, WhyEmpty};
pub use server::{Admission, AdsServer, AuthRefusal, Hello, ProxyAuth, ProxySource};
pub use session::{Carry, Limits, Refusal, Session, Status};
pub use totals::Totals;
