//! The policies of one proxy, and what they say.

use std::{collections::BTreeSet, sync::Arc};

use atoll_model::{
    Kind,
    policies::{
        mesh_load_balancing_strategy::Strategy,
        mesh_passthrough::Passthrough,
        mesh_timeout::Timeouts,
        mesh_tls::{Mode, Tls},
    },
};
use serde::de::DeserializeOwned;
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use crate::{
    Changed, IncomingRule, PermissionSet, Policy, PolicySpec, ServiceFacts, incoming, intern::Interner, outgoing::Entries,
};

/// The policies that select a proxy. Proxies that the same policies select share one value.
#[derive(Debug)]
pub struct SelectedPolicies {
    fingerprint: u128,
    policies: Vec<Arc<Policy>>,
    timeouts: Entries,
    strategies: Entries,
    affinity_keys: Vec<String>,
    shared: Arc<Shared>,
}

impl PartialEq for SelectedPolicies {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
    }
}

/// Merged configuration of every selection of a set, and of the sets that come after it.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    timeouts: Interner<Timeouts>,
    strategies: Interner<Strategy>,
    tls: Interner<Tls>,
    permissions: Interner<PermissionSet>,
    passthroughs: Interner<Passthrough>,
}

impl Shared {
    pub(crate) fn prune(&self) {
        self.timeouts.prune();
        self.strategies.prune();
        self.tls.prune();
        self.permissions.prune();
        self.passthroughs.prune();
    }
}

impl Default for SelectedPolicies {
    /// No policy.
    fn default() -> Self {
        Self::new(Vec::new(), Arc::default())
    }
}

impl SelectedPolicies {
    /// Takes policies in ascending order.
    pub(crate) fn new(policies: Vec<Arc<Policy>>, shared: Arc<Shared>) -> Self {
        Self {
            fingerprint: fingerprint(&policies),
            timeouts: Entries::new(Kind::MeshTimeout, &policies),
            strategies: Entries::new(Kind::MeshLoadBalancingStrategy, &policies),
            affinity_keys: affinity_keys(&policies),
            policies,
            shared,
        }
    }

    /// Equal for selections of equal policies.
    pub fn fingerprint(&self) -> u128 {
        self.fingerprint
    }

    /// The policies, ascending: later ones override earlier ones.
    pub fn policies(&self) -> &[Arc<Policy>] {
        &self.policies
    }

    /// Timeouts towards one port of a destination; absent fields are at their defaults.
    pub fn timeouts_to(&self, service: &ServiceFacts<'_>) -> Arc<Timeouts> {
        self.timeouts.merged_to(service, &self.shared.timeouts)
    }

    /// Which entries [`SelectedPolicies::timeouts_to`] merged: policy and position in `to`, ascending.
    pub fn timeout_origins_to(&self, service: &ServiceFacts<'_>) -> Vec<(Arc<Policy>, usize)> {
        self.timeouts.origins_to(service)
    }

    /// All `to` entries of MeshTimeout, ascending: policy and position in `to`.
    pub fn timeout_entries(&self) -> impl Iterator<Item = (&Arc<Policy>, usize)> {
        self.timeouts.all()
    }

    /// How requests to one port of a destination are spread; absent fields are at their defaults.
    pub fn strategy_to(&self, service: &ServiceFacts<'_>) -> Arc<Strategy> {
        self.strategies.merged_to(service, &self.shared.strategies)
    }

    /// Keys of the labels by which some strategy tells what is near: sorted, each once.
    pub fn affinity_keys(&self) -> &[String] {
        &self.affinity_keys
    }

    /// Timeouts of an inbound or zone proxy listener, for callers that no more specific rule is about.
    pub fn inbound_timeouts(&self, section: &str) -> Arc<Timeouts> {
        self.catch_all(&self.shared.timeouts, |policy| policy.key.kind == Kind::MeshTimeout && policy.selects_section(section))
    }

    /// All rules of MeshTimeout for an inbound, the more specific match first.
    pub fn inbound_timeout_rules(&self, section: &str) -> Vec<IncomingRule> {
        self.rules(Kind::MeshTimeout, section)
    }

