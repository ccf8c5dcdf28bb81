//! Two instances that both believe to have a peer's stream.
#![allow(clippy::unwrap_used)]

use atoll_model::{Kind, Labels, Owner, ResourceKey, Revision, ZoneUid};
use atoll_store::{Actor, PeerCursor, RemoteBatch, RemoteItem, Store, testing::TestStore};
use uuid::Uuid;

const ZONE: ZoneUid = ZoneUid(Uuid::from_u128(9));

fn key() -> ResourceKey {
    ResourceKey::new(Kind::MeshService, "default", "api", Owner::Zone(ZONE))
}

/// What the zone says at one of its revisions: the service's port tells which.
fn at(revision: u64) -> RemoteBatch {
    let spec = format!(r#"{{"ports":[{{"port":{revision}}}]}}"#).into();
    RemoteBatch {
        peer: ZONE.to_string(),
        items: vec![RemoteItem::Put { key: key(), labels: Labels::new(), spec }],
        cursor: Some(PeerCursor { epoch: Uuid::from_u128(1), revision: Revision(revision) }),
        actor: Actor::plane(),
    }
}

async fn held(store: &Store) -> (String, Revision) {
    let spec = store.snapshot().get(&key()).unwrap().spec.clone();
    let cursor = store.peer_cursor(&ZONE.to_string()).await.unwrap().unwrap();
    (String::from_utf8(spec.to_vec()).unwrap(), cursor.revision)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_older_session_still_sends_is_not_taken() {
    let one = TestStore::postgres().await.unwrap();
    let two = one.beside().await.unwrap();
    let peer = ZONE.to_string();
    let older = one.store.begin_session(&peer).await.unwrap();
    assert!(one.store.apply_remote_in(older, at(10)).await.unwrap().is_some());

    let newer = two.store.begin_session(&peer).await.unwrap();
    assert!(two.store.apply_remote_in(newer, at(20)).await.unwrap().is_some());
    // The first instance had this in its hands all the time.
    assert!(one.store.apply_remote_in(older, at(15)).await.unwrap().is_none());
    let expected = (r#"{"ports":[{"port":20}]}"#.to_owned(), Revision(20));
    assert_eq!(held(&two.store).await, expected);
    assert_eq!(held(&one.store).await, expected, "and it knows what there is now");

    // The zone comes back, and it is the other instance that has an old session.
    let back = one.store.begin_session(&peer).await.unwrap();
    assert!(one.store.apply_remote_in(back, at(40)).await.unwrap().is_some());
    assert!(two.store.apply_remote_in(newer, at(35)).await.unwrap().is_none());
    assert_eq!(held(&one.store).await.1, Revision(40));
}

#[tokio::test]
async fn a_store_of_one_process_takes_what_comes_in_its_order() {
    let test = TestStore::sqlite().await.unwrap();
    let session = test.store.begin_session(&ZONE.to_string()).await.unwrap();
    assert!(test.store.apply_remote_in(session, at(10)).await.unwrap().is_some());
    assert_eq!(held(&test.store).await.1, Revision(10));
}
