//! What only a journal of one process promises.

use std::{path::Path, time::Duration};

use atoll_model::{Clock, Labels, Revision};
use atoll_runtime::tasks::Tasks;
use atoll_store::{
    Actor, PeerCursor, RemoteBatch, RemoteItem, Store, StoreConfig, StoreError,
    testing::{TestStore, clock},
};
use atoll_sync::Feed;
use uuid::Uuid;

use crate::{by_plane, contents, eventually, key, put, reaches, write};

fn path(test: &TestStore) -> std::path::PathBuf {
    match &test.config {
        StoreConfig::Sqlite { dir } => dir.clone(),
        StoreConfig::Postgres { .. } => panic!("not SQLite"),
    }
}

fn remote(name: &str, revision: u64) -> RemoteBatch {
    RemoteBatch {
        peer: "global".to_owned(),
        items: vec![RemoteItem::Put { key: key(name), labels: Labels::new(), spec: "{}".into() }],
        cursor: Some(PeerCursor { epoch: Uuid::from_u128(1), revision: Revision(revision) }),
        actor: Actor::plane(),
    }
}

#[tokio::test]
async fn a_directory_belongs_to_one_process() {
    let test = TestStore::sqlite().await.unwrap();
    let second = test.beside().await;
    let Err(StoreError::Locked(text)) = second else { panic!("{second:?}") };
    assert!(text.contains(&path(&test).display().to_string()) && text.contains("Postgres"), "{text}");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(path(&test)).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o700);
    test.restart().await.expect("free again when the first has ended");
}

async fn open(dir: &Path) -> Result<(Store, Tasks), StoreError> {
    let tasks = Tasks::new();
    Ok((Store::open(StoreConfig::Sqlite { dir: dir.to_owned() }, clock(), &tasks).await?, tasks))
}

/// Ends a store and waits until its file is whole.
async fn end(dir: &Path, store: Store, tasks: Tasks) {
    store.close().await;
    drop(store);
    tasks.join_all(Duration::from_secs(5)).await;
    eventually("the log is merged into the file", async || !dir.join("atoll.db-wal").exists()).await;
}

#[tokio::test]
async fn a_damaged_file_is_reported_and_not_used() {
    let text =
        b"no database at all, but some text that is longer than the hundred bytes of a header, which it replaces: ".repeat(4);
    for (at, damage) in [(0, text), (4096, vec![0x5a; 5000])] {
        let dir = tempfile::tempdir().unwrap();
        let (store, tasks) = open(dir.path()).await.unwrap();
        store.commit(by_plane((0..200).map(|n| put(&format!("r{n}"), "{}")).collect())).await.unwrap();
        end(dir.path(), store, tasks).await;
        let file = dir.path().join("atoll.db");
        let mut bytes = std::fs::read(&file).unwrap();
        bytes.splice(at..at + damage.len(), damage);
        std::fs::write(&file, bytes).unwrap();
        let opened = open(dir.path()).await;
        let Err(StoreError::Corrupt(text)) = opened else { panic!("{opened:?}") };
        assert!(text.contains("atoll.db"), "{text}");
    }
}

#[tokio::test]
async fn a_cut_off_file_is_reported_and_not_used() {
    let dir = tempfile::tempdir().unwrap();
    let (store, tasks) = open(dir.path()).await.unwrap();
    store.commit(by_plane((0..200).map(|n| put(&format!("r{n}"), "{}")).collect())).await.unwrap();
    end(dir.path(), store, tasks).await;
    let file = std::fs::File::options().write(true).open(dir.path().join("atoll.db")).unwrap();
    file.set_len(file.metadata().unwrap().len() / 2 / 4096 * 4096).unwrap();
    assert!(matches!(open(dir.path()).await, Err(StoreError::Corrupt(_))));
}

/// Makes the disk full, as far as the database can tell.
async fn fill_disk(store: &Store) {
    store.execute("PRAGMA max_page_count = 1").await.unwrap();
}

async fn free_disk(store: &Store) {
    store.execute("PRAGMA max_page_count = 1000000").await.unwrap();
}

