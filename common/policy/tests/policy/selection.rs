//! Which policies hold for a proxy.

use atoll_model::{Kind, Owner};
use atoll_policy::PolicySet;
use serde_json::{Value, json};

use crate::make::{labels, parse, policy, zone};

fn spec(target: Value) -> Value {
    json!({"targetRef": target, "rules": [{"default": {"idleTimeout": "1s"}}]})
}

/// Whether a policy with this target selects a proxy with `app: web`, `kuma.io/display-name: dp` in zone 1.
fn check(target: Value, owner: Owner, own: &[(&str, &str)], expected: bool) {
    let policy = parse(Kind::MeshTimeout, "t", owner, own, &spec(target.clone())).unwrap();
    let proxy = labels(&[("app", "web"), ("kuma.io/display-name", "dp")]);
    assert_eq!(policy.selects(&proxy, zone(1)), expected, "{target} of {owner:?} with {own:?}");
}

#[test]
fn by_mesh_by_labels_and_by_name() {
    check(json!({"kind": "Mesh"}), Owner::Global, &[], true);
    check(json!({"kind": "Dataplane"}), Owner::Global, &[], true);
    check(json!({"kind": "Dataplane", "labels": {"app": "web"}}), Owner::Global, &[], true);
    check(json!({"kind": "Dataplane", "labels": {"app": "web", "v": "1"}}), Owner::Global, &[], false);
    check(json!({"kind": "Dataplane", "labels": {"kuma.io/display-name": "dp"}}), Owner::Global, &[], true);
}

#[test]
fn a_zones_policy_holds_in_that_zone_and_a_shadow_nowhere() {
    check(json!({"kind": "Mesh"}), zone(1), &[], true);
    check(json!({"kind": "Mesh"}), zone(2), &[], false);
    check(json!({"kind": "Mesh"}), Owner::Global, &[("kuma.io/effect", "shadow")], false);
    check(json!({"kind": "Mesh"}), Owner::Global, &[("kuma.io/effect", "other")], true);
}

#[test]
fn a_section_is_one_inbound() {
    let target = json!({"kind": "Dataplane", "sectionName": "admin"});
    let set = PolicySet::new([policy(Kind::MeshTimeout, "t", Owner::Global, spec(target))]);
    let selected = set.for_proxy(&labels(&[]), zone(1));
    assert!(selected.inbound_timeouts("admin").idle_timeout.is_some());
    assert!(selected.inbound_timeouts("http").idle_timeout.is_none());
}

#[test]
fn what_does_not_parse_says_why() {
    for bad in [json!({"targetRef": {"kind": "Nope"}}), json!({"rules": 1}), json!({"targetRef": {"kind": "MeshService"}})] {
        let fault = parse(Kind::MeshTimeout, "t", Owner::Global, &[], &bad).unwrap_err();
        assert_eq!(fault.key.name.as_str(), "t");
        assert!(!fault.message.is_empty());
    }
    assert!(parse(Kind::Mesh, "t", Owner::Global, &[], &json!({})).is_err());
}
