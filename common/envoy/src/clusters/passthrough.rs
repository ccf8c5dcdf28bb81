//! The cluster of redirected traffic: wherever it was going.

use atoll_envoy_api::envoy::{
    config::{
        cluster::v3::{Cluster, cluster},
        core::v3::{Http1ProtocolOptions, Http2ProtocolOptions},
    },
    extensions::upstreams::http::v3::http_protocol_options::explicit_http_config::ProtocolConfig,
};
use atoll_model::policies::mesh_passthrough::MatchProtocol;

use super::{
    inbound::unredirected,
    service::{HTTP_OPTIONS, options},
};
use crate::{
    address,
    encoded::{Encoded, ResourceType, pack},
    policies::mesh_timeout::Effective,
};

/// Towards other hosts.
pub(crate) fn outbound(name: &str, timeouts: &Effective) -> Encoded {
    Encoded::new(ResourceType::Cluster, name, &cluster(name, timeouts))
}

/// Towards other hosts, in a protocol that a policy names.
pub(crate) fn matched(name: &str, protocol: MatchProtocol, timeouts: &Effective) -> Encoded {
    let mut cluster = cluster(name, timeouts);
    let protocol = match protocol {
        MatchProtocol::Tcp | MatchProtocol::Tls | MatchProtocol::Mysql => None,
        MatchProtocol::Http => Some(ProtocolConfig::HttpProtocolOptions(Http1ProtocolOptions::default())),
        MatchProtocol::Http2 | MatchProtocol::Grpc => Some(ProtocolConfig::Http2ProtocolOptions(Http2ProtocolOptions::default())),
    };
    if let Some(protocol) = protocol {
        cluster.typed_extension_protocol_options.insert(HTTP_OPTIONS.to_owned(), pack(&options(protocol, timeouts)));
    }
    Encoded::new(ResourceType::Cluster, name, &cluster)
}

/// Towards the applications of this host.
pub(crate) fn inbound(name: &str, timeouts: &Effective) -> Encoded {
    let cluster = Cluster { upstream_bind_config: Some(unredirected()), ..cluster(name, timeouts) };
    Encoded::new(ResourceType::Cluster, name, &cluster)
}

fn cluster(name: &str, timeouts: &Effective) -> Cluster {
    Cluster {
        name: name.to_owned(),
        connect_timeout: Some(address::duration(timeouts.connect)),
        cluster_discovery_type: Some(cluster::ClusterDiscoveryType::Type(cluster::DiscoveryType::OriginalDst as i32)),
        lb_policy: cluster::LbPolicy::ClusterProvided as i32,
        ..Default::default()
    }
}
