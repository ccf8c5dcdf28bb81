//! MeshLoadBalancingStrategy: the algorithm of a cluster, what of a request is hashed, and the rank of each endpoint.
//!
//! Without a strategy the own zone comes first and the others together come next. As Kuma has it, a strategy that says anything of
//! localities makes its rules the whole truth: a zone that none of them names gets nothing. Unlike in Kuma this holds for fail-over
//! only: the endpoints of the zone whose service it is are no fail-over, so a strategy for the whole mesh cuts nobody off from the
//! services of other zones.

use atoll_envoy_api::envoy::{
    config::{
        cluster::v3::{
            Cluster,
            cluster::{
                CommonLbConfig, LbConfig, LbPolicy, LeastRequestLbConfig, MaglevLbConfig, RingHashLbConfig,
                common_lb_config::{LocalityConfigSpecifier, LocalityWeightedLbConfig},
                ring_hash_lb_config,
            },
        },
        core::v3::RuntimeDouble,
        route::v3::route_action::{self, hash_policy as route_hash},
    },
    r#type::v3::{HashPolicy as TcpHashPolicy, hash_policy as tcp_hash},
};
use atoll_mesh::snapshot::Endpoint;
use atoll_model::policies::mesh_load_balancing_strategy::{
    AffinityTag, Failover, HashFunction, HashPolicy, HashPolicyKind, LoadBalancer, LoadBalancerKind, RingHash, Strategy,
    ToZonesKind,
};

use crate::address;

/// Sets the algorithm of a cluster.
pub(crate) fn balance(strategy: &Strategy, cluster: &mut Cluster) {
    if !affinity_tags(strategy).is_empty() {
        let weighted = LocalityConfigSpecifier::LocalityWeightedLbConfig(LocalityWeightedLbConfig::default());
        cluster.common_lb_config = Some(CommonLbConfig { locality_config_specifier: Some(weighted), ..Default::default() });
    }
    let Some(balancer) = &strategy.load_balancer else { return };
    let (policy, config) = algorithm(balancer);
    cluster.lb_policy = policy as i32;
    cluster.lb_config = config;
}

fn algorithm(balancer: &LoadBalancer) -> (LbPolicy, Option<LbConfig>) {
    match balancer.kind {
        LoadBalancerKind::RoundRobin => (LbPolicy::RoundRobin, None),
        LoadBalancerKind::Random => (LbPolicy::Random, None),
        LoadBalancerKind::LeastRequest => {
            let settings = balancer.least_request.as_ref();
            let bias = settings.and_then(|settings| settings.active_request_bias.as_ref()?.value());
            let config = LeastRequestLbConfig {
                choice_count: settings.and_then(|settings| settings.choice_count),
                // Envoy wants a key, though there is no runtime to look it up in.
                active_request_bias: bias
                    .map(|bias| RuntimeDouble { default_value: bias, runtime_key: "active_request_bias".to_owned() }),
                ..Default::default()
            };
            (LbPolicy::LeastRequest, Some(LbConfig::LeastRequestLbConfig(config)))
        }
        LoadBalancerKind::RingHash => {
            (LbPolicy::RingHash, balancer.ring_hash.as_ref().map(|settings| LbConfig::RingHashLbConfig(ring(settings))))
        }
        LoadBalancerKind::Maglev => {
            let size = balancer.maglev.as_ref().and_then(|settings| settings.table_size);
            let config = |size| LbConfig::MaglevLbConfig(MaglevLbConfig { table_size: Some(u64::from(size)) });
            (LbPolicy::Maglev, size.map(config))
        }
    }
}

/// Envoy's own least size of a ring.
const RING_SIZE: u32 = 1024;

