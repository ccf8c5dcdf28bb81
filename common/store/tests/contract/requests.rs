//! The contract of what comes with a request: that it is done once, that the audit knows it, and which tokens may not be used.

use atoll_model::{Clock, Labels, Revision};
use atoll_store::{
    Actor, AuditEntry, AuditFilter, AuditRecord, AuthMethod, Broken, Committed, Decision, Denied, Expect, Once, OutcomeKind,
    Repeated, RequestInfo, Store, StoreError, TokenRevocation, Write, WriteBatch, testing::TestStore,
};
use chrono::TimeDelta;

use crate::{ada, by_ada, by_plane, eventually, key, on_both, put, spec, write};

on_both!(requests:
    a_repeated_request_is_not_done_again,
    a_key_stands_for_one_request,
    a_refused_request_may_be_tried_again,
    of_the_same_request_at_once_one_is_done,
    a_request_that_changes_nothing_is_known_as_well,
    keys_are_forgotten_after_a_day,
    revoked_tokens_are_known_until_they_end,
    the_computed_part_has_preconditions,
    every_write_of_a_person_is_audited,
    what_is_done_beside_resources_is_audited,
    refused_requests_are_audited,
    a_flood_of_refused_requests_is_counted,
    the_audit_is_filtered_and_paged,
    a_changed_audit_is_noticed,
);

fn once(key: &str, request: u8) -> Once {
    Once { subject: "user:ada".to_owned(), key: key.to_owned(), request: [request; 32] }
}

async fn do_once(store: &Store, key: &str, request: u8, writes: Vec<Write>) -> Result<Committed, StoreError> {
    store.commit(by_ada(writes).once(once(key, request))).await
}

async fn a_repeated_request_is_not_done_again(test: TestStore) {
    write(&test.store, put("b", "{}")).await.unwrap();
    let writes = || vec![put("a", "1"), put("b", "{}"), put("b", "2"), Write::delete(key("b")), Write::delete(key("c"))];
    let first = do_once(&test.store, "k", 1, writes()).await.unwrap();
    assert_eq!((first.revision, first.results.len(), first.repeated), (Revision(4), 5, None));
    write(&test.store, put("a", "3")).await.unwrap();

    use OutcomeKind::{Absent, Created, Deleted, Unchanged, Updated};
    let outcomes = vec![Created, Unchanged, Updated, Deleted, Absent];
    let expected =
        Committed { revision: Revision(4), results: Vec::new(), repeated: Some(Repeated { revision: Revision(4), outcomes }) };
    assert_eq!(do_once(&test.store, "k", 1, writes()).await.unwrap(), expected);
    let test = test.restart().await.unwrap();
    assert_eq!(do_once(&test.store, "k", 1, writes()).await.unwrap(), expected, "after a restart as well");
    let table = test.store.snapshot();
    assert_eq!((table.revision(), spec(&table, "a").as_deref()), (Revision(5), Some("3")));
    let rows = test.store.audit(&AuditFilter::default()).await.unwrap();
    assert_eq!(rows.len(), 7, "a repetition adds nothing to the audit");
}

async fn a_key_stands_for_one_request(test: TestStore) {
    do_once(&test.store, "k", 1, vec![put("a", "1")]).await.unwrap();
    let reused = do_once(&test.store, "k", 2, vec![put("a", "2")]).await;
    assert!(matches!(reused, Err(StoreError::KeyReused)), "{reused:?}");
    let bobs = Once { subject: "user:bob".to_owned(), ..once("k", 2) };
    let done = test.store.commit(by_ada(vec![put("a", "3")]).once(bobs)).await.unwrap();
    assert_eq!(done.repeated, None, "another subject's key is another key");
    assert_eq!(do_once(&test.store, "l", 2, vec![put("a", "4")]).await.unwrap().repeated, None);
    assert_eq!(test.store.snapshot().revision(), Revision(3));
}

async fn a_refused_request_may_be_tried_again(test: TestStore) {
    let create = || vec![put("other", "{}"), Write::create(key("a"), Labels::new(), "{}")];
    write(&test.store, put("a", "{}")).await.unwrap();
    assert!(matches!(do_once(&test.store, "k", 1, create()).await, Err(StoreError::AlreadyExists(_))));
    write(&test.store, Write::delete(key("a"))).await.unwrap();
    assert_eq!(do_once(&test.store, "k", 1, create()).await.unwrap().results.len(), 2);
}

