//! MeshServices that a zone makes from its Dataplanes.

use atoll_model::{Kind, ResourceKey, labels::DELETION_GRACE};
use chrono::TimeDelta;
use serde_json::{Value, json};

use crate::world::{World, zone};

fn key(name: &str) -> ResourceKey {
    ResourceKey::new(Kind::MeshService, "default", name, zone("a"))
}

fn spec(world: &World, name: &str) -> Value {
    serde_json::from_slice(&world.resources[&key(name)].spec).unwrap()
}

fn ports(world: &World, name: &str) -> Vec<u64> {
    spec(world, name)["ports"].as_array().unwrap().iter().map(|port| port["port"].as_u64().unwrap()).collect()
}

#[test]
fn a_workload_becomes_a_service() {
    let mut world = World::new();
    let inbounds = json!([{"port": 8080, "name": "web", "protocol": "http"}, {"port": 9090}, {"port": 1, "state": "Ignored"}]);
    let networking = json!({"networking": {"address": "10.0.0.1", "inbound": inbounds}});
    world.put(Kind::Dataplane, "default", "one", zone("a"), &[("kuma.io/workload", "shop")], networking);
    world.settle();
    assert_eq!(
        spec(&world, "shop"),
        json!({
            "selector": {"dataplaneLabels": {"matchLabels": {"kuma.io/workload": "shop"}}},
            "ports": [
                {"port": 8080, "name": "web", "targetPort": 8080, "appProtocol": "http"},
                {"port": 9090, "name": "9090", "targetPort": 9090, "appProtocol": "tcp"},
            ],
        })
    );
    assert_eq!(world.resources[&key("shop")].labels["kuma.io/managed-by"], "meshservice-generator");
    assert_eq!(crate::world::endpoints(&world.service_view(&key("shop"))).len(), 2);
}

#[test]
fn what_has_no_workload_no_inbounds_or_no_proper_name_makes_none() {
    let mut world = World::new();
    world.instance("one", "Not_A_Label", "10.0.0.1", 80);
    let gateway = json!({"networking": {"address": "10.0.0.2", "gateway": {"type": "DELEGATED"}}});
    world.put(Kind::Dataplane, "default", "two", zone("a"), &[("kuma.io/workload", "gw")], gateway);
    world.settle();
    assert!(world.keys(Kind::MeshService).is_empty());
}

#[test]
fn an_operators_service_of_that_name_is_left_alone() {
    let mut world = World::new();
    let service = world.service("shop", zone("a"), 1);
    world.instance("one", "shop", "10.0.0.1", 80);
    world.settle();
    assert_eq!(ports(&world, "shop"), [1]);
    assert!(world.resources[&service].labels.is_empty());
}

#[test]
fn while_one_agrees_the_ports_stay_and_the_others_are_told() {
    let mut world = World::new();
    let oldest = world.instance("z", "shop", "10.0.0.1", 80);
    world.settle();
    world.now += TimeDelta::seconds(1);
    world.instance("a", "shop", "10.0.0.2", 81);
    world.settle();
    assert_eq!(ports(&world, "shop"), [80]);
    let (reason, message) = world.condition(&key("shop")).unwrap();
    assert_eq!(reason, "Conflict");
    assert!(message.ends_with(": a"), "{message}");
    world.delete(&oldest);
    world.settle();
    assert_eq!(ports(&world, "shop"), [81]);
    assert_eq!(world.condition(&key("shop")), None);
}

#[test]
fn without_instances_it_goes_after_an_hour() {
    let mut world = World::new();
    let instance = world.instance("one", "shop", "10.0.0.1", 80);
    world.settle();
    world.delete(&instance);
    world.settle();
    assert_eq!(world.resources[&key("shop")].labels[DELETION_GRACE], "2026-01-01T00:00:00Z");
    assert_eq!(world.index.wake_at(), Some(world.now + TimeDelta::hours(1)));
    world.now += TimeDelta::minutes(59);
    world.settle();
    assert!(world.resources.contains_key(&key("shop")));
    world.now += TimeDelta::minutes(1);
    world.settle();
    assert!(!world.resources.contains_key(&key("shop")));
}

#[test]
fn an_instance_that_returns_saves_it_with_its_address() {
    let mut world = World::new();
    let instance = world.instance("one", "shop", "10.0.0.1", 80);
    world.settle();
    let vip = world.service_view(&key("shop")).vip;
    world.delete(&instance);
    world.settle();
    world.now += TimeDelta::minutes(30);
    world.instance("two", "shop", "10.0.0.2", 80);
    world.settle();
    assert!(!world.resources[&key("shop")].labels.contains_key(DELETION_GRACE));
    assert_eq!(world.service_view(&key("shop")).vip, vip);
}

#[test]
fn labels_that_an_operator_added_stay() {
    let mut world = World::new();
    world.instance("one", "shop", "10.0.0.1", 80);
    world.settle();
    let mut labels = world.resources[&key("shop")].labels.clone();
    labels.insert("team".to_owned(), "x".to_owned());
    let stored = world.resources[&key("shop")].spec.clone();
    world.write(&key("shop"), labels, stored);
    world.instance("one", "shop", "10.0.0.1", 81);
    world.settle();
    assert_eq!(ports(&world, "shop"), [81]);
    assert_eq!(world.resources[&key("shop")].labels["team"], "x");
}

#[test]
fn a_lost_write_is_planned_again() {
    let mut world = World::new();
    world.instance("one", "shop", "10.0.0.1", 80);
    let first = world.index.plan(world.now);
    assert_eq!(world.index.plan(world.now), first);
    assert!(!first.is_empty());
    world.settle();
    assert_eq!(world.index.plan(world.now), []);
}

#[test]
fn a_plan_writes_nothing_of_what_it_deletes() {
    let mut world = World::new();
    let instance = world.instance("one", "shop", "10.0.0.1", 80);
    world.settle();
    world.delete(&instance);
    world.settle();
    world.identity("all", &["a"]);
    world.now += TimeDelta::hours(1);
    let plan = world.index.plan(world.now);
    let of_service: Vec<_> = plan.iter().filter(|planned| *planned.key() == key("shop")).collect();
    assert!(matches!(of_service[..], [atoll_mesh::Planned::Delete { .. }]), "{plan:?}");
    world.settle();
}
