//! Dataplanes and MeshIdentities of a mesh: who each proxy is.

use std::{cmp::Reverse, collections::BTreeMap, sync::Arc};

use atoll_model::{
    Labels, Name, Owner, Resource, ResourceKey,
    kinds::{
        Dataplane, MeshIdentity,
        dataplane::Networking,
        mesh_identity::{IdentityFields, ProviderKind},
    },
    labels,
    spiffe::{SpiffeId, TrustDomain},
};

use super::{Aspect, Realm, fault};
use crate::{
    context::{Context, kri},
    label_index::LabelIndex,
    snapshot::{ProxyIdentity, ProxyView},
};

/// One Dataplane of this zone.
#[derive(Debug)]
pub(crate) struct DataplaneEntry {
    pub(crate) resource: Arc<Resource>,
    pub(crate) spec: Arc<Dataplane>,
    pub(crate) labels: Arc<Labels>,
    /// Who it may be, the best first.
    pub(crate) candidates: Vec<Candidate>,
}

/// What one MeshIdentity makes of one Dataplane.
#[derive(Debug)]
pub(crate) struct Candidate {
    identity: ResourceKey,
    /// Whether this plane issues its certificates.
    issued: bool,
    pub(crate) id: Result<SpiffeId, String>,
}

impl DataplaneEntry {
    pub(crate) fn networking(&self) -> Option<&Networking> {
        self.spec.networking.as_ref()
    }

    pub(crate) fn has_inbounds(&self) -> bool {
        self.networking().is_some_and(|networking| !networking.inbound.is_empty())
    }

    pub(crate) fn has_listeners(&self) -> bool {
        self.networking().is_some_and(|networking| !networking.listeners.is_empty())
    }

    pub(crate) fn workload(&self) -> Option<&str> {
        self.labels.get(labels::WORKLOAD).map(String::as_str)
    }

    /// Who it is: the best identity that this plane issues.
    pub(crate) fn best(&self) -> Option<&Candidate> {
        self.candidates.iter().find(|candidate| candidate.issued)
    }

    fn hosts(&self) -> impl Iterator<Item = &str> {
        let networking = self.networking();
        let inbounds = networking.into_iter().flat_map(|networking| &networking.inbound);
        networking.map(|networking| networking.address.as_str()).into_iter().chain(inbounds.filter_map(|i| i.address.as_deref()))
    }
}

/// The Dataplanes of this zone.
#[derive(Debug, Default)]
pub(crate) struct Dataplanes {
    entries: BTreeMap<Name, DataplaneEntry>,
    by_label: LabelIndex<Name>,
}

impl Dataplanes {
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn get(&self, name: &str) -> Option<&DataplaneEntry> {
        self.entries.get(name)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &DataplaneEntry> {
        self.entries.values()
    }

    /// Those that carry all of these labels, by name.
    pub(crate) fn with_labels(&self, wanted: &Labels) -> Vec<&DataplaneEntry> {
        let matching = |entry: &&DataplaneEntry| labels::matches(wanted, &entry.labels);
        match self.by_label.rarest(wanted) {
            None => self.entries.values().collect(),
            Some(names) => names.filter_map(|name| self.entries.get(name)).filter(matching).collect(),
        }
    }

    pub(super) fn using_host<'a>(&'a self, host: &'a str) -> impl Iterator<Item = &'a DataplaneEntry> {
        self.entries.values().filter(move |entry| entry.hosts().any(|used| used == host))
    }

    pub(super) fn hosts(&self) -> impl Iterator<Item = &str> {
        self.entries.values().flat_map(DataplaneEntry::hosts)
    }

    fn insert(&mut self, name: Name, entry: DataplaneEntry) {
        for (key, value) in entry.labels.iter() {
            self.by_label.insert((key, value), name.clone());
        }
        self.entries.insert(name, entry);
    }

    fn remove(&mut self, name: &Name) -> Option<DataplaneEntry> {
        let entry = self.entries.remove(name)?;
        for (key, value) in entry.labels.iter() {
            self.by_label.remove((key, value), name);
        }
        Some(entry)
    }
}

/// The MeshIdentities that may hold in this zone: its own and global's.
#[derive(Debug, Default)]
pub(crate) struct Identities(BTreeMap<ResourceKey, IdentityEntry>);

#[derive(Debug)]
struct IdentityEntry {
    spec: MeshIdentity,
    domain: Result<TrustDomain, String>,
}

impl Identities {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those that record trust domains, by name.
    pub(super) fn of_global(&self) -> BTreeMap<Name, MeshIdentity> {
        let of_global = self.0.iter().filter(|(key, _)| key.owner == Owner::Global);
        of_global.map(|(key, entry)| (key.name.clone(), entry.spec.clone())).collect()
    }

