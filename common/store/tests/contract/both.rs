//! The contract of the table and its journal.

use atoll_model::{Kind, Labels, Owner, Revision};
use atoll_store::{
    Expect, HistoryAction, HistoryFilter, PeerCursor, RemoteBatch, RemoteItem, StoreError, Write, WriteResult, testing::TestStore,
};
use atoll_sync::Feed;
use uuid::Uuid;

use crate::{ada, by_ada, by_plane, contents, feed, key, on_both, put, reaches, spec, write};

on_both!(both:
    create_update_delete,
    preconditions,
    unchanged_writes_take_no_revision,
    bulk_is_all_or_nothing,
    a_failing_batch_does_not_hurt_the_others_of_its_group,
    specs_survive_byte_for_byte,
    history_comes_with_the_change,
    history_is_filtered_and_paged,
    a_restart_keeps_everything,
    tombstones_go_in_time_and_the_horizon_stays,
    remote_batches_move_the_cursor,
    of_many_creations_one_succeeds,
    early_writes_become_durable,
    a_closed_store_says_so,
);

async fn create_update_delete(test: TestStore) {
    let store = &test.store;
    let WriteResult::Created(created) = write(store, put("a", "{\"n\":1}")).await.unwrap() else { panic!("not created") };
    assert_eq!((created.revision, created.version), (Revision(1), 1));
    assert_eq!(store.snapshot().get(&key("a")), Some(&created), "what was acknowledged is read at once");
    let WriteResult::Updated(updated) = write(store, put("a", "{\"n\":2}")).await.unwrap() else { panic!("not updated") };
    assert_eq!((updated.revision, updated.version, updated.created), (Revision(2), 2, created.created));
    assert_eq!(feed(&store.snapshot(), Revision(0)).len(), 1, "each live resource once");
    let WriteResult::Deleted(deleted) = write(store, Write::delete(key("a"))).await.unwrap() else { panic!("not deleted") };
    assert_eq!(deleted, updated);
    let table = store.snapshot();
    assert_eq!((table.len(), table.revision(), table.durable()), (0, Revision(3), Revision(3)));
    assert_eq!(table.tombstone(&key("a")).map(|stone| stone.revision), Some(Revision(3)));
}

async fn preconditions(test: TestStore) {
    let expecting = |name: &str, expect| Write::Put { key: key(name), labels: Labels::new(), spec: "{}".into(), expect };
    let store = &test.store;
    assert!(matches!(write(store, expecting("a", Expect::Exists)).await, Err(StoreError::NotFound(of)) if of == key("a")));
    write(store, expecting("a", Expect::Absent)).await.unwrap();
    assert!(matches!(write(store, expecting("a", Expect::Absent)).await, Err(StoreError::AlreadyExists(of)) if of == key("a")));
    let conflict = write(store, expecting("a", Expect::Version(7))).await;
    assert!(matches!(conflict, Err(StoreError::Conflict { expected: 7, actual: Some(1), .. })), "{conflict:?}");
    assert!(matches!(write(store, Write::Delete { key: key("b"), expect: Expect::Exists }).await, Err(StoreError::NotFound(_))));
    assert_eq!(store.snapshot().revision(), Revision(1), "refused writes take no revision");
}

async fn unchanged_writes_take_no_revision(test: TestStore) {
    write(&test.store, put("a", "{}")).await.unwrap();
    assert!(matches!(write(&test.store, put("a", "{}")).await, Ok(WriteResult::Unchanged(_))));
    assert!(matches!(write(&test.store, Write::delete(key("b"))).await, Ok(WriteResult::Absent)));
    assert_eq!(test.store.snapshot().revision(), Revision(1));
    assert_eq!(test.store.history(&HistoryFilter::default()).await.unwrap().len(), 1);
}

