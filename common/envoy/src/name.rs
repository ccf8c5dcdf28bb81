//! Names of resources. Kuma's, where Kuma has them, so that people and tools find what they know.

use atoll_mesh::snapshot::{Service, ServicePort};

/// The SDS name of the trust bundles.
pub const TRUST_BUNDLE: &str = "system_trust_bundle";

/// Cluster, endpoints and outbound listener of a service's port: its KRI.
pub fn service_port(service: &Service, port: &ServicePort) -> String {
    service.kri.with_section(&port.section).to_string()
}

/// Listener and cluster of an inbound.
pub fn inbound(section: &str) -> String {
    format!("self_inbound_dp_{section}")
}

/// Listener of a zone ingress.
pub fn zone_ingress(section: &str) -> String {
    format!("self_zoneingress_dp_{section}")
}

/// Listener and cluster of redirected traffic that comes in.
pub const PASSTHROUGH_INBOUND: &str = "self_transparentproxy_passthrough_inbound_ipv4";
/// Listener and cluster of redirected traffic that goes out.
pub const PASSTHROUGH_OUTBOUND: &str = "self_transparentproxy_passthrough_outbound_ipv4";

/// An inbound's filter that judges connections.
pub fn rbac(inbound: &str) -> String {
    format!("{inbound}/rbac")
}

/// An inbound's filter that judges requests.
pub fn http_rbac(inbound: &str) -> String {
    format!("{inbound}/http-rbac")
}

/// The filter that forwards bytes of an inbound, an outbound listener, or a chain of an ingress.
pub fn tcp(name: &str) -> String {
    format!("{name}/tcp")
}

/// An inbound's filter chain that ends the mesh's TLS. Another epoch is another chain.
pub fn mtls_chain(inbound: &str, epoch: u64) -> String {
    format!("{inbound}#{epoch}")
}
