//! The zones of this cluster: who may join, who may connect, and for whom their CAs may speak.
//!
//! ```text
//!   join token ─▶ registry ─▶ certificate           registry: name ↔ identity, in the store
//!   link       ─▶ registry ─▶ admitted or not       keys: global's CA and signing key, sealed in the store
//!   MeshIdentity, Zone ─▶ trust_domains ─▶ computed part of MeshIdentity
//!   keys of tokens, Zone ─▶ token_keys ─▶ computed part of Zone
//!   MeshTrust of a zone ─▶ review ─▶ taken or refused
//! ```

pub mod departed;
pub mod keys;
pub mod online;
pub mod registry;
pub mod review;
pub mod revocations;
pub mod servers;
pub mod token_keys;
pub mod tokens;
pub mod trust_domains;

pub use keys::{GlobalKeys, KeysError};
pub use registry::ZoneRegistry;
pub use review::ZoneReview;
pub use revocations::Revocations;
pub use token_keys::TokenKeys;
pub use tokens::GlobalTokens;
pub use trust_domains::TrustDomains;
