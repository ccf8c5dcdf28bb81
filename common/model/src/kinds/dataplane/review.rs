//! What is wrong with a Dataplane, in Kuma's rules.

use std::net::{IpAddr, Ipv4Addr};

use serde_json::Value;

use super::{BackendRef, Dataplane, Gateway, Inbound, Listener, Networking, Outbound, ReachableBackends, ServiceProbe};
use crate::{
    Violation,
    document::{Checked, check_as},
    kinds::{is_address, is_unspecified, mesh_service::PROTOCOLS},
    names,
    violation::Path,
};

/// Kinds of services.
const SERVICES: [&str; 3] = ["MeshExternalService", "MeshMultiZoneService", "MeshService"];

/// Checks a spec.
pub fn check(spec: &Value) -> Checked {
    let (spec, untyped) = judgeable(spec);
    let mut checked = check_as::<Dataplane>(&spec, "", |dataplane, path| {
        let path = path.field("networking");
        match &dataplane.networking {
            None => vec![path.violation("must be defined")],
            Some(networking) => check_networking(networking, &path),
        }
    });
    checked.violations.extend(untyped);
    checked
}

/// Names the listeners without a type, and gives them one, so that the rest of the document is judged too. A tag without a
/// value has an empty one, as Kuma reads it, which is a fault of its own.
fn judgeable(spec: &Value) -> (Value, Vec<Violation>) {
    let mut spec = spec.clone();
    let tags = spec.pointer_mut("/networking/gateway/tags").and_then(Value::as_object_mut);
    for (_, value) in tags.into_iter().flatten().filter(|(_, value)| value.is_null()) {
        *value = "".into();
    }
    let mut faults = Vec::new();
    let listeners = spec.pointer_mut("/networking/listeners").and_then(Value::as_array_mut);
    for (i, listener) in listeners.into_iter().flatten().enumerate() {
        if let Value::Object(fields) = listener
            && fields.get("type").is_none_or(|kind| matches!(kind.as_str(), Some("" | "Unspecified")))
        {
            fields.insert("type".to_owned(), "ZoneIngress".into());
            let path = Path::root("networking").field("listeners").index(i).field("type");
            faults.push(path.violation("type must be ZoneIngress or ZoneEgress"));
        }
    }
    (spec, faults)
}

fn check_networking(networking: &Networking, path: &Path) -> Vec<Violation> {
    let mut faults = Vec::new();
    faults.extend(admin_faults(networking, &path.field("admin").field("port")));
    faults.extend(address_fault(&networking.address, &path.field("address")));
    for (i, inbound) in networking.inbound.iter().enumerate() {
        faults.extend(check_inbound(networking, inbound, &path.field("inbound").index(i)));
    }
    faults.extend(shared_inbounds(networking, &path.field("inbound")));
    for (i, outbound) in networking.outbound.iter().enumerate() {
        faults.extend(check_outbound(outbound, &path.field("outbound").index(i)));
    }
    if let Some(backends) = networking.transparent_proxying.as_ref().and_then(|proxying| proxying.reachable_backends.as_ref()) {
        faults.extend(check_reachable(backends, &path.field("transparentProxying").field("reachableBackends").field("refs")));
    }
    match &networking.gateway {
        Some(gateway) => faults.extend(check_gateway(networking, gateway, path)),
        None => faults.extend(check_listeners(networking, &path.field("listeners"))),
    }
    faults
}

