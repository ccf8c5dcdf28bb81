//! Dataplane: one proxy instance.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{is_address, mesh_service::PROTOCOLS};
use crate::{
    Labels, Violation,
    document::{Checked, check_as},
    duration::GoDuration,
    violation::Path,
};

/// The spec of a Dataplane.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Dataplane {
    /// Where it is and what it serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub networking: Option<Networking>,
}

/// Where a proxy is and what it serves.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Networking {
    /// IP address or host name of the instance.
    #[serde(default)]
    pub address: String,
    /// What it serves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inbound: Vec<Inbound>,
    /// Local ports that lead to services.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outbound: Vec<Outbound>,
    /// A delegated gateway: inbound traffic is not intercepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<Gateway>,
    /// Redirection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transparent_proxying: Option<TransparentProxying>,
    /// Envoy's admin interface.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin: Option<Admin>,
    /// Zone proxy listeners.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub listeners: Vec<Listener>,
}

/// A port that the instance serves.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Inbound {
    /// Where the proxy listens.
    #[serde(default)]
    pub port: u32,
    /// Its name; the port, unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// tcp, http, http2 or grpc.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// Where the proxy listens; the instance's address, unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Where the application listens; `port`, unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_port: Option<u32>,
    /// Where the application listens; `address`, unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_address: Option<String>,
    /// Whether it takes traffic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<InboundState>,
    /// Legacy health.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// How the application is probed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_probe: Option<ServiceProbe>,
}

impl Inbound {
    /// Its name, or its port as text.
    pub fn section(&self) -> String {
        self.name.clone().filter(|name| !name.is_empty()).unwrap_or_else(|| self.port.to_string())
    }

    /// Whether it takes traffic now.
    pub fn is_ready(&self) -> bool {
        self.state.unwrap_or_default() == InboundState::Ready && self.health.as_ref().is_none_or(|health| health.ready)
    }

    /// Its protocol, `tcp` unless it is one of the others.
    pub fn protocol(&self) -> &str {
        self.protocol.as_deref().filter(|protocol| PROTOCOLS.contains(protocol)).unwrap_or("tcp")
    }
}

/// Whether an inbound takes traffic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum InboundState {
    /// It does.
    #[default]
    Ready,
    /// Not now.
    NotReady,
    /// Never: no listener is made.
    Ignored,
}

/// Legacy health.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Health {
    /// Whether it takes traffic.
    #[serde(default)]
    pub ready: bool,
}

/// How the application is probed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceProbe {
    /// Between two probes; 1 s, unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<GoDuration>,
    /// Of one probe; 2 s, unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<GoDuration>,
    /// Failures until it is not ready; 1, unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unhealthy_threshold: Option<u32>,
    /// Successes until it is ready; 1, unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthy_threshold: Option<u32>,
    /// By opening a TCP connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<TcpProbe>,
}

/// A probe that opens a TCP connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TcpProbe {}

/// A local port that leads to a service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Outbound {
    /// Where the proxy listens; 127.0.0.1, unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Where the proxy listens.
    #[serde(default)]
    pub port: u32,
    /// The service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend_ref: Option<BackendRef>,
}

/// A service, by name or labels.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BackendRef {
    /// MeshService, MeshExternalService or MeshMultiZoneService.
    #[serde(default)]
    pub kind: String,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its namespace (Kubernetes).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Its port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u32>,
    /// Its labels.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
}

/// A delegated gateway.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Gateway {
    /// `DELEGATED`.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Kuma's tags.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub tags: Labels,
}

/// Redirection of a host's traffic.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TransparentProxying {
    /// Kuma's 15006.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redirect_port_inbound: Option<u32>,
    /// Kuma's 15001.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redirect_port_outbound: Option<u32>,
    /// Services that are called by instance.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub direct_access_services: Vec<String>,
    /// UnSpecified, DualStack, IPv4 or IPv6.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_family_mode: Option<String>,
    /// The only services that the proxy is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reachable_backends: Option<ReachableBackends>,
}

/// The only services that a proxy is given.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ReachableBackends {
    /// The services.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refs: Vec<BackendRef>,
}

/// Envoy's admin interface.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Admin {
    /// Its port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u32>,
}

/// A zone proxy listener.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Listener {
    /// Ingress or egress.
    #[serde(rename = "type")]
    pub kind: ListenerKind,
    /// Where it listens.
    #[serde(default)]
    pub address: String,
    /// Where it listens.
    #[serde(default)]
    pub port: u32,
    /// Its name; the port, unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Whether it takes traffic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<InboundState>,
}

impl Listener {
    /// Its name, or its port as text.
    pub fn section(&self) -> String {
        self.name.clone().filter(|name| !name.is_empty()).unwrap_or_else(|| self.port.to_string())
    }

    /// Whether it takes traffic now.
    pub fn is_ready(&self) -> bool {
        self.state.unwrap_or_default() == InboundState::Ready
    }
}

/// The kinds of zone proxy listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ListenerKind {
    /// Takes traffic of other zones.
    ZoneIngress,
    /// Takes traffic to external services.
    ZoneEgress,
}

/// Checks a spec.
pub fn check(spec: &Value) -> Checked {
    check_as::<Dataplane>(spec, "", |dataplane, path| {
        let path = path.field("networking");
        match &dataplane.networking {
            None => vec![path.violation("must be defined")],
            Some(networking) => check_networking(networking, &path),
        }
    })
}

