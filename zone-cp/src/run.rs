//! Assembly of the zone plane: every stage, wired once, readable from top to bottom.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use atoll_api::{
    Info, Plane, PlaneParts,
    serve::{self, Gate, Hosts, Scheme},
};
use atoll_link::{LinkStatus, ZoneConfig, ZoneLink};
use atoll_mesh::{IndexConfig, MeshIndex};
use atoll_model::{Clock, Name, labels::Viewpoint};
use atoll_runtime::{
    clock::SystemClock,
    diagnostics::{self, Diagnostics, Readiness},
    shutdown::Shutdown,
    tasks::Tasks,
    tls::{self, TlsListener},
};
use atoll_store::{Keys, Store, StoreConfig, StoreMetrics};
use atoll_trust::ca::ZoneCa;
use prometheus_client::registry::Registry;
use rand::{SeedableRng, rngs::StdRng};
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;

use crate::{
    Config,
    answers::{Answers, ProxyViews, own_link::OwnLink},
    dataplanes::Dataplanes,
    defaults,
    engine::{Engine, ZoneView},
    health::{Health, Stages},
    hosts,
    identity::{self, Identities, Joined, ZoneDir, ZoneReview, ZoneTokens},
    join::{self, LinkCertificate},
    metrics::{ApiMetrics, ZoneMetrics},
    operator,
    proxies::{
        Parts, Proxies,
        ads::{EnvoyAuth, EnvoySource},
    },
    runners::{Limits, RunnerService, Runners, Settings},
    status::ZoneStatus,
    xds::{self, AdsServer},
};

mod listeners;
mod start_error;

pub use listeners::Addresses;
use listeners::Listeners;
pub use start_error::StartError;

/// A plane that serves.
pub struct Running {
    /// Where it listens.
    pub addresses: Addresses,
    /// Its resources.
    pub store: Store,
    /// Its snapshots.
    pub view: watch::Receiver<Arc<ZoneView>>,
    /// Its link, if it has a global.
    pub link: Option<watch::Receiver<Arc<LinkStatus>>>,
    tasks: Tasks,
    of_store: Tasks,
    shutdown: Shutdown,
}

impl Running {
    /// Waits for the shutdown and ends in order.
    pub async fn wait(self) {
        self.shutdown.soft().cancelled().await;
        self.tasks.join_all(Duration::from_secs(10)).await;
        self.store.close().await;
        self.of_store.join_all(Duration::from_secs(5)).await;
        self.shutdown.hard().cancel();
    }
}

/// The folder of the store in the data directory.
const STORE: &str = "store";
/// File with the key that seals secrets in it.
const SEAL_KEY: &str = "seal.key";

/// Starts everything; what is returned serves.
///
/// # Errors
/// See [`StartError`]. Nothing is left running, and `shutdown` is begun.
pub async fn run(config: Config, shutdown: Shutdown) -> Result<Running, StartError> {
    config.validate()?;
    tls::install_provider();
    // The store's own tasks outlive the others: what they still write must find it.
    let (tasks, of_store) = (Tasks::new(), Tasks::new());
    let started = start(&config, &shutdown, tasks.clone(), of_store.clone()).await;
    if started.is_err() {
        shutdown.soft().cancel();
        tasks.join_all(Duration::from_secs(5)).await;
        of_store.join_all(Duration::from_secs(5)).await;
    }
    started
}

