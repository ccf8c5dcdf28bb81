//! Keeps the token keys in every zone's Zone equal to the cluster's, so that a zone that joined long ago believes what a new key
//! signs.
//!
//! The cluster's keys are a row of the store, the same for all instances: each one adds its own, and none takes another's away.
//! Instances that have different keys for a while, as in a rotation, do not undo each other's writes.

use std::{sync::Arc, time::Duration};

use atoll_model::{Kind, Owner, resource::canonical_json};
use atoll_store::{Actor, Expect, Store, StoreError, TableSnapshot, Write, WriteBatch};
use atoll_trust::jwt::PublicKey;
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

use super::registry::zones_of;

/// The public keys, as JSON.
const ROW: &str = "keys/token-public";
/// How often the row is read: another instance may have added to it.
const LOOK: Duration = Duration::from_secs(30);
/// Pause after a try that failed.
const RETRY: Duration = Duration::from_millis(500);

/// The reconciler.
#[derive(Debug)]
pub struct TokenKeys {
    store: Store,
    own: Value,
}

impl TokenKeys {
    /// Works for an instance that signs with the key `own`.
    pub fn new(store: Store, own: &PublicKey) -> Self {
        Self { store, own: json!(own) }
    }

    /// Looks at keys and zones until `stop` is cancelled: at each change of the table, and twice a minute.
    pub async fn run(self, stop: CancellationToken) {
        let mut tables = self.store.subscribe();
        loop {
            let table = Arc::clone(&tables.borrow_and_update());
            let mut pause = LOOK;
            if let Err(error) = self.reconcile(&table).await {
                tracing::warn!(%error, "cannot tell every zone the keys of tokens yet; trying again");
                pause = RETRY;
            }
            let zones = zones(&table);
            let moved = async {
                // Most changes are not about zones.
                while tables.changed().await.is_ok() {
                    if self::zones(&tables.borrow_and_update()) != zones {
                        return true;
                    }
                }
                false
            };
            tokio::select! {
                () = stop.cancelled() => return,
                more = moved => if !more { return },
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn reconcile(&self, table: &TableSnapshot) -> Result<(), StoreError> {
        let writes = plan(table, &self.keys().await?);
        if writes.is_empty() {
            return Ok(());
        }
        tracing::info!(zones = writes.len(), "telling zones the keys of tokens");
        self.store.commit(WriteBatch::new(Actor::plane(), writes)).await.map(drop)
    }

    /// The cluster's keys, this instance's among them.
    async fn keys(&self) -> Result<Vec<Value>, StoreError> {
        let row = self.store.blob(ROW).await?;
        // What cannot be read is written anew: other instances add their keys again.
        let mut keys: Vec<Value> = row.and_then(|row| serde_json::from_slice(&row).ok()).unwrap_or_default();
        if !keys.contains(&self.own) {
            keys.push(self.own.clone());
            self.store.put_blob(ROW, &canonical_json(&keys)).await?;
        }
        Ok(keys)
    }
}

/// What the plan depends on.
fn zones(table: &TableSnapshot) -> Vec<(atoll_model::ZoneUid, Vec<Value>)> {
    zones_of(table).map(|(uid, _, zone)| (uid, zone.token_keys)).collect()
}

/// What to write so that each zone that joined has the keys. Another instance may be doing the same: who is later starts over.
pub fn plan(table: &TableSnapshot, keys: &[Value]) -> Vec<Write> {
    let owned = table.list(Kind::Zone, None).filter(|resource| resource.key.owner == Owner::Global);
    let plan = |resource: &Arc<atoll_model::Resource>| {
        let mut computed: Map<String, Value> = serde_json::from_slice(resource.computed.as_deref()?).ok()?;
        let wanted = Value::from(keys);
        // One without an identity has not joined, and gets its keys when it does.
        if !computed.contains_key("uid") || computed.get("tokenKeys") == Some(&wanted) {
            return None;
        }
        computed.insert("tokenKeys".to_owned(), wanted);
        let expect = Expect::Version(resource.version);
        Some(Write::PutComputed { key: resource.key.clone(), computed: Some(canonical_json(&computed)), expect })
    };
    owned.filter_map(plan).collect()
}

#[cfg(test)]
mod tests {
    use atoll_model::{Labels, Name, ResourceKey, ZoneUid, kinds::Zone};
    use atoll_store::testing::TestStore;
    use atoll_trust::jwt::{Issuer, SigningKey};
    use uuid::Uuid;

    use super::*;

    const AZURE: ZoneUid = ZoneUid(Uuid::from_u128(1));

    fn key() -> PublicKey {
        SigningKey::generate(Issuer::Global(Uuid::from_u128(7))).unwrap().public().clone()
    }

    fn zone(name: &str) -> ResourceKey {
        ResourceKey::new(Kind::Zone, Name::none(), name, Owner::Global)
    }

    async fn put(store: &Store, name: &str, computed: Option<Value>) {
        let mut batch = WriteBatch::one(Actor::plane(), Write::put(zone(name), Labels::new(), "{}"));
        let computed = computed.map(|computed| canonical_json(&computed));
        batch.writes.push(Write::PutComputed { key: zone(name), computed, expect: Expect::Any });
        store.commit(batch).await.unwrap();
    }

    fn held(store: &Store, name: &str) -> Zone {
        store.snapshot().get(&zone(name)).unwrap().parse().unwrap()
    }

    async fn until(store: &Store, name: &str, keys: &[&PublicKey]) {
        let (wanted, mut tables) = (keys.iter().map(|key| json!(key)).collect::<Vec<_>>(), store.subscribe());
        let reached = async {
            while held(store, name).token_keys != wanted {
                tables.changed().await.unwrap();
            }
        };
        let reached = tokio::time::timeout(Duration::from_secs(5), reached).await;
        assert!(reached.is_ok(), "{:?} instead of {wanted:?}", held(store, name).token_keys);
    }

    #[tokio::test]
    async fn a_new_key_reaches_zones_that_joined_before_and_zones_that_join_later() {
        let (test, old, new) = (TestStore::sqlite().await.unwrap(), key(), key());
        put(&test.store, "azure", Some(json!({ "uid": AZURE, "tokenKeys": [&old] }))).await;
        put(&test.store, "not-joined", None).await;
        let stop = CancellationToken::new();
        // The old key's instance, then one that starts with a new key.
        let first = tokio::spawn(TokenKeys::new(test.store.clone(), &old).run(stop.clone()));
        until(&test.store, "azure", &[&old]).await;
        while test.store.blob(ROW).await.unwrap().is_none() {
            tokio::task::yield_now().await;
        }
        let second = tokio::spawn(TokenKeys::new(test.store.clone(), &new).run(stop.clone()));
        until(&test.store, "azure", &[&old, &new]).await;
        assert_eq!(held(&test.store, "azure").uid, Some(AZURE), "the rest of the computed part stays");
        put(&test.store, "gcp", Some(json!({ "uid": ZoneUid(Uuid::from_u128(2)), "tokenKeys": [&new] }))).await;
        until(&test.store, "gcp", &[&old, &new]).await;
        assert_eq!(held(&test.store, "not-joined"), Zone::default());

        // Both agree: nothing is written any more.
        let revision = test.store.snapshot().revision();
        put(&test.store, "other", None).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(test.store.snapshot().revision().0, revision.0 + 1);
        stop.cancel();
        first.await.unwrap();
        second.await.unwrap();
    }

    #[tokio::test]
    async fn what_another_instance_wrote_meanwhile_is_not_overwritten() {
        let (test, key) = (TestStore::sqlite().await.unwrap(), key());
        put(&test.store, "azure", Some(json!({ "uid": AZURE }))).await;
        let late = plan(&test.store.snapshot(), &[json!(key)]);
        put(&test.store, "azure", Some(json!({ "uid": AZURE, "tokenKeys": ["another"] }))).await;
        let refused = test.store.commit(WriteBatch::new(Actor::plane(), late)).await;
        assert!(matches!(refused, Err(StoreError::Conflict { .. })), "{refused:?}");
    }
}