async fn of_the_same_request_at_once_one_is_done(test: TestStore) {
    for round in 0..10 {
        let tries = (0..32).map(|n| {
            let (store, name) = (test.store.clone(), format!("r{round}"));
            tokio::spawn(async move {
                let noise = write(&store, put(&format!("noise-{n}"), &round.to_string())).await;
                noise.and(do_once(&store, &name, 1, vec![Write::create(key(&name), Labels::new(), "{}")]).await)
            })
        });
        let done: Vec<_> = futures::future::join_all(tries).await.into_iter().map(|done| done.unwrap().unwrap()).collect();
        assert_eq!(done.iter().filter(|done| done.repeated.is_none()).count(), 1, "one is done, the others are told of it");
        assert!(done.iter().all(|one| one.revision == done[0].revision));
    }
}

async fn a_request_that_changes_nothing_is_known_as_well(test: TestStore) {
    write(&test.store, put("a", "{}")).await.unwrap();
    let tries = (0..20).map(|_| {
        let store = test.store.clone();
        tokio::spawn(async move { do_once(&store, "k", 1, vec![put("a", "{}")]).await.unwrap() })
    });
    let done: Vec<_> = futures::future::join_all(tries).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(done.iter().filter(|done| done.repeated.is_none()).count(), 1);
    write(&test.store, put("a", "1")).await.unwrap();
    let again = do_once(&test.store, "k", 1, vec![put("a", "{}")]).await.unwrap();
    assert_eq!(again.repeated.map(|repeated| repeated.outcomes), Some(vec![OutcomeKind::Unchanged]));
    assert_eq!(spec(&test.store.snapshot(), "a").as_deref(), Some("1"), "what came later is not undone");
}

async fn keys_are_forgotten_after_a_day(test: TestStore) {
    do_once(&test.store, "k", 1, vec![put("a", "1")]).await.unwrap();
    test.clock.advance(TimeDelta::hours(23));
    assert_eq!(test.store.prune().await.unwrap().once, 0);
    test.clock.advance(TimeDelta::hours(2));
    assert_eq!(test.store.prune().await.unwrap().once, 1);
    assert_eq!(do_once(&test.store, "k", 1, vec![put("a", "2")]).await.unwrap().repeated, None);
}

async fn revoked_tokens_are_known_until_they_end(test: TestStore) {
    let now = test.clock.now();
    let revocation = |id: &str, hours| TokenRevocation {
        id: id.to_owned(),
        until: now + TimeDelta::hours(hours),
        at: now,
        by: "user:ada".to_owned(),
    };
    test.store.revoke_token(&revocation("short", 1)).await.unwrap();
    test.store.revoke_token(&revocation("long", 2)).await.unwrap();
    test.store.revoke_token(&revocation("long", 1)).await.unwrap();
    let held = |test: &TestStore| test.store.registry().borrow().revoked.keys().cloned().collect::<Vec<_>>();
    assert_eq!(held(&test), ["long", "short"], "known when the call returns");
    let test = test.restart().await.unwrap();
    assert_eq!(held(&test), ["long", "short"]);
    assert_eq!(test.store.registry().borrow().revoked["long"], now + TimeDelta::hours(2), "the later end stands");
    test.clock.advance(TimeDelta::minutes(61));
    assert_eq!(test.store.prune().await.unwrap().revocations, 0, "clocks may differ by some minutes");
    test.clock.advance(TimeDelta::minutes(10));
    assert_eq!(test.store.prune().await.unwrap().revocations, 1);
    eventually("memory forgets it too", async || held(&test) == ["long"]).await;
    assert!(test.store.registry().borrow().is_revoked("long") && !test.store.registry().borrow().is_revoked("short"));
}

async fn the_computed_part_has_preconditions(test: TestStore) {
    let store = &test.store;
    write(store, put("a", "{}")).await.unwrap();
    let compute = |n: u64, expect| Write::PutComputed { key: key("a"), computed: Some(format!("{{\"n\":{n}}}").into()), expect };
    store.commit(by_plane(vec![compute(1, Expect::Version(1))])).await.unwrap();
    let late = store.commit(by_plane(vec![compute(2, Expect::Version(1))])).await;
    assert!(matches!(late, Err(StoreError::Conflict { expected: 1, actual: Some(2), .. })), "{late:?}");
    assert_eq!(store.snapshot().get(&key("a")).unwrap().computed.as_deref(), Some(&b"{\"n\":1}"[..]));
    let nobody = Write::PutComputed { key: key("b"), computed: None, expect: Expect::Any };
    assert!(matches!(store.commit(by_plane(vec![nobody])).await, Err(StoreError::NotFound(_))));
}

