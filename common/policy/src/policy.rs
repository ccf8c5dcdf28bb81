//! One policy, parsed once.

use atoll_model::{
    ContentHash, Kind, Labels, Owner, Resource, ResourceKey,
    kri::Kri,
    labels,
    policies::{
        MeshLoadBalancingStrategy, MeshPassthrough, MeshTimeout, MeshTls, MeshTrafficPermission, mesh_timeout, mesh_tls,
        mesh_traffic_permission,
    },
    target_ref::{TargetKind, TargetRef},
};
use serde::Serialize;
use serde_json::Value;
use xxhash_rust::xxh3::Xxh3;

/// A policy that parsed. Equal policies (same key, presented labels and document) have the same [`Policy::hash`].
#[derive(Clone, Debug)]
pub struct Policy {
    /// Which resource it is.
    pub key: ResourceKey,
    /// Its identity in text, as Envoy's configuration and people see it.
    pub kri: Kri,
    /// Its labels as this plane presents them.
    pub labels: Labels,
    /// Where it comes from, seen from this plane.
    pub origin: Origin,
    /// Kuma's role; `system` unless a label says more.
    pub role: Role,
    /// Which proxies; an absent reference is the mesh.
    pub target: TargetRef,
    /// What it says.
    pub spec: PolicySpec,
    /// Over all of the above.
    pub hash: ContentHash,
    pub(crate) shadow: bool,
    pub(crate) outgoing: Vec<OutgoingItem>,
    pub(crate) incoming: Vec<IncomingItem>,
}

impl PartialEq for Policy {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key && self.hash == other.hash
    }
}

/// The kinds of policies.
#[derive(Clone, Debug, PartialEq)]
pub enum PolicySpec {
    /// MeshTimeout.
    Timeout(MeshTimeout),
    /// MeshTLS.
    Tls(MeshTls),
    /// MeshTrafficPermission.
    Permission(MeshTrafficPermission),
    /// MeshLoadBalancingStrategy.
    Strategy(MeshLoadBalancingStrategy),
    /// MeshPassthrough.
    Passthrough(MeshPassthrough),
}

/// `kuma.io/origin`, in order of precedence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// From the global control plane.
    Global,
    /// The label is absent.
    Unknown,
    /// From a zone.
    Zone,
}

/// `kuma.io/policy-role`, in order of precedence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Of the operator.
    System,
    /// Of the owner of a service, for its callers.
    Producer,
    /// Of a caller.
    Consumer,
    /// Of the owner of a workload, for it alone.
    WorkloadOwner,
}

/// A policy that did not parse: reported, and skipped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key} is left out: {message}")]
pub struct PolicyFault {
    /// Which resource.
    pub key: ResourceKey,
    /// What is wrong with it.
    pub message: String,
}

/// One `to` entry.
#[derive(Clone, Debug)]
pub(crate) struct OutgoingItem {
    pub(crate) target: TargetRef,
    pub(crate) conf: Value,
    /// Hash of `conf`.
    pub(crate) hash: u128,
}

impl OutgoingItem {
    fn new(target: &TargetRef, conf: &impl Serialize) -> Self {
        let conf = value(conf);
        let hash = xxhash_rust::xxh3::xxh3_128(conf.to_string().as_bytes());
        Self { target: target.clone(), conf, hash }
    }
}

/// One `rules` entry; one with n matches is n of them.
#[derive(Clone, Debug)]
pub(crate) struct IncomingItem {
    /// Position in `rules`.
    pub(crate) index: usize,
    pub(crate) matched: Option<atoll_model::policies::InboundMatch>,
    pub(crate) conf: Value,
}

impl Policy {
    /// Parses a resource of a policy kind. `labels` are the presented ones; `zone` is the name of the owning zone, or empty.
    ///
    /// # Errors
    /// When the spec is not what the kind expects, or the kind is no policy.
    pub fn parse(resource: &Resource, labels: Labels, zone: &str) -> Result<Self, PolicyFault> {
        let fault = |message: String| PolicyFault { key: resource.key.clone(), message };
        let spec = parse_spec(resource).map_err(fault)?;
        let target = spec.target().cloned().unwrap_or_else(TargetRef::mesh);
        if !matches!(target.kind, TargetKind::Mesh | TargetKind::Dataplane) {
            return Err(fault("spec.targetRef.kind must be Mesh or Dataplane".to_owned()));
        }
        let key = resource.key.clone();
        let kri = Kri {
            kind: key.kind,
            mesh: key.mesh.to_string(),
            zone: zone.to_owned(),
            name: key.name.to_string(),
            section: String::new(),
        };
        Ok(Self {
            origin: origin(&labels),
            role: role(&labels),
            shadow: labels.get(labels::EFFECT).is_some_and(|effect| effect == "shadow"),
            hash: hash(resource, &labels, &kri),
            outgoing: spec.outgoing(),
            incoming: spec.incoming(),
            target,
            spec,
            labels,
            kri,
            key,
        })
    }

    /// Whether it is shown only, and never in force.
    pub fn is_shadow(&self) -> bool {
        self.shadow
    }

