//! A change of the key-encryption key: every data key is wrapped anew; what it sealed stays as it is. Each row is one small
//! write, so it may be cut off at any moment and begun again; meanwhile both keys open the store.

use atoll_model::{ResourceKey, Timestamp};
use atoll_trust::seal::sealed_with;

use super::{
    Vault,
    envelope::Envelope,
    vault::{CANARY, KEYS, RowFault, label, row_label, unwrap},
};
use crate::{StoreError, journal::SmallTables};

/// How many rows are read at once.
const PAGE: i64 = 100;

/// How many rows were wrapped anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rewrapped {
    /// Resources.
    pub resources: u64,
    /// Entries of history.
    pub history: u64,
    /// Keys of the control plane.
    pub blobs: u64,
}

/// Where a change of keys is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RewrapStep {
    /// What was done so far.
    pub done: Rewrapped,
    /// Resources and entries of history that are left.
    pub left: u64,
}

impl Vault {
    /// Wraps everything with the current key.
    pub(crate) async fn rewrap(
        &self,
        tables: &dyn SmallTables,
        now: Timestamp,
        mut told: impl FnMut(RewrapStep) + Send,
    ) -> Result<Rewrapped, StoreError> {
        let key = self.provider.current();
        let mut done = Rewrapped::default();
        loop {
            let rows = tables.sealed_resources(&key, PAGE).await?;
            if rows.is_empty() {
                break;
            }
            for (resource, spec) in rows {
                let anew = self.rewrap_envelope(&resource.to_string(), spec.as_bytes()).await?;
                // Of a row that was written meanwhile nothing is done; the next page has it again, if it has to.
                done.resources += u64::from(tables.rewrap_resource(&resource, &spec, &anew, &key).await?);
            }
            told(RewrapStep { done, left: tables.sealed_by_others(&key).await? });
        }
        loop {
            let rows = tables.sealed_history(&key, PAGE).await?;
            if rows.is_empty() {
                break;
            }
            for row in rows {
                let before = self.rewrap_image(&row.key, row.before).await?;
                let after = self.rewrap_image(&row.key, row.after).await?;
                tables.rewrap_history(row.revision, before.as_deref(), after.as_deref(), &key).await?;
                done.history += 1;
            }
            told(RewrapStep { done, left: tables.sealed_by_others(&key).await? });
        }
        // The canary last: as long as it is the old key's, the change has not ended.
        let names = tables.blob_names(KEYS).await?;
        for name in names.iter().filter(|name| *name != CANARY).map(String::as_str).chain([CANARY]) {
            done.blobs += u64::from(self.rewrap_blob(tables, name, now).await?);
        }
        told(RewrapStep { done, left: 0 });
        Ok(done)
    }

    async fn rewrap_envelope(&self, name: &str, sealed: &[u8]) -> Result<String, StoreError> {
        let envelope = Envelope::parse(sealed).ok_or_else(|| RowFault::Damaged(name.to_owned()))?;
        let data_key = unwrap(self.provider.as_ref(), name, self.cluster, &envelope).await?;
        let wrapped = self.provider.wrap(label(self.cluster, &row_label(name)), data_key.expose()).await;
        let wrapped = wrapped.map_err(|fault| RowFault::Key(name.to_owned(), fault))?;
        let anew = envelope.rewrapped(self.provider.current(), &wrapped).to_json();
        String::from_utf8(anew).map_err(|_| StoreError::Corrupt(format!("{name} cannot be wrapped anew")))
    }

    /// An entry of history holds `{"labels":…,"spec":…}` with the sealed form as spec.
    async fn rewrap_image(&self, key: &ResourceKey, image: Option<String>) -> Result<Option<String>, StoreError> {
        let Some(image) = image else { return Ok(None) };
        let name = key.to_string();
        let damaged = || StoreError::Corrupt(format!("the history of {name} is damaged"));
        let mut value: serde_json::Value = serde_json::from_str(&image).map_err(|_| damaged())?;
        let spec = value.get_mut("spec").ok_or_else(damaged)?;
        let anew = self.rewrap_envelope(&name, spec.to_string().as_bytes()).await?;
        *spec = serde_json::from_str(&anew).map_err(|_| damaged())?;
        Ok(Some(value.to_string()))
    }

    /// Says whether it was another key's. A blob is written once at the first start and never changed beside this.
    async fn rewrap_blob(&self, tables: &dyn SmallTables, name: &str, now: Timestamp) -> Result<bool, StoreError> {
        let Some(sealed) = tables.blob(name).await? else { return Ok(false) };
        let anew = if sealed_with(&sealed).is_some() {
            self.seal_blob(name, &self.open_blob(name, &sealed).await?).await?
        } else {
            match Envelope::parse(&sealed) {
                Some(envelope) if envelope.key_id != self.provider.current() => {
                    self.rewrap_envelope(name, &sealed).await?.into_bytes()
                }
                Some(_) | None => return Ok(false),
            }
        };
        tables.put_blob(name, &anew, now).await?;
        Ok(true)
    }
}
