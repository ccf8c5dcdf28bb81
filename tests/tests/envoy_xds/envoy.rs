//! Real Envoys.

use std::{
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command},
    time::Instant,
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::plane::{DEADLINE, Plane, TOKEN};

/// Seconds that a withdrawn filter chain's connections live on.
pub(crate) const DRAIN: u64 = 2;

pub(crate) struct Envoy {
    name: String,
    child: Child,
    admin: SocketAddr,
    folder: TempDir,
    http: reqwest::Client,
}

impl Envoy {
    /// Starts the proxy `name` of a plane.
    pub(crate) async fn start(name: &str, plane: &Plane) -> Self {
        atoll_runtime::tls::install_provider();
        let folder = tempfile::tempdir().expect("a folder");
        let config = folder.path().join("bootstrap.json");
        std::fs::write(&config, bootstrap(name, plane.address).to_string()).expect("a file");
        let log = std::fs::File::create(folder.path().join("log")).expect("a file");
        let said = std::fs::OpenOptions::new().create(true).append(true).open(folder.path().join("access")).expect("a file");
        let admin = folder.path().join("admin");
        let child = Command::new(binary())
            .arg("-c")
            .arg(&config)
            .args([
                "--concurrency",
                "1",
                "--disable-hot-restart",
                "-l",
                "warning",
                "--component-log-level",
                "config:info,upstream:info",
            ])
            .args(["--drain-time-s", &DRAIN.to_string()])
            .arg("--admin-address-path")
            .arg(&admin)
            .args(["--file-flush-interval-msec", "50"])
            .stdout(said)
            .stderr(log)
            .spawn()
            .expect("Envoy starts");
        let mut envoy = Self {
            name: name.to_owned(),
            child,
            admin: SocketAddr::from(([127, 0, 0, 1], 0)),
            folder,
            http: reqwest::Client::builder().no_proxy().build().expect("a client"),
        };
        let start = Instant::now();
        envoy.admin = loop {
            let written = std::fs::read_to_string(&admin).ok().and_then(|text| text.trim().parse().ok());
            if let Some(address) = written {
                break address;
            }
            assert!(envoy.child.try_wait().expect("a child").is_none(), "Envoy ended:\n{}", envoy.log());
            assert!(start.elapsed() < DEADLINE, "Envoy does not start:\n{}", envoy.log());
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        };
        envoy
    }

    pub(crate) async fn admin(&self, path: &str) -> Value {
        let answer = self.http.get(format!("http://{}{path}", self.admin)).send().await.expect("an answer");
        serde_json::from_str(&answer.text().await.expect("a text")).expect("JSON")
    }

    /// Names of the listeners that take connections.
    pub(crate) async fn listeners(&self) -> Vec<String> {
        let dump = self.admin("/config_dump?resource=dynamic_listeners").await;
        let active = dump["configs"].as_array().into_iter().flatten().filter(|entry| !entry["active_state"].is_null());
        let mut names: Vec<_> = active.filter_map(|entry| entry["name"].as_str().map(str::to_owned)).collect();
        names.sort();
        names
    }

    /// The text of one listener as it is in force.
    pub(crate) async fn listener(&self, name: &str) -> String {
        let dump = self.admin("/config_dump?resource=dynamic_listeners").await;
        let mut all = dump["configs"].as_array().into_iter().flatten();
        all.find(|entry| entry["name"] == name).map(|entry| entry["active_state"].to_string()).unwrap_or_default()
    }

    /// `address:port` of a cluster's hosts; none if there is no such cluster.
    pub(crate) async fn hosts(&self, cluster: &str) -> Option<Vec<String>> {
        let clusters = self.admin("/clusters?format=json").await;
        let found = clusters["cluster_statuses"].as_array()?.iter().find(|status| status["name"] == cluster)?;
        let host = |host: &Value| {
            let address = &host["address"]["socket_address"];
            format!("{}:{}", address["address"].as_str().unwrap_or_default(), address["port_value"])
        };
        Some(found["host_statuses"].as_array().into_iter().flatten().map(host).collect())
    }

    /// What it wrote of connections and requests.
    pub(crate) fn access_log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("access")).unwrap_or_default()
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- log of {}\n{}", self.name, self.log());
        }
    }
}

/// Envoy by `ENVOY`, in `PATH`, or where `make envoy` puts it.
fn binary() -> PathBuf {
    let cache = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../.cache");
    let in_path = std::env::var_os("PATH").into_iter().flat_map(|path| std::env::split_paths(&path).collect::<Vec<_>>());
    let named = std::env::var_os("ENVOY").map(PathBuf::from).into_iter();
    let cached = std::fs::read_dir(cache).into_iter().flatten().flatten().map(|entry| entry.path());
    named
        .chain(in_path.map(|folder| folder.join("envoy")))
        .chain(cached.flat_map(|path| [path.clone(), path.join("envoy")]))
        .find(|path| path.is_file() && path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("envoy")))
        .expect("an Envoy: set ENVOY, or run `make envoy`")
}

fn bootstrap(node: &str, plane: SocketAddr) -> Value {
    let socket = |address: SocketAddr| json!({"socket_address": {"address": address.ip(), "port_value": address.port()}});
    let ads = json!({"ads": {}, "resource_api_version": "V3"});
    json!({
        "node": {"id": node, "cluster": "test"},
        "admin": {"address": socket(SocketAddr::from(([127, 0, 0, 1], 0)))},
        "dynamic_resources": {
            "ads_config": {
                "api_type": "DELTA_GRPC",
                "transport_api_version": "V3",
                "grpc_services": [{
                    "envoy_grpc": {"cluster_name": "plane"},
                    "initial_metadata": [{"key": "authorization", "value": TOKEN}]
                }]
            },
            "cds_config": ads,
            "lds_config": ads
        },
        "static_resources": {"clusters": [{
            "name": "plane",
            "type": "STATIC",
            "connect_timeout": "1s",
            "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}}
            }},
            "load_assignment": {
                "cluster_name": "plane",
                "endpoints": [{"lb_endpoints": [{"endpoint": {"address": socket(plane)}}]}]
            }
        }]}
    })
}
