//! What is wrong with a strategy.

use serde_json::Value;

use super::{
    AffinityTag, CrossZone, HashPolicy, HashPolicyKind, LoadBalancer, LoadBalancerKind, LocalityAwareness,
    MeshLoadBalancingStrategy, SCHEMA, Strategy, ToZonesKind,
};
use crate::{
    Violation,
    decimal::Decimal,
    document::{Checked, check_spec},
    target_ref::{self, DESTINATIONS, TargetKind},
    violation::Path,
};

/// Checks a spec.
pub fn check(spec: &Value) -> Checked {
    let mut not_enforced = Vec::new();
    let checked = check_spec::<MeshLoadBalancingStrategy>(&SCHEMA, spec, |policy, path| {
        let mut faults = target_ref::check_top(policy.target_ref.as_ref(), &path.field("targetRef"), false);
        for (i, to) in policy.to.iter().enumerate() {
            let path = path.field("to").index(i);
            faults.extend(target_ref::check_to(&to.target_ref, &path.field("targetRef"), &DESTINATIONS));
            faults.extend(check_strategy(&to.default, to.target_ref.kind, &path.field("default")));
            if matches!(to.target_ref.kind, TargetKind::MeshHTTPRoute | TargetKind::MeshExternalService) {
                not_enforced.push(path.to_string());
            }
        }
        faults
    });
    Checked { not_enforced, ..checked }
}

const ONLY_HASH_POLICIES: &str = "field is not allowed when targetRef.kind is MeshHTTPRoute, only hashPolicies is supported";

fn check_strategy(strategy: &Strategy, target: TargetKind, path: &Path) -> Vec<Violation> {
    let mut faults = Vec::new();
    let (balancer, locality) = (path.field("loadBalancer"), path.field("localityAwareness"));
    if target == TargetKind::MeshHTTPRoute {
        faults.extend(strategy.load_balancer.as_ref().map(|_| balancer.violation(ONLY_HASH_POLICIES)));
        faults.extend(strategy.locality_awareness.as_ref().map(|_| locality.violation(ONLY_HASH_POLICIES)));
    } else {
        faults.extend(strategy.load_balancer.iter().flat_map(|one| check_balancer(one, &balancer)));
        faults.extend(strategy.locality_awareness.iter().flat_map(|one| check_locality(one, target, &locality)));
    }
    for (i, policy) in strategy.hash_policies.iter().flatten().enumerate() {
        faults.extend(check_hash_policy(policy, &path.field("hashPolicies").index(i)));
    }
    faults
}

fn check_balancer(balancer: &LoadBalancer, path: &Path) -> Option<Violation> {
    match balancer.kind {
        LoadBalancerKind::LeastRequest => {
            let path = path.field("leastRequest").field("activeRequestBias");
            match balancer.least_request.as_ref()?.active_request_bias.as_ref()?.value() {
                None => Some(path.violation("string must be a valid number")),
                Some(..0.0) => Some(path.violation("must be greater or equal then: 0")),
                Some(_) => None,
            }
        }
        // Envoy refuses the cluster. Kuma lets it.
        LoadBalancerKind::Maglev => {
            let size = balancer.maglev.as_ref()?.table_size?;
            (!is_prime(size)).then(|| path.field("maglev").field("tableSize").violation("must be a prime number"))
        }
        LoadBalancerKind::RoundRobin | LoadBalancerKind::RingHash | LoadBalancerKind::Random => None,
    }
}

fn is_prime(number: u32) -> bool {
    number > 1 && (2..).take_while(|divisor| divisor * divisor <= number).all(|divisor| !number.is_multiple_of(divisor))
}

fn check_locality(locality: &LocalityAwareness, target: TargetKind, path: &Path) -> Vec<Violation> {
    let mut faults = Vec::new();
    if let Some(local) = &locality.local_zone {
        faults.extend(check_affinity(&local.affinity_tags, &path.field("localZone").field("affinityTags")));
    }
    if let Some(cross) = &locality.cross_zone {
        let path = path.field("crossZone");
        if target == TargetKind::MeshService {
            faults.push(path.violation("must not be set: MeshService traffic is local"));
        } else {
            faults.extend(check_cross_zone(cross, &path));
        }
    }
    faults
}

