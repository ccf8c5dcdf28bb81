//! What proxies share: the resources of services, made once for all proxies to which the same holds.
//!
//! A layer is one kind of resources of all services for proxies with the same mesh, role and policies. It is brought up to date
//! once per snapshot, by what differs: services whose `Arc` is another one, services that changed policies are about, and
//! services that a proxy binds elsewhere. So a change of one service costs the encoding of its few resources once, and
//! comparisons of pointers else.

mod inbounds;
mod role;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use atoll_envoy_api::envoy::config::listener::v3::FilterChain;
use atoll_mesh::{MeshSnapshot, snapshot::Service};
use atoll_model::{Name, ResourceKey, kinds::dataplane::Networking};
use atoll_policy::SelectedPolicies;
use imbl::{OrdMap, ordmap::DiffItem};
pub(crate) use inbounds::InboundOf;
use inbounds::Inbounds;
pub(crate) use role::is_given;
use role::{Made, Places, Role, facts};

use crate::{Encoded, ProxyInputs, ResourceSet, ResourceType, name, reference};

/// Layers that proxies share. One owner; see [`Cache::retire`].
#[derive(Default)]
pub struct Cache {
    layers: BTreeMap<(Name, Role), Layers>,
    inbounds: Inbounds,
    /// What was asked for since the last call of [`Cache::leases`].
    asked: Vec<Lease>,
    encodings: u64,
}

/// Keeps what was made for a proxy, and for others like it, in the cache while it is held.
#[derive(Clone, Debug, Default)]
pub struct Lease(Arc<()>);

impl Lease {
    /// Whether anybody but the cache has it.
    fn is_held(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }
}

/// The layers of one mesh and role, by the fingerprint of policies. A new one starts from the one used last.
#[derive(Default)]
struct Layers {
    by_policies: BTreeMap<u128, Layer>,
    latest: u128,
}

/// What services are made to for some proxies.
#[derive(Clone, Default)]
pub(crate) struct Layer {
    made_of: Option<MadeOf>,
    pub(crate) set: ResourceSet,
    /// Of ingresses: chains by service, in the order of services.
    pub(crate) chains: OrdMap<ResourceKey, Arc<Vec<FilterChain>>>,
    used: bool,
    lease: Lease,
}

#[derive(Clone)]
struct MadeOf {
    snapshot: Arc<MeshSnapshot>,
    policies: Arc<SelectedPolicies>,
    places: Places,
}

impl Cache {
    /// Drops what nobody asked for since the last call and nobody has a lease of.
    pub fn retire(&mut self) {
        self.asked.clear();
        for layers in self.layers.values_mut() {
            layers.by_policies.retain(|_, layer| std::mem::take(&mut layer.used) || layer.lease.is_held());
        }
        self.layers.retain(|_, layers| !layers.by_policies.is_empty());
        self.inbounds.retire();
    }

    /// Leases of what was asked for since the last call: of one proxy's, if it was generated alone since then.
    pub fn leases(&mut self) -> Vec<Lease> {
        std::mem::take(&mut self.asked)
    }

    /// How many resources of services were encoded so far: what changes cost.
    pub fn encodings(&self) -> u64 {
        self.encodings
    }

    /// The resources of all services for a caller.
    pub(crate) fn outbounds(&mut self, inputs: &ProxyInputs<'_>, networking: &Networking) -> ResourceSet {
        let secret = inputs.proxy.identity.as_ref().map(|identity| identity.secret_name.clone());
        let owner = inputs.proxy.key.owner;
        let only = reference::reachable(networking, owner);
        let keys = inputs.policies.affinity_keys().iter();
        let near = keys.filter_map(|key| Some((key.clone(), inputs.proxy.labels.get(key)?.clone()))).collect();
        let places =
            Places { bound: inputs.bound.clone(), placed: reference::placed(networking, owner, &inputs.snapshot.services) };
        let proxy = (!places.is_empty()).then(|| inputs.proxy.key.clone());
        let listeners = Role::Listeners { identity: secret.is_some(), only: only.clone(), proxy, logged: inputs.access_log };
        let listeners = &self.layer(inputs, listeners, places).set;
        let (listeners, extensions) = (listeners.listeners.clone(), listeners.extensions.clone());
        let clusters = self.layer(inputs, Role::Clusters { secret, only, near }, Places::default()).set.clone();
        ResourceSet { listeners, extensions, ..clusters }
    }

    /// The resources of an inbound; the ones of the last time if they are made of the same.
    pub(crate) fn inbound(
        &mut self,
        proxy: &ResourceKey,
        section: String,
        of: InboundOf,
        make: impl FnOnce(&InboundOf) -> Vec<Encoded>,
    ) -> &[Arc<Encoded>] {
        let (resources, lease) = self.inbounds.get(proxy, section, of, make);
        self.asked.push(lease);
        resources
    }