/// Envoy's admin interface is on the loopback address.
fn admin_faults(networking: &Networking, path: &Path) -> Vec<Violation> {
    let Some(port) = networking.admin.as_ref().map(|admin| admin.port.unwrap_or(0)) else { return Vec::new() };
    let taken = |address: &str, used: u32| {
        used == port && address.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified() || ip == Ipv4Addr::LOCALHOST)
    };
    let inbound = networking.inbound.iter().any(|inbound| {
        let address = set(inbound.address.as_ref()).unwrap_or(&networking.address);
        let service = set(inbound.service_address.as_ref()).unwrap_or(address);
        taken(address, inbound.port) || taken(service, service_port(inbound))
    });
    let outbound = |one: &Outbound| taken(set(one.address.as_ref()).unwrap_or("127.0.0.1"), one.port);
    let mut faults = Vec::new();
    if inbound {
        faults.push(path.violation("must differ from inbound"));
    }
    if networking.outbound.iter().any(outbound) {
        faults.push(path.violation("must differ from outbound"));
    }
    faults
}

/// A text that says something.
fn set(text: Option<&String>) -> Option<&str> {
    text.map(String::as_str).filter(|text| !text.is_empty())
}

fn service_port(inbound: &Inbound) -> u32 {
    inbound.service_port.filter(|port| *port != 0).unwrap_or(inbound.port)
}

fn address_fault(address: &str, path: &Path) -> Option<Violation> {
    if address.is_empty() {
        Some(path.violation("address can't be empty"))
    } else if is_unspecified(address) {
        Some(path.violation("must not be 0.0.0.0 or ::"))
    } else if !is_address(address) {
        Some(path.violation("address has to be valid IP address or domain name"))
    } else {
        None
    }
}

fn port_fault(port: u32, path: &Path) -> Option<Violation> {
    (!(1..=65535).contains(&port)).then(|| path.violation("port must be in the range [1, 65535]"))
}

fn ip_fault(address: Option<&String>, path: &Path, what: &str) -> Option<Violation> {
    let wrong = set(address)?.parse::<IpAddr>().is_err();
    wrong.then(|| path.violation(format!("{what} has to be valid IP address")))
}

fn check_inbound(networking: &Networking, inbound: &Inbound, path: &Path) -> Vec<Violation> {
    let mut faults = Vec::new();
    faults.extend(port_fault(inbound.port, &path.field("port")));
    if let Some(port) = inbound.service_port.filter(|port| *port != 0) {
        faults.extend(port_fault(port, &path.field("servicePort")));
    }
    faults.extend(ip_fault(inbound.address.as_ref(), &path.field("address"), "address"));
    let service_path = path.field("serviceAddress");
    faults.extend(ip_fault(inbound.service_address.as_ref(), &service_path, "serviceAddress"));
    if let Some(service) = set(inbound.service_address.as_ref()) {
        let same = service == networking.address || set(inbound.address.as_ref()) == Some(service);
        if same && service_port(inbound) == inbound.port {
            faults.push(service_path.violation("serviceAddress and servicePort has to differ from address and port"));
        }
    }
    if let Some(protocol) = set(inbound.protocol.as_ref())
        && !is_known_protocol(protocol)
    {
        let message = format!("has an invalid value {protocol:?}. Allowed values: grpc, http, http2, tcp");
        faults.push(path.field("protocol").violation(message));
    }
    if let Some(probe) = &inbound.service_probe {
        faults.extend(check_probe(probe, &path.field("serviceProbe")));
    }
    faults
}

/// Kuma knows two more protocols than it names; both are served as TCP.
fn is_known_protocol(text: &str) -> bool {
    PROTOCOLS.into_iter().chain(["tls", "mysql"]).any(|known| known.eq_ignore_ascii_case(text))
}

fn check_probe(probe: &ServiceProbe, path: &Path) -> Vec<Violation> {
    let durations = [("interval", probe.interval), ("timeout", probe.timeout)];
    let thresholds = [("unhealthyThreshold", probe.unhealthy_threshold), ("healthyThreshold", probe.healthy_threshold)];
    let late = durations.into_iter().filter(|(_, value)| value.is_some_and(|value| value.0 <= 0)).map(|(name, _)| name);
    let none = thresholds.into_iter().filter(|(_, value)| *value == Some(0)).map(|(name, _)| name);
    late.chain(none).map(|name| path.field(name).violation("must have a positive value")).collect()
}

