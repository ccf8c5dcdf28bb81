//! Carries sync's sessions over gRPC: loops that select, feed and send, between a stream and a store.
//!
//! ```text
//!   zone                                              global
//!   join ──── token, CSR ───────────── TLS  5686 ───▶ Issuer
//!   ZoneLink ─ Session(ToGlobal, ToZone) mTLS 5685 ─▶ GlobalLink ── Admission
//!      │                                                 │
//!    Store                                             Store
//! ```
//!
//! Must not contain rules of the protocol (they are in `atoll_sync`), SQL, or keys at rest.
#![warn(missing_docs)]

mod admission;
mod drive;
mod global;
mod identity;
mod peer;
mod services;
mod soft;
mod status;
mod views;
mod zone;

pub use admission::{Admission, Credentials, Issuer, Peer, RedeemRequest, Refusal, RenewRequest};
pub use atoll_sync::{Review, Verdict};
pub use global::{GlobalConfig, GlobalLink, QueryError};
pub use soft::{SoftBoard, SoftSink};
pub use status::{LinkStatus, Phase};
pub use zone::{
    Answerer, JoinError, JoinRequest, NoAnswers, NoSoft, RenewError, ZoneConfig, ZoneIdentity, ZoneLink, join, renew,
};
