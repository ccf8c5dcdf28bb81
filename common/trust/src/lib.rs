//! Certificates, keys and tokens: everything that says who somebody is.
//!
//! ```text
//!   control-plane PKI (rustls judges it)          workload PKI (Envoy judges it)
//!     ControlPlaneCa ─▶ servers of global           WorkloadCa, one per MeshIdentity and zone
//!                    ─▶ zones' client certificates      └─▶ leaves: one SPIFFE id each
//!     ZoneCa ─▶ servers of one zone                 acceptance: whose CA may judge which trust domain
//!     the operator's own CA ─▶ UserCertificate
//!
//!   join: one-time tokens of zones    jwt: user and dataplane tokens    seal: secrets at rest
//! ```
//!
//! The two PKIs never mix: workload CAs carry URI name constraints, which rustls cannot judge.
//!
//! Time and randomness are arguments, with one exception: private keys and signatures draw from the operating system through
//! ring, which takes no other source. No seed can reach a key.
//!
//! Must not contain I/O, clocks, tables of who may do what, or anything that knows where keys are kept.
#![warn(missing_docs)]
#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

pub mod acceptance;
pub mod ca;
pub mod envelope;
pub mod join;
pub mod jwt;
pub mod key;
pub mod peer;
pub mod pin;
pub mod seal;
pub mod secret;
mod user_certificate;
pub mod x509;

pub use key::{CertificateRequest, PrivateKey};
pub use peer::ZonePeer;
pub use pin::Pin;
pub use secret::SecretText;
pub use user_certificate::{NoUser, UserCertificate};
