//! Endpoints of clusters.

use std::collections::BTreeMap;

use atoll_envoy_api::envoy::config::{
    core::v3::Locality,
    endpoint::v3::{
        ClusterLoadAssignment, Endpoint as EnvoyEndpoint, LbEndpoint, LocalityLbEndpoints, lb_endpoint::HostIdentifier,
    },
};
use atoll_mesh::snapshot::Endpoint;

use crate::{
    address,
    encoded::{Encoded, ResourceType},
};

/// What a cluster without endpoints is told: Envoy acknowledges the removal of endpoints, and goes on using them.
pub fn no_endpoints(cluster: &str) -> Encoded {
    assignment(cluster, std::iter::empty())
}

/// The endpoints of cluster `name`, grouped by priority and zone. None is a valid answer: "nobody serves this".
pub(crate) fn assignment<'a>(name: &str, endpoints: impl Iterator<Item = &'a Endpoint>) -> Encoded {
    Encoded::new(ResourceType::Endpoints, name, &load_assignment(name, endpoints))
}

fn load_assignment<'a>(name: &str, endpoints: impl Iterator<Item = &'a Endpoint>) -> ClusterLoadAssignment {
    let mut groups: BTreeMap<(u32, &str), Vec<LbEndpoint>> = BTreeMap::new();
    for endpoint in endpoints {
        let host = address::socket(&endpoint.address.to_string(), endpoint.port);
        groups.entry((endpoint.priority, &endpoint.zone)).or_default().push(lb_endpoint(host));
    }
    ClusterLoadAssignment { cluster_name: name.to_owned(), endpoints: with_contiguous_priorities(groups), ..Default::default() }
}

/// Envoy wants priorities without a gap from 0 on.
fn with_contiguous_priorities(groups: BTreeMap<(u32, &str), Vec<LbEndpoint>>) -> Vec<LocalityLbEndpoints> {
    let mut ranks: Vec<u32> = groups.keys().map(|(priority, _)| *priority).collect();
    ranks.dedup();
    let rank = |priority: u32| ranks.iter().take_while(|other| **other < priority).map(|_| 1).sum();
    let group = |((priority, zone), hosts): ((u32, &str), Vec<LbEndpoint>)| LocalityLbEndpoints {
        locality: Some(Locality { zone: zone.to_owned(), ..Default::default() }),
        lb_endpoints: hosts,
        load_balancing_weight: None,
        priority: rank(priority),
        ..Default::default()
    };
    groups.into_iter().map(group).collect()
}

pub(crate) fn lb_endpoint(address: atoll_envoy_api::envoy::config::core::v3::Address) -> LbEndpoint {
    let endpoint = EnvoyEndpoint { address: Some(address), ..Default::default() };
    LbEndpoint { host_identifier: Some(HostIdentifier::Endpoint(endpoint)), ..Default::default() }
}