async fn start(config: &Config, shutdown: &Shutdown, tasks: Tasks, of_store: Tasks) -> Result<Running, StartError> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let (dir_failed, store_failed) = (StartError::dir(config), StartError::store(config));
    let dir = ZoneDir::open(&config.data_dir, &mut rand::rng()).map_err(&dir_failed)?;
    let ca = Arc::new(dir.ca(&config.zone, clock.now(), &mut rand::rng()).map_err(&dir_failed)?);
    let listeners = Listeners::bind(config, &ca, &clock, &tasks, shutdown).await?;
    let addresses = listeners.addresses;
    let health = Health::new(shutdown.soft());
    let registry = serve_diagnostics(config, listeners.diagnostics, &health, &tasks, shutdown.soft())?;

    let journal = StoreConfig::Sqlite { dir: config.data_dir.join(STORE) };
    let keys = Keys::File { path: config.data_dir.join(SEAL_KEY), older: Vec::new() };
    let store = Store::open_sealed(journal, keys, clock.clone(), &of_store).await.map_err(&store_failed)?;
    let joined = match &config.global {
        Some(_) => {
            health.joining();
            Some(join::joined(config, &dir, &*clock, shutdown).await?)
        }
        None => None,
    };
    let zone = zone_name(config, joined.as_ref())?;
    let viewpoint = Viewpoint::Zone { name: zone.clone(), uid: dir.uid(), federated: joined.is_some() };
    defaults::make(&store, &viewpoint).await.map_err(&store_failed)?;
    let copied = !store.peer_cursors().await.map_err(&store_failed)?.is_empty();

    let base = Base { config, shutdown, tasks, clock, dir, store, zone, viewpoint };
    let (identities, tokens) = base.keys(&ca, addresses.rest_tls)?;
    let view = base.start_engine(&identities);
    let answers = Answers::new(base.zone.clone(), view.clone(), base.clock.clone());
    let certificate = joined.as_ref().map(|joined| watch::Sender::new(LinkCertificate::of(joined)));
    let link = joined.zip(certificate.clone()).map(|(joined, shown)| base.start_link(joined, &answers, shown)).transpose()?;
    let own_link = OwnLink { zone: base.zone.clone(), link: link.clone(), answers: answers.clone() };
    let link = link.map(|link| link.status());
    let certificate = certificate.map(|shown| shown.subscribe());
    let seen = Seen { health: health.clone(), view: view.clone(), link: link.clone(), certificate };
    let (status, metrics) = base.serve_proxies(listeners.dataplanes, identities, &tokens, seen).await?;
    answers.watch_proxies(ProxyViews { runners: status.runners.clone(), envoys: status.envoys.clone() });
    let status = Arc::new(status);
    base.tell_insights(own_link.link.as_ref(), status.clone());
    let api = base.serve_rest(listeners.rest, listeners.rest_tls, tokens, (status, own_link), &health);
    register(&registry, (metrics, api), &base.store);

    let Base { tasks, store, zone, .. } = base;
    tasks.spawn("store.prune", prune(store.clone(), shutdown.soft()));
    health.running(Stages { store: store.clone(), view: view.clone(), link: link.clone(), copied: copied.into() });
    tracing::info!(zone = %zone, dataplanes = %addresses.dataplanes, rest = %addresses.rest_tls, "zone {zone} serves");
    Ok(Running { addresses, store, view, link, tasks, of_store, shutdown: shutdown.clone() })
}

/// The zone's name; a data directory keeps the one under which it joined.
fn zone_name(config: &Config, joined: Option<&Joined>) -> Result<Name, StartError> {
    let wanted = Name::from(config.zone.as_str());
    match joined {
        Some(joined) if joined.zone_name != wanted => {
            Err(StartError::OtherZone(config.data_dir.display().to_string(), joined.zone_name.clone(), wanted))
        }
        Some(_) | None => Ok(wanted),
    }
}

fn hostname() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").map(|name| name.trim().to_owned()).unwrap_or_default()
}

/// What every stage stands on.
struct Base<'a> {
    config: &'a Config,
    shutdown: &'a Shutdown,
    tasks: Tasks,
    clock: Arc<dyn Clock>,
    dir: ZoneDir,
    store: Store,
    zone: Name,
    viewpoint: Viewpoint,
}

/// What others watch.
struct Seen {
    health: Health,
    view: watch::Receiver<Arc<ZoneView>>,
    link: Option<watch::Receiver<Arc<LinkStatus>>>,
    certificate: Option<watch::Receiver<LinkCertificate>>,
}

