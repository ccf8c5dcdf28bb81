//! The cluster of an inbound: its application.

use atoll_envoy_api::envoy::config::{
    cluster::v3::{Cluster, cluster},
    core::v3::{BindConfig, Http1ProtocolOptions, Http2ProtocolOptions, SocketAddress, socket_address::PortSpecifier},
    endpoint::v3::{ClusterLoadAssignment, LocalityLbEndpoints},
};
use atoll_envoy_api::envoy::extensions::upstreams::http::v3::http_protocol_options::explicit_http_config::ProtocolConfig;
use atoll_mesh::snapshot::Protocol;

use super::service::{HTTP_OPTIONS, options};
use crate::{
    address,
    encoded::{Encoded, ResourceType, pack},
    endpoints,
    policies::mesh_timeout::Effective,
};

/// Where an application listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Workload {
    /// IP address or host name.
    pub(crate) host: String,
    /// The port.
    pub(crate) port: u16,
    /// Whether the host redirects what arrives there to the proxy. What the proxy itself sends must then come from an address
    /// that redirection leaves alone.
    pub(crate) redirected: bool,
}

/// The address that redirection leaves alone (Kuma's).
const UNREDIRECTED: &str = "127.0.0.6";

/// The cluster `name` of an application.
pub(crate) fn cluster(name: &str, workload: &Workload, protocol: Protocol, timeouts: &Effective) -> Encoded {
    let discovery = match workload.host.parse::<std::net::IpAddr>() {
        Ok(_) => cluster::DiscoveryType::Static,
        Err(_) => cluster::DiscoveryType::StrictDns,
    };
    let host = endpoints::lb_endpoint(address::socket(&workload.host, workload.port));
    let mut cluster = Cluster {
        name: name.to_owned(),
        connect_timeout: Some(address::duration(timeouts.connect)),
        cluster_discovery_type: Some(cluster::ClusterDiscoveryType::Type(discovery as i32)),
        load_assignment: Some(ClusterLoadAssignment {
            cluster_name: name.to_owned(),
            endpoints: vec![LocalityLbEndpoints { lb_endpoints: vec![host], ..Default::default() }],
            ..Default::default()
        }),
        upstream_bind_config: workload.redirected.then(unredirected),
        ..Default::default()
    };
    let protocol = match protocol {
        Protocol::Tcp => None,
        Protocol::Http => Some(ProtocolConfig::HttpProtocolOptions(Http1ProtocolOptions::default())),
        Protocol::Http2 | Protocol::Grpc => Some(ProtocolConfig::Http2ProtocolOptions(Http2ProtocolOptions::default())),
    };
    if let Some(protocol) = protocol {
        cluster.typed_extension_protocol_options.insert(HTTP_OPTIONS.to_owned(), pack(&options(protocol, timeouts)));
    }
    Encoded::new(ResourceType::Cluster, name, &cluster)
}

pub(super) fn unredirected() -> BindConfig {
    let source = SocketAddress {
        address: UNREDIRECTED.to_owned(),
        port_specifier: Some(PortSpecifier::PortValue(0)),
        ..Default::default()
    };
    BindConfig { source_address: Some(source), ..Default::default() }
}
