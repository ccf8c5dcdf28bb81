//! MeshZoneAddresses of a mesh, and the endpoints that services of other zones have by them.

use std::{collections::BTreeSet, sync::Arc};

use atoll_model::{Owner, Resource, ResourceKey, ZoneUid, kinds::MeshZoneAddress};

use super::Realm;
use crate::{
    context::Context,
    snapshot::{Endpoint, Endpoints, ZoneAddress},
};

#[derive(Debug)]
pub(crate) struct AddressEntry {
    pub(crate) resource: Arc<Resource>,
    pub(crate) spec: MeshZoneAddress,
}

impl Realm {
    pub(crate) fn put_address(&mut self, context: &Context, resource: &Arc<Resource>) {
        let key = &resource.key;
        match resource.parse::<MeshZoneAddress>() {
            Ok(spec) => {
                self.set_spec_fault(key, None);
                self.addresses.insert(key.clone(), AddressEntry { resource: Arc::clone(resource), spec });
                self.mark_address(context, key);
            }
            Err(error) => {
                self.delete_address(context, key);
                self.set_spec_fault(key, Some(error.to_string()));
            }
        }
    }

    pub(crate) fn delete_address(&mut self, context: &Context, key: &ResourceKey) {
        self.addresses.remove(key);
        self.set_spec_fault(key, None);
        self.mark_address(context, key);
    }

    fn mark_address(&mut self, context: &Context, key: &ResourceKey) {
        self.dirty.addresses.insert(key.clone());
        self.todo.addresses |= context.is_own(key);
    }

    pub(super) fn refresh_addresses(&mut self, context: &Context) {
        for key in std::mem::take(&mut self.dirty.addresses) {
            if let Owner::Zone(uid) = key.owner {
                self.dirty.zones.insert(uid);
            }
            let address = self.addresses.get(&key).and_then(|entry| view(context, entry));
            if self.view.zone_addresses.get(&key).map(AsRef::as_ref) == address.as_ref() {
                continue;
            }
            match address {
                Some(address) => self.view.zone_addresses.insert(key, Arc::new(address)),
                None => self.view.zone_addresses.remove(&key),
            };
            self.changed = true;
        }
    }

    /// Marks the services of the zones whose endpoints differ.
    pub(super) fn refresh_zone_endpoints(&mut self, context: &Context) {
        for uid in std::mem::take(&mut self.dirty.zones) {
            let endpoints = self.endpoints_of_zone(context, uid);
            let old = self.zone_endpoints.get(&uid).map(|endpoints| endpoints.0.as_slice()).unwrap_or_default();
            if old == endpoints.0 {
                continue;
            }
            if endpoints.0.is_empty() {
                self.zone_endpoints.remove(&uid);
            } else {
                self.zone_endpoints.insert(uid, Arc::new(endpoints));
            }
            self.dirty.services.extend(self.services.of_zone(uid));
        }
    }

    /// None unless the zone is enabled and the mesh has identities: an ingress passes nothing but the mesh's TLS.
    fn endpoints_of_zone(&self, context: &Context, uid: ZoneUid) -> Endpoints {
        let owner = Owner::Zone(uid);
        let enabled = context.zones.get(uid).is_some_and(|zone| zone.enabled);
        if owner == context.owner || !enabled || self.identities.is_empty() {
            return Endpoints::default();
        }
        let of_zone = self.view.zone_addresses.iter().filter(|(key, _)| key.owner == owner);
        let endpoints: BTreeSet<_> = of_zone
            .filter_map(|(_, address)| {
                let (zone, port) = (address.zone.clone(), address.port);
                address.address.map(|address| Endpoint { priority: 1, zone, address, port, labels: Arc::default() })
            })
            .collect();
        Endpoints(endpoints.into_iter().collect())
    }
}

fn view(context: &Context, entry: &AddressEntry) -> Option<ZoneAddress> {
    Some(ZoneAddress {
        zone: context.zone_of(entry.resource.key.owner)?,
        host: entry.spec.address.clone(),
        address: context.resolve(&entry.spec.address),
        port: u16::try_from(entry.spec.port).ok()?,
    })
}
