//! When the filter chain of an inbound must get a new name.
//!
//! Envoy judges a TCP connection once, when it opens (E7). A withdrawn permission or trust must end the connections that it let
//! in; renaming the chain does that, after the drain time, and nothing else may. So each inbound has an epoch, which grows only
//! when something that was granted is not granted any more. It is kept over restarts: a chain that changed its name because the
//! plane restarted would cut streams for nothing, and a withdrawal that happened meanwhile must still cut.

use std::collections::BTreeSet;

use atoll_policy::{Permission, PermissionSet};
use serde::{Deserialize, Serialize};

/// What an inbound granted when it was last looked at, and the epoch in its chain's name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainState {
    /// Grows with each withdrawal.
    pub epoch: u64,
    allowed: BTreeSet<String>,
    denied: BTreeSet<String>,
    trusted: BTreeSet<String>,
}

impl ChainState {
    /// The state after looking again: `permissions` of the inbound and the trust anchors (`domain#certificate hash`) of the mesh.
    pub fn next(previous: Option<&ChainState>, permissions: &PermissionSet, trusted: BTreeSet<String>) -> ChainState {
        let allowed = texts(permissions.allow.iter().chain(&permissions.shadow));
        let denied = texts(permissions.deny.iter());
        let Some(previous) = previous else { return ChainState { epoch: 0, allowed, denied, trusted } };
        let withdrawn = !previous.allowed.is_subset(&allowed)
            || !denied.is_subset(&previous.denied)
            || has_lost_a_domain(&previous.trusted, &trusted);
        ChainState { epoch: previous.epoch + u64::from(withdrawn), allowed, denied, trusted }
    }
}

/// Whether a trust domain lost every CA that it had. One that lost some goes on by the others: that is how a CA retires, when nobody
/// shows a certificate of it any more, and who came in by one before has a newer one.
fn has_lost_a_domain(before: &BTreeSet<String>, now: &BTreeSet<String>) -> bool {
    let domain = |anchor: &String| anchor.split('#').next().unwrap_or_default().to_owned();
    let kept: BTreeSet<String> = before.intersection(now).map(domain).collect();
    before.iter().any(|anchor| !kept.contains(&domain(anchor)))
}

/// The callers, whichever policy names them.
fn texts<'a>(permissions: impl Iterator<Item = &'a Permission>) -> BTreeSet<String> {
    permissions.map(|permission| serde_json::to_string(&permission.matched).unwrap_or_default()).collect()
}

#[cfg(test)]
mod tests {
    use atoll_model::policies::{InboundMatch, SpiffeMatch, inbound_match::SpiffeMatchKind};

    use super::*;

    fn caller(policy: &str, id: &str) -> Permission {
        let spiffe = SpiffeMatch { kind: SpiffeMatchKind::Exact, value: format!("spiffe://{id}") };
        Permission { policy: policy.to_owned(), matched: InboundMatch { spiffe_id: Some(spiffe), sni: None } }
    }

    fn set(allow: &[Permission], deny: &[Permission]) -> PermissionSet {
        PermissionSet { allow: allow.to_vec(), deny: deny.to_vec(), shadow: Vec::new() }
    }

    fn anchors(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    /// The epoch after each step.
    fn epochs(steps: &[(PermissionSet, &[&str])]) -> Vec<u64> {
        let mut state = None;
        steps
            .iter()
            .map(|(permissions, trusted)| {
                let next = ChainState::next(state.as_ref(), permissions, anchors(trusted));
                let epoch = next.epoch;
                state = Some(next);
                epoch
            })
            .collect()
    }

    #[test]
    fn granting_more_renames_nothing() {
        let a = caller("p", "a");
        let steps: [(PermissionSet, &[&str]); 4] = [
            (set(&[], &[]), &[]),
            (set(std::slice::from_ref(&a), &[]), &["x"]),
            (set(&[a.clone(), caller("p", "b")], &[]), &["x", "y"]),
            (set(&[caller("other", "a"), caller("p", "b")], &[]), &["x", "y"]),
        ];
        assert_eq!(epochs(&steps), [0, 0, 0, 0]);
    }

    #[test]
    fn each_withdrawal_renames_once() {
        let (a, b) = (caller("p", "a"), caller("p", "b"));
        let steps: [(PermissionSet, &[&str]); 6] = [
            (set(&[a.clone(), b.clone()], &[]), &["x", "y"]),
            (set(std::slice::from_ref(&a), &[]), &["x", "y"]),
            (set(std::slice::from_ref(&a), &[]), &["x", "y"]),
            (set(std::slice::from_ref(&a), std::slice::from_ref(&b)), &["x", "y"]),
            (set(std::slice::from_ref(&a), std::slice::from_ref(&b)), &["y"]),
            (set(&[], &[]), &["y"]),
        ];
        assert_eq!(epochs(&steps), [0, 1, 1, 2, 3, 4]);
    }

    #[test]
    fn a_ca_retires_without_a_cut_and_a_domain_that_is_given_up_cuts() {
        let all = set(&[caller("p", "a")], &[]);
        let steps: [(PermissionSet, &[&str]); 5] = [
            (all.clone(), &["gcp#1", "azure#1"]),
            (all.clone(), &["gcp#1", "gcp#2", "azure#1"]),
            (all.clone(), &["gcp#2", "azure#1"]),
            // Another CA in one step, and no CA at all.
            (all.clone(), &["gcp#3", "azure#1"]),
            (all, &["gcp#3"]),
        ];
        assert_eq!(epochs(&steps), [0, 0, 0, 1, 2]);
    }

    #[test]
    fn what_was_granted_before_a_restart_is_remembered() {
        let before = ChainState::next(None, &set(&[caller("p", "a")], &[]), anchors(&["x"]));
        let stored = serde_json::to_vec(&before).unwrap();
        let restored: ChainState = serde_json::from_slice(&stored).unwrap();
        assert_eq!(ChainState::next(Some(&restored), &set(&[caller("p", "a")], &[]), anchors(&["x"])).epoch, 0);
        assert_eq!(ChainState::next(Some(&restored), &set(&[], &[]), anchors(&["x"])).epoch, 1);
    }
}
