//! `atoll-dp run`: puts everything together.

use std::{
    ffi::OsString,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use atoll_runtime::{
    diagnostics::{self, Diagnostics, Readiness},
    shutdown::Shutdown,
    tasks::Tasks,
    tls,
};
use prometheus_client::{metrics::counter::Counter, registry::Registry};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::{
    args::RunArgs,
    bootstrap::{self, Admin, Local, Parameters},
    credentials::{self, CredentialFault, ZoneTrust},
    dns::{DnsFault, DnsServer, Table, Upstream, server::Questions, upstream::UpstreamFault},
    document::{self, DocumentFault, Proxy},
    drain,
    envoy::{
        binary::{self, Binary, BinaryFault},
        process::{Launch, Process},
        supervisor::{EnvoyStatus, Supervisor, SupervisorFault},
    },
    folder::{Folder, FolderFault, Status},
    probes, proto, readiness,
    session::{Down, Link, Session, Up},
    zone::{self, AddressFault},
};

/// How long a new Envoy waits for its zone's word before it is started by the last one.
const ZONE_FIRST: Duration = Duration::from_secs(3);
/// How long tasks may take to end.
const JOIN: Duration = Duration::from_secs(2);

/// What the machine says.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// `$ENVOY`.
    pub envoy: Option<OsString>,
    /// `$PATH`.
    pub path: Option<OsString>,
    /// `$HOME`.
    pub home: Option<PathBuf>,
    /// Text of /etc/resolv.conf.
    pub resolv_conf: String,
}

impl Environment {
    /// Of this process.
    pub fn of_this_process() -> Self {
        Self {
            envoy: std::env::var_os("ENVOY"),
            path: std::env::var_os("PATH"),
            home: std::env::var_os("HOME").map(PathBuf::from),
            resolv_conf: std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default(),
        }
    }
}

