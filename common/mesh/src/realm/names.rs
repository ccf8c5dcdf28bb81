//! Derives services with their virtual addresses and hostnames.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use atoll_model::{Kind, ResourceKey};

use super::{Aspect, Realm, fault};
use crate::{
    context::Context,
    hostnames::Named,
    snapshot::{NameTarget, Service},
    vips::Vips,
};

impl Realm {
    pub(super) fn refresh_services(&mut self, context: &Context, vips: &mut Vips) {
        let mut touched = std::mem::take(&mut self.dirty.vips);
        let generators = std::mem::take(&mut self.dirty.generators);
        touched.extend(self.hostnames.regenerate(context, &generators));
        let mut rebuilt = BTreeMap::new();
        let mut names_changed = false;
        for key in std::mem::take(&mut self.dirty.services) {
            let service = self.build_service(context, &key);
            self.multi_zones.follow(self.view.services.get(&key).map(AsRef::as_ref), service.as_ref());
            names_changed |= self.take_service(context, key, service, &mut rebuilt, &mut touched, vips);
        }
        // After the services that they are made of.
        for key in std::mem::take(&mut self.multi_zones.dirty) {
            let service = self.build_multi_zone(context, &key, &rebuilt);
            names_changed |= self.take_service(context, key, service, &mut rebuilt, &mut touched, vips);
        }
        touched.extend(rebuilt.keys().cloned());
        for key in touched {
            let base = rebuilt.remove(&key).or_else(|| self.view.services.get(&key).map(|old| Service::clone(old)));
            if let Some(service) = base {
                names_changed |= self.finish_service(context, service, vips);
            }
        }
        if names_changed {
            self.rebuild_names();
        }
    }

    /// Puts a service among the rebuilt ones, or takes it out of the view. Whether names may differ.
    fn take_service(
        &mut self,
        context: &Context,
        key: ResourceKey,
        service: Option<Service>,
        rebuilt: &mut BTreeMap<ResourceKey, Service>,
        touched: &mut BTreeSet<ResourceKey>,
        vips: &mut Vips,
    ) -> bool {
        let Some(service) = service else {
            touched.extend(self.hostnames.remove(&key));
            return self.drop_service(&key, vips);
        };
        touched.extend(self.hostnames.set(context, named(&service)));
        rebuilt.insert(key, service);
        false
    }

    /// Gives a service its address and names and puts it into the view, if it differs. Whether names may differ.
    fn finish_service(&mut self, context: &Context, mut service: Service, vips: &mut Vips) -> bool {
        let key = service.key.clone();
        service.vip = vips.address(&key).map(IpAddr::V4);
        (service.hostnames, service.generators) = self.hostnames.of(&key);
        let exhausted = service
            .vip
            .is_none()
            .then(|| fault("VirtualAddress", "Exhausted", "the network of virtual addresses has none left".to_owned()));
        self.set_fault(&key, Aspect::Vip, exhausted);
        if context.is_own(&key) && key.kind == Kind::MeshService {
            self.todo.computed.insert(key.clone());
        }
        let old = self.view.services.get(&key);
        if old.is_some_and(|old| **old == service) {
            return false;
        }
        let names_changed = old.is_none_or(|old| old.vip != service.vip || old.hostnames != service.hostnames);
        self.view.services.insert(key, Arc::new(service));
        self.changed = true;
        names_changed
    }

    /// Takes a service out of the view; whether it was there.
    fn drop_service(&mut self, key: &ResourceKey, vips: &mut Vips) -> bool {
        vips.release(key);
        self.set_fault(key, Aspect::Vip, None);
        let was_there = self.view.services.remove(key).is_some();
        self.changed |= was_there;
        was_there
    }

    fn rebuild_names(&mut self) {
        let mut names = BTreeMap::new();
        for (key, service) in &self.view.services {
            let Some(vip) = service.vip else { continue };
            let target = NameTarget { service: key.clone(), vip };
            names.extend(service.hostnames.iter().map(|hostname| (hostname.clone(), target.clone())));
        }
        if names != *self.view.names {
            self.view.names = Arc::new(names);
            self.changed = true;
        }
    }
}

fn named(service: &Service) -> Named {
    Named {
        key: service.key.clone(),
        created: service.created,
        alias: service.alias.clone(),
        labels: service.labels.clone(),
        zone: service.zone.clone(),
    }
}

/// Which services must be looked at again, by mesh.
pub(crate) fn by_mesh(services: BTreeSet<ResourceKey>) -> BTreeMap<atoll_model::Name, Vec<ResourceKey>> {
    let mut by_mesh: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for service in services {
        by_mesh.entry(service.mesh.clone()).or_default().push(service);
    }
    by_mesh
}
