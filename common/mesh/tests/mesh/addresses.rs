//! MeshZoneAddresses that a zone makes from its ingresses.

use atoll_model::{Kind, ResourceKey};
use serde_json::{Value, json};

use crate::world::{World, zone};

fn ingress(world: &mut World, state: &str) -> ResourceKey {
    let listener = json!({"type": "ZoneIngress", "address": "10.9.0.1", "port": 10001, "name": "in", "state": state});
    let spec = json!({"networking": {"address": "10.9.0.1", "listeners": [listener]}});
    world.put(Kind::Dataplane, "default", "ingress", zone("a"), &[("kuma.io/workload", "ingress")], spec)
}

fn stored(world: &World) -> Vec<(String, Value)> {
    let spec = |key: &ResourceKey| serde_json::from_slice(&world.resources[key].spec).unwrap();
    world.keys(Kind::MeshZoneAddress).iter().map(|key| (key.name.to_string(), spec(key))).collect()
}

#[test]
fn a_ready_ingress_is_published_and_withdrawn_when_it_is_not() {
    let mut world = World::new();
    ingress(&mut world, "NotReady");
    world.settle();
    assert_eq!(stored(&world), []);
    let dataplane = ingress(&mut world, "Ready");
    world.settle();
    assert_eq!(stored(&world), [("ingress.in".to_owned(), json!({"address": "10.9.0.1", "port": 10001}))]);
    ingress(&mut world, "NotReady");
    world.settle();
    assert_eq!(stored(&world), []);
    ingress(&mut world, "Ready");
    world.settle();
    world.delete(&dataplane);
    world.settle();
    assert_eq!(stored(&world), []);
}

#[test]
fn an_operators_address_stands_for_all() {
    let mut world = World::new();
    ingress(&mut world, "Ready");
    world.settle();
    let written = world.address("public", zone("a"), "203.0.113.5", 443);
    world.settle();
    assert_eq!(stored(&world), [("public".to_owned(), json!({"address": "203.0.113.5", "port": 443}))]);
    world.delete(&written);
    world.settle();
    assert_eq!(stored(&world)[0].0, "ingress.in");
}

#[test]
fn addresses_of_other_zones_are_theirs() {
    let mut world = World::new();
    world.address("theirs", zone("b"), "203.0.113.5", 443);
    ingress(&mut world, "Ready");
    world.settle();
    assert_eq!(stored(&world).len(), 2);
    let snapshot = world.snapshot();
    let zones: Vec<_> = snapshot.zone_addresses.values().map(|address| address.zone.to_string()).collect();
    assert_eq!(zones, ["a", "b"], "sorted by name: ingress.in, theirs");
}