async fn rows(store: &Store, filter: AuditFilter) -> Vec<AuditEntry> {
    store.audit(&filter).await.unwrap()
}

async fn intact(store: &Store) -> u64 {
    let verified = store.verify_audit().await.unwrap();
    assert_eq!(verified.broken, None);
    verified.rows
}

async fn every_write_of_a_person_is_audited(test: TestStore) {
    let request = RequestInfo { id: "r-1".to_owned(), method: AuthMethod::Oidc, reason: Some("an\nincident".to_owned()) };
    let check = Write::Check { key: key("a"), expect: Expect::Any };
    let writes = vec![check, put("a", "1"), put("a", "2"), put("a", "2"), Write::delete(key("a")), Write::delete(key("a"))];
    test.store.commit(WriteBatch::new(ada().asking(request), writes)).await.unwrap();
    test.store.commit(by_plane(vec![put("plane", "{}")])).await.unwrap();
    let _refused = test.store.commit(by_ada(vec![put("b", "{}"), put("c", "{")])).await.unwrap_err();
    let (first, second) = {
        let history = test.store.history(&atoll_store::HistoryFilter::default()).await.unwrap();
        let hash = |image: &[u8], n: usize| {
            assert!(image.ends_with(format!("{n}}}").as_bytes()));
            atoll_model::ContentHash::of(&Labels::new(), n.to_string().as_bytes()).to_bytes()
        };
        (hash(history[1].before.as_deref().unwrap(), 1), hash(history[1].after.as_deref().unwrap(), 2))
    };

    let entries = rows(&test.store, AuditFilter::default()).await;
    let told: Vec<_> = entries.iter().rev().map(|entry| &entry.record).collect();
    let said: Vec<_> = told.iter().map(|row| (row.verb.as_str(), row.revision.map(|r| r.0), row.before, row.after)).collect();
    let expected = [
        ("create", Some(1), None, Some(first)),
        ("update", Some(2), Some(first), Some(second)),
        ("update", None, Some(second), Some(second)),
        ("delete", Some(3), Some(second), None),
        ("delete", None, None, None),
    ];
    assert_eq!(said, expected, "one row for each write of a person, none for a plane, none for what was not done");
    let row = told[0];
    assert_eq!((row.subject.as_str(), row.address, row.method), ("user:ada", ada().address, AuthMethod::Oidc));
    assert_eq!((row.request_id.as_deref(), row.reason.as_deref()), (Some("r-1"), Some("anincident")));
    assert_eq!((row.object.as_str(), row.decision, row.at), ("MeshTimeout/default/a", Decision::Allowed, test.clock.now()));
    assert_eq!(intact(&test.store).await, 5);
    let test = test.restart().await.unwrap();
    write(&test.store, put("after", "{}")).await.unwrap();
    assert_eq!(rows(&test.store, AuditFilter::default()).await[1..], entries);
    assert_eq!(intact(&test.store).await, 6);
}

async fn what_is_done_beside_resources_is_audited(test: TestStore) {
    let record = |n: i64| AuditRecord {
        at: test.clock.now() + TimeDelta::nanoseconds(n),
        revision: None,
        request_id: Some(format!("r-{n}")),
        subject: "user:ada\u{0}".to_owned(),
        method: AuthMethod::Token,
        address: None,
        verb: "issue-token".to_owned(),
        object: "Token/user/bob".to_owned(),
        before: None,
        after: None,
        decision: Decision::Allowed,
        reason: None,
    };
    for n in 0..2 {
        test.store.record(record(n)).await.unwrap();
    }
    let found = rows(&test.store, AuditFilter::default()).await;
    let requests: Vec<_> = found.iter().map(|entry| entry.record.request_id.as_deref().unwrap()).collect();
    assert_eq!(requests, ["r-1", "r-0"], "it lasts when the call returns");
    assert_eq!(found[0].link.previous, found[1].link.hash, "in one chain");
    assert_eq!(intact(&test.store).await, 2);
}

fn denied(n: usize, test: &TestStore) -> Denied {
    Denied {
        at: test.clock.now(),
        request_id: format!("r-{n}"),
        subject: "user:\u{0}eve".to_owned(),
        method: AuthMethod::Token,
        address: None,
        verb: "delete".to_owned(),
        object: "/meshes/default".to_owned(),
        reason: "no role grants it".to_owned(),
    }
}

