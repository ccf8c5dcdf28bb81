//! What the inbounds of proxies were made to, so that a change of something else makes none of them again.

use std::{collections::BTreeMap, sync::Arc};

use atoll_model::{
    ResourceKey,
    kinds::Dataplane,
    policies::{mesh_timeout::Timeouts, mesh_tls::Tls},
};
use atoll_policy::PermissionSet;

use super::Lease;
use crate::Encoded;

/// All that the resources of one inbound are made of. Policies keep their `Arc` while they say the same.
pub(crate) struct InboundOf {
    pub(crate) spec: Arc<Dataplane>,
    pub(crate) tls: Arc<Tls>,
    pub(crate) permissions: Arc<PermissionSet>,
    pub(crate) timeouts: Arc<Timeouts>,
    pub(crate) secret: Option<String>,
    pub(crate) epoch: u64,
    pub(crate) logged: bool,
}

impl InboundOf {
    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.spec, &other.spec)
            && Arc::ptr_eq(&self.tls, &other.tls)
            && Arc::ptr_eq(&self.permissions, &other.permissions)
            && Arc::ptr_eq(&self.timeouts, &other.timeouts)
            && self.secret == other.secret
            && self.epoch == other.epoch
            && self.logged == other.logged
    }
}

/// By proxy and section.
#[derive(Default)]
pub(super) struct Inbounds(BTreeMap<(ResourceKey, String), Made>);

struct Made {
    of: InboundOf,
    resources: Vec<Arc<Encoded>>,
    used: bool,
    lease: Lease,
}

impl Inbounds {
    pub(super) fn retire(&mut self) {
        self.0.retain(|_, made| std::mem::take(&mut made.used) || made.lease.is_held());
    }

    pub(super) fn get(
        &mut self,
        proxy: &ResourceKey,
        section: String,
        of: InboundOf,
        make: impl FnOnce(&InboundOf) -> Vec<Encoded>,
    ) -> (&[Arc<Encoded>], Lease) {
        let key = (proxy.clone(), section);
        if self.0.get(&key).is_none_or(|made| !made.of.is(&of)) {
            let resources = make(&of).into_iter().map(Arc::new).collect();
            self.0.insert(key.clone(), Made { of, resources, used: true, lease: Lease::default() });
        }
        match self.0.get_mut(&key) {
            Some(made) => {
                made.used = true;
                (&made.resources, made.lease.clone())
            }
            None => (&[], Lease::default()),
        }
    }
}
