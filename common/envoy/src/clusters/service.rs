//! The cluster of a service's port: to its proxies, or to the ingresses of its zone.

use atoll_envoy_api::envoy::config::core::v3 as core;
use atoll_envoy_api::envoy::{
    config::{
        cluster::v3::{Cluster, UpstreamConnectionOptions, cluster},
        core::v3::{Http2ProtocolOptions, TransportSocket},
    },
    extensions::upstreams::http::v3::{
        HttpProtocolOptions,
        http_protocol_options::{ExplicitHttpConfig, UpstreamProtocolOptions, explicit_http_config::ProtocolConfig},
    },
};
use atoll_mesh::snapshot::Protocol;
use atoll_model::policies::mesh_load_balancing_strategy::Strategy;

use crate::{
    address,
    encoded::{Encoded, ResourceType, pack},
    policies::{mesh_load_balancing_strategy, mesh_timeout::Effective},
    source,
};

/// The cluster `name` with discovered endpoints, spoken to in TLS if there is a `socket`.
pub(crate) fn cluster(
    name: &str,
    protocol: Protocol,
    timeouts: &Effective,
    strategy: &Strategy,
    socket: Option<TransportSocket>,
) -> Encoded {
    let mut cluster = bare(name, timeouts);
    mesh_load_balancing_strategy::balance(strategy, &mut cluster);
    cluster.transport_socket = socket;
    if let Some(options) = http_options(protocol, timeouts) {
        cluster.typed_extension_protocol_options.insert(HTTP_OPTIONS.to_owned(), pack(&options));
    }
    Encoded::new(ResourceType::Cluster, name, &cluster)
}

/// The cluster of an ingress, which passes TLS through.
pub(crate) fn passthrough(name: &str, timeouts: &Effective) -> Encoded {
    Encoded::new(ResourceType::Cluster, name, &bare(name, timeouts))
}

pub(super) const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

fn bare(name: &str, timeouts: &Effective) -> Cluster {
    Cluster {
        name: name.to_owned(),
        connect_timeout: Some(address::duration(timeouts.connect)),
        cluster_discovery_type: Some(cluster::ClusterDiscoveryType::Type(cluster::DiscoveryType::Eds as i32)),
        eds_cluster_config: Some(cluster::EdsClusterConfig { eds_config: Some(source::ads()), ..Default::default() }),
        upstream_connection_options: Some(UpstreamConnectionOptions {
            tcp_keepalive: Some(address::keepalive()),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// Between proxies HTTP travels as HTTP/2, whatever the application speaks; the other side detects it.
fn http_options(protocol: Protocol, timeouts: &Effective) -> Option<HttpProtocolOptions> {
    match protocol {
        Protocol::Tcp => None,
        Protocol::Http | Protocol::Http2 | Protocol::Grpc => {
            Some(options(ProtocolConfig::Http2ProtocolOptions(Http2ProtocolOptions::default()), timeouts))
        }
    }
}

pub(super) fn options(protocol: ProtocolConfig, timeouts: &Effective) -> HttpProtocolOptions {
    let limits = core::HttpProtocolOptions {
        idle_timeout: Some(address::duration(timeouts.idle)),
        max_connection_duration: (timeouts.max_connection.0 > 0).then(|| address::duration(timeouts.max_connection)),
        max_stream_duration: (timeouts.max_stream.0 > 0).then(|| address::duration(timeouts.max_stream)),
        ..Default::default()
    };
    HttpProtocolOptions {
        common_http_protocol_options: Some(limits),
        upstream_protocol_options: Some(UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig {
            protocol_config: Some(protocol),
        })),
        ..Default::default()
    }
}
