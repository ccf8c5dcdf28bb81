use atoll_mesh::IndexConfig;
use atoll_model::{Kind, Labels, Owner, ResourceKey, ZoneUid, labels::Viewpoint};
use atoll_store::testing::TestStore;
use rand::{SeedableRng, rngs::StdRng};
use uuid::Uuid;

use super::*;
use crate::{hosts, identity};

const UID: ZoneUid = ZoneUid(Uuid::from_u128(1));

fn mesh(name: &str) -> Write {
    Write::put(ResourceKey::new(Kind::Mesh, "", name, Owner::Zone(UID)), Labels::new(), "{}")
}

async fn write(store: &Store, first: &str, more: &[&str]) {
    let mut batch = WriteBatch::one(Actor::plane(), mesh(first));
    batch.writes.extend(more.iter().map(|name| mesh(name)));
    store.commit(batch).await.unwrap();
}

fn start(test: &TestStore, folder: &std::path::Path) -> watch::Receiver<Arc<ZoneView>> {
    let identities = Identities::open(folder, "azure".into(), UID, test.clock.now(), StdRng::seed_from_u64(1)).unwrap();
    let viewpoint = Viewpoint::Zone { name: "azure".into(), uid: UID, federated: false };
    let index = MeshIndex::new(viewpoint, IndexConfig::default(), Arc::new(identity::acceptance()));
    let (engine, view) = Engine::new(test.store.clone(), index, Arc::new(identities), test.clock.clone());
    let stop = CancellationToken::new();
    let found = hosts::start(engine.hosts(), &test.tasks, stop.clone());
    test.tasks.spawn("engine", engine.run(found, stop));
    view
}

fn names(view: &ZoneView) -> Vec<&str> {
    view.meshes.keys().map(|name| name.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_went_back_is_read_anew() {
    let (test, folder) = (TestStore::postgres().await.unwrap(), tempfile::tempdir().unwrap());
    write(&test.store, "kept", &["lost", "also-lost"]).await;
    let mut view = start(&test, folder.path());
    assert_eq!(names(&view.borrow()), ["also-lost", "kept", "lost"]);

    // As after a failover to a server that lacks the last commits. The write after it brings the revision to where it was.
    let back =
        "DELETE FROM history WHERE revision > 1; DELETE FROM resources WHERE revision > 1; UPDATE counter SET revision = 1";
    test.store.execute(back).await.unwrap();
    write(&test.store, "new", &["newer"]).await;

    let expected = view.wait_for(|view| names(view) == ["kept", "new", "newer"]);
    tokio::time::timeout(Duration::from_secs(5), expected).await.expect("the view is of another history").unwrap();
    assert_eq!(view.borrow().revision, test.store.snapshot().revision());
}
