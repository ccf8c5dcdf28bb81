//! What each connected proxy should have: its Envoy resources, and the names that its DNS answers.
//!
//! ```text
//!   ZoneView (snapshots) ─┐
//!   issued certificates  ─┼─▶ builder (one owner) ─▶ watch per proxy: ResourceSet, NameTable
//!   runners' ranges      ─┘        └─▶ memory: ranges, grants (soft rows)
//! ```

pub mod ads;
pub mod builder;
pub mod chains;
mod made;
pub mod memory;
pub mod waiting;

pub use builder::{Parts, Proxies};
pub use waiting::{AllWaiting, Waiting};
