//! Point 12: `atoll check` finds the lab well, and an ingress that is frozen not.

use std::process::Stdio;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::scene::{CATALOG, PATIENCE, Scene, until, works};
use crate::lab::{
    bringup::{CONTEXT, envoy_of},
    layout::INGRESS_PORT,
    member::{AZURE, GCP},
};

pub(super) async fn check(scene: &Scene) -> Result<String> {
    let settled = until("`atoll check` finds all well", PATIENCE, async || is_well(scene).await).await;
    if settled.is_err() {
        bail!("`atoll check` does not find all well: {:?}", failed(&run(scene).await?));
    }
    let points = run(scene).await?;
    let ways = [line(scene, AZURE, GCP)?, line(scene, GCP, AZURE)?].map(|way| detail(&points, &way, "ok"));
    let [there, back] = ways;
    let (there, back) = (there?, back?);
    for zone in [AZURE, GCP] {
        detail(&points, &format!("zone {zone} names"), "ok")?;
    }
    let frozen = frozen(scene).await?;
    Ok(format!("{} points, none failed; azure → gcp {there}; gcp → azure {back}; frozen: {frozen}", points.len()))
}

/// With gcp's ingress frozen, the check names its address.
async fn frozen(scene: &Scene) -> Result<String> {
    let envoy = envoy_of(&scene.layout().dataplane(&format!("{GCP}-ingress"))).context("gcp's ingress has no Envoy")?;
    ensure!(envoy.signal(Signal::SIGSTOP), "Envoy of gcp's ingress is gone");
    let points = run(scene).await;
    ensure!(envoy.signal(Signal::SIGCONT), "Envoy of gcp's ingress is gone");
    let seen = detail(&points?, &line(scene, AZURE, GCP)?, "fail")?;
    let client = scene.outside(AZURE, CATALOG)?;
    until("the catalog answers again", PATIENCE, async || works(&client).await).await?;
    until("all is well again", PATIENCE, async || is_well(scene).await).await?;
    Ok(seen)
}

/// The title of the line for one way.
fn line(scene: &Scene, from: &str, to: &str) -> Result<String> {
    Ok(format!("zone {from} → {to} {}:{INGRESS_PORT}", scene.lab()?.zone(to)?.ingress()))
}

/// What `atoll check -o json` says.
async fn run(scene: &Scene) -> Result<Vec<Value>> {
    let output = tokio::process::Command::new(&scene.programs().atoll)
        .args(["check", "-o", "json", "--context", CONTEXT])
        .env("ATOLL_CONFIG", scene.contexts())
        .stdin(Stdio::null())
        .output()
        .await?;
    serde_json::from_slice(&output.stdout).with_context(|| String::from_utf8_lossy(&output.stderr).trim().to_owned())
}

async fn is_well(scene: &Scene) -> bool {
    run(scene).await.is_ok_and(|points| failed(&points).is_empty())
}

fn failed(points: &[Value]) -> Vec<&Value> {
    points.iter().filter(|point| point["verdict"] == "fail").collect()
}

/// The detail of a line that has the wanted verdict.
fn detail(points: &[Value], title: &str, verdict: &str) -> Result<String> {
    let point = points.iter().find(|point| point["check"] == title);
    let point = point.with_context(|| format!("no line {title:?} in {points:?}"))?;
    if point["verdict"] != verdict {
        bail!("{title}: {} ({}), expected {verdict}", point["verdict"], point["detail"]);
    }
    Ok(point["detail"].as_str().unwrap_or_default().to_owned())
}
