//! From one proxy's inputs to its resources.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use atoll_envoy_api::envoy::config::core::v3::TrafficDirection;
use atoll_mesh::{
    MeshSnapshot,
    snapshot::{Protocol, ProxyView},
};
use atoll_model::kinds::dataplane::{self, InboundState, ListenerKind, Networking, TransparentProxying};
use atoll_policy::SelectedPolicies;

use crate::{
    Cache, Encoded, ResourceSet,
    cache::InboundOf,
    clusters::{
        inbound::{self as inbound_cluster, Workload},
        passthrough as passthrough_cluster,
    },
    listeners::{inbound, ingress, passthrough},
    name,
    policies::{
        mesh_passthrough::{self, Openness},
        mesh_timeout,
    },
};

/// What one proxy's resources are made of.
pub struct ProxyInputs<'a> {
    /// Its mesh.
    pub snapshot: &'a Arc<MeshSnapshot>,
    /// The proxy.
    pub proxy: &'a ProxyView,
    /// The policies that select it.
    pub policies: &'a Arc<SelectedPolicies>,
    /// Where it listens for a service's virtual address and port. Without any, it listens at the virtual addresses themselves,
    /// without a socket, for redirected traffic.
    pub bound: &'a BTreeMap<(IpAddr, u16), SocketAddr>,
    /// Epochs of the chains that end the mesh's TLS, by inbound; 0 unless listed.
    pub chains: &'a BTreeMap<String, u64>,
    /// Whether its connections and requests are logged. Those of a zone ingress always are. A change makes listeners anew, which
    /// cuts what is open on them.
    pub access_log: bool,
}

/// The resources of a proxy, without its secrets. A proxy with a zone ingress listener gets no outbounds: both would need
/// clusters of the same names.
pub fn generate(inputs: &ProxyInputs<'_>, cache: &mut Cache) -> ResourceSet {
    let Some(networking) = &inputs.proxy.spec.networking else { return ResourceSet::default() };
    let ingresses: Vec<_> = networking.listeners.iter().filter(|listener| is_ingress(listener)).collect();
    let mut set = if ingresses.is_empty() {
        let mut set = cache.outbounds(inputs, networking);
        add_passthrough(inputs, networking, &mut set);
        set
    } else {
        let mut set = ResourceSet::default();
        for listener in ingresses {
            add_ingress(inputs, listener, cache, &mut set);
        }
        set
    };
    let served = networking.inbound.iter().filter(|inbound| inbound.state != Some(InboundState::Ignored));
    for inbound in served {
        add_inbound(inputs, networking, inbound, cache, &mut set);
    }
    set
}

/// The port to which the host redirects traffic of one direction, if it does.
pub(crate) fn redirected(networking: &Networking, port: impl Fn(&TransparentProxying) -> Option<u32>) -> Option<u16> {
    let port = port(networking.transparent_proxying.as_ref()?)?;
    u16::try_from(port).ok().filter(|port| *port != 0)
}

fn add_passthrough(inputs: &ProxyInputs<'_>, networking: &Networking, set: &mut ResourceSet) {
    let logged = inputs.access_log;
    if let Some(port) = redirected(networking, |transparent| transparent.redirect_port_outbound) {
        let (name, timeouts) = (name::PASSTHROUGH_OUTBOUND, &mesh_timeout::OUTBOUND);
        match mesh_passthrough::openness(inputs.policies.passthrough().as_deref()) {
            Openness::Everything => {
                set.put(passthrough_cluster::outbound(name, timeouts));
                set.put(passthrough::open(name, port, TrafficDirection::Outbound, timeouts, logged));
            }
            Openness::Only(ways) => {
                passthrough::matched::clusters(&ways, timeouts).into_iter().for_each(|cluster| set.put(cluster));
                set.put(passthrough::listed(name, port, &ways, timeouts, logged));
            }
        }
    }
    if let Some(port) = redirected(networking, |transparent| transparent.redirect_port_inbound) {
        let (name, timeouts) = (name::PASSTHROUGH_INBOUND, &mesh_timeout::INBOUND);
        set.put(passthrough_cluster::inbound(name, timeouts));
        set.put(passthrough::open(name, port, TrafficDirection::Inbound, timeouts, logged));
    }
}

pub(crate) fn is_ingress(listener: &dataplane::Listener) -> bool {
    match listener.kind {
        ListenerKind::ZoneIngress => listener.state != Some(InboundState::Ignored),
        ListenerKind::ZoneEgress => false,
    }
}

fn add_ingress(inputs: &ProxyInputs<'_>, listener: &dataplane::Listener, cache: &mut Cache, set: &mut ResourceSet) {
    let (Ok(ip), Ok(port)) = (listener.address.parse::<IpAddr>(), u16::try_from(listener.port)) else { return };
    let section = listener.section();
    let exposed = cache.exposed(inputs, &section);
    if !exposed.chains.is_empty() {
        let name = name::zone_ingress(&section);
        let chains = exposed.chains.values().flat_map(|chains| chains.iter().cloned()).collect();
        set.put(ingress::listener(&name, SocketAddr::new(ip, port), chains));
    }
    let made = &exposed.set;
    for resource in made.clusters.values().chain(made.endpoints.values()).chain(made.extensions.values()) {
        set.put_shared(Arc::clone(resource));
    }
}

fn add_inbound(
    inputs: &ProxyInputs<'_>,
    networking: &Networking,
    spec: &dataplane::Inbound,
    cache: &mut Cache,
    set: &mut ResourceSet,
) {
    let section = spec.section();
    let of = InboundOf {
        spec: Arc::clone(&inputs.proxy.spec),
        tls: inputs.policies.tls(&section),
        permissions: inputs.policies.permissions(&section),
        timeouts: inputs.policies.inbound_timeouts(&section),
        secret: inputs.proxy.identity.as_ref().map(|identity| identity.secret_name.clone()),
        epoch: inputs.chains.get(&section).copied().unwrap_or(0),
        logged: inputs.access_log,
    };
    for resource in cache.inbound(&inputs.proxy.key, section, of, |of| make_inbound(networking, spec, of)) {
        set.put_shared(Arc::clone(resource));
    }
}

fn make_inbound(networking: &Networking, spec: &dataplane::Inbound, of: &InboundOf) -> Vec<Encoded> {
    let host = spec.address.as_deref().unwrap_or(&networking.address);
    let (Ok(ip), Ok(port)) = (host.parse::<IpAddr>(), u16::try_from(spec.port)) else { return Vec::new() };
    let redirects = redirected(networking, |transparent| transparent.redirect_port_inbound).is_some();
    let workload = Workload {
        host: spec.service_address.as_deref().unwrap_or(host).to_owned(),
        port: spec.service_port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0).unwrap_or(port),
        redirected: redirects,
    };
    let (section, protocol) = (spec.section(), Protocol::from_app(spec.protocol()));
    let timeouts = mesh_timeout::inbound(&of.timeouts);
    let name = name::inbound(&section);
    let mut made = vec![inbound_cluster::cluster(&name, &workload, protocol, &timeouts)];
    made.extend(inbound::resources(&inbound::Inbound {
        name: &name,
        at: SocketAddr::new(ip, port),
        bind: !redirects,
        protocol,
        timeouts: &timeouts,
        logged: of.logged,
        mesh_tls: of.secret.as_deref().map(|secret| inbound::MeshTls {
            secret,
            tls: &of.tls,
            permissions: &of.permissions,
            epoch: of.epoch,
        }),
    }));
    made
}
