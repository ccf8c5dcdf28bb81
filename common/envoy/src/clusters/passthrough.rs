//! The cluster of redirected traffic: wherever it was going.

use atoll_envoy_api::envoy::config::cluster::v3::{Cluster, cluster};

use super::inbound::unredirected;
use crate::{
    address,
    encoded::{Encoded, ResourceType},
    policies::mesh_timeout::Effective,
};

/// Towards other hosts.
pub(crate) fn outbound(name: &str, timeouts: &Effective) -> Encoded {
    Encoded::new(ResourceType::Cluster, name, &cluster(name, timeouts))
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
