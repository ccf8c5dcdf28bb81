//! What is remembered of proxies over restarts of the plane: soft rows, one for each proxy.
//!
//! An Envoy outlives the plane and comes back with what it has; without these rows its chains would get other names, which cuts
//! streams, and its outbounds other addresses, which breaks names that clients hold.

use std::{collections::BTreeMap, net::IpAddr};

use atoll_store::{Store, StoreError};
use bytes::Bytes;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::chains::ChainState;
use crate::runners::ProxyId;

const PREFIX: &str = "proxy/";

/// What is remembered of one proxy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remembered {
    /// The range in which it binds outbounds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<IpNet>,
    /// Whether connections and requests are logged.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub access_log: bool,
    /// The virtual addresses that were bound in it, in the order in which they appeared: the binder's result follows from it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vips: Vec<IpAddr>,
    /// What each inbound granted.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub chains: BTreeMap<String, ChainState>,
}

/// Reads all rows. A row that cannot be read is left out: its proxy starts over.
///
/// # Errors
/// When the store cannot be read.
pub async fn load(store: &Store) -> Result<BTreeMap<ProxyId, Remembered>, StoreError> {
    let rows = store.soft(PREFIX).await?;
    Ok(rows.into_iter().filter_map(|row| Some((id_of(&row.key)?, serde_json::from_slice(&row.value).ok()?))).collect())
}

/// Writes the rows of some proxies.
///
/// # Errors
/// When the store cannot be written; nothing is lost but what a restart would need.
pub async fn save(store: &Store, rows: Vec<(ProxyId, Remembered)>) -> Result<(), StoreError> {
    let rows = rows.iter().filter_map(|(id, row)| Some((key_of(id), Bytes::from(serde_json::to_vec(row).ok()?)))).collect();
    store.put_soft(rows).await
}

fn key_of(id: &ProxyId) -> String {
    format!("{PREFIX}{}/{}", id.mesh, id.name)
}

fn id_of(key: &str) -> Option<ProxyId> {
    let (mesh, name) = key.strip_prefix(PREFIX)?.split_once('/')?;
    Some(ProxyId::new(mesh, name))
}
