//! The link between the planes without its I/O: messages, who may see what, digests, and the session of each end.
//!
//! ```text
//!   store's table ──▶ Index ──▶ View ─┐                                ┌─▶ Apply ──▶ store
//!                                     ▼                                │
//!                          Session { Sender ─ Batch ─▶ peer, peer ─ Batch ─▶ Receiver }
//! ```
//!
//! Must not contain I/O, clocks, randomness or knowledge of single kinds beyond the table of kinds (and Zone, which says
//! whose resources travel).
#![warn(missing_docs)]
#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

pub mod digest;
pub mod epoch;
pub mod feed;
pub mod flow;
pub mod index;
pub mod message;
pub mod proto;
pub mod receiver;
pub mod review;
pub mod sender;
pub mod session;
pub mod visibility;
pub mod wire;

pub use epoch::{Cursor, Epoch, Standing};
pub use feed::Feed;
pub use flow::Moment;
pub use index::{Index, View};
pub use message::Message;
pub use receiver::{Apply, Receiver};
pub use review::{Review, Verdict};
pub use sender::{Has, Progress, Sender};
pub use session::{Event, Fault, GlobalSetup, Phase, Session, ZoneSetup};
pub use visibility::{Route, visible_to};
pub use wire::Item;
