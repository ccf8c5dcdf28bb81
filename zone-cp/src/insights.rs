//! What global is told of this zone's dataplanes at work: soft values on the link, the newest of each.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use atoll_api::StatusSource;
use atoll_link::SoftBoard;
use atoll_model::{Kind, Owner};
use atoll_store::Store;
use bytes::Bytes;
use tokio_util::sync::CancellationToken;

/// How often they are looked at; what did not change is not sent.
const TURN: Duration = Duration::from_secs(2);

/// Tells global of the dataplanes of one zone.
pub(crate) struct Insights {
    pub(crate) store: Store,
    pub(crate) owner: Owner,
    pub(crate) status: Arc<dyn StatusSource>,
    pub(crate) board: SoftBoard,
}

impl Insights {
    /// Tells until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut told = BTreeSet::new();
        loop {
            told = self.tell(&told);
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(TURN) => {}
            }
        }
    }

    /// Puts every dataplane's insight on the board and withdraws those that are gone; gives the keys that are there.
    fn tell(&self, before: &BTreeSet<String>) -> BTreeSet<String> {
        let table = self.store.snapshot();
        let own = table.list(Kind::Dataplane, None).filter(|resource| resource.key.owner == self.owner);
        let mut now = BTreeSet::new();
        for resource in own {
            let Some(insight) = self.status.insight(&resource.key) else { continue };
            let key = format!("dataplane/{}/{}", resource.key.mesh, resource.key.name);
            self.board.put(&key, Bytes::from(insight.to_string()));
            now.insert(key);
        }
        before.difference(&now).for_each(|gone| self.board.withdraw(gone));
        now
    }
}

#[cfg(test)]
mod tests {
    use atoll_model::{ResourceKey, ZoneUid, clock::ManualClock};
    use atoll_runtime::tasks::Tasks;
    use atoll_store::{Actor, StoreConfig, Write, WriteBatch};
    use serde_json::{Value, json};

    use super::*;

    /// Every dataplane but one is at work.
    struct AtWork;

    impl StatusSource for AtWork {
        fn status(&self, _: &ResourceKey) -> Option<Value> {
            None
        }
        fn insight(&self, key: &ResourceKey) -> Option<Value> {
            (key.name.as_str() != "idle").then(|| json!({"online": true}))
        }
    }

    #[tokio::test]
    async fn global_is_told_of_the_zones_own_dataplanes_while_they_are_there() {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new("2026-01-01T00:00:00Z".parse().unwrap()));
        let journal = StoreConfig::Sqlite { dir: folder.path().to_owned() };
        let store = Store::open(journal, clock, &Tasks::new()).await.unwrap();
        let (own, other) = (Owner::Zone(ZoneUid(uuid::Uuid::from_u128(1))), Owner::Zone(ZoneUid(uuid::Uuid::from_u128(2))));
        let key = |name: &str, owner| ResourceKey::new(Kind::Dataplane, "default", name, owner);
        let writes = [key("web", own), key("idle", own), key("far", other)].map(|key| Write::put(key, Default::default(), "{}"));
        store.commit(WriteBatch::new(Actor::plane(), writes.into())).await.unwrap();
        let insights = Insights { store: store.clone(), owner: own, status: Arc::new(AtWork), board: SoftBoard::default() };
        let told = insights.tell(&BTreeSet::new());
        assert_eq!(told, ["dataplane/default/web".to_owned()].into());
        store.commit(WriteBatch::one(Actor::plane(), Write::delete(key("web", own)))).await.unwrap();
        assert_eq!(insights.tell(&told), BTreeSet::new());
    }
}
