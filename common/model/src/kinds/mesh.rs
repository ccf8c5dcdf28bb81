//! Mesh: the realm of services and policies that see each other.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::document::{Checked, check_as};

/// The spec of a Mesh.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Mesh {
    /// Accepted for Kuma's sake: Atoll makes no policies of its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skip_creating_initial_policies: Vec<String>,
}

/// Checks a spec.
pub fn check(spec: &Value) -> Checked {
    check_as::<Mesh>(spec, "", |_, _| Vec::new())
}