impl Base<'_> {
    /// Opens the zone's keys; the first start writes the operator's credential.
    fn keys(&self, ca: &ZoneCa, rest: SocketAddr) -> Result<(Arc<Identities>, ZoneTokens), StartError> {
        let (config, clock, failed) = (self.config, &self.clock, StartError::dir(self.config));
        let (folder, uid) = (config.data_dir.join("identity"), self.dir.uid());
        let identities = Identities::open(&folder, self.zone.clone(), uid, clock.now(), StdRng::from_os_rng());
        let identities = Arc::new(identities.map_err(&failed)?);
        let key = self.dir.signing_key().map_err(&failed)?;
        let tokens = ZoneTokens::new(key, uid, self.store.clone(), clock.clone(), StdRng::from_os_rng());
        self.tasks.spawn("tokens", tokens.clone().run(self.shutdown.soft()));
        let written = operator::write(&self.dir, ca, &tokens, rest);
        written.map_err(|error| StartError::Write(config.data_dir.display().to_string(), error))?;
        Ok((identities, tokens))
    }

    fn start_engine(&self, identities: &Arc<Identities>) -> watch::Receiver<Arc<ZoneView>> {
        let index = MeshIndex::new(self.viewpoint.clone(), IndexConfig::default(), Arc::new(identity::acceptance()));
        let (engine, view) = Engine::new(self.store.clone(), index, identities.clone(), self.clock.clone());
        let found = hosts::start(engine.hosts(), &self.tasks, self.shutdown.soft());
        self.tasks.spawn("engine", engine.run(found, self.shutdown.soft()));
        view
    }

    fn start_link(
        &self,
        joined: Joined,
        answers: &Answers,
        certificate: watch::Sender<LinkCertificate>,
    ) -> Result<ZoneLink, StartError> {
        let addresses: Vec<String> = self.config.global.iter().cloned().collect();
        let settings = ZoneConfig {
            addresses: addresses.clone(),
            name: joined.zone_name.clone(),
            uid: self.dir.uid(),
            instance: join::INSTANCE.to_owned(),
            software: env!("CARGO_PKG_VERSION").to_owned(),
            cluster_id: joined.cluster_id,
        };
        let (identity, shown) = watch::channel(Arc::new(joined.identity()?));
        let review = Arc::new(ZoneReview::new(self.store.clone()));
        let link = ZoneLink::new(settings, shown, self.store.clone(), review, Arc::new(answers.clone()), &self.tasks);
        let (started, end) = (link.clone(), self.shutdown.clone());
        let (dir, clock) = (self.dir.clone(), Arc::clone(&self.clock));
        let renewal = join::Renewal { joined, identity, dir, clock, addresses, shown: certificate };
        self.tasks.spawn("link.renewal", renewal.run(self.shutdown.soft()));
        self.tasks.spawn("link", async move { link.run(&end).await });
        Ok(started)
    }

    /// Serves Envoys and runners; what is given back shows how they fare.
    async fn serve_proxies(
        &self,
        listener: TlsListener,
        identities: Arc<Identities>,
        tokens: &ZoneTokens,
        seen: Seen,
    ) -> Result<(ZoneStatus, ZoneMetrics), StartError> {
        let (tasks, stop, clock, store) = (&self.tasks, self.shutdown.soft(), &self.clock, &self.store);
        let Seen { health, view, link, certificate } = seen;
        let dataplanes = Dataplanes::new(store.clone(), self.viewpoint.owner());
        let runners = Runners::start(dataplanes.clone(), clock.clone(), Limits::default(), tasks, stop.clone());
        let parts = Parts { view: view.clone(), identities: identities.clone(), store: store.clone(), clock: clock.clone() };
        let proxies = Proxies::start(parts, tasks, stop.clone()).await.map_err(StartError::store(self.config))?;
        let envoys = EnvoySource::new(proxies.clone(), runners.clone(), identities.acknowledgements().clone());
        let auth = EnvoyAuth { tokens: Arc::new(tokens.clone()), dataplanes: dataplanes.clone() };
        let ads = AdsServer::new(auth, envoys.clone(), xds::Limits::default(), tasks.clone(), stop.clone());
        let (of_runners, envoys, xds) = (runners.view(), envoys.statuses(), ads.totals());
        let (renewal, waiting) = (proxies.renewal(), proxies.waiting());
        let service = RunnerService::new(
            runners,
            dataplanes,
            Arc::new(tokens.clone()),
            Arc::new(proxies),
            Settings::new(self.viewpoint.clone(), self.zone.clone()),
            tasks.clone(),
            stop.clone(),
        );
        serve_dataplanes(listener, service, ads, tasks, stop);
        let status = ZoneStatus {
            view: view.clone(),
            runners: of_runners.clone(),
            envoys: envoys.clone(),
            waiting: waiting.clone(),
            link: link.clone(),
            certificate: certificate.clone(),
        };
        Ok((
            status,
            ZoneMetrics { certificate, health, view, link, runners: of_runners, envoys, xds, identities, renewal, waiting },
        ))
    }

    /// Tells global how the dataplanes of this zone fare.
    fn tell_insights(&self, link: Option<&ZoneLink>, status: Arc<ZoneStatus>) {
        let Some(link) = link else { return };
        let (store, owner, board) = (self.store.clone(), self.viewpoint.owner(), link.board().clone());
        self.tasks.spawn("insights", crate::insights::Insights { store, owner, status, board }.run(self.shutdown.soft()));
    }

    fn serve_rest(
        &self,
        rest: TcpListener,
        rest_tls: TlsListener,
        tokens: ZoneTokens,
        (status, own_link): (Arc<ZoneStatus>, OwnLink),
        health: &Health,
    ) -> ApiMetrics {
        let (config, store, health) = (self.config, &self.store, health.clone());
        let parts = PlaneParts {
            viewpoint: self.viewpoint.clone(),
            store: store.clone(),
            clock: self.clock.clone(),
            authenticate: Arc::new(tokens.clone()),
            tokens: Arc::new(tokens),
            status,
            admission: Arc::new(atoll_api::plane::AdmitAll),
            links: Arc::new(own_link),
            info: Info::new(hostname(), format!("{}-0", config.zone), store.cluster_id().to_string(), &self.viewpoint),
            config: config.shown(),
            ready: Arc::new(move || health.ready()),
        };
        let plane = Plane::within(parts, config.limits);
        let denied = plane.denied_counts();
        let (router, stop) = (atoll_api::router(plane), self.shutdown.soft());
        let gate = Gate::new(config.limits, Hosts::of(listeners::dialled(config)));
        self.tasks.spawn("rest", serve::serve(rest, router.clone(), Scheme::Http, gate.clone(), stop.clone()));
        self.tasks.spawn("rest.tls", serve::serve(rest_tls, router, Scheme::Https, gate.clone(), stop));
        ApiMetrics { denied, gate }
    }
}

