//! Keeps the recorded trust domains of MeshIdentities equal to what they should be: one per MeshIdentity and zone, once and for ever.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use atoll_model::{Kind, Name, Owner, ResourceKey, ZoneUid, kinds::MeshIdentity, resource::canonical_json};
use atoll_store::{Actor, Expect, Store, TableSnapshot, Write, WriteBatch};
use atoll_trust::acceptance::{self, DomainFault};
use serde_json::json;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::registry::zones_of;

/// Pause after a record that could not be written.
const RETRY: Duration = Duration::from_millis(250);

/// Who gets no trust domain, by MeshIdentity.
pub type Faults = BTreeMap<ResourceKey, Vec<(ZoneUid, DomainFault)>>;

/// The reconciler.
pub struct TrustDomains {
    store: Store,
    faults: watch::Sender<Arc<Faults>>,
}

impl TrustDomains {
    /// Makes the reconciler, and a view of what it cannot record.
    pub fn new(store: Store) -> (Self, watch::Receiver<Arc<Faults>>) {
        let (faults, seen) = watch::channel(Arc::default());
        (Self { store, faults }, seen)
    }

    /// Looks at each change of the table until `stop` is cancelled.
    pub async fn run(self, stop: CancellationToken) {
        let mut tables = self.store.subscribe();
        loop {
            let table = Arc::clone(&tables.borrow_and_update());
            let (writes, faults) = plan(&table);
            self.publish(faults);
            let mut pause = None;
            if !writes.is_empty()
                && let Err(error) = self.store.commit(WriteBatch::new(Actor::plane(), writes)).await
            {
                tracing::warn!(%error, "cannot record trust domains; trying again");
                pause = Some(RETRY);
            }
            tokio::select! {
                () = stop.cancelled() => return,
                changed = tables.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(pause.unwrap_or_default()), if pause.is_some() => {}
            }
        }
    }

    fn publish(&self, faults: Faults) {
        self.faults.send_if_modified(|known| {
            if **known == faults {
                return false;
            }
            for (identity, refused) in &faults {
                for (zone, fault) in refused {
                    tracing::warn!(resource.name = %identity.name, mesh = %identity.mesh, zone.uid = %zone, "{identity} has no trust domain: {fault}");
                }
            }
            *known = Arc::new(faults);
            true
        });
    }
}

/// What to write so that every MeshIdentity of global has its records, and who gets none.
pub fn plan(table: &TableSnapshot) -> (Vec<Write>, Faults) {
    let zones: BTreeMap<ZoneUid, Name> = zones_of(table).map(|(uid, name, _)| (uid, name)).collect();
    let (mut writes, mut faults) = (Vec::new(), Faults::new());
    for (mesh, identities) in identities_by_mesh(table) {
        let recording = acceptance::record(&identities, &mesh, &zones);
        let key = |name: Name| ResourceKey::new(Kind::MeshIdentity, mesh.clone(), name, Owner::Global);
        for (name, record) in recording.changed {
            let computed = (!record.is_empty()).then(|| canonical_json(&json!({ "trustDomains": record })));
            writes.push(Write::PutComputed { key: key(name), computed, expect: Expect::Any });
        }
        for (name, zone, fault) in recording.refused {
            faults.entry(key(name)).or_default().push((zone, fault));
        }
    }
    (writes, faults)
}

fn identities_by_mesh(table: &TableSnapshot) -> BTreeMap<Name, BTreeMap<Name, MeshIdentity>> {
    let mut meshes: BTreeMap<Name, BTreeMap<Name, MeshIdentity>> = BTreeMap::new();
    for resource in table.list(Kind::MeshIdentity, None).filter(|resource| resource.key.owner == Owner::Global) {
        if let Ok(identity) = resource.parse() {
            meshes.entry(resource.key.mesh.clone()).or_default().insert(resource.key.name.clone(), identity);
        }
    }
    meshes
}

/// The MeshIdentities of global in one mesh: by whose records MeshTrusts are judged.
pub(super) fn identities_of(table: &TableSnapshot, mesh: &Name) -> BTreeMap<Name, MeshIdentity> {
    let owned = table.list(Kind::MeshIdentity, Some(mesh)).filter(|resource| resource.key.owner == Owner::Global);
    owned.filter_map(|resource| Some((resource.key.name.clone(), resource.parse().ok()?))).collect()
}

#[cfg(test)]
mod tests {
    use atoll_link::Review;
    use atoll_model::{Labels, Timestamp};
    use atoll_store::testing::TestStore;
    use atoll_trust::ca::WorkloadCa;
    use rand::{SeedableRng, rngs::StdRng};
    use serde_json::Value;
    use uuid::Uuid;

    use super::*;
    use crate::zones::ZoneReview;

    const AZURE: ZoneUid = ZoneUid(Uuid::from_u128(1));
    const GCP: ZoneUid = ZoneUid(Uuid::from_u128(2));