/// Two listeners of Envoy cannot share an address.
fn shared_inbounds(networking: &Networking, path: &Path) -> Vec<Violation> {
    let sockets: Vec<_> = networking.inbound.iter().map(|inbound| socket(networking, inbound)).collect();
    let shared = (0..sockets.len()).filter(|i| sockets[..*i].contains(&sockets[*i]));
    shared.map(|i| path.index(i).field("port").violation("address and port must be unique")).collect()
}

/// Where an inbound listens.
fn socket<'a>(networking: &'a Networking, inbound: &'a Inbound) -> (&'a str, u32) {
    (set(inbound.address.as_ref()).unwrap_or(&networking.address), inbound.port)
}

fn check_outbound(outbound: &Outbound, path: &Path) -> Vec<Violation> {
    let mut faults = Vec::new();
    faults.extend(port_fault(outbound.port, &path.field("port")));
    faults.extend(ip_fault(outbound.address.as_ref(), &path.field("address"), "address"));
    let path = path.field("backendRef");
    let Some(backend) = &outbound.backend_ref else {
        faults.push(path.violation("must be defined"));
        return faults;
    };
    faults.extend(kind_fault(backend, &path));
    if set(backend.name.as_ref()).is_none() && backend.labels.is_empty() {
        faults.push(path.violation("either 'name' or 'labels' should be specified"));
    }
    if backend.kind != "MeshExternalService" {
        faults.extend(port_fault(backend.port.unwrap_or(0), &path.field("port")));
    }
    faults
}

fn kind_fault(backend: &BackendRef, path: &Path) -> Option<Violation> {
    let message = || format!("invalid value. Available values are: {}", SERVICES.join(","));
    (!SERVICES.contains(&backend.kind.as_str())).then(|| path.field("kind").violation(message()))
}

fn check_reachable(backends: &ReachableBackends, path: &Path) -> Vec<Violation> {
    let mut faults = Vec::new();
    for (i, backend) in backends.refs.iter().enumerate() {
        let path = path.index(i);
        let (name, namespace) = (set(backend.name.as_ref()), set(backend.namespace.as_ref()));
        faults.extend(kind_fault(backend, &path));
        let name_fault = match (name, namespace) {
            (Some(name), _) => names::name_fault(name, false),
            (None, Some(_)) => Some("name is required, when namespace is defined".to_owned()),
            (None, None) if backend.labels.is_empty() => Some("name or labels are required".to_owned()),
            (None, None) => None,
        };
        faults.extend(name_fault.map(|fault| path.field("name").violation(fault)));
        if (name.is_some() || namespace.is_some()) && !backend.labels.is_empty() {
            faults.push(path.field("labels").violation("labels cannot be defined when name is specified"));
        }
    }
    faults
}

fn check_listeners(networking: &Networking, path: &Path) -> Vec<Violation> {
    let mut faults = Vec::new();
    for (i, listener) in networking.listeners.iter().enumerate() {
        let path = path.index(i);
        faults.extend(address_fault(&listener.address, &path.field("address")));
        faults.extend(port_fault(listener.port, &path.field("port")));
        let earlier = &networking.listeners[..i];
        if let Some(name) = set(listener.name.as_ref()) {
            let inbound = networking.inbound.iter().any(|inbound| inbound.section() == name);
            if inbound || earlier.iter().any(|other| other.name.as_deref() == Some(name)) {
                let message = format!("name {name:?} must be unique across inbounds and listeners");
                faults.push(path.field("name").violation(message));
            }
        }
        faults.extend(shared_listener(networking, listener, earlier, &path));
    }
    faults
}

