//! A control plane that says what the test says.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use atoll_envoy::ResourceSet;
use atoll_model::Revision;
use atoll_runtime::tasks::Tasks;
use atoll_zone_cp::{
    runners::ProxyId,
    xds::{Admission, AdsServer, AuthRefusal, Hello, Limits, ProxyAuth, ProxyConfig, ProxySource, Status, WhyEmpty},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::TcpIncoming;

pub(crate) const TOKEN: &str = "Bearer test";

/// How long anything may take.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

#[derive(Default)]
struct Proxy {
    config: watch::Sender<Option<Arc<ProxyConfig>>>,
    status: watch::Sender<Status>,
    revoked: CancellationToken,
    revision: u64,
}

#[derive(Clone, Default)]
struct Proxies(Arc<Mutex<BTreeMap<String, Proxy>>>);

impl Proxies {
    fn with<T>(&self, name: &str, f: impl FnOnce(&mut Proxy) -> T) -> T {
        f(self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(name.to_owned()).or_default())
    }
}

impl ProxyAuth for Proxies {
    async fn authenticate(&self, hello: &Hello) -> Result<Admission, AuthRefusal> {
        if hello.authorization.as_deref() != Some(TOKEN) {
            return Err(AuthRefusal::Unauthenticated("no token".to_owned()));
        }
        let revoked = self.with(&hello.node_id, |proxy| proxy.revoked.clone());
        Ok(Admission { proxy: ProxyId::new("default", hello.node_id.as_str()), revoked })
    }
}

impl ProxySource for Proxies {
    type Presence = ();

    fn subscribe(&self, proxy: &ProxyId) -> watch::Receiver<Option<Arc<ProxyConfig>>> {
        self.with(&proxy.name, |proxy| proxy.config.subscribe())
    }

    fn attached(&self, _: &ProxyId) {}

    fn report(&self, proxy: &ProxyId, status: &Status) {
        self.with(&proxy.name, |proxy| proxy.status.send_replace(status.clone()));
    }
}

pub(crate) struct Plane {
    pub(crate) address: SocketAddr,
    proxies: Proxies,
    stop: CancellationToken,
}

impl Plane {
    pub(crate) async fn start() -> Self {
        let proxies = Proxies::default();
        let stop = CancellationToken::new();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let ads = AdsServer::new(proxies.clone(), proxies.clone(), Limits::default(), Tasks::new(), stop.clone());
        let router = tonic::transport::Server::builder().add_service(ads.into_service());
        let stopped = stop.clone();
        tokio::spawn(router.serve_with_incoming_shutdown(incoming, async move { stopped.cancelled().await }));
        Self { address, proxies, stop }
    }

    /// Gives a proxy other resources; answers their revision.
    pub(crate) fn set(&self, proxy: &str, set: ResourceSet) -> Revision {
        self.proxies.with(proxy, |proxy| {
            proxy.revision += 1;
            let revision = Revision(proxy.revision);
            let config = ProxyConfig::new(revision, set.clone())
                .unwrap_or_else(|_| ProxyConfig::empty(revision, set, WhyEmpty::NothingToServe));
            proxy.config.send_replace(Some(Arc::new(config)));
            revision
        })
    }

    /// Gives a proxy other resources and waits until it has them.
    pub(crate) async fn apply(&self, proxy: &str, set: ResourceSet) -> Status {
        let revision = self.set(proxy, set);
        self.applied(proxy, revision).await
    }

    /// Waits until a proxy has a revision.
    pub(crate) async fn applied(&self, proxy: &str, revision: Revision) -> Status {
        self.status(proxy, |status| status.applied == Some(revision)).await
    }

    /// Waits for a status.
    pub(crate) async fn status(&self, proxy: &str, wanted: impl FnMut(&Status) -> bool) -> Status {
        let mut statuses = self.proxies.with(proxy, |proxy| proxy.status.subscribe());
        let status = tokio::time::timeout(DEADLINE, statuses.wait_for(wanted)).await;
        let status = status.unwrap_or_else(|_| panic!("{proxy} does not get there"));
        status.expect("the plane lives").clone()
    }

    /// Ends a proxy's stream; it comes back by itself.
    pub(crate) fn cut(&self, proxy: &str) {
        self.proxies.with(proxy, |proxy| {
            std::mem::take(&mut proxy.revoked).cancel();
            proxy.status.send_replace(Status::default());
        });
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
