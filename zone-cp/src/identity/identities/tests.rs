use atoll_store::{Actor, Expect, Store, Write, WriteBatch, testing::TestStore};
use atoll_trust::{acceptance, x509::Facts};
use rand::SeedableRng;
use serde_json::{Value, json};
use uuid::Uuid;

use super::*;
use crate::identity::rotation::{FORCE, ROTATE};

const UID: ZoneUid = ZoneUid(Uuid::from_u128(1));

fn now() -> Timestamp {
    "2030-01-01T12:00:00Z".parse().unwrap()
}

struct Zone {
    store: TestStore,
    folder: tempfile::TempDir,
    identities: Identities,
}

async fn zone() -> Zone {
    let (store, folder) = (TestStore::sqlite().await.unwrap(), tempfile::tempdir().unwrap());
    let identities = open(folder.path(), now());
    Zone { store, folder, identities }
}

fn open(folder: &Path, now: Timestamp) -> Identities {
    Identities::open(folder, "azure".into(), UID, now, StdRng::seed_from_u64(1)).unwrap()
}

fn key(name: &str, owner: Owner) -> ResourceKey {
    ResourceKey::new(Kind::MeshIdentity, "default", name, owner)
}

async fn put(store: &Store, key: ResourceKey, spec: Value) {
    let write = Write::put(key, Labels::new(), spec.to_string());
    store.commit(WriteBatch::one(Actor::plane(), write)).await.unwrap();
}

fn bundled(extra: Value) -> Value {
    let mut bundled = json!({ "autogenerate": { "enabled": true }, "insecureAllowSelfSigned": true });
    bundled.as_object_mut().unwrap().extend(extra.as_object().cloned().unwrap_or_default());
    json!({ "selector": { "dataplane": { "matchLabels": {} } }, "provider": { "type": "Bundled", "bundled": bundled } })
}

fn recorded(domain: &str) -> Value {
    let mut spec = bundled(json!({}));
    spec["trustDomains"] = json!({ UID.to_string(): domain });
    spec
}

/// Executes a plan, as the engine does.
async fn act(zone: &Zone, now: Timestamp) -> usize {
    let planned = zone.identities.plan(&zone.store.store.snapshot(), &BTreeMap::new(), now);
    let count = planned.len();
    let writes = planned.into_iter().map(|planned| match planned {
        Planned::Put { key, labels, spec, .. } => Write::put(key, labels, spec),
        Planned::PutComputed { key, computed } => Write::PutComputed { key, computed, expect: Expect::Any },
        Planned::Delete { key, .. } => Write::delete(key),
    });
    zone.store.store.commit(WriteBatch::new(Actor::plane(), writes.collect())).await.unwrap();
    count
}

fn proxy(identity: &ResourceKey, id: &str) -> ProxyIdentity {
    ProxyIdentity { identity: identity.clone(), secret_name: "kri_mid".to_owned(), spiffe_id: id.parse().unwrap() }
}

fn web() -> ProxyId {
    ProxyId::new("default", "web-1")
}

fn trusts(zone: &Zone) -> Vec<(String, MeshTrust)> {
    let table = zone.store.store.snapshot();
    table.list(Kind::MeshTrust, None).map(|held| (held.key.name.to_string(), held.parse().unwrap())).collect()
}

const API: &str = "spiffe://azure.mesh/workload/api";

#[tokio::test]
async fn a_zone_issues_and_publishes_once_global_recorded_its_domain() {
    let zone = zone().await;
    let identity = key("identity", Owner::Global);
    put(&zone.store.store, identity.clone(), bundled(json!({}))).await;
    assert_eq!(act(&zone, now()).await, 0);
    assert!(matches!(zone.identities.secret_for(&web(), &proxy(&identity, API), now()), Err(IdentityError::NoCa(_))));

    let mut changed = zone.identities.changed();
    put(&zone.store.store, identity.clone(), recorded("azure.mesh")).await;
    assert_eq!(act(&zone, now()).await, 1);
    assert!(changed.has_changed().unwrap());
    changed.mark_unchanged();
    assert_eq!(act(&zone, now()).await, 1, "how far its CAs are");
    assert_eq!(act(&zone, now()).await, 0, "a plan that was done is not made again");
    assert!(!changed.has_changed().unwrap());

    // What the zone publishes passes the rule by which others take it.
    let published = trusts(&zone);
    let [(name, trust)] = published.as_slice() else { panic!("{published:?}") };
    let identities = [("identity".into(), serde_json::from_value(recorded("azure.mesh")).unwrap())].into();
    let domain = acceptance::judge(&name.as_str().into(), UID, trust, &identities).unwrap();
    assert_eq!(domain.as_str(), "azure.mesh");

    let secret = zone.identities.secret_for(&web(), &proxy(&identity, API), now()).unwrap();
    let facts = Facts::of_pem(&secret.chain_pem).unwrap();
    assert_eq!(facts.only_uri(), Some(API));
    assert_eq!((secret.renew_at, secret.not_after), (now() + TimeDelta::hours(12), now() + TimeDelta::hours(24)));
    assert!(!format!("{secret:?}").contains("PRIVATE KEY"));
}

