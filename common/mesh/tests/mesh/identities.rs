//! Who proxies are, and whom they trust.

use atoll_model::{Kind, ResourceKey, spiffe::TrustDomain};
use serde_json::{Value, json};

use crate::world::{GLOBAL, World, zone};

fn ids(world: &mut World, service: &ResourceKey) -> Vec<String> {
    world.service_view(service).identities.iter().map(ToString::to_string).collect()
}

fn put_identity(world: &mut World, name: &str, selector: Value, provider: Option<&str>) -> ResourceKey {
    let mut spec = json!({"selector": {"dataplane": {"matchLabels": selector}}, "spiffeID": {"path": format!("/{name}/{{{{ .Workload }}}}")}});
    if let Some(provider) = provider {
        spec["provider"] = json!({"type": provider, "bundled": {"autogenerate": {"enabled": true}}});
    }
    world.put(Kind::MeshIdentity, "default", name, GLOBAL, &[], spec)
}

#[test]
fn the_most_labels_win_then_the_name() {
    let mut world = World::new();
    world.instance("one", "api", "10.0.0.1", 80);
    assert_eq!(world.proxy("one").identity, None);
    put_identity(&mut world, "general-b", json!({}), Some("Bundled"));
    put_identity(&mut world, "general-a", json!({}), Some("Bundled"));
    let identity = world.proxy("one").identity.clone().unwrap();
    assert_eq!(identity.spiffe_id.to_string(), "spiffe://default.a.mesh.local/general-a/api");
    assert_eq!(identity.secret_name, "kri_mid_default___general-a_");
    let special = put_identity(&mut world, "special", json!({"kuma.io/workload": "api"}), Some("Bundled"));
    assert_eq!(world.proxy("one").identity.clone().unwrap().identity, special);
}

#[test]
fn a_service_tells_every_id_that_its_instances_have_or_may_get() {
    let mut world = World::new();
    let service = world.service("api", zone("a"), 80);
    world.instance("one", "api", "10.0.0.1", 80);
    put_identity(&mut world, "now", json!({"kuma.io/workload": "api"}), Some("Bundled"));
    put_identity(&mut world, "next", json!({}), None);
    assert_eq!(ids(&mut world, &service), ["spiffe://default.a.mesh.local/next/api", "spiffe://default.a.mesh.local/now/api"]);
    world.settle();
    let stored: Value = serde_json::from_slice(&world.resources[&service].document()).unwrap();
    assert_eq!(stored["identities"][1], json!({"type": "SpiffeID", "value": "spiffe://default.a.mesh.local/now/api"}));
    assert_eq!(stored["state"], "Available");
}

#[test]
fn the_ids_of_another_zones_service_are_what_it_says() {
    let mut world = World::new();
    let identities = json!([{"type": "SpiffeID", "value": "spiffe://b/x"}, {"type": "SpiffeID", "value": "nonsense"}]);
    let spec = json!({"ports": [{"port": 80}], "identities": identities, "state": "Available"});
    let service = world.put(Kind::MeshService, "default", "api", zone("b"), &[], spec);
    assert_eq!(ids(&mut world, &service), ["spiffe://b/x"]);
    assert!(world.service_view(&service).available);
}

#[test]
fn a_proxy_without_workload_is_told_why_it_has_no_identity() {
    let mut world = World::new();
    let spec = json!({"networking": {"address": "10.0.0.1", "inbound": [{"port": 80}]}});
    let dataplane = world.put(Kind::Dataplane, "default", "plain", zone("a"), &[], spec);
    world.identity("all", &["a"]);
    assert_eq!(world.proxy("plain").identity, None);
    let (reason, message) = world.condition(&dataplane).unwrap();
    assert_eq!(reason, "TemplateError");
    assert!(message.contains("all") && message.contains("Workload"), "{message}");
    world.delete(&ResourceKey::new(Kind::MeshIdentity, "default", "all", GLOBAL));
    assert_eq!(world.condition(&dataplane), None);
}

#[test]
fn a_recorded_trust_domain_stands_above_the_template() {
    let mut world = World::new();
    world.instance("one", "api", "10.0.0.1", 80);
    let provider = json!({"type": "Bundled", "bundled": {"autogenerate": {"enabled": true}}});
    let domains = json!({crate::world::uid("a").to_string(): "old.name"});
    let spec = json!({"selector": {"dataplane": {}}, "provider": provider, "trustDomains": domains});
    world.put(Kind::MeshIdentity, "default", "all", GLOBAL, &[], spec);
    assert_eq!(world.proxy("one").identity.clone().unwrap().spiffe_id.trust_domain.as_str(), "old.name");
}

#[test]
fn identities_of_other_zones_hold_nowhere_else() {
    let mut world = World::new();
    world.instance("one", "api", "10.0.0.1", 80);
    let spec = json!({"selector": {"dataplane": {}}, "provider": {"type": "Bundled"}});
    world.put(Kind::MeshIdentity, "default", "theirs", zone("b"), &[], spec);
    assert_eq!(world.proxy("one").identity, None);
}

#[test]
fn trust_of_another_zone_is_taken_for_what_is_recorded() {
    let mut world = World::new();
    world.trust("all", zone("a"), "default.a.mesh.local", "A");
    world.trust("hand", GLOBAL, "elsewhere", "H");
    let theirs = world.trust("all", zone("b"), "default.b.mesh.local", "B");
    let domains =
        |world: &mut World| -> Vec<String> { world.snapshot().trust.bundles().keys().map(ToString::to_string).collect() };
    assert_eq!(domains(&mut world), ["default.a.mesh.local", "elsewhere"]);
    assert_eq!(world.condition(&theirs).unwrap().0, "Refused");
    world.identity("all", &["a", "b"]);
    assert_eq!(domains(&mut world), ["default.a.mesh.local", "default.b.mesh.local", "elsewhere"]);
    assert_eq!(world.condition(&theirs), None);
    world.trust("all", zone("b"), "default.a.mesh.local", "EVIL");
    assert_eq!(domains(&mut world), ["default.a.mesh.local", "elsewhere"]);
    let domain: TrustDomain = "default.a.mesh.local".parse().unwrap();
    assert_eq!(world.snapshot().trust.bundles()[&domain], ["A\n".to_owned()].into());
}

#[test]
fn cas_of_one_domain_are_joined() {
    let mut world = World::new();
    world.trust("one", GLOBAL, "d", "X");
    world.trust("two", GLOBAL, "d", " X \n");
    world.trust("three", GLOBAL, "d", "Y");
    let domain: TrustDomain = "d".parse().unwrap();
    assert_eq!(world.snapshot().trust.bundles()[&domain], ["X\n".to_owned(), "Y\n".to_owned()].into());
}
