//! MeshTrafficPermission: lists of callers, joined.

use atoll_model::policies::InboundMatch;

use crate::{Policy, PolicySpec};

/// Who may call one inbound. A caller is judged by `deny`, then by `allow` and `shadow`; nobody else is let in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PermissionSet {
    /// Refused, whatever else says they are allowed.
    pub deny: Vec<Permission>,
    /// Let in.
    pub allow: Vec<Permission>,
    /// Let in, and logged as if refused.
    pub shadow: Vec<Permission>,
}

/// One caller, or several, of one policy.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Permission {
    /// KRI of the policy that says so.
    pub policy: String,
    /// Which callers; a match without a condition is everybody.
    pub matched: InboundMatch,
}

impl PermissionSet {
    /// Whether nobody is let in.
    pub fn is_closed(&self) -> bool {
        self.allow.is_empty() && self.shadow.is_empty()
    }

    /// Joins the lists of `policies`, in their order.
    pub(crate) fn join<'a>(policies: impl Iterator<Item = &'a Policy>) -> Self {
        let mut set = Self::default();
        for policy in policies {
            let PolicySpec::Permission(spec) = &policy.spec else { continue };
            let kri = policy.kri.to_string();
            let permission = |matched: &InboundMatch| Permission { policy: kri.clone(), matched: matched.clone() };
            for rule in &spec.rules {
                set.deny.extend(rule.default.deny.iter().map(permission));
                set.allow.extend(rule.default.allow.iter().map(permission));
                set.shadow.extend(rule.default.allow_with_shadow_deny.iter().map(permission));
            }
        }
        set
    }
}
