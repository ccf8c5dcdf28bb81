//! A zone in this process, on free ports, with its data in a temporary place, and its operator.

use std::{net::SocketAddr, path::Path, time::Duration};

use atoll_runtime::{shutdown::Shutdown, tls};
use atoll_zone_cp::{Config, Running, StartError, run};
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;

/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// The workload of the proxy under test.
pub(crate) const WEB: &str = "web";

/// What operator.yaml says.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Operator {
    pub(crate) ca: String,
    pub(crate) token: String,
}

pub(crate) struct Zone {
    pub(crate) running: Running,
    pub(crate) operator: Operator,
    shutdown: Shutdown,
    client: reqwest::Client,
}

/// The settings of a stand-alone zone with its data in `data`; further flags may follow.
pub(crate) fn config(data: &Path, more: &[&str]) -> Config {
    let mut args = vec!["zone-cp", "--zone", "azure", "--data-dir", data.to_str().unwrap()];
    for flag in ["--rest-listen", "--rest-tls-listen", "--diagnostics-listen", "--dp-listen"] {
        args.extend([flag, "127.0.0.1:0"]);
    }
    args.extend(more);
    Config::read(args.into_iter().map(Into::into)).unwrap()
}

pub(crate) async fn try_start(config: Config) -> Result<Zone, StartError> {
    let (shutdown, data) = (Shutdown::new(), config.data_dir.clone());
    let running = run(config, shutdown.clone()).await?;
    let text = std::fs::read_to_string(data.join("operator.yaml")).unwrap();
    let operator: Operator = serde_saphyr::from_str(&text).unwrap();
    let client = https(&operator.ca);
    Ok(Zone { running, operator, shutdown, client })
}

impl Zone {
    pub(crate) async fn start(data: &Path) -> Self {
        try_start(config(data, &[])).await.unwrap_or_else(|error| panic!("{error}: {error:?}"))
    }

    /// A zone whose mesh has identities, and the proxy `web-1` beside the services `api` and `db`.
    pub(crate) async fn with_mesh() -> (TempDir, Self) {
        let folder = tempfile::tempdir().unwrap();
        let zone = Self::start(&folder.path().join("data")).await;
        zone.put("/meshes/default/meshidentities/identity", identity()).await;
        for (name, workload, port) in [("web-1", WEB, 7001), ("api-1", "api", 7002), ("db-1", "db", 7003)] {
            zone.put(&format!("/meshes/default/dataplanes/{name}"), dataplane(name, workload, port)).await;
        }
        eventually("the services have addresses and identities", async || {
            let view = zone.running.view.borrow().clone();
            let mesh = &view.meshes[&atoll_model::Name::from("default")];
            let whole = |service: &atoll_mesh::snapshot::Service| service.vip.is_some() && !service.identities.is_empty();
            mesh.services.len() == 3 && mesh.services.values().all(|service| whole(service))
        })
        .await;
        (folder, zone)
    }

    /// Ends it, and waits until its data directory is free.
    pub(crate) async fn stop(self, data: &Path) {
        self.shutdown.soft().cancel();
        drop(self.client);
        tokio::time::timeout(PATIENCE, self.running.wait()).await.expect("it did not end in time");
        // SQLite closes behind the last handle, in a thread of its own.
        let log = data.join("store/atoll.db-wal");
        eventually("the store's file is whole", async || !log.exists()).await;
    }

    /// A request with the operator's credential: status and JSON, or text.
    pub(crate) async fn call(&self, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
        self.call_as(&self.operator.token, method, path, body).await
    }

