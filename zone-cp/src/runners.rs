//! The runners of this zone's proxies: their streams, what they register, and when their endpoints leave.
//!
//! ```text
//!   Attach ──▶ service (tonic) ──▶ registry (one owner) ──▶ liveness [pure] ──▶ DataplaneStore
//!                 ▲                                             ▲
//!                 └── NameTables (watch per proxy)              └── Envoy's streams (xds)
//! ```
//!
//! `admission`, `bind`, `liveness`, `names` and `registration` are pure. Must not contain Envoy's configuration.

pub mod admission;
pub mod bind;
pub mod liveness;
pub mod names;
pub mod registration;
pub mod registry;
pub mod service;
pub mod store;

/// The messages of `proto/atoll/runner/v1`.
#[allow(clippy::all, clippy::unwrap_used, unreachable_pub)]
pub mod proto {
    tonic::include_proto!("atoll.runner.v1");
}

pub use admission::{AuthRefusal, DataplaneAuth, DataplaneClaims, Presented, Principal, WorkloadRule};
pub use bind::{Binder, Bound};
pub use liveness::{Limits, Liveness, ProxyId};
pub use names::NameTable;
pub use registration::Authored;
pub use registry::{EnvoyPresence, Runners};
pub use service::{NameTables, RunnerService, Settings, Wishes};
pub use store::{DataplaneStore, StoreRefusal, StoredDataplane};
