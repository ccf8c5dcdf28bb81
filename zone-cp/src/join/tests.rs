//! A zone with a link to a small global: an admission and an issuer that a test can set, over the real ports.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use atoll_link::{
    Admission, Credentials, GlobalConfig, GlobalLink, Issuer, LinkStatus, NoAnswers, NoSoft, Peer, Phase, RedeemRequest, Refusal,
    RenewRequest, ZoneConfig, ZoneLink,
};
use atoll_model::ZoneUid;
use atoll_runtime::{
    clock::SystemClock,
    tasks::Tasks,
    tls::{self, ClientAuth, ServerIdentity, TlsListener},
};
use atoll_store::testing::TestStore;
use atoll_trust::{
    CertificateRequest, Pin, ZonePeer,
    ca::{ControlPlaneCa, ServerNames},
    x509,
};
use chrono::TimeDelta;
use uuid::Uuid;

use super::*;

/// Global's word about zones.
struct Authority {
    ca: ControlPlaneCa,
    cluster: Uuid,
    /// How many more renewals fail.
    failures: AtomicU32,
    /// The only key that is let in, if set.
    only: Mutex<Option<Pin>>,
    /// The keys that were let in, and how often.
    admitted: Mutex<BTreeMap<String, u32>>,
    changed: watch::Sender<u64>,
}

impl Authority {
    fn issue(&self, csr: &[u8], zone: ZoneUid, now: Timestamp) -> Credentials {
        let request = CertificateRequest::from_der(csr).unwrap();
        let peer = ZonePeer { cluster: self.cluster, zone, instance: INSTANCE.to_owned() };
        let made = self.ca.issue_zone(&request, &peer, now, &mut rand::rng()).unwrap();
        let der = |pem: &str| x509::chain(pem).unwrap().iter().map(|der| Bytes::copy_from_slice(der)).collect();
        let (chain, cas) = (der(&made.chain_pem), der(self.ca.cert_pem()));
        Credentials { chain, cas, cluster_id: self.cluster, zone_name: "azure".into() }
    }

    fn lets_in_only(&self, key: Pin) {
        *self.only.lock().unwrap() = Some(key);
        self.changed.send_modify(|turn| *turn += 1);
    }
}

