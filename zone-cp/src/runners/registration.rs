//! The Dataplane document of a registration, and what it says while its proxy comes and goes.

use atoll_model::{
    Kind, Labels, Style, Violation,
    document::Document,
    kinds::dataplane::{Dataplane, InboundState, ListenerKind},
    labels::{self, LISTENER_ZONE_EGRESS, LISTENER_ZONE_INGRESS, MANAGED_BY, Viewpoint},
    names,
    resource::canonical_json,
};
use bytes::Bytes;
use ipnet::IpNet;
use serde_json::{Value, json};

use super::{
    liveness::{Presence, ProxyId, Word},
    proto,
};

/// Value of `kuma.io/managed-by` of a Dataplane that a runner registered; others are never deleted when a proxy leaves.
pub const MANAGED_BY_RUNNER: &str = "atoll-dp";

/// A Dataplane as its author wrote it.
#[derive(Clone, Debug, PartialEq)]
pub struct Authored {
    /// Labels as they are stored.
    pub labels: Labels,
    /// The fields beside the metadata.
    pub spec: Value,
}

impl Authored {
    /// The bytes to store while the proxy has this presence: sections that do not take traffic become NotReady; what the author
    /// ignores or keeps out stays so.
    pub fn with(&self, presence: &Presence) -> Bytes {
        let mut spec = self.spec.clone();
        for list in ["inbound", "listeners"] {
            let entries = spec.pointer_mut(&format!("/networking/{list}")).and_then(Value::as_array_mut);
            for entry in entries.into_iter().flatten().filter(|entry| is_out(entry, presence)) {
                if let Some(entry) = entry.as_object_mut().filter(|entry| entry.get("state") != Some(&json!("Ignored"))) {
                    entry.insert("state".to_owned(), json!(InboundState::NotReady));
                }
            }
        }
        canonical_json(&spec)
    }
}

fn is_out(entry: &Value, presence: &Presence) -> bool {
    let Presence::Serving { unhealthy } = presence else { return true };
    let name = entry["name"].as_str().filter(|name| !name.is_empty()).map(str::to_owned);
    unhealthy.contains(&name.unwrap_or_else(|| entry["port"].to_string()))
}

/// What a runner asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Registration {
    /// Mesh and name.
    pub id: ProxyId,
    /// Its document; none: the resource must exist.
    pub authored: Option<Authored>,
    /// Lasting id of the runner's folder.
    pub instance: String,
    /// Range for its outbounds.
    pub bind_outbounds: Option<IpNet>,
    /// Whether its connections and requests are logged.
    pub access_log: bool,
    /// What it says of its Envoy and its application now.
    pub word: Word,
    /// Versions and addresses, for people.
    pub about: About,
}

/// What a runner tells about itself, for people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// Version of the runner.
    pub runner_version: String,
    /// Version of its Envoy.
    pub envoy_version: String,
    /// What it can do.
    pub features: Vec<String>,
    /// Its DNS.
    pub dns: String,
    /// Its readiness.
    pub readiness: String,
    /// Its Envoy's admin interface.
    pub admin: String,
}

/// What is wrong with a registration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegisterFault {
    /// Beside the document.
    #[error("{0}")]
    Field(String),
    /// In the document: every fault with its path.
    #[error("the Dataplane is not valid: {}", list(.0))]
    Document(Vec<Violation>),
}

fn list(faults: &[Violation]) -> String {
    faults.iter().map(|fault| format!("{}: {}", fault.field, fault.message)).collect::<Vec<_>>().join("; ")
}

