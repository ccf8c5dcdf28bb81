//! Opens sealed rows on their way from the journal to the table.

use std::sync::Arc;

use async_trait::async_trait;
use atoll_model::{Change, Revision, Timestamp};
use tracing::error;
use uuid::Uuid;

use super::{Vault, is_sealed};
use crate::{
    Link, Pruned,
    journal::{Delta, DoneBefore, Log, LogError, Opened, Position, PruneLimits, Rows, Surroundings},
};

/// A journal whose sealed rows are read open.
pub(crate) struct OpeningLog {
    inner: Box<dyn Log>,
    vault: Option<Arc<Vault>>,
}

impl OpeningLog {
    pub(crate) fn new(inner: Box<dyn Log>, vault: Option<Arc<Vault>>) -> Self {
        Self { inner, vault }
    }
}

/// The change as the table has it; `None` for a row that does not open, which is said.
async fn open(vault: Option<&Vault>, change: Change) -> Result<Option<Change>, LogError> {
    let Change::Put(resource) = &change else { return Ok(Some(change)) };
    if !is_sealed(resource.key.kind) {
        return Ok(Some(change));
    }
    let Some(vault) = vault else {
        error!("{} is sealed, and there is no key to open it: it is left out", resource.key);
        return Ok(None);
    };
    match vault.open_resource(resource).await {
        Ok(resource) => Ok(Some(Change::Put(Arc::new(resource)))),
        // The journal is of no use without its keys; connecting again also ends an open transaction.
        Err(fault) if fault.unavailable() => Err(LogError::Lost(Arc::new(fault))),
        Err(fault) => {
            error!("a row of the journal does not open and is left out: {fault}");
            Ok(None)
        }
    }
}

#[async_trait]
impl Log for OpeningLog {
    async fn open_epoch(&mut self, id: Uuid, now: Timestamp) -> Result<Opened, LogError> {
        self.inner.open_epoch(id, now).await
    }

    async fn position(&mut self) -> Result<Position, LogError> {
        self.inner.position().await
    }

    async fn lock(&mut self) -> Result<Position, LogError> {
        self.inner.lock().await
    }

    async fn unlock(&mut self) -> Result<(), LogError> {
        self.inner.unlock().await
    }

    async fn read(&mut self, after: Revision) -> Result<Delta, LogError> {
        let mut delta = self.inner.read(after).await?;
        let mut changes = Vec::with_capacity(delta.changes.len());
        for change in std::mem::take(&mut delta.changes) {
            changes.extend(open(self.vault.as_deref(), change).await?);
        }
        delta.changes = changes;
        Ok(delta)
    }

    async fn surroundings(&mut self) -> Result<Surroundings, LogError> {
        self.inner.surroundings().await
    }

    async fn done_before(&mut self, keys: &[(&str, &str)]) -> Result<DoneBefore, LogError> {
        self.inner.done_before(keys).await
    }

    async fn audited(&mut self, chain: Uuid) -> Result<u64, LogError> {
        self.inner.audited(chain).await
    }

    async fn append(&mut self, at: Position, revision: Revision, rows: &Rows, links: &[Link]) -> Result<bool, LogError> {
        self.inner.append(at, revision, rows, links).await
    }

    async fn prune(&mut self, limits: PruneLimits) -> Result<(Pruned, Revision), LogError> {
        self.inner.prune(limits).await
    }
}