    /// The same with another token.
    pub(crate) async fn call_as(&self, token: &str, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
        let url = format!("https://{}{path}", self.running.addresses.rest_tls);
        let mut request = self.client.request(method, url).bearer_auth(token);
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        let text = response.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    pub(crate) async fn put(&self, path: &str, document: Value) {
        let (status, answer) = self.call(Method::PUT, path, Some(document)).await;
        assert!(matches!(status, 200 | 201), "{path}: {status} {answer}");
    }

    /// A dataplane token.
    pub(crate) async fn token(&self, request: Value) -> String {
        let (status, token) = self.call(Method::POST, "/tokens/dataplane", Some(request)).await;
        assert_eq!(status, 200, "{token}");
        token.as_str().unwrap().to_owned()
    }

    /// The token of the proxies of a workload.
    pub(crate) async fn token_of(&self, workload: &str) -> String {
        self.token(json!({"mesh": "default", "workload": workload, "validFor": "1h"})).await
    }

    /// The one value of a metric.
    pub(crate) async fn metric(&self, line: &str) -> u64 {
        let (status, text) = plain(self.running.addresses.diagnostics, "/metrics").await;
        assert_eq!(status, 200, "{text}");
        let found = text.lines().find_map(|found| found.strip_prefix(line)?.trim().parse().ok());
        found.unwrap_or_else(|| panic!("no metric {line}: {text}"))
    }
}

pub(crate) fn identity() -> Value {
    json!({
        "type": "MeshIdentity", "mesh": "default", "name": "identity",
        "spec": {
            "selector": {"dataplane": {"matchLabels": {}}},
            "provider": {"type": "Bundled", "bundled": {"insecureAllowSelfSigned": true, "autogenerate": {"enabled": true}}},
        },
    })
}

pub(crate) fn dataplane(name: &str, workload: &str, port: u16) -> Value {
    json!({
        "type": "Dataplane", "mesh": "default", "name": name, "labels": {"kuma.io/workload": workload},
        "networking": {"address": "127.0.0.1", "inbound": [{"port": port, "servicePort": port + 1000}]},
    })
}

/// Says how long connections to a service may take to open.
pub(crate) fn timeout(name: &str, service: &str, seconds: u32) -> Value {
    json!({
        "type": "MeshTimeout", "mesh": "default", "name": name,
        "spec": {"to": [{
            "targetRef": {"kind": "MeshService", "labels": {"kuma.io/display-name": service}},
            "default": {"connectionTimeout": format!("{seconds}s")},
        }]},
    })
}

/// Lets a workload of this zone call.
pub(crate) fn permission(name: &str, workload: &str) -> Value {
    let caller = format!("spiffe://default.azure.mesh.local/workload/{workload}");
    json!({
        "type": "MeshTrafficPermission", "mesh": "default", "name": name,
        "spec": {"rules": [{"default": {"allow": [{"spiffeID": {"type": "Exact", "value": caller}}]}}]},
    })
}

/// HTTPS that trusts only `ca`.
fn https(ca: &str) -> reqwest::Client {
    let config = tls::client_config(tls::roots_from_pem(ca).unwrap(), None, &[b"h2", b"http/1.1"]).unwrap();
    client(&config)
}

/// HTTPS that trusts only `ca` and shows a certificate.
pub(crate) fn https_as(ca: &str, chain: &str, key: &str) -> reqwest::Client {
    let identity = (tls::chain_from_pem(chain).unwrap(), tls::key_from_pem(key).unwrap());
    client(&tls::client_config(tls::roots_from_pem(ca).unwrap(), Some(identity), &[b"h2", b"http/1.1"]).unwrap())
}

fn client(config: &rustls::ClientConfig) -> reqwest::Client {
    reqwest::Client::builder().tls_backend_preconfigured(config.clone()).no_proxy().timeout(PATIENCE).build().unwrap()
}

/// A plain GET without any credential: status and text; 0 when nobody answers.
pub(crate) async fn plain(address: SocketAddr, path: &str) -> (u16, String) {
    tls::install_provider();
    let client = client(&tls::client_config(rustls::RootCertStore::empty(), None, &[]).unwrap());
    match client.get(format!("http://{address}{path}")).send().await {
        Ok(response) => (response.status().as_u16(), response.text().await.unwrap()),
        Err(error) => (0, error.to_string()),
    }
}

/// Waits until something is so.
pub(crate) async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !is_so().await {
        assert!(tokio::time::Instant::now() < deadline, "not so in time: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
