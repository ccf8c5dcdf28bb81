//! F34, P36, P30: certificates and CAs are replaced under traffic through two real Envoys, and nobody notices.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use atoll_mesh::trust::TrustBundles;
use chrono::TimeDelta;
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};

use crate::{
    AZURE, GCP, Gateway, SNI, allow,
    envoy::{DRAIN, Envoy},
    pki::{self, Leaf},
    plane::Plane,
    resources,
    traffic::{Connection, free, plain_works, tls_works},
    web,
};

const WEB: &str = "/workload/web";
const GATEWAY: &str = "/workload/api-gateway";

/// A sidecar that calls and a sidecar that serves, and what their plane gives to them.
struct Pair {
    plane: Plane,
    gateway: Gateway,
    listen: SocketAddr,
    allowed: String,
    _envoys: (Envoy, Envoy),
}

impl Pair {
    async fn start() -> Self {
        let (plane, gateway, listen) = (Plane::start().await, Gateway::new().await, free());
        let envoys = tokio::join!(Envoy::start("gateway", &plane), Envoy::start("web", &plane));
        let allowed = allow(&[&format!("spiffe://{AZURE}{WEB}")]);
        Self { plane, gateway, listen, allowed, _envoys: envoys }
    }

    async fn give_gateway(&self, leaf: &Leaf, bundles: &TrustBundles) {
        let set = resources(&self.gateway.yaml(&self.allowed, 0), Some((leaf, bundles)));
        let status = self.plane.apply("gateway", set).await;
        assert!(status.refused.is_empty(), "{:?}", status.refused);
    }

    async fn give_web(&self, leaf: &Leaf, bundles: &TrustBundles) {
        let yaml = web("port: 8443, name: main", &[self.gateway.listen], self.listen);
        let status = self.plane.apply("web", resources(&yaml, Some((leaf, bundles)))).await;
        assert!(status.refused.is_empty(), "{:?}", status.refused);
    }
}

/// Requests on new connections, and exchanges on one that stays.
struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    failed: Arc<AtomicU64>,
    workers: Vec<JoinHandle<()>>,
    long: JoinHandle<u64>,
}

impl Load {
    async fn start(to: SocketAddr) -> Self {
        let (stop, done, failed) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
        let worker = |_| {
            let (stop, done, failed) = (Arc::clone(&stop), Arc::clone(&done), Arc::clone(&failed));
            tokio::spawn(async move {
                while !stop.load(Relaxed) {
                    let count = if plain_works(to).await { &done } else { &failed };
                    count.fetch_add(1, Relaxed);
                    sleep(Duration::from_millis(10)).await;
                }
            })
        };
        let workers = (0..4).map(worker).collect();
        let mut stays = Connection::plain(to).await.expect("a connection");
        let stopped = Arc::clone(&stop);
        let long = tokio::spawn(async move {
            let mut exchanges = 0;
            while !stopped.load(Relaxed) {
                assert!(stays.works().await, "the connection was cut after {exchanges} exchanges");
                exchanges += 1;
                sleep(Duration::from_millis(10)).await;
            }
            exchanges
        });
        Self { stop, done, failed, workers, long }
    }

    /// Ends it: how many requests were answered. None failed, and nothing was cut.
    async fn ends_well(self) -> u64 {
        self.stop.store(true, Relaxed);
        for worker in self.workers {
            worker.await.expect("a worker");
        }
        let exchanges = self.long.await.expect("the connection that stays");
        assert_eq!(self.failed.load(Relaxed), 0, "requests failed, beside {} that did not", self.done.load(Relaxed));
        assert!(exchanges > 0);
        self.done.load(Relaxed)
    }
}

/// Leaves of four seconds that are renewed at half life: the first ones are long over when the test ends.
#[tokio::test(flavor = "multi_thread")]
async fn leaves_are_renewed_under_traffic() {
    let (gcp, azure) = (pki::ca(GCP), pki::ca(AZURE));
    let bundles = pki::bundles(&[(GCP, gcp.cert_pem()), (AZURE, azure.cert_pem())]);
    let life = TimeDelta::seconds(4);
    let pair = Pair::start().await;
    let renew = async || {
        pair.give_gateway(&pki::leaf_for(&gcp, GATEWAY, life), &bundles).await;
        pair.give_web(&pki::leaf_for(&azure, WEB, life), &bundles).await;
    };
    let start = Instant::now();
    renew().await;
    assert!(plain_works(pair.listen).await);
    let load = Load::start(pair.listen).await;
    for renewal in 1..6 {
        tokio::time::sleep_until(start + Duration::from_secs(2) * renewal).await;
        renew().await;
    }
    let answered = load.ends_well().await;
    assert!(answered > 500, "{answered} requests are no traffic");
}

/// Both zones replace their CAs: prepared and distributed, then active, then the old ones go. Who lives by an old certificate lives
/// on, and nobody new comes in by one.
#[tokio::test(flavor = "multi_thread")]
async fn cas_are_replaced_under_traffic() {
    let (gcp, azure) = ([pki::ca(GCP), pki::other_ca(GCP)], [pki::ca(AZURE), pki::other_ca(AZURE)]);
    let trusting = |which: &[usize]| {
        let both = which.iter().flat_map(|one| [(GCP, gcp[*one].cert_pem()), (AZURE, azure[*one].cert_pem())]);
        pki::bundles(&both.collect::<Vec<_>>())
    };
    let leaves = |which: usize| (pki::leaf(&gcp[which], GATEWAY), pki::leaf(&azure[which], WEB));
    let (old, new) = (leaves(0), leaves(1));
    let pair = Pair::start().await;
    let give = async |(gateway, web): (&Leaf, &Leaf), bundles: &TrustBundles| {
        pair.give_gateway(gateway, bundles).await;
        // Long enough that a step in the wrong order costs requests.
        sleep(Duration::from_millis(200)).await;
        pair.give_web(web, bundles).await;
    };
    give((&old.0, &old.1), &trusting(&[0])).await;
    assert!(plain_works(pair.listen).await);
    let load = Load::start(pair.listen).await;
    let by_old = async || tls_works(pair.gateway.listen, &pki::client(&old.1), SNI).await;

    give((&old.0, &old.1), &trusting(&[0, 1])).await;
    // One moves before the other: each end accepts both.
    give((&new.0, &old.1), &trusting(&[0, 1])).await;
    sleep(Duration::from_millis(500)).await;
    give((&new.0, &new.1), &trusting(&[0, 1])).await;
    sleep(Duration::from_millis(500)).await;
    assert!(by_old().await, "the old CA is trusted while it is not retired");
    give((&new.0, &new.1), &trusting(&[1])).await;
    assert!(!by_old().await, "a retired CA lets somebody in");
    sleep(Duration::from_secs(DRAIN + 1)).await;
    let answered = load.ends_well().await;
    assert!(answered > 200, "{answered} requests are no traffic");
}
