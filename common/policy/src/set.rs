//! All policies of a mesh.

use std::sync::Arc;

use atoll_model::{Labels, Owner};

use crate::{
    Policy, SelectedPolicies,
    intern::Interner,
    precedence,
    selected::{self, Shared},
};

/// All policies of a mesh, parsed, in order of precedence.
#[derive(Clone, Debug)]
pub struct PolicySet {
    policies: Arc<[Arc<Policy>]>,
    fingerprint: u128,
    /// Selections by fingerprint, also those of earlier generations that are still held.
    selections: Arc<Interner<SelectedPolicies>>,
    shared: Arc<Shared>,
}

impl PartialEq for PolicySet {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint && self.policies.len() == other.policies.len()
    }
}

impl Default for PolicySet {
    /// No policy.
    fn default() -> Self {
        Self {
            fingerprint: selected::fingerprint(&[]),
            policies: Arc::default(),
            selections: Arc::default(),
            shared: Arc::default(),
        }
    }
}

impl PolicySet {
    /// Sorts policies into a set.
    pub fn new(policies: impl IntoIterator<Item = Arc<Policy>>) -> Self {
        Self::default().with(policies)
    }

    /// The next generation: other policies, but what both say alike stays shared (the same `Arc`s).
    #[must_use]
    pub fn with(&self, policies: impl IntoIterator<Item = Arc<Policy>>) -> Self {
        let mut policies: Vec<_> = policies.into_iter().collect();
        policies.sort_by(|a, b| precedence::of_policy(a).cmp(&precedence::of_policy(b)));
        self.selections.prune();
        self.shared.prune();
        Self {
            fingerprint: selected::fingerprint(&policies),
            policies: policies.into(),
            selections: Arc::clone(&self.selections),
            shared: Arc::clone(&self.shared),
        }
    }

    /// Equal for sets of equal policies.
    pub fn fingerprint(&self) -> u128 {
        self.fingerprint
    }

    /// The policies, ascending: later ones override earlier ones. Shadow policies are among them.
    pub fn policies(&self) -> &[Arc<Policy>] {
        &self.policies
    }

    /// The policies in which this set differs from an earlier generation, as they were and as they are. Others between them in the
    /// order may be among them.
    pub fn changed_since(&self, old: &Self) -> Vec<Arc<Policy>> {
        let alike = |(one, other): &(&Arc<Policy>, &Arc<Policy>)| Arc::ptr_eq(one, other);
        let before = self.policies.iter().zip(old.policies.iter()).take_while(alike).count();
        let (new, old) = (&self.policies[before..], &old.policies[before..]);
        let after = new.iter().rev().zip(old.iter().rev()).take_while(alike).count();
        let differing = old[..old.len() - after].iter().chain(&new[..new.len() - after]);
        differing.map(Arc::clone).collect()
    }

    /// The policies that select a proxy with these presented labels, of this owner.
    pub fn for_proxy(&self, labels: &Labels, owner: Owner) -> Arc<SelectedPolicies> {
        let selected: Vec<_> = self.policies.iter().filter(|policy| policy.selects(labels, owner)).map(Arc::clone).collect();
        self.selections.get(selected::fingerprint(&selected), || SelectedPolicies::new(selected, Arc::clone(&self.shared)))
    }
}
