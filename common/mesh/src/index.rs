//! The index: one owner, fed with changes in the order of the store.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use atoll_model::{Change, Kind, Name, Owner, Resource, ResourceKey, Timestamp, condition::Condition, labels::Viewpoint};
use ipnet::Ipv4Net;

use crate::{
    MeshSnapshot,
    context::Context,
    hostnames,
    plan::{Plan, Planned},
    realm::{Realm, fault, names::by_mesh},
    trust::TrustAcceptance,
    vips::Vips,
};

/// What an operator may set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexConfig {
    /// Network of the virtual addresses of MeshServices.
    pub service_vips: Ipv4Net,
    /// Network of those of MeshMultiZoneServices.
    pub multi_zone_vips: Ipv4Net,
}

impl Default for IndexConfig {
    /// Kuma's networks, 241.0.0.0/8 and 243.0.0.0/8.
    fn default() -> Self {
        let network = |first| Ipv4Net::new_assert(Ipv4Addr::new(first, 0, 0, 0), 8);
        Self { service_vips: network(241), multi_zone_vips: network(243) }
    }
}

/// Every mesh as one zone sees it. Has one owner; others read its snapshots.
///
/// [`MeshIndex::apply`] stores changes and marks what depends on them; [`MeshIndex::snapshots`] derives just that again. A
/// snapshot is a function of the resources alone, but for virtual addresses that are allocated and not stored yet: execute
/// [`MeshIndex::plan`] soon.
pub struct MeshIndex {
    context: Context,
    vips: Vips,
    realms: BTreeMap<Name, Realm>,
    /// What is wrong with resources beside the meshes.
    conditions: BTreeMap<ResourceKey, Condition>,
    wake: Option<Timestamp>,
}

impl std::fmt::Debug for MeshIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MeshIndex").field("viewpoint", &self.context.viewpoint).finish_non_exhaustive()
    }
}

impl MeshIndex {
    /// An index without resources. `acceptance` judges the MeshTrusts of other zones.
    pub fn new(viewpoint: Viewpoint, config: IndexConfig, acceptance: Arc<dyn TrustAcceptance>) -> Self {
        Self {
            context: Context::new(viewpoint, acceptance),
            vips: Vips::new([(Kind::MeshService, config.service_vips), (Kind::MeshMultiZoneService, config.multi_zone_vips)]),
            realms: BTreeMap::new(),
            conditions: BTreeMap::new(),
            wake: None,
        }
    }

