//! Precedence: who overrides whom. Everything is sorted ascending, so that the later entry wins.

use std::cmp::Reverse;

use atoll_model::target_ref::{TargetKind, TargetRef};

use crate::{Origin, Policy, Role};

/// The part of the order that comes from the policy, without its name.
type Rank = (TargetKind, bool, Origin, Role);
/// A smaller name wins, so it stands later; the rest only makes the order total.
type NameRank<'a> = (Reverse<&'a str>, &'a atoll_model::ResourceKey);

fn rank(policy: &Policy) -> Rank {
    (policy.target.kind, policy.target.section_name.is_some(), policy.origin, policy.role)
}

fn name_rank(policy: &Policy) -> NameRank<'_> {
    (Reverse(policy.key.name.as_str()), &policy.key)
}

/// The order of policies as wholes, and of their `rules`.
pub(crate) fn of_policy(policy: &Policy) -> impl Ord + '_ {
    (rank(policy), name_rank(policy))
}

/// The order of `to` entries: what they aim at counts before the policy's name. Inside one policy the order is that of the
/// document, so sorting must be stable.
pub(crate) fn of_entry<'a>(policy: &'a Policy, to: &TargetRef) -> impl Ord + 'a {
    let section = to.kind == TargetKind::MeshService && to.section_name.is_some();
    (rank(policy), (to.kind, section), name_rank(policy))
}
