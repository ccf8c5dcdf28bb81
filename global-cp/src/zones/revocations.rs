//! Tells every zone which tokens global revoked, in the computed part of its Zone: dataplane tokens and user tokens of global hold
//! in zones, too. Tokens that have ended by themselves are left out at the next change.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use atoll_model::{Clock, Kind, Owner, Resource, Timestamp, resource::canonical_json};
use atoll_store::{Actor, Expect, Store, TableSnapshot, Write, WriteBatch};
use chrono::TimeDelta;
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

/// Tokens that zones are told of, at most: those that end last.
const TOLD: usize = 2000;
/// Tokens that have ended are left out after so long, even if nothing else changes.
const STALE: TimeDelta = TimeDelta::hours(1);
/// How often it is looked, beside every change of the list: for zones that joined, and for tokens that ended.
const LOOK: Duration = Duration::from_secs(30);
/// Pause after a try that failed.
const RETRY: Duration = Duration::from_millis(500);
/// The field in the computed part.
const FIELD: &str = "revokedTokens";

/// The reconciler.
pub struct Revocations {
    store: Store,
    clock: Arc<dyn Clock>,
}

impl Revocations {
    /// Works on a store.
    pub fn new(store: Store, clock: Arc<dyn Clock>) -> Self {
        Self { store, clock }
    }

    /// Looks at the list and the zones until `stop` is cancelled.
    pub async fn run(self, stop: CancellationToken) {
        let mut registry = self.store.registry();
        let mut tables = self.store.subscribe();
        loop {
            let revoked = Arc::clone(&registry.borrow_and_update().revoked);
            let table = Arc::clone(&tables.borrow_and_update());
            let writes = plan(&table, &revoked, self.clock.now());
            let mut pause = LOOK;
            if !writes.is_empty() {
                tracing::info!(zones = writes.len(), tokens = revoked.len(), "telling zones which tokens are revoked");
                if let Err(error) = self.store.commit(WriteBatch::new(Actor::plane(), writes)).await {
                    tracing::warn!(%error, "cannot tell every zone which tokens are revoked yet; trying again");
                    pause = RETRY;
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                changed = registry.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(pause) => {}
            }
        }
    }
}

/// What to write so that each zone that joined knows which tokens are revoked.
pub fn plan(table: &TableSnapshot, revoked: &BTreeMap<String, Timestamp>, now: Timestamp) -> Vec<Write> {
    let mut live: Vec<(&String, &Timestamp)> = revoked.iter().filter(|(_, until)| **until > now).collect();
    live.sort_by_key(|(_, until)| std::cmp::Reverse(**until));
    let wanted: BTreeMap<&String, &Timestamp> = live.into_iter().take(TOLD).collect();
    let zones = table.list(Kind::Zone, None).filter(|resource| resource.key.owner == Owner::Global);
    zones.filter_map(|resource| one(resource, &wanted, now)).collect()
}

fn one(zone: &Resource, wanted: &BTreeMap<&String, &Timestamp>, now: Timestamp) -> Option<Write> {
    let mut computed: Map<String, Value> = serde_json::from_slice(zone.computed.as_deref()?).ok()?;
    computed.get("uid")?;
    let told: BTreeMap<String, Timestamp> =
        computed.get(FIELD).and_then(|told| serde_json::from_value(told.clone()).ok()).unwrap_or_default();
    let is_stale = told.values().any(|until| now - *until > STALE);
    let live = told.iter().filter(|(_, until)| **until > now);
    if !is_stale && live.eq(wanted.iter().map(|(id, until)| (*id, *until))) {
        return None;
    }
    if wanted.is_empty() {
        computed.remove(FIELD);
    } else {
        computed.insert(FIELD.to_owned(), json!(wanted));
    }
    let expect = Expect::Version(zone.version);
    Some(Write::PutComputed { key: zone.key.clone(), computed: Some(canonical_json(&computed)), expect })
}

#[cfg(test)]
mod tests {
    use atoll_model::{Labels, Name, ResourceKey, kinds::Zone};
    use atoll_store::{TokenRevocation, testing::TestStore};
    use uuid::Uuid;

    use super::*;

    async fn give(store: &Store, name: &str, computed: Option<Value>) {
        let key = ResourceKey::new(Kind::Zone, Name::none(), name, Owner::Global);
        let mut writes = vec![Write::put(key.clone(), Labels::new(), "{}")];
        let computed = computed.map(|computed| canonical_json(&computed));
        writes.extend(computed.map(|computed| Write::PutComputed { key, computed: Some(computed), expect: Expect::Any }));
        store.commit(WriteBatch::new(Actor::plane(), writes)).await.unwrap();
    }

    fn told(store: &Store, name: &str) -> Vec<String> {
        let key = ResourceKey::new(Kind::Zone, Name::none(), name, Owner::Global);
        let zone: Zone = store.snapshot().get(&key).unwrap().parse().unwrap();
        zone.revoked_tokens.into_keys().collect()
    }

    #[tokio::test]
    async fn zones_that_joined_learn_what_was_revoked_and_forget_what_has_ended() {
        let test = TestStore::sqlite().await.unwrap();
        let store = &test.store;
        give(store, "azure", Some(json!({"uid": Uuid::from_u128(1), "tokenKeys": ["k"]}))).await;
        give(store, "planned", None).await;
        let (stop, now) = (CancellationToken::new(), test.clock.now());
        let running = tokio::spawn(Revocations::new(store.clone(), test.clock.clone()).run(stop.clone()));
        for (id, life) in [("a", 10), ("b", 1000)] {
            let until = now + TimeDelta::minutes(life);
            store.revoke_token(&TokenRevocation { id: id.to_owned(), until, at: now, by: "user:x".to_owned() }).await.unwrap();
        }
        let wait = async {
            while told(store, "azure") != ["a", "b"] {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), wait).await.unwrap();
        assert!(told(store, "planned").is_empty());
        stop.cancel();
        running.await.unwrap();

        let revoked = store.registry().borrow().revoked.clone();
        let later = |minutes| plan(&store.snapshot(), &revoked, now + TimeDelta::minutes(minutes));
        assert_eq!(later(0), []);
        assert_eq!(later(30), [], "that one has ended alone is no news");
        let [Write::PutComputed { computed: Some(computed), .. }] = &later(90)[..] else { panic!("it is left out in the end") };
        let zone: Zone = serde_json::from_slice(computed).unwrap();
        assert_eq!(zone.revoked_tokens.into_keys().collect::<Vec<_>>(), ["b"]);
        assert_eq!(zone.token_keys, [json!("k")], "the rest stays");
    }
}
