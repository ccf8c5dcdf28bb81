//! Workload: the dataplanes that run one piece of software. It has a status, and nothing that an author sets.

use std::sync::LazyLock;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    document::{Checked, check_spec},
    schema::Schema,
};

/// The spec of a Workload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Workload {}

/// The shape of a spec.
pub static SCHEMA: LazyLock<Schema> = LazyLock::new(Schema::of::<Workload>);

/// Checks a spec.
pub fn check(spec: &Value) -> Checked {
    check_spec::<Workload>(&SCHEMA, spec, |_, _| Vec::new())
}
