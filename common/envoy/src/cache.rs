//! What proxies share: the resources of services, made once for all proxies to which the same holds.
//!
//! A layer is the resources of all services for proxies with the same mesh, identity, places and policies. It is brought up
//! to date once per snapshot, by what differs: services whose `Arc` is another one, and services that changed policies are
//! about. So a change of one service costs the encoding of its few resources once, and comparisons of pointers else.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use atoll_envoy_api::envoy::config::listener::v3::FilterChain;
use atoll_mesh::{
    MeshSnapshot,
    snapshot::{Service, ServicePort},
};
use atoll_model::{Kind, Name, ResourceKey};
use atoll_policy::{SelectedPolicies, ServiceFacts};
use imbl::{OrdMap, ordmap::DiffItem};

use crate::{
    ProxyInputs, ResourceSet, ResourceType,
    clusters::service as service_cluster,
    encoded::Encoded,
    endpoints,
    listeners::{
        ingress,
        outbound::{self, Place},
    },
    name,
    policies::mesh_timeout,
    tls,
};

/// Layers that proxies share. One owner; see [`Cache::retire`].
#[derive(Default)]
pub struct Cache {
    layers: BTreeMap<LayerKey, Layers>,
    encodings: u64,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct LayerKey {
    mesh: Name,
    role: Role,
}

/// What makes the resources of one and the same service differ between proxies, beside policies.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Role {
    Caller { secret: Option<String>, bound: BTreeMap<(IpAddr, u16), SocketAddr> },
    Ingress { section: String },
}

/// The layers of one key by the fingerprint of policies. A new one starts from the one used last.
#[derive(Default)]
struct Layers {
    by_policies: BTreeMap<u128, Layer>,
    latest: u128,
}

/// What services are made to for some proxies.
#[derive(Clone, Default)]
pub(crate) struct Layer {
    made_of: Option<(Arc<MeshSnapshot>, Arc<SelectedPolicies>)>,
    pub(crate) set: ResourceSet,
    /// Of ingresses: chains by service, in the order of services.
    pub(crate) chains: OrdMap<ResourceKey, Arc<Vec<FilterChain>>>,
    used: bool,
}

impl Cache {
    /// Drops what nobody asked for since the last call. To be called after each round over all proxies.
    pub fn retire(&mut self) {
        for layers in self.layers.values_mut() {
            layers.by_policies.retain(|_, layer| std::mem::take(&mut layer.used));
        }
        self.layers.retain(|_, layers| !layers.by_policies.is_empty());
    }

    /// How many resources of services were encoded so far: what changes cost.
    pub fn encodings(&self) -> u64 {
        self.encodings
    }

    /// The resources of all services for a caller.
    pub(crate) fn outbounds(&mut self, inputs: &ProxyInputs<'_>) -> ResourceSet {
        let secret = inputs.proxy.identity.as_ref().map(|identity| identity.secret_name.clone());
        let role = Role::Caller { secret, bound: inputs.bound.clone() };
        self.layer(inputs, role).set.clone()
    }

    /// The resources of all services that an ingress exposes.
    pub(crate) fn exposed(&mut self, inputs: &ProxyInputs<'_>, section: &str) -> &Layer {
        self.layer(inputs, Role::Ingress { section: section.to_owned() })
    }

    fn layer(&mut self, inputs: &ProxyInputs<'_>, role: Role) -> &Layer {
        let key = LayerKey { mesh: inputs.snapshot.mesh.clone(), role };
        let layers = self.layers.entry(key.clone()).or_default();
        let fingerprint = inputs.policies.fingerprint();
        if !layers.by_policies.contains_key(&fingerprint) {
            let start = layers.by_policies.get(&layers.latest).cloned().unwrap_or_default();
            layers.by_policies.insert(fingerprint, start);
        }
        layers.latest = fingerprint;
        let layer = layers.by_policies.entry(fingerprint).or_default();
        layer.used = true;
        self.encodings += layer.update(&key.role, inputs);
        layer
    }
}

impl Layer {
    /// Brings the layer up to date; the number of resources that were encoded.
    fn update(&mut self, role: &Role, inputs: &ProxyInputs<'_>) -> u64 {
        let (snapshot, policies) = (inputs.snapshot, inputs.policies);
        let touched = match &self.made_of {
            Some((made_of, by)) if Arc::ptr_eq(made_of, snapshot) && by.fingerprint() == policies.fingerprint() => return 0,
            Some((made_of, by)) => touched(made_of, by, snapshot, policies, role),
            None => snapshot.services.iter().map(|(key, service)| (key.clone(), None, Some(Arc::clone(service)))).collect(),
        };
        let mut encodings = 0;
        for (key, old, new) in touched {
            let made = new.as_deref().map(|new| role.resources(new, policies)).unwrap_or_default();
            encodings += made.resources.len() as u64;
            self.replace(key, old.as_deref(), made);
        }
        self.made_of = Some((Arc::clone(snapshot), Arc::clone(policies)));
        encodings
    }

