//! The policies of a mesh.

use std::{collections::BTreeMap, sync::Arc};

use atoll_model::{Owner, Resource, ResourceKey, ZoneUid};
use atoll_policy::Policy;

use super::Realm;
use crate::context::Context;

/// The policies, each parsed once.
#[derive(Debug, Default)]
pub(super) struct Policies {
    resources: BTreeMap<ResourceKey, Arc<Resource>>,
    parsed: BTreeMap<ResourceKey, Arc<Policy>>,
}

impl Policies {
    pub(super) fn is_empty(&self) -> bool {
        self.resources.is_empty()
    }
}

impl Realm {
    pub(crate) fn put_policy(&mut self, context: &Context, resource: &Arc<Resource>) {
        let key = &resource.key;
        let zone = context.zone_of(key.owner).unwrap_or_else(atoll_model::Name::none);
        let parsed = Policy::parse(resource, context.present(resource, &zone), &zone);
        self.policies.resources.insert(key.clone(), Arc::clone(resource));
        match parsed {
            Ok(policy) => {
                self.set_spec_fault(key, None);
                if self.policies.parsed.get(key).is_some_and(|old| **old == policy) {
                    return;
                }
                self.policies.parsed.insert(key.clone(), Arc::new(policy));
            }
            Err(fault) => {
                self.set_spec_fault(key, Some(fault.message));
                self.policies.parsed.remove(key);
            }
        }
        self.dirty.policies = true;
    }

    pub(crate) fn delete_policy(&mut self, key: &ResourceKey) {
        self.policies.resources.remove(key);
        self.set_spec_fault(key, None);
        self.dirty.policies |= self.policies.parsed.remove(key).is_some();
    }

    /// A zone's name stands in the KRIs and labels of its policies.
    pub(super) fn reparse_policies(&mut self, context: &Context, uid: ZoneUid) {
        let of_zone = |resource: &&Arc<Resource>| resource.key.owner == Owner::Zone(uid);
        let resources: Vec<_> = self.policies.resources.values().filter(of_zone).map(Arc::clone).collect();
        for resource in resources {
            self.put_policy(context, &resource);
        }
    }

    pub(super) fn refresh_policies(&mut self) {
        if !std::mem::take(&mut self.dirty.policies) {
            return;
        }
        let set = self.view.policies.with(self.policies.parsed.values().map(Arc::clone));
        if set != *self.view.policies {
            self.view.policies = Arc::new(set);
            self.changed = true;
        }
    }
}
