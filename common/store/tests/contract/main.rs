//! What every journal promises (`both`), and what only one of them can (`postgres`, `cut`, `sqlite`).
#![expect(clippy::unwrap_used, reason = "a test fails by it")]

mod both;
mod cut;
mod postgres;
mod requests;
mod sealed;
mod small_tables;
mod sqlite;

use std::{sync::Arc, time::Duration};

use atoll_model::{Change, Kind, Labels, Owner, Resource, ResourceKey, Revision};
use atoll_store::{Actor, Committed, Store, StoreError, TableSnapshot, Write, WriteBatch, WriteResult};
use atoll_sync::Feed;

/// Runs each case on a fresh store of both journals.
macro_rules! on_both {
    ($module:ident: $($case:ident),* $(,)?) => {
        mod on_sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::$case(atoll_store::testing::TestStore::sqlite().await.unwrap()).await;
            })*
        }
        mod on_postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::$case(atoll_store::testing::TestStore::postgres().await.unwrap()).await;
            })*
        }
    };
}
pub(crate) use on_both;

fn key(name: &str) -> ResourceKey {
    ResourceKey::new(Kind::MeshTimeout, "default", name, Owner::Global)
}

fn put(name: &str, spec: &str) -> Write {
    Write::put(key(name), Labels::new(), spec.to_owned())
}

fn ada() -> Actor {
    Actor::recorded("user:ada", Some([192, 0, 2, 7].into()))
}

fn by_ada(writes: Vec<Write>) -> WriteBatch {
    WriteBatch::new(ada(), writes)
}

fn by_plane(writes: Vec<Write>) -> WriteBatch {
    WriteBatch::new(Actor::plane(), writes)
}

async fn write(store: &Store, write: Write) -> Result<WriteResult, StoreError> {
    store.commit(by_ada(vec![write])).await.map(|mut done: Committed| done.results.remove(0))
}

fn spec(table: &TableSnapshot, name: &str) -> Option<String> {
    table.get(&key(name)).map(|resource| String::from_utf8(resource.spec.to_vec()).unwrap())
}

/// All that a table holds, in commit order.
fn contents(table: &TableSnapshot) -> Vec<Change> {
    table.changes_since(Revision(0)).collect()
}

/// What a peer would be sent after a revision.
fn feed(table: &TableSnapshot, after: Revision) -> Vec<Change> {
    let mut changes = Vec::new();
    table.changes(after, &mut |change| {
        changes.push(change.clone());
        true
    });
    changes
}

fn resources(table: &TableSnapshot) -> Vec<Arc<Resource>> {
    Kind::ALL.iter().flat_map(|kind| table.list(*kind, None)).cloned().collect()
}

/// Waits until `holds`, or fails after 20 s.
async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while !holds().await {
        assert!(tokio::time::Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Waits until the table is at a revision.
async fn reaches(store: &Store, revision: Revision) -> Arc<TableSnapshot> {
    let mut table = store.subscribe();
    let waiting = table.wait_for(|table| table.durable() >= revision);
    tokio::time::timeout(Duration::from_secs(20), waiting).await.expect("the table follows").unwrap().clone()
}
