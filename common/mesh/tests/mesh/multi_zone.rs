//! One name for the services of several zones.

use atoll_model::{Kind, ResourceKey};
use serde_json::json;

use crate::world::{GLOBAL, World, endpoints, zone};

/// `api` in the zones a and b, and one name for both.
fn with_both() -> (World, ResourceKey) {
    let mut world = World::new();
    world.identity("all", &["a", "b"]);
    world.service("api", zone("a"), 8443);
    world.instance("api-1", "api", "10.0.0.1", 8443);
    world.service("api", zone("b"), 8443);
    world.address("in", zone("b"), "203.0.113.1", 10001);
    let joined = world.multi_zone("api", json!({"kuma.io/display-name": "api"}), json!([{"port": 8443}]));
    (world, joined)
}

#[test]
fn it_is_served_by_this_zone_first_and_by_others_after() {
    let (mut world, joined) = with_both();
    let view = world.service_view(&joined);
    assert_eq!(endpoints(&view), ["10.0.0.1:8443 in a p0", "203.0.113.1:10001 in b p1"]);
    assert_eq!(view.ports[0].sni.as_deref(), Some("sni.mzsvc.default.api.8443"));
    assert!(view.tls_ready && view.available && !view.local);
    world.address("in", zone("b"), "203.0.113.2", 10001);
    let dataplane = world.instance("api-1", "api", "10.0.0.7", 8443);
    assert_eq!(endpoints(&world.service_view(&joined)), ["10.0.0.7:8443 in a p0", "203.0.113.2:10001 in b p1"]);
    world.delete(&dataplane);
    assert_eq!(endpoints(&world.service_view(&joined)), ["203.0.113.2:10001 in b p1"]);
    world.zone("b", false);
    assert_eq!(endpoints(&world.service_view(&joined)), Vec::<String>::new());
}

#[test]
fn a_zone_that_serves_nothing_is_passed_over() {
    let (mut world, joined) = with_both();
    let spec = json!({"ports": [{"port": 8443}], "state": "Unavailable"});
    world.put(Kind::MeshService, "default", "api", zone("b"), &[], spec);
    assert_eq!(endpoints(&world.service_view(&joined)), ["10.0.0.1:8443 in a p0"]);
}

#[test]
fn ports_are_found_by_name_or_number() {
    let (mut world, _) = with_both();
    let ports = json!([{"port": 443, "name": "8443"}, {"port": 9000}]);
    let joined = world.multi_zone("other", json!({"kuma.io/display-name": "api"}), ports);
    let view = world.service_view(&joined);
    assert_eq!((view.ports[0].endpoints.0.len(), view.ports[1].endpoints.0.len()), (2, 0));
    assert_eq!(view.ports[0].section, "8443");
}

#[test]
fn it_follows_the_labels_of_services() {
    let mut world = World::new();
    let joined = world.multi_zone("shop", json!({"team": "x"}), json!([{"port": 80}]));
    assert_eq!(world.service_view(&joined).members.as_deref(), Some(&[][..]));
    let service = world.service("web", zone("a"), 80);
    let spec = world.resources[&service].spec.clone();
    for (team, members) in [("x", 1), ("y", 0), ("x", 1)] {
        world.write(&service, crate::world::labels(&[("team", team)]), spec.clone());
        assert_eq!(world.service_view(&joined).members.as_ref().map(Vec::len), Some(members), "{team}");
    }
    world.delete(&service);
    assert_eq!(world.service_view(&joined).members.as_ref().map(Vec::len), Some(0));
    let none = world.multi_zone("none", json!({}), json!([{"port": 80}]));
    world.write(&service, crate::world::labels(&[]), spec);
    assert_eq!(world.service_view(&none).members.as_ref().map(Vec::len), Some(0), "no labels are no wish for all");
}

#[test]
fn whoever_serves_it_may_answer() {
    let (mut world, joined) = with_both();
    let ids = json!([{"type": "SpiffeID", "value": "spiffe://default.b.mesh.local/workload/api"}]);
    let spec = json!({"ports": [{"port": 8443}], "state": "Available", "identities": ids});
    world.put(Kind::MeshService, "default", "api", zone("b"), &[], spec);
    let identities: Vec<_> = world.service_view(&joined).identities.iter().map(ToString::to_string).collect();
    let own = world.service_view(&ResourceKey::new(Kind::MeshService, "default", "api", zone("a"))).identities[0].to_string();
    assert_eq!(identities, [own, "spiffe://default.b.mesh.local/workload/api".to_owned()]);
}

#[test]
fn its_name_and_address_come_with_it_and_stay() {
    let (mut world, joined) = with_both();
    let selector = json!({"meshMultiZoneService": {"matchLabels": {"kuma.io/origin": "global"}}});
    let spec = json!({"selector": selector, "template": "{{ .DisplayName }}.mzsvc.mesh.local"});
    world.put(Kind::HostnameGenerator, "", "synced", GLOBAL, &[], spec);
    let snapshot = world.snapshot();
    let target = &snapshot.names["api.mzsvc.mesh.local"];
    assert_eq!(target.service, joined);
    assert!(target.vip.to_string().starts_with("243."), "{}", target.vip);
    world.settle();
    let row = world.keys(Kind::VipAllocation).into_iter().find(|row| row.name.starts_with("mzsvc.api")).unwrap();
    assert!(String::from_utf8_lossy(&world.resources[&row].spec).contains(&target.vip.to_string()));
    world.delete(&joined);
    assert!(!world.snapshot().names.contains_key("api.mzsvc.mesh.local"));
    world.settle();
    assert!(world.keys(Kind::VipAllocation).contains(&row), "nobody gets its address while resolvers remember it");
}

#[test]
fn its_status_says_what_it_joins() {
    let (mut world, joined) = with_both();
    let snapshot = world.snapshot();
    let status = atoll_mesh::status(&snapshot, &joined).unwrap();
    let member = |zone: &str| json!({"name": "api", "namespace": "", "zone": zone, "mesh": "default"});
    assert_eq!(status["meshServices"], json!([member("a"), member("b")]));
    assert_eq!(status["conditions"][0]["reason"], "MatchesFound");
    assert_eq!(status["vips"], json!([{"ip": snapshot.services[&joined].vip}]));
    let empty = world.multi_zone("none", json!({"team": "nobody"}), json!([{"port": 80}]));
    let status = atoll_mesh::status(&world.snapshot(), &empty).unwrap();
    assert_eq!((&status["meshServices"], &status["conditions"][0]["status"]), (&json!([]), &json!("False")));
}

#[test]
fn what_does_not_change_a_member_leaves_it_alone() {
    let (mut world, joined) = with_both();
    let before = world.service_view(&joined);
    world.generator("corp", GLOBAL, json!({}), "{{ .DisplayName }}.{{ .Zone }}.mesh.acme.corp");
    world.service("other", zone("b"), 80);
    assert!(std::sync::Arc::ptr_eq(&before, &world.service_view(&joined)));
}
