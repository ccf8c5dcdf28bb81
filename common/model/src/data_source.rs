//! Where a secret or a certificate comes from, as MeshIdentity and MeshExternalService say it.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Violation, resource::SEALED, violation::Path};

/// A source; the branch that `type` names must be there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecureDataSource {
    /// Which branch holds.
    #[serde(rename = "type")]
    pub kind: SourceKind,
    /// A file of the control plane's host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<File>,
    /// A Secret of the mesh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretRef>,
    /// A variable of the control plane's environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env_var: Option<EnvVar>,
    /// The value itself, for everybody to see who may read the resource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub insecure_inline: Option<Inline>,
}

/// The kinds of sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SourceKind {
    /// A file of the control plane's host.
    File,
    /// A Secret of the mesh.
    Secret,
    /// A variable of the control plane's environment.
    EnvVar,
    /// The value itself.
    InsecureInline,
}

impl SourceKind {
    /// The name in documents.
    pub fn name(self) -> &'static str {
        match self {
            SourceKind::File => "File",
            SourceKind::Secret => "Secret",
            SourceKind::EnvVar => "EnvVar",
            SourceKind::InsecureInline => "InsecureInline",
        }
    }
}

/// A file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct File {
    /// Its absolute path.
    pub path: String,
}

/// A Secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SecretRef {
    /// `Secret`.
    pub kind: SecretRefKind,
    /// Its name.
    pub name: String,
}

/// What a [`SecretRef`] refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SecretRefKind {
    /// A Secret of the mesh.
    Secret,
}

/// A variable of the environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EnvVar {
    /// Its name.
    pub name: String,
}

/// A value. Its `Debug` form does not show it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Inline {
    /// The value.
    pub value: String,
}

impl fmt::Debug for Inline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inline").field("value", &SEALED).finish()
    }
}

/// Checks that the branch that `type` names is there and says something.
pub fn check(source: &SecureDataSource, path: &Path) -> Vec<Violation> {
    let (branch, field, text) = match source.kind {
        SourceKind::File => ("file", "path", source.file.as_ref().map(|file| &file.path)),
        SourceKind::Secret => ("secretRef", "name", source.secret_ref.as_ref().map(|secret| &secret.name)),
        SourceKind::EnvVar => ("envVar", "name", source.env_var.as_ref().map(|variable| &variable.name)),
        SourceKind::InsecureInline => ("insecureInline", "value", source.insecure_inline.as_ref().map(|inline| &inline.value)),
    };
    let branch = path.field(branch);
    match text {
        None => vec![branch.violation("must be defined")],
        Some(text) if text.is_empty() => vec![branch.field(field).violation("must be defined")],
        Some(text) if source.kind == SourceKind::File => file_fault(text, &branch.field(field)).into_iter().collect(),
        Some(_) => Vec::new(),
    }
}

/// A path that could leave the place that an operator means is no path of a document.
fn file_fault(file: &str, path: &Path) -> Option<Violation> {
    if file.contains("..") {
        Some(path.violation(format!("file path contains directory traversal sequence: {file}")))
    } else if !file.starts_with('/') {
        Some(path.violation(format!("file path must be absolute: {file}")))
    } else {
        None
    }
}
