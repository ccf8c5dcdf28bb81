//! The zone control plane: keeps a durable copy of what global says, and configures the zone's proxies.
//!
//! ```text
//!   global ◀─ link ─▶ store ─▶ engine (index) ─▶ ZoneView ─▶ proxies (builder) ─▶ xds ─▶ Envoy
//!                       ▲         └─ plans ─┐         ▲            └─▶ runners ─▶ atoll-dp (names)
//!                       └───────────────────┘     identity (certificates)
//! ```
//!
//! Must not contain rules of resources (model, policy, mesh), Envoy's messages (envoy), or anything of global.

pub mod answers;
pub mod config;
pub mod dataplanes;
mod defaults;
pub mod engine;
pub mod health;
mod hosts;
pub mod identity;
mod insights;
pub mod join;
pub mod layout;
mod metrics;
mod operator;
pub mod proxies;
pub mod run;
pub mod runners;
pub mod status;
pub mod xds;

pub use config::{Config, ConfigError};
pub use run::{Addresses, Running, StartError, run};
