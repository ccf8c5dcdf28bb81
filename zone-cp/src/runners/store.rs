//! What the registry wants of the zone's store.

use atoll_model::Labels;
use bytes::Bytes;

use super::{admission::Principal, liveness::ProxyId, registration::Authored};

/// A Dataplane of this zone in the store.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredDataplane {
    /// Mesh and name.
    pub id: ProxyId,
    /// Its labels and spec, as they are stored now.
    pub authored: Authored,
}

/// The Dataplanes that this zone owns, in the zone's store.
#[tonic::async_trait]
pub trait DataplaneStore: Send + Sync + 'static {
    /// Those that a runner registered (`kuma.io/managed-by` is [`super::registration::MANAGED_BY_RUNNER`]); read once, at start.
    fn journal(&self) -> Vec<StoredDataplane>;
    /// The one of this name.
    fn get(&self, id: &ProxyId) -> Option<StoredDataplane>;
    /// Writes one; nothing happens when it is so already. Returns when it is durable in this zone.
    async fn put(&self, id: &ProxyId, labels: &Labels, spec: Bytes, by: &Principal) -> Result<(), StoreRefusal>;
    /// Deletes one, if it is there.
    async fn delete(&self, id: &ProxyId, by: &Principal) -> Result<(), StoreRefusal>;
}

/// Why the store did not take a Dataplane.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreRefusal {
    /// Not now: the mesh is not known here yet, or the store is away.
    #[error("{0}")]
    Later(String),
    /// Never in this form.
    #[error("{0}")]
    Never(String),
}
