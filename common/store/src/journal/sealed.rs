//! Sealed rows, as a change of keys reads them.

use std::str::FromStr;

use atoll_model::{Kind, Owner, ResourceKey};

use crate::StoreError;

/// A sealed entry of history.
#[derive(Clone, Debug)]
pub(crate) struct SealedHistory {
    pub(crate) revision: i64,
    pub(crate) key: ResourceKey,
    pub(crate) before: Option<String>,
    pub(crate) after: Option<String>,
}

/// The parts of a key, as they stand in the columns.
pub(super) type KeyColumns = (String, String, String, String);

pub(super) fn key((kind, mesh, name, owner): KeyColumns) -> Result<ResourceKey, StoreError> {
    let kind = Kind::from_str(&kind).map_err(|error| StoreError::Corrupt(error.to_string()))?;
    let owner = Owner::from_str(&owner).map_err(|error| StoreError::Corrupt(format!("{kind}/{name}: {error}")))?;
    Ok(ResourceKey::new(kind, mesh, name, owner))
}
