//! MeshTrusts of a mesh, judged and joined.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use atoll_model::{Owner, Resource, ResourceKey, kinds::MeshTrust, spiffe::TrustDomain};

use super::{Aspect, Realm, fault};
use crate::{context::Context, trust::TrustBundles};

/// The MeshTrusts.
#[derive(Debug, Default)]
pub(super) struct Trusts(BTreeMap<ResourceKey, Entry>);

#[derive(Debug)]
struct Entry {
    spec: MeshTrust,
    /// The domain for which it is believed, or why it is not; none until it is judged.
    verdict: Option<Result<TrustDomain, String>>,
}

impl Trusts {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The verdicts hang on the MeshIdentities.
    pub(super) fn forget_verdicts(&mut self) {
        for entry in self.0.values_mut() {
            entry.verdict = None;
        }
    }
}

impl Realm {
    pub(crate) fn put_trust(&mut self, resource: &Arc<Resource>) {
        let key = &resource.key;
        self.dirty.trust = true;
        match resource.parse::<MeshTrust>() {
            Ok(spec) => {
                self.set_spec_fault(key, None);
                self.trusts.0.insert(key.clone(), Entry { spec, verdict: None });
            }
            Err(error) => {
                self.delete_trust(key);
                self.set_spec_fault(key, Some(error.to_string()));
            }
        }
    }

    pub(crate) fn delete_trust(&mut self, key: &ResourceKey) {
        self.dirty.trust = true;
        self.trusts.0.remove(key);
        self.set_spec_fault(key, None);
        self.set_fault(key, Aspect::Trust, None);
    }

    pub(super) fn refresh_trust(&mut self, context: &Context) {
        if !std::mem::take(&mut self.dirty.trust) {
            return;
        }
        self.judge_trusts(context);
        let mut bundles: BTreeMap<TrustDomain, BTreeSet<String>> = BTreeMap::new();
        for entry in self.trusts.0.values() {
            let Some(Ok(domain)) = &entry.verdict else { continue };
            let pems = entry.spec.ca_bundles.iter().map(|bundle| format!("{}\n", bundle.pem.value.trim()));
            bundles.entry(domain.clone()).or_default().extend(pems);
        }
        let bundles = TrustBundles::new(bundles);
        if bundles == *self.view.trust {
            return;
        }
        // Whether a service is ready for TLS hangs on the known domains, not on their CAs.
        if !bundles.bundles().keys().eq(self.view.trust.bundles().keys()) {
            self.mark_own_services(context);
        }
        self.view.trust = Arc::new(bundles);
        self.changed = true;
    }

    fn judge_trusts(&mut self, context: &Context) {
        let identities = self.identities.of_global();
        let mut faults = Vec::new();
        for (key, entry) in &mut self.trusts.0 {
            let spec = &entry.spec;
            let verdict = entry.verdict.get_or_insert_with(|| match key.owner {
                Owner::Zone(uid) if key.owner != context.owner => context.acceptance.judge(&key.name, uid, spec, &identities),
                Owner::Global | Owner::Zone(_) => {
                    spec.trust_domain.parse().map_err(|error: atoll_model::spiffe::SpiffeError| error.to_string())
                }
            });
            let refused = verdict.as_ref().err().map(|why| fault("Accepted", "Refused", why.clone()));
            faults.push((key.clone(), refused));
        }
        for (key, refused) in faults {
            self.set_fault(&key, Aspect::Trust, refused);
        }
    }
}
