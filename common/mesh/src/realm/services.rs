//! MeshServices of a mesh: ports, endpoints, identities, readiness.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use atoll_model::{
    Labels, Name, Owner, Resource, ResourceKey, ZoneUid,
    kinds::{
        MeshService,
        dataplane::Inbound,
        mesh_service::{Port, State, TargetPort},
    },
    sni,
    spiffe::SpiffeId,
};

use super::{Aspect, Realm, proxies::DataplaneEntry};
use crate::{
    context::{Context, kri},
    label_index::LabelIndex,
    snapshot::{Endpoint, Endpoints, Protocol, ProxyCounts, Service, ServicePort},
};

/// One MeshService.
#[derive(Debug)]
pub(crate) struct ServiceEntry {
    pub(crate) resource: Arc<Resource>,
    /// None when it cannot be read: it is reported and left out, but its name is taken.
    pub(crate) spec: Option<Arc<MeshService>>,
}

/// The MeshServices, own and of other zones.
#[derive(Debug, Default)]
pub(crate) struct Services {
    entries: BTreeMap<ResourceKey, ServiceEntry>,
    /// Own services that select by labels, by one of those labels.
    by_label: LabelIndex<ResourceKey>,
    /// Own services that select every Dataplane.
    general: BTreeSet<ResourceKey>,
    /// Own services that select one Dataplane.
    by_name: BTreeMap<String, BTreeSet<ResourceKey>>,
}

/// How a service finds its Dataplanes.
enum Selects<'a> {
    Nothing,
    Named(&'a str),
    Labelled(&'a Labels),
}

impl Selects<'_> {
    fn of(spec: &MeshService) -> Selects<'_> {
        match (&spec.selector.dataplane_ref, &spec.selector.dataplane_labels) {
            (Some(named), _) => Selects::Named(&named.name),
            (None, Some(labels)) => Selects::Labelled(&labels.match_labels),
            (None, None) => Selects::Nothing,
        }
    }
}

impl Services {
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn get(&self, key: &ResourceKey) -> Option<&ServiceEntry> {
        self.entries.get(key)
    }

    pub(super) fn of_owner(&self, owner: Owner) -> impl Iterator<Item = ResourceKey> {
        self.entries.keys().filter(move |key| key.owner == owner).cloned()
    }

    pub(super) fn of_zone(&self, uid: ZoneUid) -> impl Iterator<Item = ResourceKey> {
        self.of_owner(Owner::Zone(uid))
    }

    /// The own services that select a Dataplane.
    pub(super) fn selecting(&self, dataplane: &DataplaneEntry) -> Vec<ResourceKey> {
        let by_name = self.by_name.get(dataplane.resource.key.name.as_str()).into_iter().flatten();
        let by_label = self.by_label.any_of(&dataplane.labels).filter(|key| self.wants(key, &dataplane.labels));
        by_name.chain(&self.general).chain(by_label).cloned().collect()
    }

    fn wants(&self, key: &ResourceKey, labels: &Labels) -> bool {
        let spec = self.entries.get(key).and_then(|entry| entry.spec.as_deref());
        spec.is_some_and(|spec| match Selects::of(spec) {
            Selects::Labelled(wanted) => atoll_model::labels::matches(wanted, labels),
            Selects::Named(_) | Selects::Nothing => false,
        })
    }

    fn insert(&mut self, key: &ResourceKey, own: bool, entry: ServiceEntry) {
        if let Some(spec) = entry.spec.as_deref().filter(|_| own) {
            match Selects::of(spec) {
                Selects::Nothing => {}
                Selects::Named(name) => {
                    self.by_name.entry(name.to_owned()).or_default().insert(key.clone());
                }
                Selects::Labelled(labels) => match labels.iter().next() {
                    Some((label, value)) => self.by_label.insert((label, value), key.clone()),
                    None => {
                        self.general.insert(key.clone());
                    }
                },
            }
        }
        self.entries.insert(key.clone(), entry);
    }

