//! Turns changes of resources into immutable snapshots of each mesh, and into the resources that a zone makes by itself.
//!
//! ```text
//!   Change ──apply──▶ MeshIndex (one owner; walks only what depends on the change)
//!                        ├──snapshots──▶ Arc<MeshSnapshot> per mesh: services, endpoints, VIPs, hostnames, trust, policies
//!                        └──plan(now)──▶ Planned: MeshServices, computed parts, VIP rows, addresses of zone ingresses
//! ```
//!
//! A snapshot is a function of the resources alone, and parts that did not change keep their `Arc`.
//!
//! Must not contain I/O, clocks, randomness, health of streams (only what Dataplanes say), or anything of Envoy.
#![warn(missing_docs)]
#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

mod context;
mod hostnames;
mod index;
mod label_index;
pub mod plan;
mod realm;
pub mod snapshot;
mod status;
pub mod trust;
mod vips;
mod zones;

pub use index::{IndexConfig, MeshIndex};
pub use plan::Planned;
pub use snapshot::MeshSnapshot;
pub use status::status;
pub use trust::{TrustAcceptance, TrustBundles};
