//! Every port of the zone plane.

use std::{net::SocketAddr, sync::Arc};

use atoll_model::Clock;
use atoll_runtime::{
    shutdown::Shutdown,
    tasks::Tasks,
    tls::{self, ClientAuth, TlsListener},
};
use atoll_trust::ca::{ServerNames, ZoneCa};
use rand::{SeedableRng, rngs::StdRng};
use tokio::net::TcpListener;

use super::{StartError, hostname};
use crate::{Config, config::ConfigError, identity::Servers};

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

/// Every port, bound before anything else is done, so that a taken one is known at once.
pub(super) struct Listeners {
    pub(super) rest: TcpListener,
    pub(super) rest_tls: TlsListener,
    pub(super) diagnostics: TcpListener,
    pub(super) dataplanes: TlsListener,
    pub(super) addresses: Addresses,
}

impl Listeners {
    pub(super) async fn bind(
        config: &Config,
        ca: &Arc<ZoneCa>,
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
        let people = config.client_certificates.auth().map_err(ConfigError::ClientCa)?;
        let for_rest = tls::server_config(servers.identity(), people, http)?;
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
    ServerNames::of(dialled(config).iter().map(String::as_str))
}

/// The names and addresses under which this plane is known.
pub(super) fn dialled(config: &Config) -> Vec<String> {
    let listened = [config.rest_tls_listen.ip(), config.dp_listen.ip()].map(|ip| ip.to_string());
    let fixed = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
    let names = fixed.into_iter().chain([hostname()]).chain(listened).chain(config.tls_san.iter().cloned());
    names.filter(|name| !name.is_empty() && name != "0.0.0.0" && name != "::").collect()
}