fn check_affinity(tags: &[AffinityTag], path: &Path) -> Vec<Violation> {
    let mut faults = Vec::new();
    for (i, tag) in tags.iter().enumerate() {
        let path = path.index(i);
        if tag.key.is_empty() {
            faults.push(path.field("key").violation("must not be empty"));
        }
        if tag.weight == Some(0) {
            faults.push(path.field("weight").violation("must be greater than 0"));
        }
    }
    if tags.iter().any(|tag| tag.weight.is_some()) && tags.iter().any(|tag| tag.weight.is_none()) {
        faults.push(path.violation("all or none affinity tags should have weight"));
    }
    faults
}

fn check_cross_zone(cross: &CrossZone, path: &Path) -> Vec<Violation> {
    let mut faults = Vec::new();
    for (i, failover) in cross.failover.iter().enumerate() {
        let path = path.field("failover").index(i);
        if let Some(from) = &failover.from {
            let path = path.field("from").field("zones");
            if from.zones.is_empty() {
                faults.push(path.violation("must not be empty"));
            }
            let unnamed = from.zones.iter().enumerate().filter(|(_, zone)| zone.is_empty());
            faults.extend(unnamed.map(|(i, _)| path.index(i).violation("must not be empty")));
        }
        let (kind, zones) = (failover.to.kind, path.field("to").field("zones"));
        match kind {
            ToZonesKind::Any | ToZonesKind::None if !failover.to.zones.is_empty() => {
                faults.push(zones.violation(format!("must be empty when type is {kind:?}")));
            }
            ToZonesKind::Only | ToZonesKind::AnyExcept if failover.to.zones.is_empty() => {
                faults.push(zones.violation(format!("must not be empty when type is {kind:?}")));
            }
            ToZonesKind::Any | ToZonesKind::None | ToZonesKind::Only | ToZonesKind::AnyExcept => {}
        }
    }
    if let Some(threshold) = &cross.failover_threshold {
        let path = path.field("failoverThreshold").field("percentage");
        faults.extend(percentage_fault(&threshold.percentage).map(|fault| path.violation(fault)));
    }
    faults
}

fn percentage_fault(percentage: &Decimal) -> Option<&'static str> {
    match percentage.value() {
        None => Some("string must be a valid number"),
        Some(..=0.0) => Some("must be greater than 0"),
        Some(..=100.0) => None,
        Some(_) => Some("must be less or equal to 100"),
    }
}

