//! Random histories: an index that followed every change equals one that reads the outcome.

use std::sync::Arc;

use atoll_mesh::MeshIndex;
use atoll_model::{Change, Kind, Owner, ResourceKey};
use chrono::TimeDelta;
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};

use crate::world::{GLOBAL, World, new_index, uid, zone};

const STEPS: usize = 12_000;
/// How often the plan is executed and everything compared.
const CHECK_EVERY: usize = 8;

#[test]
fn following_equals_reading_anew() {
    for seed in 0..4 {
        run(seed, STEPS / 4);
    }
}

fn run(seed: u64, steps: usize) {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut world = World::new();
    world.put(Kind::Mesh, "", "second", GLOBAL, &[], json!({}));
    let mut log = Vec::new();
    for step in 0..steps {
        log.push(change(&mut world, &mut rng));
        if rng.random_ratio(1, 3) {
            world.index.snapshots();
        }
        if step % CHECK_EVERY == 0 {
            world.settle();
            compare(&mut world, seed, &log);
        }
        if rng.random_ratio(1, 20) {
            world.now += TimeDelta::minutes(rng.random_range(1..40));
        }
    }
}

#[track_caller]
fn compare(world: &mut World, seed: u64, log: &[String]) {
    let mut fresh: MeshIndex = new_index("a");
    for host in HOSTS {
        fresh.resolve(host.0, Some(host.1.parse().unwrap()));
    }
    for host in HOSTS {
        world.index.resolve(host.0, Some(host.1.parse().unwrap()));
    }
    let changes: Vec<_> = world.resources.values().map(|resource| Change::Put(Arc::clone(resource))).collect();
    fresh.apply(&changes);
    let tail = &log[log.len().saturating_sub(8)..];
    assert_eq!(fresh.plan(world.now), [], "seed {seed}: a fresh index plans more after {tail:#?}");
    let (followed, read) = (world.index.snapshots(), fresh.snapshots());
    assert!(followed.keys().eq(read.keys()), "seed {seed}: meshes differ after {tail:#?}");
    for (mesh, followed) in followed {
        let read = &read[&mesh];
        assert_eq!(followed.conditions, read.conditions, "seed {seed}: after {tail:#?}");
        assert_eq!(followed.services, read.services, "seed {seed}: after {tail:#?}");
        assert_eq!(followed.dataplanes, read.dataplanes, "seed {seed}: after {tail:#?}");
        assert!(followed == *read, "seed {seed}: {mesh} differs after {tail:#?}");
    }
}

const HOSTS: [(&str, &str); 2] = [("lb.example.com", "198.51.100.1"), ("db.example.com", "198.51.100.2")];
const MESHES: [&str; 2] = ["default", "second"];
const ZONES: [&str; 3] = ["a", "b", "c"];
const NAMES: [&str; 5] = ["api", "shop", "pay", "web", "db"];

/// Puts or deletes something; says what.
fn change(world: &mut World, rng: &mut StdRng) -> String {
    let kind = Kind::ALL[rng.random_range(0..Kind::ALL.len())];
    if rng.random_ratio(if kind == Kind::MeshIdentity { 6 } else { 3 }, 10) {
        let keys: Vec<_> = world.keys(kind).into_iter().collect();
        if !keys.is_empty() {
            let key = keys[rng.random_range(0..keys.len())].clone();
            world.delete(&key);
            return format!("delete {key}");
        }
    }
    let mesh = pick(rng, &MESHES);
    let name = pick(rng, &NAMES);
    let owner = if rng.random_ratio(1, 4) { GLOBAL } else { zone(pick(rng, &ZONES)) };
    let spec = if rng.random_ratio(1, 25) { json!({"networking": 1, "ports": 1, "rules": 1, "to": 1}) } else { spec(kind, rng) };
    let key = put(world, rng, kind, mesh, name, owner, spec.clone());
    format!("put {key} {spec}")
}