/// Reads a registration.
///
/// # Errors
/// Every fault of the document, or the first of the rest.
pub fn read(viewpoint: &Viewpoint, register: &proto::Register) -> Result<Registration, RegisterFault> {
    let field = |text: String| Err(RegisterFault::Field(text));
    if let Some(fault) = names::mesh_fault(&register.mesh) {
        return field(format!("mesh {:?}: {fault}", register.mesh));
    }
    if let Some(fault) = names::name_fault(&register.name, false) {
        return field(format!("name {:?}: {fault}", register.name));
    }
    if register.instance.is_empty() {
        return field("instance: cannot be empty".to_owned());
    }
    let bind_outbounds = match register.bind_outbounds.as_str() {
        "" => None,
        text => match text.parse() {
            Ok(range) => Some(range),
            Err(_) => return field(format!("bind_outbounds {text:?}: not a range of addresses such as 127.21.0.0/16")),
        },
    };
    let id = ProxyId::new(register.mesh.as_str(), register.name.as_str());
    let authored = match register.dataplane.as_slice() {
        [] => None,
        bytes => Some(read_document(viewpoint, &id, bytes).map_err(RegisterFault::Document)?),
    };
    let instance = register.instance.clone();
    let access_log = register.access_log;
    Ok(Registration { id, authored, instance, bind_outbounds, access_log, word: word_of(register), about: about(register) })
}

fn read_document(viewpoint: &Viewpoint, id: &ProxyId, bytes: &[u8]) -> Result<Authored, Vec<Violation>> {
    let value: Value = serde_json::from_slice(bytes).map_err(|error| vec![Violation::new("", format!("not JSON: {error}"))])?;
    let document = Document::from_value(value, Some(Kind::Dataplane))?;
    debug_assert_eq!(Kind::Dataplane.descriptor().style, Style::Flat);
    let mut faults = Vec::new();
    if document.mesh != id.mesh {
        faults.push(Violation::new("mesh", format!("is {:?}, the runner registers {:?}", &*document.mesh, &*id.mesh)));
    }
    if document.name != id.name {
        faults.push(Violation::new("name", format!("is {:?}, the runner registers {:?}", &*document.name, &*id.name)));
    }
    faults.extend(labels::check(viewpoint, Kind::Dataplane, &document.mesh, &document.labels));
    faults.extend((Kind::Dataplane.descriptor().check)(&document.spec).violations);
    if !faults.is_empty() {
        return Err(faults);
    }
    let labels = complete(labels::stored(document.labels), &document.spec);
    Ok(Authored { labels, spec: document.spec })
}

/// The labels that the plane adds to a Dataplane: who made it, and which zone proxy it is.
fn complete(mut labels: Labels, spec: &Value) -> Labels {
    let dataplane: Dataplane = serde_json::from_value(spec.clone()).unwrap_or_default();
    let listeners = dataplane.networking.map(|networking| networking.listeners).unwrap_or_default();
    for (label, kind) in [(LISTENER_ZONE_INGRESS, ListenerKind::ZoneIngress), (LISTENER_ZONE_EGRESS, ListenerKind::ZoneEgress)] {
        labels.remove(label);
        if listeners.iter().any(|listener| listener.kind == kind) {
            labels.insert(label.to_owned(), "enabled".to_owned());
        }
    }
    labels.insert(MANAGED_BY.to_owned(), MANAGED_BY_RUNNER.to_owned());
    labels
}

fn word_of(register: &proto::Register) -> Word {
    Word {
        envoy_ready: register.envoy.as_ref().is_some_and(|envoy| envoy.ready),
        unhealthy: register.inbound_health.as_ref().map(unhealthy).unwrap_or_default(),
    }
}

/// The sections that fail their probe.
pub(super) fn unhealthy(health: &proto::InboundHealth) -> std::collections::BTreeSet<String> {
    health.healthy.iter().filter(|(_, healthy)| !**healthy).map(|(section, _)| section.clone()).collect()
}