fn check_hash_policy(policy: &HashPolicy, path: &Path) -> Option<Violation> {
    let (branch, is_there) = match policy.kind {
        HashPolicyKind::Header => ("header", policy.header.is_some()),
        HashPolicyKind::Cookie => ("cookie", policy.cookie.is_some()),
        HashPolicyKind::Connection => ("connection", policy.connection.is_some()),
        HashPolicyKind::QueryParameter => ("queryParameter", policy.query_parameter.is_some()),
        HashPolicyKind::FilterState => ("filterState", policy.filter_state.is_some()),
    };
    if !is_there {
        return Some(path.field(branch).violation("must be defined"));
    }
    let cookie = policy.cookie.as_ref().filter(|_| policy.kind == HashPolicyKind::Cookie)?;
    let is_absolute = cookie.path.as_ref().is_none_or(|path| path.starts_with('/'));
    (!is_absolute).then(|| path.field("cookie").field("path").violation("must be an absolute path"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(kind: &str, default: Value) -> Vec<String> {
        let target = if kind == "Mesh" { json!({"kind": kind}) } else { json!({"kind": kind, "labels": {"a": "b"}}) };
        let spec = json!({"to": [{"targetRef": target, "default": default}]});
        let fields = check(&spec).violations.into_iter().map(|fault| fault.field);
        fields.map(|field| field.strip_prefix("spec.to[0].default.").map(str::to_owned).unwrap_or(field)).collect()
    }

    #[test]
    fn a_whole_strategy_is_valid() {
        let strategy = json!({
            "loadBalancer": {"type": "LeastRequest", "leastRequest": {"choiceCount": 4, "activeRequestBias": "0.5"}},
            "localityAwareness": {
                "localZone": {"affinityTags": [{"key": "k8s.io/node", "weight": 9}, {"key": "az", "weight": 1}]},
                "crossZone": {
                    "failover": [
                        {"from": {"zones": ["a"]}, "to": {"type": "Only", "zones": ["b"]}},
                        {"to": {"type": "AnyExcept", "zones": ["c"]}},
                        {"to": {"type": "Any"}},
                        {"to": {"type": "None"}},
                    ],
                    "failoverThreshold": {"percentage": "12.5"},
                },
            },
            "hashPolicies": [
                {"type": "Header", "header": {"name": "x"}, "terminal": true},
                {"type": "Cookie", "cookie": {"name": "x", "ttl": "1h", "path": "/a"}},
                {"type": "Connection", "connection": {"sourceIP": true}},
                {"type": "QueryParameter", "queryParameter": {"name": "q"}},
                {"type": "FilterState", "filterState": {"key": "k"}},
            ],
        });
        assert_eq!(fields("MeshMultiZoneService", strategy), [""; 0]);
        assert_eq!(check(&json!({"to": []})), Checked::default());
    }

    #[test]
    fn faults_of_localities_are_named_by_their_path() {
        let local = json!({"localityAwareness": {"localZone": {"affinityTags": [{"key": "", "weight": 0}, {"key": "b"}]}}});
        let tags = "localityAwareness.localZone.affinityTags";
        assert_eq!(fields("Mesh", local), [format!("{tags}[0].key"), format!("{tags}[0].weight"), tags.to_owned()]);
        let cross = json!({"localityAwareness": {"crossZone": {
            "failover": [
                {"from": {"zones": []}, "to": {"type": "Any", "zones": ["a"]}},
                {"from": {"zones": ["a", ""]}, "to": {"type": "Only"}},
            ],
            "failoverThreshold": {"percentage": 101},
        }}});
        let path = "localityAwareness.crossZone";
        let expected = [
            "failover[0].from.zones",
            "failover[0].to.zones",
            "failover[1].from.zones[1]",
            "failover[1].to.zones",
            "failoverThreshold.percentage",
        ];
        assert_eq!(fields("MeshMultiZoneService", cross.clone()), expected.map(|field| format!("{path}.{field}")));
        assert_eq!(fields("MeshService", cross), [path]);
    }

    #[test]
    fn what_has_no_effect_yet_is_named() {
        let to = |kind: &str| json!({"targetRef": {"kind": kind, "labels": {"a": "b"}}});
        let checked = check(&json!({"to": [to("MeshService"), to("MeshExternalService"), to("MeshHTTPRoute")]}));
        assert_eq!((checked.violations, checked.not_enforced), (vec![], vec!["spec.to[1]".to_owned(), "spec.to[2]".to_owned()]));
    }

    #[test]
    fn faults_of_balancers_and_hashes_are_named_by_their_path() {
        let bias = |bias: Value| json!({"loadBalancer": {"type": "LeastRequest", "leastRequest": {"activeRequestBias": bias}}});
        let path = "loadBalancer.leastRequest.activeRequestBias";
        assert_eq!(fields("MeshService", bias(json!(-1))), [path]);
        assert_eq!(fields("MeshService", bias(json!("much"))), [path]);
        let sizes =
            json!({"loadBalancer": {"type": "Maglev", "maglev": {"tableSize": 0}, "ringHash": {"maxRingSize": 8_000_001}}});
        assert_eq!(fields("MeshService", sizes), ["loadBalancer.maglev.tableSize", "loadBalancer.ringHash.maxRingSize"]);
        let table = |size: u32| json!({"loadBalancer": {"type": "Maglev", "maglev": {"tableSize": size}}});
        let wanted: Vec<u32> = (1..12).filter(|size| fields("Mesh", table(*size)).is_empty()).collect();
        assert_eq!((wanted, fields("Mesh", table(5_000_011))), (vec![2, 3, 5, 7, 11], vec![]));
        let hashes = json!({"hashPolicies": [{"type": "Header"}, {"type": "Cookie", "cookie": {"name": "a", "path": "b"}}]});
        assert_eq!(fields("MeshHTTPRoute", hashes), ["hashPolicies[0].header", "hashPolicies[1].cookie.path"]);
        assert_eq!(fields("MeshService", json!({"hashPolicies": [{"type": "SourceIP"}]})), ["hashPolicies[0].type"]);
        let disabled = json!({"localityAwareness": {"disabled": true}, "loadBalancer": {"type": "Random"}});
        assert_eq!(fields("MeshHTTPRoute", disabled), ["loadBalancer", "localityAwareness"]);
    }
}
