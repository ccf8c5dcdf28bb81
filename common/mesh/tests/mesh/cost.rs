//! What a change costs in a large mesh: printed, not asserted (`cargo test -p atoll-mesh --release cost -- --nocapture`).

use std::time::{Duration, Instant};

use atoll_policy::ServiceFacts;
use serde_json::json;

use crate::world::{GLOBAL, World, zone};
use atoll_model::Kind;

const SERVICES: usize = 1_000;
const POLICIES: usize = 100;
const PROXIES: usize = 100;
const ROUNDS: u32 = 50;

fn timeout(service: usize, seconds: u32) -> serde_json::Value {
    json!({"to": [{
        "targetRef": {"kind": "MeshService", "labels": {"kuma.io/display-name": format!("s{service}")}},
        "default": {"connectionTimeout": format!("{seconds}s")},
    }]})
}

fn large() -> World {
    let mut world = World::new();
    world.identity("all", &["a", "b"]);
    world.generator("corp", GLOBAL, json!({}), "{{ .DisplayName }}.{{ .Zone }}.mesh.acme.corp");
    world.address("in", zone("b"), "203.0.113.1", 10001);
    for service in 0..SERVICES {
        let owner = if service % 2 == 0 { zone("a") } else { zone("b") };
        world.service(&format!("s{service}"), owner, 80);
    }
    for policy in 0..POLICIES {
        world.put(Kind::MeshTimeout, "default", &format!("t{policy}"), GLOBAL, &[], timeout(policy * 10, 1));
    }
    for proxy in 0..PROXIES {
        world.instance(&format!("p{proxy}"), &format!("s{}", proxy * 2), &format!("10.0.0.{proxy}"), 80);
    }
    world
}

/// Mean time of what `step` measures.
fn mean(mut step: impl FnMut(u32) -> Duration) -> Duration {
    (0..ROUNDS).map(&mut step).sum::<Duration>() / ROUNDS
}

#[test]
fn of_one_change() {
    let mut world = large();
    let start = Instant::now();
    world.snapshot();
    println!("first snapshot of {SERVICES} services, {POLICIES} policies, {PROXIES} proxies: {:?}", start.elapsed());
    world.settle();
    let mut selected = Duration::ZERO;
    let policy = mean(|round| {
        let start = Instant::now();
        world.put(Kind::MeshTimeout, "default", "t5", GLOBAL, &[], timeout(50, round + 2));
        let snapshot = world.snapshot();
        let elapsed = start.elapsed();
        let start = Instant::now();
        for proxy in snapshot.dataplanes.values() {
            let policies = snapshot.policies.for_proxy(&proxy.labels, proxy.key.owner);
            policies.permissions("80");
        }
        let proxy = snapshot.dataplanes.values().next().unwrap();
        let policies = snapshot.policies.for_proxy(&proxy.labels, proxy.key.owner);
        for service in snapshot.services.values() {
            let facts = ServiceFacts { kind: service.key.kind, labels: &service.labels, section: "80", port: 80 };
            policies.timeouts_to(&facts);
        }
        selected += start.elapsed();
        elapsed
    });
    println!(
        "a policy changes: {policy:?} to the snapshot, {:?} for all selections and every service's timeouts",
        selected / ROUNDS
    );
    let endpoint = mean(|round| {
        let start = Instant::now();
        world.instance("p7", "s14", &format!("10.1.0.{round}"), 80);
        world.snapshot();
        start.elapsed()
    });
    println!("an endpoint changes: {endpoint:?} to the snapshot");
    let ingress = mean(|round| {
        let start = Instant::now();
        world.address("in", zone("b"), &format!("203.0.113.{round}"), 10001);
        world.snapshot();
        start.elapsed()
    });
    println!("an ingress changes ({} services): {ingress:?} to the snapshot", SERVICES / 2);
    let idle = mean(|_| {
        let start = Instant::now();
        world.index.plan(world.now);
        start.elapsed()
    });
    println!("a plan of nothing: {idle:?}");
}
