//! Point 5: global is killed while it takes writes; the zones live on, and nothing acknowledged is lost.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::scene::{PATIENCE, Scene, get, ms, until};
use crate::lab::{
    control::Request,
    documents::{permission_name, permission_path},
    layout::{BACKEND_PORT, GATEWAY_PORT, MESH, at},
    member::{AZURE, GCP, added},
    probe::Outside,
    rest::Plane,
};

/// The gateway that joins while global is away.
const SPARE: &str = "spare";
/// Writes are under way when global is killed.
const WRITING: Duration = Duration::from_millis(400);

pub(super) async fn check(scene: &Scene) -> Result<String> {
    let load = scene.load()?;
    let global = scene.global()?;
    let writer = Writer::start(global.clone());
    tokio::time::sleep(WRITING).await;
    scene.signal("global", Signal::SIGKILL).await?;
    let acknowledged = writer.end().await?;
    let alone = async {
        new_gateway(scene).await.context("a new gateway while global is away")?;
        scene.restart(GCP).await.context("gcp's plane restarts while global is away")?;
        let own = scene.zone(GCP)?.get(&permission_path(AZURE)).await?.context("gcp's plane lost a policy")?;
        ensure!(own["spec"]["rules"].is_array(), "gcp's copy of {} is {own}", permission_name(AZURE));
        Ok::<_, anyhow::Error>(())
    };
    let alone = alone.await;
    scene.restart("global").await?;
    let good = load.end().await?;
    alone?;
    ensure!(!acknowledged.is_empty(), "no write was acknowledged before the kill");
    for (name, value) in &acknowledged {
        let found = global.get(&path(name)).await?.with_context(|| format!("{name} was acknowledged and is gone"))?;
        ensure!(found["spec"]["to"][0]["default"]["idleTimeout"] == value.as_str(), "{name} was acknowledged and is {found}");
    }
    let (synced, took) = in_sync(&global).await?;
    remove(&global, acknowledged.iter().map(|(name, _)| name)).await?;
    Ok(format!(
        "{good} requests, 0 failed; meanwhile a gateway joined and gcp's plane restarted from its own copy; all {} acknowledged writes are \
         there; {synced}, {} after the restart",
        acknowledged.len(),
        ms(took)
    ))
}

/// Writes documents until global goes away.
struct Writer {
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<Vec<(String, String)>>,
}

impl Writer {
    fn start(global: Plane) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            let mut acknowledged = Vec::new();
            for n in 1_u32.. {
                let (name, value) = (format!("lab-check-ack-{n}"), format!("{n}s"));
                let go_on = !stopped.load(Ordering::Relaxed);
                if !go_on || global.put(&path(&name), &document(&name, &value)).await.is_err() {
                    break;
                }
                acknowledged.push((name, value));
            }
            acknowledged
        });
        Self { stop, task }
    }

    /// What was acknowledged.
    async fn end(self) -> Result<Vec<(String, String)>> {
        self.stop.store(true, Ordering::Relaxed);
        Ok(self.task.await?)
    }
}

fn path(name: &str) -> String {
    format!("/meshes/{MESH}/meshtimeouts/{name}")
}

/// A policy that selects nobody.
fn document(name: &str, value: &str) -> Value {
    json!({
        "type": "MeshTimeout", "mesh": MESH, "name": name,
        "spec": {
            "targetRef": {"kind": "Dataplane", "labels": {"kuma.io/workload": "nobody"}},
            "to": [{"targetRef": {"kind": "Mesh"}, "default": {"idleTimeout": value}}],
        },
    })
}

async fn remove<'a>(global: &Plane, names: impl Iterator<Item = &'a String>) -> Result<()> {
    for name in names {
        global.delete(&path(name)).await?;
    }
    // The write that was not acknowledged may be there all the same.
    for item in global.list(&format!("/meshes/{MESH}/meshtimeouts")).await? {
        if let Some(name) = item["name"].as_str().filter(|name| name.starts_with("lab-check-ack-")) {
            global.delete(&path(name)).await?;
        }
    }
    Ok(())
}

/// A gateway with its sidecar joins azure, with a token of the zone's own, and serves.
async fn new_gateway(scene: &Scene) -> Result<()> {
    let lab = scene.lab()?;
    let upstream = format!("http://{}", at(lab.zone(AZURE)?.backend(), BACKEND_PORT));
    scene.ask(Request::AddGateway { zone: AZURE.to_owned(), name: SPARE.to_owned(), upstream }).await?;
    let state = scene.lab()?.state();
    let known = state.gateways.iter().find(|known| known.name == SPARE).context("the gateway is not remembered")?;
    let address = at(added(scene.layout(), &state, known)?.sidecar(), GATEWAY_PORT);
    get(&Outside::new(&scene.layout().ca(), &format!("{SPARE}.acme.corp"), address)?).await?;
    Ok(())
}

/// Waits until global says that every zone is in sync, and gives what it says.
async fn in_sync(global: &Plane) -> Result<(String, Duration)> {
    let took = until("the zones are in sync", PATIENCE, async || sync_of(global).await.is_ok_and(|(all, _)| all)).await?;
    Ok((sync_of(global).await?.1, took))
}

async fn sync_of(global: &Plane) -> Result<(bool, String)> {
    let zones = global.list("/zones/_overview").await?;
    let syncs = zones.iter().map(|zone| {
        let sync = &zone["zoneInsight"]["sync"];
        let is_equal = sync["state"] == "InSync" && zone["zoneInsight"]["online"] == true;
        let text = format!("{} in sync at revision {}, digest equal", zone["name"].as_str().unwrap_or("?"), sync["revision"]);
        (is_equal, text)
    });
    let syncs: Vec<(bool, String)> = syncs.collect();
    let all = syncs.len() >= 2 && syncs.iter().all(|(is_equal, _)| *is_equal);
    Ok((all, syncs.into_iter().map(|(_, text)| text).collect::<Vec<_>>().join(", ")))
}
