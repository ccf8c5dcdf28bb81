//! The store's own side: checks the keys when it opens, makes data keys, opens rows.

use std::{fmt, sync::Arc};

use atoll_model::{Resource, ResourceKey, Timestamp};
use atoll_trust::{
    envelope::{DataKey, DigestKey, Row},
    seal::{Label, sealed_with},
};
use uuid::Uuid;

use super::{
    KeyFault, KeyProvider, Keys, SealingKey,
    envelope::{Envelope, opened, row},
};
use crate::{StoreError, journal::SmallTables};

/// Where sealed blobs are.
pub(super) const KEYS: &str = "keys/";
/// A row that says whether the keys at hand are this store's; holds the key of digests.
pub(super) const CANARY: &str = "keys/canary";

/// What seals and opens.
pub(crate) struct Vault {
    pub(super) cluster: Uuid,
    pub(super) provider: Arc<dyn KeyProvider>,
    digests: DigestKey,
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vault").field("provider", &self.provider).finish_non_exhaustive()
    }
}

/// Why a row does not open.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RowFault {
    #[error("{0} is not sealed, or is damaged")]
    Damaged(String),
    #[error("{0} does not open: {1}")]
    Key(String, KeyFault),
}

impl RowFault {
    /// Whether it may open later.
    pub(crate) fn unavailable(&self) -> bool {
        matches!(self, RowFault::Key(_, KeyFault::Unavailable(_)))
    }
}

impl From<RowFault> for StoreError {
    fn from(fault: RowFault) -> Self {
        match fault {
            RowFault::Key(_, KeyFault::Unavailable(cause)) => StoreError::Unavailable(cause),
            RowFault::Key(_, KeyFault::Unknown(_)) => StoreError::Sealed(format!("{fault}: start with its key as well")),
            RowFault::Damaged(_) | RowFault::Key(_, KeyFault::Damaged(_)) => StoreError::Corrupt(fault.to_string()),
        }
    }
}

impl Vault {
    /// Checks that the keys open what the store holds; without keys, that it holds nothing sealed. `alone`: no other process
    /// has this store open, so that, as long as it holds nothing sealed, a lost key may be replaced.
    pub(crate) async fn open(
        cluster: Uuid,
        tables: &dyn SmallTables,
        alone: bool,
        keys: Keys,
        now: Timestamp,
    ) -> Result<Option<Arc<Self>>, StoreError> {
        let used = tables.sealing_keys().await?;
        let blobs = tables.blob_names(KEYS).await?;
        let fresh = used.is_empty() && blobs.iter().all(|name| alone && name == CANARY);
        let Some(provider) = keys.provider(fresh)? else {
            return match used.first() {
                None => Ok(None),
                Some(key) => {
                    Err(StoreError::Sealed(format!("the store holds secrets that are sealed with the key {key}: start with it")))
                }
            };
        };
        let canary = match tables.blob(CANARY).await? {
            Some(canary) if !fresh || opens(provider.as_ref(), &canary) => canary,
            Some(_) => {
                tracing::warn!("the key that seals secrets is another one now; there was nothing sealed with the old one");
                let made = make_canary(cluster, provider.as_ref()).await?;
                tables.put_blob(CANARY, &made, now).await?;
                made
            }
            None => {
                check_older_blobs(tables, provider.as_ref()).await?;
                let made = make_canary(cluster, provider.as_ref()).await?;
                tables.put_blob_if_absent(CANARY, &made, now).await?
            }
        };
        let digests = open_canary(cluster, provider.as_ref(), &canary).await?;
        if let Some(key) = used.iter().find(|key| !provider.has(key)) {
            return Err(StoreError::Sealed(format!(
                "some secrets of the store are sealed with the key {key}, which is not at hand: a change of keys has begun and \
                 not ended. Start with the old key and the new one, or run `global-cp rewrap-keys` again"
            )));
        }
        Ok(Some(Arc::new(Self { cluster, provider, digests })))
    }

    /// Makes the key of the next versions of a resource.
    pub(crate) async fn sealing_key(&self, key: &ResourceKey) -> Result<SealingKey, StoreError> {
        self.new_key(&key.to_string()).await.map_err(|fault| RowFault::Key(key.to_string(), fault).into())
    }

    async fn new_key(&self, name: &str) -> Result<SealingKey, KeyFault> {
        let data_key = DataKey::generate(&mut rand::rng());
        let wrapped = self.provider.wrap(label(self.cluster, &row_label(name)), data_key.expose()).await?;
        Ok(SealingKey::new(self.cluster, self.provider.current(), data_key, &wrapped, self.digests.clone()))
    }

    /// Opens what the journal holds of a resource.
    pub(crate) async fn open_resource(&self, resource: &Resource) -> Result<Resource, RowFault> {
        let (name, owner) = (resource.key.to_string(), resource.key.owner.to_string());
        let row = row(self.cluster, &resource.key, &owner, resource.version);
        Ok(opened(resource, self.open_row(&name, row, &resource.spec).await?))
    }

