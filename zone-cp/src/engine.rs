//! The owner of the zone's index: turns the newest table into snapshots, and writes what the zone makes by itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use atoll_mesh::{MeshIndex, MeshSnapshot, Planned};
use atoll_model::{Clock, Name, Revision};
use atoll_store::{Actor, Expect, Store, StoreError, TableSnapshot, Write, WriteBatch};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{hosts::Addresses, identity::Identities};

/// The longest pause when nothing changes: the safety net of what follows from the passing of time alone.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// Pause after a plan that could not be written.
const RETRY: Duration = Duration::from_millis(250);

/// Every mesh, as this zone sees it.
#[derive(Clone, Debug, Default)]
pub struct ZoneView {
    /// The revision of the table that it was made from.
    pub revision: Revision,
    /// The meshes.
    pub meshes: BTreeMap<Name, Arc<MeshSnapshot>>,
    /// The shapes of the hostnames that generators make: `*.*.mesh.acme.corp`.
    pub name_shapes: Arc<BTreeSet<String>>,
}

/// The owner.
pub struct Engine {
    store: Store,
    index: MeshIndex,
    identities: Arc<Identities>,
    clock: Arc<dyn Clock>,
    publish: watch::Sender<Arc<ZoneView>>,
    hosts: watch::Sender<BTreeSet<String>>,
    /// The table that the index was made from.
    applied: Option<Arc<TableSnapshot>>,
}

impl Engine {
    /// Reads the table once, so that the first view is complete before anybody asks.
    pub fn new(
        store: Store,
        index: MeshIndex,
        identities: Arc<Identities>,
        clock: Arc<dyn Clock>,
    ) -> (Self, watch::Receiver<Arc<ZoneView>>) {
        let (publish, view) = watch::channel(Arc::default());
        let hosts = watch::Sender::new(BTreeSet::new());
        let mut engine = Self { store, index, identities, clock, publish, hosts, applied: None };
        let table = engine.store.snapshot();
        engine.look(&table);
        (engine, view)
    }

    /// The host names whose addresses the index needs.
    pub fn hosts(&self) -> watch::Receiver<BTreeSet<String>> {
        self.hosts.subscribe()
    }

    /// Follows the table, and what host names lead to, until `stop` is cancelled.
    pub(crate) async fn run(mut self, mut addresses: watch::Receiver<Addresses>, stop: CancellationToken) {
        let mut tables = self.store.subscribe();
        let mut identities = self.identities.changed();
        let mut acknowledged = self.identities.acknowledgements().changed();
        loop {
            let table = Arc::clone(&tables.borrow_and_update());
            self.look(&table);
            let pause = match self.act(&table).await {
                Ok(()) => self.pause(),
                Err(error) => {
                    tracing::warn!(%error, "cannot write what the zone makes by itself; trying again");
                    RETRY
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                changed = tables.changed() => if changed.is_err() { return },
                changed = identities.changed() => if changed.is_err() { return },
                changed = acknowledged.changed() => if changed.is_err() { return },
                changed = addresses.changed() => {
                    if changed.is_err() { return }
                    self.resolve(&addresses.borrow_and_update().clone());
                }
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Brings the index up to date and publishes.
    fn look(&mut self, table: &Arc<TableSnapshot>) {
        let after = match &self.applied {
            Some(applied) if table.continues(applied) => applied.revision(),
            Some(applied) => {
                tracing::warn!(had = %applied.revision(), has = %table.revision(), "the store's history went back; taking all of it anew");
                self.index.start_over();
                Revision::default()
            }
            None => Revision::default(),
        };
        if self.applied.is_some() && after == table.revision() {
            return;
        }
        let changes: Vec<_> = table.changes_since(after).collect();
        self.applied = Some(Arc::clone(table));
        self.index.apply(&changes);
        self.show();
    }

    fn resolve(&mut self, addresses: &Addresses) {
        for (host, address) in addresses {
            self.index.resolve(host, *address);
        }
        self.show();
    }

    fn show(&mut self) {
        let meshes = self.index.snapshots();
        let revision = self.applied.as_ref().map(|table| table.revision()).unwrap_or_default();
        let shapes = self.index.name_shapes();
        self.publish.send_modify(|view| {
            let name_shapes = if *view.name_shapes == shapes { Arc::clone(&view.name_shapes) } else { Arc::new(shapes) };
            *view = Arc::new(ZoneView { revision, meshes, name_shapes });
        });
        let hosts = self.index.hosts();
        self.hosts.send_if_modified(|held| {
            let changed = *held != hosts;
            *held = hosts;
            changed
        });
    }

    /// How long nothing has to be done: until the end of the next grace period or the next try of what failed, at most a minute.
    fn pause(&self) -> Duration {
        let until = |at: atoll_model::Timestamp| (at - self.clock.now()).to_std().unwrap_or_default();
        [self.index.wake_at(), self.identities.wake_at()].into_iter().flatten().map(until).fold(LOOK_AGAIN, Duration::min)
    }

    /// Writes what the plan asks for. The writes come back as changes of the table.
    async fn act(&mut self, table: &TableSnapshot) -> Result<(), StoreError> {
        let now = self.clock.now();
        let mut planned = self.index.plan(now);
        planned.extend(self.identities.plan(table, &self.index.snapshots(), now));
        if planned.is_empty() {
            return Ok(());
        }
        let writes = planned.into_iter().map(write).collect();
        match self.store.commit(WriteBatch::new(Actor::plane(), writes)).await {
            Ok(_) => Ok(()),
            // Somebody was faster; the next look sees what there is now.
            Err(error @ (StoreError::Conflict { .. } | StoreError::NotFound(_) | StoreError::AlreadyExists(_))) => {
                tracing::debug!(%error, "a plan was overtaken");
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

fn write(planned: Planned) -> Write {
    match planned {
        Planned::Put { key, labels, spec, version } => Write::Put { key, labels, spec, expect: expect(version) },
        Planned::PutComputed { key, computed } => Write::PutComputed { key, computed, expect: Expect::Any },
        Planned::Delete { key, version } => Write::Delete { key, expect: version.map_or(Expect::Any, Expect::Version) },
    }
}

/// What a plan has seen must still be so.
fn expect(version: Option<u64>) -> Expect {
    version.map_or(Expect::Absent, Expect::Version)
}

#[cfg(test)]
mod tests;
