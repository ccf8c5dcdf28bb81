//! MeshTrafficPermission: who may call. Every deny is judged before any allow; what no rule allows is denied.

use std::sync::LazyLock;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::inbound_match::{self, InboundMatch};
use crate::{
    document::{Checked, check_spec},
    schema::Schema,
    target_ref::{self, TargetRef},
};

/// The spec of a MeshTrafficPermission.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MeshTrafficPermission {
    /// Which proxies; absent means the whole mesh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "target_ref::top_shape")]
    pub target_ref: Option<TargetRef>,
    /// Who may call them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule>,
}

/// One rule.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Rule {
    /// The lists of callers.
    pub default: Permissions,
}

/// Lists of callers; a match with no condition is everybody.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Permissions {
    /// Refused, whatever else is allowed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deny: Vec<InboundMatch>,
    /// Allowed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<InboundMatch>,
    /// Allowed, and logged as if denied.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow_with_shadow_deny: Vec<InboundMatch>,
}

/// The shape of a spec.
pub static SCHEMA: LazyLock<Schema> = LazyLock::new(Schema::of::<MeshTrafficPermission>);

/// Checks a spec.
pub fn check(spec: &Value) -> Checked {
    check_spec::<MeshTrafficPermission>(&SCHEMA, spec, |policy, path| {
        let inbound = !policy.rules.is_empty();
        let mut faults = target_ref::check_top(policy.target_ref.as_ref(), &path.field("targetRef"), inbound);
        if !inbound {
            faults.push(path.violation("policy must define rules"));
        }
        for (i, rule) in policy.rules.iter().enumerate() {
            let path = path.field("rules").index(i);
            let permissions = &rule.default;
            let lists = [
                ("deny", &permissions.deny),
                ("allow", &permissions.allow),
                ("allowWithShadowDeny", &permissions.allow_with_shadow_deny),
            ];
            if lists.iter().all(|(_, list)| list.is_empty()) {
                faults.push(path.violation("at least one of 'allow', 'allowWithShadowDeny', 'deny' has to be defined"));
            }
            for (name, list) in lists {
                for (j, matched) in list.iter().enumerate() {
                    faults.extend(inbound_match::check(matched, &path.field("default").field(name).index(j)));
                }
            }
        }
        faults
    })
}