    /// Takes changes. Feed all that a table holds before the first snapshot: stored virtual addresses must be known by then.
    pub fn apply<'a>(&mut self, changes: impl IntoIterator<Item = &'a Change>) {
        for change in changes {
            match change {
                Change::Put(resource) => self.put(resource),
                Change::Delete(tombstone) => self.delete(&tombstone.key),
            }
        }
    }

    /// Forgets every resource, but not what host names lead to. For a table that does not follow from the one before it by changes;
    /// feed all that it holds next.
    pub fn start_over(&mut self) {
        self.context = self.context.emptied();
        self.vips = self.vips.emptied();
        self.realms.clear();
        self.conditions.clear();
        self.wake = None;
    }

    /// The snapshot of every mesh that exists or has anything in it. A mesh in which nothing changed keeps its `Arc`.
    pub fn snapshots(&mut self) -> BTreeMap<Name, Arc<MeshSnapshot>> {
        self.refresh();
        self.realms.iter_mut().map(|(name, realm)| (name.clone(), realm.snapshot())).collect()
    }

    /// What this zone must write. Empty once all of it is stored; cheap then. Global plans nothing.
    pub fn plan(&mut self, now: Timestamp) -> Vec<Planned> {
        self.refresh();
        let mut plan = Plan::default();
        if matches!(self.context.owner, Owner::Global) {
            return plan.writes;
        }
        for realm in self.realms.values_mut() {
            realm.plan_workloads(&self.context, now, &mut plan);
            realm.plan_computed(&mut plan);
            realm.plan_addresses(&self.context, &mut plan);
        }
        let realms = &self.realms;
        let exists = |service: &ResourceKey| realms.get(&service.mesh).is_some_and(|realm| realm.has_service(service));
        self.vips.plan(self.context.owner, now, exists, &mut plan);
        self.wake = plan.wake;
        plan.writes
    }

    /// When the last plan wants to be made again although nothing changes: the end of the next grace period.
    pub fn wake_at(&self) -> Option<Timestamp> {
        self.wake
    }

    /// Host names that stand where an address is needed: the caller resolves them, again and again.
    pub fn hosts(&self) -> BTreeSet<String> {
        self.realms.values().flat_map(Realm::hosts).map(str::to_owned).collect()
    }

    /// The shapes of the hostnames that generators make, `*` for a label that differs from name to name: `*.*.mesh.acme.corp`.
    pub fn name_shapes(&self) -> BTreeSet<String> {
        self.context.generators.shapes().collect()
    }

    /// Takes what a host name leads to; without an address its endpoints are left out.
    pub fn resolve(&mut self, host: &str, address: Option<IpAddr>) {
        let old = match address {
            Some(address) => self.context.hosts.insert(host.to_owned(), address),
            None => self.context.hosts.remove(host),
        };
        if old != address {
            self.realms.values_mut().for_each(|realm| realm.mark_host(host));
        }
    }

    /// What is wrong with resources beside the meshes; those inside stand in their mesh's snapshot.
    pub fn conditions(&self) -> &BTreeMap<ResourceKey, Condition> {
        &self.conditions
    }

    fn refresh(&mut self) {
        for realm in self.realms.values_mut() {
            realm.refresh(&self.context, &mut self.vips);
        }
        self.realms.retain(|_, realm| !realm.is_empty());
    }

    fn realm(&mut self, mesh: &Name) -> &mut Realm {
        self.realms.entry(mesh.clone()).or_insert_with(|| Realm::new(&self.context, mesh.clone()))
    }

    fn put(&mut self, resource: &Arc<Resource>) {
        let key = &resource.key;
        if !self.concerns(key) {
            return;
        }
        match key.kind {
            Kind::Mesh => self.realm(&key.name.clone()).set_present(true),
            Kind::Zone => self.set_zone(key, Some(resource)),
            Kind::HostnameGenerator => self.put_generator(resource),
            Kind::VipAllocation => {
                let touched = self.vips.put_row(resource);
                self.mark_vips(touched);
            }
            Kind::Dataplane
            | Kind::MeshService
            | Kind::MeshMultiZoneService
            | Kind::MeshZoneAddress
            | Kind::MeshIdentity
            | Kind::MeshTrust
            | Kind::MeshTrafficPermission
            | Kind::MeshTimeout
            | Kind::MeshTls
            | Kind::MeshLoadBalancingStrategy
            | Kind::MeshPassthrough => self.put_in_mesh(resource),
            // Stored, without effect here.
            Kind::MeshExternalService
            | Kind::Workload
            | Kind::Secret
            | Kind::GlobalSecret
            | Kind::AccessRole
            | Kind::AccessRoleBinding => {}
        }
    }

    fn put_in_mesh(&mut self, resource: &Arc<Resource>) {
        let key = &resource.key;
        let context = &self.context;
        let realm = self.realms.entry(key.mesh.clone()).or_insert_with(|| Realm::new(context, key.mesh.clone()));
        match key.kind {
            Kind::Dataplane => realm.put_dataplane(context, resource),
            Kind::MeshService => realm.put_service(context, resource),
            Kind::MeshMultiZoneService => realm.put_multi_zone(resource),
            Kind::MeshZoneAddress => realm.put_address(context, resource),
            Kind::MeshIdentity => realm.put_identity(context, resource),
            Kind::MeshTrust => realm.put_trust(resource),
            Kind::MeshTrafficPermission
            | Kind::MeshTimeout
            | Kind::MeshTls
            | Kind::MeshLoadBalancingStrategy
            | Kind::MeshPassthrough => realm.put_policy(context, resource),
            Kind::Mesh
            | Kind::Zone
            | Kind::HostnameGenerator
            | Kind::VipAllocation
            | Kind::MeshExternalService
            | Kind::Workload
            | Kind::Secret
            | Kind::GlobalSecret
            | Kind::AccessRole
            | Kind::AccessRoleBinding => {}
        }
    }

    fn delete(&mut self, key: &ResourceKey) {
        let context = &self.context;
        let realm = self.realms.get_mut(if key.kind == Kind::Mesh { &key.name } else { &key.mesh });
        match (key.kind, realm) {
            (Kind::Zone, _) => self.set_zone(key, None),
            (Kind::HostnameGenerator, _) => {
                self.conditions.remove(key);
                let touched = self.context.generators.set(key, None);
                self.realms.values_mut().for_each(|realm| realm.mark_generators(&touched));
            }
            (Kind::VipAllocation, _) => {
                let touched = self.vips.delete_row(key);
                self.mark_vips(touched);
            }
            (_, None)
            | (
                Kind::MeshExternalService
                | Kind::Workload
                | Kind::Secret
                | Kind::GlobalSecret
                | Kind::AccessRole
                | Kind::AccessRoleBinding,
                Some(_),
            ) => {}
            (Kind::Mesh, Some(realm)) => realm.set_present(false),
            (Kind::Dataplane, Some(realm)) => {
                if context.is_own(key) {
                    realm.delete_dataplane(key);
                }
            }
            (Kind::MeshService, Some(realm)) => realm.delete_service(context, key),
            (Kind::MeshMultiZoneService, Some(realm)) => realm.delete_multi_zone(key),
            (Kind::MeshZoneAddress, Some(realm)) => realm.delete_address(context, key),
            (Kind::MeshIdentity, Some(realm)) => realm.delete_identity(context, key),
            (Kind::MeshTrust, Some(realm)) => realm.delete_trust(key),
            (
                Kind::MeshTrafficPermission
                | Kind::MeshTimeout
                | Kind::MeshTls
                | Kind::MeshLoadBalancingStrategy
                | Kind::MeshPassthrough,
                Some(realm),
            ) => realm.delete_policy(key),
        }
    }

    /// Whether a resource can matter here. Other zones' Dataplanes, identities, generators and rows are theirs.
    fn concerns(&self, key: &ResourceKey) -> bool {
        match key.kind {
            Kind::Dataplane | Kind::VipAllocation => self.context.is_own(key),
            Kind::MeshIdentity | Kind::HostnameGenerator | Kind::MeshMultiZoneService => self.context.is_own_or_global(key),
            Kind::Mesh
            | Kind::Zone
            | Kind::MeshService
            | Kind::MeshZoneAddress
            | Kind::MeshTrust
            | Kind::MeshTrafficPermission
            | Kind::MeshTimeout
            | Kind::MeshTls
            | Kind::MeshLoadBalancingStrategy
            | Kind::MeshPassthrough => true,
            Kind::MeshExternalService
            | Kind::Workload
            | Kind::Secret
            | Kind::GlobalSecret
            | Kind::AccessRole
            | Kind::AccessRoleBinding => false,
        }
    }

    fn set_zone(&mut self, key: &ResourceKey, resource: Option<&Resource>) {
        for uid in self.context.zones.set(key, resource) {
            // The own zone's name is the operator's, not the table's.
            if Owner::Zone(uid) != self.context.owner {
                self.realms.values_mut().for_each(|realm| realm.mark_zone(&self.context, uid));
            }
        }
    }

    fn put_generator(&mut self, resource: &Arc<Resource>) {
        let key = &resource.key;
        let generator = match hostnames::read(&self.context, resource) {
            Ok(generator) => {
                self.conditions.remove(key);
                generator
            }
            Err(error) => {
                self.conditions.insert(key.clone(), fault("Accepted", "Invalid", error.to_string()));
                None
            }
        };
        let touched = self.context.generators.set(key, generator);
        self.realms.values_mut().for_each(|realm| realm.mark_generators(&touched));
    }

    fn mark_vips(&mut self, services: BTreeSet<ResourceKey>) {
        for (mesh, services) in by_mesh(services) {
            if let Some(realm) = self.realms.get_mut(&mesh) {
                realm.mark_vips(services);
            }
        }
    }
}