#[tokio::test]
async fn a_certificate_is_kept_until_half_of_its_life_also_over_a_restart() {
    let zone = zone().await;
    let identity = key("identity", Owner::Global);
    put(&zone.store.store, identity.clone(), recorded("azure.mesh")).await;
    act(&zone, now()).await;
    let proxy = proxy(&identity, API);
    let secret = zone.identities.secret_for(&web(), &proxy, now()).unwrap();
    let later = now() + TimeDelta::hours(11);
    assert_eq!(zone.identities.secret_for(&web(), &proxy, later).unwrap(), secret);
    // The restarted plane has not planned yet: a proxy that returns at once gets nothing new all the same.
    let restarted = open(zone.folder.path(), later);
    assert_eq!(restarted.secret_for(&web(), &proxy, later).unwrap(), secret);

    let half = now() + TimeDelta::hours(12);
    let renewed = restarted.secret_for(&web(), &proxy, half).unwrap();
    assert_ne!(renewed.version, secret.version);
    assert_eq!(renewed.not_after, half + TimeDelta::hours(24));
    assert_ne!(renewed.key_pem, secret.key_pem);
}

#[tokio::test]
async fn a_plane_that_lost_its_leaves_issues_new_ones_and_a_torn_file_harms_nobody() {
    let zone = zone().await;
    let identity = key("identity", Owner::Global);
    put(&zone.store.store, identity.clone(), recorded("azure.mesh")).await;
    act(&zone, now()).await;
    let secret = zone.identities.secret_for(&web(), &proxy(&identity, API), now()).unwrap();
    let leaves = fs::read_dir(zone.folder.path()).unwrap().next().unwrap().unwrap().path().join("leaves");
    let leaf = fs::read_dir(leaves).unwrap().next().unwrap().unwrap().path();
    let text = fs::read_to_string(&leaf).unwrap();
    fs::write(&leaf, &text[..text.len() / 2]).unwrap();
    let restarted = open(zone.folder.path(), now());
    let again = restarted.secret_for(&web(), &proxy(&identity, API), now()).unwrap();
    assert_ne!(again.key_pem, secret.key_pem);
    // Issuer, id and expiry are the same: a proxy that has the first one keeps it.
    assert_eq!(again.version, secret.version);
}

#[tokio::test]
async fn no_proxy_gets_an_id_of_another_zone() {
    let zone = zone().await;
    let identity = key("identity", Owner::Global);
    put(&zone.store.store, identity.clone(), recorded("azure.mesh")).await;
    act(&zone, now()).await;
    let foreign = proxy(&identity, "spiffe://gcp.mesh/workload/api");
    assert!(matches!(zone.identities.secret_for(&web(), &foreign, now()), Err(IdentityError::Ca { .. })));
}

#[tokio::test]
async fn a_stand_alone_zone_takes_the_domain_from_the_template() {
    let zone = zone().await;
    let identity = key("identity", Owner::Zone(UID));
    put(&zone.store.store, identity.clone(), bundled(json!({"certificateParameters": {"expiry": "1h"}}))).await;
    act(&zone, now()).await;
    let secret =
        zone.identities.secret_for(&web(), &proxy(&identity, "spiffe://default.azure.mesh.local/workload/api"), now()).unwrap();
    assert_eq!(secret.not_after, now() + TimeDelta::hours(1));
    assert_eq!(trusts(&zone)[0].1.trust_domain, "default.azure.mesh.local");
}

#[tokio::test]
async fn what_is_not_wanted_is_not_published() {
    let zone = zone().await;
    let mut quiet = recorded("azure.mesh");
    quiet["provider"]["bundled"]["meshTrustCreation"] = json!("Disabled");
    put(&zone.store.store, key("quiet", Owner::Global), quiet).await;
    let other = ZoneUid(Uuid::from_u128(2));
    put(&zone.store.store, key("foreign", Owner::Zone(other)), bundled(json!({}))).await;
    put(&zone.store.store, key("gone", Owner::Global), recorded("gone.mesh")).await;
    act(&zone, now()).await;
    assert_eq!(trusts(&zone).iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["gone"]);
    // With the MeshIdentity goes its trust.
    let gone = Write::delete(key("gone", Owner::Global));
    zone.store.store.commit(WriteBatch::one(Actor::plane(), gone)).await.unwrap();
    act(&zone, now()).await;
    assert_eq!(trusts(&zone), []);
    // A quiet one issues all the same.
    assert!(zone.identities.secret_for(&web(), &proxy(&key("quiet", Owner::Global), API), now()).is_ok());
}

