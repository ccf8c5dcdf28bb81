//! The committed resources of one plane: a table in memory that everybody reads, and a journal that makes it last.
//!
//! ```text
//!   WriteBatch, RemoteBatch ──▶ committer (one task) ──▶ journal (Postgres | SQLite)
//!                                    │
//!                                    └──▶ TableSnapshot ──watch──▶ REST, link, index
//! ```
//!
//! Revisions are given in commit order, one for each changed resource, without gaps in what is published. Reads of resources
//! never touch SQL. On Postgres several processes may share one journal; a SQLite directory belongs to one.
//!
//! Must not contain validation of specs, knowledge of who may write what, or anything of protocols.
#![warn(missing_docs)]

mod audit;
mod committer;
mod denied;
mod epoch;
mod error;
mod history;
mod journal;
mod metrics;
mod plan;
mod registry;
mod remote;
mod seal;
mod store;
mod table;
#[cfg(feature = "testing")]
pub mod testing;
mod write;

pub use audit::{AuditEntry, AuditFilter, AuditRecord, Broken, Decision, Denied, Link, Verified};
pub use epoch::{Epoch, Epochs};
pub use error::StoreError;
pub use history::{HistoryAction, HistoryEntry, HistoryFilter};
pub use metrics::StoreMetrics;
pub use registry::{Bind, JoinToken, Redeem, Refusal, Registry, TokenRevocation, ZoneCertificate, ZoneHolder};
pub use remote::{Applied, Durable, Early, PeerCursor, Rejected, RemoteBatch, RemoteItem};
pub use seal::{KeyFault, KeyProvider, Keys, LocalKeys, RewrapStep, Rewrapped, make_key_file};
pub use store::{Pruned, SoftRow, Store, StoreConfig};
pub use table::TableSnapshot;
pub use write::{Actor, AuthMethod, Committed, Expect, Once, OutcomeKind, Repeated, RequestInfo, Write, WriteBatch, WriteResult};
