//! What the MeshLoadBalancingStrategies of a proxy say together.

use atoll_model::{Kind, Owner, policies::mesh_load_balancing_strategy::LoadBalancerKind};
use atoll_policy::{PolicySet, ServiceFacts};
use serde_json::{Value, json};

use crate::make::{labels, mesh, policy, service, to, zone};

fn facts<'a>(kind: Kind, labels: &'a atoll_model::Labels) -> ServiceFacts<'a> {
    ServiceFacts { kind, labels, section: "80", port: 80 }
}

fn strategy(name: &str, entries: Value) -> std::sync::Arc<atoll_policy::Policy> {
    policy(Kind::MeshLoadBalancingStrategy, name, Owner::Global, json!({ "to": entries }))
}

#[test]
fn fields_of_less_specific_entries_stay_and_lists_are_replaced() {
    let node = json!({"localZone": {"affinityTags": [{"key": "node"}, {"key": "rack"}]}});
    let all = json!([{"targetRef": mesh(), "default": {"loadBalancer": {"type": "Random"}, "localityAwareness": node}}]);
    let zone_only = json!({"localityAwareness": {"localZone": {"affinityTags": [{"key": "az"}]}}});
    let one = json!([{"targetRef": service("api"), "default": zone_only}]);
    let timeouts = to("t", mesh(), service("api"), 7);
    let selected = PolicySet::new([strategy("all", all), strategy("one", one), timeouts]).for_proxy(&labels(&[]), zone(1));

    let (api, other) = (labels(&[("kuma.io/display-name", "api")]), labels(&[("kuma.io/display-name", "web")]));
    let keys = |labels| -> Vec<String> {
        let strategy = selected.strategy_to(&facts(Kind::MeshService, labels));
        assert_eq!(strategy.load_balancer.as_ref().map(|balancer| balancer.kind), Some(LoadBalancerKind::Random));
        let local = strategy.locality_awareness.clone().and_then(|locality| locality.local_zone).unwrap_or_default();
        local.affinity_tags.into_iter().map(|tag| tag.key).collect()
    };
    assert_eq!((keys(&api), keys(&other)), (vec!["az".to_owned()], vec!["node".to_owned(), "rack".to_owned()]));
    assert_eq!(selected.affinity_keys(), ["az", "node", "rack"]);
    assert!(selected.timeouts_to(&facts(Kind::MeshService, &api)).connection_timeout.is_some(), "kinds do not mix");
}

#[test]
fn an_entry_is_for_its_kind_of_destination() {
    let target = |kind: &str| json!({"kind": kind, "labels": {"kuma.io/display-name": "api"}});
    let random = |kind: &str| json!([{"targetRef": target(kind), "default": {"loadBalancer": {"type": "Random"}}}]);
    let api = labels(&[("kuma.io/display-name", "api")]);
    let holds = |target: &str, kind: Kind| {
        let selected = PolicySet::new([strategy("s", random(target))]).for_proxy(&labels(&[]), zone(1));
        selected.strategy_to(&facts(kind, &api)).load_balancer.is_some()
    };
    assert!(holds("MeshService", Kind::MeshService) && holds("MeshExternalService", Kind::MeshExternalService));
    assert!(!holds("MeshService", Kind::MeshExternalService) && !holds("MeshMultiZoneService", Kind::MeshService));
}

#[test]
fn a_changed_strategy_touches_its_destinations_and_no_inbound() {
    let of = |kind: &str| {
        let entries = json!([{"targetRef": service("api"), "default": {"loadBalancer": {"type": kind}}}]);
        PolicySet::new([strategy("s", entries)]).for_proxy(&labels(&[]), zone(1))
    };
    let changed = of("Random").changed_since(&of("RoundRobin"));
    let (api, other) = (labels(&[("kuma.io/display-name", "api")]), labels(&[("kuma.io/display-name", "web")]));
    assert!(changed.touches(&facts(Kind::MeshService, &api)) && !changed.touches(&facts(Kind::MeshService, &other)));
    assert!(!changed.touches_inbounds());
}
