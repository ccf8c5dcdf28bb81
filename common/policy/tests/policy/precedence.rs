//! Who overrides whom.

use std::sync::Arc;

use atoll_model::{Kind, Owner};
use atoll_policy::Policy;
use serde_json::json;

use crate::make::{connect, mesh, policy, service, to, zone};

/// The winner's value, whatever the order in which the policies came.
#[track_caller]
fn check(policies: [Arc<Policy>; 2], expected: i64) {
    let destination = [("kuma.io/display-name", "api")];
    let [a, b] = policies;
    assert_eq!(connect(&[a.clone(), b.clone()], &destination), Some(expected));
    assert_eq!(connect(&[b, a], &destination), Some(expected));
}

fn of_zone(name: &str, seconds: u32) -> Arc<Policy> {
    let conf = json!({"connectionTimeout": format!("{seconds}s")});
    policy(Kind::MeshTimeout, name, zone(1), json!({"to": [{"targetRef": mesh(), "default": conf}]}))
}

#[test]
fn a_service_above_the_mesh_and_a_section_above_the_service() {
    check([to("z", mesh(), service("api"), 1), to("a", mesh(), mesh(), 2)], 1);
    let mut section = service("api");
    section["sectionName"] = json!("http");
    check([to("z", mesh(), section.clone(), 1), to("a", mesh(), service("api"), 2)], 1);
    section["sectionName"] = json!("80");
    check([to("z", mesh(), section.clone(), 1), to("a", mesh(), service("api"), 2)], 1);
    section["sectionName"] = json!("grpc");
    check([to("z", mesh(), section, 1), to("a", mesh(), service("api"), 2)], 2);
}

#[test]
fn the_proxy_counts_before_the_destination() {
    let web = json!({"kind": "Dataplane", "labels": {"app": "web"}});
    check([to("z", web, mesh(), 1), to("a", mesh(), service("api"), 2)], 1);
}

#[test]
fn a_zone_above_global() {
    check([of_zone("z", 1), to("a", mesh(), mesh(), 2)], 1);
    check([of_zone("z", 1), to("a", mesh(), service("api"), 2)], 1);
}

#[test]
fn the_smaller_name_wins() {
    check([to("aaa", mesh(), mesh(), 1), to("bbb", mesh(), mesh(), 2)], 1);
}

#[test]
fn inside_a_policy_the_later_entry_wins() {
    let entry = |seconds: u32| json!({"targetRef": mesh(), "default": {"connectionTimeout": format!("{seconds}s")}});
    let policy = policy(Kind::MeshTimeout, "t", Owner::Global, json!({"to": [entry(1), entry(2)]}));
    assert_eq!(connect(&[policy], &[]), Some(2));
}
