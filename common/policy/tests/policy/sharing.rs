//! Equal things are one thing, across proxies and across generations.

use std::sync::Arc;

use atoll_model::Kind;
use atoll_policy::{PolicySet, SelectedPolicies, ServiceFacts};
use proptest::prelude::*;
use serde_json::json;

use crate::make::{labels, mesh, service, to, zone};

fn timeouts(selected: &SelectedPolicies, name: &str) -> Arc<atoll_model::policies::mesh_timeout::Timeouts> {
    let destination = labels(&[("kuma.io/display-name", name)]);
    let facts = ServiceFacts { kind: Kind::MeshService, labels: &destination, section: "80", port: 80 };
    selected.timeouts_to(&facts)
}

#[test]
fn proxies_with_the_same_policies_share_their_selection() {
    let web = json!({"kind": "Dataplane", "labels": {"app": "web"}});
    let set = PolicySet::new([to("a", mesh(), mesh(), 1), to("b", web, mesh(), 2)]);
    let select = |pairs: &[(&str, &str)]| set.for_proxy(&labels(pairs), zone(1));
    assert!(Arc::ptr_eq(&select(&[("x", "1")]), &select(&[("x", "2")])));
    assert!(!Arc::ptr_eq(&select(&[("x", "1")]), &select(&[("app", "web")])));
}

#[test]
fn a_later_generation_keeps_what_it_says_alike() {
    let keep = to("keep", mesh(), service("kept"), 1);
    let old = PolicySet::new([keep.clone(), to("change", mesh(), service("changed"), 1)]);
    let before = old.for_proxy(&labels(&[]), zone(1));
    let (kept, changed) = (timeouts(&before, "kept"), timeouts(&before, "changed"));
    let new = old.with([keep, to("change", mesh(), service("changed"), 2)]);
    let after = new.for_proxy(&labels(&[]), zone(1));
    assert!(!Arc::ptr_eq(&before, &after));
    assert!(Arc::ptr_eq(&kept, &timeouts(&after, "kept")));
    assert_ne!(changed, timeouts(&after, "changed"));
    let elsewhere = json!({"kind": "Dataplane", "labels": {"app": "elsewhere"}});
    let more = new.with(new.policies().iter().cloned().chain([to("more", elsewhere, mesh(), 3)]));
    assert!(Arc::ptr_eq(&after, &more.for_proxy(&labels(&[]), zone(1))), "a policy for others changes nothing here");
    assert_ne!(new, more);
}

proptest! {
    /// What differs between two generations is never left out, and what is the same on both ends never named.
    #[test]
    fn a_generation_knows_what_differs(
        old in prop::collection::btree_map("[a-h]", 0_u32..3, 0..8),
        new in prop::collection::btree_map("[a-h]", 0_u32..3, 0..8),
    ) {
        let made = |of: &std::collections::BTreeMap<String, u32>| -> Vec<_> {
            of.iter().map(|(name, timeout)| to(name, mesh(), mesh(), *timeout + 1)).collect()
        };
        let before = made(&old);
        let after: Vec<_> = made(&new)
            .into_iter()
            .map(|policy| before.iter().find(|old| ***old == *policy).map_or(policy, Arc::clone))
            .collect();
        let (first, second) = (PolicySet::new(before.clone()), PolicySet::new(after.clone()));
        let changed = second.changed_since(&first);
        let differs = |one: &[Arc<atoll_policy::Policy>], other: &[Arc<atoll_policy::Policy>]| -> Vec<_> {
            one.iter().filter(|policy| !other.iter().any(|same| Arc::ptr_eq(same, policy))).map(Arc::clone).collect()
        };
        for policy in differs(&before, &after).iter().chain(&differs(&after, &before)) {
            prop_assert!(changed.iter().any(|one| Arc::ptr_eq(one, policy)), "{:?} is left out", policy.key);
        }
        if old == new {
            prop_assert!(changed.is_empty());
        }
    }

    /// Looking destinations up by a label finds what looking at every entry finds.
    #[test]
    fn the_lookup_finds_what_matches(
        targets in prop::collection::vec(prop::collection::btree_map("[a-c]", "[x-z]", 0..3), 0..12),
        destination in prop::collection::btree_map("[a-c]", "[x-z]", 0..4),
    ) {
        let policies: Vec<_> = targets.iter().enumerate().map(|(index, wanted)| {
            let target = if wanted.is_empty() { mesh() } else { json!({"kind": "MeshService", "labels": wanted}) };
            to(&format!("p{index}"), mesh(), target, 1)
        }).collect();
        let selected = PolicySet::new(policies).for_proxy(&labels(&[]), zone(1));
        let facts = ServiceFacts { kind: Kind::MeshService, labels: &destination, section: "80", port: 80 };
        let mut found: Vec<_> = selected.timeout_origins_to(&facts).iter().map(|(policy, _)| policy.key.name.to_string()).collect();
        let holds = |wanted: &std::collections::BTreeMap<String, String>| wanted.iter().all(|(k, v)| destination.get(k) == Some(v));
        let mut expected: Vec<_> = (0..targets.len()).filter(|index| holds(&targets[*index])).map(|index| format!("p{index}")).collect();
        found.sort();
        expected.sort();
        prop_assert_eq!(found, expected);
    }
}
