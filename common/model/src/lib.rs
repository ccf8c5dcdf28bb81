//! The vocabulary of Atoll: kinds, keys, metadata, documents, validation and the names that go on the wire.
//!
//! ```text
//!   document (JSON, YAML) ──parse──▶ typed spec ──validate──▶ violations
//!                                        │
//!   key (kind, mesh, name, owner) ───────┴──▶ Resource ──▶ KRI, SNI, SPIFFE id, hostname, alias
//! ```
//!
//! Must not contain I/O, clocks, randomness, selection or merging of policies, or anything of Envoy.
#![warn(missing_docs)]
#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

pub mod alias;
pub mod clock;
pub mod condition;
pub mod data_source;
pub mod decimal;
pub mod document;
pub mod duration;
pub mod hostname;
pub mod key;
pub mod kind;
pub mod kinds;
pub mod kri;
pub mod labels;
pub mod names;
pub mod policies;
pub mod resource;
pub mod schema;
pub mod sni;
pub mod spiffe;
pub mod target_ref;
pub mod tls;
pub mod violation;

pub use clock::{Clock, Timestamp};
pub use key::{Name, Owner, ResourceKey, Revision, ZoneUid};
pub use kind::{Descriptor, Kind, Scope, Style};
pub use resource::{Change, ContentHash, Labels, Resource, Tombstone};
pub use violation::Violation;
