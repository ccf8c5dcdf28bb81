//! `targetRef`: what a policy is aimed at.

use schemars::{JsonSchema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{Labels, Violation, violation::Path};

/// A reference to proxies (top level) or destinations (`to`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TargetRef {
    /// What is referred to.
    pub kind: TargetKind,
    /// Labels, all of which must match.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// Inbound, listener or port, by name or number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub section_name: Option<String>,
}

impl TargetRef {
    /// The section, if it says anything.
    fn section(&self) -> Option<&str> {
        self.section_name.as_deref().filter(|name| !name.is_empty())
    }

    /// The whole mesh: what an absent top-level reference means.
    pub fn mesh() -> Self {
        Self { kind: TargetKind::Mesh, labels: Labels::new(), section_name: None }
    }
}

/// What a [`TargetRef`] refers to. The order is the order of precedence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum TargetKind {
    /// Every proxy or destination of the mesh.
    Mesh,
    /// Proxies by labels.
    Dataplane,
    /// Services of one zone by labels.
    MeshService,
    /// External services by labels.
    MeshExternalService,
    /// Multi-zone services by labels.
    MeshMultiZoneService,
    /// HTTP routes by labels.
    MeshHTTPRoute,
}

impl TargetKind {
    /// The name in documents.
    pub fn name(self) -> &'static str {
        match self {
            TargetKind::Mesh => "Mesh",
            TargetKind::Dataplane => "Dataplane",
            TargetKind::MeshService => "MeshService",
            TargetKind::MeshExternalService => "MeshExternalService",
            TargetKind::MeshMultiZoneService => "MeshMultiZoneService",
            TargetKind::MeshHTTPRoute => "MeshHTTPRoute",
        }
    }
}

/// The shape of a top-level reference; for `#[schemars(schema_with)]`.
pub fn top_shape(generator: &mut SchemaGenerator) -> schemars::Schema {
    shape(generator, &[TargetKind::Mesh, TargetKind::Dataplane])
}

/// The shape of a reference in `to`; for `#[schemars(schema_with)]`.
pub fn to_shape(generator: &mut SchemaGenerator) -> schemars::Schema {
    shape(generator, &DESTINATIONS)
}

/// What `to` can refer to; each policy says which of these it takes.
pub const DESTINATIONS: [TargetKind; 5] = [
    TargetKind::Mesh,
    TargetKind::MeshService,
    TargetKind::MeshExternalService,
    TargetKind::MeshMultiZoneService,
    TargetKind::MeshHTTPRoute,
];

fn shape(generator: &mut SchemaGenerator, kinds: &[TargetKind]) -> schemars::Schema {
    let mut schema = generator.subschema_for::<TargetRef>();
    if let Some(kind) = schema.pointer_mut("/properties/kind") {
        *kind = json!({"type": "string", "enum": kinds});
    }
    schema
}

/// Checks a top-level reference. `inbound` says whether the policy has `rules`, which a section needs.
pub fn check_top(target: Option<&TargetRef>, path: &Path, inbound: bool) -> Vec<Violation> {
    let Some(target) = target else { return Vec::new() };
    match target.kind {
        TargetKind::Mesh => only_kind(target, path),
        TargetKind::Dataplane if !inbound && target.section().is_some() => {
            vec![path.field("sectionName").violation("can only be used with inbound policies")]
        }
        TargetKind::Dataplane => Vec::new(),
        TargetKind::MeshService
        | TargetKind::MeshExternalService
        | TargetKind::MeshMultiZoneService
        | TargetKind::MeshHTTPRoute => vec![unsupported(target, path)],
    }
}

/// Checks a reference in `to`.
pub fn check_to(target: &TargetRef, path: &Path, allowed: &[TargetKind]) -> Vec<Violation> {
    if !allowed.contains(&target.kind) {
        return vec![unsupported(target, path)];
    }
    let kind = target.kind.name();
    let mut faults = Vec::new();
    if target.kind == TargetKind::Mesh {
        return only_kind(target, path);
    }
    if target.labels.is_empty() {
        faults.push(path.field("labels").violation(format!("must be set when kind is {kind}")));
    }
    if matches!(target.kind, TargetKind::MeshExternalService | TargetKind::MeshHTTPRoute) && target.section().is_some() {
        faults.push(path.field("sectionName").violation(format!("must not be set with kind {kind}")));
    }
    faults
}

fn unsupported(target: &TargetRef, path: &Path) -> Violation {
    path.field("kind").violation(format!("value '{}' is not supported", target.kind.name()))
}

fn only_kind(target: &TargetRef, path: &Path) -> Vec<Violation> {
    let mut faults = Vec::new();
    if !target.labels.is_empty() {
        faults.push(path.field("labels").violation("must not be set with kind Mesh"));
    }
    if target.section().is_some() {
        faults.push(path.field("sectionName").violation("must not be set with kind Mesh"));
    }
    faults
}