    fn replace(&mut self, key: ResourceKey, old: Option<&Service>, made: Made) {
        let before = old.into_iter().flat_map(|old| old.ports.iter().map(|port| name::service_port(old, port)));
        for name in before {
            for kind in [ResourceType::Cluster, ResourceType::Endpoints, ResourceType::Listener] {
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

type Touched = Vec<(ResourceKey, Option<Arc<Service>>, Option<Arc<Service>>)>;

/// The services that may be made to something else now: what they were, what they are.
fn touched(
    old: &MeshSnapshot,
    old_policies: &SelectedPolicies,
    new: &MeshSnapshot,
    policies: &SelectedPolicies,
    role: &Role,
) -> Touched {
    let mut touched: Touched = old.services.diff(&new.services).filter_map(difference).collect();
    if old_policies.fingerprint() != policies.fingerprint() {
        let everything = role.depends_on_all(old_policies, policies);
        let changed = policies.changed_since(old_policies);
        let about = |service: &Service| everything || service.ports.iter().any(|port| changed.touches(&facts(service, port)));
        let seen: BTreeSet<ResourceKey> = touched.iter().map(|(key, ..)| key.clone()).collect();
        let others = new.services.iter().filter(|(key, service)| !seen.contains(*key) && about(service));
        touched.extend(others.map(|(key, service)| (key.clone(), Some(Arc::clone(service)), Some(Arc::clone(service)))));
    }
    touched
}

fn difference(
    item: DiffItem<'_, '_, ResourceKey, Arc<Service>>,
) -> Option<(ResourceKey, Option<Arc<Service>>, Option<Arc<Service>>)> {
    match item {
        DiffItem::Add(key, new) => Some((key.clone(), None, Some(Arc::clone(new)))),
        DiffItem::Remove(key, old) => Some((key.clone(), Some(Arc::clone(old)), None)),
        DiffItem::Update { old: (key, old), new: (_, new) } => Some((key.clone(), Some(Arc::clone(old)), Some(Arc::clone(new)))),
    }
}

fn facts<'a>(service: &'a Service, port: &'a ServicePort) -> ServiceFacts<'a> {
    ServiceFacts { kind: Kind::MeshService, labels: &service.labels, section: &port.section, port: port.port }
}

/// What one service is made to.
#[derive(Default)]
struct Made {
    resources: Vec<Encoded>,
    chains: Vec<FilterChain>,
}

impl Role {
    /// Whether something changed on which every service depends.
    fn depends_on_all(&self, old: &SelectedPolicies, new: &SelectedPolicies) -> bool {
        match self {
            Role::Caller { .. } => old.client_tls() != new.client_tls(),
            Role::Ingress { section } => old.inbound_timeouts(section) != new.inbound_timeouts(section),
        }
    }

    fn resources(&self, service: &Service, policies: &SelectedPolicies) -> Made {
        let mut made = Made::default();
        for port in &service.ports {
            match self {
                Role::Caller { secret, bound } => {
                    made.resources.extend(called(service, port, policies, secret.as_deref(), bound));
                }
                Role::Ingress { section } => expose(service, port, policies, section, &mut made),
            }
        }
        made
    }
}

/// What a caller needs to reach a port.
fn called(
    service: &Service,
    port: &ServicePort,
    policies: &SelectedPolicies,
    secret: Option<&str>,
    bound: &BTreeMap<(IpAddr, u16), SocketAddr>,
) -> Vec<Encoded> {
    let name = name::service_port(service, port);
    let timeouts = mesh_timeout::outbound(&policies.timeouts_to(&facts(service, port)));
    let socket = match (secret, service.tls_ready, &port.sni) {
        (Some(secret), true, Some(sni)) => Some(tls::upstream(secret, &policies.client_tls(), sni, &service.identities)),
        // The mesh's TLS is wanted and cannot be: better no way than one in clear.
        (Some(_), true, None) => return Vec::new(),
        (None, _, _) | (_, false, _) => None,
    };
    // In clear nothing leaves the zone.
    let reachable = service.local || socket.is_some();
    let endpoints = port.endpoints.0.iter().filter(|_| reachable);
    let listener = place(service, port, bound).map(|place| outbound::listener(&name, place, port.protocol, &timeouts));
    let mut resources =
        vec![service_cluster::cluster(&name, port.protocol, &timeouts, socket), endpoints::assignment(&name, endpoints)];
    resources.extend(listener);
    resources
}

fn place(service: &Service, port: &ServicePort, bound: &BTreeMap<(IpAddr, u16), SocketAddr>) -> Option<Place> {
    let vip = service.vip?;
    if bound.is_empty() {
        Some(Place::Virtual(SocketAddr::new(vip, port.port)))
    } else {
        bound.get(&(vip, port.port)).copied().map(Place::Bound)
    }
}

/// What an ingress needs to let other zones reach a port of this one.
fn expose(service: &Service, port: &ServicePort, policies: &SelectedPolicies, section: &str, made: &mut Made) {
    let Some(sni) = port.sni.as_deref().filter(|_| service.local) else { return };
    let name = name::service_port(service, port);
    let timeouts = mesh_timeout::inbound(&policies.inbound_timeouts(section));
    made.chains.push(ingress::chain(sni, &name, &timeouts));
    made.resources.push(service_cluster::passthrough(&name, &timeouts));
    made.resources.push(endpoints::assignment(&name, port.endpoints.0.iter()));
}