fn about(register: &proto::Register) -> About {
    let versions = register.versions.clone().unwrap_or_default();
    let listeners = register.listeners.clone().unwrap_or_default();
    About {
        runner_version: versions.runner,
        envoy_version: versions.envoy,
        features: register.features.clone(),
        dns: listeners.dns,
        readiness: listeners.readiness,
        admin: listeners.admin,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use atoll_model::{ZoneUid, labels::WORKLOAD};

    use super::*;

    fn viewpoint() -> Viewpoint {
        Viewpoint::Zone { name: "gcp".into(), uid: ZoneUid(uuid::Uuid::from_u128(1)), federated: true }
    }

    fn register(document: &Value) -> proto::Register {
        proto::Register {
            mesh: "default".into(),
            name: "gw-1".into(),
            dataplane: document.to_string().into_bytes(),
            instance: "i".into(),
            ..proto::Register::default()
        }
    }

    fn gateway() -> Value {
        json!({
            "type": "Dataplane", "mesh": "default", "name": "gw-1", "labels": {WORKLOAD: "gw", "kuma.io/zone": "gcp"},
            "networking": {"address": "127.0.0.1", "inbound": [
                {"port": 80, "name": "http"}, {"port": 81}, {"port": 82, "state": "Ignored"}
            ]}
        })
    }

    #[test]
    fn a_good_registration_is_read() {
        let found = read(&viewpoint(), &register(&gateway())).unwrap();
        let labels = [(MANAGED_BY, MANAGED_BY_RUNNER), (WORKLOAD, "gw")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        assert_eq!(found.authored, Some(Authored { labels, spec: json!({"networking": gateway()["networking"]}) }));
    }

    #[test]
    fn a_zone_ingress_gets_its_label() {
        let listener = json!({"type": "ZoneIngress", "address": "127.0.0.1", "port": 10001});
        let mut document = gateway();
        document["networking"] = json!({"address": "127.0.0.1", "listeners": [listener]});
        let labels = read(&viewpoint(), &register(&document)).unwrap().authored.unwrap().labels;
        assert_eq!(labels.get(LISTENER_ZONE_INGRESS).map(String::as_str), Some("enabled"));
    }

    #[test]
    fn every_fault_of_the_document_is_named() {
        let mut document = gateway();
        document["name"] = json!("other");
        document["labels"]["kuma.io/zone"] = json!("azure");
        document["networking"]["inbound"][0]["port"] = json!(0);
        let fault = read(&viewpoint(), &register(&document)).unwrap_err().to_string();
        for word in ["name: is \"other\"", "kuma.io/zone", "networking.inbound[0].port"] {
            assert!(fault.contains(word), "{fault}");
        }
    }

    #[test]
    fn faults_beside_the_document() {
        let with = |change: fn(&mut proto::Register)| {
            let mut register = register(&gateway());
            change(&mut register);
            read(&viewpoint(), &register).unwrap_err().to_string()
        };
        assert!(with(|r| r.mesh = "A".into()).starts_with("mesh"));
        assert!(with(|r| r.name = "a b".into()).starts_with("name"));
        assert!(with(|r| r.bind_outbounds = "127.0.0".into()).starts_with("bind_outbounds"));
        assert!(with(|r| r.dataplane = b"{".to_vec()).contains("not JSON"));
    }

    fn states(presence: &Presence) -> Vec<Option<String>> {
        let authored = read(&viewpoint(), &register(&gateway())).unwrap().authored.unwrap();
        let spec: Value = serde_json::from_slice(&authored.with(presence)).unwrap();
        let inbounds = spec["networking"]["inbound"].as_array().unwrap();
        inbounds.iter().map(|inbound| inbound["state"].as_str().map(str::to_owned)).collect()
    }

    #[test]
    fn presence_changes_states_alone() {
        let (out, ignored) = (Some("NotReady".to_owned()), Some("Ignored".to_owned()));
        assert_eq!(states(&Presence::Withdrawn), [out.clone(), out.clone(), ignored.clone()]);
        assert_eq!(states(&Presence::Serving { unhealthy: BTreeSet::new() }), [None, None, ignored.clone()]);
        assert_eq!(states(&Presence::Serving { unhealthy: ["81".to_owned()].into() }), [None, out, ignored]);
    }
}
