//! MeshMultiZoneServices of a mesh: which MeshServices each joins, and what it is made of by them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use atoll_model::{
    Labels, Name, Resource, ResourceKey,
    kinds::{MeshMultiZoneService, mesh_multi_zone_service::Port},
    sni,
    spiffe::SpiffeId,
};

use super::Realm;
use crate::{
    context::{Context, kri},
    label_index::LabelIndex,
    snapshot::{Endpoint, Endpoints, Protocol, Service, ServicePort},
};

/// One MeshMultiZoneService.
#[derive(Debug)]
struct Entry {
    resource: Arc<Resource>,
    spec: MeshMultiZoneService,
    /// The MeshServices that it joins, as of the view.
    members: BTreeSet<ResourceKey>,
}

impl Entry {
    /// The labels that it asks for. Without any it joins nothing.
    fn wanted(&self) -> &Labels {
        &self.spec.selector.mesh_service.match_labels
    }

    fn wants(&self, labels: &Labels) -> bool {
        !self.wanted().is_empty() && atoll_model::labels::matches(self.wanted(), labels)
    }
}

/// The MeshMultiZoneServices.
#[derive(Debug, Default)]
pub(crate) struct MultiZones {
    entries: BTreeMap<ResourceKey, Entry>,
    /// By one of the labels that each asks for.
    by_label: LabelIndex<ResourceKey>,
    /// What must be made again.
    pub(super) dirty: BTreeSet<ResourceKey>,
}

impl MultiZones {
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn contains(&self, key: &ResourceKey) -> bool {
        self.entries.contains_key(key)
    }

    fn remove(&mut self, key: &ResourceKey) {
        self.dirty.insert(key.clone());
        let Some(entry) = self.entries.remove(key) else { return };
        if let Some((label, value)) = entry.wanted().iter().next() {
            self.by_label.remove((label, value), key);
        }
    }

    fn insert(&mut self, key: &ResourceKey, entry: Entry) {
        if let Some((label, value)) = entry.wanted().iter().next() {
            self.by_label.insert((label, value), key.clone());
        }
        self.entries.insert(key.clone(), entry);
    }

    /// A MeshService was one thing and is another: those that join it are made again.
    pub(super) fn follow(&mut self, old: Option<&Service>, new: Option<&Service>) {
        if self.entries.is_empty() || old.zip(new).is_some_and(|(old, new)| is_same_member(old, new)) {
            return;
        }
        let labels = old.into_iter().chain(new).map(|service| &service.labels);
        let touched: BTreeSet<_> = labels.flat_map(|labels| self.by_label.any_of(labels)).cloned().collect();
        for key in touched {
            let Some(entry) = self.entries.get_mut(&key) else { continue };
            let was = old.is_some_and(|old| entry.members.remove(&old.key));
            let is = new.filter(|new| entry.wants(&new.labels));
            entry.members.extend(is.map(|new| new.key.clone()));
            if was || is.is_some() {
                self.dirty.insert(key);
            }
        }
    }
}

/// Whether a MeshService still gives the same to those that join it; its address and names are its own.
fn is_same_member(old: &Service, new: &Service) -> bool {
    old.ports == new.ports
        && old.labels == new.labels
        && old.identities == new.identities
        && old.available == new.available
        && old.zone == new.zone
}

impl Realm {
    pub(crate) fn put_multi_zone(&mut self, resource: &Arc<Resource>) {
        let key = &resource.key;
        match resource.parse::<MeshMultiZoneService>() {
            Ok(spec) => {
                self.set_spec_fault(key, None);
                let mut entry = Entry { resource: Arc::clone(resource), spec, members: BTreeSet::new() };
                let services = self.view.services.iter().filter(|(_, service)| service.members.is_none());
                let wanted = services.filter(|(_, service)| entry.wants(&service.labels));
                entry.members = wanted.map(|(key, _)| key.clone()).collect();
                self.multi_zones.remove(key);
                self.multi_zones.insert(key, entry);
            }
            Err(error) => {
                self.delete_multi_zone(key);
                self.set_spec_fault(key, Some(error.to_string()));
            }
        }
    }

    pub(crate) fn delete_multi_zone(&mut self, key: &ResourceKey) {
        self.set_spec_fault(key, None);
        self.multi_zones.remove(key);
    }

    /// A service as it is now, but for its address and names. `rebuilt` are the MeshServices that are newer than the view's.
    pub(super) fn build_multi_zone(
        &self,
        context: &Context,
        key: &ResourceKey,
        rebuilt: &BTreeMap<ResourceKey, Service>,
    ) -> Option<Service> {
        let entry = self.multi_zones.entries.get(key)?;
        let find = |key| rebuilt.get(key).or_else(|| self.view.services.get(key).map(AsRef::as_ref));
        let members: Vec<&Service> = entry.members.iter().filter_map(find).collect();
        let identities: BTreeSet<&SpiffeId> = members.iter().flat_map(|member| &member.identities).collect();
        // Only global gives it, and what global gives has no zone.
        let zone = Name::none();
        let kri = kri(key, &zone);
        let ports = entry.spec.ports.iter().map(|port| {
            let section = port.section();
            ServicePort {
                port: port.port,
                protocol: Protocol::from_app(&port.app_protocol),
                sni: sni::encode(&kri.with_section(&section)).ok(),
                endpoints: self.joined(key, port, &members),
                section,
            }
        });
        Some(Service {
            ports: ports.collect(),
            identities: identities.into_iter().cloned().collect(),
            available: members.iter().any(|member| member.available),
            tls_ready: true,
            proxies: None,
            labels: context.present(&entry.resource, &zone),
            alias: context.shown_name(key, &zone),
            created: entry.resource.created,
            members: Some(members.iter().map(|member| member.key.clone()).collect()),
            vip: None,
            hostnames: Vec::new(),
            generators: Vec::new(),
            key: key.clone(),
            kri,
            zone,
            local: false,
        })
    }

    /// Where the members serve a port: this zone's endpoints first, by their priority. The `Arc` of the last time if nothing
    /// changed.
    fn joined(&self, key: &ResourceKey, port: &Port, members: &[&Service]) -> Arc<Endpoints> {
        let serving = members.iter().flat_map(|member| &member.ports).filter(|other| serves(other, port));
        let endpoints: BTreeSet<&Endpoint> = serving.flat_map(|port| &port.endpoints.0).collect();
        let endpoints = Endpoints(endpoints.into_iter().cloned().collect());
        let old = self.view.services.get(key).into_iter().flat_map(|service| &service.ports);
        let same = old.map(|port| &port.endpoints).find(|old| ***old == endpoints);
        same.map_or_else(|| Arc::new(endpoints), Arc::clone)
    }
}

/// A member serves a port by its own of the same name or number.
fn serves(own: &ServicePort, port: &Port) -> bool {
    let section = port.section();
    own.section == section || own.port.to_string() == section
}
