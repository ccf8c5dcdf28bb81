//! What readers of a resource are told of its state: computed, never stored.

use atoll_model::{Kind, ResourceKey, condition::Condition};
use serde_json::{Value, json};

use crate::{MeshSnapshot, snapshot::Service};

/// The `status` of a resource in a mesh, in Kuma's form; `None` when there is nothing to say.
pub fn status(snapshot: &MeshSnapshot, key: &ResourceKey) -> Option<Value> {
    let condition = snapshot.conditions.get(key).map(AsRef::as_ref);
    let mut status = match (key.kind, snapshot.services.get(key)) {
        (Kind::MeshService, Some(service)) => of_service(service),
        _ => json!({}),
    };
    if let Some(condition) = condition {
        status["conditions"] = json!([condition]);
    }
    (status != json!({})).then_some(status)
}

fn of_service(service: &Service) -> Value {
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
    if let Some(proxies) = service.proxies {
        status["tls"] = json!({ "status": if service.tls_ready { "Ready" } else { "NotReady" } });
        // A Dataplane is there as long as its instance is; one that lost its stream is taken away by the runners' side.
        status["dataplaneProxies"] = json!({ "connected": proxies.total, "healthy": proxies.healthy, "total": proxies.total });
    }
    status
}
