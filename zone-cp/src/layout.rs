//! What a proxy is given, as REST shows it: Kuma's fields, and whether each direction is open.

use atoll_api::plane::ProxyLayout;
use atoll_envoy::layout::{Access, Direction, Inbound, Layout, Port, layout};
use atoll_mesh::MeshSnapshot;
use atoll_model::ResourceKey;
use serde_json::{Value, json};

/// The layout of one proxy of a mesh.
pub fn answer(mesh: &MeshSnapshot, key: &ResourceKey) -> Option<ProxyLayout> {
    let proxy = mesh.dataplanes.get(&key.name).filter(|proxy| proxy.key == *key)?;
    let policies = mesh.policies.for_proxy(&proxy.labels, proxy.key.owner);
    let Layout { inbounds, outbounds, listeners, incoming, outgoing } = layout(mesh, proxy, &policies);
    let listeners = listeners.into_iter().map(|listener| {
        json!({
            "kri": listener.kri.to_string(), "type": listener.kind, "port": listener.port, "proxyResourceName": listener.name
        })
    });
    let mut shown = json!({
        "kri": proxy.kri.to_string(),
        "labels": proxy.labels,
        "inbounds": inbounds.iter().map(inbound).collect::<Vec<_>>(),
        "outbounds": outbounds.iter().map(|outbound| port(&outbound.port)).collect::<Vec<_>>(),
        "listeners": listeners.collect::<Vec<_>>(),
        "directions": {"inbound": direction(incoming), "outbound": direction(outgoing)},
    });
    if let Some(identity) = &proxy.identity {
        shown["spiffeId"] = json!(identity.spiffe_id.to_string());
    }
    Some(ProxyLayout { shown, services: outbounds.into_iter().map(|outbound| outbound.service).collect() })
}

fn port(port: &Port) -> Value {
    json!({
        "kri": port.kri.to_string(), "port": port.port, "protocol": port.protocol, "proxyResourceName": port.name
    })
}

fn inbound(inbound: &Inbound) -> Value {
    let mut shown = port(&inbound.port);
    shown["access"] = json!(word(inbound.access));
    shown
}

fn direction(direction: Direction) -> Value {
    json!({"access": word(direction.access), "why": direction.why})
}

fn word(access: Access) -> &'static str {
    match access {
        Access::Open => "open",
        Access::Closed => "closed",
    }
}
