//! The zones: their names by lasting identity.

use std::collections::{BTreeMap, BTreeSet};

use atoll_model::{Name, Resource, ResourceKey, ZoneUid, kinds::Zone};

/// What is known of another zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ZoneFacts {
    pub(crate) name: Name,
    pub(crate) enabled: bool,
}

/// Every zone that has joined.
#[derive(Debug, Default)]
pub(crate) struct Zones {
    resources: BTreeMap<ResourceKey, (ZoneUid, ZoneFacts)>,
    by_uid: BTreeMap<ZoneUid, ZoneFacts>,
}

impl Zones {
    pub(crate) fn get(&self, uid: ZoneUid) -> Option<&ZoneFacts> {
        self.by_uid.get(&uid)
    }

    /// Takes a Zone, or its end; returns the zones that look different now.
    pub(crate) fn set(&mut self, key: &ResourceKey, resource: Option<&Resource>) -> BTreeSet<ZoneUid> {
        let facts = resource.and_then(|resource| resource.parse::<Zone>().ok()).and_then(|zone| {
            // A zone that has not joined yet owns nothing.
            zone.uid.map(|uid| (uid, ZoneFacts { name: key.name.clone(), enabled: zone.is_enabled() }))
        });
        let old = match facts {
            Some(facts) => self.resources.insert(key.clone(), facts),
            None => self.resources.remove(key),
        };
        let new = self.resources.get(key);
        let touched = old.iter().chain(new).map(|(uid, _)| *uid).collect::<BTreeSet<_>>();
        touched.into_iter().filter(|uid| self.refresh(*uid)).collect()
    }

    /// Reads one zone again; whether it looks different.
    fn refresh(&mut self, uid: ZoneUid) -> bool {
        let facts = self.resources.values().find(|(other, _)| *other == uid).map(|(_, facts)| facts.clone());
        let old = match facts.clone() {
            Some(facts) => self.by_uid.insert(uid, facts),
            None => self.by_uid.remove(&uid),
        };
        old != facts
    }
}
