//! A global plane and zones with real stores, in one process, over TLS on loopback.
#![allow(dead_code, unreachable_pub)]

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use atoll_link::{
    Admission, Answerer, Credentials, GlobalConfig, GlobalLink, Issuer, LinkStatus, Peer, RedeemRequest, Refusal, RenewRequest,
    Review, SoftSink, Verdict, ZoneConfig, ZoneIdentity, ZoneLink,
};
use atoll_model::Clock;
use atoll_model::{Kind, Labels, Name, Owner, ResourceKey, ZoneUid};
use atoll_runtime::{
    clock::SystemClock,
    shutdown::Shutdown,
    tasks::Tasks,
    tls::{self, ClientAuth, ServerIdentity, TlsListener},
};
use atoll_store::{Actor, Store, StoreConfig, StoreError, Write, WriteBatch};
use atoll_sync::review::Checked;
use atoll_trust::{
    CertificateRequest, PrivateKey, ZonePeer,
    ca::{ControlPlaneCa, ServerNames},
};
use bytes::Bytes;
use rustls_pki_types::{CertificateDer, pem::PemObject};
use tokio::sync::watch;
use uuid::Uuid;

pub const LONG: Duration = Duration::from_secs(20);

/// Waits for a condition.
pub async fn until(what: &str, mut condition: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < LONG, "not in time: {what}");
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
    start.elapsed()
}

pub fn uid(zone: &str) -> ZoneUid {
    ZoneUid(Uuid::from_u128(u128::from(zone.bytes().fold(7_u32, |sum, byte| sum * 31 + u32::from(byte)))))
}

/// Zones by identity; what a registry is to the link.
pub struct Book {
    pub ca: ControlPlaneCa,
    pub cluster: Uuid,
    zones: Mutex<BTreeMap<ZoneUid, Name>>,
    revoked: Mutex<BTreeSet<String>>,
    changed: watch::Sender<u64>,
    /// Secrets of join tokens that were sent here.
    pub redeemed: Mutex<Vec<String>>,
    /// The only secret that works.
    pub secret: Mutex<Option<Vec<u8>>>,
}

impl Book {
    pub fn new(cluster: Uuid) -> Arc<Self> {
        let ca = ControlPlaneCa::generate(cluster, SystemClock.now(), &mut rand::rng()).expect("a CA");
        Arc::new(Self {
            ca,
            cluster,
            zones: Mutex::default(),
            revoked: Mutex::default(),
            changed: watch::channel(0).0,
            redeemed: Mutex::default(),
            secret: Mutex::default(),
        })
    }

    pub fn add(&self, zone: &str) {
        self.zones.lock().expect("lock").insert(uid(zone), zone.into());
        self.changed.send_modify(|turn| *turn += 1);
    }

    pub fn remove(&self, zone: &str) {
        self.zones.lock().expect("lock").remove(&uid(zone));
        self.changed.send_modify(|turn| *turn += 1);
    }

    pub fn identity(&self, zone: &str, instance: &str) -> Arc<ZoneIdentity> {
        self.identity_of(uid(zone), instance, self.cluster)
    }

    pub fn identity_of(&self, zone: ZoneUid, instance: &str, cluster: Uuid) -> Arc<ZoneIdentity> {
        let key = PrivateKey::generate().expect("a key");
        let peer = ZonePeer { cluster, zone, instance: instance.to_owned() };
        let request = key.request().expect("a request");
        let certificate = self.ca.issue_zone(&request, &peer, SystemClock.now(), &mut rand::rng()).expect("a certificate");
        Arc::new(ZoneIdentity {
            roots: tls::roots_from_pem(self.ca.cert_pem()).expect("roots"),
            chain: tls::chain_from_pem(&certificate.chain_pem).expect("a chain"),
            key: tls::key_from_pem(key.to_pem().expose()).expect("a key"),
        })
    }

    fn issue(&self, csr: &[u8], zone: ZoneUid, instance: &str, name: Name) -> Result<Credentials, Refusal> {
        let request = CertificateRequest::from_der(csr).map_err(|error| Refusal::NotAdmitted(error.to_string()))?;
        let peer = ZonePeer { cluster: self.cluster, zone, instance: instance.to_owned() };
        let issued = self.ca.issue_zone(&request, &peer, SystemClock.now(), &mut rand::rng()).expect("a certificate");
        let der = |pem: &str| -> Vec<Bytes> {
            CertificateDer::pem_slice_iter(pem.as_bytes()).map(|der| Bytes::copy_from_slice(&der.expect("PEM"))).collect()
        };
        Ok(Credentials { chain: der(&issued.chain_pem), cas: der(self.ca.cert_pem()), cluster_id: self.cluster, zone_name: name })
    }
}

