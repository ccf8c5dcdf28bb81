//! One real Envoy in the measured zone: the proof that what fake proxies take is accepted by a real one.

use std::{path::Path, time::Duration};

use anyhow::{Result, bail};
use http::Uri;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::{Value, json};

use crate::{process::Program, rig::Rig};

/// A sidecar with a real Envoy; ends with this value.
pub(crate) struct Canary {
    _runner: Program,
    admin: String,
}

impl Canary {
    /// Starts a sidecar in zone `zone` of the rig.
    pub(crate) async fn start(rig: &Rig, zone: usize, programs: &Path, envoy: &Path, token: &str) -> Result<Self> {
        let folder = rig.folder().join("canary");
        std::fs::create_dir_all(&folder)?;
        let document = json!({
            "type": "Dataplane", "mesh": "default", "name": "canary", "labels": { "kuma.io/workload": "fake" },
            "networking": { "address": "127.77.0.1", "inbound": [{ "port": 18080, "servicePort": 18081 }] },
        });
        std::fs::write(folder.join("dataplane.json"), document.to_string())?;
        std::fs::write(folder.join("token"), token)?;
        let admin = free_port()?;
        let zone = &rig.zones[zone];
        let args = [
            ("--cp-address", format!("https://{}", zone.dataplanes)),
            ("--ca-cert-file", zone.ca.display().to_string()),
            ("--dataplane-token-file", folder.join("token").display().to_string()),
            ("--dataplane-file", folder.join("dataplane.json").display().to_string()),
            ("--config-dir", folder.join("run").display().to_string()),
            ("--binary-path", envoy.display().to_string()),
            ("--dns-port", "0".to_owned()),
            ("--readiness-port", "0".to_owned()),
            ("--drain-time", "1s".to_owned()),
            ("--envoy-admin-port", admin.to_string()),
            ("--bind-outbounds", "127.78.0.0/16".to_owned()),
        ];
        let args: Vec<String> = std::iter::once("run".to_owned())
            .chain(args.iter().flat_map(|(flag, value)| [(*flag).to_owned(), value.clone()]))
            .collect();
        let runner = Program::start("canary", &programs.join("atoll-dp"), &args, rig.folder())?;
        Ok(Self { _runner: runner, admin: format!("127.0.0.1:{admin}") })
    }

    /// Waits until the watched cluster has this timeout; what Envoy rejected so far.
    pub(crate) async fn holds(&self, cluster: &str, timeout: Duration) -> Result<String> {
        let wanted = timeout.as_secs_f64();
        let mut last = String::new();
        for _ in 0..200 {
            match self.timeout_of(cluster).await {
                Ok(found) if found.trim_end_matches('s').parse() == Ok(wanted) => return self.rejected().await,
                Ok(found) => last = found,
                Err(error) => last = error.to_string(),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        bail!("the real Envoy never got {wanted} s for {cluster}; last: {last}")
    }

    async fn timeout_of(&self, cluster: &str) -> Result<String> {
        let dump: Value = serde_json::from_str(&self.get("/config_dump?resource=dynamic_active_clusters").await?)?;
        let clusters = dump["configs"].as_array().cloned().unwrap_or_default();
        let found = clusters.iter().find(|config| config["cluster"]["name"] == cluster);
        Ok(found.and_then(|config| config["cluster"]["connect_timeout"].as_str()).unwrap_or("no such cluster").to_owned())
    }

    async fn rejected(&self) -> Result<String> {
        let stats = self.get("/stats?filter=update_rejected").await?;
        let rejected: u64 = stats.lines().filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum();
        Ok(format!("holds it, {rejected} rejected"))
    }

    async fn get(&self, path: &str) -> Result<String> {
        let client: Client<HttpConnector, http_body_util::Empty<bytes::Bytes>> =
            Client::builder(TokioExecutor::new()).build_http();
        let uri: Uri = format!("http://{}{path}", self.admin).parse()?;
        let body = client.get(uri).await?.into_body();
        let bytes = http_body_util::BodyExt::collect(body).await?.to_bytes();
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

fn free_port() -> Result<u16> {
    Ok(atoll_runtime::testing::free_address()?.port())
}
