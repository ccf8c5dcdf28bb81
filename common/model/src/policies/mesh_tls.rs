//! MeshTLS: whether inbounds take anything but the mesh's TLS, and which TLS.

use std::sync::LazyLock;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    Violation,
    document::{Checked, check_spec},
    schema::Schema,
    target_ref::{self, TargetKind, TargetRef},
    tls,
    violation::Path,
};

pub use crate::tls::{Cipher, Version, VersionRange};

/// The spec of a MeshTLS.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MeshTls {
    /// Which proxies; absent means the whole mesh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "target_ref::top_shape")]
    pub target_ref: Option<TargetRef>,
    /// What holds there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule>,
}

/// One rule.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Rule {
    /// What holds.
    #[serde(default)]
    pub default: Tls,
}

/// Modes and versions; absent fields leave what a less specific rule says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tls {
    /// Strict, unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// TLS 1.3 at least, unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_version: Option<VersionRange>,
    /// Cipher suites of TLS 1.2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_ciphers: Option<Vec<Cipher>>,
}

/// What an inbound takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Mode {
    /// Only the mesh's TLS.
    Strict,
    /// Everything: the mesh's TLS is ended, the rest passes untouched.
    Permissive,
}

/// The shape of a spec.
pub static SCHEMA: LazyLock<Schema> = LazyLock::new(Schema::of::<MeshTls>);

/// Checks a spec.
pub fn check(spec: &Value) -> Checked {
    check_spec::<MeshTls>(&SCHEMA, spec, |policy, path| {
        let inbound = !policy.rules.is_empty();
        let mut faults = target_ref::check_top(policy.target_ref.as_ref(), &path.field("targetRef"), inbound);
        let whole_mesh = policy.target_ref.as_ref().is_none_or(|target| target.kind == TargetKind::Mesh);
        for (i, rule) in policy.rules.iter().enumerate() {
            faults.extend(check_rule(&rule.default, whole_mesh, &path.field("rules").index(i).field("default")));
        }
        faults
    })
}

fn check_rule(tls: &Tls, whole_mesh: bool, path: &Path) -> Vec<Violation> {
    let mut faults = Vec::new();
    if let Some(range) = &tls.tls_version {
        let path = path.field("tlsVersion");
        let elsewhere = || path.violation("tlsVersion can only be defined with top level targetRef kind: Mesh");
        faults.extend(if whole_mesh { tls::check_range(range, &path) } else { Some(elsewhere()) });
    }
    if tls.tls_ciphers.as_ref().is_some_and(|ciphers| !ciphers.is_empty()) && !whole_mesh {
        faults.push(path.field("tlsCiphers").violation("tlsCiphers can only be defined with top level targetRef kind: Mesh"));
    }
    faults
}
