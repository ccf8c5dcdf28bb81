//! Dataplane: one proxy instance.

mod review;

use serde::{Deserialize, Serialize};

use super::mesh_service::PROTOCOLS;
use crate::{Labels, duration::GoDuration};

pub use review::check;

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
        let named = self.protocol.as_deref().unwrap_or_default();
        PROTOCOLS.into_iter().find(|protocol| protocol.eq_ignore_ascii_case(named)).unwrap_or("tcp")
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