/// Envoy refuses a least size above the greatest; the two may come from different policies.
fn ring(settings: &RingHash) -> RingHashLbConfig {
    let min = match settings.max_ring_size {
        Some(max) => Some(settings.min_ring_size.unwrap_or(RING_SIZE).min(max)),
        None => settings.min_ring_size,
    };
    let function = match settings.hash_function {
        None | Some(HashFunction::XXHash) => ring_hash_lb_config::HashFunction::XxHash,
        Some(HashFunction::MurmurHash2) => ring_hash_lb_config::HashFunction::MurmurHash2,
    };
    RingHashLbConfig {
        minimum_ring_size: min.map(u64::from),
        maximum_ring_size: settings.max_ring_size.map(u64::from),
        hash_function: function as i32,
    }
}

/// What of a request is hashed.
pub(crate) fn of_requests(strategy: &Strategy) -> Vec<route_action::HashPolicy> {
    strategy.hash_policies.iter().flatten().filter_map(of_request).collect()
}

fn of_request(policy: &HashPolicy) -> Option<route_action::HashPolicy> {
    use route_hash::PolicySpecifier;
    let specifier = match policy.kind {
        HashPolicyKind::Header => {
            let header_name = policy.header.as_ref()?.name.clone();
            PolicySpecifier::Header(route_hash::Header { header_name, ..Default::default() })
        }
        HashPolicyKind::Cookie => {
            let cookie = policy.cookie.as_ref()?;
            PolicySpecifier::Cookie(route_hash::Cookie {
                name: cookie.name.clone(),
                ttl: cookie.ttl.map(address::duration),
                path: cookie.path.clone().unwrap_or_default(),
                ..Default::default()
            })
        }
        HashPolicyKind::Connection => {
            let source_ip = policy.connection.as_ref()?.source_ip.unwrap_or(false);
            PolicySpecifier::ConnectionProperties(route_hash::ConnectionProperties { source_ip })
        }
        HashPolicyKind::QueryParameter => {
            PolicySpecifier::QueryParameter(route_hash::QueryParameter { name: policy.query_parameter.as_ref()?.name.clone() })
        }
        HashPolicyKind::FilterState => {
            PolicySpecifier::FilterState(route_hash::FilterState { key: policy.filter_state.as_ref()?.key.clone() })
        }
    };
    Some(route_action::HashPolicy { terminal: policy.terminal.unwrap_or(false), policy_specifier: Some(specifier) })
}

/// What of a connection is hashed where bytes pass: the first thing that is not of HTTP, for Envoy takes one.
pub(crate) fn of_connections(strategy: &Strategy) -> Vec<TcpHashPolicy> {
    let specifier = |policy: &HashPolicy| match policy.kind {
        HashPolicyKind::Connection => {
            policy.connection.as_ref()?.source_ip?.then(|| tcp_hash::PolicySpecifier::SourceIp(tcp_hash::SourceIp::default()))
        }
        HashPolicyKind::FilterState => {
            let key = policy.filter_state.as_ref()?.key.clone();
            Some(tcp_hash::PolicySpecifier::FilterState(tcp_hash::FilterState { key }))
        }
        HashPolicyKind::Header | HashPolicyKind::Cookie | HashPolicyKind::QueryParameter => None,
    };
    let first = strategy.hash_policies.iter().flatten().find_map(specifier);
    first.map(|specifier| TcpHashPolicy { policy_specifier: Some(specifier) }).into_iter().collect()
}

/// Who calls, as far as it matters for the rank of endpoints.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller<'a> {
    /// Its zone.
    pub(crate) zone: &'a str,
    /// Its own value of each label by which some strategy tells what is near.
    pub(crate) near: &'a [(String, String)],
}

/// Where an endpoint stands among the others.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    /// Lower is preferred: the rule, and what the mesh makes of its zone.
    pub(crate) priority: (u32, u32),
    /// What makes it near.
    pub(crate) sub_zone: String,
    /// Its locality's share, if shares count.
    pub(crate) weight: Option<u32>,
}

