//! Documents as people write them, one of each kind that they write first.

use atoll_model::{Kind, Scope};
use serde_json::{Value, json};

/// A document of a kind, as its author writes it.
pub(super) fn written(kind: Kind) -> Option<Value> {
    let (name, rest) = match kind {
        Kind::Mesh => ("default", json!({})),
        Kind::Zone => ("eu-1", json!({"enabled": true})),
        Kind::MeshTimeout => (
            "all",
            json!({"spec": {
                "targetRef": {"kind": "Mesh"},
                "to": [{"targetRef": {"kind": "Mesh"}, "default": {"connectionTimeout": "5s", "idleTimeout": "1h"}}],
            }}),
        ),
        Kind::MeshTls => ("strict", json!({"spec": {"rules": [{"default": {"mode": "Strict"}}]}})),
        Kind::MeshLoadBalancingStrategy => (
            "session",
            json!({"spec": {"to": [{"targetRef": {"kind": "MeshService", "labels": {"kuma.io/display-name": "api"}}, "default": {
                "loadBalancer": {"type": "RingHash"},
                "hashPolicies": [{"type": "Header", "header": {"name": "x-session"}}],
            }}]}}),
        ),
        Kind::MeshPassthrough => (
            "database-and-mail",
            json!({"spec": {"default": {"passthroughMode": "Matched", "appendMatch": [
                {"type": "Domain", "value": "*.example.com", "port": 443, "protocol": "tls"},
                {"type": "CIDR", "value": "10.20.0.0/16", "port": 5432, "protocol": "tcp"},
            ]}}}),
        ),
        Kind::MeshTrafficPermission => (
            "web-may-call",
            json!({"spec": {"rules": [{"default": {"allow": [
                {"spiffeID": {"type": "Prefix", "value": "spiffe://default.eu-1.mesh.local/ns/web/"}},
            ]}}]}}),
        ),
        Kind::HostnameGenerator => (
            "corp",
            json!({"spec": {
                "selector": {"meshService": {"matchLabels": {"kuma.io/env": "universal"}}},
                "template": "{{ .DisplayName }}.{{ .Zone }}.corp.example",
            }}),
        ),
        Kind::MeshService => (
            "api",
            json!({"spec": {
                "selector": {"dataplaneLabels": {"matchLabels": {"app": "api"}}},
                "ports": [{"port": 8443, "targetPort": 8443, "appProtocol": "tcp"}],
            }}),
        ),
        Kind::MeshZoneAddress => ("ingress", json!({"spec": {"address": "203.0.113.7", "port": 10001}})),
        Kind::MeshExternalService => (
            "database",
            json!({"spec": {
                "match": {"type": "HostnameGenerator", "port": 5432, "protocol": "tcp"},
                "endpoints": [{"address": "db.example.com", "port": 5432}],
            }}),
        ),
        Kind::MeshMultiZoneService => (
            "api",
            json!({"spec": {
                "selector": {"meshService": {"matchLabels": {"kuma.io/display-name": "api"}}},
                "ports": [{"port": 8443, "appProtocol": "tcp"}],
            }}),
        ),
        Kind::Secret | Kind::GlobalSecret => ("db-password", json!({"data": "aHVudGVyMg=="})),
        _ => return None,
    };
    let mut document = json!({"type": kind.name(), "name": name});
    if kind.descriptor().scope == Scope::Mesh {
        document["mesh"] = json!("default");
    }
    for (field, value) in rest.as_object()? {
        document[field] = value.clone();
    }
    Some(document)
}

/// The same as it is shown.
pub(super) fn shown(kind: Kind) -> Option<Value> {
    let mut document = written(kind)?;
    let (name, mesh) = (document["name"].as_str()?.to_owned(), document["mesh"].as_str().unwrap_or_default().to_owned());
    document["creationTime"] = json!("2026-01-02T03:04:05Z");
    document["modificationTime"] = json!("2026-01-02T03:04:05Z");
    document["kri"] = json!(format!("kri_{}_{mesh}___{name}_", kind.descriptor().short));
    document["labels"] = json!({"kuma.io/display-name": name, "kuma.io/origin": "global"});
    Some(document)
}

#[cfg(test)]
mod tests {
    use atoll_model::document::Document;

    use super::*;

    #[test]
    fn every_example_is_valid() {
        for kind in Kind::ALL {
            let Some(example) = written(*kind) else { continue };
            let document = Document::from_value(example, Some(*kind)).unwrap();
            let checked = (kind.descriptor().check)(&document.spec);
            assert_eq!((checked.violations, checked.unknown), (vec![], vec![]), "{kind}");
        }
    }
}
