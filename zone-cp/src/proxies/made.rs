//! What the resources of a proxy were made of, so that a change that has no bearing on it makes nothing again.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use atoll_envoy::Lease;
use atoll_mesh::{
    MeshSnapshot,
    snapshot::{NameTarget, OrdMap, ProxyView, Service},
    trust::TrustBundles,
};
use atoll_model::ResourceKey;
use atoll_policy::{Policy, PolicySet};

/// What the resources and names of one proxy were made of, beside what its runner wishes and its certificate.
pub(super) struct MadeOf {
    services: OrdMap<ResourceKey, Arc<Service>>,
    names: Arc<BTreeMap<String, NameTarget>>,
    shapes: Arc<BTreeSet<String>>,
    trust: Arc<TrustBundles>,
    policies: Arc<PolicySet>,
    dataplane: Arc<ProxyView>,
    /// What it shares with other proxies stays while it is held.
    _leases: Vec<Lease>,
}

impl MadeOf {
    pub(super) fn new(
        snapshot: &MeshSnapshot,
        shapes: &Arc<BTreeSet<String>>,
        dataplane: Arc<ProxyView>,
        leases: Vec<Lease>,
    ) -> Self {
        Self {
            services: snapshot.services.clone(),
            names: Arc::clone(&snapshot.names),
            shapes: Arc::clone(shapes),
            trust: Arc::clone(&snapshot.trust),
            policies: Arc::clone(&snapshot.policies),
            dataplane,
            _leases: leases,
        }
    }

    /// Whether the same would come out of this snapshot, without making it. Costs comparisons of pointers, and one look at the
    /// labels for each policy that changed.
    pub(super) fn still_holds(
        &mut self,
        snapshot: &MeshSnapshot,
        shapes: &Arc<BTreeSet<String>>,
        dataplane: &Arc<ProxyView>,
        changes: &mut PolicyChanges,
    ) -> bool {
        let same = self.services.ptr_eq(&snapshot.services)
            && Arc::ptr_eq(&self.names, &snapshot.names)
            && Arc::ptr_eq(&self.shapes, shapes)
            && Arc::ptr_eq(&self.trust, &snapshot.trust)
            && Arc::ptr_eq(&self.dataplane, dataplane);
        if !same {
            return false;
        }
        if Arc::ptr_eq(&self.policies, &snapshot.policies) {
            return true;
        }
        let changed = changes.between(&self.policies, &snapshot.policies);
        if changed.iter().any(|policy| policy.selects(&dataplane.labels, dataplane.key.owner)) {
            return false;
        }
        self.policies = Arc::clone(&snapshot.policies);
        true
    }
}

/// What differs between two sets of policies: found once for all proxies of a round.
#[derive(Default)]
pub(super) struct PolicyChanges(Option<Difference>);

struct Difference {
    old: Arc<PolicySet>,
    new: Arc<PolicySet>,
    changed: Vec<Arc<Policy>>,
}

impl PolicyChanges {
    fn between(&mut self, old: &Arc<PolicySet>, new: &Arc<PolicySet>) -> &[Arc<Policy>] {
        let held = self.0.take().filter(|held| Arc::ptr_eq(&held.old, old) && Arc::ptr_eq(&held.new, new));
        let difference =
            held.unwrap_or_else(|| Difference { old: Arc::clone(old), new: Arc::clone(new), changed: new.changed_since(old) });
        &self.0.insert(difference).changed
    }
}
