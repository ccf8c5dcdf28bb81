#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use serde_json::{Value, json};

use super::*;

fn endpoint(zone: &str, priority: u32, labels: &[(&str, &str)]) -> Endpoint {
    let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    Endpoint { priority, zone: zone.into(), address: [10, 0, 0, 1].into(), port: 80, labels: Arc::new(labels) }
}

fn strategy(locality: Value) -> Strategy {
    serde_json::from_value(json!({ "localityAwareness": locality })).unwrap()
}

/// Rule and priority for a caller in zone a of a service that lives in zones a, b, c and d, d being lost.
fn priorities(locality: Value) -> [Option<(u32, u32)>; 4] {
    let strategy = strategy(locality);
    let caller = Caller { zone: "a", near: &[] };
    [("a", 0), ("b", 1), ("c", 1), ("d", 2)]
        .map(|(zone, priority)| rank(&strategy, caller, "", &endpoint(zone, priority, &[])).map(|rank| rank.priority))
}

#[test]
fn the_own_zone_comes_first_unless_localities_do_not_count() {
    let nothing_said = [Some((0, 0)), Some((0, 1)), Some((0, 1)), Some((0, 2))];
    assert_eq!(priorities(json!({})), nothing_said);
    assert_eq!(priorities(json!({"disabled": false})), nothing_said);
    assert_eq!(priorities(json!({"disabled": true})), [Some((0, 0)), Some((0, 0)), Some((0, 0)), Some((0, 2))]);
}

#[test]
fn rules_rank_the_zones_that_they_name_and_leave_out_the_others() {
    let failover = |rules: Value| priorities(json!({"crossZone": {"failover": rules}}));
    let own = Some((0, 0));
    assert_eq!(failover(json!([])), [own, None, None, None]);
    assert_eq!(failover(json!([{"to": {"type": "None"}}])), [own, None, None, None]);
    assert_eq!(failover(json!([{"to": {"type": "Any"}}])), [own, Some((1, 1)), Some((1, 1)), Some((1, 2))]);
    let only = json!([{"to": {"type": "Only", "zones": ["c"]}}, {"to": {"type": "AnyExcept", "zones": ["b"]}}]);
    assert_eq!(failover(only), [own, None, Some((1, 1)), Some((2, 2))]);
    let from = json!([{"from": {"zones": ["b"]}, "to": {"type": "Any"}}, {"from": {"zones": ["a"]}, "to": {"type": "Only", "zones": ["b"]}}]);
    assert_eq!(failover(from), [own, Some((2, 1)), None, None]);
    assert_eq!(priorities(json!({"localZone": {"affinityTags": []}})), [own, None, None, None]);
}

#[test]
fn the_zone_whose_service_it_is_is_no_failover() {
    let strategy = strategy(json!({"localZone": {"affinityTags": [{"key": "node"}]}}));
    let of = |zone: &str| rank(&strategy, Caller { zone: "a", near: &[] }, "b", &endpoint(zone, 1, &[]));
    assert_eq!(of("b"), Some(Rank { priority: (0, 1), weight: Some(1), ..Rank::default() }));
    assert_eq!(of("c"), None);
}

#[test]
fn what_is_near_gets_the_share_of_the_first_tag_that_matches() {
    let near = [("node".to_owned(), "n1".to_owned()), ("rack".to_owned(), "r1".to_owned())];
    let shares = |tags: Value| {
        let strategy = strategy(json!({"localZone": {"affinityTags": tags}}));
        [&[("node", "n1"), ("rack", "r1")][..], &[("node", "n2"), ("rack", "r1")], &[("other", "n1")], &[]].map(|labels| {
            let rank = rank(&strategy, Caller { zone: "a", near: &near }, "a", &endpoint("a", 0, labels)).unwrap();
            (rank.sub_zone, rank.weight.unwrap())
        })
    };
    let named = |shares: [u32; 4]| {
        let names = ["node=n1", "rack=r1", "", ""].map(str::to_owned);
        [0, 1, 2, 3].map(|i: usize| (names[i].clone(), shares[i]))
    };
    assert_eq!(shares(json!([{"key": "node"}, {"key": "rack"}])), named([90, 9, 1, 1]));
    assert_eq!(shares(json!([{"key": "node", "weight": 7}, {"key": "rack", "weight": 3}])), named([7, 3, 1, 1]));
    // The caller has no value of its own.
    assert_eq!(shares(json!([{"key": "other"}])).map(|(name, _)| name), [""; 4]);
}

#[test]
fn the_threshold_is_the_inverse_of_overprovisioning() {
    let factor = |locality: Value| overprovisioning(&strategy(locality));
    let threshold = |percentage: Value| factor(json!({"crossZone": {"failoverThreshold": {"percentage": percentage}}}));
    assert_eq!([threshold(json!(50)), threshold(json!("70")), threshold(json!(100))], [Some(200), Some(143), Some(100)]);
    assert_eq!([factor(json!({"localZone": {}})), factor(json!({"crossZone": {}}))], [Some(200), Some(200)]);
    assert_eq!([factor(json!({})), factor(json!({"disabled": true, "crossZone": {}}))], [None, None]);
}
