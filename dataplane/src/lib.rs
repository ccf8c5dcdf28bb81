//! Runs one Envoy of the mesh: `atoll-dp run`.
//!
//! ```text
//!            zone's control plane
//!              ▲ session: registration, readiness, health up; bootstrap parameters, names, orders down
//!   run ──┬── session ──▶ parameters ──▶ envoy::supervisor ──▶ Envoy (own process group, outlives this program)
//!         ├── dns      ◀── names           │
//!         ├── probes ──▶ application       └──▶ readiness
//!         └── drain on SIGTERM
//! ```
//!
//! Apart from it stands [`redirect`], which leads the host's traffic to the Envoy and away again.
//!
//! What a restarted runner needs to go on without its zone stands in its folder ([`folder`]). Must not contain Envoy's listeners
//! or clusters: those come from the zone.

pub mod access_log;
pub mod args;
pub mod bootstrap;
pub mod credentials;
pub mod dns;
pub mod document;
pub mod drain;
pub mod envoy;
pub mod folder;
pub mod probes;
pub mod readiness;
pub mod redirect;
pub mod run;
pub mod session;
pub mod zone;

/// The messages of `proto/atoll/runner/v1`.
#[allow(clippy::all, clippy::unwrap_used, unreachable_pub)]
pub mod proto {
    tonic::include_proto!("atoll.runner.v1");
}