#[tonic::async_trait]
impl Admission for Authority {
    async fn admit(&self, peer: &Peer) -> Result<Name, Refusal> {
        if self.only.lock().unwrap().is_some_and(|only| only != peer.key) {
            return Err(Refusal::NotAdmitted("the old key".to_owned()));
        }
        *self.admitted.lock().unwrap().entry(peer.key.to_string()).or_default() += 1;
        Ok("azure".into())
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

#[tonic::async_trait]
impl Issuer for Authority {
    async fn redeem(&self, _: RedeemRequest) -> Result<Credentials, Refusal> {
        Err(Refusal::NotAdmitted("not here".to_owned()))
    }

    async fn renew(&self, peer: &Peer, request: RenewRequest) -> Result<Credentials, Refusal> {
        let left = self.failures.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        if left.is_ok() {
            return Err(Refusal::Unavailable("the store is away".to_owned()));
        }
        Ok(self.issue(&request.csr, peer.identity.zone, SystemClock.now()))
    }
}

struct World {
    authority: Arc<Authority>,
    dir: ZoneDir,
    joined: Joined,
    address: String,
    cluster: Uuid,
    link: watch::Receiver<Arc<LinkStatus>>,
    identity: watch::Sender<Arc<ZoneIdentity>>,
    shutdown: Shutdown,
    tasks: Tasks,
    _stores: [TestStore; 2],
}

/// A connected zone whose certificate was issued so long ago.
async fn world(folder: &Path, age: TimeDelta) -> World {
    tls::install_provider();
    let (stores, tasks, shutdown) =
        ([TestStore::sqlite().await.unwrap(), TestStore::sqlite().await.unwrap()], Tasks::new(), Shutdown::new());
    let (now, cluster) = (SystemClock.now(), stores[0].store.cluster_id());
    let ca = ControlPlaneCa::generate(cluster, now - TimeDelta::days(100), &mut rand::rng()).unwrap();
    let authority = Arc::new(Authority {
        ca,
        cluster,
        failures: AtomicU32::new(0),
        only: Mutex::default(),
        admitted: Mutex::default(),
        changed: watch::Sender::new(0),
    });
    let server = authority.ca.issue_server(&ServerNames::default(), TimeDelta::days(1), now, &mut rand::rng()).unwrap();
    let server = ServerIdentity::new(&server.chain_pem, server.key_pem.expose()).unwrap();
    let zones = ClientAuth::Required(tls::roots_from_pem(authority.ca.cert_pem()).unwrap());
    let config = tls::server_config(server, zones, &[b"h2"]).unwrap();
    let listener = TlsListener::bind(([127, 0, 0, 1], 0).into(), config).await.unwrap();
    let address = listener.local_addr().to_string();
    let settings = GlobalConfig { instance: "g".to_owned(), software: "test".to_owned() };
    let review: Arc<dyn atoll_link::Review> = Arc::new(atoll_sync::review::Checked);
    let (store, soft) = (stores[0].store.clone(), Arc::new(NoSoft));
    let global = GlobalLink::new(settings, store, authority.clone(), authority.clone(), review.clone(), soft, &tasks);
    let end = shutdown.clone();
    tasks.spawn("global", async move { global.serve(listener, &end).await });

    let dir = ZoneDir::open(folder, &mut rand::rng()).unwrap();
    let csr = request_for(&dir.pending_key().unwrap()).unwrap();
    let joined = dir.install(&authority.issue(&csr, dir.uid(), now - age)).unwrap();
    let (identity, shown) = watch::channel(Arc::new(joined.identity().unwrap()));
    let settings = ZoneConfig {
        addresses: vec![address.clone()],
        name: "azure".into(),
        uid: dir.uid(),
        instance: INSTANCE.to_owned(),
        software: "test".to_owned(),
        cluster_id: cluster,
    };
    let zone = ZoneLink::new(settings, shown, stores[1].store.clone(), review, Arc::new(NoAnswers), &tasks);
    let (link, end) = (zone.status(), shutdown.clone());
    tasks.spawn("zone", async move { zone.run(&end).await });
    let world = World { authority, dir, joined, address, cluster, link, identity, shutdown, tasks, _stores: stores };
    until(&mut world.link.clone(), |link| link.phase == Phase::Connected).await;
    world
}

impl World {
    fn renew(&self, addresses: Vec<String>) -> watch::Receiver<LinkCertificate> {
        let shown = watch::Sender::new(LinkCertificate::of(&self.joined));
        let receiver = shown.subscribe();
        let renewal = Renewal {
            joined: self.joined.clone(),
            identity: self.identity.clone(),
            dir: self.dir.clone(),
            clock: Arc::new(SystemClock),
            addresses,
            shown,
        };
        self.tasks.spawn("renewal", renewal.run(self.shutdown.soft()));
        receiver
    }

    fn key(&self) -> Pin {
        x509::Facts::of_der(&self.identity.borrow().chain[0]).unwrap().pin
    }
}

async fn until<T: Clone>(seen: &mut watch::Receiver<T>, is_so: impl FnMut(&T) -> bool) -> T {
    tokio::time::timeout(Duration::from_secs(15), seen.wait_for(is_so)).await.expect("in time").unwrap().clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_renewed_while_the_stream_goes_on_and_the_next_connection_shows_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut world = world(folder.path(), TimeDelta::days(25)).await;
    let (old, since) = (world.key(), world.link.borrow().since);
    world.authority.failures.store(1, Ordering::Relaxed);
    let mut certificate = world.renew(vec![world.address.clone()]);

    // The first try fails: it is shown, with the time that is left, and tried again soon.
    let failed = until(&mut certificate, |shown| shown.fault.is_some()).await;
    assert!(failed.fault.is_some_and(|fault| fault.contains("the store is away")));
    assert_eq!(failed.not_after, world.joined.not_after);
    let renewed = until(&mut certificate, |shown| shown.fault.is_none()).await;
    assert!(renewed.not_after > SystemClock.now() + TimeDelta::days(29), "{renewed:?}");
    assert!(renewed.renew_at > SystemClock.now() + TimeDelta::days(9), "{renewed:?}");
    let kept = world.dir.joined().unwrap().unwrap();
    assert_eq!(kept.not_after, renewed.not_after, "a restart has it too");
    let status = world.link.borrow().clone();
    assert_eq!((status.phase, status.since), (Phase::Connected, since), "the stream went on");

    // Only the new key is let in: the open stream ends, and the next one shows it.
    let new = world.key();
    assert_ne!(new, old);
    world.authority.lets_in_only(new);
    until(&mut world.link, |link| link.phase == Phase::Disconnected).await;
    until(&mut world.link, |link| link.phase == Phase::Connected && link.since != since).await;
    assert!(world.authority.admitted.lock().unwrap().contains_key(&new.to_string()));
    assert_eq!(world.dir.joined().unwrap().unwrap().cluster_id, world.cluster);
    world.shutdown.soft().cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_address_is_tried_and_a_young_certificate_stays() {
    let folder = tempfile::tempdir().unwrap();
    let young = world(folder.path(), TimeDelta::days(9)).await;
    let mut certificate = young.renew(vec![young.address.clone()]);
    let waited = tokio::time::timeout(Duration::from_millis(300), certificate.changed()).await;
    assert!(waited.is_err(), "it is renewed when a third of its life is over, not before");
    young.shutdown.soft().cancel();

    let folder = tempfile::tempdir().unwrap();
    let old = world(folder.path(), TimeDelta::days(11)).await;
    let mut certificate = old.renew(vec!["127.0.0.1:1".to_owned(), old.address.clone()]);
    let renewed = until(&mut certificate, |shown| shown.not_after > old.joined.not_after).await;
    assert_eq!(renewed.fault, None);
    old.shutdown.soft().cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_global_that_says_nothing_holds_nothing_up() {
    let folder = tempfile::tempdir().unwrap();
    let world = world(folder.path(), TimeDelta::days(25)).await;
    // It takes connections and answers none.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut certificate = world.renew(vec![silent.local_addr().unwrap().to_string()]);
    let failed = until(&mut certificate, |shown| shown.fault.is_some()).await;
    assert_eq!(failed.not_after, world.joined.not_after);
    assert_eq!(world.link.borrow().phase, Phase::Connected, "the stream goes on");
    world.shutdown.soft().cancel();
}
