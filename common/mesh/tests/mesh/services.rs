//! Endpoints, state and readiness of services.

use atoll_model::{Kind, ResourceKey};
use serde_json::json;

use crate::world::{GLOBAL, World, endpoints, zone};

#[test]
fn an_own_service_is_served_by_the_ready_inbounds_of_what_it_selects() {
    let mut world = World::new();
    let service = world.service("api", zone("a"), 8443);
    world.instance("api-2", "api", "10.0.0.2", 8443);
    world.instance("api-1", "api", "10.0.0.1", 8443);
    world.instance("other", "other", "10.0.0.9", 8443);
    let spec = json!({"networking": {"address": "10.0.0.3", "inbound": [{"port": 8443, "state": "NotReady"}]}});
    world.put(Kind::Dataplane, "default", "api-3", zone("a"), &[("kuma.io/workload", "api")], spec);
    let view = world.service_view(&service);
    assert_eq!(endpoints(&view), ["10.0.0.1:8443 in a p0", "10.0.0.2:8443 in a p0"]);
    let proxies = view.proxies.unwrap();
    assert_eq!((view.available, proxies.total, proxies.healthy), (true, 3, 2));
    assert_eq!(view.ports[0].sni.as_deref(), Some("sni.msvc.default.a.api.8443"));
}

#[test]
fn an_instance_that_stops_being_ready_is_taken_away() {
    let mut world = World::new();
    let service = world.service("api", zone("a"), 80);
    world.instance("one", "api", "10.0.0.1", 80);
    assert!(world.service_view(&service).available);
    let spec = json!({"networking": {"address": "10.0.0.1", "inbound": [{"port": 80, "health": {"ready": false}}]}});
    let dataplane = world.put(Kind::Dataplane, "default", "one", zone("a"), &[("kuma.io/workload", "api")], spec);
    assert_eq!(endpoints(&world.service_view(&service)), Vec::<String>::new());
    assert!(!world.service_view(&service).available);
    world.delete(&dataplane);
    assert_eq!(world.service_view(&service).proxies.unwrap().total, 0);
}

#[test]
fn an_endpoint_bears_the_labels_of_its_proxy() {
    let mut world = World::new();
    let service = world.service("api", zone("a"), 80);
    let spec = json!({"networking": {"address": "10.0.0.1", "inbound": [{"port": 80}]}});
    for node in ["n1", "n2"] {
        let labels = [("kuma.io/workload", "api"), ("node", node)];
        world.put(Kind::Dataplane, "default", "one", zone("a"), &labels, spec.clone());
        let view = world.service_view(&service);
        assert_eq!(view.ports[0].endpoints.0[0].labels.get("node").map(String::as_str), Some(node));
    }
}

#[test]
fn targets_may_be_named_and_inbounds_have_addresses_of_their_own() {
    let mut world = World::new();
    let inbound = json!({"port": 9000, "name": "main", "address": "10.1.1.1"});
    let spec = json!({"networking": {"address": "10.0.0.1", "inbound": [inbound, {"port": 9001}]}});
    world.put(Kind::Dataplane, "default", "one", zone("a"), &[], spec);
    let ports = json!([{"port": 80, "targetPort": "main", "name": "web", "appProtocol": "HTTP"}, {"port": 9001}]);
    let spec = json!({"selector": {"dataplaneRef": {"name": "one"}}, "ports": ports});
    let service = world.put(Kind::MeshService, "default", "named", zone("a"), &[], spec);
    let view = world.service_view(&service);
    assert_eq!(endpoints(&view), ["10.1.1.1:9000 in a p0", "10.0.0.1:9001 in a p0"]);
    assert_eq!(view.ports[0].protocol, atoll_mesh::snapshot::Protocol::Http);
}

/// Zone b with an ingress, a service, and an identity in the mesh.
fn with_foreign_service() -> (World, ResourceKey) {
    let mut world = World::new();
    let service = world.service("api", zone("b"), 8443);
    world.address("in", zone("b"), "203.0.113.1", 10001);
    world.identity("all", &["a", "b"]);
    (world, service)
}

#[test]
fn a_service_of_another_zone_is_reached_by_its_ingress() {
    let (mut world, service) = with_foreign_service();
    world.address("in2", zone("b"), "203.0.113.2", 10001);
    world.address("same", zone("b"), "203.0.113.2", 10001);
    world.address("other", zone("c"), "203.0.113.9", 10001);
    let view = world.service_view(&service);
    assert_eq!(endpoints(&view), ["203.0.113.1:10001 in b p1", "203.0.113.2:10001 in b p1"]);
    assert!(view.tls_ready && !view.local && view.proxies.is_none());
    assert_eq!(view.ports[0].sni.as_deref(), Some("sni.msvc.default.b.api.8443"));
}

#[test]
fn without_identity_or_with_a_disabled_zone_nothing_is_reached() {
    let (mut world, service) = with_foreign_service();
    assert_eq!(endpoints(&world.service_view(&service)).len(), 1);
    world.zone("b", false);
    assert_eq!(endpoints(&world.service_view(&service)).len(), 0);
    world.zone("b", true);
    assert_eq!(endpoints(&world.service_view(&service)).len(), 1);
    world.delete(&ResourceKey::new(Kind::MeshIdentity, "default", "all", GLOBAL));
    assert_eq!(endpoints(&world.service_view(&service)).len(), 0);
}