    /// The resources of all services that an ingress exposes.
    pub(crate) fn exposed(&mut self, inputs: &ProxyInputs<'_>, section: &str) -> &Layer {
        self.layer(inputs, Role::Ingress { section: section.to_owned() }, Places::default())
    }

    fn layer(&mut self, inputs: &ProxyInputs<'_>, role: Role, places: Places) -> &Layer {
        let layers = self.layers.entry((inputs.snapshot.mesh.clone(), role.clone())).or_default();
        let fingerprint = inputs.policies.fingerprint();
        if !layers.by_policies.contains_key(&fingerprint) {
            let start = layers.by_policies.get(&layers.latest).map(Layer::branch).unwrap_or_default();
            layers.by_policies.insert(fingerprint, start);
        }
        layers.latest = fingerprint;
        let layer = layers.by_policies.entry(fingerprint).or_default();
        layer.used = true;
        self.asked.push(layer.lease.clone());
        let now = MadeOf { snapshot: Arc::clone(inputs.snapshot), policies: Arc::clone(inputs.policies), places };
        self.encodings += layer.update(&role, now);
        layer
    }
}

impl Layer {
    /// The same, to become another one.
    fn branch(&self) -> Self {
        Self { lease: Lease::default(), used: false, ..self.clone() }
    }

    /// Brings the layer up to date; the number of resources that were encoded.
    fn update(&mut self, role: &Role, now: MadeOf) -> u64 {
        let touched = match &self.made_of {
            Some(before) => before.touched(&now, role),
            None => now.snapshot.services.iter().map(|(key, new)| (key.clone(), None, Some(Arc::clone(new)))).collect(),
        };
        let mut encodings = 0;
        for (key, old, new) in touched {
            let made = new.map(|new| role.make(&now.snapshot.zone, &new, &now.policies, &now.places)).unwrap_or_default();
            encodings += made.resources.len() as u64;
            self.replace(key, old.as_deref(), made);
        }
        self.made_of = Some(now);
        encodings
    }

    fn replace(&mut self, key: ResourceKey, old: Option<&Service>, made: Made) {
        let before = old.into_iter().flat_map(|old| old.ports.iter().map(|port| name::service_port(old, port)));
        for name in before {
            let of_port =
                [ResourceType::Cluster, ResourceType::Endpoints, ResourceType::Listener].map(|kind| (kind, name.clone()));
            for (kind, name) in of_port.into_iter().chain([(ResourceType::Extension, name::tcp(&name))]) {
                if !made.resources.iter().any(|resource| resource.kind == kind && *resource.name == *name) {
                    self.set.remove(kind, &name);
                }
            }
        }
        for resource in made.resources {
            self.set.put(resource);
        }
        if made.chains.is_empty() {
            self.chains.remove(&key);
        } else {
            self.chains.insert(key, Arc::new(made.chains));
        }
    }
}

/// A service: what it was, what it is.
type Touched = (ResourceKey, Option<Arc<Service>>, Option<Arc<Service>>);

impl MadeOf {
    /// The services that may be made to something else now.
    fn touched(&self, now: &Self, role: &Role) -> Vec<Touched> {
        let same_policies = self.policies.fingerprint() == now.policies.fingerprint();
        let same_places = self.places == now.places;
        if Arc::ptr_eq(&self.snapshot, &now.snapshot) && same_policies && same_places {
            return Vec::new();
        }
        let mut touched: Vec<Touched> = self.snapshot.services.diff(&now.snapshot.services).map(difference).collect();
        if same_policies && same_places {
            return touched;
        }
        let everything = !same_policies && role.depends_on_all(&self.policies, &now.policies);
        let changed = (!same_policies).then(|| now.policies.changed_since(&self.policies));
        let about = |service: &Service| {
            everything
                || service.ports.iter().any(|port| {
                    changed.as_ref().is_some_and(|changed| changed.touches(&facts(service, port)))
                        || !same_places && self.places.of(service, port.port) != now.places.of(service, port.port)
                })
        };
        let seen: BTreeSet<ResourceKey> = touched.iter().map(|(key, ..)| key.clone()).collect();
        let others = now.snapshot.services.iter().filter(|(key, service)| !seen.contains(*key) && about(service));
        touched.extend(others.map(|(key, service)| (key.clone(), Some(Arc::clone(service)), Some(Arc::clone(service)))));
        touched
    }
}

fn difference(item: DiffItem<'_, '_, ResourceKey, Arc<Service>>) -> Touched {
    match item {
        DiffItem::Add(key, new) => (key.clone(), None, Some(Arc::clone(new))),
        DiffItem::Remove(key, old) => (key.clone(), Some(Arc::clone(old)), None),
        DiffItem::Update { old: (key, old), new: (_, new) } => (key.clone(), Some(Arc::clone(old)), Some(Arc::clone(new))),
    }
}
