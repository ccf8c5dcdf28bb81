//! Hostnames of services.

use atoll_model::{ResourceKey, condition::ConditionStatus};
use chrono::TimeDelta;
use serde_json::json;

use crate::world::{GLOBAL, World, zone};

fn hostnames(world: &mut World, service: &ResourceKey) -> Vec<String> {
    world.service_view(service).hostnames.clone()
}

/// Reasons of the generators that match a service, in their shown order.
fn reasons(world: &mut World, service: &ResourceKey) -> Vec<String> {
    world.service_view(service).generators.iter().map(|status| status.condition.reason.clone()).collect()
}

#[test]
fn origin_is_seen_from_the_zone_that_looks() {
    let mut world = World::new();
    let (own, other) = (world.service("api", zone("a"), 80), world.service("api", zone("b"), 80));
    world.generator("synced", GLOBAL, json!({"kuma.io/origin": "global"}), "{{ .DisplayName }}.svc.{{ .Zone }}.mesh.local");
    world.generator("local", zone("a"), json!({"kuma.io/origin": "zone"}), "{{ .DisplayName }}.svc.mesh.local");
    assert_eq!(hostnames(&mut world, &own), ["api.svc.mesh.local"]);
    assert_eq!(hostnames(&mut world, &other), ["api.svc.b.mesh.local"]);
    let snapshot = world.snapshot();
    for (name, service) in [("api.svc.mesh.local", &own), ("api.svc.b.mesh.local", &other)] {
        let target = &snapshot.names[name];
        assert_eq!((&target.service, Some(target.vip)), (service, snapshot.services[service].vip));
    }
}

#[test]
fn a_cross_zone_template_names_services_of_every_zone() {
    let mut world = World::new();
    world.generator("corp", GLOBAL, json!({}), "{{ .DisplayName }}.{{ .Zone }}.mesh.acme.corp");
    let (own, other) = (world.service("api-gateway", zone("a"), 80), world.service("api-gateway", zone("b"), 80));
    assert_eq!(hostnames(&mut world, &own), ["api-gateway.a.mesh.acme.corp"]);
    assert_eq!(hostnames(&mut world, &other), ["api-gateway.b.mesh.acme.corp"]);
    world.delete(&other);
    assert!(!world.snapshot().names.contains_key("api-gateway.b.mesh.acme.corp"));
}

#[test]
fn of_two_services_the_older_has_the_name_and_the_other_is_told() {
    let mut world = World::new();
    let older = world.service("z", zone("a"), 80);
    world.now += TimeDelta::seconds(1);
    let younger = world.service("a", zone("a"), 80);
    world.generator("one", GLOBAL, json!({}), "same.mesh.local");
    assert_eq!(hostnames(&mut world, &older), ["same.mesh.local"]);
    assert_eq!(hostnames(&mut world, &younger), Vec::<String>::new());
    assert_eq!(reasons(&mut world, &younger), ["Collision"]);
    world.delete(&older);
    assert_eq!(hostnames(&mut world, &younger), ["same.mesh.local"]);
    assert_eq!(reasons(&mut world, &younger), ["Generated"]);
}

#[test]
fn a_generator_of_the_zone_stands_before_those_of_global() {
    let mut world = World::new();
    let older = world.service("older", zone("a"), 80);
    world.now += TimeDelta::seconds(1);
    let younger = world.service("younger", zone("a"), 80);
    world.generator("aaa", GLOBAL, json!({}), "same.mesh.local");
    assert_eq!(hostnames(&mut world, &older), ["same.mesh.local"]);
    world.now += TimeDelta::seconds(1);
    world.generator("zzz", zone("a"), json!({"kuma.io/display-name": "younger"}), "same.mesh.local");
    assert_eq!(hostnames(&mut world, &younger), ["same.mesh.local"]);
    assert_eq!(hostnames(&mut world, &older), Vec::<String>::new());
    assert_eq!(reasons(&mut world, &younger), ["Generated", "Generated"], "the same service twice is no collision");
}

#[test]
fn a_template_that_fails_is_told_in_the_status() {
    let mut world = World::new();
    let service = world.service("api", zone("a"), 80);
    world.generator("labels", GLOBAL, json!({}), "{{ label \"team\" }}.local");
    let view = world.service_view(&service);
    let condition = &view.generators[0].condition;
    assert_eq!((condition.reason.as_str(), condition.status), ("TemplateError", ConditionStatus::False));
    assert!(condition.message.contains("team"), "{}", condition.message);
    let generator = world.generator("labels", GLOBAL, json!({}), "{{ .DisplayName }}.local");
    assert_eq!(hostnames(&mut world, &service), ["api.local"]);
    world.delete(&generator);
    assert_eq!(world.service_view(&service).generators, []);
}

#[test]
fn generators_of_other_zones_and_of_other_kinds_of_services_do_nothing() {
    let mut world = World::new();
    let service = world.service("api", zone("a"), 80);
    world.generator("theirs", zone("b"), json!({}), "a.local");
    let spec = json!({"selector": {"meshExternalService": {}}, "template": "b.local"});
    world.put(atoll_model::Kind::HostnameGenerator, "", "external", GLOBAL, &[], spec);
    let bad = world.put(atoll_model::Kind::HostnameGenerator, "", "bad", GLOBAL, &[], json!({"template": 1}));
    assert_eq!(world.service_view(&service).generators, []);
    assert_eq!(world.index.conditions()[&bad].reason, "Invalid");
}
