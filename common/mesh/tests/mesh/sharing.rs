//! What did not change stays the same `Arc`.

use std::sync::Arc;

use atoll_mesh::MeshSnapshot;
use atoll_model::{Kind, ResourceKey};
use serde_json::json;

use crate::world::{GLOBAL, World, zone};

/// Two own services, two of zone b, an identity, names.
fn world() -> (World, [ResourceKey; 4]) {
    let mut world = World::new();
    world.identity("all", &["a", "b"]);
    world.generator("corp", GLOBAL, json!({}), "{{ .DisplayName }}.{{ .Zone }}.acme.corp");
    world.instance("one", "one", "10.0.0.1", 80);
    world.instance("two", "two", "10.0.0.2", 80);
    world.address("in", zone("b"), "203.0.113.1", 10001);
    let services = ["one", "two"].map(|name| world.service(name, zone("a"), 80));
    let foreign = ["one", "two"].map(|name| world.service(name, zone("b"), 80));
    world.settle();
    let [one, two] = services;
    let [other_one, other_two] = foreign;
    (world, [one, two, other_one, other_two])
}

/// Whether everything but the named parts is shared.
#[track_caller]
fn check_shared(old: &MeshSnapshot, new: &MeshSnapshot, services: &[&ResourceKey], changed: &[&str]) {
    for (key, service) in &old.services {
        let shared = new.services.get(key).is_some_and(|new| Arc::ptr_eq(new, service));
        assert_eq!(shared, !services.contains(&key), "{key}");
    }
    for (name, proxy) in &old.dataplanes {
        let shared = new.dataplanes.get(name).is_some_and(|new| Arc::ptr_eq(new, proxy));
        assert_eq!(shared, !changed.contains(&name.as_str()), "{name}");
    }
    assert_eq!(Arc::ptr_eq(&old.trust, &new.trust), !changed.contains(&"trust"));
    assert_eq!(Arc::ptr_eq(&old.policies, &new.policies), !changed.contains(&"policies"));
    assert_eq!(Arc::ptr_eq(&old.names, &new.names), !changed.contains(&"names"));
}

fn timeout(name: &str, seconds: u32) -> serde_json::Value {
    json!({"to": [{
        "targetRef": {"kind": "MeshService", "labels": {"kuma.io/display-name": name}},
        "default": {"connectionTimeout": format!("{seconds}s")},
    }]})
}

#[test]
fn a_policy_changes_policies_alone() {
    let (mut world, _) = world();
    let before = world.snapshot();
    world.put(Kind::MeshTimeout, "default", "t", GLOBAL, &[], timeout("one", 1));
    check_shared(&before, &world.snapshot(), &[], &["policies"]);
}

#[test]
fn a_policy_changes_what_it_matches_and_no_other_configuration() {
    let (mut world, [one, two, ..]) = world();
    world.put(Kind::MeshTimeout, "default", "t1", GLOBAL, &[], timeout("one", 1));
    world.put(Kind::MeshTimeout, "default", "t2", GLOBAL, &[], timeout("two", 1));
    let select = |snapshot: &MeshSnapshot| {
        let proxy = snapshot.dataplanes.values().next().unwrap();
        snapshot.policies.for_proxy(&proxy.labels, proxy.key.owner)
    };
    let before = world.snapshot();
    world.put(Kind::MeshTimeout, "default", "t1", GLOBAL, &[], timeout("one", 2));
    let after = world.snapshot();
    let (old, new) = (select(&before), select(&after));
    let facts = |key: &ResourceKey| (after.services[key].clone(), "80".to_owned());
    let changed = new.changed_since(&old);
    for (key, is_same) in [(&one, false), (&two, true)] {
        let (service, section) = facts(key);
        let facts = atoll_policy::ServiceFacts { kind: key.kind, labels: &service.labels, section: &section, port: 80 };
        assert_eq!(Arc::ptr_eq(&old.timeouts_to(&facts), &new.timeouts_to(&facts)), is_same, "{key}");
        assert_eq!(changed.touches(&facts), !is_same);
    }
}

#[test]
fn an_endpoint_changes_its_service_and_its_proxy_alone() {
    let (mut world, [one, ..]) = world();
    let before = world.snapshot();
    world.instance("one", "one", "10.0.0.3", 80);
    check_shared(&before, &world.snapshot(), &[&one], &["one"]);
}

#[test]
fn an_ingress_changes_the_services_of_its_zone_alone() {
    let (mut world, [_, _, other_one, other_two]) = world();
    let before = world.snapshot();
    world.address("in", zone("b"), "203.0.113.2", 10001);
    let after = world.snapshot();
    check_shared(&before, &after, &[&other_one, &other_two], &[]);
    let endpoints = |key| Arc::clone(&after.services[key].ports[0].endpoints);
    assert!(Arc::ptr_eq(&endpoints(&other_one), &endpoints(&other_two)), "services of one zone share its endpoints");
}

#[test]
fn a_write_that_says_the_same_changes_nothing() {
    let (mut world, _) = world();
    let before = world.snapshot();
    world.instance("one", "one", "10.0.0.1", 80);
    world.service("one", zone("b"), 80);
    world.identity("all", &["a", "b", "c"]);
    world.zone("b", true);
    world.generator("corp", GLOBAL, json!({}), "{{ .DisplayName }}.{{ .Zone }}.acme.corp");
    assert!(Arc::ptr_eq(&before, &world.snapshot()));
}

#[test]
fn another_mesh_changes_nothing_here() {
    let (mut world, _) = world();
    let before = world.snapshot();
    world.put(Kind::MeshService, "other", "one", zone("b"), &[], json!({"ports": [{"port": 80}]}));
    assert!(Arc::ptr_eq(&before, &world.snapshot()));
    assert!(world.index.snapshots().contains_key("other"));
}

#[test]
fn new_trust_changes_trust_alone() {
    let (mut world, _) = world();
    let before = world.snapshot();
    world.trust("all", zone("b"), "default.b.mesh.local", "B");
    check_shared(&before, &world.snapshot(), &[], &["trust"]);
}
