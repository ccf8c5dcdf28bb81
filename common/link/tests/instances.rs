//! Global on Postgres: two instances, and a database that goes back.
#![allow(clippy::unwrap_used)]

mod world;

use std::{collections::BTreeSet, sync::Arc};

use atoll_link::Phase;
use atoll_model::{Kind, Labels, ResourceKey, Revision};
use atoll_store::{
    Actor, PeerCursor, Store, StoreConfig, Write, WriteBatch,
    testing::{Postgres, postgres_url},
};
use world::*;

const SERVICE: &str = r#"{"ports":[{"port":80}]}"#;

/// Whether a cursor names a place of this store's history from which the deletion of `last`, the newest change, follows not again.
fn covers(store: &Store, last: &ResourceKey, cursor: Option<PeerCursor>) -> bool {
    let table = store.snapshot();
    let (cursor, last) = (cursor.unwrap(), table.tombstone(last).unwrap().revision);
    table.epochs().holds(cursor.epoch, cursor.revision, table.durable()) && cursor.revision >= last
}

async fn cursor(store: &Store, peer: &str) -> Option<PeerCursor> {
    store.peer_cursor(peer).await.unwrap()
}

fn set<const N: usize>(keys: [&ResourceKey; N]) -> BTreeSet<ResourceKey> {
    keys.into_iter().cloned().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zone_goes_on_at_the_other_instance_where_it_left_off() {
    let (dir, mut book) = (tempfile::tempdir().unwrap(), None);
    let config = StoreConfig::Postgres { url: postgres_url().await.unwrap() };
    let (sent_up, sent_down) = (Arc::new(Sent::default()), Arc::new(Sent::default()));
    let one = Global::start(config.clone(), &mut book, [0, 0]).await;
    let two = Global::reviewed(config, &mut book, [0, 0], sent_up.clone()).await;
    let book = book.unwrap();
    book.add("a");
    one.zone_row("a", true).await;
    let addresses = [one.address, two.address];
    let identity = book.identity("a", "a-1");
    let zone = Zone::reviewed("a", dir.path().join("a"), identity, book.cluster, &addresses, sent_down.clone()).await;
    let service = |name| zone.key(Kind::MeshService, name);
    let (stays, goes, comes) = (service("stays"), service("goes"), service("comes"));
    let (first, second, third) = (policy("first"), policy("second"), policy("third"));

    // A write at the instance that has no stream of the zone arrives all the same, and its services are seen there.
    until("connected to the first", || one.status("a").phase == Phase::Connected).await;
    put(&two.store, &first, &timeout(1)).await;
    put(&two.store, &second, &timeout(1)).await;
    put(&zone.store, &stays, SERVICE).await;
    put(&zone.store, &goes, SERVICE).await;
    until("it crosses", || zone.has(&first) && zone.has(&second)).await;
    until("services too", || [&stays, &goes].iter().all(|key| two.store.snapshot().get(key).is_some())).await;
    let confirmed = || zone.status().durable == zone.store.snapshot().durable();
    until("the zone knows that global has it", confirmed).await;
    sent_down.take();

    // Both sides change while the zone is on its way to the other instance.
    one.end(true).await;
    put(&two.store, &third, &timeout(1)).await;
    delete(&two.store, &second).await;
    put(&zone.store, &comes, SERVICE).await;
    delete(&zone.store, &goes).await;
    until("connected to the second", || two.status("a").phase == Phase::Connected).await;
    until("it catches up", || zone.has(&third) && !zone.has(&second)).await;
    let up = |key: &ResourceKey| two.store.snapshot().get(key).is_some();
    until("so does global", || up(&comes) && !up(&goes)).await;

    assert!(zone.has(&first) && up(&stays), "nothing else was touched");
    assert_eq!(sent_down.take(), set([&third]), "it went on where it left off: nothing came twice");
    assert_eq!(sent_up.take(), set([&comes]));
    assert_eq!((zone.status().healed, two.status("a").healed), (0, 0));
    let peer = uid("a").to_string();
    eventually(async || covers(&zone.store, &goes, cursor(&two.store, &peer).await)).await;
    eventually(async || covers(&two.store, &second, cursor(&zone.store, "global").await)).await;
}

async fn eventually(condition: impl AsyncFn() -> bool) {
    let start = std::time::Instant::now();
    while !condition().await {
        assert!(start.elapsed() < LONG, "not in time");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zone_is_told_when_globals_database_went_back_and_an_operator_decides() {
    let server = Postgres::start().await.unwrap();
    let config = StoreConfig::Postgres { url: server.database().await.unwrap() };
    let world = World::start_on(config, tempfile::tempdir().unwrap()).await;
    let (global, zone) = (&world.global.store, &world.a);
    let (kept, lost, other) = (policy("kept"), policy("lost"), policy("other"));
    put(global, &kept, &timeout(1)).await;
    let Revision(last) = global.snapshot().revision();
    put(global, &lost, &timeout(1)).await;
    until("the zone has both", || zone.has(&kept) && zone.has(&lost)).await;

    // As after a failover to a server that lacks the last commit: another write takes its revision.
    let back = format!(
        "DELETE FROM history WHERE revision > {last}; DELETE FROM resources WHERE revision > {last}; \
         UPDATE counter SET revision = {last}"
    );
    global.execute(&back).await.unwrap();
    server.kill();
    server.restart().await.unwrap();
    let write = Write::put(other.clone(), Labels::new(), timeout(1));
    eventually(async || global.commit(WriteBatch::one(Actor::plane(), write.clone())).await.is_ok()).await;
    assert_eq!(global.snapshot().revision(), Revision(last + 1));

    until("the zone is told", || zone.status().phase == Phase::OtherHistory).await;
    assert!(zone.has(&lost) && !zone.has(&other), "nothing is taken, and nothing deleted, until an operator says so");
    assert!(zone.link.follow().await);
    until("the zone has what global has", || zone.has(&other) && zone.has(&kept) && !zone.has(&lost)).await;
    until("connected", || zone.status().phase == Phase::Connected).await;
}
