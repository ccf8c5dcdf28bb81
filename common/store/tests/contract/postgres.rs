//! What a journal that several processes share promises.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use atoll_model::{Labels, Revision};
use atoll_runtime::tasks::Tasks;
use atoll_store::{
    AuditFilter, Expect, HistoryFilter, Once, Store, StoreConfig, StoreError, TokenRevocation, Write, WriteResult,
    testing::{Postgres, TestStore, clock},
};

use crate::{ada, by_ada, by_plane, contents, eventually, feed, key, put, reaches, resources, spec, write};

/// A store on a server of its own, for tests that break the server.
async fn alone() -> (Postgres, TestParts) {
    let server = Postgres::start().await.unwrap();
    let url = server.database().await.unwrap();
    let tasks = Tasks::new();
    let store = Store::open(StoreConfig::Postgres { url }, clock(), &tasks).await.unwrap();
    (server, TestParts { store, _tasks: tasks })
}

struct TestParts {
    store: Store,
    _tasks: Tasks,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_misses_nothing_while_two_processes_write() {
    let first = TestStore::postgres().await.unwrap();
    let second = first.beside().await.unwrap();
    let (writers, rounds) = (8, 60);
    let last = Revision(writers * rounds);
    let readers = [first.store.clone(), second.store.clone()].map(|store| tokio::spawn(read_all(store, last)));
    let work = (0..writers).map(|n| {
        let store = if n % 2 == 0 { first.store.clone() } else { second.store.clone() };
        tokio::spawn(async move {
            for round in 0..rounds {
                write(&store, put(&format!("w{n}-{round}"), "{}")).await.unwrap();
            }
        })
    });
    for done in futures::future::join_all(work).await {
        done.unwrap();
    }
    for reader in readers {
        reader.await.unwrap();
    }
    let tables = [reaches(&first.store, last).await, reaches(&second.store, last).await];
    assert_eq!(feed(&tables[0], Revision(0)), feed(&tables[1], Revision(0)));
    assert_eq!(tables[0].epochs(), tables[1].epochs());
    let log: Vec<u64> = first
        .store
        .history(&HistoryFilter { limit: 1000, ..HistoryFilter::default() })
        .await
        .unwrap()
        .iter()
        .rev()
        .map(|entry| entry.revision.0)
        .collect();
    assert_eq!(log, (1..=last.0).collect::<Vec<_>>(), "the database's own log has no gap either");
}

/// Reads as a session of the link does: whenever there is something, all of it.
async fn read_all(store: Store, last: Revision) {
    let mut table = store.subscribe();
    let mut seen = Revision(0);
    while seen < last {
        table.changed().await.unwrap();
        let now = table.borrow_and_update().clone();
        let revisions: Vec<u64> = feed(&now, seen).iter().map(|change| change.revision().0).collect();
        assert_eq!(revisions, (seen.0 + 1..=now.durable().0).collect::<Vec<_>>(), "nothing missed, nothing out of order");
        seen = now.durable();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_updates_at_one_version_one_succeeds() {
    let first = TestStore::postgres().await.unwrap();
    let second = first.beside().await.unwrap();
    write(&first.store, put("a", "0")).await.unwrap();
    for round in 1..=20_u64 {
        let tries = (0..16).map(|n| {
            let store = if n % 2 == 0 { first.store.clone() } else { second.store.clone() };
            let spec = format!("{{\"round\":{round},\"n\":{n}}}").into();
            let update = Write::Put { key: key("a"), labels: Labels::new(), spec, expect: Expect::Version(round) };
            tokio::spawn(async move { write(&store, update).await })
        });
        let done: Vec<_> = futures::future::join_all(tries).await.into_iter().map(Result::unwrap).collect();
        assert_eq!(done.iter().filter(|result| matches!(result, Ok(WriteResult::Updated(_)))).count(), 1);
        let told =
            |result: &&Result<_, _>| matches!(result, Err(StoreError::Conflict { actual: Some(held), .. }) if *held == round + 1);
        assert_eq!(done.iter().filter(told).count(), 15, "{done:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_is_as_exact_as_a_commit() {
    let first = TestStore::postgres().await.unwrap();
    let second = first.beside().await.unwrap();
    for _ in 0..50 {
        write(&first.store, Write::create(key("a"), Labels::new(), "{}")).await.unwrap();
        write(&second.store, Write::Delete { key: key("a"), expect: Expect::Exists })
            .await
            .expect("what the other wrote is there");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_other_process_sees_changes_at_once() {
    let first = TestStore::postgres().await.unwrap();
    let second = first.beside().await.unwrap();
    let begin = Instant::now();
    for revision in 1..=20 {
        write(&first.store, put("a", &revision.to_string())).await.unwrap();
        reaches(&second.store, Revision(revision)).await;
    }
    assert!(begin.elapsed() < Duration::from_secs(5), "by notification, not by the poll of each second: {:?}", begin.elapsed());
    second.store.bind_zone(&"azure".into(), atoll_model::ZoneUid(uuid::Uuid::from_u128(1))).await.unwrap();
    eventually("the registry follows", async || first.store.registry().borrow().holder("azure").is_some()).await;
    let gone = second.store.commit(by_plane(vec![Write::delete(key("a"))])).await.unwrap().revision;
    reaches(&first.store, gone).await;
    first.clock.advance(chrono::TimeDelta::days(2));
    second.store.prune().await.unwrap();
    eventually("the horizon follows", async || atoll_sync::Feed::horizon(&*first.store.snapshot()) == Revision(21)).await;
    assert_eq!(contents(&first.store.snapshot()), contents(&second.store.snapshot()));
}

/// A process that was cut off until the tombstones of what it holds were pruned.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_behind_the_horizon_keeps_no_ghosts() {
    let test = TestStore::postgres().await.unwrap();
    test.store.commit(by_ada(["a", "b", "c"].map(|name| put(name, "{}")).to_vec())).await.unwrap();
    let before = test.store.snapshot();
    // What others did meanwhile, all at once: b is gone, and so is what told of it.
    test.store
        .execute(
            "DELETE FROM resources WHERE name = 'b';
             UPDATE resources SET revision = 5, version = 2, spec = '1' WHERE name = 'c';
             UPDATE counter SET revision = 5, horizon = 4, fence = fence + 1",
        )
        .await
        .unwrap();
    let table = reaches(&test.store, Revision(5)).await;
    assert_eq!((table.len(), spec(&table, "c").as_deref()), (2, Some("1")));
    let seen: Vec<_> = table.changes_since(before.revision()).map(|change| change.key().name.to_string()).collect();
    assert_eq!(seen, ["b", "c"], "who follows the table sees b go");
    assert!(table.continues(&before));
    write(&test.store, put("d", "{}")).await.unwrap();
    let restarted = test.restart().await.unwrap();
    assert_eq!((restarted.store.snapshot().len(), restarted.store.snapshot().revision()), (3, Revision(6)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_listener_is_made_up_for() {
    let first = TestStore::postgres().await.unwrap();
    let second = first.beside().await.unwrap();
    for round in 1..=5 {
        // Whoever waits for notifications is idle in a LISTEN.
        first.store
            .execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'")
            .await
            .unwrap();
        write(&first.store, put("a", &round.to_string())).await.unwrap();
        let table = reaches(&second.store, Revision(round)).await;
        assert_eq!(spec(&table, "a"), Some(round.to_string()));
    }
    assert_eq!(first.store.epochs().len(), 2, "only the committer's connection opens epochs");
}

/// Ends every session of the database again and again while two processes write. What was acknowledged is there; what was
/// refused is not; what is uncertain is there once or not at all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_lost_while_committing_lose_and_double_nothing() {
    let first = TestStore::postgres().await.unwrap();
    let second = first.beside().await.unwrap();
    let killer = {
        let third = first.beside().await.unwrap();
        tokio::spawn(async move {
            for _ in 0..30 {
                let _killed_itself = third.store
                    .execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
                    .await;
                tokio::time::sleep(Duration::from_millis(61)).await;
            }
        })
    };
    let work = (0..8).map(|n| {
        let store = if n % 2 == 0 { first.store.clone() } else { second.store.clone() };
        let killing = killer.abort_handle();
        tokio::spawn(async move {
            let mut said = BTreeMap::new();
            let mut round = 0;
            while !killing.is_finished() {
                let name = format!("w{n}-{round}");
                round += 1;
                let answer = write(&store, put(&name, "{}")).await.map(drop);
                if answer.is_err() {
                    tokio::time::sleep(Duration::from_millis(3)).await;
                }
                said.insert(name, answer);
            }
            said
        })
    });
    let said: BTreeMap<_, _> = futures::future::join_all(work).await.into_iter().flat_map(|done| done.unwrap()).collect();
    killer.await.unwrap();
    eventually("both are back", async || first.store.is_available() && second.store.is_available()).await;
    write(&first.store, put("last", "{}")).await.unwrap();
    let head = first.store.snapshot().revision();
    let tables = [reaches(&first.store, head).await, reaches(&second.store, head).await];
    assert_eq!(contents(&tables[0]), contents(&tables[1]));
    let mut done = 0;
    for (name, answer) in &said {
        match (answer, tables[0].get(&key(name))) {
            (Ok(()), Some(resource)) if resource.version == 1 => done += 1,
            (Err(StoreError::Uncertain(_)), None) | (Err(StoreError::Unavailable(_)), None) => {}
            (Err(StoreError::Uncertain(_)), Some(resource)) if resource.version == 1 => {}
            other => panic!("{name}: {other:?}"),
        }
    }
    assert!(done > 50, "{done} of {}", said.len());
    let log = first.store.history(&HistoryFilter { limit: 1000, ..HistoryFilter::default() }).await.unwrap();
    let rows = resources(&tables[0]).len();
    assert_eq!(log.len(), rows.min(1000), "one entry of history for each change");
    let epochs = tables[0].epochs().as_slice();
    assert!(epochs.len() > 3 && epochs.is_sorted_by_key(|epoch| epoch.first));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_is_reported_fast_and_comes_back_without_a_restart() {
    let (server, test) = alone().await;
    let store = &test.store;
    write(store, put("a", "{}")).await.unwrap();
    let epochs = store.epochs();
    let hammer = {
        let store = store.clone();
        tokio::spawn(async move {
            let mut acknowledged = Vec::new();
            for n in 0.. {
                let name = format!("h{n}");
                match write(&store, put(&name, "{}")).await {
                    Ok(_) => acknowledged.push(name),
                    Err(StoreError::Unavailable(_) | StoreError::Uncertain(_)) => return acknowledged,
                    Err(other) => panic!("{other}"),
                }
            }
            acknowledged
        })
    };
    eventually("writes run", async || store.snapshot().revision() > Revision(20)).await;
    server.kill();
    let begin = Instant::now();
    let acknowledged = tokio::time::timeout(Duration::from_secs(3), hammer).await.expect("told within 3 s").unwrap();
    assert!(matches!(write(store, put("b", "{}")).await, Err(StoreError::Unavailable(_))));
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
    let again = Instant::now();
    assert!(matches!(write(store, put("b", "{}")).await, Err(StoreError::Unavailable(_))));
    assert!(again.elapsed() < Duration::from_millis(200), "known to be away: {:?}", again.elapsed());
    assert!(!store.is_available());
    assert!(store.snapshot().get(&key("a")).is_some(), "reads go on");
    let begin = Instant::now();
    assert!(store.blob("ca").await.is_err());
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());

    server.restart().await.unwrap();
    eventually("writes work again", async || write(store, put("c", "{}")).await.is_ok()).await;
    assert!(store.is_available());
    for name in acknowledged {
        assert!(store.snapshot().get(&key(&name)).is_some(), "{name} was acknowledged");
    }
    assert!(store.epochs().len() > epochs.len(), "a reconnection opens an epoch");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_hangs_is_reported_and_followed_again() {
    let (server, test) = alone().await;
    write(&test.store, put("a", "{}")).await.unwrap();
    server.freeze();
    let begin = Instant::now();
    let answer = write(&test.store, put("b", "{}")).await;
    let took = begin.elapsed();
    server.thaw();
    assert!(matches!(answer, Err(StoreError::Uncertain(_) | StoreError::Unavailable(_))), "{answer:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    eventually("writes work again", async || write(&test.store, put("c", "{}")).await.is_ok()).await;
    let table = test.store.snapshot();
    let late = table.get(&key("b")).map(|resource| resource.version);
    assert!(late.is_none() || late == Some(1));
    let log = test.store.history(&HistoryFilter::default()).await.unwrap();
    assert_eq!(log.len(), table.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_went_back_is_taken_as_it_is_and_opens_an_epoch() {
    let (server, test) = alone().await;
    let store = &test.store;
    store.commit(by_ada((0..10).map(|n| put(&format!("r{n}"), "{}")).collect())).await.unwrap();
    let (lost, before) = (store.epochs()[0], store.snapshot());
    // As after a failover to a server that lacks the last commits.
    store
        .execute(
            "DELETE FROM history WHERE revision > 6; DELETE FROM resources WHERE revision > 6; UPDATE counter SET revision = 6",
        )
        .await
        .unwrap();
    server.kill();
    server.restart().await.unwrap();
    eventually("it is taken over", async || write(store, put("new", "{}")).await.is_ok()).await;
    let table = store.snapshot();
    assert_eq!((table.revision(), table.len()), (Revision(7), 7));
    assert!(!table.continues(&before));
    assert!(!table.epochs().holds(lost.id, Revision(10), table.revision()), "a peer that saw revision 10 saw another history");
    assert!(table.epochs().holds(lost.id, Revision(6), table.revision()));
}

#[tokio::test]
async fn an_absent_server_is_reported_fast() {
    let begin = Instant::now();
    let url = "postgres://atoll@localhost/none?host=/tmp/atoll-no-such-folder".to_owned();
    let opened = Store::open(StoreConfig::Postgres { url }, clock(), &Tasks::new()).await;
    assert!(matches!(opened, Err(StoreError::Unavailable(_))), "{opened:?}");
    assert!(begin.elapsed() < Duration::from_secs(3));
}

#[tokio::test]
async fn a_row_that_cannot_be_read_does_not_stop_the_others() {
    let test = TestStore::postgres().await.unwrap();
    test.store.commit(by_ada(vec![put("a", "{}"), put("b", "{}"), put("c", "{}")])).await.unwrap();
    test.store.execute("UPDATE resources SET kind = 'OfTomorrow' WHERE name = 'b'").await.unwrap();
    let test = test.restart().await.unwrap();
    assert_eq!((test.store.snapshot().len(), test.store.snapshot().revision()), (2, Revision(3)));
}

#[tokio::test]
async fn a_person_can_read_it_in_psql() {
    let test = TestStore::postgres().await.unwrap();
    let odd = Write::put(key("odd"), Labels::new(), r#"{"text":"\u0000"}"#);
    test.store.commit(by_ada(vec![put("a", "{\"n\":1}"), odd])).await.unwrap();
    let computed = Write::PutComputed { key: key("a"), computed: Some("{\"state\":\"Up\"}".into()), expect: Expect::Any };
    test.store.commit(by_plane(vec![computed])).await.unwrap();
    test.store
        .execute(
            "DO $$ BEGIN
                 ASSERT (SELECT spec->>'n' || (spec->>'state') FROM documents WHERE name = 'a') = '1Up';
                 ASSERT (SELECT count(*) FROM documents WHERE spec IS NULL) = 1, 'a spec that is no jsonb is shown as null';
                 ASSERT (SELECT string_agg(subject || ' ' || action || ' ' || name, ', ' ORDER BY revision) FROM history)
                     = 'user:ada create a, user:ada create odd';
             END $$",
        )
        .await
        .unwrap();
    assert_eq!(ada().subject, "user:ada");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn starting_together_is_safe() {
    let server = Postgres::shared().await.unwrap();
    let url = server.database().await.unwrap();
    let opened = (0..6).map(|_| {
        let config = StoreConfig::Postgres { url: url.clone() };
        tokio::spawn(async move {
            let tasks = Tasks::new();
            let store = Store::open(config, clock(), &tasks).await.unwrap();
            let key = store.put_blob_if_absent("ca", uuid::Uuid::new_v4().as_bytes()).await.unwrap();
            (store.cluster_id(), key, Arc::new(store))
        })
    });
    let opened: Vec<_> = futures::future::join_all(opened).await.into_iter().map(Result::unwrap).collect();
    assert!(opened.iter().all(|(cluster, key, _)| (cluster, key) == (&opened[0].0, &opened[0].1)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_request_on_two_instances_is_done_once() {
    let first = TestStore::postgres().await.unwrap();
    let second = first.beside().await.unwrap();
    write(&first.store, put("there", "{}")).await.unwrap();
    for round in 0..30 {
        // Every other round takes no revision, which the counter does not tell the other instance.
        let name = if round % 2 == 0 { format!("r{round}") } else { "there".to_owned() };
        let tries = (0..8).map(|n| {
            let store = if n % 2 == 0 { first.store.clone() } else { second.store.clone() };
            let once = Once { subject: "user:ada".to_owned(), key: round.to_string(), request: [u8::from(n >= 6); 32] };
            let batch = by_ada(vec![put(&name, "{}")]).once(once);
            tokio::spawn(async move { store.commit(batch).await })
        });
        let done: Vec<_> = futures::future::join_all(tries).await.into_iter().map(Result::unwrap).collect();
        let told: Vec<_> = done.iter().filter_map(|done| done.as_ref().ok()).collect();
        assert_eq!(told.iter().filter(|done| done.repeated.is_none()).count(), 1, "{done:?}");
        assert!(told.iter().all(|done| done.revision == told[0].revision), "{done:?}");
        let reused = done.iter().filter(|done| matches!(done, Err(StoreError::KeyReused))).count();
        assert!(reused + told.len() == 8 && (reused == 2 || reused == 6), "{done:?}");
    }
    assert_eq!(first.store.audit(&AuditFilter::default()).await.unwrap().len(), 31, "one row for each");
    assert_eq!(first.store.verify_audit().await.unwrap().broken, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_token_is_known_to_the_other_instance() {
    let first = TestStore::postgres().await.unwrap();
    let second = first.beside().await.unwrap();
    let now = atoll_model::Clock::now(&*first.clock);
    let until = now + chrono::TimeDelta::hours(1);
    let revocation = TokenRevocation { id: "jti".to_owned(), until, at: now, by: "user:ada".to_owned() };
    let begin = Instant::now();
    first.store.revoke_token(&revocation).await.unwrap();
    let mut registry = second.store.registry();
    registry.wait_for(|registry| registry.is_revoked("jti")).await.unwrap();
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
}