    /// Who a Dataplane with these labels may be, the best first: most labels, then name.
    fn candidates(&self, context: &Context, dataplane: &Labels) -> Vec<Candidate> {
        let mut matching: Vec<_> =
            self.0.iter().filter_map(|(key, entry)| Some((entry.spec.selects(dataplane)?, key, entry))).collect();
        matching.sort_by_key(|(strength, key, _)| (Reverse(*strength), key.name.clone(), key.owner));
        matching
            .into_iter()
            .map(|(_, key, entry)| {
                let fields = IdentityFields { mesh: &key.mesh, zone: &context.zone, labels: dataplane };
                let id = entry
                    .domain
                    .clone()
                    .and_then(|domain| entry.spec.spiffe_id(&domain, &fields).map_err(|error| error.to_string()));
                let issued = entry.spec.provider.as_ref().is_some_and(|provider| provider.kind == ProviderKind::Bundled);
                Candidate { identity: key.clone(), issued, id }
            })
            .collect()
    }
}

impl Realm {
    pub(crate) fn put_dataplane(&mut self, context: &Context, resource: &Arc<Resource>) {
        let key = &resource.key;
        match resource.parse::<Dataplane>() {
            Ok(spec) => {
                self.set_spec_fault(key, None);
                let entry = DataplaneEntry {
                    labels: Arc::new(context.present(resource, &context.zone)),
                    resource: Arc::clone(resource),
                    spec: Arc::new(spec),
                    candidates: Vec::new(),
                };
                self.set_dataplane(&key.name, Some(entry));
            }
            Err(error) => {
                self.delete_dataplane(key);
                self.set_spec_fault(key, Some(error.to_string()));
            }
        }
    }

    pub(crate) fn delete_dataplane(&mut self, key: &ResourceKey) {
        self.set_spec_fault(key, None);
        self.set_dataplane(&key.name, None);
        self.set_fault(key, Aspect::Identity, None);
    }

    fn set_dataplane(&mut self, name: &Name, entry: Option<DataplaneEntry>) {
        let old = self.dataplanes.remove(name);
        for entry in old.iter().chain(&entry) {
            self.dirty.services.extend(self.services.selecting(entry));
            self.todo.addresses |= entry.has_listeners();
            if let Some(workload) = entry.workload() {
                self.dirty.workloads.insert(workload.to_owned());
                self.todo.workloads.insert(workload.to_owned());
            }
        }
        self.dirty.proxies.insert(name.clone());
        if let Some(entry) = entry {
            self.dataplanes.insert(name.clone(), entry);
        }
    }

    pub(crate) fn put_identity(&mut self, context: &Context, resource: &Arc<Resource>) {
        let key = &resource.key;
        match resource.parse::<MeshIdentity>() {
            Ok(spec) => {
                self.set_spec_fault(key, None);
                let domain = match context.owner {
                    Owner::Zone(uid) => spec.trust_domain_in(&key.mesh, &context.zone, uid),
                    Owner::Global => spec.trust_domain(&key.mesh, &context.zone),
                };
                let entry = IdentityEntry { spec, domain: domain.map_err(|error| error.to_string()) };
                self.set_identity(context, key, Some(entry));
            }
            Err(error) => {
                self.delete_identity(context, key);
                self.set_spec_fault(key, Some(error.to_string()));
            }
        }
    }

    pub(crate) fn delete_identity(&mut self, context: &Context, key: &ResourceKey) {
        self.set_spec_fault(key, None);
        self.set_identity(context, key, None);
    }

    fn set_identity(&mut self, context: &Context, key: &ResourceKey, entry: Option<IdentityEntry>) {
        let had_any = !self.identities.is_empty();
        match entry {
            Some(entry) => self.identities.0.insert(key.clone(), entry),
            None => self.identities.0.remove(key),
        };
        self.dirty.proxies.extend(self.dataplanes.entries.keys().cloned());
        self.mark_own_services(context);
        self.trusts.forget_verdicts();
        self.dirty.trust = true;
        if had_any == self.identities.is_empty() {
            let zones = self.addresses.keys().filter_map(|key| match key.owner {
                Owner::Zone(uid) => Some(uid),
                Owner::Global => None,
            });
            self.dirty.zones.extend(zones);
        }
    }

    pub(super) fn refresh_proxies(&mut self, context: &Context) {
        for name in std::mem::take(&mut self.dirty.proxies) {
            let Some(entry) = self.dataplanes.entries.get_mut(&name) else {
                self.changed |= self.view.dataplanes.remove(&name).is_some();
                continue;
            };
            entry.candidates = self.identities.candidates(context, &entry.labels);
            let (proxy, problem) = view(context, entry);
            if self.view.dataplanes.get(&name).is_none_or(|old| **old != proxy) {
                self.view.dataplanes.insert(name, Arc::new(proxy.clone()));
                self.changed = true;
            }
            self.set_fault(&proxy.key, Aspect::Identity, problem);
        }
    }
}

/// The view of a Dataplane, and why it has no identity although it should have one.
fn view(context: &Context, entry: &DataplaneEntry) -> (ProxyView, Option<atoll_model::condition::Condition>) {
    let (identity, problem) = match entry.best().map(|best| (&best.identity, &best.id)) {
        None => (None, None),
        Some((identity, Ok(spiffe_id))) => {
            let zone = context.zone_of(identity.owner).unwrap_or_else(Name::none);
            let secret_name = kri(identity, &zone).to_string();
            (Some(ProxyIdentity { identity: identity.clone(), secret_name, spiffe_id: spiffe_id.clone() }), None)
        }
        Some((identity, Err(error))) => {
            let message = format!("MeshIdentity {} gives it no id: {error}", identity.name);
            (None, Some(fault("Identity", "TemplateError", message)))
        }
    };
    let key = entry.resource.key.clone();
    let proxy = ProxyView {
        kri: kri(&key, &context.zone),
        labels: Labels::clone(&entry.labels),
        spec: Arc::clone(&entry.spec),
        identity,
        key,
    };
    (proxy, problem)
}
