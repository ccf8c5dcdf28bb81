//! What one service is made to, for which proxies.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use atoll_envoy_api::envoy::config::listener::v3::FilterChain;
use atoll_mesh::snapshot::{Service, ServicePort};
use atoll_model::ResourceKey;
use atoll_policy::{SelectedPolicies, ServiceFacts};

use crate::{
    clusters::service as service_cluster,
    encoded::Encoded,
    endpoints,
    listeners::{
        ingress,
        outbound::{self, Conduct, Place},
    },
    name,
    policies::{
        mesh_load_balancing_strategy::{self, Caller},
        mesh_timeout,
    },
    reference::Reference,
    tls,
};

/// What makes one and the same service differ between proxies, beside policies.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    /// Clusters and endpoints of callers.
    Clusters {
        /// Name of the secret with their certificate, if they have an identity.
        secret: Option<String>,
        /// The only services that they are given.
        only: Option<Vec<Reference>>,
        /// Their values of the labels by which strategies tell what is near.
        near: Vec<(String, String)>,
    },
    /// Outbound listeners of callers.
    Listeners {
        /// Whether they have an identity.
        identity: bool,
        /// The only services that they are given.
        only: Option<Vec<Reference>>,
        /// The one proxy, if it binds addresses: no other has its places.
        proxy: Option<ResourceKey>,
        /// Whether connections and requests are logged.
        logged: bool,
    },
    /// What an ingress exposes.
    Ingress {
        /// The listener.
        section: String,
    },
}

/// Where outbound listeners are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Places {
    /// By virtual address and port.
    pub(super) bound: BTreeMap<(IpAddr, u16), SocketAddr>,
    /// By service and port.
    pub(super) placed: BTreeMap<(ResourceKey, u16), SocketAddr>,
}

/// What one service is made to.
#[derive(Default)]
pub(super) struct Made {
    pub(super) resources: Vec<Encoded>,
    pub(super) chains: Vec<FilterChain>,
}

impl Role {
    /// Whether something changed on which every service depends.
    pub(super) fn depends_on_all(&self, old: &SelectedPolicies, new: &SelectedPolicies) -> bool {
        match self {
            Role::Clusters { .. } => old.client_tls() != new.client_tls(),
            Role::Listeners { .. } => false,
            Role::Ingress { section } => old.inbound_timeouts(section) != new.inbound_timeouts(section),
        }
    }

    pub(super) fn make(&self, zone: &str, service: &Service, policies: &SelectedPolicies, places: &Places) -> Made {
        let mut made = Made::default();
        for port in &service.ports {
            match self {
                Role::Clusters { secret, only, near } if reaches(only, service, port) => {
                    made.resources.extend(clusters(service, port, policies, secret.as_deref(), Caller { zone, near }));
                }
                Role::Listeners { identity, only, logged, .. } if reaches(only, service, port) => {
                    made.resources.extend(listener(service, port, policies, (*identity, *logged), places));
                }
                Role::Clusters { .. } | Role::Listeners { .. } => {}
                Role::Ingress { section } => expose(service, port, policies, section, &mut made),
            }
        }
        made
    }
}

/// Whether a caller with or without an identity has a way to a port.
pub(crate) fn is_given(only: &Option<Vec<Reference>>, service: &Service, port: &ServicePort, identity: bool) -> bool {
    let speaks = match speech(service, port, identity) {
        Speech::Mesh(_) | Speech::Clear => true,
        Speech::Silence => false,
    };
    speaks && reaches(only, service, port)
}

fn reaches(only: &Option<Vec<Reference>>, service: &Service, port: &ServicePort) -> bool {
    only.as_ref().is_none_or(|only| only.iter().any(|reference| reference.means(service, port.port)))
}

impl Places {
    pub(super) fn is_empty(&self) -> bool {
        self.bound.is_empty() && self.placed.is_empty()
    }