    async fn put(store: &Store, kind: Kind, mesh: &str, name: &str, spec: Value) {
        let write = Write::put(ResourceKey::new(kind, mesh, name, Owner::Global), Labels::new(), spec.to_string());
        store.commit(WriteBatch::one(Actor::plane(), write)).await.unwrap();
    }

    async fn zones(store: &Store) {
        put(store, Kind::Zone, "", "azure", json!({ "uid": AZURE })).await;
        put(store, Kind::Zone, "", "gcp", json!({ "uid": GCP })).await;
    }

    fn identity(domain: &str) -> Value {
        json!({
            "spiffeID": { "trustDomain": domain },
            "provider": { "type": "Bundled", "bundled": { "autogenerate": { "enabled": true } } }
        })
    }

    fn recorded(store: &Store) -> BTreeMap<String, String> {
        identities_of(&store.snapshot(), &"default".into()).remove("identity").unwrap().trust_domains
    }

    async fn until(store: &Store, expected: &[(ZoneUid, &str)]) {
        let expected: BTreeMap<_, _> = expected.iter().map(|(uid, domain)| (uid.to_string(), (*domain).to_owned())).collect();
        let mut tables = store.subscribe();
        let reached = async {
            while recorded(store) != expected {
                tables.changed().await.unwrap();
            }
        };
        let reached = tokio::time::timeout(Duration::from_secs(5), reached).await;
        assert!(reached.is_ok(), "{:?} instead of {expected:?}", recorded(store));
    }

    #[tokio::test]
    async fn a_domain_is_recorded_when_zone_and_identity_are_there_and_never_changes() {
        let test = TestStore::sqlite().await.unwrap();
        let (reconciler, _faults) = TrustDomains::new(test.store.clone());
        let stop = CancellationToken::new();
        let running = tokio::spawn(reconciler.run(stop.clone()));
        put(&test.store, Kind::MeshIdentity, "default", "identity", identity("{{ .Zone }}.mesh")).await;
        zones(&test.store).await;
        let both = [(AZURE, "azure.mesh"), (GCP, "gcp.mesh")];
        until(&test.store, &both).await;
        put(&test.store, Kind::MeshIdentity, "default", "identity", identity("{{ .Zone }}.other")).await;
        let deleted = Write::delete(ResourceKey::new(Kind::Zone, "", "gcp", Owner::Global));
        test.store.commit(WriteBatch::one(Actor::plane(), deleted)).await.unwrap();
        until(&test.store, &both[..1]).await;
        stop.cancel();
        running.await.unwrap();
    }

    #[tokio::test]
    async fn one_domain_for_all_zones_is_refused_and_shown() {
        let test = TestStore::sqlite().await.unwrap();
        zones(&test.store).await;
        put(&test.store, Kind::MeshIdentity, "default", "identity", identity("corp.mesh")).await;
        let (writes, faults) = plan(&test.store.snapshot());
        assert_eq!(writes, []);
        let refused = faults.values().flatten().map(|(zone, _)| *zone).collect::<Vec<_>>();
        assert_eq!(refused, [AZURE, GCP]);
    }

    #[tokio::test]
    async fn a_zones_own_identity_gets_no_record() {
        let test = TestStore::sqlite().await.unwrap();
        zones(&test.store).await;
        let key = ResourceKey::new(Kind::MeshIdentity, "default", "identity", Owner::Zone(GCP));
        let write = Write::put(key, Labels::new(), identity("{{ .Zone }}.mesh").to_string());
        test.store.commit(WriteBatch::one(Actor::plane(), write)).await.unwrap();
        assert_eq!(plan(&test.store.snapshot()), (Vec::new(), Faults::new()));
    }

    #[tokio::test]
    async fn global_takes_trust_only_for_what_it_recorded() {
        let test = TestStore::sqlite().await.unwrap();
        zones(&test.store).await;
        put(&test.store, Kind::MeshIdentity, "default", "identity", identity("{{ .Zone }}.mesh")).await;
        let trust = |zone: ZoneUid, domain: &str| {
            let now: Timestamp = "2030-01-01T12:00:00Z".parse().unwrap();
            let ca = WorkloadCa::generate(&domain.parse().unwrap(), now, &mut StdRng::seed_from_u64(1)).unwrap();
            let spec = json!({ "trustDomain": domain, "caBundles": [{ "type": "Pem", "pem": { "value": ca.cert_pem() } }] });
            let key = ResourceKey::new(Kind::MeshTrust, "default", "identity", Owner::Zone(zone));
            ZoneReview::new(test.store.clone()).review(&key, &Labels::new(), &spec)
        };
        assert!(trust(AZURE, "azure.mesh").unwrap_err().contains("no trust domain is recorded"));
        let (writes, _) = plan(&test.store.snapshot());
        test.store.commit(WriteBatch::new(Actor::plane(), writes)).await.unwrap();
        assert_eq!(trust(AZURE, "azure.mesh"), Ok(()));
        assert_eq!(trust(GCP, "gcp.mesh"), Ok(()));
        assert!(trust(GCP, "azure.mesh").unwrap_err().contains("may speak for"));
    }
}
