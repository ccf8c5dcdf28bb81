//! The table: every resource of the plane, by key and in commit order, as an immutable value.

use std::sync::Arc;

use atoll_model::{
    Change, Kind, Name, Owner, Resource, ResourceKey, Revision, Scope, Timestamp, Tombstone, ZoneUid, kinds::zone::Zone,
};
use atoll_sync::Feed;
use imbl::OrdMap;

use crate::Epochs;

/// The table at one moment. A clone costs nothing and shares everything.
#[derive(Clone, Debug, Default)]
pub struct TableSnapshot {
    resources: OrdMap<ResourceKey, Arc<Resource>>,
    tombstones: OrdMap<ResourceKey, Arc<Tombstone>>,
    /// Resources and tombstones by revision; each key once.
    order: OrdMap<Revision, Change>,
    zones: OrdMap<ZoneUid, Name>,
    /// How many resources each mesh has.
    meshes: OrdMap<Name, usize>,
    revision: Revision,
    durable: Revision,
    horizon: Revision,
    epochs: Epochs,
    not_durable_since: Option<Timestamp>,
    /// Counts how often the table was replaced by one of another history.
    histories: u64,
}

impl TableSnapshot {
    /// The newest revision in the table.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The newest revision that the journal has. Lower than [`TableSnapshot::revision`] only on SQLite.
    pub fn durable(&self) -> Revision {
        self.durable
    }

    /// Since when the journal has not taken what is in the table; `None` when all is well.
    pub fn not_durable_since(&self) -> Option<Timestamp> {
        self.not_durable_since
    }

    /// The stretches of this history.
    pub fn epochs(&self) -> &Epochs {
        &self.epochs
    }

    /// How many resources there are.
    pub fn len(&self) -> usize {
        self.resources.len()
    }

    /// How many resources of all kinds are in a mesh.
    pub fn len_of_mesh(&self, mesh: &Name) -> usize {
        self.meshes.get(mesh).copied().unwrap_or_default()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.resources.is_empty()
    }

    /// The resource with this key.
    pub fn get(&self, key: &ResourceKey) -> Option<&Arc<Resource>> {
        self.resources.get(key)
    }