#[tokio::test]
async fn trust_that_came_back_before_its_identity_stays() {
    // A zone that lost its store gets its own resources first.
    let zone = zone().await;
    let trust = ResourceKey::new(Kind::MeshTrust, "default", "identity", Owner::Zone(UID));
    let labels = Labels::from([(MANAGED_BY.to_owned(), TRUST_GENERATOR.to_owned())]);
    let write = Write::put(trust, labels, json!({"trustDomain": "azure.mesh", "caBundles": []}).to_string());
    zone.store.store.commit(WriteBatch::one(Actor::plane(), write)).await.unwrap();
    assert_eq!(act(&zone, now()).await, 0);
    // Nor does it go while global has not recorded the domain anew.
    put(&zone.store.store, key("identity", Owner::Global), bundled(json!({}))).await;
    assert_eq!(act(&zone, now()).await, 0);
    assert_eq!(trusts(&zone).len(), 1);
}

#[tokio::test]
async fn a_persons_trust_of_the_same_name_stays() {
    let zone = zone().await;
    let trust = ResourceKey::new(Kind::MeshTrust, "default", "identity", Owner::Zone(UID));
    put(&zone.store.store, trust, json!({"trustDomain": "mine.mesh", "caBundles": []})).await;
    put(&zone.store.store, key("identity", Owner::Global), recorded("azure.mesh")).await;
    assert_eq!(act(&zone, now()).await, 0);
    assert_eq!(trusts(&zone)[0].1.trust_domain, "mine.mesh");
}

#[tokio::test]
async fn the_next_ca_is_published_before_it_issues_and_proxies_move_to_it() {
    let zone = zone().await;
    let identity = key("identity", Owner::Global);
    put(&zone.store.store, identity.clone(), recorded("azure.mesh")).await;
    act(&zone, now()).await;
    let first = zone.identities.secret_for(&web(), &proxy(&identity, API), now()).unwrap();
    let day = |days| now() + TimeDelta::days(days);
    act(&zone, day(46)).await;
    assert_eq!(trusts(&zone)[0].1.ca_bundles.len(), 2);
    let same_ca = zone.identities.secret_for(&web(), &proxy(&identity, API), day(46)).unwrap();
    assert_eq!(same_ca.version[..16], first.version[..16]);
    act(&zone, day(76)).await;
    assert_eq!(trusts(&zone)[0].1.ca_bundles.len(), 2);
    let moved = zone.identities.secret_for(&web(), &proxy(&identity, API), day(76)).unwrap();
    assert_ne!(moved.version[..16], first.version[..16]);
    act(&zone, day(76)).await;
    assert_eq!(trusts(&zone)[0].1.ca_bundles.len(), 1, "nobody shows a certificate of the old one");
}

/// The MeshTrust of another zone, as it comes over the link.
async fn other_zone(zone: &Zone, acknowledged: &[String]) {
    let trust = ResourceKey::new(Kind::MeshTrust, "default", "identity", Owner::Zone(ZoneUid(Uuid::from_u128(2))));
    let labels = Labels::from([(MANAGED_BY.to_owned(), TRUST_GENERATOR.to_owned())]);
    let spec = json!({"trustDomain": "gcp.mesh", "caBundles": [], "acknowledged": acknowledged}).to_string();
    zone.store.store.commit(WriteBatch::one(Actor::plane(), Write::put(trust, labels, spec))).await.unwrap();
}

/// The CAs of the zone with their states, and for whom they wait.
async fn rotation(zone: &Zone, now: Timestamp) -> (Vec<String>, Vec<String>, Vec<String>) {
    while act(zone, now).await > 0 {}
    let own = |held: &&Arc<atoll_model::Resource>| held.key.owner == Owner::Zone(UID);
    let table = zone.store.store.snapshot();
    let trust: MeshTrust = table.list(Kind::MeshTrust, None).find(own).unwrap().parse().unwrap();
    let rotation = trust.rotation.unwrap();
    let (pins, states) = rotation.cas.into_iter().map(|ca| (ca.pin, ca.state)).unzip();
    (pins, states, rotation.waiting_for)
}

async fn ask(zone: &Zone, labels: &[(&str, &str)]) {
    let labels = labels.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    let write = Write::put(key("identity", Owner::Global), labels, recorded("azure.mesh").to_string());
    zone.store.store.commit(WriteBatch::one(Actor::plane(), write)).await.unwrap();
}