fn put(world: &mut World, rng: &mut StdRng, kind: Kind, mesh: &str, name: &str, owner: Owner, spec: Value) -> ResourceKey {
    let mut labels: Vec<(&str, &str)> = Vec::new();
    if rng.random_ratio(1, 2) {
        labels.push(("kuma.io/workload", pick(rng, &NAMES)));
    }
    if rng.random_ratio(1, 3) {
        labels.push(("team", pick(rng, &["x", "y"])));
    }
    if rng.random_ratio(1, 10) && matches!(kind, Kind::MeshService | Kind::MeshZoneAddress) {
        let by = if kind == Kind::MeshService { "meshservice-generator" } else { "meshzoneaddress-generator" };
        labels.push(("kuma.io/managed-by", by));
    }
    match kind {
        Kind::Mesh => world.put(kind, "", mesh, GLOBAL, &labels, spec),
        Kind::Zone => world.put(kind, "", pick(rng, &ZONES), GLOBAL, &labels, spec),
        Kind::HostnameGenerator | Kind::GlobalSecret | Kind::AccessRole | Kind::AccessRoleBinding => {
            world.put(kind, "", name, owner, &labels, spec)
        }
        Kind::Dataplane => {
            let name = format!("{name}-{}", rng.random_range(0..3));
            let owner = if rng.random_ratio(9, 10) { zone("a") } else { owner };
            world.put(kind, mesh, &name, owner, &labels, spec)
        }
        Kind::VipAllocation => {
            // An existing row gets another address, or a stray one appears.
            let rows: Vec<_> = world.keys(kind).into_iter().collect();
            if rows.is_empty() || rng.random_ratio(1, 10) {
                return world.put(kind, mesh, name, zone("a"), &labels, spec);
            }
            let row = rows[rng.random_range(0..rows.len())].clone();
            let mut moved: Value = serde_json::from_slice(&world.resources[&row].spec).unwrap();
            moved["ip"] = json!(format!("{}.0.0.{}", pick(rng, &["241", "243"]), rng.random_range(1..6)));
            world.put(kind, &row.mesh, &row.name, row.owner, &[], moved)
        }
        // Few, so that meshes with and without identities take turns.
        Kind::MeshIdentity => world.put(kind, mesh, "api", owner, &labels, spec),
        Kind::MeshService
        | Kind::MeshZoneAddress
        | Kind::MeshTrust
        | Kind::MeshTrafficPermission
        | Kind::MeshTimeout
        | Kind::MeshTls
        | Kind::MeshLoadBalancingStrategy
        | Kind::MeshPassthrough
        | Kind::MeshExternalService
        | Kind::MeshMultiZoneService
        | Kind::Workload
        | Kind::Secret => world.put(kind, mesh, name, owner, &labels, spec),
    }
}

fn spec(kind: Kind, rng: &mut StdRng) -> Value {
    match kind {
        Kind::Mesh => json!({}),
        Kind::Zone => json!({"enabled": rng.random_ratio(3, 4), "uid": uid(pick(rng, &ZONES)).to_string()}),
        Kind::Dataplane => dataplane(rng),
        Kind::MeshService => service(rng),
        Kind::MeshZoneAddress => {
            let address = pick(rng, &["203.0.113.1", "203.0.113.2", "lb.example.com", "unknown.example.com"]);
            json!({"address": address, "port": rng.random_range(1..4)})
        }
        Kind::HostnameGenerator => {
            let selector = selector(rng);
            let template = pick(
                rng,
                &[
                    "{{ .DisplayName }}.{{ .Zone }}.corp",
                    "{{ .Name }}.corp",
                    "same.corp",
                    "{{ .DisplayName }}.corp",
                    "{{ label \"team\" }}.corp",
                ],
            );
            let kind = pick(rng, &["meshService", "meshService", "meshMultiZoneService", "meshExternalService"]);
            json!({"selector": {kind: {"matchLabels": selector}}, "template": template})
        }
        Kind::MeshIdentity => identity(rng),
        Kind::MeshTrust => {
            let domain = pick(rng, &["default.a.mesh.local", "second.a.mesh.local", "default.b.mesh.local", "d", "No"]);
            json!({"trustDomain": domain, "caBundles": [{"type": "Pem", "pem": {"value": pick(rng, &["A", "B"])}}]})
        }
        Kind::MeshTimeout => {
            let target = json!({"kind": "MeshService", "labels": {"kuma.io/display-name": pick(rng, &NAMES)}});
            json!({"to": [{"targetRef": target, "default": {"connectionTimeout": format!("{}s", rng.random_range(1..4))}}]})
        }
        Kind::MeshTls => json!({"rules": [{"default": {"mode": pick(rng, &["Strict", "Permissive"])}}]}),
        Kind::MeshLoadBalancingStrategy => {
            json!({"to": [{"targetRef": {"kind": "Mesh"}, "default": {"localityAwareness": {"disabled": rng.random_bool(0.5)}}}]})
        }
        Kind::MeshPassthrough => json!({"default": {"passthroughMode": pick(rng, &["All", "None"])}}),
        Kind::MeshTrafficPermission => {
            let matched = json!({"spiffeID": {"type": "Prefix", "value": "spiffe://default.b.mesh.local"}});
            json!({"targetRef": {"kind": "Dataplane", "labels": selector(rng)}, "rules": [{"default": {"allow": [matched]}}]})
        }
        Kind::MeshMultiZoneService => {
            let ports = json!([{"port": 80 + rng.random_range(0..2)}, {"port": 90, "name": "81"}]);
            json!({"selector": {"meshService": {"matchLabels": selector(rng)}}, "ports": ports})
        }
        Kind::MeshExternalService => json!({"match": {"port": 80}}),
        Kind::Workload | Kind::Secret | Kind::GlobalSecret | Kind::AccessRole | Kind::AccessRoleBinding => json!({}),
        Kind::VipAllocation => json!({"serviceKind": "MeshService", "serviceName": pick(rng, &NAMES), "ip": "241.0.0.9"}),
    }
}

