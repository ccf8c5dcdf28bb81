//! Policies of few words.

use std::sync::Arc;

use atoll_model::{ContentHash, Kind, Labels, Owner, Resource, ResourceKey, Revision, ZoneUid, labels, resource::canonical_json};
use atoll_policy::{Policy, PolicyFault, PolicySet, ServiceFacts};
use serde_json::{Value, json};

pub(crate) fn zone(number: u128) -> Owner {
    Owner::Zone(ZoneUid(uuid::Uuid::from_u128(number)))
}

pub(crate) fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

pub(crate) fn resource(kind: Kind, name: &str, owner: Owner, labels: &Labels, spec: &Value) -> Resource {
    let mut resource = Resource {
        key: ResourceKey::new(kind, "default", name, owner),
        revision: Revision(1),
        version: 1,
        generation: 1,
        labels: labels.clone(),
        spec: canonical_json(spec),
        computed: None,
        hash: ContentHash::default(),
        created: "2026-01-01T00:00:00Z".parse().unwrap(),
        modified: "2026-01-01T00:00:00Z".parse().unwrap(),
    };
    resource.hash = ContentHash::of(&resource.labels, &resource.document());
    resource
}

/// Parses as a zone's plane would see it, whose own zone is called `a`.
pub(crate) fn parse(kind: Kind, name: &str, owner: Owner, own: &[(&str, &str)], spec: &Value) -> Result<Policy, PolicyFault> {
    let resource = resource(kind, name, owner, &labels(own), spec);
    let (origin, zone) = if owner == Owner::Global { ("global", "") } else { ("zone", "a") };
    let mut presented = resource.labels.clone();
    presented.insert(labels::ORIGIN.to_owned(), origin.to_owned());
    Policy::parse(&resource, presented, zone)
}

pub(crate) fn policy(kind: Kind, name: &str, owner: Owner, spec: Value) -> Arc<Policy> {
    Arc::new(parse(kind, name, owner, &[], &spec).unwrap())
}

/// A MeshTimeout of global with one `to` entry that sets the time to connect.
pub(crate) fn to(name: &str, top: Value, target: Value, seconds: u32) -> Arc<Policy> {
    let conf = json!({"connectionTimeout": format!("{seconds}s")});
    policy(Kind::MeshTimeout, name, Owner::Global, json!({"targetRef": top, "to": [{"targetRef": target, "default": conf}]}))
}

pub(crate) fn mesh() -> Value {
    json!({"kind": "Mesh"})
}

pub(crate) fn service(name: &str) -> Value {
    json!({"kind": "MeshService", "labels": {"kuma.io/display-name": name}})
}

/// Seconds to connect to port `http` (80) of a service with these labels, for a proxy with `app: web` in zone 1.
pub(crate) fn connect(policies: &[Arc<Policy>], destination: &[(&str, &str)]) -> Option<i64> {
    let set = PolicySet::new(policies.iter().cloned());
    let destination = labels(destination);
    let facts = ServiceFacts { kind: Kind::MeshService, labels: &destination, section: "http", port: 80 };
    let timeouts = set.for_proxy(&labels(&[("app", "web")]), zone(1)).timeouts_to(&facts);
    timeouts.connection_timeout.map(|timeout| timeout.0 / 1_000_000_000)
}
