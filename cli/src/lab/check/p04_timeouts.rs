//! Point 4: a MeshTimeout of global is in azure's sidecar, and what runs is not cut by it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{
    scene::{CATALOG, PATIENCE, Scene, ms, until},
    stream::Stream,
};
use crate::lab::{
    documents::GATEWAY,
    layout::{GATEWAY_PORT, MESH},
    member::{AZURE, GCP},
};

/// Longer than any drain: what a change cuts would be cut by then.
const WATCH: Duration = Duration::from_secs(13);

pub(super) async fn check(scene: &Scene) -> Result<String> {
    let client = scene.outside(AZURE, CATALOG)?;
    let stream = Stream::open(&client, WATCH * 4).await?;
    let global = scene.global()?;
    let outcome = async {
        let outbound = timeout(
            "lab-check-to",
            json!({"to": [{"targetRef": {"kind": "Mesh"}, "default": {"connectionTimeout": "7s", "idleTimeout": "1234s"}}]}),
        );
        global.put(&path("lab-check-to"), &outbound).await?;
        let arrived =
            until("azure's sidecar has the timeout", PATIENCE, async || has(scene, "connect_timeout", "7s").await).await?;
        until("azure's outbound filter has the timeout", PATIENCE, async || filters_have(scene, AZURE, "1234s").await).await?;
        let inbound = timeout("lab-check-rules", json!({"rules": [{"default": {"idleTimeout": "4321s"}}]}));
        global.put(&path("lab-check-rules"), &inbound).await?;
        let at_gcp = until("gcp's sidecar has the timeout", PATIENCE, async || filters_have(scene, GCP, "4321s").await).await?;
        let before = stream.lines();
        tokio::time::sleep(WATCH).await;
        ensure!(stream.is_alive(), "the running stream was cut by a timeout's change");
        let after = stream.lines();
        ensure!(after > before, "the running stream stands still");
        Ok(format!(
            "connectionTimeout 7s in azure's sidecar {} after the PUT's answer, outbound idleTimeout there and inbound idleTimeout in gcp's after {}; a running stream \
             went on for {} s ({} lines)",
            ms(arrived),
            ms(at_gcp),
            WATCH.as_secs(),
            after
        ))
    };
    let outcome: Result<String> = outcome.await;
    global.delete(&path("lab-check-to")).await?;
    global.delete(&path("lab-check-rules")).await?;
    outcome
}

fn path(name: &str) -> String {
    format!("/meshes/{MESH}/meshtimeouts/{name}")
}

fn timeout(name: &str, spec: Value) -> Value {
    json!({"type": "MeshTimeout", "mesh": MESH, "name": name, "spec": spec})
}

/// Whether azure's sidecar has `value` in its cluster of gcp's gateway.
async fn has(scene: &Scene, field: &str, value: &str) -> bool {
    outbound_cluster(scene).await.is_ok_and(|cluster| cluster[field] == value)
}

async fn outbound_cluster(scene: &Scene) -> Result<Value> {
    let admin = scene.admin(&format!("{AZURE}-sidecar"))?;
    let dump = admin.json("/config_dump?resource=dynamic_active_clusters").await?;
    let name = format!("kri_msvc_{MESH}_{GCP}__{GATEWAY}_{GATEWAY_PORT}");
    let clusters = dump["configs"].as_array().context("no clusters")?;
    let found = clusters.iter().map(|config| &config["cluster"]).find(|cluster| cluster["name"] == name.as_str());
    found.cloned().with_context(|| format!("no cluster {name}"))
}

/// Whether a zone's sidecar has `value` in a filter that came by extension discovery.
async fn filters_have(scene: &Scene, zone: &str, value: &str) -> bool {
    let Ok(admin) = scene.admin(&format!("{zone}-sidecar")) else { return false };
    let dump = admin.get("/config_dump?resource=ecds_filters").await;
    dump.is_ok_and(|text| text.contains(&format!("\"{value}\"")))
}