/// Why the runner ended.
#[derive(Debug, thiserror::Error)]
pub enum RunFault {
    /// The document.
    #[error(transparent)]
    Document(#[from] DocumentFault),
    /// The zone's address.
    #[error(transparent)]
    Address(#[from] AddressFault),
    /// Token or CA.
    #[error(transparent)]
    Credential(#[from] CredentialFault),
    /// No Envoy.
    #[error(transparent)]
    Binary(#[from] BinaryFault),
    /// The folder.
    #[error(transparent)]
    Folder(#[from] FolderFault),
    /// DNS.
    #[error(transparent)]
    Dns(#[from] DnsFault),
    /// DNS servers.
    #[error(transparent)]
    Upstream(#[from] UpstreamFault),
    /// A port.
    #[error("{what}: cannot listen at {address}: {error}. Choose another {flag}")]
    Listen {
        /// What wants to listen.
        what: &'static str,
        /// Where.
        address: SocketAddr,
        /// Why not.
        error: std::io::Error,
        /// The flag to change.
        flag: &'static str,
    },
    /// Signal handlers.
    #[error("cannot take signals: {0}")]
    Signals(std::io::Error),
    /// Envoy.
    #[error(transparent)]
    Envoy(#[from] SupervisorFault),
    /// The zone, for good, and no Envoy runs that would have to be kept.
    #[error("{0}")]
    Refused(String),
}

/// What has been found and bound before anything runs.
struct Prepared {
    args: RunArgs,
    proxy: Arc<Proxy>,
    address: String,
    trust: Arc<ZoneTrust>,
    binary: Binary,
    folder: Arc<Folder>,
    admin: Admin,
    dns: Option<(DnsServer, Upstream)>,
    readiness: TcpListener,
    readiness_address: SocketAddr,
    adopted: Option<Process>,
}

/// Runs until told to end.
///
/// # Errors
/// One message that says what to do.
pub async fn run(args: RunArgs, environment: Environment) -> Result<(), RunFault> {
    tls::install_provider();
    let prepared = prepare(args, environment).await?;
    Runner::start(prepared)?.until_the_end().await
}

async fn prepare(args: RunArgs, environment: Environment) -> Result<Prepared, RunFault> {
    let address = zone::parse_address(&args.cp_address)?;
    let proxy = document::read(args.dataplane_file.as_deref(), &args.variables(), args.name.as_deref(), args.mesh.as_deref())?;
    let token = credentials::read_token(args.dataplane_token_file.as_deref())?;
    let trust = Arc::new(ZoneTrust::new(args.ca_cert_file.as_deref(), token.pin)?);
    let (envoy, path) = (environment.envoy.as_deref(), environment.path.as_deref());
    let binary = binary::find(args.binary_path.as_deref(), envoy, path).await?;
    let root = match &args.config_dir {
        Some(root) => root.clone(),
        None => Folder::default_path(&proxy.mesh, &proxy.name, environment.home.as_deref())?,
    };
    let folder = Arc::new(Folder::open(&root)?);
    let admin = match args.envoy_admin_port {
        0 => Admin::Unix(folder.admin_socket()?),
        port => Admin::Tcp(SocketAddr::new(args.envoy_admin_addr, port)),
    };
    let dns = bind_dns(&args, &environment.resolv_conf).await?;
    let (readiness, readiness_address) =
        listen("readiness", args.readiness_addr, args.readiness_port, "--readiness-port").await?;
    folder.write("token", token.bare.expose().as_bytes())?;
    folder.write("token.yaml", &bootstrap::token_secret(&folder.path("token")))?;
    if let Some(pem) = trust.ca_pem() {
        folder.write("zone-ca.pem", pem.as_bytes())?;
    }
    let adopted = Process::adopt(&folder, &admin, &format!("{}.{}", proxy.mesh, proxy.name)).await;
    match (&adopted, &admin) {
        (Some(process), _) => info!(pid = process.pid(), "the Envoy that runs here is adopted"),
        (None, Admin::Tcp(address)) => drop(listen("Envoy's admin", address.ip(), address.port(), "--envoy-admin-port").await?),
        (None, Admin::Unix(_)) => {}
    }
    let proxy = Arc::new(proxy);
    Ok(Prepared { args, proxy, address, trust, binary, folder, admin, dns, readiness, readiness_address, adopted })
}

async fn bind_dns(args: &RunArgs, resolv_conf: &str) -> Result<Option<(DnsServer, Upstream)>, RunFault> {
    if !args.dns_enabled {
        return Ok(None);
    }
    let server = DnsServer::bind(SocketAddr::new(args.dns_addr, args.dns_port)).await?;
    let upstream = Upstream::new(&args.dns_upstream, resolv_conf, Some(server.address()))?;
    Ok(Some((server, upstream)))
}

async fn listen(
    what: &'static str,
    ip: std::net::IpAddr,
    port: u16,
    flag: &'static str,
) -> Result<(TcpListener, SocketAddr), RunFault> {
    let address = SocketAddr::new(ip, port);
    let fault = |error| RunFault::Listen { what, address, error, flag };
    let listener = TcpListener::bind(address).await.map_err(fault)?;
    let address = listener.local_addr().map_err(fault)?;
    Ok((listener, address))
}

/// A runner that runs.
struct Runner {
    args: RunArgs,
    folder: Arc<Folder>,
    admin: Admin,
    tasks: Tasks,
    shutdown: Shutdown,
    /// Ends the session, DNS and readiness.
    stop: CancellationToken,
    /// Ends the supervision of Envoy.
    release: CancellationToken,
    supervised: mpsc::Receiver<Result<Option<Process>, SupervisorFault>>,
    envoy: watch::Receiver<EnvoyStatus>,
    link: watch::Receiver<Link>,
    orders: mpsc::Receiver<proto::Order>,
    draining: watch::Sender<bool>,
    withdrawn: watch::Receiver<bool>,
}

/// What is counted.
#[derive(Default)]
struct Metrics {
    questions: Questions,
    starts: Counter,
    registry: Arc<Mutex<Registry>>,
}

impl Metrics {
    fn new() -> Self {
        let mut registry = Registry::with_prefix("atoll_dp");
        let (questions, starts) = (Questions::default(), Counter::default());
        registry.register("dns_questions", "DNS questions by outcome", questions.clone());
        registry.register("envoy_starts", "Starts of Envoy by this runner", starts.clone());
        Self { questions, starts, registry: Arc::new(Mutex::new(registry)) }
    }
}

impl Runner {
    fn start(prepared: Prepared) -> Result<Self, RunFault> {
        let Prepared { args, proxy, address, trust, binary, folder, admin, dns, readiness, readiness_address, adopted } =
            prepared;
        let (tasks, shutdown) = (Tasks::new(), Shutdown::new());
        let (stop, release, metrics) = (CancellationToken::new(), CancellationToken::new(), Metrics::new());
        let (envoy_sender, envoy) = watch::channel(EnvoyStatus::default());
        let (link_sender, link) = watch::channel(Link::Down);
        let (parameters_sender, parameters) = watch::channel(None);
        let (table_sender, table) = watch::channel(Arc::new(folder.load::<Table>("names.json").unwrap_or_default()));
        let (draining, draining_receiver) = watch::channel(false);
        let (withdrawn_sender, withdrawn) = watch::channel(false);
        let (orders_sender, orders) = mpsc::channel(4);
        let dns_address = dns.as_ref().map(|(server, _)| server.address().to_string());
        let status = Status {
            pid: std::process::id(),
            envoy_pid: None,
            dns: dns_address.clone(),
            readiness: readiness_address.to_string(),
            admin: admin.to_string(),
        };
        info!(dns = dns_address, readiness = %readiness_address, admin = %admin, "listening");

        let launches = spawn_launches(&tasks, &args, &address, &binary, &folder, &admin, &proxy, adopted.is_some(), parameters);
        let supervisor = Supervisor {
            folder: folder.clone(),
            admin: admin.clone(),
            expected: readiness::expected(&proxy.dataplane),
            launches,
            status: envoy_sender,
            starts: metrics.starts.clone(),
        };
        let (report, supervised) = mpsc::channel(1);
        let ended = release.clone();
        tasks.spawn("envoy", async move { drop(report.send(supervisor.run(adopted, ended).await).await) });
        let about = proto::Register {
            instance: folder.instance().to_owned(),
            versions: Some(proto::Versions { runner: env!("CARGO_PKG_VERSION").to_owned(), envoy: binary.version.clone() }),
            bind_outbounds: args.bind_outbounds.map(|range| range.to_string()).unwrap_or_default(),
            listeners: Some(proto::Listeners {
                dns: dns_address.unwrap_or_default(),
                readiness: status.readiness.clone(),
                admin: status.admin.clone(),
            }),
            ..proto::Register::default()
        };
        let health = probes::start(&proxy.dataplane, &tasks, &stop);
        let session = Session {
            address,
            trust,
            token_file: args.dataplane_token_file.clone(),
            folder: folder.clone(),
            proxy,
            about,
            up: Up { envoy: envoy.clone(), health, draining: draining_receiver },
            down: Down {
                link: link_sender,
                parameters: parameters_sender,
                table: table_sender,
                withdrawn: withdrawn_sender,
                orders: orders_sender,
            },
        };
        until(&tasks, "session", &stop, session.run());
        until(&tasks, "names", &stop, keep_names(folder.clone(), table.clone()));
        until(&tasks, "status", &stop, keep_status(folder.clone(), status, envoy.clone()));
        if let Some((server, upstream)) = dns {
            tasks.spawn("dns", server.serve(table, upstream, metrics.questions, stop.clone()));
        }
        spawn_readiness(&tasks, readiness, &envoy, &draining, metrics.registry, &stop);
        Ok(Self { args, folder, admin, tasks, shutdown, stop, release, supervised, envoy, link, orders, draining, withdrawn })
    }

    async fn until_the_end(mut self) -> Result<(), RunFault> {
        let result = self.wait().await;
        if result.is_ok() {
            self.drain().await;
        }
        self.stop.cancel();
        self.release.cancel();
        self.tasks.join_all(JOIN).await;
        self.folder.remove("status.json");
        result
    }

    /// Returns when it is time to drain.
    async fn wait(&mut self) -> Result<(), RunFault> {
        let shutdown = self.shutdown.clone();
        let signals = shutdown.on_signals();
        tokio::pin!(signals);
        loop {
            tokio::select! {
                done = &mut signals => return done.map_err(RunFault::Signals),
                Some(ended) = self.supervised.recv() => return ended.map(drop).map_err(RunFault::Envoy),
                Some(order) = self.orders.recv() => if order.action == i32::from(proto::Action::Drain) {
                    info!("the zone orders to drain: {}", order.reason);
                    return Ok(());
                },
                Ok(()) = self.link.changed() => {
                    let link = self.link.borrow_and_update().clone();
                    // An Envoy that runs goes on with what it has; the operator sees the refusals in the log.
                    if let Link::Refused { reason, lasting: true } = link
                        && self.envoy.borrow().pid.is_none()
                    {
                        return Err(RunFault::Refused(reason));
                    }
                }
            }
        }
    }

    async fn drain(&mut self) {
        self.draining.send_replace(true);
        if *self.link.borrow() == Link::Registered {
            tokio::select! {
                () = drain::withdrawn(self.withdrawn.clone()) => {}
                () = self.shutdown.hard().cancelled_owned() => {}
            }
        }
        self.release.cancel();
        if let Some(Ok(Some(mut process))) = self.supervised.recv().await {
            drain::connections(&self.admin, &mut process, self.args.drain_time, &self.shutdown.hard()).await;
            process.stop(&self.folder).await;
            info!("Envoy is stopped");
        }
    }
}

/// Runs a future until `stop` is cancelled.
fn until(tasks: &Tasks, name: &'static str, stop: &CancellationToken, future: impl Future<Output = ()> + Send + 'static) {
    let stop = stop.clone();
    tasks.spawn(name, async move {
        tokio::select! {
            () = future => {}
            () = stop.cancelled() => {}
        }
    });
}

/// Makes launches out of the zone's parameters. The last ones that are known hold at once for an adopted Envoy, and after a moment
/// for a new one when the zone is away.
fn spawn_launches(
    tasks: &Tasks,
    args: &RunArgs,
    address: &str,
    binary: &Binary,
    folder: &Folder,
    admin: &Admin,
    proxy: &Proxy,
    adopted: bool,
    mut parameters: watch::Receiver<Option<Parameters>>,
) -> watch::Receiver<Option<Arc<Launch>>> {
    let local = Local {
        dialled: address.to_owned(),
        ca_file: folder.path("zone-ca.pem"),
        token_secret_file: folder.path("token.yaml"),
        admin: admin.clone(),
        bind_outbounds: args.bind_outbounds,
        max_connections: args.max_connections,
    };
    let (program, concurrency, log_level) = (binary.path.clone(), args.concurrency, args.envoy_log_level.clone());
    let launch = move |parameters: &Parameters| {
        Arc::new(Launch {
            program: program.clone(),
            bootstrap: bootstrap::bootstrap(parameters, &local),
            drain_seconds: parameters.drain_seconds,
            concurrency,
            log_level: log_level.clone(),
        })
    };
    let node_id = format!("{}.{}", proxy.mesh, proxy.name);
    let saved = folder.load::<Parameters>("parameters.json").filter(|saved| saved.node_id == node_id);
    let saved = saved.filter(|_| folder.path("zone-ca.pem").exists());
    let (sender, launches) = watch::channel(saved.as_ref().filter(|_| adopted).map(&launch));
    tasks.spawn("launches", async move {
        if let (Some(saved), false) = (saved, adopted)
            && tokio::time::timeout(ZONE_FIRST, parameters.wait_for(Option::is_some)).await.is_err()
        {
            info!("the zone is away: Envoy is started with its last word");
            sender.send_replace(Some(launch(&saved)));
        }
        loop {
            if let Some(parameters) = parameters.borrow_and_update().as_ref() {
                sender.send_replace(Some(launch(parameters)));
            }
            if parameters.changed().await.is_err() {
                return;
            }
        }
    });
    launches
}

fn spawn_readiness(
    tasks: &Tasks,
    listener: TcpListener,
    envoy: &watch::Receiver<EnvoyStatus>,
    draining: &watch::Sender<bool>,
    registry: Arc<Mutex<Registry>>,
    stop: &CancellationToken,
) {
    let (envoy, draining) = (envoy.clone(), draining.subscribe());
    let ready = move || match *draining.borrow() {
        true => Readiness::NotReady("terminating".to_owned()),
        false => envoy.borrow().readiness.clone(),
    };
    let diagnostics = Diagnostics { ready: Arc::new(ready), registry, metrics_token: None };
    let stop = stop.clone();
    tasks.spawn("readiness", async move {
        if let Err(error) = diagnostics::serve(listener, diagnostics, stop).await {
            tracing::error!(%error, "readiness cannot be served any more");
        }
    });
}

/// Writes each table down, so that a restarted runner answers at once.
async fn keep_names(folder: Arc<Folder>, mut table: watch::Receiver<Arc<Table>>) {
    while table.changed().await.is_ok() {
        let (folder, table) = (folder.clone(), table.borrow_and_update().clone());
        let saved = tokio::task::spawn_blocking(move || folder.save("names.json", &*table)).await;
        if let Ok(Err(error)) = saved {
            tracing::warn!("the names cannot be kept for a restart: {error}");
        }
    }
}

/// Writes down which processes run.
async fn keep_status(folder: Arc<Folder>, mut status: Status, mut envoy: watch::Receiver<EnvoyStatus>) {
    loop {
        status.envoy_pid = envoy.borrow_and_update().pid;
        if let Err(error) = folder.save("status.json", &status) {
            tracing::warn!("status.json cannot be written: {error}");
        }
        let pid = status.envoy_pid;
        if envoy.wait_for(|envoy| envoy.pid != pid).await.is_err() {
            return;
        }
    }
}
