//! Where a session reads changes.

use atoll_model::{Change, Revision};

/// An immutable view of a plane's table, in the order of revisions.
pub trait Feed: Send + Sync {
    /// The newest durable revision. Nothing above it is ever shown to a peer.
    fn head(&self) -> Revision;

    /// Calls `f` with the changes of revisions in (`after`, head], ascending: each live resource once, at its newest
    /// revision, and the tombstones that are still kept. Stops when `f` gives false.
    fn changes(&self, after: Revision, f: &mut dyn FnMut(&Change) -> bool);

    /// Tombstones at or below this revision are gone: who holds less than it cannot be told what was deleted.
    fn horizon(&self) -> Revision;
}