async fn bulk_is_all_or_nothing(test: TestStore) {
    let names: Vec<String> = (0..500).map(|n| format!("r{n:03}")).collect();
    let done = test.store.commit(by_ada(names.iter().map(|name| put(name, "{}")).collect())).await.unwrap();
    assert_eq!(done.revision, Revision(500));
    let revisions: Vec<u64> = contents(&test.store.snapshot()).iter().map(|change| change.revision().0).collect();
    assert_eq!(revisions, (1..=500).collect::<Vec<_>>(), "one contiguous range");

    let mut writes: Vec<_> = names.iter().map(|name| put(name, "{\"n\":1}")).collect();
    writes.push(Write::Delete { key: key("nobody"), expect: Expect::Exists });
    assert!(matches!(test.store.commit(by_ada(writes)).await, Err(StoreError::NotFound(_))));
    let test = test.restart().await.unwrap();
    assert_eq!(test.store.snapshot().revision(), Revision(500));
    assert_eq!(spec(&test.store.snapshot(), "r000").as_deref(), Some("{}"));
}

async fn a_failing_batch_does_not_hurt_the_others_of_its_group(test: TestStore) {
    write(&test.store, put("there", "{}")).await.unwrap();
    let tries = (0..60).map(|n| {
        let store = test.store.clone();
        let batch = match n % 3 {
            0 => by_ada(vec![put(&format!("good-{n}"), "{}")]),
            1 => by_ada(vec![put(&format!("lost-{n}"), "{}"), Write::create(key("there"), Labels::new(), "{}")]),
            _ => by_ada(vec![put(&format!("lost-{n}"), "{")]),
        };
        tokio::spawn(async move { store.commit(batch).await })
    });
    for (n, done) in futures::future::join_all(tries).await.into_iter().enumerate() {
        match (n % 3, done.unwrap()) {
            (0, Ok(_)) | (1, Err(StoreError::AlreadyExists(_))) | (2, Err(StoreError::Invalid { .. })) => {}
            (_, other) => panic!("batch {n}: {other:?}"),
        }
    }
    let test = test.restart().await.unwrap();
    assert_eq!((test.store.snapshot().len(), test.store.snapshot().revision()), (21, Revision(21)));
}

async fn specs_survive_byte_for_byte(test: TestStore) {
    let odd = r#"{"z" : 1.0, "a":1e400, "nul":"\u0000", "z":"twice", "text":"ünïcödé 🦀 \/"}"#;
    let labels = Labels::from([("b".to_owned(), "2".to_owned()), ("a".to_owned(), "ü".to_owned())]);
    write(&test.store, Write::put(key("odd"), labels.clone(), odd)).await.unwrap();
    let computed = Write::PutComputed { key: key("odd"), computed: Some("{ \"c\": 1 }".into()), expect: Expect::Any };
    test.store.commit(by_plane(vec![computed])).await.unwrap();
    let before = test.store.snapshot().get(&key("odd")).unwrap().clone();
    let test = test.restart().await.unwrap();
    let after = test.store.snapshot().get(&key("odd")).unwrap().clone();
    assert_eq!(after, before);
    assert_eq!((&after.spec[..], &after.labels), (odd.as_bytes(), &labels));
}

