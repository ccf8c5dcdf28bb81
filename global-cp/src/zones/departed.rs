//! Clears up after a zone that an operator deleted: what it owned goes, and its name is free again.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use atoll_model::{Kind, Name, Owner, ResourceKey, ZoneUid};
use atoll_store::{Actor, Store, StoreError, TableSnapshot, Write, WriteBatch};
use tokio_util::sync::CancellationToken;

use super::registry::zones_of;

/// Pause after a clearing that failed.
const RETRY: Duration = Duration::from_secs(1);

/// Follows deletions of Zones until `stop` is cancelled. A deletion is what an operator wrote: a resource that was there, with the
/// zone's identity, and is gone with a tombstone. Absence alone clears nothing.
pub async fn run(store: Store, stop: CancellationToken) {
    let mut tables = store.subscribe();
    let mut known: BTreeMap<ZoneUid, Name> = BTreeMap::new();
    let mut departed: BTreeMap<ZoneUid, Name> = BTreeMap::new();
    loop {
        let table = Arc::clone(&tables.borrow_and_update());
        let present: BTreeMap<ZoneUid, Name> = zones_of(&table).map(|(uid, name, _)| (uid, name)).collect();
        departed.extend(known.iter().filter(|(uid, _)| !present.contains_key(uid)).map(|(uid, name)| (*uid, name.clone())));
        departed.extend(deleted(&store, &table));
        known = present;
        let mut failed = false;
        let waiting: Vec<_> = departed.iter().map(|(uid, name)| (*uid, name.clone())).collect();
        for (uid, name) in waiting {
            match clear(&store, &table, uid, &name).await {
                Ok(()) => _ = departed.remove(&uid),
                Err(error) => {
                    tracing::warn!(%error, zone = %name, "cannot clear up after zone {name} yet");
                    failed = true;
                }
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            changed = tables.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(RETRY), if failed => {}
        }
    }
}

/// Zones that the registry still knows and a tombstone calls deleted: also when nobody was there to see it happen.
fn deleted(store: &Store, table: &TableSnapshot) -> BTreeMap<ZoneUid, Name> {
    let registry = Arc::clone(&store.registry().borrow());
    let present: BTreeSet<ZoneUid> = zones_of(table).map(|(uid, _, _)| uid).collect();
    let gone = registry.holders().filter(|holder| !present.contains(&holder.uid)).filter(|holder| {
        let key = ResourceKey::new(Kind::Zone, Name::none(), holder.name.clone(), Owner::Global);
        table.tombstone(&key).is_some_and(|tombstone| tombstone.deleted >= holder.bound)
    });
    gone.map(|holder| (holder.uid, holder.name.clone())).collect()
}

async fn clear(store: &Store, table: &TableSnapshot, uid: ZoneUid, name: &Name) -> Result<(), StoreError> {
    let writes = left_by(table, uid);
    let count = writes.len();
    if !writes.is_empty() {
        store.commit(WriteBatch::new(Actor::plane(), writes)).await?;
    }
    // The name may have a new holder by now.
    let holder = store.registry().borrow().holder(name).map(|holder| holder.uid);
    if holder == Some(uid) {
        store.release_zone(name).await?;
    }
    tracing::info!(zone = %name, zone.uid = %uid, count, "zone {name} was deleted: {count} resources of it went with it, its name is free");
    Ok(())
}

/// Deletions of all that a zone owns.
fn left_by(table: &TableSnapshot, uid: ZoneUid) -> Vec<Write> {
    let all = Kind::ALL.iter().flat_map(|kind| table.list(*kind, None));
    all.filter(|resource| resource.key.owner == Owner::Zone(uid)).map(|resource| Write::delete(resource.key.clone())).collect()
}

#[cfg(test)]
mod tests {
    use atoll_model::Labels;
    use atoll_store::testing::TestStore;
    use serde_json::json;
    use uuid::Uuid;

    use super::*;

    const AZURE: ZoneUid = ZoneUid(Uuid::from_u128(1));
    const GCP: ZoneUid = ZoneUid(Uuid::from_u128(2));

    async fn commit(store: &Store, write: Write) {
        store.commit(WriteBatch::one(Actor::plane(), write)).await.unwrap();
    }

    async fn joined(store: &Store, name: &str, uid: ZoneUid) {
        store.bind_zone(&name.into(), uid).await.unwrap();
        let zone = ResourceKey::new(Kind::Zone, "", name, Owner::Global);
        commit(store, Write::put(zone, Labels::new(), json!({ "uid": uid }).to_string())).await;
        commit(store, Write::put(service(uid), Labels::new(), "{}")).await;
    }

    fn service(uid: ZoneUid) -> ResourceKey {
        ResourceKey::new(Kind::MeshService, "default", "api", Owner::Zone(uid))
    }

    fn delete(name: &str) -> Write {
        Write::delete(ResourceKey::new(Kind::Zone, "", name, Owner::Global))
    }

    async fn until_gone(store: &Store, uid: ZoneUid) {
        let (mut tables, mut registry) = (store.subscribe(), store.registry());
        let gone = async {
            while store.snapshot().get(&service(uid)).is_some() {
                tables.changed().await.unwrap();
            }
            while registry.borrow_and_update().by_uid(uid).is_some() {
                registry.changed().await.unwrap();
            }
        };
        tokio::time::timeout(Duration::from_secs(5), gone).await.unwrap();
    }

    #[tokio::test]
    async fn with_a_deleted_zone_goes_what_it_owned_and_nothing_else() {
        let test = TestStore::sqlite().await.unwrap();
        joined(&test.store, "azure", AZURE).await;
        joined(&test.store, "gcp", GCP).await;
        let stop = CancellationToken::new();
        let running = tokio::spawn(run(test.store.clone(), stop.clone()));
        tokio::task::yield_now().await;
        commit(&test.store, delete("azure")).await;
        until_gone(&test.store, AZURE).await;
        assert!(test.store.snapshot().get(&service(GCP)).is_some());
        stop.cancel();
        running.await.unwrap();
    }

    #[tokio::test]
    async fn a_deletion_that_nobody_saw_is_cleared_at_the_next_start() {
        let test = TestStore::sqlite().await.unwrap();
        joined(&test.store, "azure", AZURE).await;
        test.clock.advance(chrono::TimeDelta::minutes(1));
        commit(&test.store, delete("azure")).await;
        let stop = CancellationToken::new();
        let running = tokio::spawn(run(test.store.clone(), stop.clone()));
        until_gone(&test.store, AZURE).await;
        stop.cancel();
        running.await.unwrap();
    }

    #[tokio::test]
    async fn a_zone_that_is_only_absent_keeps_everything() {
        let test = TestStore::sqlite().await.unwrap();
        // Bound and with resources, but its Zone was never there: nobody deleted it.
        test.store.bind_zone(&"azure".into(), AZURE).await.unwrap();
        commit(&test.store, Write::put(service(AZURE), Labels::new(), "{}")).await;
        assert_eq!(deleted(&test.store, &test.store.snapshot()), BTreeMap::new());
    }
}