fn dataplane(rng: &mut StdRng) -> Value {
    let state = pick(rng, &["Ready", "Ready", "NotReady", "Ignored"]);
    let inbound = json!({"port": 80 + rng.random_range(0..2), "state": state});
    let listener = json!({
        "type": pick(rng, &["ZoneIngress", "ZoneEgress"]), "address": "10.9.0.1", "port": 10_001,
        "state": pick(rng, &["Ready", "NotReady"]),
    });
    let address = pick(rng, &["10.0.0.1", "10.0.0.2", "10.0.0.3", "db.example.com"]);
    let mut networking = json!({"address": address, "inbound": [inbound]});
    if rng.random_ratio(1, 4) {
        networking["inbound"] = json!([]);
    }
    if rng.random_ratio(1, 4) {
        networking["listeners"] = json!([listener]);
    }
    json!({"networking": networking})
}

fn service(rng: &mut StdRng) -> Value {
    let port = 80 + rng.random_range(0..2);
    let selector = match rng.random_range(0..4) {
        0 => json!({"dataplaneRef": {"name": format!("{}-0", pick(rng, &NAMES))}}),
        1 => json!({}),
        _ => json!({"dataplaneLabels": {"matchLabels": selector(rng)}}),
    };
    let identities = json!([{"type": "SpiffeID", "value": "spiffe://b/x"}]);
    let state = pick(rng, &["Available", "Available", "Unavailable"]);
    json!({"selector": selector, "ports": [{"port": port, "targetPort": port}], "identities": identities, "state": state})
}

fn identity(rng: &mut StdRng) -> Value {
    let mut domains = json!({});
    for name in ZONES {
        if rng.random_ratio(1, 2) {
            domains[uid(name).to_string()] = json!(format!("default.{name}.mesh.local"));
        }
    }
    let mut spec = json!({"selector": {"dataplane": {"matchLabels": selector(rng)}}, "trustDomains": domains});
    if rng.random_ratio(3, 4) {
        spec["provider"] = json!({"type": pick(rng, &["Bundled", "Spire"])});
    }
    spec
}

fn selector(rng: &mut StdRng) -> Value {
    match rng.random_range(0..4) {
        0 => json!({}),
        1 => json!({"team": pick(rng, &["x", "y"])}),
        2 => json!({"kuma.io/workload": pick(rng, &NAMES)}),
        _ => json!({"kuma.io/origin": pick(rng, &["zone", "global"])}),
    }
}

fn pick<'a>(rng: &mut StdRng, list: &[&'a str]) -> &'a str {
    list[rng.random_range(0..list.len())]
}
