//! The contract of what stands beside the table.

use atoll_model::{Clock, Name, Timestamp, ZoneUid};
use atoll_store::{Bind, JoinToken, Redeem, Refusal, Store, ZoneCertificate, testing::TestStore};
use bytes::Bytes;
use chrono::TimeDelta;
use uuid::Uuid;

use crate::on_both;

on_both!(small_tables:
    blobs,
    a_join_token_is_used_once,
    a_lost_answer_can_be_repeated_with_the_same_key,
    refusals_of_join_tokens,
    zones_and_their_certificates,
    soft_state,
);

const SECRET: [u8; 32] = [7; 32];

fn uid(n: u128) -> ZoneUid {
    ZoneUid(Uuid::from_u128(n))
}

async fn blobs(test: TestStore) {
    let store = &test.store;
    assert_eq!(store.blob("ca").await.unwrap(), None);
    assert_eq!(store.put_blob_if_absent("ca", b"one").await.unwrap(), b"one");
    assert_eq!(store.put_blob_if_absent("ca", b"two").await.unwrap(), b"one", "the first one stands");
    let test = test.restart().await.unwrap();
    assert_eq!(test.store.blob("ca").await.unwrap().as_deref(), Some(&b"one"[..]));
    test.store.put_blob("ca", &[0, 255]).await.unwrap();
    assert_eq!(test.store.blob("ca").await.unwrap().as_deref(), Some(&[0, 255][..]));
    test.store.delete_blob("ca").await.unwrap();
    assert_eq!(test.store.blob("ca").await.unwrap(), None);
}

async fn token(store: &Store, now: Timestamp) {
    let token = JoinToken { id: "t1".into(), hash: SECRET, zone: "azure".into(), expires: now + TimeDelta::hours(1) };
    store.put_join_token(&token).await.unwrap();
}

async fn redeem(store: &Store, spki: u8) -> Redeem {
    store.redeem_join_token("t1", &SECRET, &Name::from("azure"), &[spki; 32]).await.unwrap()
}

async fn a_join_token_is_used_once(test: TestStore) {
    token(&test.store, test.clock.now()).await;
    let tries = (0..100).map(|n| {
        let store = test.store.clone();
        tokio::spawn(async move { redeem(&store, n).await })
    });
    let done: Vec<_> = futures::future::join_all(tries).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(done.iter().filter(|result| **result == Redeem::Accepted).count(), 1);
    assert_eq!(done.iter().filter(|result| **result == Redeem::Refused(Refusal::Used)).count(), 99);
}

async fn a_lost_answer_can_be_repeated_with_the_same_key(test: TestStore) {
    token(&test.store, test.clock.now()).await;
    let tries = (0..100).map(|_| {
        let store = test.store.clone();
        tokio::spawn(async move { redeem(&store, 1).await })
    });
    let done: Vec<_> = futures::future::join_all(tries).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(done.iter().filter(|result| **result == Redeem::Accepted).count(), 1);
    assert_eq!(done.iter().filter(|result| **result == Redeem::Repeated).count(), 99);
    test.clock.advance(TimeDelta::minutes(14));
    assert_eq!(redeem(&test.store, 2).await, Redeem::Refused(Refusal::Used));
    assert_eq!(redeem(&test.store, 1).await, Redeem::Repeated);
    test.clock.advance(TimeDelta::minutes(2));
    assert_eq!(redeem(&test.store, 1).await, Redeem::Refused(Refusal::Used));
}

async fn refusals_of_join_tokens(test: TestStore) {
    token(&test.store, test.clock.now()).await;
    let check = async |id: &str, hash: [u8; 32], zone: &str, expected| {
        let done = test.store.redeem_join_token(id, &hash, &Name::from(zone), &[1; 32]).await.unwrap();
        assert_eq!(done, Redeem::Refused(expected), "{id} {zone}");
    };
    check("t2", SECRET, "azure", Refusal::Unknown).await;
    check("t1", [8; 32], "azure", Refusal::Unknown).await;
    check("t1", SECRET, "gcp", Refusal::OtherZone).await;
    test.clock.advance(TimeDelta::hours(1));
    check("t1", SECRET, "azure", Refusal::Expired).await;
}

async fn zones_and_their_certificates(test: TestStore) {
    let store = &test.store;
    let (azure, gcp) = (Name::from("azure"), Name::from("gcp"));
    let Bind::Bound(holder) = store.bind_zone(&azure, uid(1)).await.unwrap() else { panic!("not bound") };
    assert_eq!(store.bind_zone(&azure, uid(1)).await.unwrap(), Bind::Bound(holder.clone()));
    assert_eq!(store.bind_zone(&azure, uid(2)).await.unwrap(), Bind::Taken(holder.clone()));
    assert_eq!(store.bind_zone(&gcp, uid(1)).await.unwrap(), Bind::Renamed(holder.clone()));
    assert_eq!(store.registry().borrow().holder("azure"), Some(&holder));

    let now = test.clock.now();
    let certificate = |serial: &str, issued| ZoneCertificate {
        serial: serial.to_owned(),
        zone: uid(1),
        instance: "i1".to_owned(),
        spki: [3; 32],
        issued,
        expires: issued + TimeDelta::days(30),
        revoked: None,
    };
    store.put_certificate(&certificate("0a", now)).await.unwrap();
    store.put_certificate(&certificate("0b", now + TimeDelta::days(10))).await.unwrap();
    assert_eq!(store.certificates(uid(1)).await.unwrap(), [certificate("0b", now + TimeDelta::days(10)), certificate("0a", now)]);
    assert!(store.registry().borrow().admits(uid(1), "0a"));
    assert!(store.revoke_certificate("0a").await.unwrap());
    assert!(!store.revoke_certificate("ff").await.unwrap());
    let admits = |store: &Store, uid, serial| store.registry().borrow().admits(uid, serial);
    assert!(!admits(store, uid(1), "0a") && admits(store, uid(1), "0b") && !admits(store, uid(2), "0c"));

    let test = test.restart().await.unwrap();
    let store = &test.store;
    assert!(!admits(store, uid(1), "0a") && admits(store, uid(1), "0b"), "a restart forgets no revocation");
    assert!(store.revoke_zone(uid(1)).await.unwrap());
    assert!(!admits(store, uid(1), "0b"));
    store.release_zone(&azure).await.unwrap();
    assert!(store.certificates(uid(1)).await.unwrap().is_empty());
    assert!(matches!(store.bind_zone(&azure, uid(2)).await.unwrap(), Bind::Bound(holder) if holder.uid == uid(2)));
}

async fn soft_state(test: TestStore) {
    let row = |key: &str, value: &str| (key.to_owned(), Bytes::from(value.to_owned()));
    let store = &test.store;
    store.put_soft(vec![row("zone/a", "1"), row("zone/b", "1"), row("zoned", "1"), row("zone/a", "2")]).await.unwrap();
    store.put_soft(vec![row("zone/b", "3")]).await.unwrap();
    let read = async |prefix: &str| {
        let rows = store.soft(prefix).await.unwrap();
        rows.into_iter().map(|row| (row.key, String::from_utf8(row.value.to_vec()).unwrap())).collect::<Vec<_>>()
    };
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    assert_eq!(read("zone/").await, [pair("zone/a", "2"), pair("zone/b", "3")]);
    store.delete_soft(&["zone/a".to_owned(), "nobody".to_owned()]).await.unwrap();
    assert_eq!(read("").await, [pair("zone/b", "3"), pair("zoned", "1")]);
    assert_eq!(store.snapshot().revision(), atoll_model::Revision(0), "soft state takes no revision");
}
