use std::net::SocketAddr;

use atoll_api::{Authenticate, IssueError, IssueTokens, ZoneTokenRequest};
use atoll_store::testing::TestStore;
use atoll_trust::{PrivateKey, join::JoinToken, x509::Facts};
use rand::SeedableRng;
use uuid::Uuid;

use super::*;
use crate::zones::GlobalTokens;

const AZURE: ZoneUid = ZoneUid(Uuid::from_u128(1));
const OTHER: ZoneUid = ZoneUid(Uuid::from_u128(2));

struct Global {
    test: TestStore,
    registry: ZoneRegistry,
}

impl Global {
    async fn start() -> Self {
        let test = TestStore::sqlite().await.unwrap();
        let mut rng = StdRng::seed_from_u64(1);
        let keys = GlobalKeys::open(&test.store, test.clock.now(), &mut rng).await.unwrap();
        let registry = ZoneRegistry::new(test.store.clone(), Arc::new(keys), test.clock.clone(), rng);
        Self { test, registry }
    }

    async fn token(&self, zone: &str) -> JoinToken {
        let request = ZoneTokenRequest { zone: zone.into(), valid_for: None };
        GlobalTokens::new(self.registry.clone()).zone(request).await.unwrap().parse().unwrap()
    }

    async fn join(&self, token: &JoinToken, zone: &str, uid: ZoneUid, key: &PrivateKey) -> Result<Credentials, Refusal> {
        self.registry.redeem(request(token, zone, uid, key)).await
    }

    async fn delete_zone(&self, zone: &str) {
        let key = ResourceKey::new(Kind::Zone, Name::none(), zone, Owner::Global);
        self.test.store.commit(WriteBatch::one(Actor::plane(), Write::delete(key))).await.unwrap();
    }
}

fn key() -> PrivateKey {
    PrivateKey::generate().unwrap()
}

fn request(token: &JoinToken, zone: &str, uid: ZoneUid, key: &PrivateKey) -> RedeemRequest {
    let csr = key.request().unwrap();
    RedeemRequest {
        token_id: token.id().to_owned(),
        token_secret: Bytes::copy_from_slice(token.expose_secret()),
        zone_name: zone.into(),
        zone_uid: uid,
        instance: "i-1".to_owned(),
        csr: Bytes::copy_from_slice(csr.der()),
        spki: Bytes::from(key.spki_der()),
        address: Some(SocketAddr::from(([127, 0, 0, 1], 1))),
    }
}

fn facts(credentials: &Credentials) -> Facts {
    Facts::of_der(&credentials.chain[0]).unwrap()
}

/// The zone as the link sees it.
fn peer(credentials: &Credentials) -> Peer {
    let facts = facts(credentials);
    Peer { identity: facts.only_uri().unwrap().parse().unwrap(), serial: facts.serial, key: facts.pin, address: None }
}

#[tokio::test]
async fn a_zone_joins_with_a_token_and_is_admitted() {
    let (global, key) = (Global::start().await, key());
    let token = global.token("azure").await;
    let credentials = global.join(&token, "azure", AZURE, &key).await.unwrap();
    assert_eq!(facts(&credentials).pin, key.pin());
    let cluster = global.test.store.cluster_id();
    assert_eq!(facts(&credentials).uris, [format!("spiffe://cp.{cluster}/zone/{AZURE}/i-1")]);
    assert_eq!((credentials.cluster_id, credentials.zone_name.as_str()), (cluster, "azure"));
    assert_eq!(token.pin().find_in(credentials.cas.iter().map(Bytes::as_ref)), Some(&*credentials.cas[0]));
    assert_eq!(global.registry.admit(&peer(&credentials)).await, Ok("azure".into()));

    // Its Zone is there, with the identity and the keys by which it judges tokens.
    let zones: Vec<_> = zones_of(&global.test.store.snapshot()).collect();
    let [(uid, name, zone)] = zones.as_slice() else { panic!("{zones:?}") };
    assert_eq!((*uid, name.as_str(), zone.token_keys.len(), zone.is_enabled()), (AZURE, "azure", 1, true));
}

#[tokio::test]
async fn a_token_works_once_and_a_lost_answer_can_be_fetched_with_the_same_key_only() {
    let (global, first) = (Global::start().await, key());
    let token = global.token("azure").await;
    global.join(&token, "azure", AZURE, &first).await.unwrap();
    assert!(matches!(global.join(&token, "azure", AZURE, &key()).await, Err(Refusal::NotAdmitted(_))));
    assert!(global.join(&token, "azure", AZURE, &first).await.is_ok());
    global.test.clock.advance(TimeDelta::minutes(16));
    assert!(matches!(global.join(&token, "azure", AZURE, &first).await, Err(Refusal::NotAdmitted(_))));
}