#[tokio::test]
async fn a_rotation_that_was_asked_for_waits_until_other_zones_trust_the_new_ca() {
    let zone = zone().await;
    ask(&zone, &[]).await;
    other_zone(&zone, &[]).await;
    let (first, states, _) = rotation(&zone, now()).await;
    assert_eq!(states, ["Active"]);
    ask(&zone, &[(ROTATE, "1")]).await;
    let (pins, states, waiting) = rotation(&zone, now()).await;
    let other = Uuid::from_u128(2);
    assert_eq!((&pins[0], states, waiting), (&first[0], vec!["Active".into(), "Prepared".into()], vec![format!("zone {other}")]));
    // Nothing of it is lost with the process, and the time that it takes changes nothing.
    let zone = Zone { identities: open(zone.folder.path(), now()), ..zone };
    let (again, states, _) = rotation(&zone, now() + TimeDelta::days(80)).await;
    assert_eq!((&again, states), (&pins, vec!["Active".to_owned(), "Prepared".into()]));

    other_zone(&zone, &pins[1..]).await;
    let (after, states, waiting) = rotation(&zone, now()).await;
    assert_eq!((after.as_slice(), states, waiting), (&pins[1..], vec!["Active".to_owned()], Vec::new()));
    assert_eq!(rotation(&zone, now()).await.0, after, "one text is one rotation");
}

#[tokio::test]
async fn a_zone_that_nobody_hears_of_holds_a_rotation_up_until_the_old_ca_is_all_but_over_or_an_operator_says_so() {
    let zone = zone().await;
    ask(&zone, &[]).await;
    other_zone(&zone, &[]).await;
    let (first, ..) = rotation(&zone, now()).await;
    ask(&zone, &[(ROTATE, "1")]).await;
    assert_eq!(rotation(&zone, now()).await.0[0], first[0]);
    ask(&zone, &[(ROTATE, "1"), (FORCE, "1")]).await;
    let (forced, states, _) = rotation(&zone, now()).await;
    assert_eq!(states, ["Active"]);
    assert_ne!(forced, first);
    // By time alone: prepared at half life, and active when only days are left.
    let day = |days| now() + TimeDelta::days(days);
    assert_eq!(rotation(&zone, day(50)).await.1, ["Active", "Prepared"]);
    assert_eq!(rotation(&zone, day(80)).await.1, ["Active", "Prepared"]);
    assert_eq!(rotation(&zone, day(88)).await.1, ["Active"]);
}

#[tokio::test]
async fn a_proxy_that_is_always_somebody_else_gets_few_certificates() {
    let zone = zone().await;
    let identity = key("identity", Owner::Global);
    put(&zone.store.store, identity.clone(), recorded("azure.mesh")).await;
    act(&zone, now()).await;
    let ask =
        |n: i32, now| zone.identities.secret_for(&web(), &proxy(&identity, &format!("spiffe://azure.mesh/workload/{n}")), now);
    let refused = (0..50).find_map(|n| ask(n, now()).err()).unwrap();
    assert!(matches!(refused, IdentityError::TooMany(_)), "{refused}");
    assert_eq!(zone.identities.issued(), 10);
    assert!(ask(3, now()).is_ok(), "what it has, it keeps");
    assert!(ask(11, now() + TimeDelta::seconds(21)).is_ok());
    let other = ProxyId::new("default", "web-2");
    assert!(zone.identities.secret_for(&other, &proxy(&identity, API), now()).is_ok(), "no other proxy waits");
}

#[tokio::test]
async fn a_clock_that_was_set_back_does_not_take_certificates_away() {
    let zone = zone().await;
    let identity = key("identity", Owner::Global);
    put(&zone.store.store, identity.clone(), recorded("azure.mesh")).await;
    act(&zone, now()).await;
    let back = now() - TimeDelta::hours(1);
    let error = zone.identities.secret_for(&web(), &proxy(&identity, API), back).unwrap_err();
    assert!(error.to_string().contains("clock"), "{error}");
    let secret = zone.identities.secret_for(&web(), &proxy(&identity, API), now()).unwrap();
    assert_eq!(zone.identities.secret_for(&web(), &proxy(&identity, API), back).unwrap().version, secret.version);
}

#[tokio::test]
async fn a_damaged_list_of_cas_is_named_and_kept() {
    let zone = zone().await;
    put(&zone.store.store, key("identity", Owner::Global), recorded("azure.mesh")).await;
    act(&zone, now()).await;
    let file = fs::read_dir(zone.folder.path()).unwrap().next().unwrap().unwrap().path().join("cas.json");
    files::write_secret(&file, b"{").unwrap();
    let opened = Identities::open(zone.folder.path(), "azure".into(), UID, now(), StdRng::seed_from_u64(1));
    assert!(matches!(opened, Err(DirError::Damaged { .. })));
    assert_eq!(fs::read(&file).unwrap(), b"{");
}
