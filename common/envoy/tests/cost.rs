//! What a change costs, and what does not change.

mod support;

use std::sync::Arc;

use atoll_envoy::{Cache, ResourceSet, ResourceType};
use atoll_policy::PolicySet;
use serde_json::{Value, json};
use support::{Case, PortCase, ServiceCase, World};

fn case(services: usize) -> Case {
    let mut case = Case::parse(
        "zone: gcp
proxy:
  name: web
  labels: {kuma.io/workload: web}
  identity: spiffe://default.gcp.mesh.local/workload/web
  networking: {address: 10.0.0.1, inbound: [{port: 8080, servicePort: 80, serviceAddress: 127.0.0.1}]}
",
    );
    case.services = (0..services).map(service).collect();
    case
}

fn service(index: usize) -> ServiceCase {
    ServiceCase {
        name: format!("service-{index}"),
        zone: "gcp".into(),
        ports: vec![PortCase {
            port: 80,
            name: None,
            protocol: None,
            others: Vec::new(),
            endpoints: vec![format!("10.1.{}.{}:80", index / 250, index % 250 + 1).parse().expect("an address")],
            far: Default::default(),
        }],
        labels: [("app".to_owned(), format!("app-{index}"))].into(),
        identities: vec![format!("spiffe://default.gcp.mesh.local/workload/service-{index}")],
        tls_ready: true,
        vip: Some(format!("241.0.{}.{}", index / 250, index % 250 + 1).parse().expect("an address")),
    }
}

fn timeout(name: &str, app: &str, connect: &str) -> Value {
    json!({"type": "MeshTimeout", "name": name, "spec": {"to": [
        {"targetRef": {"kind": "MeshService", "labels": {"app": app}}, "default": {"connectionTimeout": connect}}
    ]}})
}

fn policies(case: &Case, before: &PolicySet, documents: &[Value]) -> PolicySet {
    before.with(documents.iter().map(|document| Arc::new(case.policy(document))))
}

fn shares_all_but(before: &ResourceSet, after: &ResourceSet, expected: usize) {
    let fresh = |kind: ResourceType| {
        after.of(kind).iter().filter(|(name, new)| before.of(kind).get(*name).is_none_or(|old| !Arc::ptr_eq(old, new))).count()
    };
    assert_eq!(ResourceType::ALL.into_iter().map(fresh).sum::<usize>(), expected);
}

#[test]
fn a_policy_for_one_service_costs_one_service() {
    let case = case(200);
    let first = policies(&case, &PolicySet::default(), &[timeout("a", "app-7", "1s"), timeout("b", "app-8", "1s")]);
    let second = policies(&case, &first, &[timeout("a", "app-7", "2s"), timeout("b", "app-8", "1s")]);
    let mut cache = Cache::default();
    let before = case.world_after(&first, None);
    let set = before.generate(&mut cache);
    assert_eq!(cache.encodings(), 800, "a cluster, its endpoints, a listener and its filter for each service");
    cache.retire();

    let after = case.world_after(&second, Some(&before));
    let changed = after.generate(&mut cache);
    assert_eq!(cache.encodings(), 804);
    assert_eq!(set.distance(&changed), 1, "the connect timeout stands in the cluster alone");

    let other: Vec<_> = (0..100).map(|_| after.generate(&mut cache)).collect();
    assert_eq!(cache.encodings(), 804, "other proxies find everything made");
    assert!(other.iter().all(|other| *other == changed));
}

#[test]
fn changed_endpoints_cost_one_service() {
    let mut case = case(200);
    let none = PolicySet::default();
    let mut cache = Cache::default();
    let before = case.world_after(&none, None);
    let set = before.generate(&mut cache);
    case.services[3].ports[0].endpoints.clear();
    let after = case.world_after(&none, Some(&before)).generate(&mut cache);
    assert_eq!(cache.encodings(), 804);
    assert_eq!(set.distance(&after), 1);
    // Listener, cluster and filters of the inbound are made anew each time: equal, but not the same.
    shares_all_but(&set, &after, 5);
}

#[test]
fn what_is_gone_leaves_nothing() {
    let case = case(3);
    let none = PolicySet::default();
    let mut cache = Cache::default();
    let before = case.world_after(&none, None);
    let set = before.generate(&mut cache);
    let mut snapshot = (*before.snapshot).clone();
    let gone = snapshot.services.keys().next().unwrap().clone();
    snapshot.services.remove(&gone);
    let after = World { snapshot: Arc::new(snapshot), ..before }.generate(&mut cache);
    assert_eq!(set.len() - after.len(), 4);
    assert_eq!(after, Case { services: case.services[1..].to_vec(), ..case }.world().generate(&mut Cache::default()));
}

#[test]
fn the_order_of_changes_does_not_show() {
    let case = case(30);
    let documents = [timeout("a", "app-7", "1s"), timeout("b", "app-8", "2s")];
    let none = PolicySet::default();
    let fresh = case.world_after(&policies(&case, &none, &documents), None).generate(&mut Cache::default());
    let mut cache = Cache::default();
    let mut world = Case { services: Vec::new(), ..case.clone() }.world_after(&none, None);
    world.generate(&mut cache);
    for count in [10, 30] {
        let part = Case { services: case.services[..count].to_vec(), ..case.clone() };
        let set = policies(&case, &none, &documents[..count / 15]);
        world = part.world_after(&set, Some(&world));
        world.generate(&mut cache);
    }
    let last = case.world_after(&policies(&case, &none, &documents), Some(&world)).generate(&mut cache);
    assert_eq!(last, fresh);
}

#[test]
fn layers_that_nobody_uses_are_dropped() {
    let case = case(10);
    let mut cache = Cache::default();
    let world = case.world();
    world.generate(&mut cache);
    cache.retire();
    cache.retire();
    world.generate(&mut cache);
    assert_eq!(cache.encodings(), 80);
}

#[test]
fn a_place_that_changes_costs_one_listener() {
    let mut case = case(50);
    let vip = |index: usize| format!("241.0.0.{}:80", index + 1).parse().unwrap();
    let place = |index: usize| format!("127.21.0.{}:80", index + 1).parse().unwrap();
    case.bound = (0..49).map(|index| (vip(index), place(index))).collect();
    let none = PolicySet::default();
    let mut cache = Cache::default();
    let before = case.world_after(&none, None);
    let set = before.generate(&mut cache);
    assert_eq!(cache.encodings(), 198);
    case.bound.insert(vip(49), place(49));
    case.bound.insert(vip(3), place(60));
    let after = case.world_after(&none, Some(&before)).generate(&mut cache);
    assert_eq!(cache.encodings(), 202);
    assert_eq!(set.distance(&after), 3, "the listener that moved; a new listener and its filter");
}
