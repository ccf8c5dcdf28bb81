//! Two zones and global over TLS on loopback, each with its own store.

mod world;

use std::time::{Duration, Instant};

use atoll_link::{JoinError, JoinRequest, Phase};
use atoll_model::Kind;
use atoll_store::StoreConfig;
use atoll_trust::{PrivateKey, join::JoinToken};
use world::*;

const SERVICE: &str = r#"{"ports":[{"port":80}]}"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_reaches_both_zones_and_a_service_the_other_zone() {
    let world = World::start().await;
    let (key, service) = (policy("t"), world.a.key(Kind::MeshService, "api"));
    put(&world.global.store, &key, &timeout(1)).await;
    until("the policy is in both zones", || world.a.has(&key) && world.b.has(&key)).await;
    put(&world.a.store, &service, SERVICE).await;
    until("the service is in the other zone", || world.b.has(&service)).await;
    assert!(world.global.store.snapshot().get(&service).is_some());

    let mut down = Vec::new();
    for round in 2..102 {
        let start = Instant::now();
        put(&world.global.store, &key, &timeout(round)).await;
        let committed = start.elapsed();
        let spec = timeout(round);
        let arrived = |zone: &Zone| zone.store.snapshot().get(&key).is_some_and(|held| held.spec == spec.as_bytes());
        until("the change is in both zones", || arrived(&world.a) && arrived(&world.b)).await;
        down.push((start.elapsed(), start.elapsed() - committed));
    }
    let mut across = Vec::new();
    for round in 1..101 {
        let start = Instant::now();
        let spec = format!(r#"{{"ports":[{{"port":{round}}}]}}"#);
        put(&world.a.store, &service, &spec).await;
        let arrived = || world.b.store.snapshot().get(&service).is_some_and(|held| held.spec == spec.as_bytes());
        until("the change is in the other zone", arrived).await;
        across.push(start.elapsed());
    }
    report("policy: PUT to both zones", down.iter().map(|(whole, _)| *whole).collect());
    report("policy: committed to both zones", down.iter().map(|(_, after)| *after).collect());
    let worst = report("service: PUT in a to table of b", across);
    assert!(worst < Duration::from_secs(2), "{worst:?}");

    delete(&world.a.store, &service).await;
    until("the service is gone", || !world.b.has(&service)).await;
    let head = world.global.store.snapshot().durable();
    let equal = || {
        let status = world.global.status("b");
        status.durable >= head && status.peer_compared.as_ref().is_some_and(|(_, different)| different.is_empty())
    };
    until("global knows that zone b is in sync, digest equal", equal).await;
    assert_eq!((world.global.status("b").healed, world.b.status().healed), (0, 0));
    assert_eq!(world.b.status().phase, Phase::Connected);
}