/// What a proxy may have open at once on one connection.
const STREAMS_MAX: u32 = 16;

fn serve_dataplanes(
    listener: TlsListener,
    runners: RunnerService,
    ads: AdsServer<EnvoyAuth, EnvoySource>,
    tasks: &Tasks,
    stop: CancellationToken,
) {
    let server = tonic::transport::Server::builder()
        .max_concurrent_streams(STREAMS_MAX)
        .http2_keepalive_interval(Some(Duration::from_secs(10)))
        .http2_keepalive_timeout(Some(Duration::from_secs(5)))
        .http2_max_header_list_size(16 << 10)
        .add_service(runners.into_server())
        .add_service(ads.into_service());
    tasks.spawn("dataplanes", async move {
        if let Err(error) = server.serve_with_incoming_shutdown(listener, stop.cancelled_owned()).await {
            tracing::error!(%error, "the port of proxies does not serve any more");
        }
    });
}

/// How often old tombstones are taken away, in small steps.
const PRUNE: Duration = Duration::from_secs(60);

async fn prune(store: Store, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(PRUNE) => {}
        }
        if let Err(error) = store.prune().await {
            tracing::debug!(%error, "could not prune; later");
        }
    }
}

/// Serves from the first moment, so that a zone that waits says what for.
fn serve_diagnostics(
    config: &Config,
    listener: TcpListener,
    health: &Health,
    tasks: &Tasks,
    stop: CancellationToken,
) -> Result<Arc<Mutex<Registry>>, StartError> {
    let metrics_token = config.metrics_token_file.as_deref().map(diagnostics::read_token).transpose()?;
    let (health, registry) = (health.clone(), Arc::new(Mutex::new(Registry::default())));
    let ready = move || health.ready().map_or_else(Readiness::NotReady, |()| Readiness::Ready);
    let diagnostics = Diagnostics { ready: Arc::new(ready), registry: registry.clone(), metrics_token };
    tasks.spawn("diagnostics", async move {
        if let Err(error) = diagnostics::serve(listener, diagnostics, stop).await {
            tracing::error!(%error, "the diagnostics port does not serve any more");
        }
    });
    Ok(registry)
}

fn register(registry: &Mutex<Registry>, (metrics, api): (ZoneMetrics, ApiMetrics), store: &Store) {
    let mut registry = registry.lock().unwrap_or_else(PoisonError::into_inner);
    registry.register_collector(Box::new(StoreMetrics::new(store.clone())));
    registry.register_collector(Box::new(metrics));
    registry.register_collector(Box::new(api));
}
