//! One mesh: its resources, what is derived from them, and what must be derived again.

mod addresses;
mod multi_zone;
pub(crate) mod names;
mod policies;
mod proxies;
mod services;
mod trusts;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use atoll_model::{
    Name, ResourceKey, ZoneUid,
    condition::{Condition, ConditionStatus},
};

pub(crate) use addresses::AddressEntry;
pub(crate) use proxies::{Dataplanes, Identities};
pub(crate) use services::Services;

use crate::{
    MeshSnapshot,
    context::Context,
    hostnames::{GeneratorOrder, Hostnames},
    plan::Todo,
    snapshot::{Endpoints, OrdMap, Service},
    trust::TrustBundles,
    vips::Vips,
};

/// One mesh. Every `put_*` stores a resource and marks what depends on it; [`Realm::refresh`] derives that again.
pub(crate) struct Realm {
    /// Whether there is a Mesh.
    present: bool,
    pub(crate) dataplanes: Dataplanes,
    pub(crate) services: Services,
    multi_zones: multi_zone::MultiZones,
    pub(crate) addresses: BTreeMap<ResourceKey, AddressEntry>,
    pub(crate) identities: Identities,
    trusts: trusts::Trusts,
    policies: policies::Policies,
    /// Where other zones take traffic.
    zone_endpoints: BTreeMap<ZoneUid, Arc<Endpoints>>,
    hostnames: Hostnames,
    dirty: Dirty,
    pub(crate) todo: Todo,
    /// Parts of the conditions, by what they are about.
    faults: BTreeMap<(ResourceKey, Aspect), Arc<Condition>>,
    /// The snapshot in the making.
    view: MeshSnapshot,
    /// Whether `view` differs from `snapshot`.
    changed: bool,
    snapshot: Option<Arc<MeshSnapshot>>,
}

/// What must be derived again.
#[derive(Debug, Default)]
struct Dirty {
    policies: bool,
    trust: bool,
    proxies: BTreeSet<Name>,
    addresses: BTreeSet<ResourceKey>,
    /// Zones whose endpoints may differ.
    zones: BTreeSet<ZoneUid>,
    services: BTreeSet<ResourceKey>,
    /// Services whose virtual address may differ.
    vips: BTreeSet<ResourceKey>,
    generators: BTreeSet<GeneratorOrder>,
    workloads: BTreeSet<String>,
}

/// What a condition is about; of several the first is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Aspect {
    Spec,
    Trust,
    Identity,
    Ports,
    Vip,
}

impl Realm {
    pub(crate) fn new(context: &Context, mesh: Name) -> Self {
        let view = MeshSnapshot {
            mesh,
            zone: context.zone.clone(),
            services: OrdMap::new(),
            dataplanes: OrdMap::new(),
            trust: Arc::new(TrustBundles::default()),
            policies: Arc::default(),
            zone_addresses: OrdMap::new(),
            names: Arc::default(),
            conditions: OrdMap::new(),
        };
        Self {
            present: false,
            dataplanes: Dataplanes::default(),
            services: Services::default(),
            multi_zones: multi_zone::MultiZones::default(),
            addresses: BTreeMap::new(),
            identities: Identities::default(),
            trusts: trusts::Trusts::default(),
            policies: policies::Policies::default(),
            zone_endpoints: BTreeMap::new(),
            hostnames: Hostnames::default(),
            dirty: Dirty::default(),
            todo: Todo::default(),
            faults: BTreeMap::new(),
            view,
            changed: true,
            snapshot: None,
        }
    }

    pub(crate) fn mesh(&self) -> &Name {
        &self.view.mesh
    }

    /// Takes or gives up the Mesh itself.
    pub(crate) fn set_present(&mut self, present: bool) {
        self.present = present;
    }

    /// Whether there is neither a Mesh nor anything in it.
    pub(crate) fn is_empty(&self) -> bool {
        !self.present
            && self.dataplanes.is_empty()
            && self.services.is_empty()
            && self.multi_zones.is_empty()
            && self.addresses.is_empty()
            && self.identities.is_empty()
            && self.trusts.is_empty()
            && self.policies.is_empty()
            && self.faults.is_empty()
    }

