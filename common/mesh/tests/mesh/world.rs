//! A store of resources with an index behind it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use atoll_mesh::{
    IndexConfig, MeshIndex, MeshSnapshot, Planned, TrustAcceptance,
    snapshot::{Endpoint, ProxyView, Service},
};
use atoll_model::{
    Change, ContentHash, Kind, Labels, Name, Owner, Resource, ResourceKey, Revision, Timestamp, Tombstone, ZoneUid,
    kinds::{MeshIdentity, MeshTrust},
    labels::Viewpoint,
    resource::canonical_json,
    spiffe::TrustDomain,
};
use bytes::Bytes;
use serde_json::{Value, json};

pub(crate) const GLOBAL: Owner = Owner::Global;

pub(crate) fn uid(zone: &str) -> ZoneUid {
    let number = zone.bytes().fold(7_u128, |number, byte| number * 257 + u128::from(byte));
    ZoneUid(uuid::Uuid::from_u128(number))
}

pub(crate) fn zone(name: &str) -> Owner {
    Owner::Zone(uid(name))
}

pub(crate) fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// Believes a zone for the domain that the MeshIdentity of that name records for it.
fn recorded(
    name: &Name,
    owner: ZoneUid,
    trust: &MeshTrust,
    identities: &BTreeMap<Name, MeshIdentity>,
) -> Result<TrustDomain, String> {
    let identity = identities.get(name).ok_or("no such MeshIdentity")?;
    match identity.trust_domains.get(&owner.to_string()) {
        Some(domain) if *domain == trust.trust_domain => Ok(domain.parse().unwrap()),
        other => Err(format!("recorded is {other:?}")),
    }
}

pub(crate) fn new_index(local: &str) -> MeshIndex {
    let viewpoint = Viewpoint::Zone { name: local.into(), uid: uid(local), federated: true };
    let acceptance: Arc<dyn TrustAcceptance> = Arc::new(recorded);
    MeshIndex::new(viewpoint, IndexConfig::default(), acceptance)
}

/// A store, and an index of the zone `a` that follows it.
pub(crate) struct World {
    pub(crate) now: Timestamp,
    pub(crate) resources: BTreeMap<ResourceKey, Arc<Resource>>,
    pub(crate) index: MeshIndex,
    revision: u64,
}

impl World {
    /// Zone `a`, with the Mesh `default` and the zones `b` and `c`.
    pub(crate) fn new() -> Self {
        let mut world =
            Self { now: "2026-01-01T00:00:00Z".parse().unwrap(), resources: BTreeMap::new(), index: new_index("a"), revision: 0 };
        world.put(Kind::Mesh, "", "default", GLOBAL, &[], json!({}));
        for name in ["b", "c"] {
            world.zone(name, true);
        }
        world
    }

    pub(crate) fn zone(&mut self, name: &str, enabled: bool) {
        self.put(Kind::Zone, "", name, GLOBAL, &[], json!({"enabled": enabled, "uid": uid(name).to_string()}));
    }

    pub(crate) fn put(
        &mut self,
        kind: Kind,
        mesh: &str,
        name: &str,
        owner: Owner,
        own_labels: &[(&str, &str)],
        spec: Value,
    ) -> ResourceKey {
        let key = ResourceKey::new(kind, mesh, name, owner);
        self.write(&key, labels(own_labels), canonical_json(&spec));
        key
    }

    pub(crate) fn write(&mut self, key: &ResourceKey, labels: Labels, spec: Bytes) {
        let old = self.resources.get(key);
        let computed = old.and_then(|old| old.computed.clone());
        let created = old.map_or(self.now, |old| old.created);
        self.store(key, labels, spec, computed, created);
    }

    fn store(&mut self, key: &ResourceKey, labels: Labels, spec: Bytes, computed: Option<Bytes>, created: Timestamp) {
        self.revision += 1;
        let mut resource = Resource {
            key: key.clone(),
            revision: Revision(self.revision),
            version: self.revision,
            generation: self.revision,
            labels,
            spec,
            computed,
            hash: ContentHash::default(),
            created,
            modified: self.now,
        };
        resource.hash = ContentHash::of(&resource.labels, &resource.document());
        let resource = Arc::new(resource);
        self.resources.insert(key.clone(), Arc::clone(&resource));
        self.index.apply([&Change::Put(resource)]);
    }

    pub(crate) fn delete(&mut self, key: &ResourceKey) {
        self.revision += 1;
        if self.resources.remove(key).is_some() {
            let tombstone = Tombstone { key: key.clone(), revision: Revision(self.revision), deleted: self.now };
            self.index.apply([&Change::Delete(Arc::new(tombstone))]);
        }
    }

    /// Executes plans until nothing is left to do, and returns how many writes that took.
    pub(crate) fn settle(&mut self) -> usize {
        let mut writes = 0;
        for _ in 0..10 {
            let plan = self.index.plan(self.now);
            if plan.is_empty() {
                return writes;
            }
            writes += plan.len();
            let keys: BTreeSet<_> = plan.iter().filter(|p| !matches!(p, Planned::PutComputed { .. })).map(Planned::key).collect();
            let written = plan.iter().filter(|planned| !matches!(planned, Planned::PutComputed { .. })).count();
            assert_eq!(keys.len(), written, "one plan writes a resource twice");
            plan.into_iter().for_each(|planned| self.execute(planned));
        }
        panic!("plans do not come to an end: {:?}", self.index.plan(self.now));
    }