    /// Seals a blob.
    pub(crate) async fn seal_blob(&self, name: &str, secret: &[u8]) -> Result<Vec<u8>, StoreError> {
        let key = self.new_key(name).await.map_err(|fault| StoreError::from(RowFault::Key(name.to_owned(), fault)))?;
        Ok(key.seal_row(blob_row(self.cluster, name), secret).to_json())
    }

    /// Opens a blob.
    pub(crate) async fn open_blob(&self, name: &str, sealed: &[u8]) -> Result<Vec<u8>, RowFault> {
        match sealed_with(sealed) {
            // Sealed by the key-encryption key itself.
            Some(id) => self
                .provider
                .unwrap(&id.to_string(), label(self.cluster, name), sealed)
                .await
                .map_err(|fault| RowFault::Key(name.to_owned(), fault)),
            None => self.open_row(name, blob_row(self.cluster, name), sealed).await,
        }
    }

    async fn open_row(&self, name: &str, row: Row<'_>, sealed: &[u8]) -> Result<Vec<u8>, RowFault> {
        open_row(self.provider.as_ref(), name, row, sealed).await
    }
}

async fn open_row(provider: &dyn KeyProvider, name: &str, row: Row<'_>, sealed: &[u8]) -> Result<Vec<u8>, RowFault> {
    let damaged = || RowFault::Damaged(name.to_owned());
    let envelope = Envelope::parse(sealed).ok_or_else(damaged)?;
    let data_key = unwrap(provider, name, row.cluster, &envelope).await?;
    data_key.open(row, &envelope.body().ok_or_else(damaged)?).map_err(|_| damaged())
}

/// Unwraps the data key of a row.
pub(super) async fn unwrap(
    provider: &dyn KeyProvider,
    name: &str,
    cluster: Uuid,
    envelope: &Envelope,
) -> Result<DataKey, RowFault> {
    let damaged = || RowFault::Damaged(name.to_owned());
    let wrapped = envelope.wrapped().ok_or_else(damaged)?;
    let bytes = provider.unwrap(&envelope.key_id, label(cluster, &row_label(name)), &wrapped).await;
    let bytes = bytes.map_err(|fault| RowFault::Key(name.to_owned(), fault))?;
    DataKey::from_bytes(&bytes).ok_or_else(damaged)
}

pub(super) fn label(cluster: Uuid, name: &str) -> Label<'_> {
    Label { cluster, name }
}

/// As what the data key of a row is wrapped.
pub(super) fn row_label(name: &str) -> String {
    format!("row/{name}")
}

pub(super) fn blob_row(cluster: Uuid, name: &str) -> Row<'_> {
    Row { cluster, kind: "blob", mesh: "", name, owner: "", version: 0 }
}

async fn make_canary(cluster: Uuid, provider: &dyn KeyProvider) -> Result<Vec<u8>, StoreError> {
    let secret = DataKey::generate(&mut rand::rng());
    let data_key = DataKey::generate(&mut rand::rng());
    let wrapped = provider.wrap(label(cluster, &row_label(CANARY)), data_key.expose()).await;
    let wrapped = wrapped.map_err(|fault| StoreError::from(RowFault::Key(CANARY.to_owned(), fault)))?;
    let key = SealingKey::new(cluster, provider.current(), data_key, &wrapped, DigestKey::new(&[0; 32]));
    Ok(key.seal_row(blob_row(cluster, CANARY), secret.expose()).to_json())
}

fn opens(provider: &dyn KeyProvider, canary: &[u8]) -> bool {
    Envelope::parse(canary).is_some_and(|envelope| provider.has(&envelope.key_id))
}

async fn open_canary(cluster: Uuid, provider: &dyn KeyProvider, canary: &[u8]) -> Result<DigestKey, StoreError> {
    let envelope = Envelope::parse(canary).ok_or_else(|| StoreError::Corrupt(format!("the row {CANARY} is damaged")))?;
    if !provider.has(&envelope.key_id) {
        return Err(other_key(&envelope.key_id, provider));
    }
    let secret = open_row(provider, CANARY, blob_row(cluster, CANARY), canary).await?;
    let secret = secret.as_slice().try_into().map_err(|_| StoreError::Corrupt(format!("the row {CANARY} is damaged")))?;
    Ok(DigestKey::new(secret))
}

/// A store from before there was a canary: the sealed blobs say whose keys are right.
async fn check_older_blobs(tables: &dyn SmallTables, provider: &dyn KeyProvider) -> Result<(), StoreError> {
    for name in tables.blob_names(KEYS).await? {
        let sealed = tables.blob(&name).await?.unwrap_or_default();
        if let Some(id) = sealed_with(&sealed).map(|id| id.to_string()).filter(|id| !provider.has(id)) {
            return Err(other_key(&id, provider));
        }
    }
    Ok(())
}

fn other_key(sealed_with: &str, provider: &dyn KeyProvider) -> StoreError {
    StoreError::Sealed(format!(
        "the secrets of the store are sealed with the key {sealed_with}, and this instance has the key {}: give it the seal key \
         of the first instance (its file seal.key, or what its ATOLL_SEAL_KEY says)",
        provider.current()
    ))
}