    /// All rules of a kind for an inbound, the more specific match first, else ascending.
    pub fn rules(&self, kind: Kind, section: &str) -> Vec<IncomingRule> {
        incoming::rules(self.policies.iter().filter(|policy| policy.key.kind == kind && policy.selects_section(section)))
    }

    /// TLS of an inbound. The mode is always set; absent versions and ciphers are at their defaults.
    pub fn tls(&self, section: &str) -> Arc<Tls> {
        self.merged_tls(|policy| policy.selects_section(section))
    }

    /// TLS towards destinations: what holds for the whole proxy.
    pub fn client_tls(&self) -> Arc<Tls> {
        self.merged_tls(|policy| policy.target.section_name.is_none())
    }

    fn merged_tls(&self, holds: impl Fn(&Policy) -> bool) -> Arc<Tls> {
        let merged: Arc<Tls> = self.catch_all(&self.shared.tls, |policy| policy.key.kind == Kind::MeshTls && holds(policy));
        match merged.mode {
            Some(_) => merged,
            None => {
                let mut tls = Tls::clone(&merged);
                tls.mode = Some(Mode::Strict);
                let key = xxh3_128(&serde_json::to_vec(&tls).unwrap_or_default());
                self.shared.tls.get(key, || tls)
            }
        }
    }

    /// Who may call an inbound.
    pub fn permissions(&self, section: &str) -> Arc<PermissionSet> {
        let holding: Vec<_> =
            self.holding(|policy| policy.key.kind == Kind::MeshTrafficPermission && policy.selects_section(section));
        self.shared.permissions.get(fingerprint(&holding), || PermissionSet::join(holding.iter().map(AsRef::as_ref)))
    }

    /// Where traffic may go that is not the mesh's: the last mode that is set, and the destinations of all policies. None without
    /// any policy.
    pub fn passthrough(&self) -> Option<Arc<Passthrough>> {
        let holding = self.holding(|policy| policy.key.kind == Kind::MeshPassthrough);
        (!holding.is_empty()).then(|| self.shared.passthroughs.get(fingerprint(&holding), || join(&holding)))
    }

    /// What differs from an earlier selection.
    pub fn changed_since(&self, old: &SelectedPolicies) -> Changed {
        Changed::between(&old.policies, &self.policies)
    }

    fn catch_all<T: DeserializeOwned + Default>(&self, merged: &Interner<T>, holds: impl Fn(&Policy) -> bool) -> Arc<T> {
        let holding = self.holding(holds);
        // Every rule parsed as `T`, and so does what they say together.
        merged.get(fingerprint(&holding), || serde_json::from_value(incoming::catch_all(holding.iter())).unwrap_or_default())
    }

    fn holding(&self, holds: impl Fn(&Policy) -> bool) -> Vec<Arc<Policy>> {
        self.policies.iter().filter(|policy| holds(policy)).map(Arc::clone).collect()
    }
}

fn join(policies: &[Arc<Policy>]) -> Passthrough {
    let mut joined = Passthrough::default();
    for policy in policies {
        let PolicySpec::Passthrough(spec) = &policy.spec else { continue };
        joined.passthrough_mode = spec.default.passthrough_mode.or(joined.passthrough_mode);
        joined.append_match.extend(spec.default.append_match.iter().cloned());
    }
    joined
}

fn affinity_keys(policies: &[Arc<Policy>]) -> Vec<String> {
    let strategies = policies.iter().filter_map(|policy| match &policy.spec {
        PolicySpec::Strategy(spec) => Some(&spec.to),
        PolicySpec::Timeout(_) | PolicySpec::Tls(_) | PolicySpec::Permission(_) | PolicySpec::Passthrough(_) => None,
    });
    let localities = strategies.flatten().filter_map(|to| to.default.locality_awareness.as_ref());
    let tags = localities.filter_map(|locality| locality.local_zone.as_ref()).flat_map(|zone| &zone.affinity_tags);
    let keys: BTreeSet<&String> = tags.map(|tag| &tag.key).collect();
    keys.into_iter().cloned().collect()
}

pub(crate) fn fingerprint(policies: &[Arc<Policy>]) -> u128 {
    let mut hasher = Xxh3::new();
    for policy in policies {
        hasher.update(&policy.hash.to_bytes());
    }
    hasher.digest128()
}
