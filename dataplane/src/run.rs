//! `atoll-dp run`: puts everything together.

mod launches;
mod runner;
mod shown;

use std::{ffi::OsString, net::SocketAddr, path::PathBuf, sync::Arc};

use atoll_runtime::tls;
use tokio::net::TcpListener;
use tracing::info;

use crate::{
    args::RunArgs,
    bootstrap::{self, Admin},
    credentials::{self, CredentialFault, ZoneTrust},
    dns::{DnsFault, DnsServer, Upstream, upstream::UpstreamFault},
    document::{self, DocumentFault, Proxy},
    envoy::{
        binary::{self, Binary, BinaryFault},
        process::Process,
        supervisor::SupervisorFault,
    },
    folder::{Folder, FolderFault},
    probes::{ProbeFault, Probes},
    zone::{self, AddressFault},
};
use runner::Runner;

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
    /// A health check.
    #[error(transparent)]
    Probe(#[from] ProbeFault),
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
    probes: Probes,
}

/// Runs until told to end.
///
/// # Errors
/// One message that says what to do.
pub async fn run(args: RunArgs, environment: Environment) -> Result<(), RunFault> {
    tls::install_provider();
    let prepared = prepare(args, environment).await?;
    Runner::start(prepared).until_the_end().await
}

async fn prepare(args: RunArgs, environment: Environment) -> Result<Prepared, RunFault> {
    let address = zone::parse_address(&args.cp_address)?;
    let proxy = document::read(args.dataplane_file.as_deref(), &args.variables(), args.name.as_deref(), args.mesh.as_deref())?;
    let probes = Probes::new(&proxy.dataplane, &args.service_probe)?;
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
    let adopted = Process::adopt(&folder, &admin, &proxy.node_id()).await;
    match (&adopted, &admin) {
        (Some(process), _) => info!(pid = process.pid(), "the Envoy that runs here is adopted"),
        (None, Admin::Tcp(address)) => drop(listen("Envoy's admin", address.ip(), address.port(), "--envoy-admin-port").await?),
        (None, Admin::Unix(_)) => {}
    }
    let proxy = Arc::new(proxy);
    Ok(Prepared { args, proxy, address, trust, binary, folder, admin, dns, readiness, readiness_address, adopted, probes })
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