#[tokio::test]
async fn tokens_that_are_wrong_in_any_way_are_refused_with_one_text() {
    let global = Global::start().await;
    let (azure, gcp) = (global.token("azure").await, global.token("gcp").await);
    let mut guessed = request(&azure, "azure", AZURE, &key());
    guessed.token_secret = Bytes::from_static(&[0; 32]);
    let mut unknown = request(&azure, "azure", AZURE, &key());
    unknown.token_id = "nobody".to_owned();
    let other_zone = request(&gcp, "azure", AZURE, &key());
    let mut texts = Vec::new();
    for request in [guessed, unknown, other_zone] {
        texts.push(global.registry.redeem(request).await.unwrap_err().to_string());
    }
    global.test.clock.advance(TimeDelta::minutes(61));
    texts.push(global.join(&azure, "azure", AZURE, &key()).await.unwrap_err().to_string());
    assert!(texts.iter().all(|text| *text == texts[0] && text.contains("atoll token zone azure")), "{texts:?}");
    assert_eq!(zones_of(&global.test.store.snapshot()).count(), 0);
}

#[tokio::test]
async fn requests_that_prove_nothing_are_refused_and_use_no_token() {
    let (global, own) = (Global::start().await, key());
    let token = global.token("azure").await;
    let mut other_key = request(&token, "azure", AZURE, &own);
    other_key.spki = Bytes::from(key().spki_der());
    let mut garbage = request(&token, "azure", AZURE, &own);
    garbage.csr = Bytes::from_static(b"csr");
    let mut instance = request(&token, "azure", AZURE, &own);
    instance.instance = "../other".to_owned();
    let mut name = request(&token, "azure", AZURE, &own);
    name.zone_name = "Azure!".into();
    for request in [other_key, garbage, instance, name] {
        assert!(matches!(global.registry.redeem(request).await, Err(Refusal::NotAdmitted(_))));
    }
    assert!(global.join(&token, "azure", AZURE, &own).await.is_ok());
}

#[tokio::test]
async fn a_name_has_one_holder_and_a_holder_one_name() {
    let global = Global::start().await;
    let first = global.join(&global.token("azure").await, "azure", AZURE, &key()).await.unwrap();
    global.test.clock.advance(TimeDelta::hours(1));
    let second = global.join(&global.token("azure").await, "azure", OTHER, &key()).await;
    assert!(matches!(&second, Err(Refusal::Taken(text)) if text.contains("held by another")), "{second:?}");
    let renamed = global.join(&global.token("gcp").await, "gcp", AZURE, &key()).await;
    assert!(matches!(renamed, Err(Refusal::Taken(_))));
    assert_eq!(global.registry.admit(&peer(&first)).await, Ok("azure".into()));
    // The same zone joins again, after its certificate expired.
    assert!(global.join(&global.token("azure").await, "azure", AZURE, &key()).await.is_ok());
}

#[tokio::test]
async fn of_many_at_once_one_holds_the_name() {
    let global = Global::start().await;
    let token = global.token("azure").await;
    let tries = (0..20).map(|n| {
        let (registry, request) = (global.registry.clone(), request(&token, "azure", ZoneUid(Uuid::from_u128(n + 10)), &key()));
        tokio::spawn(async move { registry.redeem(request).await.is_ok() })
    });
    let mut joined = 0;
    for one in tries.collect::<Vec<_>>() {
        joined += usize::from(one.await.unwrap());
    }
    assert_eq!(joined, 1);
    assert_eq!(zones_of(&global.test.store.snapshot()).count(), 1);
}

#[tokio::test]
async fn a_deleted_zone_is_out_and_its_name_is_free() {
    let global = Global::start().await;
    let first = global.join(&global.token("azure").await, "azure", AZURE, &key()).await.unwrap();
    global.delete_zone("azure").await;
    let refused = global.registry.admit(&peer(&first)).await.unwrap_err();
    assert!(refused.to_string().contains("new join token"), "{refused}");
    global.test.clock.advance(TimeDelta::minutes(2));
    let second = global.join(&global.token("azure").await, "azure", OTHER, &key()).await.unwrap();
    assert_eq!(global.registry.admit(&peer(&second)).await, Ok("azure".into()));
    assert!(global.registry.admit(&peer(&first)).await.is_err());
}

