//! Workload: the dataplanes that run one piece of software. It has a status, and nothing that an author sets.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::document::{Checked, check_as};

/// The spec of a Workload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workload {}

/// Checks a spec.
pub fn check(spec: &Value) -> Checked {
    check_as::<Workload>(spec, "spec", |_, _| Vec::new())
}
