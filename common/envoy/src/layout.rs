//! What a proxy is given and who gets through it, for people who ask: by the rules of its resources, without making them.

use atoll_mesh::{
    MeshSnapshot,
    snapshot::{ProxyIdentity, ProxyView},
};
use atoll_model::{
    ResourceKey,
    kinds::dataplane::{InboundState, ListenerKind, Networking},
    kri::Kri,
};
use atoll_policy::SelectedPolicies;

use crate::{
    cache,
    generate::{is_ingress, redirected},
    name,
    policies::mesh_tls,
    reference,
};

/// A proxy's ports, and who gets through them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// What the workload serves.
    pub inbounds: Vec<Inbound>,
    /// What the proxy leads to, sorted by KRI.
    pub outbounds: Vec<Outbound>,
    /// What the proxy is for other zones.
    pub listeners: Vec<Listener>,
    /// Who gets in.
    pub incoming: Direction,
    /// Where one gets out.
    pub outgoing: Direction,
}

/// One port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// The port of the Dataplane or service.
    pub kri: Kri,
    /// Its number.
    pub port: u32,
    /// What is spoken there; empty where the Dataplane does not say.
    pub protocol: String,
    /// The name of Envoy's listener and cluster.
    pub name: String,
}

/// One port that the workload serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inbound {
    /// The port.
    pub port: Port,
    /// Who gets in.
    pub access: Access,
}

/// One port of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outbound {
    /// The port.
    pub port: Port,
    /// The service.
    pub service: ResourceKey,
}

/// One port for other zones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// The listener of the Dataplane.
    pub kri: Kri,
    /// What it is.
    pub kind: ListenerKind,
    /// Its port.
    pub port: u32,
    /// The name of Envoy's listener.
    pub name: String,
}

/// Whether the mesh judges what passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Something passes that nobody judges.
    Open,
    /// Only what a policy lets through.
    Closed,
}

/// Whether the mesh judges what passes one way, and why not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Direction {
    /// Whether it does.
    pub access: Access,
    /// What passes unjudged; nothing if it is closed.
    pub why: Vec<String>,
}

/// The layout of a proxy.
pub fn layout(snapshot: &MeshSnapshot, proxy: &ProxyView, policies: &SelectedPolicies) -> Layout {
    let nothing = Networking::default();
    let networking = proxy.spec.networking.as_ref().unwrap_or(&nothing);
    let inbounds = inbounds(proxy, networking, policies);
    let is_ingress = networking.listeners.iter().any(is_ingress);
    Layout {
        outbounds: if is_ingress { Vec::new() } else { outbounds(snapshot, proxy, networking) },
        listeners: listeners(proxy, networking),
        incoming: incoming(networking, proxy.identity.as_ref(), &inbounds, is_ingress),
        outgoing: outgoing(networking, is_ingress),
        inbounds,
    }
}

fn inbounds(proxy: &ProxyView, networking: &Networking, policies: &SelectedPolicies) -> Vec<Inbound> {
    let served = networking.inbound.iter().filter(|inbound| inbound.state != Some(InboundState::Ignored));
    let one = |inbound: &atoll_model::kinds::dataplane::Inbound| {
        let section = inbound.section();
        let is_open = proxy.identity.is_none() || mesh_tls::is_permissive(&policies.tls(&section));
        let port = Port {
            kri: proxy.kri.with_section(&section),
            port: inbound.port,
            protocol: inbound.protocol.clone().unwrap_or_default(),
            name: name::inbound(&section),
        };
        Inbound { port, access: if is_open { Access::Open } else { Access::Closed } }
    };
    served.map(one).collect()
}

fn outbounds(snapshot: &MeshSnapshot, proxy: &ProxyView, networking: &Networking) -> Vec<Outbound> {
    let only = reference::reachable(networking, proxy.key.owner);
    let mut given = Vec::new();
    for service in snapshot.services.values() {
        let ports = service.ports.iter().filter(|port| cache::is_given(&only, service, port, proxy.identity.is_some()));
        given.extend(ports.map(|port| {
            let name = name::service_port(service, port);
            let kri = service.kri.with_section(&port.section);
            let port = Port { kri, port: port.port.into(), protocol: port.protocol.name().to_owned(), name };
            Outbound { port, service: service.key.clone() }
        }));
    }
    // The name is the KRI as text.
    given.sort_by(|one, other| one.port.name.cmp(&other.port.name));
    given
}

fn listeners(proxy: &ProxyView, networking: &Networking) -> Vec<Listener> {
    let made = networking.listeners.iter().filter(|listener| is_ingress(listener));
    let one = |listener: &atoll_model::kinds::dataplane::Listener| {
        let section = listener.section();
        let (kri, name) = (proxy.kri.with_section(&section), name::zone_ingress(&section));
        Listener { kri, kind: listener.kind, port: listener.port, name }
    };
    made.map(one).collect()
}

fn incoming(networking: &Networking, identity: Option<&ProxyIdentity>, inbounds: &[Inbound], is_ingress: bool) -> Direction {
    let open: Vec<&str> =
        inbounds.iter().filter(|one| one.access == Access::Open).map(|one| one.port.kri.section.as_str()).collect();
    let mut why = Vec::new();
    if !open.is_empty() {
        let names = open.join(", ");
        why.push(match identity {
            None => format!("no MeshIdentity selects the proxy, so nobody who calls {names} is judged"),
            Some(_) => format!("MeshTLS is Permissive for {names}, so callers outside the mesh's TLS are not judged"),
        });
    }
    if !is_ingress && redirected(networking, |transparent| transparent.redirect_port_inbound).is_some() {
        why.push("what is redirected to ports that are no inbounds passes as it is".to_owned());
    }
    Direction::of(why)
}

fn outgoing(networking: &Networking, is_ingress: bool) -> Direction {
    let is_redirected = redirected(networking, |transparent| transparent.redirect_port_outbound).is_some();
    let why = match (is_ingress, is_redirected) {
        (true, _) => None,
        (false, true) => Some("what goes to addresses that are not the mesh's passes as it is"),
        (false, false) => {
            Some("the host does not redirect what the workload sends: only what it sends to the proxy is the mesh's")
        }
    };
    Direction::of(why.into_iter().map(str::to_owned).collect())
}

impl Direction {
    fn of(why: Vec<String>) -> Self {
        Self { access: if why.is_empty() { Access::Closed } else { Access::Open }, why }
    }
}