fn shared_listener(networking: &Networking, listener: &Listener, earlier: &[Listener], path: &Path) -> Vec<Violation> {
    let here = (listener.address.as_str(), listener.port);
    let shown = format!("address:port {}:{}", here.0, here.1);
    let same = earlier.iter().find(|other| (other.address.as_str(), other.port) == here);
    let mut faults = Vec::new();
    if let Some(other) = same {
        faults.push(path.violation(if other.kind == listener.kind {
            format!("{shown} is already used by another listener")
        } else {
            format!("{shown} is used by listeners of different types")
        }));
    }
    if networking.inbound.iter().any(|inbound| socket(networking, inbound) == here) {
        faults.push(path.violation(format!("{shown} collides with an inbound listener")));
    }
    faults
}

fn check_gateway(networking: &Networking, gateway: &Gateway, path: &Path) -> Vec<Violation> {
    let mut faults = Vec::new();
    if !networking.inbound.is_empty() {
        faults.push(path.field("inbound").violation("inbound cannot be defined for delegated gateways"));
    }
    if !networking.listeners.is_empty() {
        faults.push(path.field("listeners").violation("listeners cannot be defined for delegated gateways"));
    }
    if gateway.kind.as_deref().is_some_and(|kind| kind != "DELEGATED") {
        faults.push(path.field("gateway").field("type").violation("must be DELEGATED"));
    }
    faults.extend(check_tags(gateway, &path.field("gateway").field("tags")));
    faults
}

fn check_tags(gateway: &Gateway, path: &Path) -> Vec<Violation> {
    let mut faults = Vec::new();
    let text = |text: &str, more: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || ".-_:".contains(c) || more.contains(c));
    for (key, value) in &gateway.tags {
        if key.is_empty() {
            faults.push(path.violation("tag name must be non-empty"));
        }
        let path = path.key(key);
        if key == "kuma.io/protocol" && !value.eq_ignore_ascii_case("tcp") {
            faults.push(path.violation(format!("other values than tcp are not allowed, provided value {value:?}")));
        }
        if !text(key, "/") {
            faults
                .push(path.violation("tag name must consist of alphanumeric characters, dots, dashes, slashes and underscores"));
        }
        if value.is_empty() {
            faults.push(path.violation("tag value must be non-empty"));
        }
        if !text(value, "") {
            faults.push(path.violation("tag value must consist of alphanumeric characters, dots, dashes and underscores"));
        }
    }
    if !gateway.tags.is_empty() && !gateway.tags.contains_key("kuma.io/service") {
        faults.push(path.violation("mandatory tag \"kuma.io/service\" is missing"));
    }
    faults
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(networking: Value) -> Vec<String> {
        check(&json!({ "networking": networking })).violations.into_iter().map(|fault| fault.field).collect()
    }

    #[test]
    fn a_gateway_with_its_sidecar_is_valid() {
        let inbound = json!({"port": 8443, "serviceAddress": "127.20.0.2", "servicePort": 8443, "protocol": "tcp"});
        assert_eq!(fields(json!({"address": "127.21.0.1", "inbound": [inbound]})), Vec::<String>::new());
    }

    #[test]
    fn faults_are_named_by_their_path() {
        assert_eq!(
            fields(json!({"address": "0.0.0.0", "inbound": [{"port": 0}, {"port": 80, "protocol": "x"}]})),
            ["networking.address", "networking.inbound[0].port", "networking.inbound[1].protocol"]
        );
        let ingress = json!({"type": "ZoneIngress", "address": "1.1.1.1", "port": 80});
        assert_eq!(
            fields(json!({"address": "1.1.1.1", "inbound": [{"port": 80}], "listeners": [ingress, {}]})),
            [
                "networking.listeners[0]",
                "networking.listeners[1].address",
                "networking.listeners[1].port",
                "networking.listeners[1].type"
            ]
        );
        let tags = json!({"kuma.io/service": "web", "version": null, "kuma.io/protocol": "http"});
        assert_eq!(
            fields(json!({"address": "1.1.1.1", "gateway": {"tags": tags}, "admin": {"port": 0}})),
            [r#"networking.gateway.tags["kuma.io/protocol"]"#, r#"networking.gateway.tags["version"]"#]
        );
    }
}
