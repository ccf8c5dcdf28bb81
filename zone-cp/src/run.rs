//! Assembly of the zone plane: every stage, wired once, readable from top to bottom.

use std::{
    io,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use atoll_api::{
    Info, Plane, PlaneParts,
    serve::{self, Scheme},
};
use atoll_link::{Answerer, LinkStatus, ZoneConfig, ZoneLink};
use atoll_mesh::{IndexConfig, MeshIndex};
use atoll_model::{Clock, Name, labels::Viewpoint};
use atoll_runtime::{
    clock::SystemClock,
    diagnostics::{self, Diagnostics, Readiness},
    shutdown::Shutdown,
    tasks::Tasks,
    tls::{self, ClientAuth, TlsListener},
};
use atoll_store::{Store, StoreConfig, StoreError};
use atoll_trust::ca::{CaError, ServerNames};
use bytes::Bytes;
use prometheus_client::registry::Registry;
use rand::{SeedableRng, rngs::StdRng};
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;

use crate::{
    Config, ConfigError,
    dataplanes::Dataplanes,
    defaults,
    engine::{Engine, ZoneView},
    hosts,
    identity::{self, DirError, Identities, Joined, Servers, ZoneDir, ZoneReview, ZoneTokens},
    join::{self, JoinError},
    operator,
    proxies::{
        Parts, Proxies,
        ads::{EnvoyAuth, EnvoySource},
    },
    runners::{Limits, RunnerService, Runners, Settings},
    status::ZoneStatus,
    xds::{self, AdsServer},
};

/// Why the zone plane did not start. Each text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A setting cannot work.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The data directory is of no use.
    #[error(transparent)]
    Dir(#[from] DirError),
    /// The zone's store cannot be opened.
    #[error("the store in {0} cannot be opened: {1}")]
    Store(String, #[source] StoreError),
    /// The zone could not join.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// The data directory belongs to another zone.
    #[error("{0} belongs to zone {1:?}, this is zone {2:?}: use another --data-dir, or --zone {1}")]
    OtherZone(String, Name, Name),
    /// A port is taken, or the address is not this machine's.
    #[error("cannot listen at {address} ({flag}): {source}; stop what listens there, or set --{flag}")]
    Listen {
        /// The flag.
        flag: &'static str,
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// A certificate or key cannot be used.
    #[error("{0}")]
    Certificate(String),
    /// A file cannot be written.
    #[error("cannot write to the data directory: {0}")]
    Write(#[source] io::Error),
    /// The token for metrics cannot be read.
    #[error("cannot read --metrics-token-file: {0}")]
    MetricsToken(#[source] io::Error),
}

impl From<CaError> for StartError {
    fn from(error: CaError) -> Self {
        Self::Certificate(error.to_string())
    }
}

impl From<tls::TlsError> for StartError {
    fn from(error: tls::TlsError) -> Self {
        Self::Certificate(error.to_string())
    }
}

/// Where the plane listens.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// REST without TLS.
    pub rest: SocketAddr,
    /// REST over TLS.
    pub rest_tls: SocketAddr,
    /// Diagnostics.
    pub diagnostics: SocketAddr,
    /// Proxies.
    pub dataplanes: SocketAddr,
}

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

/// Starts everything; what is returned serves.
///
/// # Errors
/// See [`StartError`].
pub async fn run(config: Config, shutdown: Shutdown) -> Result<Running, StartError> {
    config.validate()?;
    tls::install_provider();
    let tasks = Tasks::new();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let dir = ZoneDir::open(&config.data_dir, &mut rand::rng())?;
    let ca = Arc::new(dir.ca(&config.zone, clock.now(), &mut rand::rng())?);
    let listeners = Listeners::bind(&config, &ca, &clock, &tasks, &shutdown).await?;

    // The store's own tasks outlive the others: what they still write must find it.
    let of_store = Tasks::new();
    let store = open_store(&config.data_dir.join("store"), &clock, &of_store).await?;
    let joined = match &config.global {
        Some(_) => Some(join::joined(&config, &dir, &*clock, &shutdown).await?),
        None => None,
    };
    let zone = zone_name(&config, joined.as_ref())?;
    let viewpoint = Viewpoint::Zone { name: zone.clone(), uid: dir.uid(), federated: joined.is_some() };
    let failed = |error| StartError::Store(config.data_dir.display().to_string(), error);
    defaults::make(&store, &viewpoint).await.map_err(failed)?;

    let identities = Arc::new(Identities::open(
        &config.data_dir.join("identity"),
        zone.clone(),
        dir.uid(),
        clock.now(),
        StdRng::from_os_rng(),
    )?);
    let tokens = ZoneTokens::new(dir.signing_key()?, dir.uid(), store.clone(), clock.clone(), StdRng::from_os_rng());
    operator::write(&dir, &ca, &tokens, listeners.addresses.rest_tls).map_err(StartError::Write)?;

    let index = MeshIndex::new(viewpoint.clone(), IndexConfig::default(), Arc::new(identity::acceptance()));
    let (engine, view) = Engine::new(store.clone(), index, identities.clone(), clock.clone());
    let addresses = hosts::start(engine.hosts(), &tasks, shutdown.soft());
    tasks.spawn("engine", engine.run(addresses, shutdown.soft()));

    let dataplanes = Dataplanes::new(store.clone(), viewpoint.owner());
    let runners = Runners::start(dataplanes.clone(), clock.clone(), Limits::default(), &tasks, shutdown.soft());
    let parts = Parts { view: view.clone(), identities, store: store.clone(), clock: clock.clone() };
    let proxies = Proxies::start(parts, &tasks, shutdown.soft()).await.map_err(failed)?;
    let envoys = EnvoySource::new(proxies.clone(), runners.clone());
    let status_of_envoys = envoys.statuses();

    let link = match joined {
        Some(joined) => Some(start_link(&config, joined, &dir, &store, &clock, &tasks, &shutdown)?),
        None => None,
    };
    let runner_view = runners.view();
    let runner_service = RunnerService::new(
        runners,
        dataplanes.clone(),
        Arc::new(tokens.clone()),
        Arc::new(proxies),
        Settings::new(viewpoint.clone(), zone.clone()),
        tasks.clone(),
        shutdown.soft(),
    );
    let auth = EnvoyAuth { tokens: Arc::new(tokens.clone()), dataplanes };
    let ads = AdsServer::new(auth, envoys, xds::Limits::default(), tasks.clone(), shutdown.soft());
    serve_dataplanes(listeners.dataplanes, runner_service, ads, &tasks, shutdown.soft());

    tasks.spawn("store.prune", prune(store.clone(), shutdown.soft()));
    let status = ZoneStatus { view: view.clone(), runners: runner_view, envoys: status_of_envoys, link: link.clone() };
    let plane = plane(&config, &viewpoint, &store, &clock, tokens, status);
    serve_rest(plane, listeners.rest, listeners.rest_tls, &tasks, &shutdown);
    serve_diagnostics(&config, listeners.diagnostics, &store, &tasks, &shutdown)?;

    let addresses = listeners.addresses;
    tracing::info!(zone = %zone, dataplanes = %addresses.dataplanes, rest = %addresses.rest_tls, "zone {zone} serves");
    Ok(Running { addresses, store, view, link, tasks, of_store, shutdown })
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

async fn open_store(folder: &Path, clock: &Arc<dyn Clock>, tasks: &Tasks) -> Result<Store, StartError> {
    let opened = Store::open(StoreConfig::Sqlite { dir: folder.to_owned() }, clock.clone(), tasks).await;
    opened.map_err(|error| StartError::Store(folder.display().to_string(), error))
}

/// Every port, bound before anything else is done, so that a taken one is known at once.
struct Listeners {
    rest: TcpListener,
    rest_tls: TlsListener,
    diagnostics: TcpListener,
    dataplanes: TlsListener,
    addresses: Addresses,
}

impl Listeners {
    async fn bind(
        config: &Config,
        ca: &Arc<atoll_trust::ca::ZoneCa>,
        clock: &Arc<dyn Clock>,
        tasks: &Tasks,
        shutdown: &Shutdown,
    ) -> Result<Self, StartError> {
        let names = server_names(config);
        let servers = Servers::new(Arc::clone(ca), names, Arc::clone(clock), StdRng::from_os_rng())
            .map_err(|error| StartError::Certificate(error.to_string()))?;
        let h2: &[&[u8]] = &[b"h2"];
        let http: &[&[u8]] = &[b"h2", b"http/1.1"];
        let for_dataplanes = tls::server_config(servers.identity(), ClientAuth::None, h2)?;
        let for_rest = tls::server_config(servers.identity(), ClientAuth::None, http)?;
        tasks.spawn("servers", servers.run(shutdown.soft()));

        let rest = plain("rest-listen", config.rest_listen).await?;
        let diagnostics = plain("diagnostics-listen", config.diagnostics_listen).await?;
        let listen = |flag, address| move |source| StartError::Listen { flag, address, source };
        let rest_tls = TlsListener::bind(config.rest_tls_listen, for_rest).await;
        let rest_tls = rest_tls.map_err(listen("rest-tls-listen", config.rest_tls_listen))?;
        let dataplanes = TlsListener::bind(config.dp_listen, for_dataplanes).await;
        let dataplanes = dataplanes.map_err(listen("dp-listen", config.dp_listen))?;
        let addresses = Addresses {
            rest: rest.local_addr().unwrap_or(config.rest_listen),
            rest_tls: rest_tls.local_addr(),
            diagnostics: diagnostics.local_addr().unwrap_or(config.diagnostics_listen),
            dataplanes: dataplanes.local_addr(),
        };
        Ok(Self { rest, rest_tls, diagnostics, dataplanes, addresses })
    }
}

async fn plain(flag: &'static str, address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|source| StartError::Listen { flag, address, source })
}

/// What people and proxies dial.
fn server_names(config: &Config) -> ServerNames {
    let host = hostname();
    let listened = [config.rest_tls_listen.ip(), config.dp_listen.ip()].map(|ip| ip.to_string());
    let dialled = ["localhost", "127.0.0.1", "::1", &host].into_iter();
    let dialled = dialled.chain(listened.iter().map(String::as_str)).chain(config.tls_san.iter().map(String::as_str));
    ServerNames::of(dialled.filter(|name| !name.is_empty() && *name != "0.0.0.0" && *name != "::"))
}

fn hostname() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").map(|name| name.trim().to_owned()).unwrap_or_default()
}

fn start_link(
    config: &Config,
    joined: Joined,
    dir: &ZoneDir,
    store: &Store,
    clock: &Arc<dyn Clock>,
    tasks: &Tasks,
    shutdown: &Shutdown,
) -> Result<watch::Receiver<Arc<LinkStatus>>, StartError> {
    let settings = ZoneConfig {
        addresses: config.global.iter().cloned().collect(),
        name: joined.zone_name.clone(),
        uid: dir.uid(),
        instance: "0".to_owned(),
        software: env!("CARGO_PKG_VERSION").to_owned(),
        cluster_id: joined.cluster_id,
    };
    let (identity, shown) = watch::channel(Arc::new(joined.identity()?));
    let review = Arc::new(ZoneReview::new(store.clone()));
    let link = ZoneLink::new(settings, shown, store.clone(), review, Arc::new(NoAnswers), tasks);
    let status = link.status();
    let (running, end) = (link, shutdown.clone());
    let renewal = join::Renewal {
        joined,
        identity,
        dir: dir.clone(),
        clock: Arc::clone(clock),
        addresses: config.global.iter().cloned().collect(),
    };
    tasks.spawn("link.renewal", renewal.run(shutdown.soft()));
    tasks.spawn("link", async move { running.run(&end).await });
    Ok(status)
}

/// This version answers no queries of global.
struct NoAnswers;

#[tonic::async_trait]
impl Answerer for NoAnswers {
    async fn answer(&self, path: &str, _: Bytes) -> Result<Bytes, String> {
        Err(format!("this version answers no query {path:?}"))
    }
}

/// What a proxy may have open at once on one connection (reliability.md 4.2).
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

fn plane(
    config: &Config,
    viewpoint: &Viewpoint,
    store: &Store,
    clock: &Arc<dyn Clock>,
    tokens: ZoneTokens,
    status: ZoneStatus,
) -> Plane {
    let available = store.availability();
    let info = Info::new(hostname(), format!("{}-0", config.zone), store.cluster_id().to_string(), viewpoint);
    Plane::new(PlaneParts {
        viewpoint: viewpoint.clone(),
        store: store.clone(),
        clock: clock.clone(),
        authenticate: Arc::new(tokens.clone()),
        tokens: Arc::new(tokens),
        status: Arc::new(status),
        admission: Arc::new(atoll_api::plane::AdmitAll),
        info,
        config: config.shown(),
        ready: Arc::new(move || if *available.borrow() { Ok(()) } else { Err("the store cannot be written".to_owned()) }),
    })
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

fn serve_rest(plane: Plane, rest: TcpListener, rest_tls: TlsListener, tasks: &Tasks, shutdown: &Shutdown) {
    let router = atoll_api::router(plane);
    tasks.spawn("rest", serve::serve(rest, router.clone(), Scheme::Http, shutdown.soft()));
    tasks.spawn("rest.tls", serve::serve(rest_tls, router, Scheme::Https, shutdown.soft()));
}

fn serve_diagnostics(
    config: &Config,
    listener: TcpListener,
    store: &Store,
    tasks: &Tasks,
    shutdown: &Shutdown,
) -> Result<(), StartError> {
    let token = config.metrics_token_file.as_ref().map(std::fs::read_to_string).transpose().map_err(StartError::MetricsToken)?;
    let available = store.availability();
    let ready = move || match *available.borrow() {
        true => Readiness::Ready,
        false => Readiness::NotReady("the store cannot be written; proxies are served from memory".to_owned()),
    };
    let diagnostics = Diagnostics {
        ready: Arc::new(ready),
        registry: Arc::new(Mutex::new(Registry::default())),
        metrics_token: token.map(|token| token.trim().to_owned()),
    };
    let stop = shutdown.soft();
    tasks.spawn("diagnostics", async move {
        if let Err(error) = diagnostics::serve(listener, diagnostics, stop).await {
            tracing::error!(%error, "the diagnostics port does not serve any more");
        }
    });
    Ok(())
}
