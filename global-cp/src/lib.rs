//! The global control plane: wiring of store, REST, link and join, and what only global does.
//!
//! ```text
//!   people, atoll ─▶ REST (5681, 5682) ─▶ store ◀─ link (5685) ◀─ zones
//!                                           ▲
//!                       first start ────────┤
//!                       zones: join (5686), registry, trust domains
//! ```
//!
//! Must not contain rules of resources (model), SQL (store) or the link's protocol (sync).
#![warn(missing_docs)]

pub mod config;
mod first_start;
mod insights;
mod metrics;
pub mod oidc;
mod operator;
mod overview;
mod queries;
mod run;
mod seal_keys;
mod store;
pub mod zones;

pub use config::{Action, Config, ConfigError, StoreAddress};
pub use operator::reset_operator;
pub use run::{Addresses, Running, StartError, run};
pub use seal_keys::{SealKeyConfig, rewrap_keys};
