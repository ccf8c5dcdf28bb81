//! MeshZoneAddresses from zone ingresses: one for each ready listener, unless the operator wrote any.

use std::collections::BTreeMap;

use atoll_model::{
    Kind, Labels, ResourceKey,
    kinds::{MeshZoneAddress, dataplane::ListenerKind},
    labels,
    resource::canonical_json,
};

use super::{ADDRESS_GENERATOR, Plan, Planned, is_managed_by};
use crate::{context::Context, realm::Realm};

impl Realm {
    pub(crate) fn plan_addresses(&mut self, context: &Context, plan: &mut Plan) {
        if !std::mem::take(&mut self.todo.addresses) {
            return;
        }
        let own = self.addresses.iter().filter(|(key, _)| context.is_own(key));
        let (generated, written): (Vec<_>, Vec<_>) =
            own.partition(|(_, entry)| is_managed_by(&entry.resource.labels, ADDRESS_GENERATOR));
        // What an operator wrote is what other zones can reach; the listener's own address may not be.
        let mut wanted = if written.is_empty() { self.ready_ingresses(context) } else { BTreeMap::new() };
        let planned = plan.writes.len();
        for (key, entry) in generated {
            match wanted.remove(key) {
                Some(spec) if spec == entry.spec => {}
                Some(spec) => plan.writes.push(put(key.clone(), &spec, Some(entry.resource.version))),
                None => plan.writes.push(Planned::Delete { key: key.clone(), version: Some(entry.resource.version) }),
            }
        }
        plan.writes.extend(wanted.into_iter().map(|(key, spec)| put(key, &spec, None)));
        self.todo.addresses = plan.writes.len() > planned;
    }

    fn ready_ingresses(&self, context: &Context) -> BTreeMap<ResourceKey, MeshZoneAddress> {
        let mut ready = BTreeMap::new();
        for dataplane in self.dataplanes.iter() {
            let listeners = dataplane.networking().map(|networking| networking.listeners.as_slice()).unwrap_or_default();
            for listener in listeners {
                if listener.kind != ListenerKind::ZoneIngress || !listener.is_ready() {
                    continue;
                }
                let name = format!("{}.{}", dataplane.resource.key.name, listener.section());
                let key = ResourceKey::new(Kind::MeshZoneAddress, self.mesh().clone(), name, context.owner);
                ready.insert(key, MeshZoneAddress { address: listener.address.clone(), port: listener.port });
            }
        }
        ready
    }
}

fn put(key: ResourceKey, spec: &MeshZoneAddress, version: Option<u64>) -> Planned {
    let labels = Labels::from([(labels::MANAGED_BY.to_owned(), ADDRESS_GENERATOR.to_owned())]);
    Planned::Put { key, labels, spec: canonical_json(spec), version }
}