#[test]
fn a_service_of_another_zone_that_nothing_serves_is_not_reached() {
    let (mut world, service) = with_foreign_service();
    for (state, reached) in [("Unavailable", 0), ("Available", 1)] {
        let selector = json!({"dataplaneLabels": {"matchLabels": {"kuma.io/workload": "api"}}});
        let spec = json!({"selector": selector, "ports": [{"port": 8443, "targetPort": 8443}], "state": state});
        world.put(Kind::MeshService, "default", "api", zone("b"), &[], spec);
        assert_eq!(endpoints(&world.service_view(&service)).len(), reached, "{state}");
    }
}

#[test]
fn a_service_of_an_unknown_zone_waits_for_it() {
    let (mut world, _) = with_foreign_service();
    let service = world.service("late", zone("d"), 80);
    assert!(!world.snapshot().services.contains_key(&service));
    world.zone("d", true);
    assert_eq!(world.service_view(&service).zone.as_str(), "d");
}

#[test]
fn a_host_name_is_an_endpoint_once_it_is_resolved() {
    let (mut world, service) = with_foreign_service();
    world.address("in", zone("b"), "lb.example.com", 443);
    assert_eq!(endpoints(&world.service_view(&service)), Vec::<String>::new());
    assert_eq!(world.index.hosts(), ["lb.example.com".to_owned()].into());
    world.index.resolve("lb.example.com", Some("198.51.100.7".parse().unwrap()));
    assert_eq!(endpoints(&world.service_view(&service)), ["198.51.100.7:443 in b p1"]);
}

#[test]
fn callers_use_tls_once_every_instance_has_an_identity_and_never_go_back() {
    let mut world = World::new();
    let service = world.service("api", zone("a"), 80);
    world.instance("one", "api", "10.0.0.1", 80);
    assert!(!world.service_view(&service).tls_ready, "no identity");
    world.identity("all", &["a"]);
    assert!(!world.service_view(&service).tls_ready, "nobody can judge its certificates yet");
    world.trust("all", zone("a"), "default.a.mesh.local", "PEM");
    assert!(world.service_view(&service).tls_ready);
    world.settle();
    let spec = json!({"networking": {"address": "10.0.0.2", "inbound": [{"port": 80}]}});
    world.put(Kind::Dataplane, "default", "plain", zone("a"), &[], spec);
    let selector = json!({"dataplaneLabels": {"matchLabels": {}}});
    let spec = json!({"selector": selector, "ports": [{"port": 80, "targetPort": 80}]});
    world.put(Kind::MeshService, "default", "api", zone("a"), &[], spec);
    assert_eq!(endpoints(&world.service_view(&service)).len(), 2, "one of them has no identity");
    assert!(world.service_view(&service).tls_ready);
    world.delete(&ResourceKey::new(Kind::MeshIdentity, "default", "all", GLOBAL));
    assert!(!world.service_view(&service).tls_ready);
    world.settle();
    world.identity("all", &["a"]);
    assert!(!world.service_view(&service).tls_ready, "without identities it starts anew");
}

#[test]
fn what_cannot_be_read_is_reported_and_left_out() {
    let mut world = World::new();
    let good = world.service("good", zone("a"), 80);
    let bad = world.put(Kind::MeshService, "default", "bad", zone("a"), &[], json!({"ports": "x"}));
    let dataplane = world.put(Kind::Dataplane, "default", "bad", zone("a"), &[], json!({"networking": 1}));
    let snapshot = world.snapshot();
    assert_eq!(snapshot.services.keys().collect::<Vec<_>>(), [&good]);
    for key in [&bad, &dataplane] {
        assert_eq!(snapshot.conditions[key].reason, "Invalid", "{key}");
    }
    world.service("bad", zone("a"), 80);
    assert_eq!(world.condition(&bad), None);
}

#[test]
fn a_status_tells_people_what_the_snapshot_knows() {
    let mut world = World::new();
    let service = world.service("api", zone("a"), 80);
    world.generator("local", zone("a"), json!({"kuma.io/origin": "zone"}), "{{ .DisplayName }}.mesh.local");
    world.instance("one", "api", "10.0.0.1", 80);
    let snapshot = world.snapshot();
    let vip = snapshot.services[&service].vip;
    let reference = json!({"coreName": "local"});
    let expected = json!({
        "vips": [{"ip": vip}],
        "addresses": [{"hostname": "api.mesh.local", "origin": "HostnameGenerator", "hostnameGeneratorRef": reference}],
        "hostnameGenerators": [{
            "hostnameGeneratorRef": reference,
            "conditions": [{"type": "Generated", "status": "True", "reason": "Generated"}],
        }],
        "tls": {"status": "NotReady"},
        "dataplaneProxies": {"connected": 1, "healthy": 1, "total": 1},
    });
    assert_eq!(atoll_mesh::status(&snapshot, &service), Some(expected));
    assert_eq!(atoll_mesh::status(&snapshot, &ResourceKey::new(Kind::MeshService, "default", "x", GLOBAL)), None);
}