async fn refused_requests_are_audited(test: TestStore) {
    for n in 0..3 {
        test.store.record_denied(denied(n, &test));
    }
    write(&test.store, put("a", "{}")).await.unwrap();
    let refused = AuditFilter { decision: Some(Decision::Denied), ..AuditFilter::default() };
    eventually("they are written", async || rows(&test.store, refused.clone()).await.len() == 3).await;
    let row = rows(&test.store, refused).await.remove(0).record;
    assert_eq!((row.request_id.as_deref(), row.subject.as_str()), (Some("r-2"), "user:eve"));
    assert_eq!((row.revision, row.reason.as_deref()), (None, Some("no role grants it")));
    assert_eq!((intact(&test.store).await, test.store.denied_dropped()), (4, 0));
    test.store.record_denied(denied(9, &test));
    let test = test.restart().await.unwrap();
    assert_eq!(intact(&test.store).await, 5, "the last one is written before the end");
}

async fn a_flood_of_refused_requests_is_counted(test: TestStore) {
    for n in 0..3000 {
        test.store.record_denied(denied(n, &test));
    }
    let dropped = test.store.denied_dropped();
    assert!((2000..=2500).contains(&dropped), "{dropped}");
    eventually("the others are written", async || intact(&test.store).await == 3000 - dropped).await;
}

async fn the_audit_is_filtered_and_paged(test: TestStore) {
    for n in 0..4 {
        let actor = Actor::recorded(format!("user:{}", n % 2), None);
        test.store.commit(WriteBatch::one(actor, put(&format!("r{n}"), "{}"))).await.unwrap();
        test.clock.advance(TimeDelta::seconds(10));
    }
    let all = AuditFilter::default;
    let check = async |filter: AuditFilter, expected: &[&str]| {
        let told: Vec<_> = rows(&test.store, filter).await.into_iter().map(|entry| entry.record.object).collect();
        assert_eq!(told, expected.iter().map(|name| format!("MeshTimeout/default/{name}")).collect::<Vec<_>>());
    };
    check(all(), &["r3", "r2", "r1", "r0"]).await;
    check(AuditFilter { subject: Some("user:1".to_owned()), ..all() }, &["r3", "r1"]).await;
    check(AuditFilter { verb: Some("delete".to_owned()), ..all() }, &[]).await;
    check(AuditFilter { object: Some("MeshTimeout/default/r2".to_owned()), ..all() }, &["r2"]).await;
    check(AuditFilter { decision: Some(Decision::Denied), ..all() }, &[]).await;
    check(AuditFilter { request_id: Some("r".to_owned()), ..all() }, &[]).await;
    check(AuditFilter { since: Some(test.clock.now() - TimeDelta::seconds(25)), ..all() }, &["r3", "r2"]).await;
    let page = rows(&test.store, AuditFilter { limit: 2, ..all() }).await;
    check(AuditFilter { before: Some(page[1].position), ..all() }, &["r1", "r0"]).await;
}

async fn a_changed_audit_is_noticed(test: TestStore) {
    for n in 0..6 {
        write(&test.store, put(&format!("r{n}"), "{}")).await.unwrap();
    }
    let store = &test.store;
    let entries = rows(store, AuditFilter::default()).await;
    let [last, .., _, second, _] = &entries[..] else { panic!("{entries:?}") };
    let change = format!("UPDATE audit SET subject = 'user:eve' WHERE position = {}", second.position);
    let delete = |position| format!("DELETE FROM audit WHERE position = {position}");
    assert!(store.execute(&change).await.is_err() && store.execute(&delete(second.position)).await.is_err(), "append only");

    // Someone who may change the tables can take that away; the chain still tells.
    let postgres = matches!(test.config, atoll_store::StoreConfig::Postgres { .. });
    let open = if postgres {
        "ALTER TABLE audit DISABLE TRIGGER audit_is_append_only"
    } else {
        "DROP TRIGGER audit_is_not_changed; DROP TRIGGER audit_is_not_deleted"
    };
    store.execute(open).await.unwrap();
    store.execute(&delete(last.position)).await.unwrap();
    let broken =
        async || store.verify_audit().await.unwrap().broken.map(|Broken { position, sequence, .. }| (position, sequence));
    assert_eq!(broken().await, Some((last.position - 1, 6)), "missing at the end");
    store.execute(&change).await.unwrap();
    assert_eq!(broken().await, Some((second.position, 2)), "changed");
    store.execute(&delete(second.position)).await.unwrap();
    assert_eq!(broken().await, Some((second.position + 1, 2)), "missing in the middle");
}