/// The rank of an endpoint of a service of the zone `home`; none if the strategy leaves it out.
pub(crate) fn rank(strategy: &Strategy, caller: Caller<'_>, home: &str, endpoint: &Endpoint) -> Option<Rank> {
    let Some(locality) = &strategy.locality_awareness else { return Some(as_it_is(endpoint)) };
    if locality.disabled == Some(true) {
        // A zone that is worse than another is so all the same.
        let priority = if endpoint.priority <= 1 { 0 } else { endpoint.priority };
        return Some(Rank { priority: (0, priority), ..Rank::default() });
    }
    if locality.local_zone.is_none() && locality.cross_zone.is_none() {
        return Some(as_it_is(endpoint));
    }
    let tags = affinity_tags(strategy);
    let weight = (!tags.is_empty()).then_some(1);
    if *endpoint.zone == *caller.zone {
        let (sub_zone, share) = nearness(tags, caller, endpoint).unwrap_or_default();
        return Some(Rank { priority: (0, endpoint.priority), sub_zone, weight: weight.map(|rest| share.unwrap_or(rest)) });
    }
    if *endpoint.zone == *home {
        return Some(Rank { weight, ..as_it_is(endpoint) });
    }
    let rules = locality.cross_zone.as_ref().map(|cross| cross.failover.as_slice()).unwrap_or_default();
    let rule = rules.iter().position(|rule| takes(rule, caller.zone, &endpoint.zone))?;
    Some(Rank { priority: (u32::try_from(rule).ok()?.checked_add(1)?, endpoint.priority), weight, ..Rank::default() })
}

fn as_it_is(endpoint: &Endpoint) -> Rank {
    Rank { priority: (0, endpoint.priority), ..Rank::default() }
}

/// The first tag whose value caller and endpoint share, as the name of a locality with its share.
fn nearness(tags: &[AffinityTag], caller: Caller<'_>, endpoint: &Endpoint) -> Option<(String, Option<u32>)> {
    let own = |key: &str| caller.near.iter().find(|(own, _)| own == key).map(|(_, value)| value.as_str());
    tags.iter().enumerate().find_map(|(i, tag)| {
        let value = own(&tag.key)?;
        let shared = endpoint.labels.get(&tag.key).is_some_and(|other| other == value);
        shared.then(|| (format!("{}={value}", tag.key), Some(tag.weight.unwrap_or_else(|| default_share(tags.len() - i)))))
    })
}

/// 90 %, 9 % and so on, against 1 for all that is not near; `place` counts from the end.
fn default_share(place: usize) -> u32 {
    // More tags than fit into a number only share its greatest.
    let power = u32::try_from(place).unwrap_or(u32::MAX).saturating_sub(1);
    10u32.checked_pow(power).and_then(|share| share.checked_mul(9)).unwrap_or(1_000_000_000)
}

fn takes(rule: &Failover, from: &str, to: &str) -> bool {
    let names = |zones: &[String], zone: &str| zones.iter().any(|name| name == zone);
    let is_for = rule.from.as_ref().is_none_or(|zones| names(&zones.zones, from));
    is_for
        && match rule.to.kind {
            ToZonesKind::None => false,
            ToZonesKind::Any => true,
            ToZonesKind::Only => names(&rule.to.zones, to),
            ToZonesKind::AnyExcept => !names(&rule.to.zones, to),
        }
}

/// In percent, how much more than needed the endpoints of a priority are taken to be able to serve, once the strategy ranks them:
/// below its inverse the next priority takes its share.
pub(crate) fn overprovisioning(strategy: &Strategy) -> Option<u32> {
    let locality = strategy.locality_awareness.as_ref().filter(|locality| locality.disabled != Some(true))?;
    let cross = locality.cross_zone.as_ref();
    let percentage = cross.and_then(|cross| cross.failover_threshold.as_ref()?.percentage.value());
    match percentage {
        Some(percentage) => Some((10_000.0 / percentage).clamp(100.0, 1_000_000.0).round() as u32),
        None => (cross.is_some() || locality.local_zone.is_some()).then_some(200),
    }
}

fn affinity_tags(strategy: &Strategy) -> &[AffinityTag] {
    let locality = strategy.locality_awareness.as_ref().filter(|locality| locality.disabled != Some(true));
    let local = locality.and_then(|locality| locality.local_zone.as_ref());
    local.map(|local| local.affinity_tags.as_slice()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
