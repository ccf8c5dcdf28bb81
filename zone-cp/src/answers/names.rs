//! The hostnames of this zone, as its proxies' DNS hands them out, and those that it does not, with the reason.

use std::collections::BTreeMap;

use atoll_mesh::{MeshSnapshot, snapshot::Service};
use atoll_model::{Name, Owner};
use serde_json::{Value, json};

use crate::{engine::ZoneView, proxies::ads::Statuses, runners::registry::View};

/// How the proxies of each mesh fare, by the mesh.
pub type Proxies = BTreeMap<Name, ProxyCounts>;

/// How many proxies a mesh has here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProxyCounts {
    /// Known here.
    pub known: usize,
    /// With a runner, which has their newest names on its stream.
    pub runners: usize,
    /// With an Envoy.
    pub envoys: usize,
    /// Whose Envoy refuses something now.
    pub refusing: usize,
}

/// Counts the proxies of each mesh.
pub fn proxies(runners: &View, envoys: &Statuses) -> Proxies {
    let mut counts = Proxies::new();
    for (id, proxy) in &runners.proxies {
        let of_mesh = counts.entry(id.mesh.clone()).or_default();
        of_mesh.known += 1;
        of_mesh.runners += usize::from(proxy.status.runner);
        of_mesh.envoys += usize::from(proxy.status.envoys > 0);
        of_mesh.refusing += usize::from(envoys.get(id).is_some_and(|seen| !seen.status.refused.is_empty()));
    }
    counts
}

/// All names as JSON.
pub fn answer(zone: &Name, view: &ZoneView, proxies: Option<Proxies>) -> Value {
    let meshes: Vec<Value> = view
        .meshes
        .values()
        .map(|mesh| {
            let mut shown = json!({ "mesh": mesh.mesh, "names": names(mesh), "without": without(mesh) });
            if let Some(proxies) = &proxies {
                let ProxyCounts { known, runners, envoys, refusing } = proxies.get(&mesh.mesh).copied().unwrap_or_default();
                shown["proxies"] = json!({ "known": known, "runners": runners, "envoys": envoys, "refusing": refusing });
            }
            shown
        })
        .collect();
    json!({ "zone": zone, "revision": view.revision, "meshes": meshes })
}

fn names(mesh: &MeshSnapshot) -> Vec<Value> {
    let name = |(hostname, target): (&String, &atoll_mesh::snapshot::NameTarget)| {
        let service = mesh.services.get(&target.service)?;
        Some(json!({
            "hostname": hostname,
            "vip": target.vip,
            "service": service.key.name,
            "zone": service.zone,
            "generator": generator(service, hostname),
        }))
    };
    mesh.names.iter().filter_map(name).collect()
}

/// The generator of global that made it, which other zones have, too; none if a zone's own one did.
fn generator<'a>(service: &'a Service, hostname: &str) -> Option<&'a Name> {
    let of_global = service.generators.iter().filter(|status| status.generator.owner == Owner::Global);
    let mut made = of_global.filter(|status| status.hostname.as_deref() == Some(hostname));
    made.next().map(|status| &status.generator.name)
}

/// Who has no name from a generator that matches, or a name and no address to lead to.
fn without(mesh: &MeshSnapshot) -> Vec<Value> {
    let mut shown = Vec::new();
    for service in mesh.services.values() {
        for status in &service.generators {
            let (reason, message) = match (&status.hostname, &service.vip) {
                (None, _) => (status.condition.reason.as_str(), status.condition.message.clone()),
                (Some(hostname), None) => ("NoAddress", format!("{hostname} has no virtual address to lead to")),
                (Some(_), Some(_)) => continue,
            };
            shown.push(json!({
                "service": service.key.name,
                "zone": service.zone,
                "generator": status.name,
                "reason": reason,
                "message": message,
            }));
        }
    }
    shown
}
