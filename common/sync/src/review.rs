//! The last word of a plane on what a peer sends.

use atoll_model::{Kind, Labels, ResourceKey};

/// Accepted, or rejected with a reason for people.
pub type Verdict = Result<(), String>;

/// Judges a resource of a peer before it is applied. Ownership, direction and integrity are checked already.
pub trait Review: Send + Sync {
    /// Decides. A rejected resource holds up no other, is shown at both planes, and is tried again when the table changes.
    fn review(&self, key: &ResourceKey, labels: &Labels, spec: &serde_json::Value) -> Verdict;
}

/// Accepts what the kind's own check accepts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Checked;

impl Review for Checked {
    fn review(&self, key: &ResourceKey, _: &Labels, spec: &serde_json::Value) -> Verdict {
        check(key.kind, spec)
    }
}

/// The kind's own check: faults as one text.
pub fn check(kind: Kind, spec: &serde_json::Value) -> Verdict {
    let faults = (kind.descriptor().check)(spec).violations;
    if faults.is_empty() {
        return Ok(());
    }
    Err(faults.iter().map(|fault| format!("{}: {}", fault.field, fault.message)).collect::<Vec<_>>().join("; "))
}