    /// Whether it selects a proxy with these presented labels, of this owner; [`TargetRef::section_name`] may still narrow it
    /// to one inbound.
    pub fn selects(&self, labels: &Labels, owner: Owner) -> bool {
        let of_zone = match self.key.owner {
            Owner::Global => true,
            Owner::Zone(_) => self.role == Role::Producer || self.key.owner == owner,
        };
        !self.shadow && of_zone && (self.target.kind == TargetKind::Mesh || labels::matches(&self.target.labels, labels))
    }

    /// Whether it holds for this inbound or listener of a proxy that it selects.
    pub fn selects_section(&self, section: &str) -> bool {
        self.target.section_name.as_deref().is_none_or(|wanted| wanted == section)
    }
}

impl PolicySpec {
    fn target(&self) -> Option<&TargetRef> {
        match self {
            PolicySpec::Timeout(spec) => spec.target_ref.as_ref(),
            PolicySpec::Tls(spec) => spec.target_ref.as_ref(),
            PolicySpec::Permission(spec) => spec.target_ref.as_ref(),
            PolicySpec::Strategy(spec) => spec.target_ref.as_ref(),
            PolicySpec::Passthrough(spec) => spec.target_ref.as_ref(),
        }
    }

    fn outgoing(&self) -> Vec<OutgoingItem> {
        match self {
            PolicySpec::Timeout(spec) => spec.to.iter().map(|to| OutgoingItem::new(&to.target_ref, &to.default)).collect(),
            PolicySpec::Strategy(spec) => spec.to.iter().map(|to| OutgoingItem::new(&to.target_ref, &to.default)).collect(),
            PolicySpec::Tls(_) | PolicySpec::Permission(_) | PolicySpec::Passthrough(_) => Vec::new(),
        }
    }

    fn incoming(&self) -> Vec<IncomingItem> {
        match self {
            PolicySpec::Timeout(spec) => spec.rules.iter().enumerate().flat_map(timeout_items).collect(),
            PolicySpec::Tls(spec) => {
                let item =
                    |(index, rule): (usize, &mesh_tls::Rule)| IncomingItem { index, matched: None, conf: value(&rule.default) };
                spec.rules.iter().enumerate().map(item).collect()
            }
            PolicySpec::Strategy(_) | PolicySpec::Passthrough(_) => Vec::new(),
            // Never merged: their lists are joined.
            PolicySpec::Permission(spec) => {
                let item = |(index, rule): (usize, &mesh_traffic_permission::Rule)| IncomingItem {
                    index,
                    matched: None,
                    conf: value(&rule.default),
                };
                spec.rules.iter().enumerate().map(item).collect()
            }
        }
    }
}

/// A rule with n matches is n rules.
fn timeout_items((index, rule): (usize, &mesh_timeout::Rule)) -> Vec<IncomingItem> {
    let item = |matched| IncomingItem { index, matched, conf: value(&rule.default) };
    if rule.matches.is_empty() {
        vec![item(None)]
    } else {
        rule.matches.iter().map(|matched| item(Some(matched.clone()))).collect()
    }
}

fn parse_spec(resource: &Resource) -> Result<PolicySpec, String> {
    let text = |error: serde_json::Error| error.to_string();
    match resource.key.kind {
        Kind::MeshTimeout => resource.parse().map(PolicySpec::Timeout).map_err(text),
        Kind::MeshTls => resource.parse().map(PolicySpec::Tls).map_err(text),
        Kind::MeshLoadBalancingStrategy => resource.parse().map(PolicySpec::Strategy).map_err(text),
        Kind::MeshPassthrough => resource.parse().map(PolicySpec::Passthrough).map_err(text),
        Kind::MeshTrafficPermission => resource.parse().map(PolicySpec::Permission).map_err(text),
        Kind::Mesh
        | Kind::Zone
        | Kind::Dataplane
        | Kind::MeshService
        | Kind::MeshZoneAddress
        | Kind::HostnameGenerator
        | Kind::MeshIdentity
        | Kind::MeshTrust
        | Kind::VipAllocation
        | Kind::MeshExternalService
        | Kind::MeshMultiZoneService
        | Kind::Workload
        | Kind::Secret
        | Kind::GlobalSecret
        | Kind::AccessRole
        | Kind::AccessRoleBinding => Err("is no policy".to_owned()),
    }
}

fn origin(labels: &Labels) -> Origin {
    match labels.get(labels::ORIGIN).map(String::as_str) {
        Some("global") => Origin::Global,
        Some("zone") => Origin::Zone,
        Some(_) | None => Origin::Unknown,
    }
}

fn role(labels: &Labels) -> Role {
    match labels.get(labels::POLICY_ROLE).map(String::as_str) {
        Some("producer") => Role::Producer,
        Some("consumer") => Role::Consumer,
        Some("workload-owner") => Role::WorkloadOwner,
        Some(_) | None => Role::System,
    }
}

fn hash(resource: &Resource, labels: &Labels, kri: &Kri) -> ContentHash {
    let mut hasher = Xxh3::new();
    hasher.update(resource.key.to_string().as_bytes());
    hasher.update(kri.to_string().as_bytes());
    hasher.update(&atoll_model::resource::labels_json(labels));
    hasher.update(&resource.hash.to_bytes());
    ContentHash(hasher.digest128())
}

/// Specs are maps with string keys, which always are JSON.
fn value<T: Serialize>(conf: &T) -> Value {
    serde_json::to_value(conf).unwrap_or_default()
}
