//! A global in this process, on free ports, with its data in a temporary place.

use std::{net::SocketAddr, path::Path, time::Duration};

use atoll_global_cp::{Config, Running, StartError, run};
use atoll_runtime::{shutdown::Shutdown, tls};
use http::Method;
use serde::Deserialize;
use serde_json::Value;

/// What operator.yaml says.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Operator {
    pub(crate) url: String,
    pub(crate) ca: String,
    pub(crate) token: String,
}

pub(crate) struct Global {
    pub(crate) running: Running,
    pub(crate) shutdown: Shutdown,
}

/// The settings of a global with its data in `data`, on `store`; further flags may follow.
pub(crate) fn config(data: &Path, store: Option<&str>, more: &[&str]) -> Config {
    let mut args = vec!["global-cp", "--data-dir", data.to_str().unwrap()];
    for flag in ["--rest-listen", "--rest-tls-listen", "--diagnostics-listen", "--link-listen", "--join-listen"] {
        args.extend([flag, "127.0.0.1:0"]);
    }
    args.extend(store.into_iter().flat_map(|store| ["--store", store]));
    args.extend(more);
    Config::read(args.into_iter().map(Into::into)).unwrap()
}

pub(crate) async fn try_start(config: Config) -> Result<Global, StartError> {
    let shutdown = Shutdown::new();
    Ok(Global { running: run(config, shutdown.clone()).await?, shutdown })
}

impl Global {
    pub(crate) async fn start(data: &Path, store: Option<&str>) -> Self {
        try_start(config(data, store, &[])).await.unwrap_or_else(|error| panic!("{error}: {error:?}"))
    }

    pub(crate) async fn stop(self) {
        self.shutdown.soft().cancel();
        tokio::time::timeout(Duration::from_secs(15), self.running.ended()).await.expect("it did not end within 15 s");
    }

    pub(crate) fn url(&self) -> String {
        format!("https://{}", self.running.addresses.rest_tls)
    }
}

pub(crate) fn operator(data: &Path) -> Operator {
    serde_saphyr::from_str(&std::fs::read_to_string(data.join("operator.yaml")).unwrap()).unwrap()
}

/// HTTPS that trusts only `ca`.
pub(crate) fn https(ca: &str) -> reqwest::Client {
    tls::install_provider();
    let config = tls::client_config(tls::roots_from_pem(ca).unwrap(), None, &[b"h2", b"http/1.1"]).unwrap();
    let config = rustls::ClientConfig::clone(&config);
    reqwest::Client::builder().tls_backend_preconfigured(config).no_proxy().timeout(Duration::from_secs(20)).build().unwrap()
}

/// A request with the operator's credential to the plane at `url`: status and JSON.
pub(crate) async fn call(operator: &Operator, url: &str, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
    let mut request = https(&operator.ca).request(method, format!("{url}{path}")).bearer_auth(&operator.token);
    if let Some(body) = body {
        request = request.header("content-type", "application/json").body(body.to_string());
    }
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    (status, serde_json::from_str(&response.text().await.unwrap()).unwrap_or_default())
}

/// A plain GET without any credential: status and text.
pub(crate) async fn plain(address: SocketAddr, path: &str) -> (u16, String) {
    tls::install_provider();
    let client = reqwest::Client::builder().tls_backend_preconfigured(any_tls()).no_proxy().build().unwrap();
    let response = client.get(format!("http://{address}{path}")).send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

fn any_tls() -> rustls::ClientConfig {
    let empty = tls::client_config(rustls::RootCertStore::empty(), None, &[]).unwrap();
    rustls::ClientConfig::clone(&empty)
}
