//! Which proxies are made anew, and when.

use std::{collections::BTreeSet, sync::Arc};

use atoll_envoy::ResourceType;

use super::{super::made::PolicyChanges, Builder};
use crate::{engine::ZoneView, runners::ProxyId};

impl Builder {
    /// Makes anew what the newest view has a bearing on.
    pub(super) fn follow(&mut self) {
        self.forget_unwanted();
        let view = Arc::clone(&self.parts.view.borrow_and_update());
        let (mut changes, mut touched, mut untouched) = (PolicyChanges::default(), Vec::new(), Vec::new());
        for (id, proxy) in &mut self.proxies {
            let Some(snapshot) = view.meshes.get(&id.mesh) else { continue };
            let dataplane = snapshot.dataplanes.get(&id.name);
            let holds = dataplane
                .zip(proxy.made.as_mut())
                .is_some_and(|(dataplane, made)| made.still_holds(snapshot, &view.name_shapes, dataplane, &mut changes));
            let list = if holds { &mut untouched } else { &mut touched };
            list.push(id.clone());
        }
        self.build(&touched, &view);
        self.cache.retire();
        if cfg!(debug_assertions) {
            untouched.iter().for_each(|id| self.check(id, &view));
        }
    }

    /// The oracle of debug builds: what was not made again would be the same, were it made from nothing. Certificates follow a
    /// clock, and are left out.
    fn check(&mut self, id: &ProxyId, view: &ZoneView) {
        let Some(proxy) = self.proxies.get(id) else { return };
        let Some((held, bound)) = proxy.config.clone().zip(proxy.bound.clone()) else { return };
        let Some(snapshot) = view.meshes.get(&id.mesh) else { return };
        let Some(dataplane) = snapshot.dataplanes.get(&id.name) else { return };
        let shared = std::mem::take(&mut self.cache);
        let again = self.resources(id, snapshot, dataplane, &bound.bound);
        self.cache = shared;
        let kinds = ResourceType::ALL.into_iter().filter(|kind| *kind != ResourceType::Secret);
        for (kind, again) in kinds.filter_map(|kind| Some((kind, again.as_ref()?.of(kind)))) {
            assert!(held.set().of(kind) == again, "a change had a bearing on {kind} of {id}, which were not made again");
        }
    }

    /// Makes everything anew: certificates may differ.
    pub(super) fn build_all(&mut self) {
        self.forget_unwanted();
        let all: Vec<_> = self.proxies.keys().cloned().collect();
        self.renew_at = None;
        let view = Arc::clone(&self.parts.view.borrow_and_update());
        self.build(&all, &view);
        self.cache.retire();
    }

    /// Makes some proxies anew. A newer view stays unseen: the others have to be looked at, too.
    pub(super) fn build_some(&mut self, ids: &BTreeSet<ProxyId>) {
        let view = Arc::clone(&self.parts.view.borrow());
        self.build(ids, &view);
    }

    fn forget_unwanted(&mut self) {
        self.proxies.retain(|_, proxy| proxy.is_wanted());
        self.granted.retain(|id, _| self.proxies.contains_key(id));
        self.certificates.retain(|id, _| self.proxies.contains_key(id));
        self.waiting.retain(|id| self.proxies.contains_key(id));
    }

    fn build<'a>(&mut self, ids: impl IntoIterator<Item = &'a ProxyId>, view: &ZoneView) {
        for id in ids {
            let Some(snapshot) = view.meshes.get(&id.mesh) else { continue };
            self.build_one(id, snapshot, view);
        }
    }
}
