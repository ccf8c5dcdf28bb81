//! The Dataplanes of this zone in its store.

use std::sync::Arc;

use atoll_model::{Kind, Labels, Name, Owner, Resource, ResourceKey, labels::MANAGED_BY};
use atoll_store::{Actor, Expect, Store, StoreError, Write, WriteBatch};
use bytes::Bytes;

use crate::runners::{
    Authored, DataplaneStore, Principal, ProxyId, StoreRefusal, StoredDataplane, registration::MANAGED_BY_RUNNER,
};

/// The Dataplanes that this zone owns.
pub struct Dataplanes {
    store: Store,
    owner: Owner,
}

impl Dataplanes {
    /// Those of `owner`, this zone.
    pub fn new(store: Store, owner: Owner) -> Arc<Self> {
        Arc::new(Self { store, owner })
    }

    fn key(&self, id: &ProxyId) -> ResourceKey {
        ResourceKey::new(Kind::Dataplane, id.mesh.clone(), id.name.clone(), self.owner)
    }

    async fn write(&self, write: Write, by: &Principal) -> Result<(), StoreRefusal> {
        let actor = Actor::recorded(by.subject.clone(), None);
        match self.store.commit(WriteBatch::new(actor, vec![write])).await {
            Ok(_) => Ok(()),
            Err(error @ StoreError::Unavailable(_)) => Err(StoreRefusal::Later(error.to_string())),
            Err(error) => Err(StoreRefusal::Never(error.to_string())),
        }
    }
}

fn stored(resource: &Arc<Resource>) -> Option<StoredDataplane> {
    let id = ProxyId::new(resource.key.mesh.clone(), resource.key.name.clone());
    let spec = serde_json::from_slice(&resource.spec).ok()?;
    Some(StoredDataplane { id, authored: Authored { labels: resource.labels.clone(), spec } })
}

#[tonic::async_trait]
impl DataplaneStore for Dataplanes {
    fn journal(&self) -> Vec<StoredDataplane> {
        let table = self.store.snapshot();
        let own = table.list(Kind::Dataplane, None).filter(|resource| resource.key.owner == self.owner);
        own.filter(|resource| resource.labels.get(MANAGED_BY).is_some_and(|by| by == MANAGED_BY_RUNNER))
            .filter_map(stored)
            .collect()
    }

    fn get(&self, id: &ProxyId) -> Option<StoredDataplane> {
        self.store.snapshot().get(&self.key(id)).and_then(stored)
    }

    async fn put(&self, id: &ProxyId, labels: &Labels, spec: Bytes, by: &Principal) -> Result<(), StoreRefusal> {
        let mesh = ResourceKey::new(Kind::Mesh, Name::none(), id.mesh.clone(), Owner::Global);
        let known = {
            let table = self.store.snapshot();
            table.get(&mesh).is_some() || table.get(&ResourceKey { owner: self.owner, ..mesh }).is_some()
        };
        if !known {
            return Err(StoreRefusal::Later(format!("mesh {:?} is not known in this zone", &*id.mesh)));
        }
        let write = Write::Put { key: self.key(id), labels: labels.clone(), spec, expect: Expect::Any };
        self.write(write, by).await
    }

    async fn delete(&self, id: &ProxyId, by: &Principal) -> Result<(), StoreRefusal> {
        self.write(Write::delete(self.key(id)), by).await
    }
}