    /// The resources of a kind, in one mesh or in all, ordered by mesh, name and owner.
    pub fn list(&self, kind: Kind, mesh: Option<&Name>) -> impl Iterator<Item = &Arc<Resource>> + use<'_> {
        let only = mesh.cloned();
        let start = ResourceKey::new(kind, only.clone().unwrap_or_else(Name::none), Name::none(), Owner::Global);
        self.resources
            .range(start..)
            .map(|(_, resource)| resource)
            .take_while(move |found| found.key.kind == kind && only.as_ref().is_none_or(|mesh| found.key.mesh == *mesh))
    }

    /// The resources of a kind with this name, of all owners, ordered by owner.
    pub fn by_name(&self, kind: Kind, mesh: &Name, name: &Name) -> impl Iterator<Item = &Arc<Resource>> + use<'_> {
        let start = ResourceKey::new(kind, mesh.clone(), name.clone(), Owner::Global);
        let (mesh, name) = (mesh.clone(), name.clone());
        self.resources
            .range(start..)
            .map(|(_, resource)| resource)
            .take_while(move |found| found.key.kind == kind && found.key.mesh == mesh && found.key.name == name)
    }

    /// The name of the zone with this identity, from the `Zone` resources.
    pub fn zone_name(&self, uid: ZoneUid) -> Option<Name> {
        self.zones.get(&uid).cloned()
    }

    /// That the resource is gone, while that is remembered.
    pub fn tombstone(&self, key: &ResourceKey) -> Option<&Arc<Tombstone>> {
        self.tombstones.get(key)
    }

    /// Changes after `revision` in commit order, durable or not: each live resource once, at its newest revision, and the
    /// tombstones above the horizon.
    pub fn changes_since(&self, revision: Revision) -> impl Iterator<Item = Change> + use<'_> {
        self.order.range(revision.next()..).map(|(_, change)| change.clone())
    }

    /// Whether [`TableSnapshot::changes_since`] the revision of `earlier` leads from it to this table. It does not after the
    /// journal's history went back (a restored backup, a failover that lost commits): who follows by changes starts over then.
    pub fn continues(&self, earlier: &TableSnapshot) -> bool {
        self.histories == earlier.histories && earlier.revision <= self.revision
    }

    /// A table that holds `everything` that the journal has, in place of this one, which was too far behind to follow by
    /// changes: tombstones that it never saw were pruned. Deletions that follow from that get tombstones of their own, at
    /// revisions that pruned ones have left free, so that readers of this table see them go.
    pub(crate) fn caught_up(&self, everything: Vec<Change>, horizon: Revision, now: Timestamp) -> Self {
        let mut table = Self { epochs: self.epochs.clone(), histories: self.histories, horizon, ..Self::default() };
        for change in everything {
            table.apply(change);
        }
        let gone: Vec<&ResourceKey> = self
            .resources
            .keys()
            .filter(|key| !table.resources.contains_key(*key) && !table.tombstones.contains_key(*key))
            .collect();
        let missed = self.revision.next().0..=horizon.0;
        let free: Vec<Revision> = missed.map(Revision).filter(|at| !table.order.contains_key(at)).take(gone.len()).collect();
        for (key, revision) in gone.into_iter().zip(free) {
            table.apply(Change::Delete(Arc::new(Tombstone { key: key.clone(), revision, deleted: now })));
        }
        table
    }

    /// An empty table for another history than this one.
    pub(crate) fn other_history(&self) -> Self {
        Self { histories: self.histories + 1, ..Self::default() }
    }

    /// Lays one change over the table and moves [`TableSnapshot::revision`] up to it.
    pub(crate) fn apply(&mut self, change: Change) {
        self.forget(change.key());
        let revision = change.revision();
        match &change {
            Change::Put(resource) => {
                self.index_zone(resource);
                self.count(&resource.key, 1);
                self.resources.insert(resource.key.clone(), resource.clone());
            }
            Change::Delete(tombstone) => {
                self.tombstones.insert(tombstone.key.clone(), tombstone.clone());
            }
        }
        self.order.insert(revision, change);
        self.revision = self.revision.max(revision);
    }

    /// Takes out what the table knows of `key`.
    fn forget(&mut self, key: &ResourceKey) {
        if let Some(old) = self.resources.remove(key) {
            self.order.remove(&old.revision);
            self.count(key, -1);
            if key.kind == Kind::Zone {
                self.forget_zone(&key.name);
            }
        }
        if let Some(old) = self.tombstones.remove(key) {
            self.order.remove(&old.revision);
        }
    }

    /// Counts a resource in its mesh, or out of it.
    fn count(&mut self, key: &ResourceKey, by: isize) {
        if key.kind.descriptor().scope != Scope::Mesh {
            return;
        }
        match self.len_of_mesh(&key.mesh).saturating_add_signed(by) {
            0 => drop(self.meshes.remove(&key.mesh)),
            count => drop(self.meshes.insert(key.mesh.clone(), count)),
        }
    }

    fn forget_zone(&mut self, name: &Name) {
        let uid = self.zones.iter().find(|(_, held)| *held == name).map(|(uid, _)| *uid);
        if let Some(uid) = uid {
            self.zones.remove(&uid);
        }
    }

    fn index_zone(&mut self, resource: &Resource) {
        if resource.key.kind != Kind::Zone {
            return;
        }
        if let Ok(Zone { uid: Some(uid), .. }) = resource.parse() {
            self.zones.insert(uid, resource.key.name.clone());
        }
    }

    /// Raises the revision, when the newest changes are no longer in the journal because their tombstones were pruned.
    pub(crate) fn advance(&mut self, revision: Revision) {
        self.revision = self.revision.max(revision);
    }

    /// Says up to where the journal has the table.
    pub(crate) fn set_durable(&mut self, revision: Revision) {
        self.durable = revision;
    }

    pub(crate) fn set_not_durable_since(&mut self, since: Option<Timestamp>) {
        self.not_durable_since = since;
    }

    pub(crate) fn set_epochs(&mut self, epochs: Epochs) {
        self.epochs = epochs;
    }

    /// Raises the horizon and forgets the tombstones up to it.
    pub(crate) fn set_horizon(&mut self, horizon: Revision) {
        if horizon <= self.horizon {
            return;
        }
        self.horizon = horizon;
        let gone: Vec<Arc<Tombstone>> = self.tombstones.values().filter(|stone| stone.revision <= horizon).cloned().collect();
        for tombstone in gone {
            self.tombstones.remove(&tombstone.key);
            self.order.remove(&tombstone.revision);
        }
    }
}

impl Feed for TableSnapshot {
    fn head(&self) -> Revision {
        self.durable
    }

    fn changes(&self, after: Revision, f: &mut dyn FnMut(&Change) -> bool) {
        if after < self.durable {
            let _stopped = self.order.range(after.next()..=self.durable).all(|(_, change)| f(change));
        }
    }

    fn horizon(&self) -> Revision {
        self.horizon
    }
}

#[cfg(test)]
mod tests;