    pub(super) fn of(&self, service: &Service, port: u16) -> Option<Place> {
        // Most proxies have none: the key is not worth cloning for them.
        let own = if self.placed.is_empty() { None } else { self.placed.get(&(service.key.clone(), port)) };
        if let Some(at) = own {
            return Some(Place::Bound(*at));
        }
        let vip = service.vip?;
        if self.bound.is_empty() {
            Some(Place::Virtual(SocketAddr::new(vip, port)))
        } else {
            self.bound.get(&(vip, port)).copied().map(Place::Bound)
        }
    }
}

pub(super) fn facts<'a>(service: &'a Service, port: &'a ServicePort) -> ServiceFacts<'a> {
    ServiceFacts { kind: service.key.kind, labels: &service.labels, section: &port.section, port: port.port }
}

/// How a port is spoken to.
enum Speech<'a> {
    /// In the mesh's TLS, with this server name.
    Mesh(&'a str),
    /// In clear.
    Clear,
    /// Not at all: the mesh's TLS is wanted and cannot be, and better no way than one in clear.
    Silence,
}

fn speech<'a>(service: &Service, port: &'a ServicePort, identity: bool) -> Speech<'a> {
    match (identity && service.tls_ready, &port.sni) {
        (true, Some(sni)) => Speech::Mesh(sni),
        (true, None) => Speech::Silence,
        (false, _) => Speech::Clear,
    }
}

fn clusters(
    service: &Service,
    port: &ServicePort,
    policies: &SelectedPolicies,
    secret: Option<&str>,
    caller: Caller<'_>,
) -> Vec<Encoded> {
    let name = name::service_port(service, port);
    let timeouts = mesh_timeout::outbound(&policies.timeouts_to(&facts(service, port)));
    let socket = match (speech(service, port, secret.is_some()), secret) {
        (Speech::Mesh(sni), Some(secret)) => Some(tls::upstream(secret, &policies.client_tls(), sni, &service.identities)),
        (Speech::Mesh(_), None) | (Speech::Silence, _) => return Vec::new(),
        (Speech::Clear, _) => None,
    };
    // In clear nothing leaves the zone.
    let leaves = socket.is_some();
    let strategy = policies.strategy_to(&facts(service, port));
    let ranked = |endpoint| Some((mesh_load_balancing_strategy::rank(&strategy, caller, &service.zone, endpoint)?, endpoint));
    let endpoints = port.endpoints.0.iter().filter(|endpoint| leaves || endpoint.is_local()).filter_map(ranked);
    vec![
        service_cluster::cluster(&name, port.protocol, &timeouts, &strategy, socket),
        endpoints::assignment(&name, endpoints, mesh_load_balancing_strategy::overprovisioning(&strategy)),
    ]
}

fn listener(
    service: &Service,
    port: &ServicePort,
    policies: &SelectedPolicies,
    (identity, logged): (bool, bool),
    places: &Places,
) -> Vec<Encoded> {
    match speech(service, port, identity) {
        Speech::Silence => return Vec::new(),
        Speech::Mesh(_) | Speech::Clear => {}
    }
    let Some(place) = places.of(service, port.port) else { return Vec::new() };
    let name = name::service_port(service, port);
    let facts = facts(service, port);
    let timeouts = mesh_timeout::outbound(&policies.timeouts_to(&facts));
    let strategy = policies.strategy_to(&facts);
    outbound::resources(&name, place, &Conduct { protocol: port.protocol, timeouts: &timeouts, strategy: &strategy, logged })
}

/// What an ingress needs to let other zones reach a port of this one.
fn expose(service: &Service, port: &ServicePort, policies: &SelectedPolicies, section: &str, made: &mut Made) {
    let Some(sni) = port.sni.as_deref().filter(|_| service.local || service.members.is_some()) else { return };
    let name = name::service_port(service, port);
    let timeouts = mesh_timeout::inbound(&policies.inbound_timeouts(section));
    made.chains.push(ingress::chain(sni, &name));
    made.resources.push(ingress::filter(&name, &timeouts));
    made.resources.push(service_cluster::passthrough(&name, &timeouts));
    // Of a service of several zones, what this one serves: a caller chose this zone already.
    let endpoints = port.endpoints.0.iter().filter(|endpoint| endpoint.is_local());
    made.resources.push(endpoints::in_order(&name, endpoints));
}