#[tokio::test]
async fn with_a_full_disk_the_zone_serves_from_memory_and_recovers_alone() {
    let test = TestStore::sqlite().await.unwrap();
    let store = &test.store;
    write(store, put("before", "{}")).await.unwrap();
    fill_disk(store).await;
    let big = format!("\"{}\"", "x".repeat(100_000));
    let batch = RemoteBatch {
        items: vec![RemoteItem::Put { key: key("remote"), labels: Labels::new(), spec: big.clone().into() }],
        ..remote("remote", 7)
    };
    let applied = store.apply_remote(batch).await.unwrap();
    assert!(store.snapshot().get(&key("remote")).is_some(), "served from memory");
    eventually("the failure is noticed", async || !store.is_available()).await;
    let table = store.snapshot();
    assert_eq!((table.revision(), table.durable(), table.head()), (Revision(2), Revision(1), Revision(1)));
    assert_eq!(table.not_durable_since(), Some(test.clock.now()));
    assert!(!applied.durable.is_reached());
    assert!(matches!(write(store, put("person", "{}")).await, Err(StoreError::Unavailable(_))), "people are told");
    store.commit_early(by_plane(vec![put("own", &big)])).await.expect("planes go on");
    assert_eq!(store.peer_cursor("global").await.unwrap().unwrap().revision, Revision(7));

    free_disk(store).await;
    applied.durable.wait().await.unwrap();
    reaches(store, Revision(3)).await;
    eventually("all is well", async || store.is_available()).await;
    assert_eq!(store.snapshot().not_durable_since(), None);
    write(store, put("person", "{}")).await.unwrap();
    let before = contents(&store.snapshot());
    let test = test.restart().await.unwrap();
    assert_eq!(contents(&test.store.snapshot()), before);
    assert_eq!(test.store.peer_cursor("global").await.unwrap().unwrap().revision, Revision(7));
}

#[tokio::test]
async fn a_commit_that_the_disk_refuses_leaves_no_trace() {
    let test = TestStore::sqlite().await.unwrap();
    write(&test.store, put("a", "{}")).await.unwrap();
    fill_disk(&test.store).await;
    let big = format!("\"{}\"", "x".repeat(100_000));
    assert!(matches!(write(&test.store, put("b", &big)).await, Err(StoreError::Unavailable(_))));
    eventually("it tries by itself whether the disk writes again", async || test.store.is_available()).await;
    let table = test.store.snapshot();
    assert_eq!((table.len(), table.revision(), table.not_durable_since()), (1, Revision(1), None));
    free_disk(&test.store).await;
    write(&test.store, put("c", &big)).await.expect("the next one is tried");
    assert!(test.store.is_available());
    assert_eq!(test.store.snapshot().revision(), Revision(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn remote_and_local_writes_mix_without_a_gap() {
    let test = TestStore::sqlite().await.unwrap();
    let mut table = test.store.subscribe();
    let watching = tokio::spawn(async move {
        let mut last = Revision(0);
        while last < Revision(600) {
            table.changed().await.unwrap();
            let now = table.borrow_and_update().clone();
            let seen: Vec<u64> = now.changes_since(last).map(|change| change.revision().0).collect();
            assert_eq!(seen, (last.0 + 1..=now.revision().0).collect::<Vec<_>>(), "each revision, in order");
            assert!(now.durable() <= now.revision());
            last = now.revision();
        }
    });
    let tasks = (0..6).map(|n| {
        let store = test.store.clone();
        tokio::spawn(async move {
            for round in 0..100 {
                let name = format!("w{n}-{round}");
                match n % 3 {
                    0 => drop(write(&store, put(&name, "{}")).await.unwrap()),
                    1 => drop(store.apply_remote(remote(&name, round)).await.unwrap()),
                    _ => drop(store.commit_early(by_plane(vec![put(&name, "{}")])).await.unwrap()),
                }
            }
        })
    });
    for done in futures::future::join_all(tasks).await {
        done.unwrap();
    }
    watching.await.unwrap();
    let table = reaches(&test.store, Revision(600)).await;
    let before = contents(&table);
    let test = test.restart().await.unwrap();
    assert_eq!(contents(&test.store.snapshot()), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_hangs_does_not_hold_back_what_peers_send() {
    let test = TestStore::sqlite().await.unwrap();
    let hanging = {
        let store = test.store.clone();
        let slow = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 6000000) SELECT count(*) FROM n";
        tokio::spawn(async move { store.execute(slow).await })
    };
    tokio::time::sleep(Duration::from_millis(50)).await;
    let person = {
        let store = test.store.clone();
        tokio::spawn(async move { write(&store, put("person", "{}")).await })
    };
    tokio::time::sleep(Duration::from_millis(50)).await;
    let applied = test.store.apply_remote(remote("remote", 1)).await.unwrap();
    assert!(!hanging.is_finished() && !person.is_finished(), "the disk hangs, and the person is not told that it is done");
    let table = test.store.snapshot();
    assert_eq!((table.revision(), table.durable(), contents(&table).len()), (Revision(2), Revision(0), 2), "no gap");
    person.await.unwrap().expect("done when the disk goes on");
    applied.durable.wait().await.unwrap();
    hanging.await.unwrap().unwrap();
    assert_eq!(test.store.snapshot().durable(), Revision(2));
}