#[tonic::async_trait]
impl Admission for Book {
    async fn admit(&self, peer: &Peer) -> Result<Name, Refusal> {
        if self.revoked.lock().expect("lock").contains(&peer.serial) {
            return Err(Refusal::NotAdmitted("the certificate was revoked".to_owned()));
        }
        let name = self.zones.lock().expect("lock").get(&peer.identity.zone).cloned();
        name.ok_or_else(|| Refusal::NotAdmitted(format!("no zone has the identity {}", peer.identity.zone)))
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

#[tonic::async_trait]
impl Issuer for Book {
    async fn redeem(&self, request: RedeemRequest) -> Result<Credentials, Refusal> {
        self.redeemed.lock().expect("lock").push(request.token_id.clone());
        if self.secret.lock().expect("lock").as_deref() != Some(&request.token_secret[..]) {
            return Err(Refusal::NotAdmitted("the token is not known, used or too old".to_owned()));
        }
        self.zones.lock().expect("lock").insert(request.zone_uid, request.zone_name.clone());
        self.issue(&request.csr, request.zone_uid, &request.instance, request.zone_name)
    }

    async fn renew(&self, peer: &Peer, request: RenewRequest) -> Result<Credentials, Refusal> {
        let name = self.admit(peer).await?;
        self.issue(&request.csr, peer.identity.zone, &peer.identity.instance, name)
    }
}

/// Takes what its kind's check takes, and remembers what was sent.
#[derive(Default)]
pub struct Sent(Mutex<Vec<ResourceKey>>);

impl Sent {
    /// What was sent since the last call.
    pub fn take(&self) -> BTreeSet<ResourceKey> {
        self.0.lock().expect("lock").drain(..).collect()
    }
}

impl Review for Sent {
    fn review(&self, key: &ResourceKey, labels: &Labels, spec: &serde_json::Value) -> Verdict {
        self.0.lock().expect("lock").push(key.clone());
        Checked.review(key, labels, spec)
    }
}

/// Keeps soft values.
#[derive(Default)]
pub struct Softs(pub Mutex<BTreeMap<String, Option<Bytes>>>);

impl SoftSink for Softs {
    fn put(&self, _: ZoneUid, key: &str, value: Option<Bytes>) {
        self.0.lock().expect("lock").insert(key.to_owned(), value);
    }
}

/// Answers with the question.
pub struct Echo;

#[tonic::async_trait]
impl Answerer for Echo {
    async fn answer(&self, path: &str, body: Bytes) -> Result<Bytes, String> {
        if path == "echo" { Ok(body) } else { Err(format!("no {path}")) }
    }
}

/// A running plane's tasks.
pub struct Process {
    pub tasks: Tasks,
    pub shutdown: Shutdown,
}

impl Process {
    fn new() -> Self {
        Self { tasks: Tasks::new(), shutdown: Shutdown::new() }
    }

    /// Ends everything, without last words when `hard`.
    async fn end(&self, hard: bool, store: &Store) {
        if hard {
            self.shutdown.hard().cancel();
        }
        self.shutdown.soft().cancel();
        store.close().await;
        self.tasks.join_all(Duration::from_secs(10)).await;
    }
}

/// Opens a store; what is left of an earlier plane of this process may still hold it for a moment.
async fn open(config: StoreConfig, tasks: &Tasks) -> Store {
    let start = Instant::now();
    loop {
        match Store::open(config.clone(), Arc::new(SystemClock), tasks).await {
            Err(StoreError::Locked(_)) if start.elapsed() < LONG => tokio::time::sleep(Duration::from_millis(5)).await,
            result => return result.expect("a store"),
        }
    }
}

pub struct Global {
    pub process: Process,
    pub store: Store,
    pub link: GlobalLink,
    pub address: SocketAddr,
    pub join: SocketAddr,
    pub softs: Arc<Softs>,
}

impl Global {
    pub async fn start(config: StoreConfig, book: &mut Option<Arc<Book>>, ports: [u16; 2]) -> Self {
        Self::reviewed(config, book, ports, Arc::new(Checked)).await
    }

    /// As [`Global::start`]; `review` judges what zones send.
    pub async fn reviewed(config: StoreConfig, book: &mut Option<Arc<Book>>, ports: [u16; 2], review: Arc<dyn Review>) -> Self {
        tls::install_provider();
        let process = Process::new();
        let store = open(config, &process.tasks).await;
        let book = book.get_or_insert_with(|| Book::new(store.cluster_id())).clone();
        let names = ServerNames::default();
        let life = chrono::TimeDelta::days(1);
        let server = book.ca.issue_server(&names, life, SystemClock.now(), &mut rand::rng()).expect("a certificate");
        let identity = ServerIdentity::new(&server.chain_pem, server.key_pem.expose()).expect("an identity");
        let zones = ClientAuth::Required(tls::roots_from_pem(book.ca.cert_pem()).expect("roots"));
        let listen = |auth, port: u16| {
            let config = tls::server_config(identity.clone(), auth, &[b"h2"]).expect("a configuration");
            async move { TlsListener::bind(([127, 0, 0, 1], port).into(), config).await.expect("a port") }
        };
        let (listener, joiner) = (listen(zones, ports[0]).await, listen(ClientAuth::None, ports[1]).await);
        let (address, join) = (listener.local_addr(), joiner.local_addr());
        let settings = GlobalConfig { instance: "g1".to_owned(), software: "test".to_owned() };
        let softs = Arc::new(Softs::default());
        let link = GlobalLink::new(settings, store.clone(), book.clone(), book, review, softs.clone(), &process.tasks);
        let (served, shutdown) = (link.clone(), process.shutdown.clone());
        process.tasks.spawn("link", async move { served.serve(listener, &shutdown).await });
        let (served, shutdown) = (link.clone(), process.shutdown.clone());
        process.tasks.spawn("join", async move { served.serve_join(joiner, &shutdown).await });
        Self { process, store, link, address, join, softs }
    }

    pub async fn end(self, hard: bool) {
        self.process.end(hard, &self.store).await;
    }

    pub fn status(&self, zone: &str) -> LinkStatus {
        self.link.zones().borrow().get(&uid(zone)).cloned().unwrap_or_default()
    }

    /// Says that the zone is there and enabled, as a join does.
    pub async fn zone_row(&self, zone: &str, enabled: bool) {
        let key = ResourceKey::new(Kind::Zone, "", zone, Owner::Global);
        put(&self.store, &key, &format!(r#"{{"enabled":{enabled},"uid":"{}"}}"#, uid(zone))).await;
    }
}

pub struct Zone {
    pub process: Process,
    pub store: Store,
    pub link: ZoneLink,
    pub name: String,
    pub identity: watch::Sender<Arc<ZoneIdentity>>,
}

impl Zone {
    pub async fn start(name: &str, dir: PathBuf, identity: Arc<ZoneIdentity>, cluster: Uuid, global: SocketAddr) -> Self {
        Self::reviewed(name, dir, identity, cluster, &[global], Arc::new(Checked)).await
    }

    /// As [`Zone::start`], with several addresses of global; `review` judges what global sends.
    pub async fn reviewed(
        name: &str,
        dir: PathBuf,
        identity: Arc<ZoneIdentity>,
        cluster: Uuid,
        global: &[SocketAddr],
        review: Arc<dyn Review>,
    ) -> Self {
        let process = Process::new();
        let store = open(StoreConfig::Sqlite { dir }, &process.tasks).await;
        let config = ZoneConfig {
            addresses: global.iter().map(SocketAddr::to_string).collect(),
            name: name.into(),
            uid: uid(name),
            instance: format!("{name}-1"),
            software: "test".to_owned(),
            cluster_id: cluster,
        };
        let (identity, shown) = watch::channel(identity);
        let link = ZoneLink::new(config, shown, store.clone(), review, Arc::new(Echo), &process.tasks);
        let (running, shutdown) = (link.clone(), process.shutdown.clone());
        process.tasks.spawn("link", async move { running.run(&shutdown).await });
        Self { process, store, link, name: name.to_owned(), identity }
    }

    pub async fn end(self, hard: bool) {
        self.process.end(hard, &self.store).await;
    }

    pub fn key(&self, kind: Kind, name: &str) -> ResourceKey {
        ResourceKey::new(kind, "default", name, Owner::Zone(uid(&self.name)))
    }

    pub fn status(&self) -> LinkStatus {
        LinkStatus::clone(&self.link.status().borrow())
    }

    pub fn has(&self, key: &ResourceKey) -> bool {
        self.store.snapshot().get(key).is_some()
    }
}

/// A global plane on SQLite with two zones that know it.
pub struct World {
    pub book: Arc<Book>,
    pub global: Global,
    pub a: Zone,
    pub b: Zone,
    pub dir: tempfile::TempDir,
}

impl World {
    pub async fn start() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let config = StoreConfig::Sqlite { dir: dir.path().join("global") };
        Self::start_on(config, dir).await
    }

    pub async fn start_on(config: StoreConfig, dir: tempfile::TempDir) -> Self {
        let mut book = None;
        let global = Global::start(config, &mut book, [0, 0]).await;
        let book = book.expect("made");
        let mut zones = Vec::new();
        for name in ["a", "b"] {
            book.add(name);
            global.zone_row(name, true).await;
            let identity = book.identity(name, &format!("{name}-1"));
            zones.push(Zone::start(name, dir.path().join(name), identity, book.cluster, global.address).await);
        }
        let (b, a) = (zones.pop().expect("two"), zones.pop().expect("two"));
        Self { book, global, a, b, dir }
    }
}

pub async fn put(store: &Store, key: &ResourceKey, spec: &str) {
    let write = Write::put(key.clone(), Labels::new(), Bytes::copy_from_slice(spec.as_bytes()));
    store.commit(WriteBatch::one(Actor::plane(), write)).await.expect("committed");
}

pub async fn delete(store: &Store, key: &ResourceKey) {
    store.commit(WriteBatch::one(Actor::plane(), Write::delete(key.clone()))).await.expect("committed");
}

pub fn policy(name: &str) -> ResourceKey {
    ResourceKey::new(Kind::MeshTimeout, "default", name, Owner::Global)
}

pub fn timeout(seconds: u64) -> String {
    format!(
        r#"{{"targetRef":{{"kind":"Mesh"}},"to":[{{"targetRef":{{"kind":"Mesh"}},"default":{{"connectionTimeout":"{seconds}s"}}}}]}}"#
    )
}
