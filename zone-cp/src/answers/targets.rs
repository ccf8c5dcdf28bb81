//! What to dial: the published addresses of the other zones, each with a service that must answer behind it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use atoll_mesh::{MeshSnapshot, snapshot::Service};
use atoll_model::{Name, spiffe::SpiffeId};

use crate::engine::ZoneView;

/// One address of another zone's ingress, in one mesh.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// The mesh.
    pub mesh: Name,
    /// Whose ingress.
    pub zone: Name,
    /// As it is published.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Where that is; none while a host name is not resolved.
    pub address: Option<SocketAddr>,
    /// Who must answer there; none if nothing serves any service of that zone.
    pub expected: Option<Expected>,
}

/// A service behind an ingress.
#[derive(Clone, Debug, PartialEq)]
pub struct Expected {
    /// Its name.
    pub service: Name,
    /// The server name that leads to it.
    pub sni: String,
    /// Who may answer; empty: anybody of a trusted domain.
    pub identities: Vec<SpiffeId>,
    /// The CAs that are believed, as PEM, by trust domain.
    pub trust: BTreeMap<String, String>,
}

/// The targets of this zone's table, sorted, each once.
pub fn of(own: &Name, view: &ZoneView) -> Vec<Target> {
    view.meshes.values().flat_map(|mesh| of_mesh(own, mesh)).collect()
}

fn of_mesh(own: &Name, mesh: &MeshSnapshot) -> Vec<Target> {
    let others = mesh.zone_addresses.values().filter(|address| address.zone != *own);
    let places: BTreeSet<_> =
        others.map(|address| (address.zone.clone(), address.host.clone(), address.port, address.address)).collect();
    let target = |(zone, host, port, ip): (Name, String, u16, Option<std::net::IpAddr>)| Target {
        mesh: mesh.mesh.clone(),
        expected: expected(mesh, &zone),
        zone,
        host,
        port,
        address: ip.map(|ip| SocketAddr::new(ip, port)),
    };
    places.into_iter().map(target).collect()
}

/// The first service of the zone, by name, that something serves.
fn expected(mesh: &MeshSnapshot, zone: &Name) -> Option<Expected> {
    let served = |service: &&Service| !service.local && service.zone == *zone && service.available;
    let with_sni = |service: &Service| {
        let sni = service.ports.iter().find_map(|port| port.sni.clone())?;
        Some(Expected {
            service: service.key.name.clone(),
            sni,
            identities: service.identities.clone(),
            trust: trust(mesh, &service.identities),
        })
    };
    mesh.services.values().map(AsRef::as_ref).filter(served).find_map(with_sni)
}

/// The bundles of the domains of `identities`; all, if it is open who may answer.
fn trust(mesh: &MeshSnapshot, identities: &[SpiffeId]) -> BTreeMap<String, String> {
    let domains: BTreeSet<_> = identities.iter().map(|id| &id.trust_domain).collect();
    let bundles = mesh.trust.bundles().iter().filter(|(domain, _)| domains.is_empty() || domains.contains(domain));
    bundles.map(|(domain, pems)| (domain.to_string(), pems.iter().map(|pem| format!("{}\n", pem.trim_end())).collect())).collect()
}