    fn remove(&mut self, key: &ResourceKey) {
        let Some(entry) = self.entries.remove(key) else { return };
        let Some(spec) = entry.spec.as_deref() else { return };
        match Selects::of(spec) {
            Selects::Nothing => {}
            Selects::Named(name) => {
                if let Some(keys) = self.by_name.get_mut(name) {
                    keys.remove(key);
                    if keys.is_empty() {
                        self.by_name.remove(name);
                    }
                }
            }
            Selects::Labelled(labels) => match labels.iter().next() {
                Some(label) => self.by_label.remove((label.0, label.1), key),
                None => {
                    self.general.remove(key);
                }
            },
        }
    }
}

impl Realm {
    pub(crate) fn put_service(&mut self, context: &Context, resource: &Arc<Resource>) {
        let key = &resource.key;
        let (spec, error) = match resource.parse::<MeshService>() {
            Ok(spec) => (Some(Arc::new(spec)), None),
            Err(error) => (None, Some(error.to_string())),
        };
        self.services.remove(key);
        self.services.insert(key, context.is_own(key), ServiceEntry { resource: Arc::clone(resource), spec });
        self.set_spec_fault(key, error);
        self.mark_service(context, key);
    }

    pub(crate) fn delete_service(&mut self, context: &Context, key: &ResourceKey) {
        self.services.remove(key);
        self.set_spec_fault(key, None);
        self.mark_service(context, key);
    }

    fn mark_service(&mut self, context: &Context, key: &ResourceKey) {
        self.dirty.services.insert(key.clone());
        if context.is_own(key) {
            self.dirty.workloads.insert(key.name.to_string());
            self.todo.workloads.insert(key.name.to_string());
            self.todo.computed.insert(key.clone());
        }
    }

    pub(super) fn mark_own_services(&mut self, context: &Context) {
        self.dirty.services.extend(self.services.of_owner(context.owner));
    }

    /// Says whether the Dataplanes of generated services agree on their ports.
    pub(super) fn refresh_workloads(&mut self, context: &Context) {
        for workload in std::mem::take(&mut self.dirty.workloads) {
            let key = self.own_service_key(context, &workload);
            let conflict = self.port_conflict(context, &workload);
            self.set_fault(&key, Aspect::Ports, conflict);
        }
    }

    /// A service as it is now, but for its address and names; `None` if it is to be left out.
    pub(super) fn build_service(&self, context: &Context, key: &ResourceKey) -> Option<Service> {
        let entry = self.services.get(key)?;
        let spec = entry.spec.as_deref()?;
        let zone = context.zone_of(key.owner)?;
        let local = context.is_own(key);
        let dataplanes = if local { self.dataplanes_of(spec) } else { Vec::new() };
        let kri = kri(key, &zone);
        let ports = spec.ports.iter().map(|port| {
            let section = port.section();
            ServicePort {
                port: port.port,
                protocol: Protocol::from_app(&port.app_protocol),
                sni: sni::encode(&kri.with_section(&section)).ok(),
                endpoints: self.endpoints(context, key, spec, port, local.then_some(&dataplanes)),
                section,
            }
        });
        let proxies = ProxyCounts { total: count(dataplanes.len()), healthy: healthy(spec, &dataplanes) };
        Some(Service {
            ports: ports.collect(),
            identities: if local { identities(&dataplanes) } else { parse_identities(spec) },
            available: if local { proxies.healthy > 0 } else { spec.state == Some(State::Available) },
            tls_ready: !local || self.is_tls_ready(spec, &dataplanes),
            proxies: local.then_some(proxies),
            labels: context.present(&entry.resource, &zone),
            alias: context.shown_name(key, &zone),
            created: entry.resource.created,
            members: None,
            vip: None,
            hostnames: Vec::new(),
            generators: Vec::new(),
            key: key.clone(),
            kri,
            zone,
            local,
        })
    }

    /// The Dataplanes that serve it; one without inbounds serves nothing.
    fn dataplanes_of(&self, spec: &MeshService) -> Vec<&DataplaneEntry> {
        let mut selected = match Selects::of(spec) {
            Selects::Nothing => Vec::new(),
            Selects::Named(name) => self.dataplanes.get(name).into_iter().collect(),
            Selects::Labelled(labels) => self.dataplanes.with_labels(labels),
        };
        selected.retain(|dataplane| dataplane.has_inbounds());
        selected
    }

