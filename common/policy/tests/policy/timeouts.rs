//! What the policies of a proxy say together.

use atoll_model::{Kind, Owner, duration::GoDuration, policies::mesh_tls::Mode};
use atoll_policy::{PolicySet, ServiceFacts};
use serde_json::{Value, json};

use crate::make::{connect, labels, mesh, policy, service, to, zone};

#[test]
fn labels_find_destinations() {
    let zone_b = json!({"kind": "MeshService", "labels": {"kuma.io/display-name": "api", "kuma.io/zone": "b"}});
    let policies = [to("t", mesh(), zone_b, 7)];
    assert_eq!(connect(&policies, &[("kuma.io/display-name", "api"), ("kuma.io/zone", "b")]), Some(7));
    assert_eq!(connect(&policies, &[("kuma.io/display-name", "api"), ("kuma.io/zone", "a")]), None);
    assert_eq!(connect(&[], &[]), None);
    let route = json!({"kind": "MeshHTTPRoute", "labels": {"kuma.io/display-name": "api"}});
    assert_eq!(connect(&[to("t", mesh(), route, 7)], &[("kuma.io/display-name", "api")]), None);
}

#[test]
fn fields_of_less_specific_entries_stay_unless_overridden() {
    let spec = json!({"to": [
        {"targetRef": mesh(), "default": {"idleTimeout": "1h", "http": {"requestTimeout": "5s", "streamIdleTimeout": "6s"}}},
        {"targetRef": service("api"), "default": {"connectionTimeout": "2s", "http": {"requestTimeout": "7s"}}},
    ]});
    let set = PolicySet::new([policy(Kind::MeshTimeout, "t", Owner::Global, spec)]);
    let destination = labels(&[("kuma.io/display-name", "api")]);
    let facts = ServiceFacts { kind: Kind::MeshService, labels: &destination, section: "80", port: 80 };
    let timeouts = set.for_proxy(&labels(&[]), zone(1)).timeouts_to(&facts);
    let merged = json!({
        "connectionTimeout": "2s", "idleTimeout": "1h0m0s",
        "http": {"requestTimeout": "7s", "streamIdleTimeout": "6s"},
    });
    assert_eq!(serde_json::to_value(&*timeouts).unwrap(), merged);
}

#[test]
fn inbound_rules_stand_by_how_specific_they_are() {
    let spiffe = |kind: &str| json!({"spiffeID": {"type": kind, "value": "spiffe://a/b"}});
    let sni = json!({"sni": {"type": "Exact", "value": "x.y"}});
    let mut prefix_and_sni = spiffe("Prefix");
    prefix_and_sni["sni"] = sni["sni"].clone();
    let rule = |matches: Value, seconds: u32| json!({"matches": matches, "default": {"http": {"requestTimeout": format!("{seconds}s")}}});
    let rules = json!({"rules": [
        rule(json!([]), 1),
        rule(json!([sni, spiffe("Prefix")]), 2),
        rule(json!([spiffe("Exact"), prefix_and_sni]), 3),
    ]});
    let set = PolicySet::new([policy(Kind::MeshTimeout, "t", Owner::Global, rules)]);
    let selected = set.for_proxy(&labels(&[]), zone(1));
    let order: Vec<_> = selected.inbound_timeout_rules("80").iter().map(|rule| rule.index).collect();
    assert_eq!(order, [2, 2, 1, 1, 0], "exact, prefix with SNI, prefix, SNI, all");
    let for_all = selected.inbound_timeouts("80").http.clone().unwrap();
    assert_eq!(for_all.request_timeout, Some(GoDuration::from_secs(1)));
}

#[test]
fn tls_is_strict_unless_a_policy_says_otherwise() {
    let mode = |name: &str, target: Value, mode: &str| {
        policy(Kind::MeshTls, name, Owner::Global, json!({"targetRef": target, "rules": [{"default": {"mode": mode}}]}))
    };
    let set = PolicySet::default();
    assert_eq!(set.for_proxy(&labels(&[]), zone(1)).tls("80").mode, Some(Mode::Strict));
    let one_inbound = json!({"kind": "Dataplane", "sectionName": "80"});
    let set = set.with([mode("a", mesh(), "Strict"), mode("b", one_inbound, "Permissive")]);
    let selected = set.for_proxy(&labels(&[]), zone(1));
    assert_eq!(selected.tls("80").mode, Some(Mode::Permissive));
    assert_eq!(selected.tls("81").mode, Some(Mode::Strict));
    assert_eq!(selected.client_tls().mode, Some(Mode::Strict));
}
