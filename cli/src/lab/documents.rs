//! Documents that the lab writes itself, because they hold its addresses.

use serde_json::{Value, json};

use super::layout::{AddedAddresses, GATEWAY_PORT, INGRESS_PORT, MESH, ZoneAddresses};

/// The workload of a zone's gateway.
pub const GATEWAY: &str = "api-gateway";
/// The workload of the client with a sidecar of its own.
pub const CLIENT: &str = "client";
/// The workload of a zone ingress.
pub const INGRESS: &str = "zone-ingress";

/// The gateway's sidecar: takes traffic where clients go, hands it to the gateway.
pub fn sidecar(zone: ZoneAddresses) -> Value {
    let inbound = inbound(zone.sidecar(), zone.gateway());
    dataplane(GATEWAY, "gateway", json!({"address": zone.sidecar(), "inbound": [inbound]}))
}

/// The sidecar of a gateway that was added.
pub fn added_sidecar(name: &str, addresses: AddedAddresses) -> Value {
    let inbound = inbound(addresses.sidecar(), addresses.gateway());
    dataplane(name, "gateway", json!({"address": addresses.sidecar(), "inbound": [inbound]}))
}

/// The zone ingress.
pub fn ingress(zone: ZoneAddresses) -> Value {
    let listener = json!({"type": "ZoneIngress", "address": zone.ingress(), "port": INGRESS_PORT});
    dataplane(INGRESS, "ingress", json!({"address": zone.ingress(), "listeners": [listener]}))
}

/// A workload that calls and serves nothing.
pub fn client(zone: ZoneAddresses) -> Value {
    dataplane(CLIENT, "client", json!({"address": zone.client()}))
}

fn inbound(sidecar: std::net::IpAddr, gateway: std::net::IpAddr) -> Value {
    json!({"address": sidecar, "port": GATEWAY_PORT, "serviceAddress": gateway, "servicePort": GATEWAY_PORT, "protocol": "tcp"})
}

fn dataplane(workload: &str, role: &str, networking: Value) -> Value {
    json!({
        "type": "Dataplane", "mesh": MESH, "name": workload,
        "labels": {"kuma.io/workload": workload, "acme.corp/role": role},
        "networking": networking,
    })
}

/// Allows every proxy of a zone to call.
pub fn permission(zone: &str) -> Value {
    permission_of(zone, "allow")
}

/// The same permission, taken away: what it names is refused, whatever else allows it.
pub fn refusal(zone: &str) -> Value {
    permission_of(zone, "deny")
}

fn permission_of(zone: &str, list: &str) -> Value {
    let callers = json!([{"spiffeID": {"type": "Prefix", "value": format!("spiffe://{}/", trust_domain(zone))}}]);
    json!({
        "type": "MeshTrafficPermission", "mesh": MESH, "name": permission_name(zone),
        "spec": {"rules": [{"default": {list: callers}}]},
    })
}

/// The name of a zone's permission.
pub fn permission_name(zone: &str) -> String {
    format!("allow-{zone}")
}

/// REST path of a zone's permission.
pub fn permission_path(zone: &str) -> String {
    format!("/meshes/{MESH}/meshtrafficpermissions/{}", permission_name(zone))
}

/// The trust domain of a zone's workloads.
pub fn trust_domain(zone: &str) -> String {
    format!("{MESH}.{zone}.mesh.local")
}

/// The server name of a gateway's port on its way through an ingress.
pub fn gateway_sni(zone: &str) -> String {
    format!("sni.msvc.{MESH}.{zone}.{GATEWAY}.{GATEWAY_PORT}")
}

#[cfg(test)]
mod tests {
    use atoll_model::Kind;

    use super::*;
    use crate::lab::layout::Layout;

    fn check(kind: Kind, document: &Value) {
        let spec = document.get("spec").unwrap_or(document);
        let checked = (kind.descriptor().check)(spec);
        assert!(checked.violations.is_empty(), "{document}: {checked:?}");
    }

    #[test]
    fn every_document_is_valid() {
        let layout = Layout { home: "/nowhere".into(), offset: 0 };
        let zone = layout.zone(0).unwrap();
        for document in [sidecar(zone), ingress(zone), client(zone), added_sidecar("shop", zone.added(3).unwrap())] {
            check(Kind::Dataplane, &document);
        }
        check(Kind::MeshTrafficPermission, &permission("aws"));
        check(Kind::MeshTrafficPermission, &refusal("aws"));
    }

    /// All documents of `deploy/lab`.
    fn applied() -> Vec<Value> {
        let folder = crate::lab::layout::project().unwrap().join("deploy/lab");
        let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        let texts = files.iter().map(|file| std::fs::read_to_string(file).unwrap());
        texts.flat_map(|text| serde_saphyr::from_multiple::<Value>(&text).unwrap()).collect()
    }

    #[test]
    fn what_the_lab_applies_is_valid_and_fits_what_it_writes_itself() {
        let applied = applied();
        for document in &applied {
            check(document["type"].as_str().unwrap().parse().unwrap(), document);
        }
        for zone in ["azure", "gcp"] {
            assert!(applied.contains(&permission(zone)), "no {} in deploy/lab", permission_name(zone));
        }
        let role = &applied.iter().find(|document| document["type"] == "MeshTLS").unwrap()["spec"]["targetRef"]["labels"];
        let zone = Layout { home: "/nowhere".into(), offset: 0 }.zone(0).unwrap();
        assert_eq!(role["acme.corp/role"], sidecar(zone)["labels"]["acme.corp/role"]);
    }

    #[test]
    fn the_server_name_is_the_meshs() {
        let kri = atoll_model::sni::decode(&gateway_sni("gcp")).unwrap();
        assert_eq!((kri.zone.as_str(), kri.name.as_str(), kri.section.as_str()), ("gcp", "api-gateway", "8443"));
    }
}
