//! What a peer sent, and how far it has got.

use std::fmt;

use atoll_model::{Labels, ResourceKey, Revision};
use bytes::Bytes;
use tokio::sync::watch;
use uuid::Uuid;

use crate::{Actor, Committed, StoreError, write::shown};

/// How far a peer's stream has been applied: a revision of the peer's store and the epoch that it belongs to there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerCursor {
    /// The peer's epoch.
    pub epoch: Uuid,
    /// The peer's revision.
    pub revision: Revision,
}

/// Changes that a peer sent. The caller has checked that the peer may send each of them.
#[derive(Clone, Debug)]
pub struct RemoteBatch {
    /// Whose cursor moves: `global`, or a zone's UID.
    pub peer: String,
    /// In the order in which they are applied.
    pub items: Vec<RemoteItem>,
    /// What the batch completes; stored in the same transaction. `None` leaves the cursor, for parts of a larger whole.
    pub cursor: Option<PeerCursor>,
    /// On whose behalf.
    pub actor: Actor,
}

/// One change that a peer sent.
#[derive(Clone, PartialEq)]
pub enum RemoteItem {
    /// The resource is like this.
    Put {
        /// Which resource.
        key: ResourceKey,
        /// As the owner has them.
        labels: Labels,
        /// The joined spec as the owner's JSON bytes.
        spec: Bytes,
    },
    /// The resource is gone.
    Delete {
        /// Which resource.
        key: ResourceKey,
    },
}

impl fmt::Debug for RemoteItem {
    /// Shows no spec of a sealed kind.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RemoteItem::Put { key, labels, spec } => {
                f.debug_struct("Put").field("key", key).field("labels", labels).field("spec", &shown(key, spec)).finish()
            }
            RemoteItem::Delete { key } => f.debug_struct("Delete").field("key", key).finish(),
        }
    }
}

impl RemoteItem {
    /// Which resource is meant.
    pub fn key(&self) -> &ResourceKey {
        match self {
            RemoteItem::Put { key, .. } | RemoteItem::Delete { key } => key,
        }
    }
}

/// A remote batch that is in the table.
#[derive(Clone, Debug)]
pub struct Applied {
    /// This store's revision that contains the whole batch.
    pub revision: Revision,
    /// Items that cannot be stored. The others are applied all the same.
    pub rejected: Vec<Rejected>,
    /// Tells when the batch, its cursor included, lasts.
    pub durable: Durable,
}

/// An item that cannot be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// Which resource.
    pub key: ResourceKey,
    /// Why.
    pub reason: String,
}

/// A batch that is in the table, and perhaps not yet in the journal.
#[derive(Clone, Debug)]
pub struct Early {
    /// What it did.
    pub committed: Committed,
    /// Tells when it lasts.
    pub durable: Durable,
}

/// Tells when something that is in the table is in the journal too. Cheap to clone and to drop.
#[derive(Clone, Debug)]
pub struct Durable {
    pub(crate) target: u64,
    pub(crate) flushed: watch::Receiver<u64>,
}

impl Durable {
    /// Whether it lasts.
    pub fn is_reached(&self) -> bool {
        *self.flushed.borrow() >= self.target
    }

    /// Waits until it lasts, however long the journal is away.
    ///
    /// # Errors
    /// [`StoreError::Closed`] when the store ends before that.
    pub async fn wait(mut self) -> Result<(), StoreError> {
        let target = self.target;
        self.flushed.wait_for(|flushed| *flushed >= target).await.map(drop).map_err(|_| StoreError::Closed)
    }
}
