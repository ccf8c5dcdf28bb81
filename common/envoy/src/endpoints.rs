//! Endpoints of clusters.

use std::collections::BTreeMap;

use atoll_envoy_api::envoy::config::{
    core::v3::Locality,
    endpoint::v3::{
        ClusterLoadAssignment, Endpoint as EnvoyEndpoint, LbEndpoint, LocalityLbEndpoints, cluster_load_assignment::Policy,
        lb_endpoint::HostIdentifier,
    },
};
use atoll_mesh::snapshot::Endpoint;

use crate::{
    address,
    encoded::{Encoded, ResourceType},
    policies::mesh_load_balancing_strategy::Rank,
};

/// What a cluster without endpoints is told: Envoy acknowledges the removal of endpoints, and goes on using them.
pub fn no_endpoints(cluster: &str) -> Encoded {
    assignment(cluster, std::iter::empty(), None)
}

/// The endpoints of cluster `name` as the mesh ranks them.
pub(crate) fn in_order<'a>(name: &str, endpoints: impl Iterator<Item = &'a Endpoint>) -> Encoded {
    let rank = |endpoint: &Endpoint| Rank { priority: (0, endpoint.priority), ..Rank::default() };
    assignment(name, endpoints.map(|endpoint| (rank(endpoint), endpoint)), None)
}

/// The endpoints of cluster `name`, grouped by rank and zone. None is a valid answer: "nobody serves this". `overprovisioning` is
/// Envoy's own unless it is set.
pub(crate) fn assignment<'a>(
    name: &str,
    endpoints: impl Iterator<Item = (Rank, &'a Endpoint)>,
    overprovisioning: Option<u32>,
) -> Encoded {
    let mut groups: Groups<'_> = BTreeMap::new();
    for (rank, endpoint) in endpoints {
        let host = address::socket(&endpoint.address.to_string(), endpoint.port);
        let group = groups.entry((rank.priority, &endpoint.zone, rank.sub_zone)).or_insert((rank.weight, Vec::new()));
        group.1.push(lb_endpoint(host));
    }
    let factor = overprovisioning.map(|factor| Policy { overprovisioning_factor: Some(factor), ..Default::default() });
    let assignment = ClusterLoadAssignment {
        cluster_name: name.to_owned(),
        endpoints: with_contiguous_priorities(groups),
        policy: factor,
        ..Default::default()
    };
    Encoded::new(ResourceType::Endpoints, name, &assignment)
}

/// Priority, zone and place inside it, to share and hosts.
type Groups<'a> = BTreeMap<((u32, u32), &'a str, String), (Option<u32>, Vec<LbEndpoint>)>;

/// Envoy wants priorities without a gap from 0 on.
fn with_contiguous_priorities(groups: Groups<'_>) -> Vec<LocalityLbEndpoints> {
    let mut ranks: Vec<(u32, u32)> = groups.keys().map(|(priority, ..)| *priority).collect();
    ranks.dedup();
    let rank = |priority: (u32, u32)| ranks.iter().take_while(|other| **other < priority).map(|_| 1).sum();
    let group = |((priority, zone, sub_zone), (weight, hosts))| LocalityLbEndpoints {
        locality: Some(Locality { zone: String::from(zone), sub_zone, ..Default::default() }),
        lb_endpoints: hosts,
        load_balancing_weight: weight,
        priority: rank(priority),
        ..Default::default()
    };
    groups.into_iter().map(group).collect()
}

pub(crate) fn lb_endpoint(address: atoll_envoy_api::envoy::config::core::v3::Address) -> LbEndpoint {
    let endpoint = EnvoyEndpoint { address: Some(address), ..Default::default() };
    LbEndpoint { host_identifier: Some(HostIdentifier::Endpoint(endpoint)), ..Default::default() }
}
