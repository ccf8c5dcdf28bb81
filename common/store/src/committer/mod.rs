//! The one task that writes: it gathers what was asked while the last commit ran, checks it in memory, writes it as one
//! transaction, then answers and publishes.

use std::{sync::Arc, time::Duration};

use atoll_model::{ResourceKey, Timestamp};
use tokio::sync::{mpsc, oneshot, watch};
use uuid::Uuid;

use crate::{
    Applied, Committed, Early, Pruned, Registry, RemoteBatch, StoreError, TableSnapshot, WriteBatch, audit::Chain,
    journal::PruneLimits, seal::DataKeys,
};

mod group;
pub(crate) mod local;
pub(crate) mod shared;

type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// What is asked of the committer.
#[derive(Debug)]
pub(crate) enum Request {
    /// `keys`: of its sealed resources; so in the others.
    Commit {
        batch: WriteBatch,
        keys: DataKeys,
        reply: Reply<Committed>,
    },
    Early {
        batch: WriteBatch,
        keys: DataKeys,
        reply: Reply<Early>,
    },
    Remote {
        batch: RemoteBatch,
        /// The session that it came in; none where there are no older ones.
        session: Option<Uuid>,
        keys: DataKeys,
        /// `None`: a newer session was begun.
        reply: Reply<Option<Applied>>,
    },
    /// Look at the journal for what was written without a revision.
    Look {
        reply: Reply<()>,
    },
    Prune {
        reply: Reply<Pruned>,
    },
    Close {
        reply: oneshot::Sender<()>,
    },
}

/// What readers follow.
#[derive(Clone, Debug)]
pub(crate) struct Published {
    pub(crate) table: watch::Receiver<Arc<TableSnapshot>>,
    pub(crate) registry: watch::Receiver<Arc<Registry>>,
    pub(crate) available: watch::Receiver<bool>,
}

/// The committer's ends of [`Published`].
#[derive(Debug)]
struct Publisher {
    table: watch::Sender<Arc<TableSnapshot>>,
    registry: watch::Sender<Arc<Registry>>,
    available: watch::Sender<bool>,
    /// How many early batches last.
    flushed: watch::Sender<u64>,
}

impl Publisher {
    fn new(table: &TableSnapshot, registry: Registry) -> Self {
        Self {
            table: watch::Sender::new(Arc::new(table.clone())),
            registry: watch::Sender::new(Arc::new(registry)),
            available: watch::Sender::new(true),
            flushed: watch::Sender::new(0),
        }
    }

    fn readers(&self) -> Published {
        Published { table: self.table.subscribe(), registry: self.registry.subscribe(), available: self.available.subscribe() }
    }

    fn publish(&self, table: &TableSnapshot) {
        self.table.send_replace(Arc::new(table.clone()));
    }

    fn publish_registry(&self, registry: Registry) {
        self.registry.send_if_modified(|held| {
            let differs = **held != registry;
            if differs {
                *held = Arc::new(registry);
            }
            differs
        });
    }

    fn set_available(&self, available: bool) {
        self.available.send_if_modified(|held| std::mem::replace(held, available) != available);
    }
}

/// The beginning of a chain of the audit.
pub(crate) fn new_chain() -> Chain {
    Chain::new(Uuid::new_v4())
}

/// How often one step of pruning runs.
const PRUNE_EVERY: Duration = Duration::from_secs(60);

/// What may go at `now`: tombstones of people after 30 days, of planes after 24 hours, history after 90 days, keys of batches
/// after 24 hours, revocations when their tokens have ended.
fn prune_limits(now: Timestamp) -> PruneLimits {
    let ago = |days| now - chrono::TimeDelta::days(days);
    PruneLimits {
        recorded_before: ago(30),
        generated_before: ago(1),
        history_before: ago(90),
        step: 500,
        once_before: ago(1),
        once_step: 10_000,
        // Whoever still takes a token because of the leeway of clocks must still know that it was revoked.
        revoked_until: now - chrono::TimeDelta::minutes(5),
    }
}

/// Most writes and most bytes that are gathered into one transaction. A single larger batch is taken alone.
const GROUP_WRITES: usize = 4096;
const GROUP_BYTES: usize = 4 << 20;

/// Adds to `group` what waits in the inbox, as far as it fits.
fn gather(group: &mut Vec<Request>, inbox: &mut mpsc::Receiver<Request>) {
    let (mut writes, mut bytes) = group.iter().map(Request::size).fold((0, 0), |sum, size| (sum.0 + size.0, sum.1 + size.1));
    while writes < GROUP_WRITES && bytes < GROUP_BYTES {
        let Ok(next) = inbox.try_recv() else { return };
        let size = next.size();
        let last = !next.is_write();
        group.push(next);
        if last {
            return;
        }
        (writes, bytes) = (writes + size.0, bytes + size.1);
    }
}

impl Request {
    /// Whether it goes into a transaction with others.
    fn is_write(&self) -> bool {
        match self {
            Request::Commit { .. } | Request::Early { .. } | Request::Remote { .. } => true,
            Request::Look { .. } | Request::Prune { .. } | Request::Close { .. } => false,
        }
    }

    /// The key under which it is done once only.
    fn once(&self) -> Option<(&str, &str)> {
        match self {
            Request::Commit { batch, .. } => batch.once.as_ref().map(|once| (once.subject.as_str(), once.key.as_str())),
            Request::Early { .. }
            | Request::Remote { .. }
            | Request::Look { .. }
            | Request::Prune { .. }
            | Request::Close { .. } => None,
        }
    }

    /// The key of its first write.
    fn first_key(&self) -> Option<ResourceKey> {
        match self {
            Request::Commit { batch, .. } | Request::Early { batch, .. } => batch.writes.first().map(|write| write.key().clone()),
            Request::Remote { batch, .. } => batch.items.first().map(|item| item.key().clone()),
            Request::Look { .. } | Request::Prune { .. } | Request::Close { .. } => None,
        }
    }

    /// How many writes and how many bytes.
    fn size(&self) -> (usize, usize) {
        match self {
            Request::Commit { batch, .. } | Request::Early { batch, .. } => {
                (batch.writes.len(), batch.writes.iter().map(write_bytes).sum())
            }
            Request::Remote { batch, .. } => (batch.items.len(), batch.items.iter().map(item_bytes).sum()),
            Request::Look { .. } | Request::Prune { .. } | Request::Close { .. } => (0, 0),
        }
    }

    /// Answers that it was not done. A caller that has gone away does not need the answer.
    fn fail(self, error: StoreError) {
        let _gone = match self {
            Request::Commit { reply, .. } => reply.send(Err(error)).is_err(),
            Request::Early { reply, .. } => reply.send(Err(error)).is_err(),
            Request::Remote { reply, .. } => reply.send(Err(error)).is_err(),
            Request::Look { reply } => reply.send(Err(error)).is_err(),
            Request::Prune { reply } => reply.send(Err(error)).is_err(),
            Request::Close { reply } => reply.send(()).is_err(),
        };
    }
}

fn write_bytes(write: &crate::Write) -> usize {
    match write {
        crate::Write::Put { spec, .. } => spec.len(),
        crate::Write::PutComputed { computed, .. } => computed.as_ref().map_or(0, bytes::Bytes::len),
        crate::Write::Check { .. } | crate::Write::Delete { .. } => 0,
    }
}

fn item_bytes(item: &crate::RemoteItem) -> usize {
    match item {
        crate::RemoteItem::Put { spec, .. } => spec.len(),
        crate::RemoteItem::Delete { .. } => 0,
    }
}
