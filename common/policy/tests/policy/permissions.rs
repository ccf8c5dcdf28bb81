//! Who may call.

use atoll_model::{Kind, Owner};
use atoll_policy::{Permission, PolicySet};
use serde_json::{Value, json};

use crate::make::{labels, policy, zone};

fn matched(id: &str) -> Value {
    json!({"spiffeID": {"type": "Exact", "value": id}})
}

fn show(permissions: &[Permission]) -> Vec<String> {
    let id = |permission: &Permission| permission.matched.spiffe_id.as_ref().map_or("*", |id| &id.value).to_owned();
    permissions.iter().map(|permission| format!("{} by {}", id(permission), permission.policy)).collect()
}

#[test]
fn the_lists_of_all_policies_are_joined() {
    let one = json!({"rules": [{"default": {"deny": [matched("spiffe://x/bad")], "allow": [{}]}}]});
    let two = json!({
        "targetRef": {"kind": "Dataplane", "labels": {"app": "web"}},
        "rules": [{"default": {"allow": [matched("spiffe://x/good")]}}, {"default": {"allowWithShadowDeny": [matched("spiffe://x/old")]}}],
    });
    let permission = |name: &str, spec: Value| policy(Kind::MeshTrafficPermission, name, Owner::Global, spec);
    let set = PolicySet::new([permission("one", one), permission("two", two)]);
    let joined = set.for_proxy(&labels(&[("app", "web")]), zone(1)).permissions("80");
    assert_eq!(show(&joined.deny), ["spiffe://x/bad by kri_mtp_default___one_"]);
    assert_eq!(show(&joined.allow), ["* by kri_mtp_default___one_", "spiffe://x/good by kri_mtp_default___two_"]);
    assert_eq!(show(&joined.shadow), ["spiffe://x/old by kri_mtp_default___two_"]);
    let other = set.for_proxy(&labels(&[("app", "other")]), zone(1)).permissions("80");
    assert_eq!((other.allow.len(), other.shadow.len(), other.is_closed()), (1, 0, false));
}

#[test]
fn without_a_policy_nobody_is_let_in() {
    assert!(PolicySet::default().for_proxy(&labels(&[]), zone(1)).permissions("80").is_closed());
    let deny = json!({"rules": [{"default": {"deny": [{}]}}]});
    let set = PolicySet::new([policy(Kind::MeshTrafficPermission, "d", Owner::Global, deny)]);
    assert!(set.for_proxy(&labels(&[]), zone(1)).permissions("80").is_closed());
}