    /// The service as it was derived last.
    pub(crate) fn service(&self, key: &ResourceKey) -> Option<&Arc<Service>> {
        self.view.services.get(key)
    }

    /// Whether there is such a service, of whichever kind.
    pub(crate) fn has_service(&self, key: &ResourceKey) -> bool {
        self.services.get(key).is_some() || self.multi_zones.contains(key)
    }

    pub(crate) fn mark_vips(&mut self, services: impl IntoIterator<Item = ResourceKey>) {
        self.dirty.vips.extend(services);
    }

    pub(crate) fn mark_generators(&mut self, orders: &BTreeSet<GeneratorOrder>) {
        self.dirty.generators.extend(orders.iter().cloned());
    }

    /// A zone looks different: all that it owns does.
    pub(crate) fn mark_zone(&mut self, context: &Context, uid: ZoneUid) {
        self.dirty.zones.insert(uid);
        self.dirty.services.extend(self.services.of_zone(uid));
        let of_zone = |key: &&ResourceKey| key.owner == atoll_model::Owner::Zone(uid);
        self.dirty.addresses.extend(self.addresses.keys().filter(of_zone).cloned());
        self.reparse_policies(context, uid);
    }

    /// A host name leads elsewhere: whoever uses it is looked at again.
    pub(crate) fn mark_host(&mut self, host: &str) {
        let addresses = self.addresses.iter().filter(|(_, entry)| entry.spec.address == host);
        self.dirty.addresses.extend(addresses.map(|(key, _)| key.clone()));
        let touched: Vec<_> = self.dataplanes.using_host(host).flat_map(|entry| self.services.selecting(entry)).collect();
        self.dirty.services.extend(touched);
    }

    /// The host names that its resources use.
    pub(crate) fn hosts(&self) -> impl Iterator<Item = &str> {
        let addresses = self.addresses.values().map(|entry| entry.spec.address.as_str());
        addresses.chain(self.dataplanes.hosts()).filter(|host| host.parse::<std::net::IpAddr>().is_err())
    }

    /// Derives again what is marked, each part after what it is made of.
    pub(crate) fn refresh(&mut self, context: &Context, vips: &mut Vips) {
        self.refresh_policies();
        self.refresh_trust(context);
        self.refresh_proxies(context);
        self.refresh_addresses(context);
        self.refresh_zone_endpoints(context);
        self.refresh_services(context, vips);
        self.refresh_workloads(context);
    }

    /// The snapshot of what was derived last.
    pub(crate) fn snapshot(&mut self) -> Arc<MeshSnapshot> {
        match &self.snapshot {
            Some(snapshot) if !self.changed => Arc::clone(snapshot),
            Some(_) | None => {
                let snapshot = Arc::new(self.view.clone());
                self.snapshot = Some(Arc::clone(&snapshot));
                self.changed = false;
                snapshot
            }
        }
    }

    fn set_fault(&mut self, key: &ResourceKey, aspect: Aspect, fault: Option<Condition>) {
        let slot = (key.clone(), aspect);
        if self.faults.get(&slot).map(AsRef::as_ref) == fault.as_ref() {
            return;
        }
        match fault {
            Some(fault) => self.faults.insert(slot, Arc::new(fault)),
            None => self.faults.remove(&slot),
        };
        let shown = self.faults.range((key.clone(), Aspect::Spec)..=(key.clone(), Aspect::Vip)).next();
        match shown {
            Some((_, fault)) => self.view.conditions.insert(key.clone(), Arc::clone(fault)),
            None => self.view.conditions.remove(key),
        };
        self.changed = true;
    }

    /// A resource that cannot be read is reported and left out.
    fn set_spec_fault(&mut self, key: &ResourceKey, error: Option<String>) {
        self.set_fault(key, Aspect::Spec, error.map(|message| fault("Accepted", "Invalid", message)));
    }
}

pub(crate) fn fault(kind: &str, reason: &str, message: String) -> Condition {
    Condition { kind: kind.to_owned(), status: ConditionStatus::False, reason: reason.to_owned(), message }
}