async fn history_comes_with_the_change(test: TestStore) {
    test.store.commit(by_ada(vec![put("a", "{\"n\":1}"), put("a", "{\"n\":2}"), Write::delete(key("a"))])).await.unwrap();
    test.store.commit(by_plane(vec![put("generated", "{}")])).await.unwrap();
    let _refused = test.store.commit(by_ada(vec![put("b", "{}"), put("c", "{")])).await.unwrap_err();
    let entries = test.store.history(&HistoryFilter::default()).await.unwrap();
    let told: Vec<_> = entries.iter().map(|entry| (entry.revision.0, entry.action)).collect();
    assert_eq!(told, [(3, HistoryAction::Delete), (2, HistoryAction::Update), (1, HistoryAction::Create)]);
    let update = &entries[1];
    assert_eq!((update.subject.as_str(), update.address, &update.key), ("user:ada", ada().address, &key("a")));
    assert_eq!(update.before.as_deref(), Some(&br#"{"labels":{},"spec":{"n":1}}"#[..]));
    assert_eq!(update.after.as_deref(), Some(&br#"{"labels":{},"spec":{"n":2}}"#[..]));
    assert_eq!(update.at, atoll_model::Clock::now(&*test.clock));
}

async fn history_is_filtered_and_paged(test: TestStore) {
    for n in 0..4 {
        write(&test.store, put(&format!("r{}", n % 2), &n.to_string())).await.unwrap();
        test.clock.advance(chrono::TimeDelta::seconds(10));
    }
    let check = async |filter: HistoryFilter, expected: &[u64]| {
        let entries = test.store.history(&filter).await.unwrap();
        let told: Vec<u64> = entries.iter().map(|entry| entry.revision.0).collect();
        assert_eq!(told, expected, "{filter:?}");
    };
    let all = HistoryFilter::default;
    check(all(), &[4, 3, 2, 1]).await;
    check(HistoryFilter { name: Some("r1".into()), ..all() }, &[4, 2]).await;
    check(HistoryFilter { limit: 2, before: Some(Revision(4)), ..all() }, &[3, 2]).await;
    check(HistoryFilter { subject: Some("user:bob".into()), ..all() }, &[]).await;
    check(HistoryFilter { kind: Some(Kind::Mesh), ..all() }, &[]).await;
    check(HistoryFilter { mesh: Some("default".into()), owner: Some(Owner::Global), limit: 1, ..all() }, &[4]).await;
    let since = atoll_model::Clock::now(&*test.clock) - chrono::TimeDelta::seconds(25);
    check(HistoryFilter { since: Some(since), ..all() }, &[4, 3]).await;
}

async fn a_restart_keeps_everything(test: TestStore) {
    let labels = Labels::from([("team".to_owned(), "x".to_owned())]);
    write(&test.store, Write::put(key("a"), labels, "{\"n\":1}")).await.unwrap();
    test.store.commit(by_plane(vec![put("b", "{}"), put("c", "{}")])).await.unwrap();
    write(&test.store, Write::delete(key("b"))).await.unwrap();
    let (before, epochs, cluster) = (test.store.snapshot(), test.store.epochs(), test.store.cluster_id());
    assert_eq!((epochs.len(), epochs[0].first), (1, Revision(1)));

    let test = test.restart().await.unwrap();
    let after = test.store.snapshot();
    assert_eq!(contents(&after), contents(&before));
    assert_eq!((after.revision(), after.durable()), (before.revision(), before.durable()));
    assert_eq!(test.store.cluster_id(), cluster);
    let opened = test.store.epochs();
    assert_eq!(opened[..1], epochs[..]);
    assert_eq!((opened.len(), opened[1].first), (2, Revision(5)), "a start opens an epoch");
    assert!(after.epochs().holds(epochs[0].id, Revision(4), after.revision()));
    write(&test.store, put("d", "{}")).await.unwrap();
    assert_eq!(test.store.snapshot().epochs().of(Revision(5)).unwrap().id, opened[1].id);
}

async fn tombstones_go_in_time_and_the_horizon_stays(test: TestStore) {
    let store = &test.store;
    store.commit(by_ada(["p", "q", "live"].map(|name| put(name, "{}")).to_vec())).await.unwrap();
    store.commit(by_plane(vec![Write::delete(key("p"))])).await.unwrap();
    store.commit(by_ada(vec![Write::delete(key("q"))])).await.unwrap();
    assert_eq!(store.prune().await.unwrap().tombstones, 0, "nothing is old");

    test.clock.advance(chrono::TimeDelta::hours(25));
    assert_eq!(store.prune().await.unwrap().tombstones, 1, "the plane's goes after 24 hours");
    let table = store.snapshot();
    assert_eq!((table.horizon(), table.revision()), (Revision(4), Revision(5)));
    assert!(table.tombstone(&key("p")).is_none() && table.tombstone(&key("q")).is_some());

    test.clock.advance(chrono::TimeDelta::days(30));
    assert_eq!(store.prune().await.unwrap().tombstones, 1, "a person's goes after 30 days");
    let test = test.restart().await.unwrap();
    let table = test.store.snapshot();
    assert_eq!((table.horizon(), table.revision(), contents(&table).len()), (Revision(5), Revision(5), 1));
    write(&test.store, put("next", "{}")).await.unwrap();
    assert_eq!(test.store.snapshot().revision(), Revision(6), "a pruned revision is not given again");
    assert!(!test.store.history(&HistoryFilter::default()).await.unwrap().is_empty());
    test.clock.advance(chrono::TimeDelta::days(91));
    assert_eq!(test.store.prune().await.unwrap().history, 5);
}

async fn remote_batches_move_the_cursor(test: TestStore) {
    let store = &test.store;
    let zone = Owner::Zone(atoll_model::ZoneUid(Uuid::from_u128(9)));
    let service = |name: &str| atoll_model::ResourceKey::new(Kind::MeshService, "default", name, zone);
    let put =
        |name: &str, spec: &str| RemoteItem::Put { key: service(name), labels: Labels::new(), spec: spec.to_owned().into() };
    let cursor = |revision| Some(PeerCursor { epoch: Uuid::from_u128(1), revision: Revision(revision) });
    let batch = |items, cursor| RemoteBatch { peer: "zone-9".into(), items, cursor, actor: atoll_store::Actor::plane() };

    let items = vec![put("a", "{\"n\":1}"), put("b", "{}"), put("bad", "{")];
    let applied = store.apply_remote(batch(items, cursor(40))).await.unwrap();
    assert_eq!(applied.revision, Revision(2));
    assert_eq!(applied.rejected.iter().map(|rejected| &rejected.key).collect::<Vec<_>>(), [&service("bad")]);
    assert_eq!(store.snapshot().len(), 2, "in the table at once");
    assert_eq!(store.peer_cursor("zone-9").await.unwrap(), cursor(40));

    let again = store.apply_remote(batch(vec![put("a", "{\"n\":1}")], cursor(41))).await.unwrap();
    assert_eq!(again.revision, Revision(2), "what is known takes no revision");
    again.durable.wait().await.unwrap();
    store.apply_remote(batch(vec![RemoteItem::Delete { key: service("b") }], None)).await.unwrap().durable.wait().await.unwrap();
    assert_eq!(store.peer_cursor("zone-9").await.unwrap(), cursor(41));
    assert_eq!(store.peer_cursor("nobody").await.unwrap(), None);

    let test = test.restart().await.unwrap();
    assert_eq!(
        test.store.peer_cursors().await.unwrap().into_iter().collect::<Vec<_>>(),
        [("zone-9".into(), cursor(41).unwrap())]
    );
    assert_eq!((test.store.snapshot().len(), test.store.snapshot().revision()), (1, Revision(3)));
}

async fn of_many_creations_one_succeeds(test: TestStore) {
    for round in 0..10 {
        let tries = (0..64).map(|n| {
            let (store, key) = (test.store.clone(), key(&format!("r{round}")));
            tokio::spawn(async move { write(&store, Write::create(key, Labels::new(), n.to_string())).await })
        });
        let done: Vec<_> = futures::future::join_all(tries).await.into_iter().map(Result::unwrap).collect();
        assert_eq!(done.iter().filter(|result| matches!(result, Ok(WriteResult::Created(_)))).count(), 1);
        assert_eq!(done.iter().filter(|result| matches!(result, Err(StoreError::AlreadyExists(_)))).count(), 63);
    }
    assert_eq!(test.store.snapshot().revision(), Revision(10));
}

async fn early_writes_become_durable(test: TestStore) {
    let early = test.store.commit_early(by_plane(vec![put("a", "{}")])).await.unwrap();
    assert!(matches!(early.committed.results[..], [WriteResult::Created(_)]));
    assert!(test.store.snapshot().get(&key("a")).is_some());
    early.durable.clone().wait().await.unwrap();
    assert!(early.durable.is_reached());
    assert_eq!(reaches(&test.store, Revision(1)).await.head(), Revision(1));
    let refused = test.store.commit_early(by_plane(vec![Write::create(key("a"), Labels::new(), "{}")])).await;
    assert!(matches!(refused, Err(StoreError::AlreadyExists(_))));
}

async fn a_closed_store_says_so(test: TestStore) {
    test.store.close().await;
    assert!(matches!(write(&test.store, put("a", "{}")).await, Err(StoreError::Closed)));
    test.tasks.join_all(std::time::Duration::from_secs(5)).await;
    assert!(test.tasks.is_empty(), "no task is left behind");
}