fn check_networking(networking: &Networking, path: &Path) -> Vec<Violation> {
    let mut faults = Vec::new();
    faults.extend(address_fault(&networking.address, &path.field("address")));
    for (i, inbound) in networking.inbound.iter().enumerate() {
        faults.extend(check_inbound(networking, inbound, &path.field("inbound").index(i)));
    }
    for (i, outbound) in networking.outbound.iter().enumerate() {
        faults.extend(check_outbound(outbound, &path.field("outbound").index(i)));
    }
    faults.extend(check_listeners(networking, path));
    if let Some(gateway) = &networking.gateway {
        faults.extend(check_gateway(networking, gateway, path));
    }
    if let Some(port) = networking.admin.as_ref().and_then(|admin| admin.port) {
        let ports = networking.inbound.iter().map(|inbound| inbound.port);
        if ports.chain(networking.outbound.iter().map(|outbound| outbound.port)).any(|used| used == port) {
            faults.push(path.field("admin").field("port").violation("must differ from inbound/outbound"));
        }
    }
    faults
}

fn address_fault(address: &str, path: &Path) -> Option<Violation> {
    if address.is_empty() {
        Some(path.violation("address can't be empty"))
    } else if address.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_unspecified()) {
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
    let address = address?;
    address.parse::<std::net::IpAddr>().is_err().then(|| path.violation(format!("{what} has to be valid IP address")))
}

fn check_inbound(networking: &Networking, inbound: &Inbound, path: &Path) -> Vec<Violation> {
    let mut faults = Vec::new();
    faults.extend(port_fault(inbound.port, &path.field("port")));
    if let Some(port) = inbound.service_port.filter(|port| *port != 0) {
        faults.extend(port_fault(port, &path.field("servicePort")));
    }
    faults.extend(ip_fault(inbound.address.as_ref(), &path.field("address"), "address"));
    faults.extend(ip_fault(inbound.service_address.as_ref(), &path.field("serviceAddress"), "serviceAddress"));
    let address = inbound.address.as_ref().unwrap_or(&networking.address);
    if inbound.service_address.as_ref() == Some(address) && inbound.service_port.unwrap_or(inbound.port) == inbound.port {
        faults.push(path.field("serviceAddress").violation("serviceAddress and servicePort has to differ from address and port"));
    }
    if let Some(protocol) = &inbound.protocol
        && !PROTOCOLS.contains(&protocol.as_str())
    {
        let message = format!("has an invalid value {protocol:?}. Allowed values: {}", PROTOCOLS.join(", "));
        faults.push(path.field("protocol").violation(message));
    }
    if let Some(probe) = &inbound.service_probe {
        faults.extend(check_probe(probe, &path.field("serviceProbe")));
    }
    faults
}

fn check_probe(probe: &ServiceProbe, path: &Path) -> Vec<Violation> {
    let durations = [("interval", probe.interval), ("timeout", probe.timeout)];
    let thresholds = [("unhealthyThreshold", probe.unhealthy_threshold), ("healthyThreshold", probe.healthy_threshold)];
    let late = durations.into_iter().filter(|(_, value)| value.is_some_and(|value| value.0 <= 0)).map(|(name, _)| name);
    let none = thresholds.into_iter().filter(|(_, value)| *value == Some(0)).map(|(name, _)| name);
    late.chain(none).map(|name| path.field(name).violation("must have a positive value")).collect()
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
    if !["MeshExternalService", "MeshMultiZoneService", "MeshService"].contains(&backend.kind.as_str()) {
        let message = "invalid value. Available values are: MeshExternalService,MeshMultiZoneService,MeshService";
        faults.push(path.field("kind").violation(message));
    }
    if backend.name.is_some() != backend.labels.is_empty() {
        faults.push(path.violation("either 'name' or 'labels' should be specified"));
    }
    if backend.kind != "MeshExternalService" {
        faults.extend(port_fault(backend.port.unwrap_or(0), &path.field("port")));
    }
    faults
}

fn check_listeners(networking: &Networking, path: &Path) -> Vec<Violation> {
    let mut faults = Vec::new();
    let inbounds: Vec<_> = networking.inbound.iter().map(|inbound| (inbound.section(), socket(networking, inbound))).collect();
    for (i, inbound) in inbounds.iter().enumerate() {
        if inbounds[..i].iter().any(|other| other.1 == inbound.1) {
            faults.push(path.field("inbound").index(i).field("port").violation("address and port must be unique"));
        }
    }
    for (i, listener) in networking.listeners.iter().enumerate() {
        let path = path.field("listeners").index(i);
        faults.extend(address_fault(&listener.address, &path.field("address")));
        faults.extend(port_fault(listener.port, &path.field("port")));
        let earlier = networking.listeners[..i].iter().map(|other| (other.section(), (other.address.clone(), other.port)));
        let others: Vec<_> = earlier.chain(inbounds.iter().cloned()).collect();
        if others.iter().any(|(section, _)| *section == listener.section()) {
            faults.push(path.field("name").violation("name must be unique across inbounds and listeners"));
        }
        if others.iter().any(|(_, socket)| *socket == (listener.address.clone(), listener.port)) {
            faults.push(path.field("port").violation("address and port must be unique across inbounds and listeners"));
        }
    }
    faults
}

/// Where an inbound listens.
fn socket(networking: &Networking, inbound: &Inbound) -> (String, u32) {
    (inbound.address.clone().unwrap_or_else(|| networking.address.clone()), inbound.port)
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
            fields(json!({"address": "1.1.1.1", "inbound": [{"port": 80}], "listeners": [ingress]})),
            ["networking.listeners[0].name", "networking.listeners[0].port"]
        );
    }
}
