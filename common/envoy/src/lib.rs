//! Turns one proxy's inputs into its Envoy resources.
//!
//! ```text
//!   MeshSnapshot ─┐                       ┌─ outbounds: per service, shared by proxies (Cache)
//!   ProxyView ────┼─▶ generate(.., Cache) ┼─ inbounds: listener, filters by extension discovery, cluster
//!   policies ─────┤        │              └─ ingress: one chain per server name
//!   bound, chains ┘        ▼
//!                     ResourceSet ──(with secret::{identity, trust_bundle})──▶ discovery
//! ```
//!
//! What must hold of the output, each found with a real Envoy:
//! - Equal inputs give equal bytes, and what did not change keeps its `Arc`.
//! - Of an inbound only the filters change in everyday life; they come by extension discovery, for any change of a filter
//!   chain cuts the connections that are open on it.
//! - A filter chain that ends the mesh's TLS carries an epoch in its name. Raising it ends the chain's connections within the
//!   drain time: the only way to judge an open TCP connection again.
//! - Every cluster with discovered endpoints has its endpoints in the set, even if they are none.
//!
//! Must not contain selection or merging of policies, I/O, clocks, or the protocol of discovery.
#![warn(missing_docs)]
#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

mod address;
pub mod cache;
mod clusters;
mod encoded;
mod endpoints;
mod generate;
pub mod layout;
mod listeners;
pub mod name;
mod policies;
mod reference;
pub mod secret;
mod source;
mod tls;

pub use cache::{Cache, Lease};
pub use encoded::{Encoded, ResourceMap, ResourceSet, ResourceType};
pub use endpoints::no_endpoints;
pub use generate::{ProxyInputs, generate};