fn report(what: &str, mut times: Vec<Duration>) -> Duration {
    times.sort();
    let at = |share: usize| times[(times.len() - 1) * share / 100];
    println!("{what}: p50 {:?} p99 {:?} max {:?} (n = {})", at(50), at(99), at(100), times.len());
    at(100)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn planes_that_restart_find_each_other_and_lose_nothing() {
    let World { book, global, a, b, dir } = World::start().await;
    let (first, second, third) = (policy("first"), policy("second"), policy("third"));
    put(&global.store, &first, &timeout(1)).await;
    until("the first policy is in both zones", || a.has(&first) && b.has(&first)).await;
    let service = a.key(Kind::MeshService, "api");

    // Global is killed; zones go on by themselves.
    let ports = [global.address.port(), global.join.port()];
    global.end(true).await;
    until("zones notice", || a.status().phase == Phase::Disconnected && b.status().phase == Phase::Disconnected).await;
    put(&a.store, &service, SERVICE).await;
    assert!(a.has(&first) && b.has(&first));

    let config = StoreConfig::Sqlite { dir: dir.path().join("global") };
    let global = Global::start(config, &mut Some(book.clone()), ports).await;
    let back = Instant::now();
    until("the zones are back", || a.status().phase == Phase::Connected && b.status().phase == Phase::Connected).await;
    println!("both zones back {:?} after the listener opened", back.elapsed());
    until("what was written meanwhile arrives", || b.has(&service)).await;

    // A zone restarts while global changes.
    let (zone_dir, address) = (dir.path().join("a"), global.address);
    a.end(true).await;
    put(&global.store, &second, &timeout(2)).await;
    delete(&global.store, &first).await;
    let a = Zone::start("a", zone_dir, book.identity("a", "a-2"), book.cluster, address).await;
    assert!(a.has(&first), "it serves from its own copy at once");
    until("it catches up", || a.has(&second) && !a.has(&first)).await;
    put(&global.store, &third, &timeout(3)).await;
    until("it follows", || a.has(&third) && b.has(&third)).await;
    assert!(b.has(&service) && a.has(&service), "nothing was lost");
    for zone in [&a, &b] {
        let compared = || zone.status().compared.is_some_and(|(_, different)| different.is_empty());
        until("digests are equal", compared).await;
        assert_eq!(zone.status().healed, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zone_that_is_not_admitted_is_told_why_and_one_that_is_removed_is_cut_off() {
    let world = World::start().await;
    until("connected", || world.a.status().phase == Phase::Connected).await;
    let dir = world.dir.path().join("stranger");
    let stranger = Zone::start("c", dir, world.book.identity("c", "c-1"), world.book.cluster, world.global.address).await;
    let reason = || stranger.status().last_error.unwrap_or_default();
    until("the stranger is refused", || reason().contains("no zone has the identity")).await;
    let start = Instant::now();
    world.book.remove("a");
    until("the removed zone is cut off", || world.a.status().phase == Phase::Disconnected).await;
    println!("cut off after {:?}", start.elapsed());
    until("it is told why", || world.a.status().last_error.is_some_and(|text| text.contains("no zone has the identity"))).await;
    assert_eq!(world.b.status().phase, Phase::Connected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_stream_of_a_zone_ends_the_older() {
    let world = World::start().await;
    until("connected", || world.a.status().phase == Phase::Connected).await;
    let dir = world.dir.path().join("a-copy");
    let newer = Zone::start("a", dir, world.book.identity("a", "a-2"), world.book.cluster, world.global.address).await;
    until("the newer is connected", || newer.status().phase == Phase::Connected).await;
    until("the older is told", || world.a.status().last_error.is_some_and(|text| text.contains("newer stream"))).await;
    assert_eq!(world.global.status("a").instance, "a-1", "instances name themselves; both are called so here");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn soft_values_and_questions_cross_the_link() {
    let world = World::start().await;
    world.a.link.board().put("insight/x", "1".into());
    world.a.link.board().put("insight/x", "2".into());
    let seen = || world.global.softs.0.lock().expect("lock").get("insight/x").cloned().flatten();
    until("the newest value arrives", || seen().as_deref() == Some(b"2")).await;
    let zone = uid("a");
    let large = bytes::Bytes::from(vec![7; 300_000]);
    assert_eq!(world.global.link.query(zone, "echo", large.clone()).await, Ok(large));
    let failed = world.global.link.query(zone, "nothing", bytes::Bytes::new()).await;
    assert_eq!(failed, Err(atoll_link::QueryError::Failed("no nothing".to_owned())));
    let absent = world.global.link.query(uid("z"), "echo", bytes::Bytes::new()).await;
    assert_eq!(absent, Err(atoll_link::QueryError::NotConnected));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zone_joins_with_a_token_and_says_nothing_to_a_stranger() {
    let world = World::start().await;
    let mut rng = rand::rng();
    let key = PrivateKey::generate().expect("a key");
    let csr = bytes::Bytes::copy_from_slice(key.request().expect("a request").der());
    let address = world.global.join.to_string();
    let request = |token| JoinRequest {
        address: &address,
        token,
        zone_name: "c".into(),
        zone_uid: uid("c"),
        instance: "c-1".to_owned(),
        csr: csr.clone(),
    };
    let strangers = JoinToken::generate(PrivateKey::generate().expect("a key").pin(), &mut rng);
    assert!(matches!(atoll_link::join(request(&strangers)).await, Err(JoinError::OtherCa(_))));
    assert_eq!(*world.book.redeemed.lock().expect("lock"), [] as [String; 0], "nothing was sent");

    let token = JoinToken::generate(world.book.ca.pin(), &mut rng);
    let refused = atoll_link::join(request(&token)).await;
    assert!(matches!(&refused, Err(JoinError::Refused(reason)) if reason.contains("the token")), "{refused:?}");

    *world.book.secret.lock().expect("lock") = Some(token.expose_secret().to_vec());
    let credentials = atoll_link::join(request(&token)).await.expect("joined");
    assert_eq!((credentials.zone_name.as_str(), credentials.cluster_id), ("c", world.book.cluster));
    let identity = std::sync::Arc::new(atoll_link::ZoneIdentity {
        roots: atoll_runtime::tls::roots_from_pem(world.book.ca.cert_pem()).expect("roots"),
        chain: credentials.chain.iter().map(|der| der.to_vec().into()).collect(),
        key: atoll_runtime::tls::key_from_pem(key.to_pem().expose()).expect("a key"),
    });
    world.global.zone_row("c", true).await;
    let link = world.global.address;
    let zone = Zone::start("c", world.dir.path().join("c"), identity.clone(), world.book.cluster, link).await;
    until("it is connected", || zone.status().phase == Phase::Connected).await;
    let next = PrivateKey::generate().expect("a key").request().expect("a request");
    let renewed = atoll_link::renew(&link.to_string(), &identity, next.der()).await.expect("renewed");
    assert_eq!(renewed.zone_name.as_str(), "c");
    assert_ne!(renewed.chain, credentials.chain);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_without_a_zone_certificate_gets_nowhere() {
    let world = World::start().await;
    let stranger =
        atoll_trust::ca::ControlPlaneCa::generate(world.book.cluster, chrono::Utc::now(), &mut rand::rng()).expect("a CA");
    let other = Book::new(world.book.cluster);
    let forged = other.identity("a", "a-1");
    let forged = std::sync::Arc::new(atoll_link::ZoneIdentity {
        roots: atoll_runtime::tls::roots_from_pem(world.book.ca.cert_pem()).expect("roots"),
        chain: forged.chain.clone(),
        key: forged.key.clone_key(),
    });
    drop(stranger);
    let request = PrivateKey::generate().expect("a key").request().expect("a request");
    let answer = atoll_link::renew(&world.global.address.to_string(), &forged, request.der()).await;
    assert!(answer.is_err(), "a certificate of another CA is refused");
    let foreign = world.book.identity_of(uid("a"), "a-1", uuid::Uuid::from_u128(9));
    let answer = atoll_link::renew(&world.global.address.to_string(), &foreign, request.der()).await;
    assert!(matches!(answer, Err(atoll_link::RenewError::Refused(_))), "a certificate of another cluster is refused");
}