#[tokio::test]
async fn a_revoked_zone_is_out_and_sessions_are_told_to_look_again() {
    let global = Global::start().await;
    let credentials = global.join(&global.token("azure").await, "azure", AZURE, &key()).await.unwrap();
    let (mut changed, stop) = (global.registry.changed(), CancellationToken::new());
    let running = tokio::spawn({
        let (registry, stop) = (global.registry.clone(), stop.clone());
        async move { registry.run(stop).await }
    });
    changed.changed().await.unwrap();
    assert!(global.registry.revoke(AZURE).await.unwrap());
    tokio::time::timeout(std::time::Duration::from_secs(5), changed.changed()).await.unwrap().unwrap();
    assert!(global.registry.admit(&peer(&credentials)).await.is_err());
    assert!(global.join(&global.token("azure").await, "azure", AZURE, &key()).await.is_err());
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn a_zone_renews_with_a_new_key_and_keeps_its_name() {
    let global = Global::start().await;
    let first = global.join(&global.token("azure").await, "azure", AZURE, &key()).await.unwrap();
    global.test.clock.advance(TimeDelta::days(10));
    let next = key();
    let csr = next.request().unwrap();
    let renewal = RenewRequest { csr: Bytes::copy_from_slice(csr.der()), spki: Bytes::from(next.spki_der()) };
    let second = global.registry.renew(&peer(&first), renewal.clone()).await.unwrap();
    assert_eq!((facts(&second).pin, facts(&second).uris), (next.pin(), facts(&first).uris));
    assert_eq!(facts(&second).not_after - facts(&first).not_after, TimeDelta::days(10));
    // Both hold for a while.
    assert!(global.registry.admit(&peer(&first)).await.is_ok());
    assert!(global.registry.admit(&peer(&second)).await.is_ok());
    // A stranger renews nothing.
    let mut stranger = peer(&first);
    stranger.identity.cluster = Uuid::from_u128(5);
    assert!(global.registry.renew(&stranger, renewal.clone()).await.is_err());
    stranger = peer(&first);
    stranger.identity.zone = OTHER;
    assert!(global.registry.renew(&stranger, renewal).await.is_err());
}

#[tokio::test]
async fn what_an_operator_wrote_of_a_zone_before_it_joined_stays() {
    let global = Global::start().await;
    let zone = ResourceKey::new(Kind::Zone, Name::none(), "azure", Owner::Global);
    let write = Write::put(zone, Default::default(), r#"{"enabled":false}"#);
    global.test.store.commit(WriteBatch::one(Actor::plane(), write)).await.unwrap();
    global.join(&global.token("azure").await, "azure", AZURE, &key()).await.unwrap();
    let table = global.test.store.snapshot();
    let (uid, _, zone) = zones_of(&table).next().unwrap();
    assert_eq!((uid, zone.is_enabled()), (AZURE, false));
}

#[tokio::test]
async fn join_tokens_hold_an_hour_at_most() {
    let global = Global::start().await;
    let tokens = GlobalTokens::new(global.registry.clone());
    let ask =
        |minutes: u64| ZoneTokenRequest { zone: "azure".into(), valid_for: Some(std::time::Duration::from_secs(minutes * 60)) };
    assert!(tokens.zone(ask(60)).await.is_ok());
    assert!(matches!(tokens.zone(ask(61)).await, Err(IssueError::Invalid(_))));
}

#[tokio::test]
async fn a_user_token_says_who_asks() {
    let global = Global::start().await;
    let tokens = GlobalTokens::new(global.registry.clone());
    let asked = atoll_api::UserTokenRequest {
        name: "ann".to_owned(),
        groups: vec!["ops".to_owned()],
        valid_for: std::time::Duration::from_secs(60),
    };
    let token = tokens.user(asked).await.unwrap();
    let caller = tokens.authenticate(&token).await.unwrap();
    assert_eq!((caller.name.as_str(), caller.groups), ("ann", vec!["ops".to_owned()]));
    assert!(tokens.authenticate("a.b.c").await.is_err());
    let never = std::time::Duration::MAX;
    let asked = atoll_api::UserTokenRequest { name: "ann".to_owned(), groups: Vec::new(), valid_for: never };
    assert!(matches!(tokens.user(asked).await, Err(IssueError::Invalid(_))));
}
