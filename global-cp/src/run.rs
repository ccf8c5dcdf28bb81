//! The wiring: everything global has, put together in one place.

use std::{
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use atoll_api::{
    Info, Plane, PlaneParts,
    access::oidc::Oidc,
    serve::{Gate, Hosts, Scheme, serve},
};
use atoll_link::{GlobalConfig, GlobalLink};
use atoll_model::{Clock, labels::Viewpoint};
use atoll_runtime::{
    clock::SystemClock,
    diagnostics::{self, Diagnostics, Readiness},
    shutdown::Shutdown,
    tasks::Tasks,
    tls::{self, ClientAuth, TlsError, TlsListener},
};
use atoll_store::{Store, StoreError, StoreMetrics};
use atoll_trust::ca::ServerNames;
use prometheus_client::registry::Registry;
use rand::{SeedableRng, rngs::StdRng};
use tokio::net::TcpListener;
use uuid::Uuid;

use crate::{
    Config, ConfigError, StoreAddress, first_start,
    metrics::{ApiMetrics, LinkMetrics},
    operator,
    overview::Overview,
    queries::ZoneLinks,
    store,
    zones::{
        GlobalKeys, GlobalTokens, KeysError, Revocations, TokenKeys, TrustDomains, ZoneRegistry, ZoneReview, departed,
        servers::{Servers, ServersError},
    },
};

/// How long the end of the program may take.
const GRACE: Duration = Duration::from_secs(10);
/// How often old tombstones and history are taken away, in small steps.
const PRUNE: Duration = Duration::from_secs(60);

/// Why the program cannot start. The text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A setting cannot work.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The database refuses or is not there.
    #[error(
        "the store at {address} cannot be reached; is the database running, and are user, password and name in --store right?"
    )]
    Unreachable {
        /// Where, without secrets.
        address: String,
        /// The last try's failure.
        source: StoreError,
    },
    /// The database's host says nothing.
    #[error("the store at {0} does not answer; is the address in --store right, and does a firewall stand between?")]
    NoAnswer(String),
    /// The store is there and cannot be used.
    #[error("the store at {address} cannot be used")]
    Store {
        /// Where, without secrets.
        address: String,
        /// Why.
        source: StoreError,
    },
    /// The key that seals secrets is missing, open to others, or another one than the store's.
    #[error("{0}")]
    SealKey(String),
    /// What only the first start writes cannot be read or written.
    #[error("the store does not take what the first start writes")]
    Rows(#[source] StoreError),
    /// The control plane's keys.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The servers' certificate.
    #[error(transparent)]
    Servers(#[from] ServersError),
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A port is taken, or its address is not this machine's.
    #[error("cannot listen at {address} for {what} ({source}); free it, or set --{flag} to another address and port")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What for.
        what: &'static str,
        /// The flag that sets it.
        flag: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The operator's credential cannot be written.
    #[error("cannot write the operator's credential to {path}: {why}")]
    Operator {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The token for metrics.
    #[error("--metrics-token-file: {0}")]
    MetricsToken(#[from] diagnostics::TokenError),
}

/// Where a running global listens: the real ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// REST without TLS.
    pub rest: SocketAddr,
    /// REST over TLS.
    pub rest_tls: SocketAddr,
    /// Diagnostics.
    pub diagnostics: SocketAddr,
    /// The link.
    pub link: SocketAddr,
    /// Joining.
    pub join: SocketAddr,
}

/// A running global.
pub struct Running {
    /// Where it listens.
    pub addresses: Addresses,
    /// Its store; for tests.
    pub store: Store,
    /// Its links; for tests and diagnostics.
    pub link: GlobalLink,
    tasks: Tasks,
    store_tasks: Tasks,
    shutdown: Shutdown,
}

impl Running {
    /// Waits for the end: until the shutdown begins, then until what runs has finished or 10 s have passed.
    pub async fn ended(self) {
        let Self { addresses: _, store, link, tasks, store_tasks, shutdown } = self;
        let (soft, hard) = (shutdown.soft(), shutdown.hard());
        soft.cancelled().await;
        tracing::info!("stopping: finishing what runs");
        drop(link);
        let finish = async {
            // The store ends last: requests that are being answered may still write.
            tasks.join_all(GRACE).await;
            store.close().await;
            store_tasks.join_all(Duration::from_secs(1)).await;
        };
        tokio::select! {
            () = finish => tracing::info!("stopped"),
            () = hard.cancelled() => tracing::warn!("stopped at once"),
        }
    }
}

/// Starts global; it serves when this returns.
///
/// # Errors
/// When it cannot start; nothing is left running but tasks that end with `shutdown`.
pub async fn run(config: Config, shutdown: Shutdown) -> Result<Running, StartError> {
    config.validate()?;
    tls::install_provider();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let (tasks, store_tasks) = (Tasks::new(), Tasks::new());
    let store = store::open(&config, clock.clone(), &store_tasks).await?;
    let started = assemble(&config, &shutdown, clock, &tasks, &store).await;
    if started.is_err() {
        shutdown.soft().cancel();
        store.close().await;
    }
    let (addresses, link) = started?;
    tracing::info!(
        rest = %addresses.rest, rest_tls = %addresses.rest_tls, link = %addresses.link, join = %addresses.join,
        diagnostics = %addresses.diagnostics, store = %config.store_address(), revision = %store.snapshot().revision(),
        "global serves"
    );
    Ok(Running { addresses, store, link, tasks, store_tasks, shutdown })
}

async fn assemble(
    config: &Config,
    shutdown: &Shutdown,
    clock: Arc<dyn Clock>,
    tasks: &Tasks,
    store: &Store,
) -> Result<(Addresses, GlobalLink), StartError> {
    let stop = shutdown.soft();
    let keys = Arc::new(GlobalKeys::open(store, clock.now(), &mut rand::rng()).await?);
    let registry = ZoneRegistry::new(store.clone(), keys.clone(), clock.clone(), StdRng::from_os_rng());
    let oidc = config.oidc.settings().map_err(ConfigError::Oidc)?.map(|settings| Oidc::new(settings, clock.clone()));
    let oidc = oidc.transpose().map_err(|fault| ConfigError::Oidc(fault.into()))?;
    let tokens = GlobalTokens::new(registry.clone()).with_oidc(oidc.clone());
    let tokens = tokens.on_shared(matches!(config.store_address(), StoreAddress::Postgres(_)));
    let servers = Servers::new(registry.clone(), server_names(config))?;
    let ports = Ports::bind(config, &servers, keys.ca.cert_pem()).await?;
    let addresses = ports.addresses()?;

    first_start::make_defaults(store).await.map_err(StartError::Rows)?;
    let url = operator::url(config, addresses.rest_tls);
    operator::write_once(store, &config.data_dir, &url, keys.ca.cert_pem(), &tokens).await?;

    let instance = Uuid::now_v7().to_string();
    let (trust_domains, faults) = TrustDomains::new(store.clone());
    let insights = Arc::new(crate::insights::Insights::default());
    let link = GlobalLink::new(
        GlobalConfig { instance: instance.clone(), software: env!("CARGO_PKG_VERSION").to_owned() },
        store.clone(),
        Arc::new(registry.clone()),
        Arc::new(registry.clone()),
        Arc::new(ZoneReview::new(store.clone())),
        insights.clone(),
        tasks,
    );
    let overview = Arc::new(Overview { store: store.clone(), link: link.clone(), insights, faults, clock: clock.clone() });
    let parts = PlaneParts {
        viewpoint: Viewpoint::Global,
        store: store.clone(),
        clock: clock.clone(),
        authenticate: Arc::new(tokens.clone()),
        tokens: Arc::new(tokens),
        status: overview.clone(),
        admission: overview,
        links: Arc::new(ZoneLinks { store: store.clone(), link: link.clone() }),
        info: Info::new(host_name(), instance, store.cluster_id().to_string(), &Viewpoint::Global),
        config: config.shown(),
        ready: ready(store.clone(), stop.clone()),
    };
    let plane = Plane::within(parts, config.limits);

    let (steps, step_stop) = (registry, stop.clone());
    tasks.spawn("zones.registry", async move { steps.run(step_stop).await });
    tasks.spawn("zones.trust_domains", trust_domains.run(stop.clone()));
    let token_keys = TokenKeys::new(store.clone(), keys.tokens.public());
    tasks.spawn("zones.token_keys", token_keys.run(stop.clone()));
    tasks.spawn("zones.revocations", Revocations::new(store.clone(), clock.clone()).run(stop.clone()));
    if let Some(oidc) = oidc {
        tasks.spawn("oidc", oidc.run(stop.clone()));
    }
    tasks.spawn("zones.departed", departed::run(store.clone(), stop.clone()));
    tasks.spawn("zones.servers", servers.run(clock.clone(), stop.clone()));
    tasks.spawn("store.prune", prune(store.clone(), stop.clone()));
    let gate = Gate::new(config.limits, Hosts::of(dialled(config)));
    ports.serve((&plane, &gate), &link, shutdown, tasks, clock);
    Ok((addresses, link))
}

/// What the servers' certificates name: what people dial.
fn server_names(config: &Config) -> ServerNames {
    ServerNames::of(dialled(config).iter().map(String::as_str))
}

/// The names and addresses under which this plane is known.
fn dialled(config: &Config) -> Vec<String> {
    let host = host_name();
    let listens = [config.rest_tls_listen, config.link_listen, config.join_listen];
    let addresses: Vec<String> =
        listens.iter().map(SocketAddr::ip).filter(|ip| !ip.is_unspecified()).map(|ip| ip.to_string()).collect();
    let mut dialled: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).into();
    dialled.extend(addresses);
    dialled.extend(Some(host).filter(|host| atoll_model::names::is_hostname(host)));
    dialled.extend(config.tls_san.iter().cloned());
    dialled.extend(config.public_host().map(str::to_owned));
    dialled.sort_unstable();
    dialled.dedup();
    dialled
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim().to_ascii_lowercase();
    if name.is_empty() { "localhost".to_owned() } else { name }
}

/// Whether this instance can do its job.
fn ready(store: Store, stop: tokio_util::sync::CancellationToken) -> Arc<dyn Fn() -> Result<(), String> + Send + Sync> {
    Arc::new(move || {
        if stop.is_cancelled() {
            Err("the program is stopping".to_owned())
        } else if !store.is_available() {
            Err("the store takes no writes; reads go on".to_owned())
        } else {
            Ok(())
        }
    })
}

async fn prune(store: Store, stop: tokio_util::sync::CancellationToken) {
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

/// The listeners, bound before anything is served: a taken port stops the start.
struct Ports {
    rest: TcpListener,
    rest_tls: TlsListener,
    diagnostics: TcpListener,
    metrics_token: Option<String>,
    link: TlsListener,
    join: TlsListener,
}

impl Ports {
    async fn bind(config: &Config, servers: &Servers, ca: &str) -> Result<Self, StartError> {
        let identity = servers.identity();
        let people = config.client_certificates.auth().map_err(ConfigError::ClientCa)?;
        let web = tls::server_config(identity.clone(), people, &[b"h2", b"http/1.1"])?;
        let zones = tls::server_config(identity.clone(), ClientAuth::Required(tls::roots_from_pem(ca)?), &[b"h2"])?;
        let joining = tls::server_config(identity, ClientAuth::None, &[b"h2"])?;
        if !config.rest_listen.ip().is_loopback() {
            tracing::warn!(address = %config.rest_listen, "REST without TLS is open to other machines: tokens travel in clear");
        }
        let fail = |address, what, flag| move |source| StartError::Listen { address, what, flag, source };
        let (rest, rest_tls) = (config.rest_listen, config.rest_tls_listen);
        let (diagnostics, link, join) = (config.diagnostics_listen, config.link_listen, config.join_listen);
        Ok(Self {
            rest: TcpListener::bind(rest).await.map_err(fail(rest, "REST", "rest-listen"))?,
            rest_tls: TlsListener::bind(rest_tls, web).await.map_err(fail(rest_tls, "REST over TLS", "rest-tls-listen"))?,
            diagnostics: TcpListener::bind(diagnostics).await.map_err(fail(diagnostics, "diagnostics", "diagnostics-listen"))?,
            metrics_token: config.metrics_token_file.as_deref().map(diagnostics::read_token).transpose()?,
            link: TlsListener::bind(link, zones).await.map_err(fail(link, "the link", "link-listen"))?,
            join: TlsListener::bind(join, joining).await.map_err(fail(join, "joining zones", "join-listen"))?,
        })
    }

    fn addresses(&self) -> Result<Addresses, StartError> {
        let real = |listener: &TcpListener, what, flag| {
            let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
            listener.local_addr().map_err(|source| StartError::Listen { address: unknown, what, flag, source })
        };
        Ok(Addresses {
            rest: real(&self.rest, "REST", "rest-listen")?,
            rest_tls: self.rest_tls.local_addr(),
            diagnostics: real(&self.diagnostics, "diagnostics", "diagnostics-listen")?,
            link: self.link.local_addr(),
            join: self.join.local_addr(),
        })
    }

    fn serve(self, (plane, gate): (&Plane, &Gate), link: &GlobalLink, shutdown: &Shutdown, tasks: &Tasks, clock: Arc<dyn Clock>) {
        let Self { rest, rest_tls, diagnostics, metrics_token, link: links, join } = self;
        let (router, stop) = (atoll_api::router(plane.clone()), shutdown.soft());
        tasks.spawn("rest", serve(rest, router.clone(), Scheme::Http, gate.clone(), stop.clone()));
        tasks.spawn("rest.tls", serve(rest_tls, router, Scheme::Https, gate.clone(), stop.clone()));
        let (linked, ending) = (link.clone(), shutdown.clone());
        tasks.spawn("link", async move { linked.serve(links, &ending).await });
        let (linked, ending) = (link.clone(), shutdown.clone());
        tasks.spawn("join", async move { linked.serve_join(join, &ending).await });

        let mut registry = Registry::default();
        registry.register_collector(Box::new(StoreMetrics::new(plane.store.clone())));
        registry.register_collector(Box::new(LinkMetrics { link: link.clone(), clock }));
        registry.register_collector(Box::new(ApiMetrics { denied: plane.denied_counts(), gate: gate.clone() }));
        let ready = plane.ready.clone();
        let shown = Diagnostics {
            ready: Arc::new(move || ready().map_or_else(Readiness::NotReady, |()| Readiness::Ready)),
            registry: Arc::new(Mutex::new(registry)),
            metrics_token,
        };
        tasks.spawn("diagnostics", async move {
            if let Err(error) = diagnostics::serve(diagnostics, shown, stop).await {
                tracing::error!(%error, "the diagnostics port failed");
            }
        });
    }
}