    /// Where a port is served; the `Arc` of the last time if nothing changed. A service of another zone that says that nothing
    /// serves it has none: a caller then fails at once, instead of at the other zone's ingress.
    fn endpoints(
        &self,
        context: &Context,
        key: &ResourceKey,
        spec: &MeshService,
        port: &Port,
        own: Option<&Vec<&DataplaneEntry>>,
    ) -> Arc<Endpoints> {
        let Some(dataplanes) = own else {
            let of_zone = match key.owner {
                Owner::Zone(uid) if spec.state != Some(State::Unavailable) => self.zone_endpoints.get(&uid),
                Owner::Zone(_) | Owner::Global => None,
            };
            return of_zone.map(Arc::clone).unwrap_or_default();
        };
        let endpoints: BTreeSet<_> = dataplanes.iter().flat_map(|dataplane| endpoints_at(context, dataplane, port)).collect();
        let endpoints = Endpoints(endpoints.into_iter().collect());
        let old = self.view.services.get(key).into_iter().flat_map(|service| &service.ports);
        let same = old.map(|port| &port.endpoints).find(|old| ***old == endpoints);
        same.map_or_else(|| Arc::new(endpoints), Arc::clone)
    }

    /// Once ready, a service stays so while the mesh has identities: callers never go back to plain text.
    fn is_tls_ready(&self, spec: &MeshService, dataplanes: &[&DataplaneEntry]) -> bool {
        let ready = |dataplane: &&DataplaneEntry| {
            let id = dataplane.best().and_then(|best| best.id.as_ref().ok());
            id.is_some_and(|id| self.view.trust.knows(&id.trust_domain))
        };
        !self.identities.is_empty() && (spec.tls_ready || dataplanes.iter().all(ready))
    }
}

fn endpoints_at(context: &Context, dataplane: &DataplaneEntry, port: &Port) -> Vec<Endpoint> {
    let Some(networking) = dataplane.networking() else { return Vec::new() };
    let ready = networking.inbound.iter().filter(|inbound| serves(inbound, port) && inbound.is_ready());
    ready
        .filter_map(|inbound| {
            let host = inbound.address.as_ref().filter(|address| !address.is_empty()).unwrap_or(&networking.address);
            Some(Endpoint {
                priority: 0,
                zone: context.zone.clone(),
                address: context.resolve(host)?,
                port: u16::try_from(inbound.port).ok()?,
                labels: Arc::clone(&dataplane.labels),
            })
        })
        .collect()
}

/// Whether an inbound is the target of a port; a port without target aims at its own number.
fn serves(inbound: &Inbound, port: &Port) -> bool {
    match &port.target_port {
        Some(TargetPort::Name(name)) => inbound.section() == *name,
        Some(TargetPort::Number(number)) => inbound.port == u32::from(*number),
        None => inbound.port == u32::from(port.port),
    }
}

/// How many Dataplanes have a ready inbound for each port.
fn healthy(spec: &MeshService, dataplanes: &[&DataplaneEntry]) -> u32 {
    let is_healthy = |dataplane: &&&DataplaneEntry| {
        let inbounds = dataplane.networking().map(|networking| networking.inbound.as_slice()).unwrap_or_default();
        let served = |port: &Port| inbounds.iter().any(|inbound| serves(inbound, port) && inbound.is_ready());
        spec.ports.iter().all(served)
    };
    count(dataplanes.iter().filter(is_healthy).count())
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Every id that one of the Dataplanes has or may get: a new identity is known to callers before anybody uses it.
fn identities(dataplanes: &[&DataplaneEntry]) -> Vec<SpiffeId> {
    let candidates = dataplanes.iter().flat_map(|dataplane| &dataplane.candidates);
    let ids: BTreeSet<_> = candidates.filter_map(|candidate| candidate.id.as_ref().ok()).cloned().collect();
    ids.into_iter().collect()
}

fn parse_identities(spec: &MeshService) -> Vec<SpiffeId> {
    let ids: BTreeSet<SpiffeId> = spec.identities.iter().filter_map(|identity| identity.value.parse().ok()).collect();
    ids.into_iter().collect()
}

impl Realm {
    /// The key of the own service of a workload.
    pub(crate) fn own_service_key(&self, context: &Context, workload: &str) -> ResourceKey {
        let name = Name::from(workload);
        ResourceKey::new(atoll_model::Kind::MeshService, self.mesh().clone(), name, context.owner)
    }
}