    pub(crate) fn execute(&mut self, planned: Planned) {
        match planned {
            Planned::Put { key, labels, spec, version } => {
                assert_eq!(self.resources.get(&key).map(|old| old.version), version, "{key}");
                self.write(&key, labels, spec);
            }
            Planned::PutComputed { key, computed } => {
                let old = Arc::clone(&self.resources[&key]);
                self.store(&key, old.labels.clone(), old.spec.clone(), computed, old.created);
            }
            Planned::Delete { key, version } => {
                assert_eq!(self.resources.get(&key).map(|old| old.version), version, "{key}");
                self.delete(&key);
            }
        }
    }

    pub(crate) fn snapshot(&mut self) -> Arc<MeshSnapshot> {
        Arc::clone(&self.index.snapshots()["default"])
    }

    /// An instance of a workload in this zone, with one inbound.
    pub(crate) fn instance(&mut self, name: &str, workload: &str, address: &str, port: u16) -> ResourceKey {
        let spec = json!({"networking": {"address": address, "inbound": [{"port": port, "protocol": "tcp"}]}});
        self.put(Kind::Dataplane, "default", name, zone("a"), &[("kuma.io/workload", workload)], spec)
    }

    /// A service by workload.
    pub(crate) fn service(&mut self, name: &str, owner: Owner, port: u16) -> ResourceKey {
        let selector = json!({"dataplaneLabels": {"matchLabels": {"kuma.io/workload": name}}});
        let spec = json!({"selector": selector, "ports": [{"port": port, "targetPort": port}]});
        self.put(Kind::MeshService, "default", name, owner, &[], spec)
    }

    /// One name for the services with these labels.
    pub(crate) fn multi_zone(&mut self, name: &str, wanted: Value, ports: Value) -> ResourceKey {
        let spec = json!({"selector": {"meshService": {"matchLabels": wanted}}, "ports": ports});
        self.put(Kind::MeshMultiZoneService, "default", name, GLOBAL, &[], spec)
    }

    /// A MeshIdentity for all, with the domains that global recorded.
    pub(crate) fn identity(&mut self, name: &str, zones: &[&str]) -> ResourceKey {
        let domains: BTreeMap<_, _> =
            zones.iter().map(|zone| (uid(zone).to_string(), format!("default.{zone}.mesh.local"))).collect();
        let provider = json!({"type": "Bundled", "bundled": {"autogenerate": {"enabled": true}}});
        let spec = json!({"selector": {"dataplane": {}}, "provider": provider, "trustDomains": domains});
        self.put(Kind::MeshIdentity, "default", name, GLOBAL, &[], spec)
    }

    pub(crate) fn trust(&mut self, name: &str, owner: Owner, domain: &str, pem: &str) -> ResourceKey {
        let spec = json!({"trustDomain": domain, "caBundles": [{"type": "Pem", "pem": {"value": pem}}]});
        self.put(Kind::MeshTrust, "default", name, owner, &[], spec)
    }

    pub(crate) fn address(&mut self, name: &str, owner: Owner, address: &str, port: u16) -> ResourceKey {
        self.put(Kind::MeshZoneAddress, "default", name, owner, &[], json!({"address": address, "port": port}))
    }

    pub(crate) fn generator(&mut self, name: &str, owner: Owner, selector: Value, template: &str) -> ResourceKey {
        let spec = json!({"selector": {"meshService": {"matchLabels": selector}}, "template": template});
        self.put(Kind::HostnameGenerator, "", name, owner, &[], spec)
    }

    pub(crate) fn service_view(&mut self, key: &ResourceKey) -> Arc<Service> {
        Arc::clone(&self.snapshot().services[key])
    }

    pub(crate) fn proxy(&mut self, name: &str) -> Arc<ProxyView> {
        Arc::clone(&self.snapshot().dataplanes[&Name::from(name)])
    }

    /// The condition of a resource: reason and message.
    pub(crate) fn condition(&mut self, key: &ResourceKey) -> Option<(String, String)> {
        let snapshot = self.snapshot();
        snapshot.conditions.get(key).map(|condition| (condition.reason.clone(), condition.message.clone()))
    }

    pub(crate) fn keys(&self, kind: Kind) -> BTreeSet<ResourceKey> {
        self.resources.keys().filter(|key| key.kind == kind).cloned().collect()
    }
}

/// Endpoints of the only port, as text.
pub(crate) fn endpoints(service: &Service) -> Vec<String> {
    let text =
        |endpoint: &Endpoint| format!("{}:{} in {} p{}", endpoint.address, endpoint.port, endpoint.zone, endpoint.priority);
    service.ports.iter().flat_map(|port| &port.endpoints.0).map(text).collect()
}
