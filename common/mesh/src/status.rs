//! What readers of a resource are told of its state: computed, never stored.

use std::sync::Arc;

use atoll_model::{
    Kind, ResourceKey,
    condition::{Condition, ConditionStatus},
};
use serde_json::{Value, json};

use crate::{MeshSnapshot, snapshot::Service};

/// The `status` of a resource in a mesh, in Kuma's form; `None` when there is nothing to say.
pub fn status(snapshot: &MeshSnapshot, key: &ResourceKey) -> Option<Value> {
    let condition = snapshot.conditions.get(key).map(AsRef::as_ref);
    let mut status = match (key.kind, snapshot.services.get(key)) {
        (Kind::MeshService | Kind::MeshMultiZoneService, Some(service)) => of_service(snapshot, service),
        _ => json!({}),
    };
    let matched = snapshot.services.get(key).and_then(|service| matched(service));
    let conditions: Vec<_> = matched.iter().chain(condition).collect();
    if !conditions.is_empty() {
        status["conditions"] = json!(conditions);
    }
    (status != json!({})).then_some(status)
}

fn of_service(snapshot: &MeshSnapshot, service: &Service) -> Value {
    let vips: Vec<_> = service.vip.iter().map(|ip| json!({ "ip": ip })).collect();
    let mut addresses = Vec::new();
    let mut generators = Vec::new();
    for generator in &service.generators {
        let reference = json!({ "coreName": generator.name });
        if let Some(hostname) = &generator.hostname {
            addresses.push(json!({
                "hostname": hostname, "origin": "HostnameGenerator", "hostnameGeneratorRef": reference,
            }));
        }
        let conditions: [&Condition; 1] = [&generator.condition];
        generators.push(json!({ "hostnameGeneratorRef": reference, "conditions": conditions }));
    }
    let mut status = json!({ "vips": vips, "addresses": addresses, "hostnameGenerators": generators });
    if let Some(members) = &service.members {
        let mut members: Vec<_> = members.iter().filter_map(|key| snapshot.services.get(key)).collect();
        members.sort_by_key(|member| (&member.zone, &member.key.name));
        let member = |member: &Arc<Service>| {
            json!({
                "name": member.key.name, "namespace": "", "zone": member.zone, "mesh": member.key.mesh,
            })
        };
        status["meshServices"] = members.into_iter().map(member).collect();
    }
    if let Some(proxies) = service.proxies {
        status["tls"] = json!({ "status": if service.tls_ready { "Ready" } else { "NotReady" } });
        // A Dataplane is there as long as its instance is; one that lost its stream is taken away by the runners' side.
        status["dataplaneProxies"] = json!({ "connected": proxies.total, "healthy": proxies.healthy, "total": proxies.total });
    }
    status
}

/// Whether a service of several zones joins any.
fn matched(service: &Service) -> Option<Condition> {
    let count = service.members.as_ref()?.len();
    let (status, reason, message) = match count {
        0 => (ConditionStatus::False, "NoMatchesFound", "no MeshService has these labels".to_owned()),
        _ => (ConditionStatus::True, "MatchesFound", format!("MeshServices with these labels: {count}")),
    };
    Some(Condition { kind: "MeshServicesMatched".to_owned(), status, reason: reason.to_owned(), message })
}
