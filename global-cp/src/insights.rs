//! What zones tell of their dataplanes at work: soft values, kept in the memory of the instance that has the zone's link.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use atoll_link::SoftSink;
use atoll_model::{Kind, Owner, ResourceKey, ZoneUid};
use bytes::Bytes;
use serde_json::Value;

/// What one zone may tell of, at most.
const PER_ZONE: usize = 20_000;
/// Bytes of one value, at most.
const SIZE: usize = 16 << 10;

/// The newest value of each dataplane.
#[derive(Debug, Default)]
pub(crate) struct Insights(Mutex<BTreeMap<ZoneUid, BTreeMap<String, Bytes>>>);

impl SoftSink for Insights {
    fn put(&self, zone: ZoneUid, key: &str, value: Option<Bytes>) {
        let mut zones = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let values = zones.entry(zone).or_default();
        match value {
            Some(value) if value.len() <= SIZE && (values.len() < PER_ZONE || values.contains_key(key)) => {
                values.insert(key.to_owned(), value);
            }
            Some(_) | None => {
                values.remove(key);
            }
        }
    }
}

impl Insights {
    /// What its zone told last of a dataplane.
    pub(crate) fn of(&self, key: &ResourceKey) -> Option<Value> {
        let (Kind::Dataplane, Owner::Zone(zone)) = (key.kind, key.owner) else { return None };
        let zones = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let value = zones.get(&zone)?.get(&format!("dataplane/{}/{}", key.mesh, key.name))?;
        serde_json::from_slice::<Value>(value).ok().filter(Value::is_object)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_newest_word_of_the_owning_zone_counts() {
        let insights = Insights::default();
        let (one, other) = (ZoneUid(uuid::Uuid::from_u128(1)), ZoneUid(uuid::Uuid::from_u128(2)));
        let key = |zone| ResourceKey::new(Kind::Dataplane, "default", "web", Owner::Zone(zone));
        insights.put(one, "dataplane/default/web", Some("{\"online\": false}".into()));
        insights.put(one, "dataplane/default/web", Some("{\"online\": true}".into()));
        assert_eq!((insights.of(&key(one)), insights.of(&key(other))), (Some(json!({"online": true})), None));
        insights.put(one, "dataplane/default/web", Some("no json".into()));
        assert_eq!(insights.of(&key(one)), None);
        insights.put(one, "dataplane/default/web", Some(vec![b'1'; SIZE + 1].into()));
        insights.put(one, "dataplane/default/web", None);
        assert_eq!(insights.of(&key(one)), None);
    }
}
